"""The ground truth as a map: the upper bound of every metric, and no method."""

from collections.abc import Sequence

import torch
from torch import Tensor

from maskerlib.data.boxes import box_coverage, pad_boxes

__all__ = ["truth_map"]


def truth_map(masks: Tensor | None, boxes: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """The ground truth as a map (B, 1, H, W): the pixel masks (B, H, W), or if None the union of the boxes.

    An edge between two pixels covers its pixel in part. An image without mask and boxes has an empty map.

    >>> truth_map(None, [torch.tensor([[0.5, 0.0, 2.0, 1.0]])], (2, 3)).tolist()
    [[[[0.5, 1.0, 0.0], [0.0, 0.0, 0.0]]]]
    """
    if masks is not None:
        return masks[:, None].float()
    padded, _ = pad_boxes(boxes, boxes[0].device if boxes else None)
    rows, columns = box_coverage(padded, size)
    return torch.einsum("bkh,bkw->bkhw", rows, columns).amax(dim=1, keepdim=True)
