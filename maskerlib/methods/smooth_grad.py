"""SmoothGrad (Smilkov et al., 2017): the mean gradient of noisy copies of an image, E dz_y / dx at x + n, n ~ N(0, sigma^2)."""

import torch
from torch import Tensor

from maskerlib.classifiers.classifier import Classifier
from maskerlib.methods.attributions import AttributionMethod, admitted, image_streams
from maskerlib.methods.entry import MethodEntry
from maskerlib.methods.gradient import logit_gradient
from maskerlib.running.checks import above, check_value, whole
from maskerlib.running.precision import single

__all__ = ["ENTRY", "smooth_grad"]


def smooth_grad(
    samples: int = 25,
    sigma: float = 0.15,
    seed: int = 0,
    *,
    channels: str = "sum",
    clip: float = 0.99,
    sign: str = "absolute",
) -> AttributionMethod:
    """SmoothGrad: the mean of the signed gradients of noisy copies of the image (Smilkov et al., 2017, section 2).

    The noise depends on the seed, the number of the sample and the image alone, so an image has one map, in every batch,
    order and run. (captum's NoiseTunnel draws from the global generator, for the batch as a whole.) Noisy copies may leave
    [0, 1]; they are not clipped.

    Args:
        samples: noisy copies an image, one pass each.  sigma: standard deviation of the noise, in units of images in
            [0, 1]; 0 gives the gradient.  seed: of the noise.

    Raises ValueError for fewer samples than 1 or a sigma below 0.
    """
    check_value("samples", samples, whole(1))
    check_value("sigma", sigma, above(0, included=True))

    def attribute(images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
        total = torch.zeros_like(single(images))
        for sample in range(samples):
            noise = [torch.randn(images.shape[1:], generator=each) for each in image_streams(images, seed, "smooth", sample)]
            total = total + logit_gradient(images + sigma * torch.stack(noise).to(images), targets, classifier)
        return total / samples

    return AttributionMethod(admitted(attribute), channels, clip, sign)


ENTRY = MethodEntry(
    "smooth-grad",
    "the mean gradient of noisy copies",
    smooth_grad,
    kind="gradient",
    signed=True,
    stochastic=True,
    forward=26,
    backward=25,
)
