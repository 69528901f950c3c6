"""The objects of an XML file, as ImageNet and PASCAL VOC have them, whose boxes include the last pixel.

    <annotation>
      <size><width>500</width><height>375</height><depth>3</depth></size>
      <object>
        <name>n01440764</name><difficult>0</difficult>
        <bndbox><xmin>10</xmin><ymin>20</ymin><xmax>99</xmax><ymax>80</ymax></bndbox>
      </object>
    </annotation>
"""

import math
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from maskerlib.data.sets.record import Box

__all__ = ["XmlObject", "xml_objects"]


@dataclass(frozen=True)
class XmlObject:
    """One object: the name of its class, its half-open box, and whether the annotators call it difficult."""

    name: str
    box: Box
    difficult: bool


def xml_objects(path: Path, *, first: int) -> list[XmlObject]:
    """Every object of the file, in its order.

    first: the number of the first pixel of a line, 1 in PASCAL VOC, 0 in ImageNet. The last pixel is part of a box there, so that
        xmin 1 and xmax 1 of VOC are the box from 0 to 1.

    Raises FileNotFoundError for a missing file, ValueError for one that is no such XML, or a box that is none.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; check the root, or get the missing part of the data set")
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise ValueError(f"{path}: not XML ({error}); replace the file") from None
    found = []
    for number, one in enumerate(root.iter("object"), start=1):
        corners = [one.findtext(f"bndbox/{corner}") for corner in ("xmin", "ymin", "xmax", "ymax")]
        try:
            x0, y0, x1, y1 = (float(corner or "") for corner in corners)
        except ValueError:
            x0 = y0 = x1 = y1 = math.nan
        if not (x0 <= x1 and y0 <= y1):
            raise ValueError(f"{path}: object {number} has the box {corners}, expected xmin <= xmax and ymin <= ymax")
        box = (x0 - first, y0 - first, x1 - first + 1, y1 - first + 1)
        name = (one.findtext("name") or "").strip()
        found.append(XmlObject(name, box, (one.findtext("difficult") or "0").strip() == "1"))
    return found
