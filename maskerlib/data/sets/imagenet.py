"""ImageNet (ILSVRC 2012): a folder a class, and boxes in XML files.

    root/train/n01440764/n01440764_10026.JPEG
    root/val/n01440764/ILSVRC2012_val_00000293.JPEG
    root/boxes/train/n01440764/n01440764_10026.xml      of a part of the images
    root/boxes/val/ILSVRC2012_val_00000293.xml          or in a folder a class

A class is numbered by the rank of its folder among those of the split; of folders that are called by numbers, as in ImageNetV2,
by its number: as text, "10" would come before "2". `maskerlib.data.sets.imagenet_names` says what the classes are called.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from maskerlib.data.entry import SourceEntry
from maskerlib.data.files.listing import list_folder
from maskerlib.data.sets.imagenet_names import LISTS, imagenet_names, numbered_names
from maskerlib.data.sets.indexed import Indexed
from maskerlib.data.sets.record import Box, DataSet, Record
from maskerlib.data.sets.xml_boxes import xml_objects
from maskerlib.running.registry import with_options_of

__all__ = ["ENTRY", "class_folders", "imagenet"]

@with_options_of(Indexed)
def imagenet(
    root: str | os.PathLike[str],
    size: int | tuple[int, int] = 224,
    *,
    split: str = "val",
    boxed: bool = False,
    **options: Any,
) -> Indexed:
    """A split of ImageNet in the layout above, as a source.

    An image's boxes are those of the objects of its own class; one that has no XML file has none.

    Args:
        root: the folder that holds the splits.
        size: pixels per side, or (height, width).
        split: the name of its folder: "train", "val", or that of another set in this layout.
        boxed: leave out images without boxes, as for choosing settings on training images.
        options: of `maskerlib.data.sets.indexed.Indexed`.

    Raises FileNotFoundError for a missing folder, ValueError for a split without classes or a damaged XML file, beside what
    `Indexed` raises.
    """
    base = Path(root)
    folders = class_folders(base / split)
    annotations = base / "boxes" / split
    boxes = [annotations, *list_folder(annotations).folders] if annotations.is_dir() else []
    tables = [base / name for name in LISTS if (base / name).is_file()]

    def read() -> tuple[list[str], Iterator[Record]]:
        wnids = [folder.name for folder in folders.values()]
        names = numbered_names(max(folders) + 1) if _numbered(wnids) else imagenet_names(base, wnids)
        return names, _records(base, folders, annotations, boxed)

    watched = (base / split, *folders.values(), *boxes, *tables)
    return Indexed(DataSet(base, read, watched, ("imagenet", split, str(boxed))), size, **options)


def class_folders(split: Path) -> dict[int, Path]:
    """{label: the folder of a class} of a split, in the order of the labels; see the module for how they are numbered."""
    if not split.is_dir():
        raise FileNotFoundError(f"{split}: no such folder; expected one folder a class in it")
    folders = list_folder(split).folders
    if not folders:
        raise ValueError(f"{split}: no folder in it, expected one a class, such as n01440764")
    if _numbered([folder.name for folder in folders]):
        return {int(folder.name): folder for folder in sorted(folders, key=lambda folder: int(folder.name))}
    return dict(enumerate(folders))


def _numbered(names: list[str]) -> bool:
    return all(name.isdecimal() for name in names)


def _records(root: Path, folders: Mapping[int, Path], annotations: Path, boxed: bool) -> Iterator[Record]:
    for label, folder in folders.items():
        for path in list_folder(folder).images:
            boxes = _own_boxes(annotations, folder.name, path.stem)
            if boxes or not boxed:
                yield Record(path.relative_to(root).as_posix(), label, boxes=boxes)


def _own_boxes(annotations: Path, wnid: str, stem: str) -> tuple[Box, ...]:
    """The boxes of an image's own class, in the XML file that lies in a folder a class, or beside all others."""
    for path in (annotations / wnid / f"{stem}.xml", annotations / f"{stem}.xml"):
        if path.is_file():
            return tuple(each.box for each in xml_objects(path, first=0) if each.name == wnid)
    return ()


def _example(folder: Path) -> Indexed:
    """Two classes with an image each; one of them has a box."""
    for wnid, stem in (("n01440764", "ILSVRC2012_val_00000293"), ("n01443537", "ILSVRC2012_val_00000236")):
        (folder / "val" / wnid).mkdir(parents=True)
        Image.new("RGB", (40, 32), "grey").save(folder / "val" / wnid / f"{stem}.JPEG")
    (folder / "boxes" / "val").mkdir(parents=True)
    corners = "<xmin>8</xmin><ymin>8</ymin><xmax>23</xmax><ymax>27</ymax>"
    one = f"<object><name>n01440764</name><bndbox>{corners}</bndbox></object>"
    xml = folder / "boxes" / "val" / "ILSVRC2012_val_00000293.xml"
    xml.write_text(f"<annotation>{one}</annotation>", encoding="utf-8")
    return imagenet(folder, 32, index=None)


_SPLITS = {"train": {"split": "train"}, "val": {"split": "val"}}
ENTRY = SourceEntry("imagenet:PATH", "ImageNet: a folder a class, boxes in XML files", imagenet, _example, _SPLITS)
