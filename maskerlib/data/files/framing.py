"""The resize that carries boxes and masks along: the whole of an image fitted to a size, or a window cut out of it."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from maskerlib.data.boxes import box_area, clip_boxes
from maskerlib.data.files.images import as_float
from maskerlib.data.indices import as_size

__all__ = ["cut", "fit", "mirror"]

# Scale the whole image and crop afterwards only while the scaled image has at most this many times the wanted pixels.
_SPARE = 8


def fit(
    image: Tensor, size: int | tuple[int, int], *, boxes: Tensor | None = None, mask: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Scale an image until it just covers `size`, crop the centre, and take its boxes and mask along.

    image: (C, H, W) in [0, 1], or uint8 in 0 to 255; size: pixels per side, or (height, width); boxes: (K, 4); mask: (H, W) bool,
    or several (N, H, W).
    Returns the three at the new size, the image as float32. Scaling is bilinear and antialiased; of an image that is much longer
    than wide only the part that the crop shows is scaled. Boxes are clipped to the crop, and dropped when nothing is left.
    (Ground-truth areas must be those inside the crop; the released code of the paper takes them before it.)
    """
    height, width = as_size(size)
    scale = max(height / image.shape[1], width / image.shape[2])
    scaled = (max(height, round(image.shape[1] * scale)), max(width, round(image.shape[2] * scale)))
    corner = ((scaled[0] - height) // 2, (scaled[1] - width) // 2)

    def cover(planes: Tensor) -> Tensor:
        return _scaled_part(planes, scaled, corner, (height, width)).clamp(0, 1).contiguous()

    moved = _moved(boxes, image, scaled, corner, (height, width))
    return cover(as_float(image)), moved, _resized(mask, cover)


def cut(
    image: Tensor,
    window: tuple[int, int, int, int],
    size: int | tuple[int, int],
    *,
    flip: bool = False,
    boxes: Tensor | None = None,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Cut a window out of an image, scale it to `size` whatever its shape, and take boxes and mask along.

    window: x0, y0, x1, y1 in pixels of the image, half-open; flip: exchange left and right afterwards. The rest is as for
    `fit`, but that an image in 8 bit is scaled in 8 bit, in a third of the time, as loaders of training images do.

    ValueError for a window that is empty or reaches outside the image.
    """
    height, width = as_size(size)
    x0, y0, x1, y1 = window
    if not (0 <= x0 < x1 <= image.shape[2] and 0 <= y0 < y1 <= image.shape[1]):
        raise ValueError(f"window {window} of an image {image.shape[2]}x{image.shape[1]}: expected a part of it")
    part = image[:, y0:y1, x0:x1]

    def resize(planes: Tensor) -> Tensor:
        return _scaled_part(planes, (height, width), (0, 0), (height, width)).clamp(0, 1).contiguous()

    if boxes is not None:
        boxes = boxes - boxes.new_tensor([x0, y0, x0, y0])
    boxes = _moved(boxes, part, (height, width), (0, 0), (height, width))
    mask = _resized(None if mask is None else mask[..., y0:y1, x0:x1], resize)
    if image.dtype == torch.uint8:
        scaled = F.interpolate(part[None], (height, width), mode="bilinear", antialias=True)[0]
        image = torch.empty(scaled.shape).copy_(scaled.flip(-1) if flip else scaled).div_(255)
    else:
        image = resize(part)
        image = image.flip(-1) if flip else image
    return (image, *_mirrored(width, boxes, mask)) if flip else (image, boxes, mask)


def mirror(image: Tensor, boxes: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Image (C, H, W), boxes (K, 4) and mask (H, W), masks (N, H, W) or None, with left and right exchanged."""
    return (image.flip(-1), *_mirrored(image.shape[2], boxes, mask))


def _mirrored(width: int, boxes: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    turned = boxes.clone()
    turned[:, 0], turned[:, 2] = width - boxes[:, 2], width - boxes[:, 0]
    return turned, None if mask is None else mask.flip(-1)


def _resized(mask: Tensor | None, resize: Callable[[Tensor], Tensor]) -> Tensor | None:
    """A mask (H, W), or several (N, H, W), True where `resize` of it leaves at least one half."""
    if mask is None:
        return None
    planes = resize(mask.reshape(-1, *mask.shape[-2:]).float()) >= 0.5
    return planes.reshape(*mask.shape[:-2], *planes.shape[-2:])


def _moved(
    boxes: Tensor | None, image: Tensor, scaled: tuple[int, int], corner: tuple[int, int], size: tuple[int, int]
) -> Tensor:
    """The boxes (K, 4) of `image` after it was `scaled` and cropped to `size` at `corner`, all of them (down, across)."""
    if boxes is None or not len(boxes):
        return torch.zeros(0, 4)
    stretch = boxes.new_tensor([scaled[1] / image.shape[2], scaled[0] / image.shape[1]] * 2)
    boxes = boxes * stretch - boxes.new_tensor([corner[1], corner[0]] * 2)
    boxes = clip_boxes(boxes, size)
    return boxes[box_area(boxes) > 0]


def _scaled_part(planes: Tensor, scaled: tuple[int, int], corner: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """The part of `size` at `corner` of planes (C, H, W) resized to `scaled`, without resizing much that is thrown away."""
    (top, left), (height, width) = corner, size
    if planes.shape[1:] != scaled and scaled[0] * scaled[1] > _SPARE * height * width:
        first_row, rows = _weights(planes.shape[1], scaled[0], top, height)
        first_column, columns = _weights(planes.shape[2], scaled[1], left, width)
        seen = planes[:, first_row : first_row + rows.shape[1], first_column : first_column + columns.shape[1]]
        return rows.to(planes) @ seen @ columns.to(planes).T
    if planes.shape[1:] != scaled:
        planes = F.interpolate(planes[None], scaled, mode="bilinear", antialias=True)[0]
    return planes[:, top : top + height, left : left + width]


def _weights(before: int, after: int, first: int, count: int) -> tuple[int, Tensor]:
    """Along one axis resized from `before` to `after` pixels: what makes up pixels `first` to `first + count`.

    Returns the first pixel that is needed, and weights (count, pixels needed): triangles as wide as a new pixel, or as an
    old one where that is wider, which is what bilinear interpolation with antialiasing means.
    """
    step = before / after
    centres = (torch.arange(first, first + count, dtype=torch.float64) + 0.5) * step
    radius = max(step, 1.0)
    start = max(0, math.floor(float(centres[0]) - radius))
    stop = min(before, math.ceil(float(centres[-1]) + radius))
    pixels = torch.arange(start, stop, dtype=torch.float64) + 0.5
    weights = (1 - (pixels - centres[:, None]).abs() / radius).clamp(min=0)
    return start, weights / weights.sum(dim=1, keepdim=True)
