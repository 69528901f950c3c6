"""The images of a run that are no scenes: a split to train on and one to measure on, of a source by name.

What a source calls its splits is said here once. Of one that has none, a folder, they are the folders "train" and "val" in it.
"""

from collections.abc import Mapping
from typing import Any

import torch

from maskerlib.data.registry import SOURCES, source_named
from maskerlib.data.samples import Source, Subset
from maskerlib.experiments.settings import Setting
from maskerlib.running.registry import check_options
from maskerlib.running.seeds import stream

__all__ = ["SPLITS", "real_sources"]

SPLITS: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "imagenet": ({"split": "train"}, {"split": "val"}),
    "imagenet-kaggle": ({"split": "train"}, {"split": "val"}),
    "wsol": ({"split": "train"}, {"split": "test"}),
    "cub": ({"split": "train"}, {"split": "test"}),
    "pets": ({"split": "trainval"}, {"split": "test"}),
    "voc": ({"split": "train"}, {"split": "val"}),
}
"""{source: options of its training split, options of that to measure on}, unless a setting says otherwise."""


def real_sources(setting: Setting, size: tuple[int, int]) -> tuple[Source, Source]:
    """What a method is trained on, and what it is measured on, in one order that depends on nothing but their number.

    Of each the first `train_images` and `val_images` of that order are taken. Where the setting measures on "train", these are
    images of the training split that nothing is trained on.

    Raises what the source raises, and ValueError where fewer images are there than are asked for.
    """
    train = _shuffled(_opened(setting, 0, size))
    trained = _first(train, setting.train_images, "train_images")
    if setting.measured_on == "train":
        rest = Subset(train, range(len(trained), len(train)))
        return trained, _first(rest, setting.val_images, "val_images, beside those to train on,")
    return trained, _first(_shuffled(_opened(setting, 1, size)), setting.val_images, "val_images")


def _opened(setting: Setting, which: int, size: tuple[int, int]) -> Source:
    """The source of the training images (0) or of those to measure on (1)."""
    given = dict((setting.train_options, setting.val_options)[which] or {})
    asked = f"{setting.data}:{setting.root}"
    if setting.data in SPLITS:
        given = {**SPLITS[setting.data][which], **given}
    elif "split" not in SOURCES.options(asked):
        asked += f"/{('train', 'val')[which]}"
    check_options(f"data={setting.data!r}", given, SOURCES.options(asked))
    return source_named(asked, size=size, **given)


def _shuffled(source: Source) -> Source:
    return Subset(source, torch.randperm(len(source), generator=stream(0, "images of a run")))


def _first(source: Source, count: int | None, name: str) -> Source:
    if count is None:
        return source
    if count > len(source):
        raise ValueError(f"{name}: {count} images are asked for and {len(source)} are there; give fewer, or None for all")
    return Subset(source, range(count))
