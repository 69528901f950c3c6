"""The images of an index as a source: fitted for a batch, cropped from their own pixels for a training."""

from pathlib import Path

import torch

from maskerlib.data.boxes import mask_box
from maskerlib.data.files.images import Enough, check_channels, held_in, read_stored
from maskerlib.data.files.source import FileSource
from maskerlib.data.indices import as_size
from maskerlib.data.samples import Sample
from maskerlib.data.sets.index import index_file, open_index
from maskerlib.data.sets.record import DataSet, Record
from maskerlib.running.checks import check_value, one_of

__all__ = ["INDEXES", "Changed", "Indexed"]

INDEXES = Path("runs/cache/indexes")
"""Where indexes are kept, unless told otherwise."""


class Changed(ValueError):
    """An image file that is not the one of which the list of images speaks."""


class Indexed(FileSource):
    """A split of a data set in its published layout; the functions of this room that are called like the data sets make it.

    size: pixels per side, or (height, width). Images are scaled to cover it and cropped at the centre, with boxes and masks.
    channels: 3 for RGB, 1 for grey, 4 for RGB and opacity.
    on_corrupt: "raise"; or "skip", and an image that cannot be read is replaced by the next one of the split that can.
    missing: "raise"; or "skip" to leave out what the data set lists and the folder does not hold.
    index: the folder in which the list of images is kept for the next start; None looks at every file anew.
    progress: show a bar while that list is made.

    Only names, classes and boxes are looked at at the start. An image that has masks and no box gets the box around its object.

    Attributes beside those of every `Source`: skipped_files, which images could not be read so far, in this process and in its
    loader workers; skipped, how many; records, what the files say of each image (`maskerlib.data.sets.index.Index`).

    Raises FileNotFoundError and ValueError as `maskerlib.data.sets.index.open_index` does; and when an image is read,
    ValueError for one that cannot be, that was changed after the list was made, or whose mask is of another size.
    """

    def __init__(
        self,
        data: DataSet,
        size: int | tuple[int, int] = 224,
        *,
        channels: int = 3,
        on_corrupt: str = "raise",
        missing: str = "raise",
        index: str | Path | None = INDEXES,
        progress: bool = False,
    ):
        for name, value in (("on_corrupt", on_corrupt), ("missing", missing)):
            check_value(name, value, one_of(("raise", "skip")))
        self.root = data.root
        self.size = as_size(size)
        self.channels = check_channels(channels)
        self.on_corrupt = on_corrupt
        self.records = open_index(data, index, missing=missing, progress=progress)
        self._file = None if index is None else index_file(data, index, missing)
        self.class_names = self.records.class_names
        self.labels = torch.from_numpy(self.records.labels).to(torch.int64)
        self._rule = data.rule
        self._unreadable = torch.zeros(len(self.records), dtype=torch.bool).share_memory_()  # loader workers mark theirs here

    def __len__(self) -> int:
        return len(self.records)

    def __repr__(self) -> str:
        return f"{len(self)} images of {len(self.class_names)} classes in {str(self.root)!r}"

    @property
    def skipped_files(self) -> tuple[Path, ...]:
        """The images that could not be read."""
        return tuple(self._path(self.records[number]) for number in self._unreadable.nonzero()[:, 0].tolist())

    @property
    def skipped(self) -> int:
        """How many images could not be read."""
        return int(self._unreadable.sum())

    def classes(self, index: int) -> tuple[int, ...]:
        """All classes that an image shows, as far as the data say; its label alone where they say one."""
        record = self.records[index]
        return record.labels or ((record.label,) if record.label >= 0 else ())

    def name(self, index: int) -> str:
        return str(self._path(self.records[index]))

    def _path(self, record: Record) -> Path:
        """Where an image is; of a part of an archive, behind the path of this."""
        return self.root / (record.path if record.part is None else record.name)

    def stored(self, index: int, enough: Enough | None = None) -> Sample:
        for further in range(len(self)):
            number = (index + further) % len(self)
            if self._unreadable[number]:
                continue
            try:
                return self._read(number, enough)
            except Changed:
                raise
            except (FileNotFoundError, ValueError):
                if self.on_corrupt == "raise":
                    raise
                self._unreadable[number] = True
        raise ValueError(f"{self.root}: none of the {len(self)} images can be read; check the first, {self.skipped_files[0]}")

    def _read(self, number: int, enough: Enough | None) -> Sample:
        record = self.records[number]
        path = self.root / record.path
        enough = None if record.masks else enough
        if record.part is None:
            image = read_stored(path, self.channels, enough)
            self._check_unchanged(path, number)
        else:
            if path.is_file():  # of an archive that was changed, anything may lie there
                self._check_unchanged(path, number)
            image = read_stored(held_in(path, record.part, self.name(number)), self.channels, enough)
        mask = ignore = None
        if record.masks:
            masks, ignores = (tuple(self.root / each for each in files) for files in (record.masks, record.ignores))
            mask, ignore = self._rule.read(masks, ignores, record.label, image.size)
        boxes = image.boxes(torch.tensor(record.boxes, dtype=torch.float32).reshape(-1, 4))
        if not len(boxes) and mask is not None:
            boxes = mask_box(mask)
        label = None if record.label < 0 else record.label
        return Sample(image.pixels, label, boxes, mask, record.name or record.path, ignore)

    def _check_unchanged(self, path: Path, number: int) -> None:
        file = path.stat()
        if (file.st_size, file.st_mtime_ns) != (self.records.sizes[number], self.records.changed[number]):
            mend = "open the data set again" if self._file is None else f"remove {self._file}, and it is made anew"
            raise Changed(f"{path}: the file was changed after the list of images was made; {mend}")
