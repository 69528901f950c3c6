"""The images of a run that are no scenes: a split to train on and one to measure on, of a source by name."""

import torch

from maskerlib.data.registry import split_named
from maskerlib.data.samples import Source, Subset
from maskerlib.experiments.settings import Setting
from maskerlib.running.seeds import stream

__all__ = ["real_sources"]

def real_sources(setting: Setting, size: tuple[int, int]) -> tuple[Source, Source]:
    """What a method is trained on, and what it is measured on, in one order that depends on nothing but their number.

    Of each the first `train_images` and `val_images` of that order are taken. Where the setting measures on "train", these are
    images of the training split that nothing is trained on.

    Raises what the source raises, and ValueError where fewer images are there than are asked for.
    """
    train = _shuffled(_opened(setting, "train", size))
    trained = _first(train, setting.train_images, "train_images")
    if setting.measured_on == "train":
        rest = Subset(train, range(len(trained), len(train)))
        return trained, _first(rest, setting.val_images, "val_images, beside those to train on,")
    return trained, _first(_shuffled(_opened(setting, "val", size)), setting.val_images, "val_images")


def _opened(setting: Setting, split: str, size: tuple[int, int]) -> Source:
    given = setting.train_options if split == "train" else setting.val_options
    return split_named(f"{setting.data}:{setting.root}", split, size=size, **(given or {}))


def _shuffled(source: Source) -> Source:
    return Subset(source, torch.randperm(len(source), generator=stream(0, "images of a run")))


def _first(source: Source, count: int | None, name: str) -> Source:
    if count is None:
        return source
    if count > len(source):
        raise ValueError(f"{name}: {count} images are asked for and {len(source)} are there; give fewer, or None for all")
    return Subset(source, range(count))
