"""From signed attributions a to a map, min(1, sum over channels of |a| / its 99 % quantile): what gradient methods share."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from captum.attr import GuidedBackprop, IntegratedGradients, Saliency
from torch import Tensor

from maskerlib.classifiers.classifier import Classifier, frozen
from maskerlib.classifiers.doors import Targets, as_targets, check_images
from maskerlib.running.checks import between, check_value, one_of
from maskerlib.running.precision import single

__all__ = ["SIGNS", "Attribute", "GradientMethod", "admitted", "by_captum", "magnitude_map"]

SIGNS = ("absolute", "positive")
"""What counts of a signed attribution: its size, for the class or against it; or only what speaks for the class."""

Attribute = Callable[[Tensor, Targets, Classifier], Tensor]
"""(images (B, channels, H, W), targets, classifier) -> signed attributions of the targets' logits, (B, channels, H, W)."""


def magnitude_map(
    attribution: Tensor, *, channels: str = "sum", clip: float = 0.99, sign: str = "absolute"
) -> Tensor:
    """From signed attributions (B, channels, H, W) to maps (B, 1, H, W) in [0, 1], as every metric wants them.

    It is what all gradient methods here go through, and the reducer to use on attributions from elsewhere that are signed or
    have a number for each colour, such as captum's: `lambda x, y, c: magnitude_map(DeepLift(c).attribute(x, target=y))`.

    1. The absolute values of the channels are added; or the largest is taken (Simonyan et al., 2013). With sign="positive"
       what is below 0 counts as 0 instead.
    2. Each map is divided by a high quantile of its own values, and what is above 1 becomes 1. Attributions have no
       scale of their own and a few pixels are far above all others; without the clip these alone would be seen (Smilkov
       et al., 2017, section 3, who clip at the same 99 %).

    A pixel without attribution stays exactly 0, and so does a map of zeros.

    >>> magnitude_map(torch.tensor([[[[2.0, 0.0, -1.0]], [[-2.0, 0.0, 0.0]]]]), clip=1).flatten().tolist()
    [1.0, 0.0, 0.25]

    Args:
        channels: "sum" or "max".
        clip: the quantile, in (0, 1]; 1 divides by the maximum. Where the quantile is 0 the maximum is taken.
        sign: one of `SIGNS`.

    Raises ValueError for another shape, `channels`, `clip` or `sign`, or for NaN and infinity.
    """
    if attribution.dim() != 4:
        raise ValueError(f"attributions have shape {tuple(attribution.shape)}, expected (B, channels, H, W)")
    _check_map_options(channels, clip, sign)
    size = single(attribution.detach())
    if not size.isfinite().all():
        raise ValueError("attributions hold NaN or infinity; mend them, or the images that they explain")
    size = size.abs() if sign == "absolute" else size.clamp(min=0)
    size = size.sum(dim=1, keepdim=True) if channels == "sum" else size.amax(dim=1, keepdim=True)
    values = size.flatten(1).sort(dim=1).values  # torch.quantile refuses large images
    top = values[:, -1]
    scale = values[:, math.ceil(clip * values.shape[1]) - 1]
    scale = torch.where(scale > 0, scale, torch.where(top > 0, top, 1))
    return (size / scale[:, None, None, None]).clamp(0, 1)


def _check_map_options(channels: str, clip: float, sign: str) -> None:
    check_value("channels", channels, one_of(("sum", "max")))
    check_value("clip", clip, between(0, 1, open_below=True))
    check_value("sign", sign, one_of(SIGNS))


@dataclass(frozen=True)
class GradientMethod:
    """A saliency method, method(images, targets, classifier) -> (B, 1, H, W) in [0, 1], drawn from signed attributions.

    attribute: (images (B, channels, H, W) in [0, 1], targets, classifier) -> (B, channels, H, W), signed, float32, or float64
        for images that are.
    channels, clip, sign: as in `magnitude_map`, which turns the one into the other.

    Those of this room raise ValueError for images that are not in [0, 1] or hold NaN, and for a target that is no class.
    """

    attribute: Attribute
    channels: str = "sum"
    clip: float = 0.99
    sign: str = "absolute"

    def __post_init__(self) -> None:
        _check_map_options(self.channels, self.clip, self.sign)

    def __call__(self, images: Tensor, targets: Targets, classifier: Classifier) -> Tensor:
        attribution = self.attribute(images, targets, classifier)
        return magnitude_map(attribution, channels=self.channels, clip=self.clip, sign=self.sign)


def admitted(attribute: Callable[[Tensor, Tensor, Classifier], Tensor]) -> Attribute:
    """`attribute` behind `maskerlib.classifiers.doors`: it is given images in [0, 1] without NaN, and targets (B,) int64."""

    def checked(images: Tensor, targets: Targets, classifier: Classifier) -> Tensor:
        check_images(images, classifier)
        with frozen(classifier), torch.no_grad():
            logits = classifier(images)
        return attribute(images, as_targets(targets, logits, classifier), classifier)

    return checked


def by_captum(
    method: Saliency | GuidedBackprop | IntegratedGradients, images: Tensor, targets: Tensor, **options: object
) -> Tensor:
    """captum's attributions of the targets' logits, without graph; the caller may have gradients off."""
    with torch.enable_grad():
        given = images.detach().clone().requires_grad_()  # the caller's own tensor keeps its flag
        return single(method.attribute(given, target=targets, **options).detach())
