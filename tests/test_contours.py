"""The boxes of wsolevaluation: by hand, and against a slow version without OpenCV."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from maskerlib.metrics.contours import contour_boxes, contour_fits, inclusive_iou
from maskerlib.metrics.curves import BoxCurve

# A slow version: components by flood fill, 8-connected, and 4-connected holes


def components(grid: np.ndarray, *, diagonal: bool) -> list[list[tuple[int, int]]]:
    """Sets of (y, x) that are connected, of the True pixels."""
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(grid), strict=True)}
    steps = [(-1, 0), (1, 0), (0, -1), (0, 1), *([(-1, -1), (-1, 1), (1, -1), (1, 1)] if diagonal else [])]
    found = []
    while left:
        queue, part = [left.pop()], []
        while queue:
            y, x = queue.pop()
            part.append((y, x))
            for dy, dx in steps:
                if (y + dy, x + dx) in left:
                    left.remove((y + dy, x + dx))
                    queue.append((y + dy, x + dx))
        found.append(part)
    return found


def enclosed_area(part: list[tuple[int, int]], shape: tuple[int, int]) -> float:
    """The area within the outline through the centres of the outer pixels: a square of four is 1, a corner of three 1/2."""
    grid = np.zeros((shape[0] + 2, shape[1] + 2), bool)
    for y, x in part:
        grid[y + 1, x + 1] = True
    outside = next(each for each in components(~grid, diagonal=False) if (0, 0) in each)
    filled = np.ones_like(grid)
    filled[tuple(np.array(outside).T)] = False
    four = sum(filled[y : y + grid.shape[0] - 1, x : x + grid.shape[1] - 1].astype(int) for y in (0, 1) for x in (0, 1))
    return float((four == 4).sum() + 0.5 * (four == 3).sum())


def slow_boxes(inside: np.ndarray) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """The boxes that may count as the largest (ties of area), and all of them, holes included."""
    height, width = inside.shape

    def box(part: list[tuple[int, int]], grow: int) -> tuple[int, ...]:
        ys, xs = [y for y, _ in part], [x for _, x in part]
        ends = (max(xs) + 1 + grow, max(ys) + 1 + grow)
        return min(xs) - grow, min(ys) - grow, min(ends[0], width - 1), min(ends[1], height - 1)

    parts = components(inside, diagonal=True)
    if not parts:
        return [(0, 0, 0, 0)], [(0, 0, 0, 0)]
    padded = np.pad(~inside, 1, constant_values=True)
    holes = [
        [(y - 1, x - 1) for y, x in part] for part in components(padded, diagonal=False) if (0, 0) not in part
    ]
    areas = [enclosed_area(part, inside.shape) for part in parts]
    largest = [box(part, 0) for part, area in zip(parts, areas, strict=True) if area == max(areas)]
    return largest, [box(part, 0) for part in parts] + [box(hole, 1) for hole in holes]


def slow_iou(first: tuple[int, ...], second: tuple[int, ...]) -> float:
    """By counting pixels; the last column and row belong to a box."""
    one, two = (
        {(x, y) for x in range(box[0], box[2] + 1) for y in range(box[1], box[3] + 1)} for box in (first, second)
    )
    return len(one & two) / len(one | two)


def picture(*rows: str) -> np.ndarray:
    return np.array([[255 * (cell == "#") for cell in row] for row in rows], np.uint8)


# By hand


@pytest.mark.parametrize(
    ("rows", "first", "others"),
    [
        (("....", "....", "...."), (0, 0, 0, 0), []),  # nothing: the pixel at the top left
        (("....", ".#..", "...."), (1, 1, 2, 2), []),  # one pixel has a box of four
        (("....", "....", "...#"), (3, 2, 3, 2), []),  # unless the image ends there
        (("####", "####", "####"), (0, 0, 3, 2), []),
        (("##...", "..##.", "....."), (0, 0, 4, 2), []),  # corners touch
        (("##...", "##...", "....#"), (0, 0, 2, 2), [(4, 2, 4, 2)]),
        (("#####.", "#...#.", "#####.", "......"), (0, 0, 5, 3), [(0, 0, 5, 3)]),  # a hole is outlined by its neighbours
        (("##.###", "##.#.#", "...###"), (3, 0, 5, 2), [(0, 0, 2, 2), (3, 0, 5, 2)]),  # the ring encloses 4, the square 1
    ],
)
def test_boxes_by_hand(rows, first, others):
    boxes = [tuple(box) for box in contour_boxes(picture(*rows), 0).tolist()]
    assert boxes[0] == first and sorted(boxes[1:]) == sorted(others)


def test_the_cut_is_strict():
    levels = np.array([[10, 20, 30]], np.uint8)
    assert contour_boxes(levels, 20).tolist() == [[2, 0, 2, 0]]
    assert contour_boxes(levels, 19).tolist() == [[1, 0, 2, 0]]


def test_iou_by_hand():
    """4 x 4 pixels against 2 x 4 of them, one corner, the same, none."""
    whole, others = np.array([[0, 0, 3, 3]]), np.array([[0, 0, 1, 3], [3, 3, 3, 3], [0, 0, 3, 3], [4, 0, 5, 3]])
    assert inclusive_iou(whole, others).tolist() == [[0.5, 1 / 16, 1, 0]]


def test_thresholds_are_shares_of_the_maximum_of_bytes():
    """0.5 is 127 of 255, the maximum; half of that is cut to 63. 0.25 is 63, outside; 0.252 is 64, inside."""
    maps = np.zeros((1, 4, 6), np.float32)
    maps[0, :, :2], maps[0, 0, 4], maps[0, 2:, 4] = 0.5, 0.25, 0.252
    largest, best = contour_fits(maps, [np.array([[4.0, 2.0, 5.0, 3.0]])], np.array([0.5, 0.6]))
    assert largest.tolist() == [[0, 0]] and best.tolist() == [[1, 0]]  # the larger one is elsewhere


# Against the slow version


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from(["noise", "smooth", "blobs"]))
def test_boxes_agree_with_the_slow_version(seed, kind):
    generator = np.random.default_rng(seed)
    grid = generator.random((9, 11))
    if kind == "smooth":
        grid = F.interpolate(torch.from_numpy(generator.random((1, 1, 4, 4))), (9, 11), mode="bilinear")[0, 0].numpy()
    levels = (255 * grid ** (3 if kind == "blobs" else 1)).astype(np.uint8)
    for cut in (0, 60, 128, 200, 255):
        largest, boxes = slow_boxes(levels > cut)
        found = [tuple(box) for box in contour_boxes(levels, cut).tolist()]
        assert sorted(found) == sorted(boxes) and found[0] in largest


@settings(max_examples=15)
@given(st.integers(0, 10**6))
def test_the_curve_agrees_with_the_slow_version(seed):
    """Smooth maps stretched to 0 and 1, thresholds 0, 0.05, ..., 0.95, by pixels and flood fill."""
    generator = torch.Generator().manual_seed(seed)
    maps = F.interpolate(torch.rand(3, 1, 4, 5, generator=generator), (10, 12), mode="bilinear")
    corners = torch.randint(0, 6, (3, 2, 4), generator=generator)
    truth = torch.cat([corners[..., :2], corners[..., :2] + corners[..., 2:]], dim=-1)
    thresholds = [0.05 * step for step in range(20)]
    curve = BoxCurve(thresholds, normalise="minmax", protocol="wsolevaluation")
    curve.update(maps[:1], [own + 0.7 for own in truth[:1]])  # cut to whole numbers
    curve.update(maps[1:], list(truth[1:]))

    hits, any_hits = np.zeros((3, 20)), np.zeros((3, 3, 20))
    for index in range(3):
        scores = maps[index, 0].numpy()
        scores = scores - scores.min()
        levels = (scores / scores.max() * 255).astype(np.uint8)
        own = [tuple(box) for box in truth[index].tolist()]
        for place, threshold in enumerate(thresholds):
            largest, boxes = slow_boxes(levels > int(threshold * levels.max()))
            hits[index, place] = max(slow_iou(largest[0], box) for box in own) >= 0.5
            fit = max(slow_iou(each, box) for each in boxes for box in own)
            for row, level in enumerate((0.3, 0.5, 0.7)):
                any_hits[row, index, place] = fit >= level
    assert curve.images == 3
    assert curve.max_box_acc() == pytest.approx(hits.mean(axis=0).max())
    assert curve.max_box_acc_v2() == pytest.approx(any_hits.mean(axis=1).max(axis=1).mean())
