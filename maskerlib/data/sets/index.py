"""All records of a split in a few arrays, built once and kept in a file.

ImageNet has 1.28 million images: to look at each of its files takes minutes, and an object for each much memory. The arrays are
small and read in a moment. What is kept counts only while it fits: what decides which records there are (files of annotations,
folders of images) is remembered with its size and time of change. So are the size and time of every image, which are compared
when it is read.
"""

import dataclasses
import hashlib
import json
import os
import zipfile
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from maskerlib.data.sets.record import DataSet, Record
from maskerlib.running.files import atomic_path

__all__ = ["Index", "index_file", "open_index"]

_FORMAT = 2  # of the file; it goes up when its arrays change


@dataclass(frozen=True, eq=False)
class Index:
    """N records as arrays.

    class_names: the name of each label.
    labels: (N,) int32, -1 where unknown.
    sizes, changed: (N,) int64, bytes of each image file and when it was changed last, in nanoseconds.
    boxes: (M, 4) float32, of all records one after another; those of record i end at box_ends[i].
    others, other_ends: (L,) int32, all classes of the records that have several, likewise.
    parts: (N, 2) int64, where in its file each image begins, and its bytes; (0, 2) where each file is an image.
    text_ends, text: the paths, masks, ignores and names of all records in UTF-8; four of each record, in that order.
    """

    class_names: tuple[str, ...]
    labels: np.ndarray
    sizes: np.ndarray
    changed: np.ndarray
    boxes: np.ndarray
    box_ends: np.ndarray
    others: np.ndarray
    other_ends: np.ndarray
    parts: np.ndarray
    text_ends: np.ndarray
    text: bytes

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, number: int) -> Record:
        ends = self.text_ends[4 * number : 4 * number + 4].tolist()
        begins = [int(self.text_ends[4 * number - 1]) if number else 0, *ends]
        path, masks, ignores, name = (self.text[begin:end].decode() for begin, end in zip(begins, ends, strict=False))
        return Record(
            path,
            int(self.labels[number]),
            tuple(self.others[_part(self.other_ends, number)].tolist()),
            tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in self.boxes[_part(self.box_ends, number)].tolist()),
            tuple(masks.split("\n")) if masks else (),
            tuple(ignores.split("\n")) if ignores else (),
            name,
            (int(self.parts[number, 0]), int(self.parts[number, 1])) if len(self.parts) else None,
        )

    @classmethod
    def of(cls, data: DataSet, *, missing: str = "raise", progress: bool = False) -> "Index":
        """The index of a data set, which is read for it.

        missing: "raise", or "skip" to leave out records without their image file.

        Raises FileNotFoundError, with the first of them and their number, for image files that are not there; ValueError for no
        record at all, one whose label has no name, or when only some of the images are parts of a file.
        """
        names, records = data.read()
        root = data.root
        labels, stats, boxes, others, text = array("i"), array("q"), array("f"), array("i"), bytearray()
        box_ends, other_ends, text_ends, parts = array("q"), array("q"), array("q"), array("q")
        absent: list[str] = []
        for record in tqdm(records, desc="indexing images", leave=False, disable=not progress):
            try:
                file = os.stat(root / record.path)
            except (FileNotFoundError, NotADirectoryError):
                absent.append(record.path)
                continue
            labels.append(record.label)
            stats.extend((file.st_size, file.st_mtime_ns))
            for box in record.boxes:
                boxes.extend(box)
            box_ends.append(len(boxes) // 4)
            others.extend(record.labels)
            other_ends.append(len(others))
            parts.extend(record.part or ())
            for field in (record.path, "\n".join(record.masks), "\n".join(record.ignores), record.name):
                text += field.encode()
                text_ends.append(len(text))
        if absent and missing == "raise":
            of = f"{len(absent)} of {len(labels) + len(absent)} images"
            mend = 'get them, or leave them out with missing="skip"'
            raise FileNotFoundError(f"{root / absent[0]}: no such file, and so it is for {of}; {mend}")
        if not labels:
            raise ValueError(f"{root}: no image of this split; check the root and the options")
        if max(labels) >= len(names):
            raise ValueError(f"{root}: an image of class {max(labels)}, though only {len(names)} classes have a name")
        if len(parts) not in (0, 2 * len(labels)):
            raise ValueError(f"{root}: {len(parts) // 2} of {len(labels)} images are parts of a file, expected all or none")
        files = np.array(stats, np.int64).reshape(-1, 2)
        return cls(
            tuple(names),
            np.array(labels, np.int32),
            files[:, 0].copy(),
            files[:, 1].copy(),
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(box_ends, np.int64),
            np.array(others, np.int32),
            np.array(other_ends, np.int64),
            np.array(parts, np.int64).reshape(-1, 2),
            np.array(text_ends, np.int64),
            bytes(text),
        )


_ARRAYS = tuple(field.name for field in dataclasses.fields(Index) if field.name not in ("class_names", "text"))


def _part(ends: np.ndarray, number: int) -> slice:
    return slice(int(ends[number - 1]) if number else 0, int(ends[number]))


def index_file(data: DataSet, folder: str | Path, missing: str = "raise") -> Path:
    """Where the index of a data set is kept in `folder`."""
    called = hashlib.sha256(json.dumps([*data.identity, missing, str(data.root.resolve())]).encode()).hexdigest()[:12]
    return Path(folder) / f"{data.identity[0]}-{called}.npz"


def open_index(
    data: DataSet, folder: str | Path | None, *, missing: str = "raise", progress: bool = False
) -> Index:
    """The index of a data set: read from `folder` where it was kept and still fits, else built, and kept there.

    folder: where indexes are kept, each in a file of its own; None keeps none.  missing, progress: as for `Index.of`.

    A file that is damaged or does not fit any more is written anew. Raises what `Index.of` and the reader raise.
    """
    if folder is None:
        return Index.of(data, missing=missing, progress=progress)
    path = index_file(data, folder, missing)
    state = json.dumps([_FORMAT, missing, *data.identity, str(data.root.resolve()), _state(data.watched)])
    if (kept := _kept(path, state)) is not None:
        return kept
    index = Index.of(data, missing=missing, progress=progress)
    with atomic_path(path) as partial:
        texts = {"state": state.encode(), "class_names": json.dumps(index.class_names).encode(), "text": index.text}
        arrays = {name: np.frombuffer(text, np.uint8) for name, text in texts.items()}
        arrays |= {name: getattr(index, name) for name in _ARRAYS}
        with partial.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # its stubs take the arrays for its options
    return index


def _state(watched: Sequence[Path]) -> list[tuple[str, int, int]]:
    """Size and time of change of each; of a folder, which changes when a file comes or goes, the time alone."""
    found = []
    for path in watched:
        file = path.stat()
        found.append((str(path), 0 if path.is_dir() else file.st_size, file.st_mtime_ns))
    return found


def _kept(path: Path, state: str) -> Index | None:
    """The index in the file, None where there is none that is whole and of this state."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            if bytes(arrays["state"]).decode() != state:
                return None
            names = json.loads(bytes(arrays["class_names"]).decode())
            kept = {name: arrays[name] for name in _ARRAYS}
            return Index(tuple(names), text=arrays["text"].tobytes(), **kept)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return None
