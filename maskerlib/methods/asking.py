"""How a saliency method is asked: about which classifier, for which classes, on which device; and what it has to answer.

`maskerlib.metrics.evaluation.evaluate` and `maskerlib.methods.saved_maps.save_maps` both ask in this way, so that maps which
were saved get the numbers of the method that drew them.
"""

import functools
import types

import torch
from torch import Tensor

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.doors import Method, aligned, class_number
from maskerlib.data.samples import Source
from maskerlib.masking.masks import check_masks
from maskerlib.running.checks import check_value, one_of
from maskerlib.running.precision import autocast

__all__ = [
    "TARGETS",
    "ask",
    "check_saliency",
    "clean_logits",
    "explained_by",
    "known_labels",
    "posed",
    "to_device_of",
    "to_explain",
    "translated",
]

TARGETS = ("labels", "predicted")
"""What a method is asked to explain: the label of each image where it is known, or what the explained classifier says."""

_REDUCE = (
    "; attributions with signs or colour channels become maps through maskerlib.methods.attributions.magnitude_map(attributions)"
)


def explained_by(method: object, classifier: Classifier) -> Classifier:
    """The classifier that a method carries as its attribute `classifier`, or the one given.

    `maskerlib.masker.trained.Trained` carries one. It is found behind functools.partial and a bound method, and not in a lambda:
    name it in `explained=` there.
    """
    while isinstance(method, functools.partial | types.MethodType):
        method = method.func if isinstance(method, functools.partial) else method.__self__
    carried = getattr(method, "classifier", None)
    return carried if isinstance(carried, Classifier) else classifier


def known_labels(source: Source, classifier: Classifier, targets: str = "labels") -> tuple[Tensor, str]:
    """The labels of `source` in the numbering of `classifier`, (N,) int64, -1 where unknown; and why none is known, or "".

    With targets="predicted" labels that mean other classes count as unknown, with the reason.

    Raises ValueError for another `targets`, a source without images, and with targets="labels" as
    `maskerlib.classifiers.doors.aligned` does.
    """
    check_value("targets", targets, one_of(TARGETS))
    if not len(source):
        raise ValueError("the source has 0 images, expected 1 or more: no map can be drawn")
    try:
        labels, reason = aligned(source, classifier).labels, ""
    except ValueError as error:
        if targets == "labels":
            raise
        labels, reason = torch.full((len(source),), -1), f"the labels do not suit {classifier.name}: {error}"
    return labels, reason if reason or bool((labels >= 0).any()) else "no image has a label"


def to_explain(labels: Tensor, logits: Tensor, classifier: Classifier, targets: str) -> Tensor:
    """The class to explain of each image, (B,) int64: its label where wanted and known, else what the logits (B, C) say."""
    said = classifier.predicted(logits)
    return said if targets == "predicted" else torch.where(labels >= 0, labels, said)


def posed(labels: Tensor, logits: Tensor, classifier: Classifier) -> tuple[Tensor, Tensor]:
    """The question that each label poses (`Classifier.decision`), where it is known: logits, and answers with -1 for unknown."""
    question, answers = classifier.decision(logits, labels.clamp(min=0))
    return question, torch.where(labels < 0, -1, answers)


def translated(classes: Tensor, spoken: Classifier, heard: Classifier) -> Tensor:
    """Classes (B,) of `spoken` in the numbering of `heard`, by name; -1 for one that it does not have.

    Where one of the two has no names the numbers are taken as they are.
    """
    if not spoken.class_names or not heard.class_names or spoken.class_names == heard.class_names:
        return classes
    numbers: dict[int, int] = {}
    for number in set(classes.tolist()):
        try:
            numbers[number] = class_number(spoken.class_name(number), heard)
        except ValueError:
            numbers[number] = -1
    return classes.new_tensor([numbers[number] for number in classes.tolist()])


def to_device_of(classifier: Classifier, part: Tensor, *, copy: bool = False) -> Tensor:
    """`part` where the classifier lives; each network is given what it reads on its own device."""
    return part.to(classifier.mean.device, copy=copy)


def clean_logits(classifier: Classifier, images: Tensor, precision: str) -> Tensor:
    """What the classifier says of whole images: logits (B, C), without graph, on the device of the images."""
    with autocast(precision, classifier.mean.device), torch.no_grad():
        logits: Tensor = classifier(to_device_of(classifier, images))
    return logits.to(images.device)


def ask(name: str, method: Method, images: Tensor, targets: Tensor, classifier: Classifier, precision: str) -> Tensor:
    """The maps of a method, as `check_saliency` gives them, on the device of the images.

    The method gets copies on the device of its classifier, so that nothing it does to them reaches another method.

    Raises ValueError, naming the method, when it changes them in place (a map would then explain another image than the one
    that is measured), or as `check_saliency` does.
    """
    given, classes = (to_device_of(classifier, part, copy=True) for part in (images, targets))
    with autocast(precision, classifier.mean.device):
        maps = method(given, classes, classifier)
    for what, now, before in (("images", given, images), ("targets", classes, targets)):
        if not torch.equal(now, to_device_of(classifier, before)):
            raise ValueError(
                f"method {name!r} changes the {what} that it is given, in place; let it work on {what}.clone()"
            )
    return check_saliency(maps, images, name)


def check_saliency(maps: object, images: Tensor, name: str) -> Tensor:
    """The maps of a method as float32 on the device of the images, without graph, contiguous, clamped to [0, 1].

    Raises ValueError, naming the method, when they are not a tensor (B, 1, H, W) of the images' size, or not
    in [0, 1] up to rounding (`maskerlib.masking.masks.check_masks`).
    """
    shape = (len(images), 1, *images.shape[-2:])
    if not isinstance(maps, Tensor) or tuple(maps.shape) != shape:
        got = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
        mend = _REDUCE if isinstance(maps, Tensor) and maps.dim() == 4 and maps.shape[1] > 1 else ""
        raise ValueError(f"method {name!r}: returned {got}, expected a tensor {shape}, one map an image{mend}")
    maps = maps.detach().to(images.device, torch.float32)
    try:
        check_masks(maps, f"method {name!r}")
    except ValueError as error:
        raise ValueError(f"{error}{_REDUCE if maps.min() < 0 else ''}") from None
    return maps.clamp(0, 1).contiguous()
