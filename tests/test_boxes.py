"""Masks to boxes: by hand on small grids, against a flood fill, and against torchvision's IoU."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from oracles import box_of, flood_fill, largest
from torchvision.ops import box_iou as torchvision_iou

from maskerlib.data.boxes import box_area, box_coverage, box_iou, clip_boxes, component_boxes, pad_boxes
from maskerlib.masking.masks import check_masks
from maskerlib.metrics.boxes import best_iou, binarise, largest_component, predicted_boxes


def mask(*rows: str, value: float = 1.0) -> torch.Tensor:
    """(1, 1, H, W): '#' is `value`, anything else 0."""
    return torch.tensor([[[[value * (cell == "#") for cell in row] for row in rows]]])


def boxes_strategy(count: int):
    corner = st.tuples(*[st.integers(0, 12)] * 4)
    ordered = corner.map(lambda c: (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3])))
    return st.lists(ordered, min_size=count, max_size=count).map(lambda b: torch.tensor(b).float())


# Binarise


@pytest.mark.parametrize("value", [0.0, 0.1, 0.3, 1 / 3, 0.7, 1.0])
@pytest.mark.parametrize("size", [(4, 4), (7, 13), (96, 96), (224, 224)])
def test_constant_mask_has_nothing_above_its_mean(value, size, device):
    constant = torch.full((2, 1, *size), value, device=device)
    assert not binarise(constant).any()
    assert predicted_boxes(constant).tolist() == [[0, 0, 0, 0]] * 2


def test_binarise_compares_strictly_with_each_mask_own_mean():
    masks = torch.tensor([[[[0.0, 0.5, 1.0]]], [[[0.2, 0.2, 0.8]]]])  # means 0.5 and 0.4
    assert binarise(masks).tolist() == [[[[False, False, True]]], [[[False, False, True]]]]


def test_binarise_at_a_shared_threshold_is_strict():
    masks = torch.tensor([[[[0.25, 0.5, 0.75]]]])
    assert binarise(masks, 0.5).tolist() == [[[[False, False, True]]]]
    assert binarise(torch.ones(1, 1, 2, 2), 0.99).all()


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (torch.zeros(4, 4), r"\(4, 4\), expected floats \(B, 1, H, W\)"),
        (torch.zeros(2, 3, 4, 4), r"expected floats \(B, 1, H, W\)"),
        (torch.zeros(0, 1, 4, 4), r"expected floats"),
        (torch.zeros(1, 1, 4, 4, dtype=torch.bool), "torch.bool"),
        (torch.full((1, 1, 4, 4), float("nan")), "NaN or infinity"),
        (torch.full((1, 1, 4, 4), float("inf")), "NaN or infinity"),
        (torch.full((1, 1, 4, 4), 1.2), "1.2"),
        (torch.full((1, 1, 4, 4), -0.2), "-0.2"),
    ],
)
def test_bad_masks_are_refused_by_name(masks, message):
    with pytest.raises(ValueError, match="^my map: .*" + message):
        check_masks(masks, "my map")
    with pytest.raises(ValueError, match="^masks: .*" + message):
        predicted_boxes(masks)


def test_one_bad_pixel_among_many_is_refused():
    masks = torch.rand(3, 1, 8, 8)
    masks[1, 0, 2, 3] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        binarise(masks)


# Components


def test_larger_of_two_blobs_is_kept():
    kept = largest_component(mask("##..", "....", ".###", "....") > 0)
    assert torch.equal(kept, mask("....", "....", ".###", "....") > 0)


def test_diagonal_neighbours_are_not_connected():
    kept = largest_component(mask("##..", "..##", "..#.") > 0)
    assert torch.equal(kept, mask("....", "..##", "..#.") > 0)


def test_of_equal_components_the_first_is_kept():
    assert component_boxes(largest_component(mask(".#.#", ".#.#") > 0)).tolist() == [[1, 0, 2, 2]]


def test_images_of_a_batch_never_touch():
    """The last row of one image and the first of the next are far apart, although neighbours in memory."""
    batch = torch.cat([mask("...", "###"), mask("###", "..."), mask("...", "..."), mask("#..", "##.")])
    assert predicted_boxes(batch).tolist() == [[0, 1, 3, 2], [0, 0, 3, 1], [0, 0, 0, 0], [0, 0, 2, 2]]


@pytest.mark.parametrize(
    ("rows", "box"),
    [
        (("....", "....", "...."), [0, 0, 0, 0]),
        (("#...", "....", "...."), [0, 0, 1, 1]),
        (("....", "....", "...#"), [3, 2, 4, 3]),
        (("....", ".##.", "...."), [1, 1, 3, 2]),
        (("###.", "#.#.", "###."), [0, 0, 3, 3]),
        (("##..", "##..", "##.."), [0, 0, 2, 3]),
    ],
)
def test_box_is_half_open(rows, box):
    assert predicted_boxes(mask(*rows)).tolist() == [box]


def test_full_set_has_the_box_of_the_image():
    assert component_boxes(torch.ones(1, 1, 5, 7, dtype=torch.bool)).tolist() == [[0, 0, 7, 5]]
    assert predicted_boxes(torch.ones(1, 1, 5, 7), 0.5).tolist() == [[0, 0, 7, 5]]


@given(hnp.arrays(bool, st.tuples(st.integers(1, 4), st.integers(1, 7), st.integers(1, 7))))
def test_largest_component_agrees_with_flood_fill(grids):
    binary = torch.from_numpy(grids)[:, None]
    kept = largest_component(binary)
    boxes = component_boxes(kept).tolist()
    for grid, own, box in zip(grids.tolist(), kept[:, 0], boxes, strict=True):
        expected = largest(flood_fill(grid))
        assert sorted(map(tuple, own.nonzero().tolist())) == sorted(expected)
        assert box == list(box_of(expected) if expected else (0, 0, 0, 0))


def test_largest_component_runs_on_the_device_of_its_input(device):
    kept = largest_component(mask("#.#", "#..").to(device) > 0)
    assert kept.device.type == device.type and kept.sum() == 2


def test_largest_component_refuses_a_continuous_mask():
    with pytest.raises(ValueError, match="expected torch.bool"):
        largest_component(torch.rand(1, 1, 4, 4))


# Boxes


@given(boxes_strategy(5), boxes_strategy(4))
def test_iou_agrees_with_torchvision(first, second):
    ours, theirs = box_iou(first[:, None], second), torchvision_iou(first, second)
    torch.testing.assert_close(ours, theirs.nan_to_num(0.0))  # torchvision divides 0 by 0


def test_iou_by_hand():
    box = torch.tensor([0.0, 0, 4, 4])
    others = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 2], [2, 2, 6, 6], [4, 0, 8, 4], [0, 0, 0, 0]])
    assert box_iou(box, others).tolist() == pytest.approx([1, 8 / 16, 4 / 28, 0, 0])
    empty = torch.zeros(4)
    assert box_iou(empty, empty) == 0


def test_area_is_never_negative():
    assert box_area(torch.tensor([[0.0, 0, 3, 2], [2, 2, 2, 5], [3, 3, 1, 1], [0, 0, 0, 0]])).tolist() == [
        6,
        0,
        0,
        0,
    ]


def test_best_iou_takes_the_best_box_and_nan_without_boxes():
    predicted = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2], [0, 0, 0, 0]])
    boxes = [torch.tensor([[5.0, 5, 6, 6], [0, 0, 2, 4]]), torch.zeros(0, 4), torch.tensor([[0.0, 0, 1, 1]])]
    assert best_iou(predicted, boxes).tolist() == pytest.approx([0.5, float("nan"), 0], nan_ok=True)


def test_pad_boxes_marks_the_real_ones():
    padded, real = pad_boxes([torch.tensor([[0.0, 0, 1, 1], [1, 1, 2, 2]]), torch.zeros(0, 4)])
    assert padded.shape == (2, 2, 4) and real.tolist() == [[True, True], [False, False]]
    assert padded[1].abs().sum() == 0
    padded, real = pad_boxes([torch.zeros(0, 4)])
    assert padded.shape == (1, 1, 4) and not real.any()


@pytest.mark.parametrize(
    ("corners", "left"),
    [
        ((1.0, 0.0, 3.0, 2.0), [1, 0, 3, 2]),  # inside
        ((-2.0, -1.0, 2.0, 1.5), [0, 0, 2, 1.5]),
        ((2.0, 1.0, 9.0, 9.0), [2, 1, 4, 3]),  # an image 4 wide and 3 high
        ((-5.0, -5.0, 9.0, 9.0), [0, 0, 4, 3]),
    ],
)
def test_boxes_are_clipped_to_the_image(corners, left, device):
    assert clip_boxes(torch.tensor([corners], device=device), (3, 4)).tolist() == [left]
    padded, real = pad_boxes([torch.tensor([corners])], device, size=(3, 4))
    assert padded.tolist() == [[left]] and real.all()


@pytest.mark.parametrize("corners", [(-3.0, 0.0, 0.0, 2.0), (4.0, 0.0, 6.0, 2.0), (0.0, 3.0, 2.0, 8.0), (7.0, 7.0, 9.0, 9.0)])
def test_a_box_outside_the_image_is_none_of_its_boxes(corners):
    assert box_area(clip_boxes(torch.tensor(corners), (3, 4))) == 0
    padded, real = pad_boxes([torch.tensor([corners, (0.0, 0.0, 1.0, 1.0)])], size=(3, 4))
    assert real.tolist() == [[False, True]] and padded.tolist() == [[[0, 0, 0, 0], [0, 0, 1, 1]]]
    assert pad_boxes([torch.tensor([corners])])[1].all()  # unless the size is not known


def test_an_annotation_without_area_stays_one_that_nothing_fits():
    _, real = pad_boxes([torch.zeros(1, 4)], size=(3, 4))
    assert real.all()


def test_best_iou_counts_what_is_visible():
    """The visible part, 2 x 3 of the box, is found exactly; of the whole box, 4 x 3, it is one half."""
    predicted, boxes = torch.tensor([[2.0, 0, 4, 3]]), [torch.tensor([[2.0, 0, 6, 3]])]
    assert best_iou(predicted, boxes).tolist() == [0.5]
    assert best_iou(predicted, boxes, size=(3, 4)).tolist() == [1]
    assert best_iou(predicted, [torch.tensor([[9.0, 0, 12, 3]])], size=(3, 4)).isnan().all()


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([torch.zeros(4)], "image 0"),
        ([torch.zeros(0, 4), torch.zeros(2, 5)], "image 1"),
        ([torch.tensor([[5.0, 5, 3, 8]])], "x0 <= x1"),
        ([torch.tensor([[0.0, 0, float("nan"), 8]])], "x0 <= x1"),
    ],
)
def test_bad_boxes_are_refused(boxes, message):
    with pytest.raises(ValueError, match=message):
        pad_boxes(boxes)


def test_coverage_of_a_box_between_pixels():
    rows, columns = box_coverage(torch.tensor([0.5, 1.0, 2.25, 3.0]), (4, 3))
    assert rows.tolist() == [0, 1, 1, 0]
    assert columns.tolist() == [0.5, 1, 0.25]


def test_coverage_leaves_out_what_lies_outside_the_image():
    rows, columns = box_coverage(torch.tensor([[-2.0, -1.0, 9.0, 1.0]]), (2, 3))
    assert rows.tolist() == [[1, 0]] and columns.tolist() == [[1, 1, 1]]


@given(boxes_strategy(3))
def test_coverage_of_a_whole_pixel_box_is_the_box(boxes):
    rows, columns = box_coverage(boxes, (12, 12))
    image = np.zeros((3, 12, 12))
    for plane, (x0, y0, x1, y1) in zip(image, boxes.int().tolist(), strict=True):
        plane[y0:y1, x0:x1] = 1
    np.testing.assert_array_equal((rows[..., :, None] * columns[..., None, :]).numpy(), image)
