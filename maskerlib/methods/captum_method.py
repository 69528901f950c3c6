"""Any attribution of captum as a method of this library: its numbers become a map through `magnitude_map`."""

from collections.abc import Callable
from typing import Any

from captum.attr import Attribution
from torch import Tensor

from maskerlib.classifiers.classifier import Classifier, frozen
from maskerlib.methods.attributions import AttributionMethod, admitted, by_captum

__all__ = ["captum_method"]


def captum_method(
    build: Callable[[Classifier], Attribution],
    *,
    channels: str = "sum",
    clip: float = 0.99,
    sign: str = "absolute",
    **options: Any,
) -> AttributionMethod:
    """Any attribution of captum that gives one number for each pixel and channel, as a method of this library.

    captum_method(captum.attr.FeatureAblation) is one, and captum_method(captum.attr.Occlusion, sliding_window_shapes=(3, 8, 8))
    another. Those that hook modules (DeepLift, GuidedBackprop, Deconvolution, LRP) pass by what they have no rule for, mostly
    without a word; `deep_lift`, `guided_backprop` and `lrp` in this room look, and say so.

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

    return AttributionMethod(admitted(attribute), channels, clip, sign)
