"""From signed attributions a to a map, min(1, sum over channels of |a| / its 99 % quantile): what signed methods share."""

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from captum.attr import Attribution
from torch import Tensor

from maskerlib.classifiers.classifier import Classifier, frozen
from maskerlib.classifiers.doors import Targets, as_targets, check_images
from maskerlib.running.checks import between, check_value, one_of
from maskerlib.running.precision import single
from maskerlib.running.seeds import stream

__all__ = ["SIGNS", "Attribute", "AttributionMethod", "admitted", "by_captum", "image_streams", "magnitude_map"]

SIGNS = ("absolute", "positive")
"""What counts of a signed attribution: its size, for the class or against it; or only what speaks for the class."""

Attribute = Callable[[Tensor, Targets, Classifier], Tensor]
"""(images (B, channels, H, W), targets, classifier) -> signed attributions of the targets' logits, (B, channels, H, W)."""


def magnitude_map(
    attribution: Tensor, *, channels: str = "sum", clip: float = 0.99, sign: str = "absolute"
) -> Tensor:
    """From signed attributions (B, channels, H, W) to maps (B, 1, H, W) in [0, 1], as every metric wants them.

    It is what all signed methods here go through, and the reducer to use on attributions from elsewhere that are signed or
    have a number for each colour, such as `lambda x, y, c: magnitude_map(Occlusion(c).attribute(x, (3, 8, 8), target=y))`.

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
class AttributionMethod:
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


def by_captum(method: Attribution, images: Tensor, targets: Tensor, **options: Any) -> Tensor:
    """captum's attributions of the targets' logits, without graph; the caller may have gradients off."""
    with torch.enable_grad():
        given = images.detach().clone().requires_grad_()  # the caller's own tensor keeps its flag
        return single(method.attribute(given, target=targets, **options).detach())


def image_streams(images: Tensor, seed: int, what: str, sample: int) -> list[torch.Generator]:
    """A generator for each image, which depends on the seed, what is drawn, the image and the number of the sample alone.

    So an image has one map, in every batch, order and run. The checksum of its bytes says which draws are its own.
    """
    names = [zlib.crc32(image.contiguous().numpy()) for image in images.detach().float().cpu()]
    return [stream(seed, what, name, sample) for name in names]
