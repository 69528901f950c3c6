"""Random resized crops and flips of a whole batch on its device, drawn from a given stream."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["random_crop_flip"]


def random_crop_flip(
    images: Tensor, generator: torch.Generator, *, scale: tuple[float, float] = (0.5, 1.0), ratio: float = 4 / 3
) -> Tensor:
    """A crop of random area and shape, resized back, and a flip in half of the cases, for each image of (B, 3, H, W).

    Args:
        generator: a CPU generator; the same generator gives the same crops on every device.
        scale: smallest and largest area of the crop, as shares of the image; (1, 1) leaves only the flip. The study
            uses (0.08, 1) on ImageNet, where objects fill the image.
        ratio: largest stretch of the sides, width to height or height to width.
    """
    if not 0 < scale[0] <= scale[1] <= 1:
        raise ValueError(f"crop scale {scale} must satisfy 0 < smallest <= largest <= 1")
    count = len(images)
    draws = torch.rand(5, count, generator=generator)
    share = scale[0] + (scale[1] - scale[0]) * draws[0]
    stretch = torch.exp((2 * draws[1] - 1) * math.log(ratio)).clamp(share, 1 / share).sqrt()
    width, height = share.sqrt() * stretch, share.sqrt() / stretch
    flip = torch.where(draws[4] < 0.5, -1.0, 1.0)
    zero = torch.zeros(count)
    left = (2 * draws[2] - 1) * (1 - width)
    top = (2 * draws[3] - 1) * (1 - height)
    theta = torch.stack([width * flip, zero, left, zero, height, top], dim=1).view(count, 2, 3)
    grid = F.affine_grid(theta.to(images), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
