"""The checkers of notebook 05: what is wrong is told apart from what is right, and no hint gives the answer."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from maskerlib.course import exercises_05
from maskerlib.data.boxes import box_iou, component_boxes
from maskerlib.metrics.boxes import binarise, predicted_boxes
from maskerlib.metrics.curves import BoxCurve, PixelCurve
from maskerlib.metrics.per_image import f1


def hint(number: int, answer) -> str | None:
    return getattr(exercises_05, f"exercise_{number}")(answer)


# 5.1 IoU by hand


@pytest.mark.parametrize("answer", [4 / 9, 0.44, torch.tensor(0.444), np.float32(4 / 9)])
def test_the_iou_by_hand(answer):
    assert hint(1, answer) is None


@pytest.mark.parametrize(
    "wrong, word",
    [
        (6 / 15, "touch"),  # corners taken as neighbours, or all pieces kept
        (1 / 9, "last one"),  # a column and a row short
        (1.0, "last one"),  # a column and a row too many
        (4 / 13, "shared"),  # union without taking the shared pixels off
        (0.75, "step by step"),
    ],
)
def test_a_wrong_iou_is_told_apart(wrong, word):
    said = hint(1, wrong)
    assert word in said and "0.44" not in said and "4/9" not in said and "3, 2" not in said


# 5.2 F1 of a constant map


def by_formula(value, share):
    return 2 * value * share / (value + share)


def by_library(value, share):
    """A map of 100 x 100, and a box as wide as the image."""
    return f1(torch.full((1, 1, 100, 100), float(value)), [torch.tensor([[0.0, 0.0, 100.0, 100.0 * share]])])[0]


def test_f1_of_a_constant_map_in_two_ways():
    assert hint(2, by_formula) is None
    assert hint(2, by_library) is None


@pytest.mark.parametrize(
    "wrong, word",
    [
        (lambda v, b: 2 * b / (1 + b), "half as bright"),
        (lambda v, b: (v + b) / 2, "harmonic"),
        (lambda v, b: v * b, "divide"),
        (lambda v, b: b, "sum of the map"),
    ],
)
def test_a_wrong_f1_is_told_apart(wrong, word):
    said = hint(2, wrong)
    assert word in said and "2" not in said


# 5.3 one pixel short


def test_the_smallest_side_found_by_the_library():
    def agreement(side):
        return box_iou(torch.tensor([0.0, 0, side, side]), torch.tensor([0.0, 0, side - 1, side - 1]))

    found = next(side for side in range(1, 50) if agreement(side) > 0.7)
    assert hint(3, found) is None and hint(3, 7.0) is None and hint(3, torch.tensor(7)) is None


@pytest.mark.parametrize("wrong, word", [(4, "a column and a row"), (13, "four sides"), (6, "near"), (10, "share")])
def test_a_wrong_side_is_told_apart(wrong, word):
    said = hint(3, wrong)
    assert word in said and "7 " not in said.replace("0.7", "") and "seven" not in said


# 5.4 each image its own threshold


def best_by_stacking(masks, boxes, thresholds):
    return torch.stack([box_iou(predicted_boxes(masks, float(t)), boxes) for t in thresholds]).amax(dim=0)


def best_by_loops(masks, boxes, thresholds):
    best = torch.zeros(len(masks), dtype=torch.float64)
    for index in range(len(masks)):
        for t in thresholds.tolist():
            one = predicted_boxes(masks[index : index + 1], t)[0]
            best[index] = max(float(best[index]), float(box_iou(one, boxes[index])))
    return best


def test_the_best_threshold_of_each_image_in_two_ways():
    assert hint(4, best_by_stacking) is None
    assert hint(4, best_by_loops) is None


def one_for_all(masks, boxes, thresholds):
    table = torch.stack([box_iou(predicted_boxes(masks, float(t)), boxes) for t in thresholds])
    return table[table.mean(dim=1).argmax()]


def around_everything(masks, boxes, thresholds):
    return torch.stack([box_iou(component_boxes(binarise(masks, float(t))), boxes) for t in thresholds]).amax(dim=0)


def over_images(masks, boxes, thresholds):
    return torch.stack([box_iou(predicted_boxes(masks, float(t)), boxes) for t in thresholds]).amax(dim=1)


@pytest.mark.parametrize(
    "wrong, word",
    [
        (one_for_all, "all images"),
        (around_everything, "largest component"),
        (over_images, "one number an image"),
        (lambda m, b, t: box_iou(predicted_boxes(m), b), "own mean"),
        (lambda m, b, t: best_by_stacking(m, b, t).mean(), "one number an image"),
        (lambda m, b, t: torch.zeros(len(m)), "(K, B)"),
    ],
)
def test_a_wrong_best_threshold_is_told_apart(wrong, word):
    assert word in hint(4, wrong)


# 5.5 what a factor of its own leaves alone


def test_what_does_not_change_really_does_not():
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(16, 1, 8, 8, generator=generator)
    boxes = [torch.tensor([[1.0, 1.0, 6.0, 7.0]])] * 16
    truth = torch.zeros(16, 8, 8, dtype=torch.bool)
    truth[:, 1:7, 1:6] = True
    dimmed = masks * (0.1 + 0.9 * torch.rand(16, 1, 1, 1, generator=generator))
    assert torch.equal(predicted_boxes(masks), predicted_boxes(dimmed))  # all that LE, OM and SM see
    assert not torch.allclose(f1(masks, boxes)[0], f1(dimmed, boxes)[0])
    areas, accuracies = [], []
    for part in (masks, dimmed):
        pixels, curve = PixelCurve(), BoxCurve()
        pixels.update(part, truth)
        curve.update(part, [torch.tensor([[0.0, 0.0, 8.0, 8.0]])] * 15 + [torch.tensor([[0.0, 0.0, 2.0, 2.0]])])
        areas.append(pixels.pxap())
        accuracies.append(curve.localisation_error().tolist())
    assert areas[0] != areas[1] and accuracies[0] != accuracies[1]


@pytest.mark.parametrize("answer", [{"LE", "OM", "SM"}, ["SM", "LE", "OM"], ("OM", "LE", "SM", "SM")])
def test_the_metrics_of_the_own_mean(answer):
    assert hint(5, answer) is None


@pytest.mark.parametrize(
    "wrong, word",
    [
        ({"LE", "OM", "SM", "PxAP"}, "brightness"),
        ({"LE", "OM", "SM", "F1"}, "fainter"),
        ({"LE"}, "missing"),
        (set(), "missing"),
        ({"LE", "IoU"}, "'IoU' is none of"),
        ("LE", "set of names"),
    ],
)
def test_a_wrong_set_is_told_apart(wrong, word):
    said = hint(5, wrong)
    assert word in said and "LE, OM, SM" not in said


# 5.6 PxAP without a grid


def area_by_sorting(masks, truth):
    """Sort once, and read the curve where the value changes."""
    order = masks.flatten().argsort(descending=True)
    values, true = masks.flatten()[order], truth.flatten()[order].double()
    last = torch.cat([values[1:] != values[:-1], torch.tensor([True])])
    found = true.cumsum(0)[last]
    precision = found / (torch.arange(len(values)) + 1)[last]
    recall = found / found[-1]
    return (precision * recall.diff(prepend=torch.zeros(1, dtype=torch.double))).sum()


def area_by_sklearn(masks, truth):
    return average_precision_score(truth.flatten().numpy(), masks.flatten().numpy())


def test_the_exact_area_in_two_ways():
    assert hint(6, area_by_sorting) is None
    assert hint(6, area_by_sklearn) is None


def area_without_ties(masks, truth):
    order = masks.flatten().argsort(descending=True, stable=True)
    true = truth.flatten()[order].double()
    precision = true.cumsum(0) / torch.arange(1, len(true) + 1)
    return float((precision * true).sum() / true.sum())


def area_by_trapezoids(masks, truth):
    """The line from (0, 1) to the first point, and on from point to point."""
    values, points = masks.flatten(), [(0.0, 1.0)]
    for t in values.unique().flip(0):
        found = (values >= t).double()
        shared = float((found * truth.flatten()).sum())
        points.append((shared / float(truth.sum()), shared / float(found.sum())))
    recall, precision = np.array(points).T
    return float(np.sum(np.diff(recall) * (precision[1:] + precision[:-1]) / 2))


def area_on_the_grid(masks, truth):
    curve = PixelCurve()
    curve.update(masks, truth)
    return curve.pxap()


@pytest.mark.parametrize(
    "wrong, word",
    [
        (area_without_ties, "share a value"),
        (area_by_trapezoids, "both ends"),
        (area_on_the_grid, "not a grid"),
        (lambda m, t: float(np.mean([area_by_sklearn(a, b) for a, b in zip(m, t, strict=True)])), "one curve"),
        (lambda m, t: t.float().mean(), "how much recall"),
        (lambda m, t: m, "one number"),
    ],
)
def test_a_wrong_area_is_told_apart(wrong, word):
    assert word in hint(6, wrong)
