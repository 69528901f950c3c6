"""The lists of wsolevaluation (Choe et al., 2020): ILSVRC, CUB and OpenImages30k, each with a split for choosing settings.

    root/metadata/CUB/val/image_ids.txt         "001.Black_footed_Albatross/CUBV2_1.jpg", a path a line
    root/metadata/CUB/val/class_labels.txt      path,class from 0
    root/metadata/CUB/val/localization.txt      path,x0,y0,x1,y1, a line a box; x1 and y1 are inside
    root/metadata/OpenImages/val/localization.txt       path,mask,ignore, a line a mask; what to ignore stands in one line
    root/dataset/CUB/001.Black_footed_Albatross/CUBV2_1.jpg     images and masks, below the data set's folder

"train" has labels alone; on "val" settings are chosen, "test" is for results. An image counts when image_ids.txt lists it, so
that those of CUB and CUBV2 may lie in the same folders, and its class is what class_labels.txt says, however folders are sorted.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from maskerlib.data.entry import SourceEntry
from maskerlib.data.sets.imagenet_names import numbered_names
from maskerlib.data.sets.indexed import Indexed
from maskerlib.data.sets.mask_rule import MaskRule
from maskerlib.data.sets.record import Box, DataSet, Record
from maskerlib.data.sets.text import lines, number, whole_number
from maskerlib.running.checks import check_value, one_of
from maskerlib.running.registry import with_options_of

__all__ = ["DATA_SETS", "ENTRY", "wsol"]

DATA_SETS = ("ILSVRC", "CUB", "OpenImages")
"""What there are lists of."""

_LISTS = ("image_ids.txt", "class_labels.txt", "localization.txt")


@with_options_of(Indexed)
def wsol(
    root: str | os.PathLike[str],
    size: int | tuple[int, int] = 224,
    *,
    dataset: str = "CUB",
    split: str = "test",
    **options: Any,
) -> Indexed:
    """A split of wsolevaluation in the layout above, as a source.

    Args:
        root: the folder that holds metadata and dataset.
        size: pixels per side, or (height, width).
        dataset: one of `DATA_SETS`.
        split: "train", "val" or "test".
        options: of `maskerlib.data.sets.indexed.Indexed`.

    Classes go by the names of their folders in CUB and by those of ImageNet in ILSVRC, where they are known, else by their
    numbers.

    Raises FileNotFoundError for a missing list, ValueError, naming the line, for one that does not fit, beside what `Indexed`
    raises.
    """
    check_value("dataset", dataset, one_of(DATA_SETS))
    check_value("split", split, one_of(("train", "val", "test")))
    base, folder = Path(root), Path(root) / "metadata" / dataset / split
    for name in _LISTS[: 2 if split == "train" else 3]:
        if not (folder / name).is_file():
            expected = f"expected the metadata of wsolevaluation in {base / 'metadata'}"
            raise FileNotFoundError(f"{folder / name}: no such file; {expected}")
    watched = [folder / name for name in _LISTS if (folder / name).is_file()]

    def read() -> tuple[list[str], Iterator[Record]]:
        labels = {path: whole_number(text, where) for where, (path, text) in lines(folder / _LISTS[1], 2, ",")}
        return _names(base, dataset, labels), _records(folder, f"dataset/{dataset}", labels)

    return Indexed(DataSet(base, read, tuple(watched), ("wsol", dataset, split), MaskRule(resized=True)), size, **options)


def _names(base: Path, dataset: str, labels: dict[str, int]) -> list[str]:
    count = max(labels.values(), default=-1) + 1
    if dataset == "ILSVRC":
        return numbered_names(count)
    folders = {label: Path(path).parent.name for path, label in labels.items()}
    names = [folders.get(label, str(label)) for label in range(count)]
    return [name.partition(".")[2].replace("_", " ") or name for name in names] if dataset == "CUB" else names


def _records(folder: Path, images: str, labels: dict[str, int]) -> Iterator[Record]:
    boxes, masks, ignores = _truth(folder / _LISTS[2])
    for where, (path,) in lines(folder / _LISTS[0], 1, "\n"):
        if path not in labels:
            raise ValueError(f"{where}: {path!r} is not in {_LISTS[1]}; replace one of the files")
        files = [tuple(f"{images}/{each}" for each in dict.fromkeys(known.get(path, ()))) for known in (masks, ignores)]
        masked, open_ones = files
        yield Record(f"{images}/{path}", labels[path], (), tuple(boxes.get(path, ())), masked, open_ones, path)


def _truth(table: Path) -> tuple[dict[str, list[Box]], dict[str, list[str]], dict[str, list[str]]]:
    """The boxes, masks and files to ignore of each image; a line has five fields, or three."""
    boxes: dict[str, list[Box]] = {}
    masks: dict[str, list[str]] = {}
    ignores: dict[str, list[str]] = {}
    if not table.is_file():
        return boxes, masks, ignores
    for where, (path, *fields) in lines(table, None, ","):
        if len(fields) == 4:
            x0, y0, x1, y1 = (number(field, where) for field in fields)
            if not (x0 <= x1 and y0 <= y1):
                raise ValueError(f"{where}: the box {fields}, expected x0 <= x1 and y0 <= y1")
            boxes.setdefault(path, []).append((x0, y0, x1 + 1, y1 + 1))
        elif len(fields) == 2:
            masks.setdefault(path, []).append(fields[0])
            ignores.setdefault(path, []).extend(fields[1:] if fields[1] else [])
        else:
            raise ValueError(f"{where}: {1 + len(fields)} fields, expected path,x0,y0,x1,y1 or path,mask,ignore")
    return boxes, masks, ignores


def _example(folder: Path) -> Indexed:
    """Two images of OpenImages30k, one of which has two masks and a region to ignore."""
    lists, images = folder / "metadata" / "OpenImages" / "val", folder / "dataset" / "OpenImages"
    lists.mkdir(parents=True)
    regions = {
        "val/0bt_c3/a_m1": (8, 8, 24, 28),
        "val/0bt_c3/a_m2": (26, 8, 30, 28),
        "val/0bt_c3/a_ignore": (30, 0, 40, 32),
        "val/0by6g/b_m1": (0, 0, 9, 9),
    }
    for name, (x0, y0, x1, y1) in regions.items():
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        region = np.zeros((32, 40), np.uint8)
        region[y0:y1, x0:x1] = 255
        Image.fromarray(region).save(images / f"{name}.png")
    first, second = "val/0bt_c3/a", "val/0by6g/b"
    for name in (first, second):
        Image.new("RGB", (40, 32), "grey").save(images / f"{name}.jpg")
    (lists / "image_ids.txt").write_text(f"{first}.jpg\n{second}.jpg", encoding="utf-8")
    (lists / "class_labels.txt").write_text(f"{first}.jpg,0\n{second}.jpg,1", encoding="utf-8")
    rows = ((first, "m1", f"{first}_ignore.png"), (first, "m2", ""), (second, "m1", ""))
    truth = "\n".join(f"{image}.jpg,{image}_{mask}.png,{ignore}" for image, mask, ignore in rows)
    (lists / "localization.txt").write_text(truth, encoding="utf-8")
    return wsol(folder, 32, dataset="OpenImages", split="val", index=None)


_SPLITS = {"train": {"split": "train"}, "val": {"split": "test"}}
ENTRY = SourceEntry("wsol:PATH", "wsolevaluation's lists of ILSVRC, CUB and OpenImages30k", wsol, _example, _SPLITS)
