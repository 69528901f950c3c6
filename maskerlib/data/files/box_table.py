"""The table of boxes of a folder: boxes.csv, with one row for each box.

    file,x0,y0,x1,y1                or    filename,xmin,ymin,xmax,ymax
    cat/tabby 1.jpg,12,30,200,180

The first column is the path of an image below its folder of classes; `images/` may stand in front, and other case will do
where only one image can be meant. The four numbers are pixels of the upright image and half-open under either header: x1 or
xmax, y1 or ymax are the first column and row outside. (Numbers that count from 1 and include the last pixel, as in the files
of PASCAL VOC, become so by taking 1 from xmin and ymin.) Further columns are ignored.
"""

import csv
import io
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

import torch
from torch import Tensor

__all__ = ["BoxTable", "Extent", "read_boxes"]

_NAMES = ("file", "filename")
_CORNERS = (("x0", "y0", "x1", "y1"), ("xmin", "ymin", "xmax", "ymax"))
_HEADERS = "file,x0,y0,x1,y1 or filename,xmin,ymin,xmax,ymax"


@dataclass(frozen=True)
class Extent:
    """Height and width of an image in pixels, upright; stored_turned: whether its file stores it on its side."""

    height: int
    width: int
    stored_turned: bool = False


@dataclass(frozen=True)
class BoxTable:
    """boxes: those of each image that has any, (K, 4) float32. clipped: how many reached outside and were clipped."""

    boxes: dict[str, Tensor]
    clipped: int = 0


def read_boxes(path: Path, extents: Mapping[str, Extent], skipped: frozenset[str] = frozenset()) -> BoxTable:
    """The boxes of a table. extents: of every image by name; skipped: names of images whose rows are passed over.

    A box that reaches outside its image is clipped to it. ValueError, naming the file and the row, for a table that is no
    UTF-8 or lacks a column or has it twice, for a row of an image that is not there, with too many fields, or whose numbers
    are no box, are empty or lie outside the image, and for a table that holds shares of the image instead of pixels.
    """
    rows: defaultdict[str, list[list[float]]] = defaultdict(list)
    known = _Names([*extents, *skipped])
    numbers: list[float] = []
    clipped = 0
    for where, written, fields in _rows(path):
        name = known.find(written, where)
        if name in skipped:
            continue
        box = _box(fields, name, extents[name], where)
        inside = _clip(box, extents[name])
        clipped += inside != box
        numbers += box
        rows[name].append(inside)
    if numbers and max(numbers) <= 1 and any(number % 1 for number in numbers):
        raise ValueError(
            f"{path}: no number above 1, as in shares of the image; multiply by its width and height in pixels"
        )
    return BoxTable({name: torch.tensor(boxes, dtype=torch.float32) for name, boxes in rows.items()}, clipped)


def _rows(path: Path) -> Iterator[tuple[str, str, dict[str, str | None]]]:
    """For each row: where it stands, the file as it is written, and the four corners by the names of their columns."""
    try:
        reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""), skipinitialspace=True)
        columns = reader.fieldnames = [column.strip().lower() for column in reader.fieldnames or []]
        name, corners = _columns(path, columns)
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if any(field.strip() for field in row.get(None) or ()):
                raise ValueError(
                    f"{where}: {len(columns) + len(row[None])} fields where the first line has "
                    f"{len(columns)}; write 1.5 for one and a half, and put names with a comma in quotes"
                )
            yield where, row[name] or "", {corner: row[corner] for corner in corners}
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not UTF-8 text; save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise ValueError(f"{path}: no CSV ({error}); save it as CSV in UTF-8") from None


def _columns(path: Path, columns: list[str]) -> tuple[str, tuple[str, ...]]:
    """The column of the file and those of the corners; they are read whatever their case and the spaces around them."""
    count = Counter(columns)
    corners = max(_CORNERS, key=lambda corners: sum(corner in count for corner in corners))
    name = next((column for column in _NAMES if column in count), _NAMES[0])
    if absent := [column for column in (name, *corners) if column not in count]:
        raise ValueError(f"{path}: no column {', '.join(absent)}; expected the first line {_HEADERS}")
    read = [*_NAMES, *_CORNERS[0], *_CORNERS[1]]
    twice = [column for column in read if count[column] > 1]
    if twice or sum(count[column] for column in read) > 5:
        column = (
            twice[0] if twice else next(column for column in read if count[column] and column not in (name, *corners))
        )
        raise ValueError(f"{path}: column {column} says again what another says; remove one, expected {_HEADERS}")
    return name, corners


class _Names:
    """Finds the image that a row means."""

    def __init__(self, names: list[str]):
        self.names = dict.fromkeys(names)
        self.alike: defaultdict[str, list[str]] = defaultdict(list)
        for name in names:
            self.alike[name.casefold()].append(name)

    def find(self, written: str, where: str) -> str:
        """The name itself, or without images/ in front, or the only one that differs in case alone."""
        name = normalize("NFC", written.strip().replace("\\", "/")).removeprefix("./")
        head, _, rest = name.partition("/")
        spellings = (name, rest) if head.lower() == "images" else (name,)
        for spelling in spellings:
            if spelling in self.names:
                return spelling
        found = [one for spelling in spellings for one in self.alike.get(spelling.casefold(), ())]
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(f"{where}: {name!r} is none of {found} to the letter; write the one that is meant")
        example = next(iter(self.names), "cat/tabby 1.jpg")
        raise ValueError(f"{where}: no image {name!r}; expected a path below images, such as {example!r}")


def _box(fields: dict[str, str | None], name: str, extent: Extent, where: str) -> list[float]:
    """Four numbers that are a box and lie at least partly in the image."""
    try:
        box = [float(field or "") for field in fields.values()]
    except ValueError:
        box = [math.nan]
    if not all(map(math.isfinite, box)):
        raise ValueError(f"{where}: {list(fields.values())} is not a box; expected four numbers")
    height, width = extent.height, extent.width
    left, top, right, bottom = fields
    limits = f"0 <= {left} < {right} <= {width} and 0 <= {top} < {bottom} <= {height}, {right} and {bottom} exclusive"
    inside = _clip(box, extent)
    if not (inside[0] < inside[2] and inside[1] < inside[3]):
        raise ValueError(f"{where}: box {box} of {name} is empty or lies outside it; expected {limits}")
    if extent.stored_turned and inside != box and _clip(box, Extent(width, height)) == box:
        raise ValueError(
            f"{where}: box {box} of {name} fits the image as it is stored, on its side; turn it upright, expected {limits}"
        )
    return box


def _clip(box: list[float], extent: Extent) -> list[float]:
    limits = (extent.width, extent.height) * 2
    return [min(max(value, 0.0), float(limit)) for value, limit in zip(box, limits, strict=True)]
