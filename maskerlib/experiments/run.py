"""From a setting to everything its run needs, and to the method that it asks for.

What several runs share (scenes, the inpainter, the classifier on shuffled labels) lives in one folder and is made by
whichever run comes first; a run that is killed while it makes one leaves a checkpoint for the next.
"""

import dataclasses
import functools
import hashlib
from pathlib import Path

import torch

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.doors import Method
from maskerlib.classifiers.registry import classifier_named
from maskerlib.classifiers.scene_resnet import scene_resnet
from maskerlib.data.samples import Relabelled, Source, Subset
from maskerlib.data.scenes.source import DEFAULT_COUNTS, Scenes
from maskerlib.experiments.choices import APART, SCENES, SHUFFLED
from maskerlib.experiments.named import TRUTH
from maskerlib.experiments.real_data import real_sources
from maskerlib.experiments.settings import Setting
from maskerlib.masker.config import GIVEN, MaskerConfig
from maskerlib.masker.real_time import RealTimeConfig
from maskerlib.masker.real_time_training import train_real_time
from maskerlib.masker.training import train_masker
from maskerlib.masking.inpainting import Inpainter, InpainterConfig, train_inpainter
from maskerlib.methods.registry import method_named
from maskerlib.running.seeds import stream
from maskerlib.training.classifier import ClassifierConfig, train_classifier
from maskerlib.training.loop import source_identity

__all__ = [
    "Shuffled",
    "drawn_classes",
    "few_of_each",
    "image_size",
    "made_method",
    "of_classes",
    "own_layers",
    "shared_classifier",
    "shared_infill",
    "sources",
]

_STAGES = ("stem", "stage1", "stage2", "stage3", "stage4")  # layers 1 to 5
_INPAINTER_IMAGES = 4000  # from so many on the inpainter is trained in full


class Shuffled(Relabelled):
    """A source with the labels dealt out anew by `seed`: as many of each, but no longer those of the images."""

    def __init__(self, source: Source, seed: int = 0) -> None:
        order = torch.randperm(len(source), generator=stream(seed, "shuffle labels"))
        super().__init__(source, source.labels[order], source.class_names)


def few_of_each(source: Source, count: int, seed: int = 0) -> Subset:
    """`count` images of each class that the source has, drawn without repetition; a larger count keeps those of a smaller one.

    Raises ValueError for a class that has fewer.
    """
    order = torch.randperm(len(source), generator=stream(seed, "few of each"))
    chosen = []
    for label in source.labels.unique().tolist():
        members = order[source.labels[order] == label]
        if len(members) < count:
            name = source.class_names[label]
            raise ValueError(f"per_class={count}: class {name!r} has {len(members)} images; give fewer, or more train_images")
        chosen.append(members[:count])
    return Subset(source, torch.cat(chosen))


def drawn_classes(classes: int, share: float, seed: int = 0) -> list[int]:
    """`share` of the classes, at least one, drawn by `seed` and sorted; a larger share keeps those of a smaller one."""
    order = torch.randperm(classes, generator=stream(seed, "classes"))
    return sorted(order[: max(1, round(share * classes))].tolist())


def of_classes(source: Source, classes: list[int]) -> Subset:
    """The images of the classes given, in the order of `source`."""
    return Subset(source, torch.isin(source.labels, torch.tensor(classes)).nonzero()[:, 0])


def sources(setting: Setting, shared: Path) -> tuple[Source, Source]:
    """What the method is trained on, no image for one that is not trained, and what it is measured on."""
    if setting.data != SCENES:
        train, measured = real_sources(setting, image_size(setting))
        if setting.training() is None:
            return Subset(measured, []), measured
        return _chosen(train, setting), measured
    scenes = functools.partial(Scenes, level=setting.level, cache=shared / "scenes")
    first = DEFAULT_COUNTS["train"] if setting.measured_on == "train" else 0
    first += APART * setting.seed if setting.fresh_scenes else 0
    measured = scenes(setting.measured_on, count=setting.val_images, first=first)
    if setting.training() is None:
        return Subset(measured, []), measured
    return _chosen(scenes("train", count=setting.train_images), setting), measured


def _chosen(train: Source, setting: Setting) -> Source:
    """The classes and the images of each that the setting trains on."""
    if setting.class_share < 1:
        train = of_classes(train, drawn_classes(len(train.class_names), setting.class_share, setting.seed))
    if setting.per_class is not None:
        train = few_of_each(train, setting.per_class, setting.seed)
    return train


def image_size(setting: Setting) -> tuple[int, int]:
    """(height, width) of the images: what the setting says, else what its classifier was made for."""
    if setting.image_size is not None:
        return setting.image_size, setting.image_size
    return classifier_named(setting.classifier, weights=setting.weights).input_size


def shared_classifier(setting: Setting, shared: Path, device: torch.device) -> Classifier:
    """The classifier that the run starts from."""
    if setting.classifier != SHUFFLED:
        classifier = classifier_named(setting.classifier, weights=setting.weights)
        return classifier.to(device)
    scenes = Shuffled(Scenes("train", count=setting.train_images, level=setting.level, cache=shared / "scenes"))
    folder = shared / f"shuffled-{setting.level}-{setting.train_images}"
    start = scene_resnet(scenes.class_names).to(device)
    return train_classifier(start, scenes, ClassifierConfig(), folder=folder, progress=False)


def shared_infill(setting: Setting, shared: Path, classifier: Classifier) -> Inpainter | None:
    """The inpainter, trained, where the setting asks for it; else None, as the setting's infill goes by its name."""
    if setting.config().infill != GIVEN:
        return None
    images: Source
    if setting.data == SCENES:
        images = Scenes("train", count=setting.train_images, level=setting.level, cache=shared / "scenes")
        folder = shared / f"inpainter-{setting.level}-{setting.train_images}"
    else:
        images = real_sources(setting, image_size(setting))[0]
        folder = shared / f"inpainter-{hashlib.sha256(repr(source_identity(images)).encode()).hexdigest()[:12]}"
    usual = InpainterConfig().steps
    steps = min(usual, max(1, usual * len(images) // _INPAINTER_IMAGES))  # in proportion, where the images are few
    return train_inpainter(images, classifier.mean, InpainterConfig(steps=steps), folder=folder, progress=False)


def made_method(
    setting: Setting,
    classifier: Classifier,
    train: Source,
    *,
    infill: Inpainter | None = None,
    folder: Path | None = None,
) -> Method | None:
    """The method that the setting asks for, trained where it has to be; None for the truth.

    Args:
        classifier: what it explains, or, in CA, starts from.
        train: what it is trained on, see `sources`.
        infill: see `shared_infill`.
        folder: where a training lives; see `maskerlib.masker.training.train_masker`.
    """
    config = setting.training()
    if config is not None:
        config = dataclasses.replace(config, layers=own_layers(config.layers, classifier))
    if isinstance(config, MaskerConfig):
        return train_masker(classifier, train, config, infill=infill, folder=folder, progress=False)
    if isinstance(config, RealTimeConfig):
        return train_real_time(classifier, train, config, folder=folder, progress=False)
    if setting.method == TRUTH:
        return None
    options = dict(setting.options or {})
    if isinstance(layer := options.get("layer"), str):
        (options["layer"],) = own_layers((layer,), classifier) or (layer,)
    return method_named(setting.method, classifier, seed=setting.seed, **options)


def own_layers(layers: tuple[str, ...] | None, classifier: Classifier) -> tuple[str, ...] | None:
    """Layers of the scene classifier as those of another, so that the rows of a table mean the same for each.

    "stem" and "stage1" to "stage4" are layers 1 to 5 of the study; they stand for the first to the fifth layer that `classifier`
    reads, unless it has layers of these names itself. Other names are its own.

    Raises ValueError for a classifier that reads fewer.
    """
    if layers is None or set(_STAGES) <= set(classifier.layers):
        return layers
    found = []
    for name in layers:
        if name in _STAGES and _STAGES.index(name) >= len(classifier.layers):
            count = len(classifier.layers)
            raise ValueError(f"layer {_STAGES.index(name) + 1} ({name!r}): {classifier.name} reads {count} layers; name its own")
        found.append(classifier.layers[_STAGES.index(name)] if name in _STAGES else name)
    return tuple(found)
