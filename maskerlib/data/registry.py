"""Data sources by name. A new one is a module with an `ENTRY`, and its line here.

It is then listed by `maskerlib explain --list`, and held to the contract of all sources by `tests/test_sources.py`.
"""

from typing import Any

from maskerlib.data.entry import SourceEntry
from maskerlib.data.samples import Source
from maskerlib.running.checks import check_value, one_of
from maskerlib.running.registry import Registry

__all__ = ["SOURCES", "source_named", "split_named"]

SOURCES = Registry(
    "source",
    SourceEntry,
    "maskerlib.data",
    [
        "scenes.source",
        "photos",
        "folder",
        "torchvision_source",
        "webdataset",
        "sets.imagenet",
        "sets.imagenet_kaggle",
        "sets.wsol",
        "sets.cub",
        "sets.pets",
        "sets.voc",
    ],
)
"""Every data source that can be asked for by name.

>>> SOURCES.find("folder:my_images")[1]
('my_images',)
"""


def source_named(name: str, *, size: int | tuple[int, int] | None = None, **options: Any) -> Source:
    """The data source called `name`, one of `SOURCES`: "scenes", "photos", "folder:my_images", "imagenet:PATH", ...

    Args:
        size: pixels per side, or (height, width), of every image; None means the source's own.
        options: of what makes it, such as `split="test", level="hard"` of "scenes", or `root="data"` of a data set of
            torchvision.

    Raises ValueError for an unknown name or option, with those that there are; else what the source itself raises, which is
    documented at `maskerlib.data.scenes.source.Scenes`, `maskerlib.data.photos.Photos`, `maskerlib.data.folder.Folder`,
    `maskerlib.data.torchvision_source.torchvision_source`, `maskerlib.data.webdataset.webdataset` and the readers of
    `maskerlib.data.sets`.
    """
    source: Source = SOURCES.made(name, options if size is None else {"size": size} | options)
    return source


def split_named(name: str, split: str, *, size: int | tuple[int, int] | None = None, **options: Any) -> Source:
    """The images of a source to train on, split "train", or to measure on, "val", whatever the source calls them.

    Of a source that has no splits, a folder, they are the folders "train" and "val" in it. `options` are those of
    `source_named`, and go before what the split says.

    Raises ValueError for another split, and as `source_named` does.
    """
    check_value("split", split, one_of(("train", "val")))
    entry, _ = SOURCES.find(name)
    if split in entry.splits:
        options = {**entry.splits[split], **options}
    elif "split" in SOURCES.options(name):
        options = {"split": split, **options}
    else:
        name += f"/{split}"
    return source_named(name, size=size, **options)
