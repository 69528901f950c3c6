"""Copies of a classifier with other modules in the place of some, for methods that change what a network sends back."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from maskerlib.classifiers.classifier import Classifier

__all__ = ["replace_modules", "still_copy"]

Module = TypeVar("Module", bound=nn.Module)


def still_copy(classifier: Classifier) -> Classifier:
    """A copy that shares nothing with the classifier, in eval mode, with weights in float32 at least and without gradient."""
    copied = classifier.copied().eval().requires_grad_(False)
    return copied.float() if copied.dtype in (torch.half, torch.bfloat16) else copied


def replace_modules(network: nn.Module, replace: Callable[[nn.Module], Module | None]) -> list[Module]:
    """Let `replace` put another in the place of any module inside the network, which is changed; returns those put there.

    replace: (module) -> what stands in its place, None for itself. A module that stands in several places has one replacement,
        which stands in all of them. What is inside a module that is replaced is not asked about.
    """
    made: dict[nn.Module, Module | None] = {}

    def visit(parent: nn.Module) -> None:
        for name, module in list(parent._modules.items()):  # named_children leaves out the second name of a module
            if module is None:
                continue
            if module not in made:
                made[module] = replace(module)
                if made[module] is None:
                    visit(module)
            if (other := made[module]) is not None:
                parent._modules[name] = other

    visit(network)
    return [other for other in made.values() if other is not None]
