"""From a mask to a box: binarise, keep the largest component, draw its box; and how well two boxes agree.

Conventions, everywhere in this library. A mask is (B, 1, H, W) in [0, 1], high = salient. A box is x0, y0,
x1, y1 in pixels, half-open: it covers columns x0 ... x1 - 1 and rows y0 ... y1 - 1, so its width is x1 - x0
and the box of the whole image is 0, 0, W, H. The empty box is 0, 0, 0, 0: area 0, and IoU 0 with everything,
itself included.

A ground-truth box may reach beyond the image, where an annotator guessed at what the frame cuts off, or where the image was
cropped afterwards. No mask can show that part, so the metrics clip to the image first (`clip_boxes`).

The box that LE, OM and SM use (Phang et al. 2020, after Dabkowski & Gal 2017) is
`predicted_boxes(masks) = component_boxes(largest_component(binarise(masks)))`.
"""

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

__all__ = [
    "best_iou",
    "binarise",
    "box_area",
    "box_coverage",
    "box_iou",
    "check_masks",
    "clip_boxes",
    "component_boxes",
    "largest_component",
    "pad_boxes",
    "predicted_boxes",
]

# Neighbours for ndimage.label on a stack (B, H, W): left, right, up, down, never the next image of the stack.
_CROSS = np.stack([np.zeros((3, 3), bool), ndimage.generate_binary_structure(2, 1), np.zeros((3, 3), bool)])


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


def binarise(masks: Tensor, threshold: float | None = None) -> Tensor:
    """(B, 1, H, W) bool: the pixels strictly above the threshold.

    threshold: one number in [0, 1] for all masks, or None for each mask's own mean, where nothing is shared
        between images. A constant mask, whatever its value, has no pixel above its mean: the empty set.
    """
    check_masks(masks)
    if threshold is not None:
        return masks > threshold
    # The mean of a constant mask may be rounded to just below its value: never go below the least value.
    level = torch.maximum(masks.mean(dim=(1, 2, 3), keepdim=True), masks.amin(dim=(1, 2, 3), keepdim=True))
    return masks > level


def largest_component(binary: Tensor) -> Tensor:
    """(B, 1, H, W) bool: of each image's set, the 4-connected component with the most pixels.

    Diagonal neighbours are not connected. Of components of equal size the one that comes first row by row is
    kept. An empty set stays empty.
    """
    if binary.dim() != 4 or binary.shape[1] != 1 or binary.dtype != torch.bool:
        raise ValueError(f"a set is {binary.dtype} {tuple(binary.shape)}, expected torch.bool (B, 1, H, W)")
    batch, _, height, width = binary.shape
    labels, count = ndimage.label(binary[:, 0].cpu().numpy(), structure=_CROSS)
    if not count:
        return torch.zeros_like(binary)
    area = np.bincount(labels.ravel(), minlength=count + 1)
    # Labels are numbered in raster order, so those of one image follow those of the image before it.
    last = np.maximum.accumulate(labels.reshape(batch, -1).max(axis=1))
    largest = np.full(batch, -1)
    for image, (begin, end) in enumerate(zip(np.append(0, last[:-1]) + 1, last + 1, strict=True)):
        if end > begin:
            largest[image] = begin + area[begin:end].argmax()
    kept = labels == largest[:, None, None]
    return torch.from_numpy(kept).view(batch, 1, height, width).to(binary.device)


def component_boxes(binary: Tensor) -> Tensor:
    """(B, 4) float32: the smallest box around all pixels of each set (B, 1, H, W) bool; empty if none."""
    height, width = binary.shape[-2:]
    x0, x1 = _ends(binary.any(dim=2)[:, 0], width)
    y0, y1 = _ends(binary.any(dim=3)[:, 0], height)
    return torch.stack([x0, y0, x1, y1], dim=1).float()


def _ends(line: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """First index that is True, and one past the last; 0, 0 where none is. line: (B, length) bool."""
    step = torch.arange(length, device=line.device)
    first = torch.where(line, step, length).amin(dim=1)
    past = torch.where(line, step + 1, 0).amax(dim=1)
    return torch.where(past > 0, first, 0), past


def predicted_boxes(masks: Tensor, threshold: float | None = None) -> Tensor:
    """(B, 4) float32: box of the largest component of each mask (B, 1, H, W). `threshold`: see `binarise`."""
    return component_boxes(largest_component(binarise(masks, threshold)))


def box_area(boxes: Tensor) -> Tensor:
    """Pixels covered by each box: (..., 4) -> (...); 0 for the empty box and for sides of negative length."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(dim=-1)


def box_iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of boxes, in [0, 1]: shapes (..., 4) and (..., 4), broadcast, -> (...).

    All pairs of (N, 4) and (M, 4) are `box_iou(first[:, None], second)`. 0 where either box is empty.
    """
    corner = torch.maximum(first[..., :2], second[..., :2])
    opposite = torch.minimum(first[..., 2:], second[..., 2:])
    shared = box_area(torch.cat([corner, opposite], dim=-1))
    union = box_area(first) + box_area(second) - shared
    return torch.where(union > 0, shared / union.where(union > 0, 1), 0)


def clip_boxes(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """The part of each box that lies in an image of `size` (H, W): (..., 4) -> (..., 4); no area where nothing does."""
    height, width = size
    ends = torch.tensor([width, height, width, height]).to(boxes)
    return torch.minimum(boxes.clamp(min=0), ends)


def pad_boxes(
    boxes: Sequence[Tensor], device: torch.device | str | None = None, *, size: tuple[int, int] | None = None
) -> tuple[Tensor, Tensor]:
    """Boxes of B images, (K_i, 4) each, as one tensor (B, K, 4), filled up with empty boxes.

    Args:
        size: (H, W) of the images. Boxes are then clipped to them, and a box of which nothing lies inside is left out.

    Returns it and which boxes are real, (B, K) bool. K is the largest K_i, at least 1. Raises ValueError
    where a tensor is not (K_i, 4), or a box has x1 < x0, y1 < y0 or NaN.
    """
    for index, own in enumerate(boxes):
        if own.dim() != 2 or own.shape[1] != 4:
            raise ValueError(f"boxes of image {index} are {tuple(own.shape)}, expected (K, 4), x0 y0 x1 y1")
    counts = [len(own) for own in boxes]
    padded = torch.zeros(len(boxes), max(counts, default=0) or 1, 4)
    real = torch.arange(padded.shape[1]) < torch.tensor(counts, dtype=torch.int64)[:, None]
    if any(counts):
        padded[real] = torch.cat(list(boxes)).to("cpu", torch.float32)
    # Written so that NaN is caught too.
    wrong = ~((padded[..., 2:] >= padded[..., :2]).all(dim=-1) & padded.isfinite().all(dim=-1))
    if wrong.any():
        bad = padded[wrong][0].tolist()
        raise ValueError(f"box {bad} is not x0, y0, x1, y1 with x0 <= x1, y0 <= y1; convert it to corners")
    if size is not None:
        inside = clip_boxes(padded, size)
        real &= (box_area(inside) > 0) | (box_area(padded) == 0)
        padded = inside * real[..., None]
    return padded.to(device), real.to(device)


def best_iou(predicted: Tensor, boxes: Sequence[Tensor], *, size: tuple[int, int] | None = None) -> Tensor:
    """IoU of each image's predicted box with the ground-truth box that it fits best.

    Args:
        predicted: (B, 4).  boxes: B tensors (K_i, 4).  size: (H, W) of the images, to which boxes are clipped.

    Returns:
        (B,) in [0, 1]; NaN for an image without ground-truth boxes.
    """
    padded, real = pad_boxes(boxes, predicted.device, size=size)
    best = box_iou(predicted[:, None], padded).amax(dim=1)
    return best.where(real.any(dim=1), torch.nan)


def box_coverage(boxes: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """How much of each row and column a box covers: boxes (..., 4), size (H, W) -> rows (..., H), columns
    (..., W) in [0, 1].

    The box as an image is the outer product rows[..., :, None] * columns[..., None, :], with fractions at
    edges that lie between pixels (annotations that were resized have such edges). Its sum is the area of the
    box inside the image.
    """
    covered = []
    for axis, length in ((1, size[0]), (0, size[1])):
        begin = torch.arange(length, device=boxes.device, dtype=boxes.dtype)
        low, high = boxes[..., axis, None], boxes[..., axis + 2, None]
        covered.append((torch.minimum(high, begin + 1) - torch.maximum(low, begin)).clamp(0, 1))
    return covered[0], covered[1]
