"""ImageNet as Kaggle has it: classes and boxes in CSV files, all validation images in one folder.

    root/LOC_synset_mapping.txt                 "n01440764 tench, Tinca tinca", a line a class
    root/LOC_val_solution.csv                   ImageId,PredictionString; the latter "n01440764 2 80 500 330" once for each box
    root/LOC_train_solution.csv                 of a part of the images
    root/ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000293.JPEG
    root/ILSVRC/Data/CLS-LOC/train/n01440764/n01440764_10026.JPEG
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from maskerlib.data.entry import SourceEntry
from maskerlib.data.files.listing import list_folder
from maskerlib.data.sets.imagenet import class_folders
from maskerlib.data.sets.imagenet_names import LISTS, imagenet_names, listed_classes
from maskerlib.data.sets.indexed import Indexed
from maskerlib.data.sets.record import Box, DataSet, Record
from maskerlib.data.sets.text import lines
from maskerlib.running.checks import check_value, one_of
from maskerlib.running.registry import with_options_of

__all__ = ["ENTRY", "imagenet_kaggle"]

_NAMES = ("train", "val")
_IMAGES = Path("ILSVRC/Data/CLS-LOC")


@with_options_of(Indexed)
def imagenet_kaggle(
    root: str | os.PathLike[str],
    size: int | tuple[int, int] = 224,
    *,
    split: str = "val",
    boxed: bool = False,
    **options: Any,
) -> Indexed:
    """A split of ImageNet in the layout above, as a source; classes are numbered by the list of them.

    Args:
        root: the folder that holds the CSV files and ILSVRC.
        size: pixels per side, or (height, width).
        split: "train" or "val".
        boxed: leave out images without boxes, as for choosing settings on training images.
        options: of `maskerlib.data.sets.indexed.Indexed`.

    Raises FileNotFoundError for a missing file, ValueError for a class that is not in the list or a line that is none, beside
    what `Indexed` raises.
    """
    check_value("split", split, one_of(_NAMES))
    base = Path(root)
    table, images = base / f"LOC_{split}_solution.csv", base / _IMAGES / split
    for path in (base / LISTS[0], table, images):
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder; expected the layout of Kaggle's ImageNet in {base}")
    folders = list(class_folders(images).values()) if split == "train" else []

    def read() -> tuple[list[str], Iterator[Record]]:
        wnids = list(listed_classes(base))
        labels = {wnid: label for label, wnid in enumerate(wnids)}
        records = _train(base, folders, table, labels) if split == "train" else _val(table, labels)
        return imagenet_names(base, wnids), (record for record in records if record.boxes or not boxed)

    data = DataSet(base, read, (base / LISTS[0], table, images, *folders), ("imagenet-kaggle", split, str(boxed)))
    return Indexed(data, size, **options)


def _val(table: Path, labels: dict[str, int]) -> Iterator[Record]:
    for where, name, wnids, boxes in _solutions(table):
        if wnids[0] not in labels:
            raise ValueError(f"{where}: the class {wnids[0]!r} is not in {LISTS[0]}; replace one of the files")
        yield Record((_IMAGES / "val" / f"{name}.JPEG").as_posix(), labels[wnids[0]], boxes=boxes)


def _train(root: Path, folders: list[Path], table: Path, labels: dict[str, int]) -> Iterator[Record]:
    known = {name: boxes for _, name, _, boxes in _solutions(table)}
    for folder in folders:
        if folder.name not in labels:
            raise ValueError(f"{folder}: the class is not in {LISTS[0]}; remove the folder, or replace the file")
        for path in list_folder(folder).images:
            yield Record(path.relative_to(root).as_posix(), labels[folder.name], boxes=known.get(path.stem, ()))


def _solutions(table: Path) -> Iterator[tuple[str, str, list[str], tuple[Box, ...]]]:
    """Of each image: where it stands, its name, the class of each object, and the boxes of those of the first's class."""
    for where, (name, objects) in lines(table, 2, ","):
        if name == "ImageId":
            continue
        fields = objects.split()
        if not fields or len(fields) % 5:
            raise ValueError(f"{where}: {objects!r}, expected a class and four numbers for each box")
        wnids = fields[::5]
        try:
            corners = [tuple(map(float, fields[at + 1 : at + 5])) for at in range(0, len(fields), 5)]
        except ValueError:
            raise ValueError(f"{where}: {objects!r} has what is no number where a box should stand") from None
        own = [box for box, wnid in zip(corners, wnids, strict=True) if wnid == wnids[0]]
        yield where, name, wnids, tuple((x0, y0, x1 + 1, y1 + 1) for x0, y0, x1, y1 in own)  # the last pixel is inside


def _example(folder: Path) -> Indexed:
    """Two images of two classes, with a box each."""
    images = folder / _IMAGES / "val"
    images.mkdir(parents=True)
    for name in ("ILSVRC2012_val_00000001", "ILSVRC2012_val_00000002"):
        Image.new("RGB", (40, 32), "grey").save(images / f"{name}.JPEG")
    (folder / LISTS[0]).write_text("n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\n", encoding="utf-8")
    table = "ImageId,PredictionString\nILSVRC2012_val_00000001,n01443537 8 8 23 27 \nILSVRC2012_val_00000002,n01440764 0 0 39 31 "
    (folder / "LOC_val_solution.csv").write_text(table, encoding="utf-8")
    return imagenet_kaggle(folder, 32, index=None)


_SPLITS = {"train": {"split": "train"}, "val": {"split": "val"}}
ENTRY = SourceEntry("imagenet-kaggle:PATH", "ImageNet as Kaggle has it: boxes in CSV files", imagenet_kaggle, _example, _SPLITS)
