"""Other processes on the same files: which of them live, and how one has a folder to itself.

A file half written is left alone while its writer lives. A training locks its folder, so that a second one says so at once
in place of two that write over each other. The lock is the operating system's: it ends with its process, however that ends,
so that no lock is ever left over.
"""

import contextlib
import os
import platform
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

__all__ = ["alive", "host_mark", "sole_use"]

_LOCK = "in-use.lock"
_BEHIND = 1 << 30  # Windows locks bytes, which nobody can read then: far behind what says who has the lock


def host_mark() -> str:
    """Eight hex digits for this machine's name, to tell its process numbers from those of others on a shared disk."""
    return f"{zlib.crc32(platform.node().encode()):08x}"


def alive(pid: int) -> bool:
    """Whether a process of this number runs on this machine. One whose owner is somebody else counts."""
    if os.name == "nt":
        return _alive_on_windows(pid)
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _alive_on_windows(pid: int) -> bool:
    """os.kill would end the process there. ERROR_INVALID_PARAMETER (87) means that there is none of this number."""
    import ctypes

    kernel = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined]
    handle = kernel.OpenProcess(0x1000, False, pid)  # PROCESS_QUERY_LIMITED_INFORMATION
    if not handle:
        return bool(ctypes.get_last_error() != 87)  # type: ignore[attr-defined]
    code = ctypes.c_ulong()
    known = kernel.GetExitCodeProcess(handle, ctypes.byref(code))
    kernel.CloseHandle(handle)
    return not known or code.value == 259  # STILL_ACTIVE


@contextlib.contextmanager
def sole_use(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Within it, no other process gets past its own `sole_use` of `folder`, which has to exist.

    A disk that knows no locks, as some network disks, keeps nobody out. Threads of one process do not keep each other out.
    Raises ValueError naming the process that is there already.
    """
    path = Path(folder) / _LOCK
    handle = _locked(path)
    try:
        yield
    finally:
        if os.name == "nt":  # an open file cannot be removed there; elsewhere it must be, before another can lock it
            handle.close()
        with contextlib.suppress(OSError):
            path.unlink()
        handle.close()


def _locked(path: Path) -> IO[bytes]:
    while True:
        handle = open(path, "a+b")
        try:
            _lock(handle)
        except (BlockingIOError, PermissionError):
            handle.seek(0)
            who = handle.read(200).decode(errors="replace").strip() or "another process"
            handle.close()
            raise ValueError(
                f"{path.parent} is in use by {who}, which trains into it; wait until it ends, or give another folder"
            ) from None
        except OSError:
            return handle
        try:
            current = os.path.samestat(os.fstat(handle.fileno()), os.stat(path))
        except FileNotFoundError:
            current = False
        if current:
            with contextlib.suppress(OSError):  # on a full disk the lock holds all the same
                handle.truncate(0)
                handle.write(f"process {os.getpid()} on {platform.node()}".encode())
                handle.flush()
            return handle
        handle.close()  # its last owner removed it between the two lines that opened and locked it


def _lock(handle: IO[bytes]) -> None:
    if os.name == "nt":
        import msvcrt

        handle.seek(_BEHIND)
        msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        import fcntl

        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
