"""Maps from the gradient of a logit: plain, smoothed, guided, integrated.

Each factory returns a `GradientMethod`: called as every method of this library, it gives maps in [0, 1]; its `attribute`
gives the signed numbers (B, channels, H, W) behind them, one for each pixel and colour channel. Targets are classes by number
or name, one for all images or one for each; None means those that the classifier predicts. The gradients and the integral
are captum's (`Saliency`, `GuidedBackprop`, `IntegratedGradients`). What is added here is what a comparison needs: one way
from channels to a map, noise that does not depend on the batch, and a guided backprop that sees every ReLU.

Gradients are with respect to images in [0, 1], before the classifier's normalisation. The classifier is left as it was:
modes, requires_grad flags, gradients and hooks. Grad-CAM, which reads a layer and not the pixels, is in `references`.
"""

import math
import warnings
import zlib

import torch
from captum.attr import GuidedBackprop, Saliency
from torch import Tensor

from maskerlib.attributions import SIGNS, GradientMethod, admitted, by_captum, magnitude_map
from maskerlib.classifiers import Classifier, frozen
from maskerlib.guided import guided_copy
from maskerlib.integrated import completeness_gap, integrated_gradients
from maskerlib.seeds import stream

__all__ = [
    "SIGNS",
    "GradientMethod",
    "completeness_gap",
    "gradient",
    "guided_backprop",
    "guided_copy",
    "integrated_gradients",
    "magnitude_map",
    "smooth_grad",
]


def gradient(*, channels: str = "sum", clip: float = 0.99, sign: str = "absolute") -> GradientMethod:
    """The derivative of the target's logit with respect to every pixel and channel (Simonyan et al., 2013, section 3).

    Its unit is logits per unit of an image in [0, 1]: a pixel that is brighter by a small d adds d times its value.
    """
    return GradientMethod(admitted(_gradient), channels, clip, sign)


def _gradient(images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
    with frozen(classifier):
        return by_captum(Saliency(classifier), images, targets, abs=False)


def smooth_grad(
    samples: int = 25,
    sigma: float = 0.15,
    seed: int = 0,
    *,
    channels: str = "sum",
    clip: float = 0.99,
    sign: str = "absolute",
) -> GradientMethod:
    """SmoothGrad: the mean of the signed gradients of noisy copies of the image (Smilkov et al., 2017, section 2).

    The noise depends on the seed, the number of the sample and the image alone, so an image has one map, in every batch,
    order and run. (captum's NoiseTunnel draws from the global generator, for the batch as a whole.) Noisy copies may leave
    [0, 1]; they are not clipped.

    Args:
        samples: noisy copies an image, one pass each.  sigma: standard deviation of the noise, in units of images in
            [0, 1]; 0 gives the gradient.  seed: of the noise.

    Raises ValueError for fewer samples than 1 or a sigma below 0.
    """
    if samples < 1 or not 0 <= sigma < math.inf:
        raise ValueError(f"samples={samples}, sigma={sigma}: expected 1 sample or more and a sigma of 0 or more")

    def attribute(images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
        # The checksum of the image's bytes says which noise is its own.
        names = [zlib.crc32(image.contiguous().numpy()) for image in images.detach().float().cpu()]
        total = 0.0
        for sample in range(samples):
            noise = [torch.randn(images.shape[1:], generator=stream(seed, "smooth", name, sample)) for name in names]
            total = total + _gradient(images + sigma * torch.stack(noise).to(images), targets, classifier)
        return total / samples

    return GradientMethod(admitted(attribute), channels, clip, sign)


def guided_backprop(*, channels: str = "sum", clip: float = 0.99, sign: str = "absolute") -> GradientMethod:
    """Guided backprop (Springenberg et al., 2014): backpropagation whose ReLUs let positive gradients through alone.

    An ordinary ReLU stops the gradient where its *input* is negative; here each one also stops where the *gradient* that
    arrives is negative. It runs on a copy of the classifier, see `guided_copy`, which also says when ValueError is raised.
    """

    def attribute(images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Setting backward hooks on ReLU activations")
            return by_captum(GuidedBackprop(guided_copy(classifier)), images, targets)

    return GradientMethod(admitted(attribute), channels, clip, sign)
