"""One image of a data set, as its files describe it; and all of them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from maskerlib.data.sets.mask_rule import MaskRule

__all__ = ["Box", "DataSet", "Record"]

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the upright image, half-open."""


@dataclass(frozen=True)
class Record:
    """What is known of one image. Paths are below the root of the data set, with `/`.

    path: of the image.
    label: its class, -1 where it is unknown.
    labels: all classes that it shows, where the data say more than one.
    boxes: of the object, none where they are unknown.
    masks: files whose union is the object.  ignores: files of what counts as neither.
    name: what the sample is called in messages; its path unless given.
    part: where in the file the image begins, and of how many bytes it is, where the file is an archive; name is then its path in
        the archive, behind that of the archive.
    """

    path: str
    label: int = -1
    labels: tuple[int, ...] = ()
    boxes: tuple[Box, ...] = ()
    masks: tuple[str, ...] = ()
    ignores: tuple[str, ...] = ()
    name: str = ""
    part: tuple[int, int] | None = None


@dataclass(frozen=True)
class DataSet:
    """One split of a data set.

    root: of all paths.
    read: reads the name of each label, and the records in their order; it is called where there is no index of them yet. The
        names may be complete only when all records have been taken.
    watched: the files and folders that say what the records are. When one of them changes, they are read again.
    identity: what else decides what the records are: the reader and its options.
    rule: what the values of mask files mean.
    """

    root: Path
    read: Callable[[], tuple[Sequence[str], Iterable[Record]]]
    watched: tuple[Path, ...]
    identity: tuple[str, ...]
    rule: MaskRule = MaskRule()
