"""Any attribution of captum as a method of this library: its numbers become a map through `magnitude_map`."""

from collections.abc import Callable
from typing import Any

from captum.attr import Attribution
from torch import Tensor

from maskerlib.classifiers.classifier import Classifier, frozen
from maskerlib.methods.attributions import GradientMethod, admitted, by_captum

__all__ = ["captum_method"]


def captum_method(
    build: Callable[[Classifier], Attribution],
    *,
    channels: str = "sum",
    clip: float = 0.99,
    sign: str = "absolute",
    **options: Any,
) -> GradientMethod:
    """Any attribution of captum that gives one number for each pixel and channel, as a method of this library.

    captum_method(captum.attr.DeepLift) is one, and captum_method(captum.attr.Occlusion, sliding_window_shapes=(3, 8, 8)) another.

    Args:
        build: the class, or a function of the classifier that builds it. captum's classes are given the classifier, in eval
            mode and with its weights frozen; it takes images in [0, 1].
        channels, clip, sign: how attributions (B, channels, H, W) become maps, see
            `maskerlib.methods.attributions.magnitude_map`.
        options: of its `attribute`, beside the images and the targets.

    Raises ValueError, when called, for images or targets that do not suit the classifier.
    """

    def attribute(images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
        with frozen(classifier):
            return by_captum(build(classifier), images, targets, **options)

    return GradientMethod(admitted(attribute), channels, clip, sign)
