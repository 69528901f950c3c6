"""What is measured at the end of a run: the maps of its method, drawn once, and everything that is asked about them."""

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from maskerlib.classifiers.classifier import Classifier, frozen
from maskerlib.classifiers.doors import Method
from maskerlib.data.samples import Batch, Source, Subset, batches
from maskerlib.data.scenes.source import Scenes
from maskerlib.experiments.choices import COST
from maskerlib.experiments.named import cost_of
from maskerlib.experiments.run import drawn_classes, of_classes
from maskerlib.experiments.settings import Setting
from maskerlib.masker.trained import Trained
from maskerlib.masking.masks import masked_in, masked_out
from maskerlib.masking.oracle import OracleInfill
from maskerlib.masking.terms import entropy
from maskerlib.methods.asking import ask, explained_by, known_labels
from maskerlib.metrics.entry import Metric
from maskerlib.metrics.evaluation import evaluate
from maskerlib.metrics.registry import METRICS, ON_REQUEST
from maskerlib.metrics.removal import deletion, insertion, symmetric_relevance_gain
from maskerlib.metrics.truth import truth_map
from maskerlib.running.files import atomic_path

__all__ = ["AREAS", "Drawn", "draw", "measure", "save_maps", "variants", "views"]

AREAS = (0.25, 0.5, 0.75)
"""The sizes that a size-conditioned masker is asked for when it is measured."""

_SHOWN = 8  # scenes whose masks are kept
_BATCH, _SLOW_BATCH = 64, 16  # scenes at once: of a trained masker, and of a method that may take a minute for each
_Maps = Callable[[Batch, Tensor], Tensor]  # (a batch, its classes) -> their maps
_REMOVAL = {"insertion": insertion, "deletion": deletion, "SRG": symmetric_relevance_gain}


@dataclass(frozen=True)
class Drawn:
    """The maps of one variant.

    maps: (N, 1, H, W) float32 in [0, 1], on the CPU, one an image of `source`.
    classifier: the one that they explain.
    milliseconds: of work for an image, the median over batches.
    """

    maps: Tensor
    source: Source
    classifier: Classifier
    milliseconds: float


def variants(setting: Setting, method: Method, val: Source) -> dict[str, tuple[Method, Source]]:
    """What is measured of one method: {name: (method, scenes)}.

    "all" is the method on every scene. A masker that is told a size is asked for each of `AREAS` instead ("0.25", ...), and one
    that is told the class, for the true ("all") and for the predicted class ("predicted"). Where a masker has seen some classes
    only, "seen" and "unseen" are added.
    """
    if not isinstance(method, Trained):
        return {"all": (method, val)}
    if setting.condition == "size":
        return {f"{area:g}": (dataclasses.replace(method, area=area), val) for area in AREAS}
    found: dict[str, tuple[Method, Source]] = {"all": (method, val)}
    if setting.condition == "class":
        found["predicted"] = (lambda images, targets, classifier: method(images), val)
    if setting.class_share < 1:
        seen = drawn_classes(len(val.class_names), setting.class_share, setting.seed)
        unseen = [label for label in range(len(val.class_names)) if label not in seen]
        found |= {name: (method, of_classes(val, classes)) for name, classes in (("seen", seen), ("unseen", unseen))}
    return found


def draw(setting: Setting, method: Method | None, before: Classifier, val: Source) -> dict[str, Drawn]:
    """The maps of every variant, {name: `Drawn`}, of the true classes; a method that is None is the truth.

    before: the classifier that the run started from. What a method explains is the one that it carries, else this.

    Where the cost is asked for, a single thread draws.
    """
    with _one_thread() if COST in (setting.also or ()) else contextlib.nullcontext():
        if method is None:
            return {"all": _drawn(lambda batch, labels: truth_map(batch.masks, batch.boxes, val.size), val, before)}
        explained = explained_by(method, before)
        batch_size = _BATCH if isinstance(method, Trained) else _SLOW_BATCH

        def asked(variant: Method) -> _Maps:
            return lambda batch, labels: ask("method", variant, batch.images, labels, explained, setting.precision)

        return {
            name: _drawn(asked(variant), source, explained, batch_size)
            for name, (variant, source) in variants(setting, method, val).items()
        }


def _drawn(maps: _Maps, source: Source, classifier: Classifier, batch_size: int = _BATCH) -> Drawn:
    labels, _ = known_labels(source, classifier)
    found: list[Tensor] = []
    milliseconds = []
    with frozen(classifier):
        for batch, classes in zip(batches(source, batch_size), labels.split(batch_size), strict=True):
            batch = batch.to(classifier.mean.device)
            # A processor's time leaves out what else a busy machine does; a GPU's work is seen on the wall clock alone.
            clock = time.process_time if batch.images.device.type == "cpu" else time.perf_counter
            begun = clock()
            found.append(maps(batch, classes.to(batch.images.device)).cpu())
            milliseconds.append(1000 * (clock() - begun) / len(batch))
    return Drawn(torch.cat(found), source, classifier, statistics.median(milliseconds))


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def measure(setting: Setting, drawn: Mapping[str, Drawn], before: Classifier) -> dict[str, dict[str, Any]]:
    """Every metric of `maskerlib.metrics.evaluation.evaluate` and of `views`, and what the setting asks for besides, by variant.

    SM and the metrics that remove pixels ask `before`, the classifier that the run started from, so that runs can be compared.
    The cost is that of an image: "milliseconds" of one thread, median over batches; "forward" and "backward", the images that
    the classifier sees and the gradients that pass through it, as the method's entry declares them for these options
    (`maskerlib.methods.entry.MethodEntry.cost`).

    Returns {variant: {"metrics": {metric: value}, "by_class": {class name: {metric: mean over its scenes}}}}; the latter has the
    metrics that judge single images (`maskerlib.metrics.entry.Metric.by_class`), so that another run can be compared on the
    same classes.
    """
    kept = [name for name, metric in METRICS.items() if metric.direction and metric.by_class]
    measured = {}
    for name, each in drawn.items():
        table, rows = evaluate(
            {name: each.maps},
            each.source,
            before,
            explained={name: each.classifier},
            precision=setting.precision,
            metrics=_requested(setting, each.source),
            per_image=True,
        )
        metrics = {metric: float(value) for metric, value in table.loc[name].items()}
        names = [each.source.class_names[label] for label in each.source.labels.tolist()]
        by_class = rows[kept].groupby(names, sort=False).mean()
        measured[name] = {
            "metrics": metrics | views(each, before) | _cost(setting, each),
            "by_class": by_class.to_dict("index"),
        }
    return measured


def _requested(setting: Setting, source: Source) -> list[Metric]:
    """The metrics that the setting asks for by name."""
    found = []
    for name in setting.also or ():
        made, _, fill = name.partition(", ")
        if fill == "oracle":
            found.append(_REMOVAL[made](OracleInfill(_scenes(source)), name=name))
        elif fill:
            found.append(_REMOVAL[made](fill, name=name))
        elif name != COST:
            found.append(ON_REQUEST[name])
    return found


def _scenes(source: Source) -> Scenes:
    while isinstance(source, Subset):
        source = source.source
    if not isinstance(source, Scenes):
        raise ValueError(f"{type(source).__name__} is not drawn, so nobody knows what its objects hide; take another fill")
    return source


def _cost(setting: Setting, drawn: Drawn) -> dict[str, float]:
    if COST not in (setting.also or ()):
        return {}
    forward, backward = cost_of(setting.method, setting.options, drawn.source.size)
    return {"milliseconds": drawn.milliseconds, "forward": forward, "backward": backward}


def views(drawn: Drawn, before: Classifier, *, batch_size: int = _BATCH) -> dict[str, float]:
    """What two classifiers make of clean, masked-in and masked-out images (mean colour as infill).

    They are `before`, that before the run, and "after" it, the one that the maps explain.

    Returns "accuracy before", "accuracy after", ... "in before", "out before" (shares that are right, in [0, 1]), and "entropy
    before", "entropy after" (of the masked-out prediction, in nats).
    """
    sums: dict[str, float] = {}
    known = known_labels(drawn.source, before)[0].split(batch_size)
    for batch, maps, labels in zip(batches(drawn.source, batch_size), drawn.maps.split(batch_size), known, strict=True):
        batch, masks, labels = batch.to(before.mean.device), maps.to(before.mean.device), labels.to(before.mean.device)
        for moment, classifier in (("before", before), ("after", drawn.classifier)):
            shown = {
                "accuracy": batch.images,
                "in": masked_in(batch.images, masks, classifier.mean),
                "out": masked_out(batch.images, masks, classifier.mean),
            }
            with torch.no_grad():
                logits = {view: classifier(images) for view, images in shown.items()}
            for view, answers in logits.items():
                right = (answers.argmax(dim=1) == labels).sum()
                sums[f"{view} {moment}"] = sums.get(f"{view} {moment}", 0.0) + float(right)
            sums[f"entropy {moment}"] = sums.get(f"entropy {moment}", 0.0) + float(entropy(logits["out"]).sum())
    return {name: total / len(drawn.source) for name, total in sums.items()}


def save_maps(path: Path, drawn: Mapping[str, Drawn]) -> None:
    """A grey PNG: one row a variant, the masks of its first eight scenes side by side, at half their size.

    Those of some classes only are left out.
    """
    shown = [each.maps[:_SHOWN, 0, ::2, ::2] for name, each in drawn.items() if name not in ("seen", "unseen")]
    pixels = (255 * torch.cat([torch.cat(list(row), dim=1) for row in shown])).round().byte().numpy()
    with atomic_path(path) as partial:
        Image.fromarray(np.ascontiguousarray(pixels)).save(partial, optimize=True)
