"""Smooth max-convolution (Fong, Patrick and Vedaldi, 2019): m(u) = smooth max over cells i of k(|u - u_i| / sigma) v_i.

An ordinary convolution makes a mask smooth and lowers it as well: a small one never reaches 1. A maximum in place of the sum
keeps what is 1 at 1. The kernel is k(z) = exp(-2 max(z - 1/2, 0)^2), flat at its top, and the smooth maximum of numbers w_i is
their mean with the weights exp(20 w_i): soft, so that every cell that matters has a gradient.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["MaxConvolution"]

COLDNESS = 20.0
"""The larger, the nearer the smooth maximum is to the maximum."""


class MaxConvolution:
    """Values of cells (N, 1, h, w) in [0, 1] -> masks (N, 1, H, W) in [0, 1], with a gradient.

    Args:
        cells: (h, w), whose centres are spread evenly over the image.
        size: (H, W).
        sigma: of the kernel, in cells along the shorter side.
        like: a tensor whose device and type the masks have.

    The maximum at a pixel is over a square of cells, ceil(sigma) + 1 to each side of its own. Beyond the image the outermost
    cells repeat, so that where all values are equal no pixel is above others for lying at the border. The weights are computed
    once. Of the products of weights and values the gradient needs the exponentials, which are dearer to compute than to keep: a
    mask takes one number for each pixel and cell of its square until then.

    >>> convolve = MaxConvolution((1, 3), (1, 3), sigma=1.0, like=torch.zeros(1))
    >>> convolve(torch.tensor([[[[0.0, 0.0, 1.0]]]])).round(decimals=2)
    tensor([[[[0.0000, 0.6100, 1.0000]]]])
    """

    def __init__(self, cells: tuple[int, int], size: tuple[int, int], *, sigma: float, like: Tensor) -> None:
        self._size = size
        scale = sigma * min(size) / min(cells)
        own, away, place, most = [], [], [], []
        for number, pixels in zip(cells, size, strict=True):
            pitch = pixels / number
            reach = math.ceil(round(scale / pitch, 6)) + 1
            at = torch.arange(pixels, dtype=torch.float64) + 0.5
            cell = (at / pitch).floor()
            own.append(cell.long())
            away.append(at - (cell + torch.arange(-reach, reach + 1)[:, None] + 0.5) * pitch)
            place.append(torch.arange(pixels) - torch.searchsorted(cell, cell))
            most.append(int(place[-1].max()) + 1)
        # Pixels lie as (place in their cell, cell): a value then meets all pixels of its cell at once, and long rows are added.
        (row, column), (down, across) = place, own
        slot = row[:, None] * most[1] + column
        self._index = ((slot * cells[0] + down[:, None]) * cells[1] + across).flatten().to(like.device)
        self._shape = (most[0] * most[1], *cells)
        distance = (away[0][:, None, :, None] ** 2 + away[1][None, :, None, :] ** 2).sqrt() / scale
        weights = torch.exp(-2 * (distance - 0.5).clamp(min=0) ** 2).to(like)
        # c k for each cell of the square, (places, 1, h, w): what is added up is c w.
        self._weights = [[COLDNESS * self._laid_out(one.flatten()[None]) for one in line] for line in weights]

    def __call__(self, values: Tensor) -> Tensor:
        down, across = len(self._weights) // 2, len(self._weights[0]) // 2
        masks: Tensor = _SmoothMax.apply(F.pad(values, (across, across, down, down), mode="replicate"), self)
        return masks

    def _laid_out(self, pixels: Tensor) -> Tensor:
        """(N, H * W) -> (places, N, h, w); 0 where a cell has fewer pixels than others."""
        places, h, w = self._shape
        laid = pixels.new_zeros(len(pixels), places * h * w)
        laid[:, self._index] = pixels
        return laid.view(-1, places, h, w).transpose(0, 1).contiguous()

    def _pixels(self, laid: Tensor) -> Tensor:
        """The inverse: (places, N, h, w) -> (N, 1, H, W)."""
        return laid.transpose(0, 1).flatten(1)[:, self._index].view(-1, 1, *self._size)

    def _products(self, padded: Tensor) -> Iterator[tuple[int, int, Tensor, Tensor]]:
        """For one cell of the square after another: its place, c k, and c w at every pixel, (places, N, h, w).

        The last is the same tensor every time, to be used up before the next is asked for.
        """
        places, h, w = self._shape
        product = padded.new_empty(places, len(padded), h, w)
        for i, line in enumerate(self._weights):
            for j, weights in enumerate(line):
                yield i, j, weights, torch.mul(padded[:, 0, i : i + h, j : j + w], weights, out=product)


class _SmoothMax(torch.autograd.Function):
    """m = sum_i w_i exp(c w_i) / sum_i exp(c w_i), w_i the value of a cell times its weight; the sums run cell by cell."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, grid: MaxConvolution) -> Tensor:
        places, h, w = grid._shape
        above, below = (padded.new_zeros(places, len(padded), h, w) for _ in range(2))
        powers = []
        for _, _, _, product in grid._products(padded):
            powers.append(product.exp())
            below += powers[-1]
            above.addcmul_(product, powers[-1])
        mean = above.div_(below)
        ctx.save_for_backward(padded, mean, below, *powers)
        ctx.grid = grid
        return grid._pixels(mean / COLDNESS)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        padded, mean, below, *powers = ctx.saved_tensors
        grid = ctx.grid
        _, h, w = grid._shape
        total = torch.zeros_like(padded)
        share, less = grid._laid_out(gradients[0].flatten(1)) / (COLDNESS * below), mean - 1
        for (i, j, weights, product), power in zip(grid._products(padded), powers, strict=True):
            # dm / dw_i = exp(c w_i) (1 + c w_i - c m) / sum, and dw_i / dv_i = k
            slope = product.sub_(less).mul_(power).mul_(share).mul_(weights)
            total[:, 0, i : i + h, j : j + w] += slope.sum(dim=0)
        return total, None
