"""CUB-200-2011: 200 species of birds, each image with a box, and, where they were got as well, pixel masks.

    root/images.txt                 "1 001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg", a number and a path
    root/image_class_labels.txt     "1 1", the image's number and its class, from 1
    root/train_test_split.txt       "1 0", 1 for training
    root/bounding_boxes.txt         "1 60.0 27.0 325.0 304.0", left, top, width and height
    root/classes.txt                "1 001.Black_footed_Albatross"
    root/images/001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg
    root/segmentations/001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.png      optional

In a mask a pixel is the brighter the more annotators call it bird; what more than half of them do is object. An image counts when
images.txt lists it: the folders may hold those of CUBV2 as well.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from maskerlib.data.entry import SourceEntry
from maskerlib.data.sets.indexed import Indexed
from maskerlib.data.sets.record import DataSet, Record
from maskerlib.data.sets.text import lines, number, whole_number
from maskerlib.running.checks import check_value, one_of
from maskerlib.running.registry import with_options_of

__all__ = ["ENTRY", "cub"]

_TABLES = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "bounding_boxes.txt", "classes.txt")


@with_options_of(Indexed)
def cub(
    root: str | os.PathLike[str], size: int | tuple[int, int] = 224, *, split: str = "test", **options: Any
) -> Indexed:
    """CUB-200-2011 in the layout above, as a source.

    Args:
        root: the folder CUB_200_2011, or the one that holds it.
        size: pixels per side, or (height, width).
        split: "train" or "test".
        options: of `maskerlib.data.sets.indexed.Indexed`.

    Raises FileNotFoundError for a missing table, ValueError, naming the line, for one that does not fit, beside what `Indexed`
    raises.
    """
    check_value("split", split, one_of(("train", "test")))
    base = Path(root) / "CUB_200_2011" if (Path(root) / "CUB_200_2011").is_dir() else Path(root)
    for name in _TABLES:
        if not (base / name).is_file():
            raise FileNotFoundError(f"{base / name}: no such file; expected the tables of CUB-200-2011 in {base}")
    masks = base / "segmentations"

    def read() -> tuple[list[str], Iterator[Record]]:
        names = [name for _, (_, name) in lines(base / "classes.txt", 2)]
        return names, _records(base, split == "train", masks.is_dir())

    watched = tuple(base / name for name in _TABLES) + ((masks,) if masks.is_dir() else ())
    return Indexed(DataSet(base, read, watched, ("cub", split)), size, **options)


def _records(base: Path, train: bool, masked: bool) -> Iterator[Record]:
    labels, chosen, boxes = ({} for _ in range(3))
    for where, (key, text) in lines(base / "image_class_labels.txt", 2):
        labels[key] = whole_number(text, where, 1) - 1
    for where, (key, text) in lines(base / "train_test_split.txt", 2):
        chosen[key] = whole_number(text, where)
    for where, (key, *texts) in lines(base / "bounding_boxes.txt", 5):
        left, top, width, height = (number(text, where) for text in texts)
        boxes[key] = (left, top, left + width, top + height)
    for where, (key, path) in lines(base / "images.txt", 2):
        for table, known in (("image_class_labels.txt", labels), ("train_test_split.txt", chosen), ("bounding_boxes.txt", boxes)):
            if key not in known:
                raise ValueError(f"{where}: image {key} is not in {table}; replace one of the files")
        mask = f"segmentations/{Path(path).with_suffix('.png').as_posix()}"
        if chosen[key] == train:
            yield Record(f"images/{path}", labels[key], boxes=(boxes[key],), masks=(mask,) if masked else ())


def _example(folder: Path) -> Indexed:
    """Two species with an image each, both for testing, with boxes and masks."""
    names = ("001.Black_footed_Albatross", "002.Laysan_Albatross")
    for name in names:
        for kind, mode, end in (("images", "RGB", "jpg"), ("segmentations", "L", "png")):
            (folder / kind / name).mkdir(parents=True)
            image = Image.new(mode, (40, 32), "black")
            image.paste("white", (8, 8, 24, 28))
            image.save(folder / kind / name / f"a.{end}")
    tables = (
        [f"{{}} {name}/a.jpg" for name in names],
        ["1 1", "2 2"],
        ["1 0", "2 0"],
        ["1 8.0 8.0 16.0 20.0", "2 8.0 8.0 16.0 20.0"],
        [f"{{}} {name}" for name in names],
    )
    for table, rows in zip(_TABLES, tables, strict=True):
        text = "\n".join(row.format(number) for number, row in enumerate(rows, start=1))
        (folder / table).write_text(text, encoding="utf-8")
    return cub(folder, 32, index=None)


_SPLITS = {"train": {"split": "train"}, "val": {"split": "test"}}
ENTRY = SourceEntry("cub:PATH", "CUB-200-2011: birds with boxes, and masks if they are there", cub, _example, _SPLITS)
