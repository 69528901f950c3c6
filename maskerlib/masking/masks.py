"""What a mask is: logits on a coarse grid, made a mask, blended with an image, and measured.

A mask m has shape (B, 1, H, W) and values in [0, 1], high where the image is needed. It is always made the same way,
whoever draws it: logits on a coarse grid, upsampled to the image, and a sigmoid. Equation 1 of Phang et al. optimises
such logits for one image; equation 2 lets a masker network compute them.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from maskerlib.running.checks import check_value, one_of

__all__ = ["area", "check_masks", "mask_from_logits", "masked_in", "masked_out", "stretched", "total_variation"]


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
    either and rounds off what is narrower than two cells, which suits one mask per image. Raises ValueError for logits of
    another shape and for an upsampling that is none of these.

    >>> mask_from_logits(torch.tensor([[[[0.0, 9.0]]]]), (1, 4))
    tensor([[[[0.5000, 0.5000, 0.9999, 0.9999]]]])
    """
    if logits.dim() != 4 or logits.shape[1] != 1:
        raise ValueError(f"mask logits have shape {tuple(logits.shape)}, expected (B, 1, h, w)")
    check_value("upsampling", upsampling, one_of(("nearest", "bilinear", "smooth")))
    if upsampling == "smooth":
        rows, columns = (
            _spline(cells, pixels).to(logits) for cells, pixels in zip(logits.shape[-2:], size, strict=True)
        )
        return (rows @ logits @ columns.T).sigmoid()
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
    """The image seen through the mask, m x + (1 - m) z: only what the mask keeps (B, 3, H, W).

    images x (B, 3, H, W) in [0, 1]; masks m (B, 1, H, W) in [0, 1]; hidden z (B, 3, H, W) or one colour (1, 3, 1, 1).

    >>> white, grey = torch.ones(1, 3, 1, 2), torch.full((1, 3, 1, 1), 0.5)
    >>> masked_in(white, torch.tensor([[[[1.0, 0.0]]]]), grey)[0, 0]
    tensor([[1.0000, 0.5000]])
    """
    return hidden + masks * (images - hidden)


def masked_out(images: Tensor, masks: Tensor, hidden: Tensor) -> Tensor:
    """The image with the mask removed, (1 - m) x + m z: all but what the mask keeps (B, 3, H, W). Arguments of `masked_in`."""
    return images + masks * (hidden - images)


def stretched(maps: Tensor) -> Tensor:
    """Maps (B, 1, H, W) of any scale, each stretched to reach 0 and 1; a constant one becomes 0.

    >>> stretched(torch.tensor([[[[-1.0, 1.0, 3.0]]], [[[7.0, 7.0, 7.0]]]])).flatten(1).tolist()
    [[0.0, 0.5, 1.0], [0.0, 0.0, 0.0]]
    """
    low, high = maps.amin(dim=(1, 2, 3), keepdim=True), maps.amax(dim=(1, 2, 3), keepdim=True)
    return (maps - low) / (high - low).where(high > low, 1)


def area(masks: Tensor) -> Tensor:
    """a, the mean of each mask over its pixels: (B,), a share of the image in [0, 1].

    >>> area(torch.tensor([[[[1.0, 0.0], [0.5, 0.5]]]]))
    tensor([0.5000])
    """
    return masks.mean(dim=(1, 2, 3))


def total_variation(masks: Tensor, *, power: float = 2.0, border: float = 0.3) -> Tensor:
    """Squared differences of neighbours plus 0.3 times the squared border values: (B,), 0 for an empty mask, lower = smoother.

    `power` replaces the square: 1 counts edges by their height, and the higher it is the more a gentle slope is preferred to
    a step. `border` replaces the 0.3.

    The sum is taken in units of a 224-pixel image: horizontal differences are weighted by 224 / H, vertical ones by
    224 / W, and the borders like the edges that they are. A mask therefore costs the same on a grid of 48 cells, on the
    96 pixels that these cells cover and on 224, and the sum equals the release's at 224 (times the 1/2 that belongs to
    its weight). Source: Fong & Vedaldi (2017) for the term, the code release of Phang et al. for the border.
    """
    height, width = masks.shape[-2:]
    edges = masks.diff(dim=2), masks.diff(dim=3), masks[:, :, [0, -1], :], masks[:, :, :, [0, -1]]
    vertical, horizontal, rows, columns = (
        (part.square() if power == 2 else part.abs() ** power).sum(dim=(1, 2, 3)) for part in edges
    )
    return (224 / width) * (vertical + border * rows) + (224 / height) * (horizontal + border * columns)
