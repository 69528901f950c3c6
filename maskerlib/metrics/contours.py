"""The boxes of wsolevaluation, the public code of Choe et al. (2020), where they differ from this library's.

It turns a map into whole numbers from 0 to 255, thresholds these at a share of their maximum, and draws the boxes of OpenCV's
contours. So, unlike in `maskerlib.metrics.boxes`:

- a threshold is relative to the map's own maximum, and fine differences of a map are lost with its bytes;
- pixels that touch at a corner belong together (8 neighbours), and a hole has a contour and a box of its own;
- the largest contour is the one that encloses the largest area, holes included, measured between the centres of pixels;
- a box runs from its first column to the column *after* its last one, as far as the image has it, and both count:
  boxes are one pixel wider and higher than what they surround, and none is empty;
- where no pixel lies above the threshold, the box is the pixel in the top left corner.

`maskerlib.metrics.curves.BoxCurve(protocol="wsolevaluation")` counts by these rules. They are written here from what that code
does.
"""

from collections.abc import Sequence

import cv2
import numpy as np

__all__ = ["contour_boxes", "contour_fits", "inclusive_iou"]


def contour_boxes(bytes_: np.ndarray, cut: int) -> np.ndarray:
    """Boxes of all contours of {bytes_ > cut}, that of the largest area first: (N, 4) int64, x0, y0, x1, y1, x1 and y1 included.

    bytes_: (H, W) uint8, a map times 255.  cut: 0 ... 255.
    """
    height, width = bytes_.shape
    inside = (bytes_ > cut).astype(np.uint8)
    contours = list(cv2.findContours(inside, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[-2])
    if not contours:
        return np.zeros((1, 4), np.int64)
    largest = max(range(len(contours)), key=lambda index: cv2.contourArea(contours[index]))
    contours.insert(0, contours.pop(largest))
    boxes = np.array([cv2.boundingRect(contour) for contour in contours], np.int64)
    boxes[:, 2:] = np.minimum(boxes[:, :2] + boxes[:, 2:], (width - 1, height - 1))
    return boxes


def inclusive_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of all pairs of boxes whose last column and row count: (N, 4), (M, 4) -> (N, M) float64.

    >>> inclusive_iou(np.array([[0, 0, 1, 1]]), np.array([[0, 0, 1, 1], [1, 0, 2, 1]])).round(3).tolist()
    [[1.0, 0.333]]
    """

    def sides(low: np.ndarray, high: np.ndarray) -> np.ndarray:
        return np.asarray(high - low + 1)

    first, second = first[:, None], second[None]
    width_height = sides(np.maximum(first[..., :2], second[..., :2]), np.minimum(first[..., 2:], second[..., 2:]))
    shared = np.maximum(width_height, 0).prod(axis=-1)
    areas = [sides(boxes[..., :2], boxes[..., 2:]).prod(axis=-1) for boxes in (first, second)]
    return np.asarray(shared / (areas[0] + areas[1] - shared))


def contour_fits(
    maps: np.ndarray, boxes: Sequence[np.ndarray], thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The best IoU with a ground-truth box at each threshold: of the largest contour, and of any, both (B, K) float64.

    Args:
        maps: (B, H, W) float32 in [0, 1].
        boxes: B arrays (K_i, 4) with K_i >= 1, x0, y0, x1, y1, cut to whole numbers and then taken as inclusive.
        thresholds: (K,) float64, shares of each map's maximum.
    """
    largest, best = (np.zeros((len(maps), len(thresholds))) for _ in range(2))
    for row, (scores, truth) in enumerate(zip(maps, boxes, strict=True)):
        bytes_ = (scores * np.float32(255)).astype(np.uint8)
        cuts, place = np.unique((thresholds * float(bytes_.max())).astype(np.int64), return_inverse=True)
        fits = [inclusive_iou(contour_boxes(bytes_, int(cut)), truth.astype(np.int64)).max(axis=1) for cut in cuts]
        largest[row] = np.array([fit[0] for fit in fits])[place]
        best[row] = np.array([fit.max() for fit in fits])[place]
    return largest, best
