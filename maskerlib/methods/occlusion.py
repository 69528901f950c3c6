"""Occlusion (Zeiler and Fergus, 2014): by how much the class's logit falls when a patch of the image is hidden.

    a_u = mean over the patches w that cover pixel u of z_y(x) - z_y(x with w hidden)
"""

import torch
from captum.attr import Occlusion
from torch import Tensor

from maskerlib.classifiers.classifier import Classifier, frozen
from maskerlib.methods.attributions import AttributionMethod, admitted
from maskerlib.methods.entry import MethodEntry
from maskerlib.running.checks import LARGEST_BATCH, between, check_value, whole
from maskerlib.running.precision import single

__all__ = ["ENTRY", "occlusion"]


def occlusion(
    window: float = 1 / 7,
    stride: float = 1 / 28,
    *,
    batch_size: int = 16,
    progress: bool = False,
    channels: str = "sum",
    clip: float = 0.99,
    sign: str = "positive",
) -> AttributionMethod:
    """Occlusion by captum, whose numbers these are: a square patch of the classifier's mean colour slides over the image.

    The attribution has no scale of its own: it is in logits, the same number in every channel. What a patch must be as large as
    to hide anything that counts depends on the objects; the defaults are 32 pixels every 8 in an image of 224.

    Args:
        window: side of the patch, as a share of the image's shorter side.
        stride: from one patch to the next, as such a share, at most `window`, so that every pixel is covered.
        batch_size: occluded images in one pass at most.
        progress: show a bar.
        channels, clip, sign: as in `maskerlib.methods.attributions.magnitude_map`; by default only what speaks for the class
            counts.

    Raises ValueError for an option that is none.
    """
    check_value("window", window, between(0, 1, open_below=True))
    check_value("stride", stride, between(0, window, open_below=True))
    check_value("batch_size", batch_size, whole(1, LARGEST_BATCH))

    def attribute(images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
        side, step = _pixels((images.shape[-2], images.shape[-1]), window, stride)
        method = Occlusion(classifier)
        with frozen(classifier):
            found = [
                method.attribute(
                    image[None],
                    sliding_window_shapes=(len(image), side, side),
                    strides=(len(image), step, step),
                    baselines=classifier.mean.to(image),
                    target=int(target),
                    perturbations_per_eval=batch_size,
                    show_progress=progress,
                )
                for image, target in zip(images.detach(), targets, strict=True)  # one by one: a pass has one image's patches
            ]
        return single(torch.cat(found))

    return AttributionMethod(admitted(attribute), channels, clip, sign)


def _pixels(size: tuple[int, int], window: float, stride: float) -> tuple[int, int]:
    """Side and stride of the patch in pixels."""
    side = max(1, round(window * min(size)))
    return side, min(side, max(1, round(stride * min(size))))


def _passes(window: float, stride: float, size: tuple[int, int]) -> int:
    """The image twice, and every patch; the last of a row may reach over the edge."""
    side, step = _pixels(size, window, stride)
    rows, columns = (1 - (side - length) // step for length in size)
    return 2 + rows * columns


ENTRY = MethodEntry(
    "occlusion",
    "what is lost when a patch is hidden",
    occlusion,
    kind="perturbation",
    signed=True,
    forward=lambda options, size: _passes(options["window"], options["stride"], size),
    quick={"window": 0.25, "stride": 0.25},
    moderate={"stride": 1 / 14},
)
