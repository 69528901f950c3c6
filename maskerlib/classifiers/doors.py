"""The doors of the library: what every entry asks of images, targets, labels and classifiers before it computes anything.

A wrong scale, a normalised image, a label that counts other classes or a network that returns probabilities would all give a
plausible map of something else. Each is settled here, once, for `optimise_mask`, training, `evaluate` and every method.
"""

import difflib
import functools
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskerlib.classifiers.classifier import Classifier, frozen
from maskerlib.data.samples import Relabelled, Source, batches
from maskerlib.running.checks import check_finite

__all__ = ["Method", "Targets", "aligned", "as_targets", "check_classifier", "check_images", "class_number", "decided"]

Targets = Tensor | np.ndarray | Sequence[int | str] | int | str | None
"""Classes to explain: one for all images or one for each, as numbers or names; None means those that are predicted."""

Method = Callable[[Tensor, Any, Classifier], Tensor]
"""A saliency method: images (B, channels, H, W) in [0, 1], the classes to explain, and the classifier that is asked about them
-> maps (B, 1, H, W) in [0, 1], high = salient. Those of this library take `Targets`; one of your own is given (B,) int64."""

_SLACK = 0.02
"""How far a pixel may leave [0, 1]: what resampling overshoots, and far less than a normalisation does."""


def check_images(images: Any, classifier: Classifier | None = None, names: Sequence[str] = ()) -> Tensor:
    """The images, once they are (B, channels, H, W) floats in [0, 1] that `classifier` can take.

    Raises ValueError, naming the image where it has a name and what was found, for another shape or kind, no images, NaN, bytes
    (0 to 255), or images that were normalised already.
    """
    if not isinstance(images, Tensor) or images.dim() != 4 or not images.is_floating_point() or not images.numel():
        found = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        channels = 3 if classifier is None else classifier.channels
        raise ValueError(
            f"images: {found}, expected floats (B, {channels}, H, W) in [0, 1] with B >= 1; add the batch dimension with "
            "images[None], divide bytes by 255"
        )
    if classifier is not None and images.shape[1] != classifier.channels == images.shape[3]:
        found = f"{tuple(images.shape)}, expected (B, {classifier.channels}, H, W)"
        raise ValueError(f"images: {found}; the channels come first, images.permute(0, 3, 1, 2)")
    if classifier is not None and images.shape[1] != classifier.channels:
        raise ValueError(
            f"images have {images.shape[1]} channels, {classifier.name} takes {classifier.channels}; give mean and std one "
            "number for each channel of the network, and images that have as many (Folder and Photos: channels=...)"
        )
    low, high = (float(end) for end in images.detach().aminmax())
    if -_SLACK <= low and high <= 1 + _SLACK:  # false for NaN
        return images
    ends = images.detach().flatten(1).aminmax(dim=1)
    bad = ~((ends.min >= -_SLACK) & (ends.max <= 1 + _SLACK))
    where = int(bad.nonzero()[0])
    low, high = float(ends.min[where]), float(ends.max[where])
    name = names[where] if names else f"image {where}"
    if not (low - low == 0 == high - high):
        raise ValueError(f"{name} holds NaN or infinity; remove or mend it")
    mend = "divide bytes by 255" if low >= -_SLACK else "give it before its normalisation, which the classifier does itself"
    raise ValueError(f"{name} has values from {low:.4g} to {high:.4g}, expected [0, 1]; {mend}")


def as_targets(targets: Targets, logits: Tensor, classifier: Classifier) -> Tensor:
    """The classes to explain, (B,) int64 on the device of `logits` (B, C).

    targets: one class for all images or one for each, as a number, a name, or a sequence, array or tensor of them; None means
        those that the classifier predicts.

    Raises ValueError, naming the target, for a number that is no class, an unknown name (with near ones), or another count.
    """
    count, classes = logits.shape
    if targets is None:
        return classifier.predicted(logits.detach())
    given = targets.tolist() if isinstance(targets, Tensor | np.ndarray | np.generic) else targets
    several = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given] * count
    if len(several) != count:
        raise ValueError(f"{len(several)} targets for {count} images; give one class, or one an image")
    numbers = [class_number(item, classifier) if isinstance(item, str) else item for item in several]
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < classes:
            valid = f"whole numbers from 0 to {classes - 1}, or names"
            raise ValueError(f"target {number!r} is no class of {classifier.name}; give {valid}")
    return torch.tensor(numbers, dtype=torch.int64, device=logits.device)


def class_number(name: str, classifier: Classifier) -> int:
    """The number of the class called `name`, in any case, with - or _ for spaces.

    Raises ValueError, with near names, where no class is called so, or two are.
    """
    names = classifier.class_names
    found = names.index(name) if names.count(name) == 1 else _by_name(names).get(_plain(name))
    if found is None:
        known = {_plain(each): each for each in classifier.class_names}
        near = [known[each] for each in difflib.get_close_matches(_plain(name), known, n=3, cutoff=0.5)]
        near += [each for each in classifier.class_names if _plain(name) in _plain(each).split()][: 3 - len(near)]
        hint = f"near ones: {', '.join(dict.fromkeys(near))}" if near else f"it has {len(classifier.class_names)} named classes"
        raise ValueError(f"{name!r} is no class of {classifier.name}; {hint}")
    return found


def _plain(name: str) -> str:
    return " ".join(re.split(r"[\s_\-]+", name.casefold().strip()))


@functools.lru_cache(maxsize=16)
def _by_name(names: tuple[str, ...]) -> dict[str, int]:
    """{plain name: number}, of the names that one class alone has; the synonyms of "tabby, tabby cat" count each."""
    found: dict[str, set[int]] = {}
    for number, name in enumerate(names):
        for synonym in {_plain(name), *(_plain(part) for part in name.split(","))}:
            found.setdefault(synonym, set()).add(number)
    return {name: numbers.pop() for name, numbers in found.items() if len(numbers) == 1}


def aligned(source: Source, classifier: Classifier) -> Source:
    """`source` with labels in the numbering of `classifier`: itself where they are, else the same images relabelled by name.

    Where the source or the classifier has no names, the labels are taken as they are. -1, unknown, stays.

    Raises ValueError for a class of the source that the classifier does not have (with near names), or a label beyond its
    classes.
    """
    if len(source) == 0:
        raise ValueError(f"{type(source).__name__} holds no images; give a source that does")
    if not isinstance(source.labels, Tensor) or source.labels.dtype != torch.int64 or source.labels.shape != (len(source),):
        labels = source.labels
        found = f"{labels.dtype} {tuple(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
        raise ValueError(f"labels of {type(source).__name__}: {found}, expected torch.int64 ({len(source)},), -1 where unknown")
    names, known = tuple(source.class_names), classifier.class_names
    if (source.labels == -1).all():
        return source
    if names and known and names != known:
        try:
            numbers = torch.tensor([class_number(name, classifier) for name in names])
        except ValueError as error:
            raise ValueError(
                f"{error}; the labels of the source mean other classes: rename its classes, build the classifier with "
                "class_names=source.class_names, or explain what the classifier says (targets='predicted')"
            ) from None
        labels = torch.where(source.labels < 0, -1, numbers[source.labels.clamp(min=0)])
        return Relabelled(source, labels, known)
    classes = classifier.class_count()
    bad = ((source.labels < -1) | (source.labels >= classes)).nonzero()
    if len(bad):
        raise ValueError(
            f"label {int(source.labels[bad[0]])} of image {int(bad[0])} is none of the {classes} classes of {classifier.name}; "
            f"labels go from 0 to {classes - 1}, and -1 is unknown"
        )
    return source


def decided(source: Source, classifier: Classifier, *, every: bool = False, batch_size: int = 64, workers: int = 0) -> Source:
    """`source` with a label for each image: its own, or, where it has none (or for `every` image), what `classifier` predicts.

    The classifier looks once at each whole image, in eval mode. A masker that is trained beside a classifier needs this: labels
    that the *learning* classifier gave would follow it wherever it drifts, and it drifts to one class that is always right.
    """
    open_ones = torch.ones_like(source.labels, dtype=torch.bool) if every else source.labels < 0
    if not open_ones.any():
        return source
    labels = source.labels.clone()
    start = 0
    with frozen(classifier), torch.no_grad():
        for batch in batches(source, batch_size, workers=workers, device=classifier.mean.device):
            images = check_images(batch.images, classifier, batch.names).to(classifier.mean.device)
            answers = classifier.predicted(classifier(images)).cpu()
            part = slice(start, start + len(answers))
            labels[part] = torch.where(open_ones[part], answers, labels[part])
            start += len(answers)
    return Relabelled(source, labels, classifier.class_names)


def check_classifier(classifier: Classifier, *, differentiable: bool = False) -> None:
    """Look at a classifier before anything is computed with it; three images of noise, black and white are shown to it.

    A softmax of a softmax, or of a sigmoid, is nearly flat whatever the image holds, and every loss of this library would be
    of that. Where no gradient reaches the image, a mask would follow its own size and smoothness alone.

    Raises ValueError, with the mend, for a weight that is not finite, a network that does not run at its `input_size` or
    returns probabilities, another number of logits than of class names, and, where it has to be `differentiable`, logits
    without a gradient.
    """
    check_finite(classifier.weights(), classifier.name)
    probe = torch.rand(3, classifier.channels, *classifier.input_size, generator=torch.Generator().manual_seed(0))
    probe[0], probe[1] = 0.0, 1.0
    with torch.inference_mode(False), torch.enable_grad(), frozen(classifier):
        probe = probe.to(classifier.mean).requires_grad_()
        try:
            logits = classifier.outputs(probe, [])[0]
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:160]
            raise ValueError(
                f"{classifier.name} does not run on images of input_size={classifier.input_size} ({reason}); give the size that "
                "its network takes, Classifier(..., input_size=(height, width))"
            ) from None
        reached = logits.requires_grad
        if reached:
            reached = torch.autograd.grad(logits.sum(), probe, retain_graph=True, allow_unused=True)[0] is not None
    names = len(classifier.class_names)
    if names and names != logits.shape[1]:
        raise ValueError(
            f"{classifier.name} has {names} class names and returns {logits.shape[1]} logits; give a name for each, or say with "
            "output=lambda returned: ... which are the logits"
        )
    if differentiable and not reached:
        raise ValueError(
            f"no gradient of the logits of {classifier.name} reaches the image; leave out what cuts it off in its forward pass, "
            "such as torch.no_grad() or detach()"
        )
    _refuse_probabilities(classifier, logits)


def _refuse_probabilities(classifier: Classifier, logits: Tensor) -> None:
    z = logits.detach()
    within = bool(z.min() >= 0 and z.max() <= 1)
    end = _last_operation(logits.grad_fn.next_functions[0][0] if _from_one(logits) else logits.grad_fn) if logits.grad_fn else ""
    if within and z.shape[1] > 1 and ((z.sum(dim=1) - 1).abs() < 1e-3).all():
        kind, mend = "probabilities that add up to 1", "lambda returned: returned.log()"
    elif end == "Sigmoid" or (end == "Softmax" and classifier.head == "sigmoid"):
        kind, mend = f"the result of a {end.lower()}", "torch.logit"
    elif end == "LogSigmoid" and (classifier.head == "sigmoid" or z.shape[1] == 2):
        kind, mend = "the logarithm of probabilities of yes", "lambda returned: returned.exp().logit()"
    else:
        return
    raise ValueError(
        f"{classifier.name} returns {kind}, expected logits; leave out its last layer, or undo it with "
        f"Classifier(..., output={mend})"
    )


_PASSED_BY = "Cat ToCopy View UnsafeView Squeeze Unsqueeze Select Slice Transpose T Index Alias Clamp ClampMin ClampMax".split()
"""Operations that change the shape or the ends of what they are given, and leave it what it is."""


def _from_one(logits: Tensor) -> bool:
    """Are these the [-z/2, z/2] that `Classifier` makes of one logit?"""
    return logits.shape[1] == 2 and torch.equal(logits[:, 0], -logits[:, 1]) and logits.grad_fn is not None


def _last_operation(node: Any) -> str:
    """What the graph ends in, but for changes of shape: "Sigmoid", say."""
    while True:
        kind = re.sub(r"Backward\d*$", "", node.name())
        before = [each for each, _ in node.next_functions if each is not None]
        if kind not in _PASSED_BY or len(before) != 1:
            return kind
        node = before[0]
