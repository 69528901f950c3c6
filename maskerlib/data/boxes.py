"""Boxes: around a mask, their size, how well two agree, and what they cover.

A box is x0, y0, x1, y1 in pixels, half-open: it covers columns x0 ... x1 - 1 and rows y0 ... y1 - 1, so its width is x1 - x0
and the box of the whole image is 0, 0, W, H. The empty box is 0, 0, 0, 0: area 0, and IoU 0 with everything, itself included.

A ground-truth box may reach beyond the image, where an annotator guessed at what the frame cuts off, or where the image was
cropped afterwards. No mask can show that part, so the metrics clip to the image first (`clip_boxes`).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["box_area", "box_coverage", "box_iou", "clip_boxes", "component_boxes", "mask_box", "pad_boxes"]


def component_boxes(binary: Tensor) -> Tensor:
    """The smallest box around all True pixels of each set (B, 1, H, W) bool: (B, 4) float32, empty where there are none.

    >>> component_boxes(torch.eye(3).bool()[None, None]).tolist()
    [[0.0, 0.0, 3.0, 3.0]]
    """
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


def mask_box(mask: Tensor) -> Tensor:
    """The smallest box around the True pixels of one mask (H, W) bool: (1, 4) float32, or (0, 4) where there are none.

    >>> mask_box(torch.tensor([[False, True, True], [False, False, False]])).tolist()
    [[1.0, 0.0, 3.0, 1.0]]
    """
    box = component_boxes(mask[None, None])
    return box[box_area(box) > 0]


def box_area(boxes: Tensor) -> Tensor:
    """Pixels covered by each box: (..., 4) -> (...); 0 for the empty box and for sides of negative length."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(dim=-1)


def box_iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of boxes, in [0, 1]: shapes (..., 4) and (..., 4), broadcast, -> (...).

    All pairs of (N, 4) and (M, 4) are `box_iou(first[:, None], second)`. 0 where either box is empty.

    >>> box_iou(torch.tensor([0, 0, 2, 2]), torch.tensor([[0, 0, 2, 2], [1, 0, 3, 2], [2, 0, 4, 2]])).tolist()
    [1.0, 0.3333333432674408, 0.0]
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


def box_coverage(boxes: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """How much of each row and column a box covers, in [0, 1]: boxes (..., 4), size (H, W) -> rows (..., H), columns (..., W).

    The box as an image is the outer product rows[..., :, None] * columns[..., None, :], with fractions at
    edges that lie between pixels (annotations that were resized have such edges). Its sum is the area of the
    box inside the image.

    >>> rows, columns = box_coverage(torch.tensor([0.5, 1.0, 2.0, 3.0]), (3, 4))
    >>> rows.tolist(), columns.tolist()
    ([0.0, 1.0, 1.0], [0.5, 1.0, 0.0, 0.0])
    """
    covered = []
    for axis, length in ((1, size[0]), (0, size[1])):
        begin = torch.arange(length, device=boxes.device, dtype=boxes.dtype)
        low, high = boxes[..., axis, None], boxes[..., axis + 2, None]
        covered.append((torch.minimum(high, begin + 1) - torch.maximum(low, begin)).clamp(0, 1))
    return covered[0], covered[1]
