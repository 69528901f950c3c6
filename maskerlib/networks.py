"""What every network is asked for, whoever wrote it: to stand still, to show what it is wrapped in, to name its parts."""

import contextlib
from collections.abc import Iterator

from torch import nn

__all__ = ["frozen", "outline", "unwrapped"]


@contextlib.contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Inside: eval mode and weights without gradients. Afterwards: every mode and flag as it was before."""
    modes = [(part, part.training) for part in module.modules()]
    flags = [(weight, weight.requires_grad) for weight in module.parameters()]
    module.eval().requires_grad_(False)
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
        for weight, flag in flags:
            weight.requires_grad_(flag)


def unwrapped(network: nn.Module) -> nn.Module:
    """The network inside what torch.compile and the data-parallel wrappers put around it."""
    while True:
        inside = getattr(network, "_orig_mod", None)
        if inside is None and isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inside = network.module
        if not isinstance(inside, nn.Module):
            return network
        network = inside


def outline(modules: dict[str, nn.Module]) -> list[str]:
    """Names of the outer two levels: enough to choose from without listing every convolution."""
    return [name for name in modules if name and name.count(".") <= 1][:40]
