"""Batch norm over the batch of all processes, on CPUs (gloo) as well as on GPUs (NCCL); `nn.SyncBatchNorm` refuses CPUs."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from maskerlib.running.distributed import summed, world
from maskerlib.running.precision import single

__all__ = ["WholeBatchNorm2d", "whole_batch_norm"]


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


@contextlib.contextmanager
def whole_batch_norm(module: nn.Module) -> Iterator[None]:
    """Within it, every `nn.BatchNorm2d` in `module` is a `WholeBatchNorm2d`, with the same weights, statistics and names."""
    norms = [part for part in module.modules() if type(part) is nn.BatchNorm2d]
    for norm in norms:
        norm.__class__ = WholeBatchNorm2d
    try:
        yield
    finally:
        for norm in norms:
            norm.__class__ = nn.BatchNorm2d
