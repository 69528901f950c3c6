"""From a mask to a box: binarise, keep the largest component, draw its box.

A mask is (B, 1, H, W) in [0, 1], high = salient; boxes are half-open (`maskerlib.data.boxes`). The box that LE, OM and SM use
(Phang et al. 2020, after Dabkowski & Gal 2017) is
`predicted_boxes(masks) = component_boxes(largest_component(binarise(masks)))`.
"""

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from maskerlib.data.boxes import box_iou, component_boxes, pad_boxes
from maskerlib.masking.masks import check_masks

__all__ = ["best_iou", "binarise", "largest_component", "predicted_boxes"]


# Neighbours for ndimage.label on a stack (B, H, W): left, right, up, down, never the next image of the stack.
_CROSS = np.stack([np.zeros((3, 3), bool), ndimage.generate_binary_structure(2, 1), np.zeros((3, 3), bool)])


def binarise(masks: Tensor, threshold: float | None = None) -> Tensor:
    """(B, 1, H, W) bool: the pixels strictly above the threshold.

    threshold: one number in [0, 1] for all masks, or None for each mask's own mean, where nothing is shared
        between images. A constant mask, whatever its value, has no pixel above its mean: the empty set.

    >>> binarise(torch.tensor([[[[0.0, 0.2, 0.7]]]])).tolist()
    [[[[False, False, True]]]]
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

    >>> largest_component(torch.tensor([[[[True, False, True, True]]]])).tolist()
    [[[[False, False, True, True]]]]
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


def predicted_boxes(masks: Tensor, threshold: float | None = None) -> Tensor:
    """(B, 4) float32: box of the largest component of each mask (B, 1, H, W). `threshold`: see `binarise`.

    >>> predicted_boxes(torch.tensor([[[[0.9, 0.0, 0.8, 0.7], [0.0, 0.0, 0.0, 0.6]]]]))
    tensor([[2., 0., 4., 2.]])
    """
    return component_boxes(largest_component(binarise(masks, threshold)))


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
