"""What a mask is: logits on a coarse grid, made a mask, blended with an image, and measured.

A mask m has shape (B, 1, H, W) and values in [0, 1], high where the image is needed. It is always made the same way,
whoever draws it: logits on a coarse grid, upsampled to the image, and a sigmoid. Equation 1 of Phang et al. optimises
such logits for one image; equation 2 lets a masker network compute them.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["area", "check_masks", "mask_from_logits", "masked_in", "masked_out", "total_variation"]


def check_masks(masks: Tensor, name: str = "masks") -> None:
    """ValueError, beginning with `name`, unless `masks` is (B, 1, H, W), B >= 1, with values in [0, 1].

    Up to 1e-3 outside counts as rounding and passes. NaN and infinity do not.
    """
    if masks.dim() != 4 or masks.shape[1] != 1 or not masks.numel() or not masks.is_floating_point():
        found = f"{masks.dtype} {tuple(masks.shape)}"
        raise ValueError(f"{name}: {found}, expected floats (B, 1, H, W); convert or reshape the maps")
    low, high = (float(end) for end in masks.detach().aminmax())
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # false for NaN, which aminmax hands on
        found = f"values from {low:.4g} to {high:.4g}" if low - low == 0 == high - high else "NaN or infinity"
        raise ValueError(f"{name}: {found}, expected values in [0, 1]; normalise or mend the maps")


def mask_from_logits(logits: Tensor, size: tuple[int, int], *, upsampling: str = "nearest") -> Tensor:
    """The mask (B, 1, H, W) of logits (B, 1, h, w): upsampled to `size`, then a sigmoid.

    The study uses "nearest" for trained maskers; "bilinear" has no steps; "smooth", a cubic B-spline, has no kinks
    either and rounds off what is narrower than two cells, which suits one mask per image.
    """
    if logits.dim() != 4 or logits.shape[1] != 1:
        raise ValueError(f"mask logits have shape {tuple(logits.shape)}, expected (B, 1, h, w)")
    if upsampling == "smooth":
        rows, columns = (
            _spline(cells, pixels).to(logits) for cells, pixels in zip(logits.shape[-2:], size, strict=True)
        )
        return (rows @ logits @ columns.T).sigmoid()
    if upsampling not in ("nearest", "bilinear"):
        raise ValueError(f"upsampling {upsampling!r} is unknown; choose nearest, bilinear or smooth")
    options = {"align_corners": False} if upsampling == "bilinear" else {}
    return F.interpolate(logits, size=size, mode=upsampling, **options).sigmoid()


def _spline(cells: int, pixels: int) -> Tensor:
    """(pixels, cells): the weight of each cell's cubic B-spline at each pixel's centre; cells repeat beyond the edge."""
    at = (torch.arange(pixels) + 0.5) * cells / pixels - 0.5
    away = (at[:, None] - torch.arange(-2, cells + 2)).abs()
    weights = torch.where(away < 1, 2 / 3 - away**2 + away**3 / 2, (2 - away).clamp(min=0) ** 3 / 6)
    inside = weights[:, 2:-2].clone()
    inside[:, 0] += weights[:, :2].sum(dim=1)
    inside[:, -1] += weights[:, -2:].sum(dim=1)
    return inside


def masked_in(images: Tensor, masks: Tensor, hidden: Tensor) -> Tensor:
    """The image seen through the mask, m x + (1 - m) z: only what the mask keeps (B, 3, H, W)."""
    return hidden + masks * (images - hidden)


def masked_out(images: Tensor, masks: Tensor, hidden: Tensor) -> Tensor:
    """The image with the mask removed, (1 - m) x + m z: all but what the mask keeps (B, 3, H, W)."""
    return images + masks * (hidden - images)


def area(masks: Tensor) -> Tensor:
    """a, the mean of each mask over its pixels: (B,), a share of the image in [0, 1]."""
    return masks.mean(dim=(1, 2, 3))


def total_variation(masks: Tensor) -> Tensor:
    """Squared differences of neighbours plus 0.3 times the squared border values: (B,), 0 for an empty mask, lower = smoother.

    The sum is taken in units of a 224-pixel image: horizontal differences are weighted by 224 / H, vertical ones by
    224 / W, and the borders like the edges that they are. A mask therefore costs the same on a grid of 48 cells, on the
    96 pixels that these cells cover and on 224, and the sum equals the release's at 224 (times the 1/2 that belongs to
    its weight). Source: Fong & Vedaldi (2017) for the term, the code release of Phang et al. for the border.
    """
    height, width = masks.shape[-2:]
    vertical = masks.diff(dim=2).square().sum(dim=(1, 2, 3))
    horizontal = masks.diff(dim=3).square().sum(dim=(1, 2, 3))
    rows = masks[:, :, [0, -1], :].square().sum(dim=(1, 2, 3))
    columns = masks[:, :, :, [0, -1]].square().sum(dim=(1, 2, 3))
    return (224 / width) * (vertical + 0.3 * rows) + (224 / height) * (horizontal + 0.3 * columns)
