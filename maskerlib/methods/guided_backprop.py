"""Guided backprop (Springenberg et al., 2014): the gradient of a logit, but that each ReLU lets positive gradients through alone.

Where a ReLU of x sends back g [x > 0] of the gradient g that arrives, it sends back max(g, 0) [x > 0]. This needs a copy of the
classifier in which every ReLU can be found.
"""

import warnings

from captum.attr import GuidedBackprop
from torch import Tensor, nn

from maskerlib.classifiers.classifier import Classifier
from maskerlib.methods.attributions import AttributionMethod, admitted, by_captum
from maskerlib.methods.copies import replace_modules, still_copy
from maskerlib.methods.entry import MethodEntry, Unsupported

__all__ = ["ENTRY", "guided_backprop", "guided_copy"]


def guided_backprop(*, channels: str = "sum", clip: float = 0.99, sign: str = "absolute") -> AttributionMethod:
    """Guided backprop (Springenberg et al., 2014): backpropagation whose ReLUs let positive gradients through alone.

    An ordinary ReLU stops the gradient where its *input* is negative; here each one also stops where the *gradient* that
    arrives is negative. It runs on a copy of the classifier, see `guided_copy`, which also says when ValueError is raised.
    """

    def attribute(images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Setting backward hooks on ReLU activations")
            return by_captum(GuidedBackprop(guided_copy(classifier)), images, targets)

    return AttributionMethod(admitted(attribute), channels, clip, sign)


def guided_copy(classifier: Classifier) -> Classifier:
    """A copy of the classifier, frozen and in eval mode, whose every ReLU is one that captum's GuidedBackprop finds.

    captum hooks `nn.ReLU` alone. It passes by `nn.ReLU6`, which EfficientNet-Lite0 uses throughout, and would return the
    plain gradient without a word. In the copy each ReLU or ReLU6, in place or not, is an out-of-place ReLU on a tensor of
    its own, with the cap at 6 behind it. The logits are the same.

    Raises `Unsupported` when the network has no such modules, or (in its forward pass) when it also calls ReLUs as functions,
    which cannot be found: the result would be guided in part.
    """
    guided = still_copy(classifier)
    made = replace_modules(guided, _guided)
    if not made:
        raise Unsupported(
            f"{classifier.name} has no nn.ReLU or nn.ReLU6 module, so guided backprop is not defined for it"
        )

    def check(module: nn.Module, inputs: object, logits: Tensor) -> None:
        expected = sum(relu.calls for relu in made)
        if (found := _count_relus(logits)) > expected:
            raise Unsupported(
                f"{classifier.name} calls {found - expected} ReLUs as functions, which guided backprop cannot find; "
                "make them nn.ReLU modules"
            )
        for relu in made:
            relu.calls = 0

    guided.register_forward_hook(check)
    return guided


def _guided(module: nn.Module) -> "_GuidedReLU | None":
    if isinstance(module, nn.ReLU | nn.ReLU6):
        return _GuidedReLU(6.0 if isinstance(module, nn.ReLU6) else None)
    return None


class _GuidedReLU(nn.Module):
    """ReLU or ReLU6 out of an nn.ReLU that captum finds. The clone keeps captum's hook off the other uses of the input."""

    def __init__(self, cap: float | None) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.cap = cap
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        y: Tensor = self.relu(x.clone())
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


ENTRY = MethodEntry(
    "guided-backprop", "guided backpropagation", guided_backprop, kind="gradient", signed=True, forward=2, backward=1
)
