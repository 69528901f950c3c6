"""Files that are either whole or absent: atomic writes, JSON, checkpoints, hashes.

Everything the library leaves on disk goes through `atomic_path`: the content is written under a temporary name in the
same folder and renamed when it is complete. A process killed at any moment therefore leaves the old file, the new file,
or none, never half of one. What cannot be written, on a full disk or to a path that is none, is one `CannotWrite`.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import shutil
import stat
import time
import uuid
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maskerlib.running.processes import alive, host_mark

__all__ = [
    "CannotWrite",
    "atomic_path",
    "hash_tensors",
    "is_there",
    "load_checkpoint",
    "make_folder",
    "read_json",
    "remove_leftovers",
    "save_checkpoint",
    "write_json",
]

_MARK = ".partial-"
_PARTIAL = re.compile(re.escape(_MARK) + r"(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{8}")
_DAY = 86_400  # seconds
_CHECKSUM = "maskerlib checksum"

_FULL = {getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EIO") if hasattr(errno, name)}
_MENDS = {
    errno.ENOSPC: "free some space, or give a path on another disk",
    errno.EISDIR: "give the name of a file",
    errno.ENOTDIR: "a part of the path is a file; give another path",
    errno.EEXIST: "a part of the path is a file; give another path",
    errno.ENAMETOOLONG: "give a shorter name",
}


class CannotWrite(OSError, ValueError):
    """A file or a folder that cannot be written: one line with the path, the reason, the bytes free there and the mend."""


def _cannot_write(path: Path, error: OSError | ValueError) -> CannotWrite:
    code, reason = getattr(error, "errno", None), getattr(error, "strerror", None) or error
    mend = _MENDS.get(code or 0, "give a path that can be written to")
    refusal = CannotWrite(f"{path} cannot be written to ({reason}); {mend}{_free(path)}")
    refusal.errno = code
    return refusal


def _free(path: Path) -> str:
    """How much room there is where `path` would be; nothing where that cannot be said."""
    for folder in path.absolute().parents:
        with contextlib.suppress(OSError, ValueError):
            return f" ({shutil.disk_usage(folder).free:,} bytes are free there)"
    return ""


def _partial(final: Path) -> Path:
    """A name beside `final` that says who writes it. Its stem is cut, so that a name that just fits still has room."""
    who = f"{host_mark()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    return final.with_name(f"{final.stem[:40]}{_MARK}{who}{final.suffix[:40]}")


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is renamed to `path`, on an error it is removed.

    The parent folder is created. The temporary name keeps the suffix of `path`, because many writers choose the format
    by it.

    Raises CannotWrite for a path that cannot be one (a folder, below a file, too long), where writing is not allowed, and on
    a full disk; before the block runs where that can be known.
    """
    final = Path(path)
    try:
        _refuse_other_kinds(final)
        final.parent.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # the latter for a name with a null byte
        raise _cannot_write(final, error) from None
    partial = _partial(final)
    try:
        yield partial
        with contextlib.suppress(IsADirectoryError, PermissionError), open(partial, "rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(partial, final)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and _is_about(error, partial, final):
            raise _cannot_write(final, error) from None
        raise


def _refuse_other_kinds(final: Path) -> None:
    """A rename would put a file in the place of a device; a folder it would not replace, but only say so at the end."""
    with contextlib.suppress(FileNotFoundError):
        mode = os.stat(final).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EISDIR, "Is a device or a pipe")


def _is_about(error: OSError, partial: Path, final: Path) -> bool:
    """Whether an error tells of the file that was to be written, and not of another that the block reads or writes."""
    if error.filename is None:
        return error.errno in _FULL
    return error.errno is not None and os.fspath(error.filename) in (os.fspath(partial), os.fspath(final))


def make_folder(folder: str | os.PathLike[str]) -> Path:
    """Make `folder` and try to write in it, so that a run says at once what it would say at its first checkpoint.

    Raises CannotWrite, a ValueError too, when it cannot be made or written to.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial = _partial(folder / "trial")
        try:
            trial.touch()
            trial.write_bytes(b"1")
        finally:
            with contextlib.suppress(OSError):
                trial.unlink(missing_ok=True)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or error
        raise CannotWrite(f"folder {folder} cannot be written to ({reason}); give another one{_free(folder / 'trial')}") from None
    return folder


def remove_leftovers(folder: str | os.PathLike[str]) -> int:
    """Remove the temporary files that killed processes left in `folder` (not below it); return how many there were.

    Those of processes that live are left alone. Whether one of another machine lives cannot be known: its files stay for a day.
    """
    count = 0
    for path in Path(folder).glob(f"*{_MARK}*"):
        with contextlib.suppress(FileNotFoundError, PermissionError):  # its writer ends it, or has it open (Windows)
            if path.is_file() and not _is_being_written(path):
                path.unlink()
                count += 1
    return count


def _is_being_written(path: Path) -> bool:
    writer = _PARTIAL.search(path.name)
    if writer is None:
        return False
    if writer["host"] != host_mark():
        return time.time() - path.stat().st_mtime < _DAY
    return alive(int(writer["pid"]))


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write `content` as indented JSON, atomically. NaN and infinity become null: they are not JSON."""
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(_plain(content), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bool | str | int | None):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if hasattr(value, "item"):  # a NumPy or torch scalar
        return _plain(value.item())
    return str(value)


def is_there(path: str | os.PathLike[str]) -> bool:
    """Whether there is a file or folder at `path`. Raises ValueError for a name that no file can have."""
    try:
        os.stat(path)
        return True
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{str(path)[:120]!r} cannot be looked up ({reason}); give another path") from None


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file. Raises FileNotFoundError, or ValueError naming the file when it is not JSON."""
    if not is_there(path):
        raise FileNotFoundError(f"no file {path}; copy it again, or make it anew")
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError, IsADirectoryError) as error:  # no UTF-8, thousands of digits, too deep, a folder
        raise ValueError(f"{path} is not valid JSON ({error}); delete it and run again") from None


def save_checkpoint(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Save tensors, numbers, strings and nested dicts and lists of them, atomically, with a checksum of all of it.

    Raises CannotWrite as `atomic_path` does.
    """
    record = {**content, _CHECKSUM: _checksum(content)}
    with atomic_path(path) as partial, open(partial, "wb") as handle:
        try:
            torch.save(record, handle)
        except RuntimeError as error:  # torch's own, on a full disk; what the disk said is behind it
            raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None


def load_checkpoint(path: str | os.PathLike[str], *, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Load what `save_checkpoint` saved, with `weights_only=True`: a checkpoint can never run code.

    Any other checkpoint of PyTorch is read as well; in place of the checksum, those of its zip file are compared.

    Raises FileNotFoundError, or ValueError naming the file when it is truncated, damaged or holds other objects.
    """
    if not is_there(path):
        raise FileNotFoundError(f"no checkpoint at {path}; train one first or give another path")
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder, expected a checkpoint; give the path of a file")
    mend = "delete it to start afresh, or copy it again"
    try:
        content = torch.load(path, map_location=device, weights_only=True)
        known = isinstance(content, dict) and _CHECKSUM in content
        intact = content.pop(_CHECKSUM) == _checksum(content) if known else _is_whole_zip(path)
    except Exception as error:  # torch raises many kinds here: pickle, zip, EOF, runtime
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"{path} is not a readable checkpoint ({reason[:120]}); {mend}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected a dict; give a maskerlib checkpoint")
    if not intact:
        raise ValueError(f"{path} is damaged: the hash of its tensors differs from the one saved with them; {mend}")
    return content


def _is_whole_zip(path: str | os.PathLike[str]) -> bool:
    """False for a zip file in which a checksum is wrong, which PyTorch does not look at; True for other kinds of file."""
    if not zipfile.is_zipfile(path):
        return True
    with zipfile.ZipFile(path) as archive:
        return archive.testzip() is None


def _checksum(value: Any, so_far: int = 0) -> int:
    """CRC-32 of a nested content: names, numbers and strings as text, tensors by shape, dtype and bytes.

    A single bit that flips is always found. It takes a quarter of the time of SHA-256 and, at 4 MB, an eighth of the saving's.
    """
    if isinstance(value, Tensor):
        so_far = zlib.crc32(f"{tuple(value.shape)} {value.dtype}".encode(), so_far)
        dense = value.layout is torch.strided and not value.is_quantized
        return zlib.crc32(_bytes(value), so_far) if dense and value.numel() else so_far
    if isinstance(value, Mapping):
        for key, item in value.items():
            so_far = _checksum(item, zlib.crc32(f"{key!r}:".encode(), so_far))
        return zlib.crc32(b"}", so_far)
    if isinstance(value, list | tuple):
        for item in value:
            so_far = _checksum(item, so_far)
        return zlib.crc32(b"]", so_far)
    plain = value is None or isinstance(value, bool | int | float | str | bytes)
    return zlib.crc32((repr(value) if plain else type(value).__name__).encode(), so_far)


def _bytes(tensor: Tensor) -> Any:
    """The values of a dense tensor in the order of its indices, as a NumPy array of bytes."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()


def hash_tensors(tensors: Mapping[str, Tensor], *extra: str) -> str:
    """Hex SHA-256 of names, shapes, dtypes and bytes of `tensors` in the order of their names, and of `extra`."""
    digest = hashlib.sha256()
    for text in extra:
        digest.update(text.encode() + b"\0")
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode() + b"\0")
        digest.update(_bytes(tensor) if tensor.numel() else b"")
    return digest.hexdigest()
