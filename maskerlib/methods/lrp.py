"""Layer-wise relevance propagation (Bach et al., 2015): the logit, handed back layer by layer in shares of what inputs gave.

R_i = sum_j a_i w_ij / z_j R_j with z_j = sum_i a_i w_ij + b_j; by the gamma rule, positive shares count (1 + gamma) times.
It is input x gradient of a network whose layers give the same numbers, but send back by these rules (Montavon et al., 2019).
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from maskerlib.classifiers.classifier import Classifier, frozen
from maskerlib.methods.attributions import AttributionMethod, admitted
from maskerlib.methods.copies import replace_modules, still_copy
from maskerlib.methods.entry import MethodEntry, Unsupported
from maskerlib.methods.input_x_gradient import times_gradient
from maskerlib.running.checks import above, check_value

__all__ = ["ENTRY", "lrp", "lrp_copy"]

_PASSED = (nn.ReLU6, nn.ELU, nn.CELU, nn.SELU, nn.SiLU, nn.GELU, nn.Mish, nn.Hardswish, nn.Hardtanh, nn.Tanh)
"""Activations that are 0 at 0 and bend elsewhere; those that bend at 0 alone, such as ReLU, need no rule."""


def lrp(gamma: float = 0.25, *, channels: str = "sum", clip: float = 0.99, sign: str = "absolute") -> AttributionMethod:
    """LRP with the gamma rule for convolutions and the plain one, LRP-0, for all else (Montavon et al., 2019, section 10.2).

    An activation hands its relevance on whole; a gate, as in squeeze-and-excitation, gets none of what it lets pass. A batch
    norm is first made part of the convolution before it. Relevance is conserved: that of the pixels and that of the biases add
    up to the target's logit, and without biases the pixels' alone.

    captum's LRP has the same rules, but counts twice what an addition such as a residual connection brings together, spreads
    evenly what a mean does, and refuses modules that are used twice, ReLU6 and all it has no rule for; here it is the
    gradient's own business, which is right about all of these.

    gamma: 0 is LRP-0, which is input x gradient on a network of ReLUs (Ancona et al., 2018); the larger, the less is seen of
        what speaks against the class, and of noise. 0.25 is Montavon's.

    Raises ValueError for a gamma below 0, and, when called, `Unsupported`, a ValueError, for a network that does not conserve
    relevance: one that has LayerNorm, attention, or activations other than ReLUs as functions.
    """
    check_value("gamma", gamma, above(0, included=True))

    def attribute(images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
        with frozen(classifier), torch.autocast(images.device.type, enabled=False):  # the shares are small quotients
            told = lrp_copy(classifier, images[:1], gamma)
            with torch.no_grad():
                logit = float(classifier(images[:1])[0, targets[0]])
            _check_conserved(told, images[:1], targets[:1], logit)
            return times_gradient(images, targets, told)

    return AttributionMethod(admitted(attribute), channels, clip, sign)


def lrp_copy(classifier: Classifier, image: Tensor, gamma: float) -> Classifier:
    """A copy with the same logits, whose input x gradient is LRP. It looks at the image (1, channels, H, W) once."""
    told = still_copy(classifier)
    follows = _norms_after(told, image)
    norms = set(follows.values())

    def replace(module: nn.Module) -> nn.Module | None:
        if isinstance(module, nn.Conv2d):
            return _Gamma(fuse_conv_bn_eval(module, follows[module]) if module in follows else module, gamma)
        if module in norms:
            return nn.Identity()
        if type(module) is nn.BatchNorm2d:
            return _Affine(module)
        if type(module) in _PASSED:
            return _Passed(module)
        return _Gate(module) if type(module) in (nn.Sigmoid, nn.Hardsigmoid) else None

    replace_modules(told, replace)
    return told.eval().requires_grad_(False)


def _norms_after(network: Classifier, image: Tensor) -> dict[nn.Module, nn.BatchNorm2d]:
    """{convolution: the batch norm that is given what it returns}, where each of them is called once."""
    made: list[tuple[nn.Module, Tensor]] = []
    pairs: list[tuple[nn.Module | None, nn.BatchNorm2d]] = []

    def after(module: nn.Module, inputs: object, output: Tensor) -> None:
        made.append((module, output))

    def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, nn.BatchNorm2d)
        pairs.append((next((conv for conv, output in made if output is inputs[0]), None), module))

    handles = [part.register_forward_hook(after) for part in network.modules() if isinstance(part, nn.Conv2d)]
    handles += [part.register_forward_pre_hook(before) for part in network.modules() if type(part) is nn.BatchNorm2d]
    with torch.no_grad():
        network(image)
    for handle in handles:
        handle.remove()
    convs, norms = [conv for conv, _ in made], [norm for _, norm in pairs]
    return {conv: norm for conv, norm in pairs if conv is not None and convs.count(conv) == 1 == norms.count(norm)}


class _Gamma(nn.Module):
    """A convolution whose output is z, and whose gradient is that of z' z / z' with the second factor held.

    z' = z + gamma (what pulls z the way it goes), the sum of the a_i w_ij that have the sign of z; which is half of
    sum a w + sign(z) sum |a| |w|, so it holds for inputs of both signs, as those of a first layer are.
    """

    def __init__(self, layer: nn.Conv2d, gamma: float) -> None:
        super().__init__()
        self.layer, self.sizes, self.gamma = layer, copy.deepcopy(layer), gamma
        self.sizes.weight, self.sizes.bias = nn.Parameter(layer.weight.abs()), None

    def forward(self, a: Tensor) -> Tensor:
        z: Tensor = self.layer(a)
        if self.gamma == 0:
            return z
        sums = z if self.layer.bias is None else z - self.layer.bias[:, None, None]
        wide: Tensor = z + self.gamma / 2 * (sums + z.sign() * self.sizes(a.abs()))
        return wide * torch.where(wide == 0, 0, z / wide).detach()


class _Passed(nn.Module):
    """An activation f(x) as x times f(x) / x, the second factor held: its relevance is that of its input."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        held = x.detach()
        return x * torch.where(held == 0, 0, self.activation(held.clone()) / held)


class _Gate(_Passed):
    """A gate: a number that is held."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.activation(x.detach().clone())
        return y


class _Affine(nn.Module):
    """A batch norm in eval mode whose bias is all that it adds."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        mean, var = norm.running_mean, norm.running_var
        assert mean is not None and var is not None
        scale = (norm.weight if norm.affine else 1) / (var + norm.eps).sqrt()
        self.scale = nn.Parameter(scale)
        self.bias = nn.Parameter((norm.bias if norm.affine else 0) - mean * scale)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale[:, None, None] + self.bias[:, None, None]


def _check_conserved(told: Classifier, image: Tensor, target: Tensor, logit: float) -> None:
    """Do the relevances of the pixels and of all biases add up to the logit of the classifier itself?"""
    biases = [weight for name, weight in told.named_parameters() if name.endswith("bias")]
    with torch.enable_grad():
        parts = [(image - told.mean).detach().requires_grad_(), *(bias.requires_grad_() for bias in biases)]
        slopes = torch.autograd.grad(told(parts[0] + told.mean)[0, target], parts, allow_unused=True)
    told.requires_grad_(False)
    relevances = [part.detach() * slope for part, slope in zip(parts, slopes, strict=True) if slope is not None]
    total = sum(float(each.double().sum()) for each in relevances)
    size = sum(float(each.double().abs().sum()) for each in relevances)
    if abs(total - logit) > 0.01 * abs(logit) + 1e-4 * size:
        raise Unsupported(
            f"LRP does not conserve relevance on {told.name}: {total:.3g} of a logit of {logit:.3g}; the network has layers "
            "without a rule, such as LayerNorm, attention or activations called as functions; use integrated_gradients"
        )


ENTRY = MethodEntry(
    "lrp", "relevance handed back layer by layer", lrp, kind="gradient", signed=True, forward=2, backward=1
)
