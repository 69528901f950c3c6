"""DeepLIFT (Shrikumar et al., 2017): how the change of the logit from a baseline z is made of the changes of the pixels.

The rescale rule: what is backpropagated through an activation f is not its slope but (f(a_x) - f(a_z)) / (a_x - a_z), the mean
slope between its inputs for x and for z. Times x - z, the attributions add up to z_y(x) - z_y(z).
"""

import copy
import warnings

import torch
from captum.attr import DeepLift
from torch import Tensor, nn
from torch.nn import functional as F

from maskerlib.classifiers.classifier import Classifier
from maskerlib.methods.attributions import AttributionMethod, admitted, by_captum
from maskerlib.methods.copies import replace_modules, still_copy
from maskerlib.methods.entry import MethodEntry, Unsupported

__all__ = ["ENTRY", "deep_lift"]

_RULES = (nn.ReLU, nn.ELU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
"""Modules that captum has a rule for; others get their gradient, without a word."""


def deep_lift(
    baseline: Tensor | None = None, *, channels: str = "sum", clip: float = 0.99, sign: str = "absolute"
) -> AttributionMethod:
    """DeepLIFT with the rescale rule (Shrikumar et al., 2017, section 3.5.1), by captum, one image at a time.

    captum wants each call of an activation to be a module of its own, out of place and with another layer between it and the
    next, and knows no ReLU6. So it is given a copy of the classifier where that is so: a module that is called twice is two,
    ReLU6(a) is ReLU(a) - ReLU(a - 6), which has the same mean slope, and the windows of a max-pooling lie side by side, as what
    comes back into windows that overlap is counted once. Its rule for max-pooling also mixes the images of a batch.

    What it then still does not see, such as ReLUs called as functions, SiLU, GELU, LayerNorm, or products of activations as in
    attention and squeeze-and-excitation, would have its plain gradient. That shows in the sum, which is why it is added up.
    Both need float32: small differences are divided by each other. An autocast of the caller has no effect.

    baseline: z, (1 or B, channels, H, W) or one colour (1, channels, 1, 1); None is the classifier's mean colour.

    Raises, when called, `Unsupported`, a ValueError, for a network on which the attributions do not add up.
    """

    def attribute(images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
        start = (classifier.mean if baseline is None else baseline).to(images).expand_as(images)
        lifted = _lifted_copy(classifier, images[:1])
        logits: list[Tensor] = []
        lifted.register_forward_hook(lambda module, inputs, output: logits.append(output.detach()))
        found = []
        for image, begin, target in zip(images[:, None], start[:, None], targets[:, None], strict=True):
            with warnings.catch_warnings(), torch.autocast(images.device.type, enabled=False):
                warnings.filterwarnings("ignore", "Setting forward, backward hooks")
                found.append(by_captum(DeepLift(lifted), image, target, baselines=begin))
            _check_sum(found[-1], logits.pop()[:, target[0]], lifted)
        return torch.cat(found)

    return AttributionMethod(admitted(attribute), channels, clip, sign)


def _check_sum(attribution: Tensor, logits: Tensor, lifted: Classifier) -> None:
    """Do they add up to the change of the logit? `logits` are those of x and of z."""
    total, change = float(attribution.sum()), float(logits[0] - logits[1])
    if abs(total - change) <= 0.01 * abs(change) + 1e-4 * float(attribution.abs().sum()):
        return
    kinds = {type(part) for part in lifted.modules()} - set(_RULES)
    bent = ("torch.nn.modules.activation", "torch.nn.modules.normalization")
    others = [kind.__name__ for kind in kinds if kind.__module__ in bent]
    why = f"has {', '.join(sorted(others))}" if others else "calls activations as functions, or multiplies them"
    raise Unsupported(
        f"DeepLIFT of {lifted.name} adds up to {total:.3g} where the logit changes by {change:.3g}: the network {why}, "
        "for which captum has no rule; use integrated_gradients, which needs none"
    )


def _lifted_copy(classifier: Classifier, image: Tensor) -> Classifier:
    """A copy that captum's DeepLift sees all of. It looks at the image once, to find out how often each module is called."""
    lifted = still_copy(classifier)
    each = replace_modules(lifted, _each_call)

    def begin(module: nn.Module, inputs: object) -> None:
        for called in each:
            called.count = 0

    lifted.register_forward_pre_hook(begin)
    with torch.no_grad():
        lifted(image)
    return lifted


def _each_call(module: nn.Module) -> "_EachCall | None":
    if type(module) is nn.ReLU6:
        return _EachCall(_ReLU6())
    if type(module) is nn.MaxPool2d and not module.ceil_mode and not module.return_indices:
        return _EachCall(_MaxPool(module))
    if type(module) in _RULES:
        single = copy.deepcopy(module)
        if isinstance(single, nn.ReLU | nn.ELU | nn.LeakyReLU):
            single.inplace = False
        return _EachCall(single)
    return None


class _EachCall(nn.Module):
    """Another copy of a module for each call in a pass. The clone keeps captum's hook off what else is hooked or done there."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.copies = nn.ModuleList([module])
        self.count = 0

    def forward(self, x: Tensor) -> Tensor:
        if self.count == len(self.copies):
            self.copies.append(copy.deepcopy(self.copies[0]))
        self.count += 1
        y: Tensor = self.copies[self.count - 1](x.clone())
        return y


class _ReLU6(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.below, self.above = nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.below(x.clone()) - self.above(x - 6)
        return y


class _MaxPool(nn.Module):
    """Max-pooling whose windows were laid side by side, so that none overlaps another."""

    def __init__(self, pool: nn.MaxPool2d) -> None:
        super().__init__()
        pairs = (pool.kernel_size, pool.stride, pool.padding, pool.dilation)
        self.kernel, self.stride, self.padding, self.dilation = (
            (each, each) if isinstance(each, int) else (each[0], each[1]) for each in pairs
        )
        self.pool = nn.MaxPool1d(self.kernel[0] * self.kernel[1])

    def forward(self, x: Tensor) -> Tensor:
        (down, across), lowest = self.padding, torch.finfo(x.dtype).min
        x = F.pad(x, (across, across, down, down), value=lowest)
        rows, columns = (
            (side - dilation * (kernel - 1) - 1) // stride + 1
            for side, kernel, stride, dilation in zip(x.shape[2:], self.kernel, self.stride, self.dilation, strict=True)
        )
        windows = F.unfold(x, self.kernel, self.dilation, 0, self.stride).unflatten(1, (x.shape[1], -1))
        y: Tensor = self.pool(windows.transpose(2, 3).flatten(2)).unflatten(2, (rows, columns))
        return y


ENTRY = MethodEntry(
    "deep-lift",
    "the logit's change from the mean colour, shared out",
    deep_lift,
    kind="gradient",
    signed=True,
    forward=3,
    backward=2,
)
