"""GradientSHAP (Lundberg and Lee, 2017): the mean of (x' - z) dz_y / dx at points drawn on the lines from baselines z to x.

E (x' - z) * grad z_y(z + u (x' - z)), u ~ U(0, 1), z one of the baselines, x' = x + n with n ~ N(0, sigma^2).
"""

import torch
from torch import Tensor

from maskerlib.classifiers.classifier import Classifier
from maskerlib.methods.attributions import AttributionMethod, admitted, image_streams
from maskerlib.methods.entry import MethodEntry
from maskerlib.methods.gradient import logit_gradient
from maskerlib.running.checks import above, check_value, whole
from maskerlib.running.precision import single

__all__ = ["ENTRY", "gradient_shap"]


def gradient_shap(
    samples: int = 50,
    baselines: Tensor | None = None,
    sigma: float = 0.0,
    seed: int = 0,
    *,
    channels: str = "sum",
    clip: float = 0.99,
    sign: str = "absolute",
) -> AttributionMethod:
    """GradientSHAP, or expected gradients (Erion et al., 2021): integrated gradients, with draws in the place of steps.

    In the mean over all draws the attributions add up to logit(x) less the mean logit of the baselines. With one baseline and
    no noise they are integrated gradients, whose even steps then come nearer with as many passes. What is new is a set of
    baselines, such as other photographs: z is then drawn from these.

    The draws depend on the seed, the number of the sample and the image alone, so an image has one map, in every batch, order
    and run; captum's GradientShap, which is the same sum, draws from the global generators of NumPy and PyTorch. One sample of
    each image is in memory at a time.

    Args:
        samples: points an image, one pass each. (captum's default is 5, that of the release of SHAP 200.)
        baselines: images (K, channels, H, W), or (K, channels, 1, 1); None is the classifier's mean colour.
        sigma: standard deviation of the noise on x, in units of images in [0, 1].
        seed: of the draws.

    Raises ValueError for fewer samples than 1, a sigma below 0, baselines of another shape, or none.
    """
    check_value("samples", samples, whole(1))
    check_value("sigma", sigma, above(0, included=True))
    if baselines is not None and (baselines.dim() != 4 or not len(baselines)):
        raise ValueError(f"baselines have shape {tuple(baselines.shape)}, expected (K, channels, H, W) with K >= 1")

    def attribute(images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
        choice = (classifier.mean if baselines is None else baselines).to(images)
        if choice.shape[1] != images.shape[1] or choice.shape[2:] not in (images.shape[2:], (1, 1)):
            raise ValueError(
                f"baselines have shape {tuple(choice.shape)} for images of {tuple(images.shape[1:])}; resize them, or give one "
                "colour (1, channels, 1, 1)"
            )
        total = torch.zeros_like(single(images))
        for sample in range(samples):
            draws = image_streams(images, seed, "gradient-shap", sample)
            start = choice[[int(torch.randint(len(choice), (), generator=each)) for each in draws]]
            part = torch.stack([torch.rand(1, 1, 1, generator=each) for each in draws]).to(images)
            line = images - start
            if sigma > 0:
                noise = [torch.randn(images.shape[1:], generator=each) for each in draws]
                line = line + sigma * torch.stack(noise).to(images)
            total = total + line * logit_gradient(start + part * line, targets, classifier)
        return total / samples

    return AttributionMethod(admitted(attribute), channels, clip, sign)


ENTRY = MethodEntry(
    "gradient-shap",
    "integrated gradients at random steps, from any baselines",
    gradient_shap,
    kind="gradient",
    signed=True,
    stochastic=True,
    forward=lambda options, size: 1 + int(options["samples"]),
    backward=lambda options, size: int(options["samples"]),
    quick={"samples": 10},
)
