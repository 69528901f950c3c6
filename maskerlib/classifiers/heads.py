"""Another number of classes for a network that knows others: its last linear layer is drawn anew, all else stays."""

import copy
import math
from collections.abc import Sequence

import torch
from torch import nn

from maskerlib.classifiers.classifier import Classifier

__all__ = ["for_classes"]


def for_classes(classifier: Classifier, class_names: Sequence[str], *, seed: int = 0) -> Classifier:
    """A copy of `classifier` for other classes, to be trained on them (`maskerlib.training.classifier.train_classifier`).

    Its last layer, an `nn.Linear` or a convolution with one output a class, gets one output for each of `class_names`, with
    weights drawn from `seed` as PyTorch draws those of a linear layer. Everything below, and the layers that are read, stay as
    they are.

    Raises ValueError for fewer than two names, and for a network without such a layer.
    """
    names = tuple(class_names)
    if len(names) < 2:
        raise ValueError(f"class_names={names} are fewer than two; a classifier has two or more to tell apart")
    copied = classifier.copied()
    count = classifier.class_count()
    found = [
        (name, module)
        for name, module in copied.network.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and _outputs(module) == count
    ]
    mend = "give a network for these classes in its place"
    if not found:
        raise ValueError(f"{classifier.name} has no linear layer with {count} outputs, one a class, to be replaced; {mend}")
    name, old = found[-1]
    copied.network.set_submodule(name, _new(old, len(names), seed))
    copied.class_names = names
    try:
        known = copied.class_count()
    except RuntimeError:  # other parts rely on the number
        known = count
    if known != len(names):
        raise ValueError(f"{classifier.name} still has {known} classes with another {name}; {mend}")
    return copied


def _outputs(module: nn.Linear | nn.Conv2d) -> int:
    return module.out_features if isinstance(module, nn.Linear) else module.out_channels


def _new(old: nn.Linear | nn.Conv2d, count: int, seed: int) -> nn.Module:
    new = copy.deepcopy(old)
    if isinstance(new, nn.Linear):
        new.out_features = count
    else:
        new.out_channels = count
    bound = 1 / math.sqrt(old.weight[0].numel())
    generator = torch.Generator().manual_seed(seed)
    for name, weight in old.named_parameters():
        drawn = torch.empty(count, *weight.shape[1:]).uniform_(-bound, bound, generator=generator)
        setattr(new, name, nn.Parameter(drawn.to(weight), requires_grad=weight.requires_grad))
    return new
