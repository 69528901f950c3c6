"""Oxford-IIIT Pet: 37 breeds of cats and dogs, each image with a trimap.

    root/images/Abyssinian_100.jpg
    root/annotations/trainval.txt, test.txt         "Abyssinian_100 1 1 1": name, class from 1, species, breed
    root/annotations/trimaps/Abyssinian_100.png     1 animal, 2 background, 3 a border that is neither

The boxes that come along are of heads, so the box of an image is that around its animal.
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
from maskerlib.data.sets.record import DataSet, Record
from maskerlib.data.sets.text import lines, whole_number
from maskerlib.running.checks import check_value, one_of
from maskerlib.running.registry import with_options_of

__all__ = ["ENTRY", "pets"]

_FOLDER = "oxford-iiit-pet"  # what torchvision calls it inside of its root


@with_options_of(Indexed)
def pets(
    root: str | os.PathLike[str], size: int | tuple[int, int] = 224, *, split: str = "test", **options: Any
) -> Indexed:
    """Oxford-IIIT Pet in the layout above, as a source; the border of a trimap counts neither way.

    Args:
        root: the folder that holds images and annotations, or the one of torchvision's download, which holds oxford-iiit-pet.
        size: pixels per side, or (height, width).
        split: "trainval" or "test".
        options: of `maskerlib.data.sets.indexed.Indexed`.

    Raises FileNotFoundError for a missing list, ValueError for a line that does not fit, beside what `Indexed` raises.
    """
    check_value("split", split, one_of(("trainval", "test")))
    base = Path(root) / _FOLDER if (Path(root) / _FOLDER).is_dir() else Path(root)
    table = base / "annotations" / f"{split}.txt"
    if not table.is_file():
        raise FileNotFoundError(f"{table}: no such file; expected Oxford-IIIT Pet in {root}")

    def read() -> tuple[list[str], Iterator[Record]]:
        breeds = {label: name.rpartition("_")[0].replace("_", " ") for name, label in _entries(table)}
        return [breeds.get(label, f"class {label + 1}") for label in range(max(breeds, default=0) + 1)], _records(table)

    rule = MaskRule(object=(1,), ignore=(3,))
    return Indexed(DataSet(base, read, (table,), ("pets", split), rule), size, **options)


def _entries(table: Path) -> Iterator[tuple[str, int]]:
    """(name, label) of each image."""
    for where, (name, label, _, _) in lines(table, 4):
        if not name.startswith("#"):
            yield name, whole_number(label, where, 1) - 1


def _records(table: Path) -> Iterator[Record]:
    for name, label in _entries(table):
        yield Record(f"images/{name}.jpg", label, masks=(f"annotations/trimaps/{name}.png",))


def _example(folder: Path) -> Indexed:
    """A cat and a dog, squares with a border around them."""
    for kind in ("images", "annotations/trimaps"):
        (folder / kind).mkdir(parents=True)
    trimap = np.full((32, 40), 2, np.uint8)
    trimap[8:28, 8:24] = 3
    trimap[9:27, 9:23] = 1
    for name in ("Abyssinian_1", "american_bulldog_1"):
        Image.new("RGB", (40, 32), "grey").save(folder / "images" / f"{name}.jpg")
        Image.fromarray(trimap).save(folder / "annotations" / "trimaps" / f"{name}.png")
    (folder / "annotations" / "test.txt").write_text("Abyssinian_1 1 1 1\namerican_bulldog_1 2 2 1", encoding="utf-8")
    return pets(folder, 32, index=None)


_SPLITS = {"train": {"split": "trainval"}, "val": {"split": "test"}}
ENTRY = SourceEntry("pets:PATH", "Oxford-IIIT Pet: cats and dogs with trimaps", pets, _example, _SPLITS)
