"""A step on the batch of all processes: batch norm and dropout as in one, gradients and numbers added up once.

Batch norm works on CPUs (gloo) as well as on GPUs (NCCL); `nn.SyncBatchNorm` refuses CPUs.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maskerlib.running.distributed import add_up, summed, world
from maskerlib.running.precision import single
from maskerlib.running.seeds import for_each

__all__ = ["WholeBatchNorm2d", "WholeDropout", "add_up_step", "whole_batch"]


class WholeBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose mean and variance, in training mode, are those of the images of all processes together.

    The shares may be unequal. Gradients flow through the moments as in one process: what an image does to them concerns the
    losses of all. On one process, and in eval mode, it is `nn.BatchNorm2d`.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W), normalised; B is this process's share, of one image or more."""
        if world() == 1 or not self.training:
            return super().forward(input)
        values = single(input)
        count = values.new_tensor([values.numel() / self.num_features])
        totals = summed(torch.cat([values.sum(dim=(0, 2, 3)), count]))
        count = totals[-1].detach()
        mean = totals[:-1] / count
        centred = values - _maps(mean)
        variance = summed(centred.square().sum(dim=(0, 2, 3))) / count
        self._remember(mean.detach(), (variance * count / (count - 1).clamp(min=1)).detach())
        normed = centred * _maps((variance + self.eps).rsqrt())
        if self.affine:
            normed = normed * _maps(self.weight) + _maps(self.bias)
        return normed.to(input.dtype)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        rate = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.mul_(1 - rate).add_(mean.to(self.running_mean), alpha=rate)
        self.running_var.mul_(1 - rate).add_(variance.to(self.running_var), alpha=rate)


def _maps(channels: Tensor) -> Tensor:
    return channels[:, None, None]


class WholeDropout(nn.Dropout):
    """`nn.Dropout` whose coins for an image follow from its position in the batch of all processes.

    Within `maskerlib.running.seeds.part_of_batch`, as every step of `maskerlib.training.loop` is. On one process it is
    `nn.Dropout`.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(B, ...), some values 0 and the others larger."""
        if world() == 1 or not self.training:
            return super().forward(input)
        return input * for_each(lambda like: F.dropout(torch.ones_like(like), self.p), input.detach())


_WHOLE: dict[type[nn.Module], type[nn.Module]] = {nn.BatchNorm2d: WholeBatchNorm2d, nn.Dropout: WholeDropout}


@contextlib.contextmanager
def whole_batch(module: nn.Module) -> Iterator[None]:
    """Within it, every `nn.BatchNorm2d` and `nn.Dropout` in `module` is that of the whole batch; weights and names stay.

    Whatever else draws in a network (stochastic depth) draws the same for the shares of all processes, and not what one process
    would have drawn.
    """
    parts = [(part, type(part)) for part in module.modules() if type(part) in _WHOLE]
    for part, kind in parts:
        part.__class__ = _WHOLE[kind]
    try:
        yield
    finally:
        for part, kind in parts:
            part.__class__ = kind


def add_up_step(
    optimisers: Sequence[torch.optim.Optimizer], numbers: Mapping[str, Tensor], more: Sequence[Tensor | None] = ()
) -> None:
    """Add up what the processes computed for a step, in one all-reduce: gradients of what learns, its numbers, and `more`.

    Each process has computed what its share adds to the means over the batch. None, where there is no gradient, stays None; it is
    so on all of them.
    """
    weights = [weight for optimiser in optimisers for group in optimiser.param_groups for weight in group["params"]]
    gradients = [*(weight.grad for weight in weights), *more]
    add_up([*(gradient for gradient in gradients if gradient is not None), *numbers.values()])
