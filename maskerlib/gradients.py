"""Maps from the gradient of a logit: plain, smoothed, guided, integrated.

Each factory returns a `GradientMethod`: called as every method of this library, it gives maps in [0, 1]; its `attribute`
gives the signed numbers (B, 3, H, W) behind them, one for each pixel and colour channel. The gradients and the integral
are captum's (`Saliency`, `GuidedBackprop`, `IntegratedGradients`). What is added here is what a comparison needs: one way
from channels to a map, noise that does not depend on the batch, and a guided backprop that sees every ReLU.

Gradients are with respect to images in [0, 1], before the classifier's normalisation. The classifier is left as it was:
modes, requires_grad flags, gradients and hooks. Grad-CAM, which reads a layer and not the pixels, is in `references`.
"""

import copy
import math
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from captum.attr import GuidedBackprop, IntegratedGradients, Saliency
from torch import Tensor, nn

from maskerlib.classifiers import Classifier, frozen
from maskerlib.seeds import stream

__all__ = [
    "GradientMethod",
    "gradient",
    "guided_backprop",
    "guided_copy",
    "integrated_gradients",
    "magnitude_map",
    "smooth_grad",
]


def magnitude_map(attribution: Tensor, *, channels: str = "sum", clip: float = 0.99) -> Tensor:
    """From signed attributions (B, 3, H, W) to maps (B, 1, H, W) in [0, 1]: how much, whatever the sign.

    1. The absolute values of the three channels are added; or the largest is taken (Simonyan et al., 2013).
    2. Each map is divided by a high quantile of its own values, and what is above 1 becomes 1. Attributions have no
       scale of their own and a few pixels are far above all others; without the clip these alone would be seen (Smilkov
       et al., 2017, section 3, who clip at the same 99 %).

    A pixel without attribution stays exactly 0, and so does a map of zeros.

    Args:
        channels: "sum" or "max".
        clip: the quantile, in (0, 1]; 1 divides by the maximum. Where the quantile is 0 the maximum is taken.

    Raises ValueError for another shape, `channels` or `clip`.
    """
    if attribution.dim() != 4:
        raise ValueError(f"attributions have shape {tuple(attribution.shape)}, expected (B, channels, H, W)")
    _check_map_options(channels, clip)
    size = attribution.detach().float().abs()
    size = size.sum(dim=1, keepdim=True) if channels == "sum" else size.amax(dim=1, keepdim=True)
    values = size.flatten(1).sort(dim=1).values  # torch.quantile refuses large images
    top = values[:, -1]
    scale = values[:, math.ceil(clip * values.shape[1]) - 1]
    scale = torch.where(scale > 0, scale, torch.where(top > 0, top, 1))
    return (size / scale[:, None, None, None]).clamp(0, 1)


def _check_map_options(channels: str, clip: float) -> None:
    if channels not in ("sum", "max"):
        raise ValueError(f"channels={channels!r} is unknown; choose sum or max")
    if not 0 < clip <= 1:
        raise ValueError(f"clip={clip}: expected a quantile above 0 and at most 1")


@dataclass(frozen=True)
class GradientMethod:
    """A saliency method, method(images, targets, classifier) -> (B, 1, H, W) in [0, 1], drawn from signed attributions.

    attribute: (images (B, 3, H, W) in [0, 1], targets (B,) int64, classifier) -> (B, 3, H, W) float32, signed.
    channels, clip: as in `magnitude_map`, which turns the one into the other.
    """

    attribute: Callable[[Tensor, Tensor, Classifier], Tensor]
    channels: str = "sum"
    clip: float = 0.99

    def __post_init__(self) -> None:
        _check_map_options(self.channels, self.clip)

    def __call__(self, images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
        return magnitude_map(self.attribute(images, targets, classifier), channels=self.channels, clip=self.clip)


def gradient(*, channels: str = "sum", clip: float = 0.99) -> GradientMethod:
    """The derivative of the target's logit with respect to every pixel and channel (Simonyan et al., 2013, section 3).

    Its unit is logits per unit of an image in [0, 1]: a pixel that is brighter by a small d adds d times its value.
    """
    return GradientMethod(_gradient, channels, clip)


def _gradient(images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
    with frozen(classifier):
        return _by_captum(Saliency(classifier), images, targets, abs=False)


def smooth_grad(
    samples: int = 25, sigma: float = 0.15, seed: int = 0, *, channels: str = "sum", clip: float = 0.99
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
        total = torch.zeros_like(images, dtype=torch.float32)
        for sample in range(samples):
            noise = [torch.randn(images.shape[1:], generator=stream(seed, "smooth", name, sample)) for name in names]
            total += _gradient(images + sigma * torch.stack(noise).to(images), targets, classifier)
        return total / samples

    return GradientMethod(attribute, channels, clip)


def guided_backprop(*, channels: str = "sum", clip: float = 0.99) -> GradientMethod:
    """Guided backprop (Springenberg et al., 2014): backpropagation whose ReLUs let positive gradients through alone.

    An ordinary ReLU stops the gradient where its *input* is negative; here each one also stops where the *gradient* that
    arrives is negative. It runs on a copy of the classifier, see `guided_copy`, which also says when ValueError is raised.
    """

    def attribute(images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Setting backward hooks on ReLU activations")
            return _by_captum(GuidedBackprop(guided_copy(classifier)), images, targets)

    return GradientMethod(attribute, channels, clip)


def guided_copy(classifier: Classifier) -> Classifier:
    """A copy of the classifier, frozen and in eval mode, whose every ReLU is one that captum's GuidedBackprop finds.

    captum hooks `nn.ReLU` alone. It passes by `nn.ReLU6`, which EfficientNet-Lite0 uses throughout, and would return the
    plain gradient without a word. In the copy each ReLU or ReLU6, in place or not, is an out-of-place ReLU on a tensor of
    its own, with the cap at 6 behind it. The logits are the same.

    Raises ValueError when the network has no such modules, or (in its forward pass) when it also calls ReLUs as functions,
    which cannot be found: the result would be guided in part.
    """
    guided = copy.deepcopy(classifier).eval().requires_grad_(False)
    made: dict[nn.Module, _GuidedReLU] = {}
    for parent in list(guided.modules()):
        for name, module in parent.named_children():
            if isinstance(module, nn.ReLU | nn.ReLU6):
                made.setdefault(module, _GuidedReLU(6.0 if isinstance(module, nn.ReLU6) else None))
                setattr(parent, name, made[module])
    if not made:
        raise ValueError(
            f"{classifier.name} has no nn.ReLU or nn.ReLU6 module, so guided backprop is not defined for it"
        )

    def check(module: nn.Module, inputs: object, logits: Tensor) -> None:
        expected = sum(relu.calls for relu in made.values())
        if (found := _count_relus(logits)) > expected:
            raise ValueError(
                f"{classifier.name} calls {found - expected} ReLUs as functions, which guided backprop cannot find; "
                "make them nn.ReLU modules"
            )
        for relu in made.values():
            relu.calls = 0

    guided.register_forward_hook(check)
    return guided


class _GuidedReLU(nn.Module):
    """ReLU or ReLU6 out of an nn.ReLU that captum finds. The clone keeps captum's hook off the other uses of the input."""

    def __init__(self, cap: float | None) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.cap = cap
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        y = self.relu(x.clone())
        return y if self.cap is None else y.clamp(max=self.cap)


def _count_relus(output: Tensor) -> int:
    """How many ReLU and ReLU6 operations the graph behind a tensor holds; 0 where no graph was recorded."""
    todo, seen, count = [output.grad_fn], set(), 0
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            count += node.name() in ("ReluBackward0", "HardtanhBackward0")
            todo.extend(before for before, _ in node.next_functions)
    return count


def integrated_gradients(
    steps: int = 50,
    baseline: Tensor | None = None,
    *,
    batch_size: int = 32,
    channels: str = "sum",
    clip: float = 0.99,
) -> GradientMethod:
    """Integrated gradients (Sundararajan et al., 2017, equation 1): (x - z) times the mean gradient from z to x.

    Completeness: the attributions of an image add up to logit(x) - logit(z), as far as `steps` resolve the integral
    (Gauss-Legendre). The logits are those of the target.

    Args:
        steps: points on the straight line from z to x, one pass each.
        baseline: z, broadcast to the images; None is the classifier's mean colour, which hides pixels elsewhere, too.
        batch_size: images in one pass at most (one step of the whole batch, where that is more): the bound on memory.

    Raises ValueError for fewer steps or a smaller batch size than 1.
    """
    if steps < 1 or batch_size < 1:
        raise ValueError(f"steps={steps}, batch_size={batch_size}: expected 1 or more of each")

    def attribute(images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
        start = (classifier.mean if baseline is None else baseline).to(images).expand_as(images).contiguous()
        options = {"n_steps": steps, "baselines": start, "internal_batch_size": max(batch_size, len(images))}
        with frozen(classifier):
            return _by_captum(IntegratedGradients(classifier), images, targets, **options)

    return GradientMethod(attribute, channels, clip)


def _by_captum(
    method: Saliency | GuidedBackprop | IntegratedGradients, images: Tensor, targets: Tensor, **options: object
) -> Tensor:
    """captum's attributions of the targets' logits, float32, without graph; the caller may have gradients off."""
    with torch.enable_grad():
        given = images.detach().clone().requires_grad_()  # the caller's own tensor keeps its flag
        return method.attribute(given, target=targets, **options).detach().float()
