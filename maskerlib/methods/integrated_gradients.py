"""Integrated gradients (Sundararajan et al., 2017): (x - z) times the mean of dF_y / dx on the straight line from z to x.

They add up to F_y(x) - F_y(z), the change of the class's logit from a baseline z; `completeness_gap` says how far they miss it.
"""

import warnings

import torch
from captum.attr import IntegratedGradients
from torch import Tensor

from maskerlib.classifiers.classifier import Classifier, frozen
from maskerlib.classifiers.doors import Targets, as_targets
from maskerlib.methods.attributions import AttributionMethod, admitted, by_captum
from maskerlib.methods.entry import MethodEntry
from maskerlib.running.checks import above, check_value, whole

__all__ = ["ENTRY", "completeness_gap", "integrated_gradients"]


def integrated_gradients(
    steps: int = 50,
    baseline: Tensor | None = None,
    *,
    batch_size: int = 32,
    tolerance: float | None = None,
    max_steps: int = 1600,
    channels: str = "sum",
    clip: float = 0.99,
    sign: str = "absolute",
) -> AttributionMethod:
    """Integrated gradients (Sundararajan et al., 2017, equation 1): (x - z) times the mean gradient from z to x.

    Completeness: the attributions of an image add up to logit(x) - logit(z), as far as `steps` resolve the integral
    (Gauss-Legendre). The logits are those of the target. On deep networks the gradient jumps along the way, and 50 steps may
    miss a tenth or a half of the sum; `completeness_gap` says how much, and a `tolerance` asks for as many steps as it takes.

    Args:
        steps: points on the straight line from z to x, one pass each.
        baseline: z, broadcast to the images; None is the classifier's mean colour, which hides pixels elsewhere, too.
        batch_size: images in one pass at most (one step of the whole batch, where that is more): the bound on memory.
        tolerance: the largest `completeness_gap` that will do, such as 0.05. The steps of each image that misses it are
            doubled until it is met or `max_steps` would be passed; then UserWarning names the gap that is left. None takes
            the steps as they are.
        max_steps: see `tolerance`.

    Raises ValueError for fewer steps or a smaller batch size than 1, or a tolerance that is not above 0.
    """
    check_value("steps", steps, whole(1))
    check_value("batch_size", batch_size, whole(1))
    if tolerance is not None:
        check_value("tolerance", tolerance, above(0))

    def integral(images: Tensor, start: Tensor, targets: Tensor, classifier: Classifier, count: int) -> Tensor:
        options = {"n_steps": count, "baselines": start, "internal_batch_size": max(batch_size, len(images))}
        with frozen(classifier):
            return by_captum(IntegratedGradients(classifier), images, targets, **options)

    def attribute(images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
        start = _start(images, classifier, baseline)
        found = integral(images, start, targets, classifier, steps)
        if tolerance is None:
            return found
        count = steps
        gaps = completeness_gap(found, classifier, images, targets, start)
        while 2 * count <= max_steps and (gaps > tolerance).any():
            count *= 2
            again = (gaps > tolerance).nonzero()[:, 0]  # the others keep theirs: an image has one map in every batch
            found[again] = integral(images[again], start[again], targets[again], classifier, count)
            gaps[again] = completeness_gap(found[again], classifier, images[again], targets[again], start[again])
        if missed := int((gaps > tolerance).sum()):
            warnings.warn(
                f"integrated gradients of {missed} of {len(images)} images miss completeness by up to {float(gaps.max()):.3g} of "
                f"the logit's change after {count} steps, more than tolerance={tolerance}; raise max_steps={max_steps}",
                stacklevel=3,
            )
        return found

    return AttributionMethod(admitted(attribute), channels, clip, sign)


def completeness_gap(
    attribution: Tensor, classifier: Classifier, images: Tensor, targets: Targets, baseline: Tensor | None = None
) -> Tensor:
    """How far attributions are from adding up to the change of the logit: |sum - change| / |change|, lower is better.

    change = logit(x) - logit(z), both of the target (Sundararajan et al., 2017, proposition 1).

    Args:
        attribution: (B, channels, H, W), signed, as from `integrated_gradients().attribute`.
        images: (B, channels, H, W), x.  targets: as for a gradient method.
        baseline: z, broadcast to the images; None is the classifier's mean colour.

    Returns:
        (B,), 0 or more: 0 is complete, 1 as wrong as no attribution at all; infinite where the logit does not change, but
        the attributions add up to something.
    """
    with frozen(classifier), torch.no_grad():
        logits = classifier(images)
        from_logits = classifier(_start(images, classifier, baseline))
    targets = as_targets(targets, logits, classifier)
    change = (logits - from_logits).gather(1, targets[:, None])[:, 0]
    missing = (attribution.flatten(1).sum(dim=1).to(change) - change).abs()
    return torch.where(missing == 0, 0.0, missing / change.abs())


def _start(images: Tensor, classifier: Classifier, baseline: Tensor | None) -> Tensor:
    """z for each image: the baseline, or the classifier's mean colour."""
    return (classifier.mean if baseline is None else baseline).to(images).expand_as(images).contiguous()


ENTRY = MethodEntry(
    "integrated-gradients",
    "integrated gradients",
    integrated_gradients,
    kind="gradient",
    signed=True,
    forward=51,
    backward=50,
)
