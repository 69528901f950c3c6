"""Checkers of the exercises of notebook 05: None for a right answer, else one hint."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from maskerlib.course.grading import close, same
from maskerlib.data.boxes import box_iou, component_boxes
from maskerlib.metrics.boxes import binarise, predicted_boxes

__all__ = ["exercise_1", "exercise_2", "exercise_3", "exercise_4", "exercise_5", "exercise_6"]

_METRICS = ("LE", "OM", "F1", "SM", "PxAP", "MaxBoxAcc")
_MAP = torch.tensor([[[[0, 0.9, 0.9, 0], [0, 0.9, 0.5, 0], [0.7, 0, 0, 0], [0.7, 0.7, 0, 0.1]]]])
_BOX = torch.tensor([[1.0, 0, 4, 3]])


def exercise_1(answer: Any) -> str | None:
    """The IoU of the box that the 4 x 4 map of the exercise predicts with the true box."""
    predicted = predicted_boxes(_MAP)
    if close(answer, float(box_iou(predicted, _BOX)), 0.006):
        return None
    pieces_joined = component_boxes(binarise(_MAP))
    longer, shorter = predicted.clone(), predicted.clone()
    longer[:, 2:] += 1
    shorter[:, 2:] -= 1
    if close(answer, float(box_iou(pieces_joined, _BOX)), 0.006):
        return "which pixels touch? Only neighbours left, right, above and below do, and only one piece may stay"
    if close(answer, float(box_iou(shorter, _BOX)), 0.006) or close(answer, float(box_iou(longer, _BOX)), 0.006):
        return "count the columns and rows of the predicted box again: the last one with a kept pixel is x1 - 1, not x1"
    if close(answer, 4 / 13, 0.006):
        return "the union counts the shared pixels once, not twice"
    return "go step by step: the mean, the pixels above it, the largest piece, its box, then shared area over union"


def exercise_2(answer: Callable[[float, float], float]) -> str | None:
    """F1 of a map that is `value` everywhere, against a box that covers `share` of the image: answer(value, share)."""
    if not callable(answer):
        return "give a function of two numbers, the value of the map and the share of the image that the box covers"
    cases = [(1.0, 0.25), (0.5, 0.25), (0.25, 0.25), (0.1, 0.8), (0.9, 1.0), (0.02, 0.5)]
    got = [answer(value, share) for value, share in cases]
    right = [2 * value * share / (value + share) for value, share in cases]
    if all(close(one, expected, 1e-4) for one, expected in zip(got, right, strict=True)):
        return None
    if all(close(one, 2 * share / (1 + share), 1e-4) for one, (_, share) in zip(got, cases, strict=True)):
        return "right for a map of ones; what do precision and recall become when every pixel is only half as bright?"
    if all(close(one, (v + share) / 2, 1e-4) for one, (v, share) in zip(got, cases, strict=True)):
        return "precision and recall are right, but F1 is their harmonic mean, not the plain one"
    if all(close(one, v * share, 1e-4) for one, (v, share) in zip(got, cases, strict=True)):
        return "the product alone is no F1: divide by what the two have in sum"
    return "for an image of N pixels, write down the sum of the map in the box, that in the image, and the box's area"


def exercise_3(answer: Any) -> str | None:
    """The smallest side of a square whose perfect box, read one pixel short on two sides, still has IoU above 0.7."""
    side = next(side for side in range(1, 100) if ((side - 1) / side) ** 2 > 0.7)
    if close(answer, side, 1e-6):
        return None
    if close(answer, 4, 1e-6):
        return "the box loses a column and a row, not only one of them; and the level is 0.7"
    if close(answer, 13, 1e-6):
        return "one column and one row are lost; that is not one pixel on each of the four sides"
    if close(answer, side - 1, 1e-6):
        return "very near; compare shared area over union with the level once more, to three decimals"
    return "a square of n x n pixels loses one row and one column: write the share of the area that is left, and try values"


def exercise_4(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> str | None:
    """answer(masks (B, 1, H, W), boxes (B, 4), thresholds (K,)) -> (B,): each image's best IoU over the thresholds."""
    if not callable(answer):
        return "give a function of masks, boxes and thresholds"
    masks, boxes, thresholds = _maps()
    table = torch.stack([box_iou(predicted_boxes(masks, float(t)), boxes) for t in thresholds])
    got = answer(masks, boxes, thresholds)
    if same(got, table.amax(dim=0)):
        return None
    if not isinstance(got, Tensor) or got.shape != (len(masks),):
        return f"expected one number an image, a tensor ({len(masks)},), not {_told(got)}; take the best over thresholds only"
    if same(got, table[table.mean(dim=1).argmax()]):
        return "that is one threshold for all images; here every image may choose its own"
    if same(got, box_iou(predicted_boxes(masks), boxes)):
        return "that is each map's own mean; try all the thresholds given and keep the best"
    joined = [box_iou(component_boxes(binarise(masks, float(t))), boxes) for t in thresholds]
    if same(got, torch.stack(joined).amax(dim=0)):
        return "the box goes around the largest component, not around everything above the threshold"
    if same(got, table.mean(dim=0)):
        return "of the values over the thresholds, the best one counts"
    return "stack the IoU of all images at each threshold, (K, B), and think about which of the two dimensions goes"


def exercise_5(answer: Any) -> str | None:
    """The metrics, of the six, that do not change when each map is multiplied by a factor of its own in (0, 1]."""
    if isinstance(answer, str) or not hasattr(answer, "__iter__"):
        return 'give a set of names, such as {"OM", "F1"}'
    names = [str(name) for name in answer]
    if unknown := [name for name in names if name not in _METRICS]:
        return f"{unknown[0]!r} is none of {', '.join(_METRICS)}"
    chosen = set(names)
    if chosen == {"LE", "OM", "SM"}:
        return None
    if chosen & {"PxAP", "MaxBoxAcc"}:
        return "one threshold for all images is a statement about brightness; what does a map half as bright do there?"
    if "F1" in chosen:
        return "F1 sees the values themselves; what does a fainter map do to its recall?"
    return "some are missing: which of them see nothing of a map but the box found at its own mean?"


def exercise_6(answer: Callable[[Tensor, Tensor], float]) -> str | None:
    """answer(masks (B, 1, H, W), truth (B, H, W) bool) -> PxAP with every value of the pooled pixels as a threshold."""
    if not callable(answer):
        return "give a function of masks and true pixels"
    masks, truth = _pixels()
    tied = (masks * 4).round() / 4
    near = 0.5 + 0.001 * masks  # on a grid of a thousand thresholds these are all one value
    cases = [(masks, truth), (tied, truth), (near, truth), (masks[:1] * 0 + 0.3, truth[:1])]
    got = [answer(*case) for case in cases]
    right = [_area(*case) for case in cases]
    if all(close(one, expected, 1e-4) for one, expected in zip(got, right, strict=True)):
        return None
    if not all(close(one, 0.5, 10) for one in got):
        return "expected one number for the whole batch"
    if close(got[0], sum(_area(m, t) for m, t in zip(masks.split(1), truth.split(1), strict=True)) / len(masks), 1e-4):
        return "that is the mean over images; PxAP puts the pixels of all images into one curve"
    if close(got[1], _area(tied, truth, between=True), 1e-4):
        return "the sum takes the precision at the lower threshold of each step, not the mean of both ends"
    if close(got[0], right[0], 1e-4) and close(got[2], right[2], 1e-4):
        return "right while all values differ; pixels that share a value are found together, at one threshold"
    if close(got[0], right[0], 2e-3):
        return "nearly: some values that differ fall together; take the values themselves as thresholds, not a grid"
    return "for each value, from the highest down: which pixels are at least that high, and how much recall was gained?"


def _maps() -> tuple[Tensor, Tensor, Tensor]:
    """Eight smooth random maps of different brightness, a box each, and a grid of thresholds."""
    generator = torch.Generator().manual_seed(5)
    coarse = torch.rand(8, 1, 5, 5, generator=generator)
    masks = torch.nn.functional.interpolate(coarse, size=(20, 20), mode="bilinear", align_corners=False)
    masks = masks * torch.linspace(0.3, 1, 8)[:, None, None, None]
    corner = torch.randint(0, 10, (8, 2), generator=generator).float()
    side = torch.randint(5, 10, (8, 2), generator=generator).float()
    return masks, torch.cat([corner, corner + side], dim=1), torch.arange(20) / 20


def _pixels() -> tuple[Tensor, Tensor]:
    """Three maps of different brightness, all values different, and their true pixels, of different number."""
    generator = torch.Generator().manual_seed(6)
    truth = torch.zeros(3, 12, 12, dtype=torch.bool)
    truth[0, 2:9, 3:10], truth[1, 1:4, 1:4], truth[2, 6:12, 0:5] = True, True, True
    masks = 0.45 * truth[:, None] + 0.5 * torch.rand(3, 1, 12, 12, generator=generator)
    return masks * torch.tensor([1.0, 0.4, 0.7]).view(3, 1, 1, 1), truth


def _area(masks: Tensor, truth: Tensor, *, between: bool = False) -> float:
    """PxAP, each distinct value a threshold; `between`: by trapezoids, which it is not."""
    values, area, before, reached = masks.flatten(), 0.0, 1.0, 0.0
    for threshold in values.unique().flip(0):
        found = values >= threshold
        shared = float((found & truth.flatten()).sum())
        precision, recall = shared / float(found.sum()), shared / float(truth.sum())
        area += ((precision + before) / 2 if between else precision) * (recall - reached)
        before, reached = precision, recall
    return area


def _told(value: Any) -> str:
    return f"{tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
