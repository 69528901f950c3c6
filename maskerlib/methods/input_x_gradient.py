"""Input x gradient (Shrikumar et al., 2016), (x - mean) dz_y / dx: how far a pixel is from the mean, times its gradient."""

from captum.attr import InputXGradient
from torch import Tensor

from maskerlib.classifiers.classifier import Classifier, frozen
from maskerlib.methods.attributions import AttributionMethod, admitted, by_captum
from maskerlib.methods.entry import MethodEntry

__all__ = ["ENTRY", "input_x_gradient", "times_gradient"]


def input_x_gradient(*, channels: str = "sum", clip: float = 0.99, sign: str = "absolute") -> AttributionMethod:
    """The input of the network times the derivative of the target's logit (Shrikumar et al., 2016).

    The input is the normalised image: a pixel of the mean colour has no part in the logit, as in all that hides pixels by that
    colour here. (Of images in [0, 1] it would be the black ones.) For a linear classifier this is what each pixel adds to the
    logit. Where all ReLUs, means and maxima of a network have no bias, the attributions add up to the logit.
    """

    def attribute(images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
        with frozen(classifier):
            return times_gradient(images, targets, classifier)

    return AttributionMethod(admitted(attribute), channels, clip, sign)


def times_gradient(images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
    """(x - mean) times the gradient of each target's logit, (B, channels, H, W), without graph. Targets are (B,) int64."""
    mean = classifier.mean
    return by_captum(InputXGradient(lambda away: classifier(away + mean)), images - mean, targets)


ENTRY = MethodEntry(
    "input-x-gradient",
    "the gradient, times the distance from the mean colour",
    input_x_gradient,
    kind="gradient",
    signed=True,
    forward=2,
    backward=1,
)
