"""From a setting to everything its run needs, and to what is measured at its end.

What several runs share (scenes, the inpainter, the classifier on shuffled labels) lives in one folder and is made by
whichever run comes first; a run that is killed while it makes one leaves a checkpoint for the next.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.scene_resnet import scene_classifier, scene_resnet
from maskerlib.data.samples import Relabelled, Source, Subset, batches
from maskerlib.data.scenes.source import Scenes
from maskerlib.experiments.settings import Setting
from maskerlib.masker.config import GIVEN
from maskerlib.masker.trained import Trained
from maskerlib.masking.inpainting import Inpainter, InpainterConfig, train_inpainter
from maskerlib.masking.masks import masked_in, masked_out
from maskerlib.masking.terms import entropy
from maskerlib.metrics.evaluation import evaluate
from maskerlib.metrics.registry import METRICS
from maskerlib.running.files import atomic_path
from maskerlib.running.seeds import stream
from maskerlib.training.classifier import ClassifierConfig, train_classifier

__all__ = [
    "AREAS",
    "Shuffled",
    "drawn_classes",
    "few_of_each",
    "measure",
    "of_classes",
    "save_maps",
    "shared_classifier",
    "shared_infill",
    "sources",
    "variants",
    "views",
]

AREAS = (0.25, 0.5, 0.75)
"""The sizes that a size-conditioned masker is asked for when it is measured."""

_SHOWN = 8  # validation scenes whose masks are kept


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
    """What the masker is trained on, and what it is measured on."""
    scenes = functools.partial(Scenes, level=setting.level, cache=shared / "scenes")
    train: Source = scenes("train", count=setting.train_images)
    if setting.class_share < 1:
        train = of_classes(train, drawn_classes(len(train.class_names), setting.class_share, setting.seed))
    if setting.per_class is not None:
        train = few_of_each(train, setting.per_class, setting.seed)
    return train, scenes("val", count=setting.val_images)


def shared_classifier(setting: Setting, shared: Path, device: torch.device) -> Classifier:
    """The classifier that the run starts from."""
    if setting.classifier == "scenes":
        return scene_classifier(device)
    scenes = Shuffled(Scenes("train", count=setting.train_images, level=setting.level, cache=shared / "scenes"))
    folder = shared / f"shuffled-{setting.level}-{setting.train_images}"
    start = scene_resnet(scenes.class_names).to(device)
    return train_classifier(start, scenes, ClassifierConfig(), folder=folder, progress=False)


def shared_infill(setting: Setting, shared: Path, classifier: Classifier) -> Inpainter | None:
    """The inpainter, trained, where the setting asks for it; else None, as the setting's infill goes by its name."""
    if setting.config().infill != GIVEN:
        return None
    scenes = Scenes("train", count=setting.train_images, level=setting.level, cache=shared / "scenes")
    folder = shared / f"inpainter-{setting.level}-{setting.train_images}"
    steps = min(InpainterConfig().steps, max(1, InpainterConfig().steps * len(scenes) // Setting().train_images))
    config = InpainterConfig(steps=steps)  # in proportion, where the scenes are few
    return train_inpainter(scenes, classifier.mean, config, folder=folder, progress=False)


def variants(setting: Setting, trained: Trained, val: Source) -> dict[str, tuple[Callable[..., Tensor], Source]]:
    """What is measured of one masker: {name: (method, scenes)}.

    "all" is the masker on every scene. One that is told a size is asked for each of `AREAS` instead ("0.25", ...), and one that
    is told the class, for the true ("all") and for the predicted class ("predicted"). Where the masker has seen some classes
    only, "seen" and "unseen" are added.
    """
    if setting.condition == "size":
        return {f"{area:g}": (dataclasses.replace(trained, area=area), val) for area in AREAS}
    found: dict[str, tuple[Callable[..., Tensor], Source]] = {"all": (trained, val)}
    if setting.condition == "class":
        found["predicted"] = (lambda images, targets, classifier: trained(images), val)
    if setting.class_share < 1:
        seen = drawn_classes(len(val.class_names), setting.class_share, setting.seed)
        unseen = [label for label in range(len(val.class_names)) if label not in seen]
        found |= {name: (trained, of_classes(val, classes)) for name, classes in (("seen", seen), ("unseen", unseen))}
    return found


def measure(setting: Setting, trained: Trained, before: Classifier, val: Source) -> dict[str, dict[str, Any]]:
    """Every metric of `maskerlib.metrics.evaluation.evaluate` and of `views`, by variant.

    Masks are those of `trained`; SM asks `before`, the classifier that the run started from, so that runs can be compared.

    Returns {variant: {"metrics": {metric: value}, "by_class": {class name: {metric: mean over its scenes}}}}; the latter has the
    metrics that judge single images (`maskerlib.metrics.registry.Metric.by_class`), so that another run can be compared on the
    same classes.
    """
    kept = [name for name, metric in METRICS.items() if metric.direction and metric.by_class]
    measured = {}
    for name, (method, source) in variants(setting, trained, val).items():
        explained = {name: trained.classifier}
        table, rows = evaluate(
            {name: method}, source, before, explained=explained, precision=setting.precision, per_image=True
        )
        metrics = {metric: float(value) for metric, value in table.loc[name].items()}
        names = [source.class_names[label] for label in source.labels.tolist()]
        by_class = rows[kept].groupby(names, sort=False).mean()
        measured[name] = {
            "metrics": metrics | views(method, trained.classifier, before, source),
            "by_class": by_class.to_dict("index"),
        }
    return measured


def views(
    method: Callable[..., Tensor], after: Classifier, before: Classifier, source: Source, *, batch_size: int = 64
) -> dict[str, float]:
    """What two classifiers, before and after a run, make of clean, masked-in and masked-out images (mean colour as infill).

    Returns "accuracy before", "accuracy after", ... "in before", "out before" (shares that are right, in [0, 1]), and "entropy
    before", "entropy after" (of the masked-out prediction, in nats).
    """
    sums: dict[str, float] = {}
    for batch in batches(source, batch_size):
        batch = batch.to(before.mean.device)
        masks = method(batch.images, batch.labels, after)
        for moment, classifier in (("before", before), ("after", after)):
            shown = {
                "accuracy": batch.images,
                "in": masked_in(batch.images, masks, classifier.mean),
                "out": masked_out(batch.images, masks, classifier.mean),
            }
            with torch.no_grad():
                logits = {view: classifier(images) for view, images in shown.items()}
            for view, answers in logits.items():
                right = (answers.argmax(dim=1) == batch.labels).sum()
                sums[f"{view} {moment}"] = sums.get(f"{view} {moment}", 0.0) + float(right)
            sums[f"entropy {moment}"] = sums.get(f"entropy {moment}", 0.0) + float(entropy(logits["out"]).sum())
    return {name: total / len(source) for name, total in sums.items()}


def save_maps(path: Path, methods: Mapping[str, Callable[..., Tensor]], after: Classifier, val: Source) -> None:
    """A grey PNG: one row a method, the masks of the first eight validation scenes side by side, at half their size."""
    batch = val.batch(range(min(_SHOWN, len(val)))).to(after.mean.device)
    rows = [torch.cat(list(method(batch.images, batch.labels, after)[:, 0, ::2, ::2]), dim=1) for method in methods.values()]
    pixels = (255 * torch.cat(rows)).round().byte().cpu().numpy()
    with atomic_path(path) as partial:
        Image.fromarray(np.ascontiguousarray(pixels)).save(partial, optimize=True)
