"""Random resized crops and flips: drawn from a given stream, applied to a batch on its device or to an image's own pixels.

What is drawn is relative (`Crops`), so the same draws serve images of any size: `apply_crops` resamples a batch that is
already of one size, `Crops.window` says which pixels of a file they mean.
"""

import math
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from maskerlib.running.checks import above, check_value, rising

__all__ = ["Crops", "apply_crops", "draw_crops", "random_crop_flip"]


@dataclass(frozen=True)
class Crops:
    """The draws of B random crops, without units. CPU tensors, so that they are the same on every device.

    scale: the bounds between which shares were drawn.
    share: (B,) float32, area of the crop as a share of the image's.
    aspect: (B,) float32, width to height.
    across, down: (B,) float32 in [0, 1), where the crop lies: 0 at the left or top edge, 1 at the right or bottom.
    flip: (B,) bool, whether left and right are exchanged.
    """

    scale: tuple[float, float]
    share: Tensor
    aspect: Tensor
    across: Tensor
    down: Tensor
    flip: Tensor

    def __len__(self) -> int:
        return len(self.share)

    def part(self, rows: slice) -> Self:
        """The crops at `rows`: those of a part of the batch."""
        drawn = {name: getattr(self, name)[rows] for name in ("share", "aspect", "across", "down", "flip")}
        return replace(self, **drawn)

    def window(self, index: int, height: int, width: int) -> tuple[int, int, int, int] | None:
        """The pixels (x0, y0, x1, y1), half-open, that crop `index` cuts from an image of `height` x `width` pixels.

        The aspect is one of pixels. Where no crop of the drawn aspect has the largest share, shares are spread evenly over
        those that fit; where none fits, the largest crop of that aspect is taken. (torchvision's `RandomResizedCrop`, which
        the study used, draws again instead.) None for scale (1, 1), which means no crop.
        """
        smallest, largest = self.scale
        if smallest == 1:
            return None
        aspect = float(self.aspect[index])
        fitting = min(width / (height * aspect), height * aspect / width)
        share = float(self.share[index])
        if fitting <= smallest:
            share = fitting
        elif fitting < largest:
            share = smallest + (share - smallest) / (largest - smallest) * (fitting - smallest)
        area = share * height * width
        columns = min(max(round(math.sqrt(area * aspect)), 1), width)
        rows = min(max(round(math.sqrt(area / aspect)), 1), height)
        left = min(int(float(self.across[index]) * (width - columns + 1)), width - columns)
        top = min(int(float(self.down[index]) * (height - rows + 1)), height - rows)
        return left, top, left + columns, top + rows


def draw_crops(
    count: int, generator: torch.Generator, *, scale: tuple[float, float] = (0.5, 1.0), ratio: float = 4 / 3
) -> Crops:
    """Crops and flips for `count` images.

    Args:
        generator: a CPU generator; five numbers are drawn from it for each image.
        scale: smallest and largest area of the crop, as shares of the image; (1, 1) leaves only the flip. The study
            uses (0.08, 1) on ImageNet, where objects fill the image.
        ratio: largest stretch of the sides, width to height or height to width.

    ValueError when `scale` is no pair of shares or `ratio` is below 1.

    >>> crops = draw_crops(2, torch.Generator().manual_seed(0), scale=(0.25, 0.25), ratio=1)
    >>> [x1 - x0 for x0, y0, x1, y1 in (crops.window(index, 80, 80) for index in range(2))]
    [40, 40]
    """
    check_value("scale", scale, rising())
    check_value("ratio", ratio, above(1, included=True))
    smallest, largest = map(float, scale)
    draws = torch.rand(5, count, generator=generator)
    share = smallest + (largest - smallest) * draws[0]
    aspect = torch.exp((2 * draws[1] - 1) * math.log(ratio))
    return Crops((smallest, largest), share, aspect, draws[2], draws[3], draws[4] < 0.5)


def apply_crops(images: Tensor, crops: Crops) -> Tensor:
    """`crops` of images (B, C, H, W), resized back to H x W and flipped. ValueError when there is not one for each.

    Aspects are relative to the image, bounded so that every crop keeps its share.
    """
    count = len(images)
    if len(crops) != count:
        raise ValueError(f"{len(crops)} crops for {count} images: draw as many as there are images")
    share = crops.share
    stretch = crops.aspect.clamp(share, 1 / share).sqrt()
    width, height = share.sqrt() * stretch, share.sqrt() / stretch
    flip = torch.where(crops.flip, -1.0, 1.0)
    zero = torch.zeros(count)
    left = (2 * crops.across - 1) * (1 - width)
    top = (2 * crops.down - 1) * (1 - height)
    theta = torch.stack([width * flip, zero, left, zero, height, top], dim=1).view(count, 2, 3)
    grid = F.affine_grid(theta.to(images), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def random_crop_flip(
    images: Tensor, generator: torch.Generator, *, scale: tuple[float, float] = (0.5, 1.0), ratio: float = 4 / 3
) -> Tensor:
    """A crop of random area and shape, resized back, and a flip in half of the cases, for each image of (B, C, H, W).

    `draw_crops` says what the arguments mean; the same generator gives the same crops on every device.
    """
    return apply_crops(images, draw_crops(len(images), generator, scale=scale, ratio=ratio))
