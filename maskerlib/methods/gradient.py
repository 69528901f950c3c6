"""The gradient of a logit, the plainest map of all (Simonyan et al., 2013): dz_y / dx."""

from captum.attr import Saliency
from torch import Tensor

from maskerlib.classifiers.classifier import Classifier, frozen
from maskerlib.methods.attributions import AttributionMethod, admitted, by_captum
from maskerlib.methods.entry import MethodEntry

__all__ = ["ENTRY", "gradient", "logit_gradient"]


def gradient(*, channels: str = "sum", clip: float = 0.99, sign: str = "absolute") -> AttributionMethod:
    """The derivative of the target's logit with respect to every pixel and channel (Simonyan et al., 2013, section 3).

    Its unit is logits per unit of an image in [0, 1]: a pixel that is brighter by a small d adds d times its value.
    """
    return AttributionMethod(admitted(logit_gradient), channels, clip, sign)


def logit_gradient(images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
    """The signed gradient of each target's logit, (B, channels, H, W), without graph. Targets are (B,) int64."""
    with frozen(classifier):
        return by_captum(Saliency(classifier), images, targets, abs=False)


ENTRY = MethodEntry(
    "gradient", "the gradient of the logit", gradient, kind="gradient", signed=True, forward=2, backward=1
)
