"""Files that are either whole or absent: atomic writes, JSON, checkpoints, hashes.

Everything the library leaves on disk goes through `atomic_path`: the content is written under a temporary name in the
same folder and renamed when it is complete. A process killed at any moment therefore leaves the old file, the new file,
or none, never half of one.
"""

import contextlib
import hashlib
import json
import math
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "atomic_path",
    "hash_tensors",
    "load_checkpoint",
    "make_folder",
    "read_json",
    "remove_leftovers",
    "save_checkpoint",
    "write_json",
]

_MARK = ".partial-"


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is renamed to `path`, on an error it is removed.

    The parent folder is created. The temporary name keeps the suffix of `path`, because many writers choose the format
    by it.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = final.with_name(f"{final.stem}{_MARK}{os.getpid()}-{uuid.uuid4().hex[:8]}{final.suffix}")
    try:
        yield partial
        with contextlib.suppress(IsADirectoryError, PermissionError), open(partial, "rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(partial, final)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def make_folder(folder: str | os.PathLike[str]) -> Path:
    """Make `folder` and try to write in it, so that a run says at once what it would say at its first checkpoint.

    Raises ValueError when it cannot be made or written to.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial = folder / f"trial{_MARK}{os.getpid()}-{uuid.uuid4().hex[:8]}"
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise ValueError(f"folder {folder} cannot be written to ({error.strerror}); give another one") from None
    return folder


def remove_leftovers(folder: str | os.PathLike[str]) -> int:
    """Remove the temporary files that killed processes left in `folder` (not below it); return how many there were.

    Only call it on a folder that one process at a time writes to, such as the folder of a run.
    """
    leftovers = [path for path in Path(folder).glob(f"*{_MARK}*") if path.is_file()]
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)


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


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file. Raises FileNotFoundError, or ValueError naming the file when it is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}); delete it and run again") from None


def save_checkpoint(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Save tensors, numbers, strings and nested dicts and lists of them, atomically."""
    with atomic_path(path) as partial:
        torch.save(dict(content), partial)


def load_checkpoint(path: str | os.PathLike[str], *, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Load what `save_checkpoint` saved, with `weights_only=True`: a checkpoint can never run code.

    Raises FileNotFoundError, or ValueError naming the file when it is truncated, damaged or holds other objects.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; train one first or give another path")
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises many kinds here: pickle, zip, EOF, runtime
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"{path} is not a readable checkpoint ({reason[:120]}); delete it to start afresh, or copy it again"
        ) from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected a dict; give a maskerlib checkpoint")
    return content


def hash_tensors(tensors: Mapping[str, Tensor], *extra: str) -> str:
    """Hex SHA-256 of names, shapes, dtypes and bytes of `tensors` in the order of their names, and of `extra`."""
    digest = hashlib.sha256()
    for text in extra:
        digest.update(text.encode() + b"\0")
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode() + b"\0")
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()
