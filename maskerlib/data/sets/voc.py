"""PASCAL VOC: 20 classes, several of which an image may show, with boxes, and masks for a part.

    root/VOCdevkit/VOC2012/JPEGImages/2007_000027.jpg
    root/VOCdevkit/VOC2012/Annotations/2007_000027.xml          boxes that count from 1 and include the last pixel
    root/VOCdevkit/VOC2012/ImageSets/Main/val.txt               names, one a line
    root/VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt       those that have masks
    root/VOCdevkit/VOC2012/SegmentationClass/2007_000027.png    0 background, 1 to 20 the classes, 255 nobody says

A sample is one class of one image, as the pointing game has it: an image that shows a cat and a sofa is two samples, with the
boxes of the one and of the other. `Indexed.classes` says what else an image shows.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from maskerlib.data.entry import SourceEntry
from maskerlib.data.sets.indexed import Indexed
from maskerlib.data.sets.mask_rule import MaskRule
from maskerlib.data.sets.record import Box, DataSet, Record
from maskerlib.data.sets.text import lines
from maskerlib.data.sets.xml_boxes import xml_objects
from maskerlib.running.checks import check_value, one_of
from maskerlib.running.registry import with_options_of

__all__ = ["CLASSES", "ENTRY", "voc"]

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
"""The 20 classes; a mask has 1 for the first."""


@with_options_of(Indexed)
def voc(
    root: str | os.PathLike[str],
    size: int | tuple[int, int] = 224,
    *,
    year: str = "2012",
    split: str = "val",
    masks: bool = False,
    single: bool = False,
    difficult: bool = False,
    **options: Any,
) -> Indexed:
    """PASCAL VOC in the layout above, as a source of (image, class).

    Args:
        root: the folder that holds VOCdevkit, or VOCdevkit itself, or VOC2012 and its like.
        size: pixels per side, or (height, width).
        year: "2007" to "2012".
        split: "train", "val" or "trainval"; of 2007 also "test".
        masks: the images that have masks, with these; else all, with boxes alone.
        single: only images that show one class, for classifiers that answer with one.
        difficult: count objects that the annotators call difficult as well.
        options: of `maskerlib.data.sets.indexed.Indexed`.

    Raises FileNotFoundError for a missing list, ValueError for a class that is none of the 20 or a damaged XML file, beside what
    `Indexed` raises.
    """
    check_value("split", split, one_of(("train", "val", "trainval", "test")))
    base = _base(Path(root), year)
    table = base / "ImageSets" / ("Segmentation" if masks else "Main") / f"{split}.txt"
    if not table.is_file():
        raise FileNotFoundError(f"{table}: no such file; expected PASCAL VOC {year} in {root}")

    def read() -> tuple[tuple[str, ...], Iterator[Record]]:
        return CLASSES, _records(base, table, masks, single, difficult)

    identity = ("voc", year, split, f"masks={masks}", f"single={single}", f"difficult={difficult}")
    data = DataSet(base, read, (table, base / "Annotations"), identity, MaskRule(first_class=1, ignore=(255,)))
    return Indexed(data, size, **options)


def _base(root: Path, year: str) -> Path:
    """The folder of the year, which has another place in 2011's archive."""
    name = f"VOC{year}"
    for base in (root / "VOCdevkit" / name, root / "TrainVal" / "VOCdevkit" / name, root / name):
        if base.is_dir():
            return base
    if (root / "ImageSets").is_dir():
        return root
    raise FileNotFoundError(f"{root / 'VOCdevkit' / name}: no such folder; expected PASCAL VOC {year} in {root}")


def _records(base: Path, table: Path, masks: bool, single: bool, difficult: bool) -> Iterator[Record]:
    for _, (name, *_) in lines(table, 1, least=True):
        xml = base / "Annotations" / f"{name}.xml"
        found: dict[int, list[Box]] = {}
        hard = set()
        for each in xml_objects(xml, first=1):
            if each.name not in CLASSES:
                raise ValueError(f"{xml}: the class {each.name!r} is none of PASCAL VOC's; replace the file")
            label = CLASSES.index(each.name)
            if each.difficult and not difficult:
                hard.add(label)
            else:
                found.setdefault(label, []).append(each.box)
        shown = tuple(sorted({*found, *hard}))
        if single and len(shown) != 1:
            continue
        mask = (f"SegmentationClass/{name}.png",) if masks else ()
        for label, boxes in sorted(found.items()):
            called = f"{name}, {CLASSES[label]}"
            yield Record(f"JPEGImages/{name}.jpg", label, shown, tuple(boxes), mask, name=called)


def _example(folder: Path) -> Indexed:
    """An image with a cat and a sofa."""
    base = folder / "VOCdevkit" / "VOC2012"
    for kind in ("JPEGImages", "Annotations", "ImageSets/Segmentation", "SegmentationClass"):
        (base / kind).mkdir(parents=True)
    mask = np.zeros((32, 40), np.uint8)
    mask[8:28, 8:24], mask[20:28, 26:38], mask[19, 26:38] = CLASSES.index("cat") + 1, CLASSES.index("sofa") + 1, 255
    palette = Image.fromarray(mask).convert("P")
    palette.putpalette([value for index in range(256) for value in (index, 255 - index, 0)])
    palette.save(base / "SegmentationClass" / "2007_000001.png")
    Image.new("RGB", (40, 32), "grey").save(base / "JPEGImages" / "2007_000001.jpg")
    objects = ""
    for name, corners in (("cat", (9, 9, 24, 28)), ("sofa", (27, 21, 38, 28))):
        ends = "".join(f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
        objects += f"<object><name>{name}</name><bndbox>{ends}</bndbox></object>"
    (base / "Annotations" / "2007_000001.xml").write_text(f"<annotation>{objects}</annotation>", encoding="utf-8")
    (base / "ImageSets" / "Segmentation" / "val.txt").write_text("2007_000001", encoding="utf-8")
    return voc(folder, 32, masks=True, index=None)


_SPLITS = {"train": {"split": "train"}, "val": {"split": "val"}}
ENTRY = SourceEntry("voc:PATH", "PASCAL VOC: one sample a class of an image, boxes and masks", voc, _example, _SPLITS)
