"""The pooled metrics: by hand, against scikit-learn, and against thresholding one mask at a time."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import box_of, flood_fill, iou, largest
from sklearn.metrics import average_precision_score
from torch.nn import functional as F

from maskerlib.metrics.curves import BoxCurve, PixelCurve, default_thresholds, normalise_maps

NAN = float("nan")


def box(*corners: float) -> torch.Tensor:
    return torch.tensor([corners], dtype=torch.float32)


def pxap(masks: torch.Tensor, truth: torch.Tensor, ignore: torch.Tensor | None = None, **options) -> float:
    curve = PixelCurve(**options)
    curve.update(masks, truth, ignore)
    return curve.pxap()


def half_truth() -> torch.Tensor:
    truth = torch.zeros(1, 4, 4, dtype=torch.bool)
    truth[..., :2] = True
    return truth


# PxAP


def test_pxap_by_hand():
    truth = half_truth()
    assert pxap(truth[:, None].float(), truth) == 1  # perfect
    assert pxap(1 - truth[:, None].float(), truth) == pytest.approx(
        0.5
    )  # inverted: found last, at precision 1/2
    for value in (0.0, 0.4, 1.0):  # empty, constant, full: the share of foreground
        assert pxap(torch.full((1, 1, 4, 4), value), truth) == pytest.approx(0.5)
    half = torch.zeros(1, 1, 4, 4)
    half[..., 0] = 0.8  # half of the object, nothing else: 1/2 at precision 1, 1/2 at precision 1/2
    assert pxap(half, truth) == pytest.approx(0.75)


def test_pxap_two_blobs_one_right_one_wrong():
    masks = torch.zeros(1, 1, 4, 4)
    masks[..., 0, 0], masks[..., 0, 3] = 0.5, 0.9
    # At 0.9: 1 wrong. At 0.5: 1 of 2 right, recall 1/8. At 0: 8 of 16, recall 1.
    assert pxap(masks, half_truth()) == pytest.approx(1 / 8 * 1 / 2 + 7 / 8 * 1 / 2)


@given(st.integers(1, 200), st.integers(0, 10**6), st.floats(0.2, 3))
def test_pxap_agrees_with_scikit_learn(bins, seed, power):
    generator = torch.Generator().manual_seed(seed)
    levels = (torch.rand(3, 1, 6, 5, generator=generator) ** power * bins).round()
    truth = torch.rand(3, 6, 5, generator=generator) < 0.3
    truth[0, 0, 0] = True
    expected = average_precision_score(truth.flatten().numpy(), levels.flatten().numpy())
    # A quarter of a bin above each grid value: rounded down to it whatever the rounding error.
    masks = ((levels + 0.25) / bins).clamp(max=1)
    assert pxap(masks, truth, bins=bins) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bins", [1, 3, 100, 255, 1000, 4096])
def test_a_value_of_the_grid_lies_in_its_own_bin(bins, dtype, device):
    """k / bins, rounded as the value is, and what lies just below it: 0.251 is the 251st of 1000, not the 250th."""
    if dtype == torch.float64 and device.type == "mps":
        pytest.skip("no float64 on mps")
    grid = (torch.arange(bins + 1, dtype=torch.float64) / bins).to(dtype)
    below = torch.nextafter(grid, grid.new_tensor(-1))
    for values, expected in ((grid, [1] * (bins + 1)), (below, [2] + [1] * (bins - 1) + [0])):
        curve = PixelCurve(bins)
        curve.update(values.view(1, 1, 1, -1).to(device), torch.ones(1, 1, bins + 1, dtype=torch.bool, device=device))
        assert curve.foreground.tolist() == expected


@given(st.integers(0, 10**6), st.sampled_from([7, 100, 1000]))
def test_bins_are_those_of_comparing_with_the_grid(seed, bins):
    values = torch.rand(2, 1, 20, 20, generator=torch.Generator().manual_seed(seed))
    grid = torch.arange(bins + 1) / bins
    curve = PixelCurve(bins)
    curve.update(values, torch.ones(2, 20, 20, dtype=torch.bool))
    expected = torch.bincount((values[..., None] >= grid).sum(dim=-1).flatten() - 1, minlength=bins + 1)
    assert curve.foreground.tolist() == expected.tolist()


def test_pxap_of_fine_values_is_close_to_the_exact_one():
    masks, truth = torch.rand(4, 1, 32, 32), torch.rand(4, 32, 32) < 0.2
    masks = (masks + 0.5 * truth[:, None]) / 1.5
    exact = average_precision_score(truth.flatten().numpy(), masks.flatten().numpy())
    assert pxap(masks, truth) == pytest.approx(exact, abs=2e-3)


def test_ignored_pixels_do_not_count():
    masks, truth = torch.rand(2, 1, 8, 8), torch.rand(2, 8, 8) < 0.4
    ignore = torch.rand(2, 8, 8) < 0.3
    changed = torch.where(ignore[:, None], torch.rand(2, 1, 8, 8), masks)
    assert pxap(masks, truth, ignore) == pxap(changed, truth, ignore[:, None])
    assert pxap(masks, truth, ignore) != pxap(masks, truth)
    kept = ~ignore.flatten()
    levels = (masks * 1000).long().flatten()[kept]
    expected = average_precision_score(truth.flatten()[kept].numpy(), levels.numpy())
    assert pxap(masks, truth, ignore) == pytest.approx(expected)


def test_pxap_streams():
    masks, truth = torch.rand(7, 1, 6, 6), torch.rand(7, 6, 6) < 0.4
    curve = PixelCurve()
    for part in (slice(0, 3), slice(3, 4), slice(4, 7)):
        curve.update(masks[part], truth[part])
    assert curve.pxap() == pxap(masks, truth)
    assert curve.foreground.sum() == truth.sum() and curve.background.sum() == (~truth).sum()


def test_precision_recall_runs_from_the_highest_threshold_to_all():
    curve = PixelCurve(bins=10)
    curve.update(torch.rand(2, 1, 6, 6) * 0.8, torch.rand(2, 6, 6) < 0.4)
    precision, recall = curve.precision_recall()
    assert precision.shape == recall.shape == (11,)
    assert precision[0] == 1 and recall[0] == 0 and recall[-1] == 1
    assert (recall.diff() >= 0).all()
    found, false = curve.foreground.sum().item(), curve.background.sum().item()
    assert precision[-1].item() == pytest.approx(found / (found + false))


@pytest.mark.parametrize(
    ("masks", "truth", "message"),
    [
        (torch.full((1, 1, 4, 4), NAN), half_truth(), "NaN"),
        (torch.zeros(1, 4, 4), half_truth(), r"expected floats \(B, 1, H, W\)"),
        (torch.zeros(1, 1, 4, 4), half_truth().float(), "truth is torch.float32"),
        (torch.zeros(1, 1, 4, 5), half_truth(), r"truth is torch.bool \(1, 1, 4, 4\)"),
    ],
)
def test_pxap_refuses_bad_input(masks, truth, message):
    with pytest.raises(ValueError, match=message):
        PixelCurve().update(masks, truth)


def test_pxap_without_foreground_is_an_error():
    with pytest.raises(ValueError, match="no foreground pixel"):
        pxap(torch.rand(1, 1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="bins=0"):
        PixelCurve(0)


# Boxes


def by_hand(masks, boxes, thresholds, ious=(0.3, 0.5, 0.7)):
    """LE sweep, MaxBoxAcc and V2 by flood fill, one mask and one threshold at a time."""
    best = np.zeros((len(thresholds), len(masks)))
    anyone = np.zeros((len(thresholds), len(masks)))
    for row, threshold in enumerate(thresholds):
        for column, (mask, own) in enumerate(zip(masks[:, 0], boxes, strict=True)):
            components = flood_fill((mask > threshold).tolist())
            fits = [max(iou(box_of(part), tuple(b)) for b in own.tolist()) for part in components]
            if components:
                best[row, column] = fits[components.index(largest(components))]
                anyone[row, column] = max(fits)
    v2 = np.mean([(anyone >= level).mean(axis=1).max() for level in ious])
    return 1 - (best > 0.5).mean(axis=1), (best >= 0.5).mean(axis=1).max(), v2


@given(st.integers(0, 10**6), st.sampled_from([1, 2, 4, 9]), st.sampled_from(["noise", "smooth", "coarse"]))
def test_box_metrics_agree_with_labelling_every_threshold(seed, count, kind):
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(3, 1, *((9, 8) if kind == "noise" else (3, 3)), generator=generator)
    if kind != "noise":
        options = {"mode": "bilinear", "align_corners": False} if kind == "smooth" else {"mode": "nearest"}
        masks = F.interpolate(masks, (9, 8), **options)
    corners = torch.randint(0, 5, (3, 2, 4), generator=generator).float()
    boxes = [torch.cat([own[:, :2], own[:, :2] + own[:, 2:]], dim=1) for own in corners]
    thresholds = default_thresholds(count)
    curve = BoxCurve(thresholds)
    curve.update(masks, boxes)
    sweep, acc, v2 = by_hand(masks, boxes, thresholds.tolist())
    assert curve.localisation_error().tolist() == pytest.approx(sweep.tolist())
    assert curve.max_box_acc() == pytest.approx(acc)
    assert curve.max_box_acc_v2() == pytest.approx(v2)


def test_perfect_empty_and_full_maps():
    truth = torch.zeros(1, 1, 10, 10)
    truth[..., 2:5, 1:9] = 1
    boxes = [box(1, 2, 9, 5)]
    perfect, empty, full = BoxCurve(), BoxCurve(), BoxCurve()
    perfect.update(truth, boxes)
    empty.update(torch.zeros(1, 1, 10, 10), boxes)
    full.update(torch.ones(1, 1, 10, 10), boxes)
    assert (perfect.max_box_acc(), perfect.max_box_acc_v2()) == (1, 1)
    assert (empty.max_box_acc(), empty.max_box_acc_v2()) == (0, 0)
    assert (full.max_box_acc(), full.max_box_acc_v2()) == (0, 0)  # IoU 24 / 100
    assert perfect.localisation_error().tolist() == [0] * 100
    assert empty.localisation_error().tolist() == [1] * 100


def test_iou_of_one_half_counts_for_maxboxacc_but_not_for_le():
    curve = BoxCurve([0.5])
    masks = torch.zeros(1, 1, 4, 4)
    masks[..., :2] = 1
    curve.update(masks, [box(0, 0, 4, 4)])
    assert curve.max_box_acc() == 1
    assert curve.localisation_error().tolist() == [1]


def test_second_of_two_blobs_counts_for_v2_alone():
    masks = torch.zeros(1, 1, 6, 10)
    masks[..., 0:5, 0:5] = 0.9
    masks[..., 0:3, 7:10] = 0.9
    curve = BoxCurve()
    curve.update(masks, [box(7, 0, 10, 3)])
    assert curve.max_box_acc() == 0
    assert curve.max_box_acc_v2() == 1


def test_the_best_threshold_is_shared_by_the_images():
    """One mask fits above 0.25 only, the other below 0.25 only: no threshold serves both."""
    masks = torch.full((2, 1, 4, 4), 0.25)
    masks[0, :, :2, :2] = 0.5
    boxes = [box(0, 0, 2, 2), box(0, 0, 4, 4)]
    curve = BoxCurve()
    curve.update(masks, boxes)
    assert curve.max_box_acc() == 0.5
    sweep = curve.localisation_error()
    assert sweep[:25].tolist() == [0.5] * 25 and sweep[25:50].tolist() == [0.5] * 25
    assert sweep[50:].tolist() == [1] * 50


def test_a_pixel_at_the_threshold_lies_outside():
    curve = BoxCurve([0.25, 0.5])
    curve.update(torch.full((1, 1, 4, 4), 0.5), [box(0, 0, 4, 4)])
    assert curve.localisation_error().tolist() == [0, 1]


def test_minmax_makes_the_box_metrics_blind_to_scale():
    masks = F.interpolate(torch.rand(4, 1, 4, 4), (12, 12), mode="bilinear")
    boxes = [box(0, 0, 6, 6), box(3, 3, 9, 9), box(0, 6, 12, 12), box(2, 2, 12, 12)]
    scale = torch.tensor([0.9, 0.5, 0.3, 0.1]).view(4, 1, 1, 1)
    plain, scaled = BoxCurve(normalise="minmax"), BoxCurve(normalise="minmax")
    plain.update(masks, boxes)
    scaled.update(masks * scale + 0.05, boxes)
    difference = (plain.localisation_error() - scaled.localisation_error()).abs()
    assert (difference > 0).sum() <= 2  # values that rounding carries over a threshold
    raw = BoxCurve()
    raw.update(masks * scale, boxes)
    assert raw.localisation_error().tolist() != plain.localisation_error().tolist()


def test_normalise_maps():
    maps = torch.tensor([[[[0.2, 0.4, 0.6]]], [[[0.3, 0.3, 0.3]]]])
    assert normalise_maps(maps, "none") is maps
    expected = torch.tensor([[[[0.0, 0.5, 1.0]]], [[[0.0, 0.0, 0.0]]]])
    torch.testing.assert_close(normalise_maps(maps, "minmax"), expected)
    with pytest.raises(ValueError, match="normalise='max'"):
        BoxCurve(normalise="max")
    with pytest.raises(ValueError, match="normalise='max'"):
        PixelCurve(normalise="max")


def test_images_without_boxes_are_left_out():
    masks = torch.rand(3, 1, 8, 8)
    boxes = [box(0, 0, 8, 8), torch.zeros(0, 4), box(2, 2, 4, 4)]
    some, whole = BoxCurve(), BoxCurve()
    some.update(masks, boxes)
    some.update(masks[1:2], boxes[1:2])
    whole.update(masks[[0, 2]], [boxes[0], boxes[2]])
    assert some.images == whole.images == 2
    assert some.max_box_acc_v2() == whole.max_box_acc_v2()
    with pytest.raises(ValueError, match="no image with a ground-truth box"):
        BoxCurve().max_box_acc()


def test_box_curve_streams_and_takes_more_than_255_thresholds():
    masks = F.interpolate(torch.rand(5, 1, 5, 5), (15, 15), mode="bilinear")
    boxes = [box(0, 0, 9, 9), box(3, 3, 15, 15), box(0, 6, 12, 12), box(2, 2, 12, 12), box(5, 5, 9, 9)]
    for count in (100, 1000):
        whole, parts = BoxCurve(default_thresholds(count)), BoxCurve(default_thresholds(count))
        whole.update(masks, boxes)
        parts.update(masks[:2], boxes[:2])
        parts.update(masks[2:], boxes[2:])
        assert whole.localisation_error().tolist() == parts.localisation_error().tolist()
        assert whole.max_box_acc_v2() == parts.max_box_acc_v2()
        assert len(whole.localisation_error()) == count


def test_boxes_are_clipped_to_the_image():
    """The perfect mask of an object of which half is cut off."""
    masks = torch.zeros(1, 1, 4, 4)
    masks[..., 2:] = 1
    curve = BoxCurve()
    curve.update(masks, [box(2, 0, 7, 4)])
    assert curve.max_box_acc() == curve.max_box_acc_v2() == 1
    curve.update(masks, [box(5, 0, 7, 4)])  # nothing of it is in the image
    assert curve.images == 1


def test_the_protocol_of_wsolevaluation_draws_wider_boxes():
    """A square of 3 x 3: there its box has 4 x 4 pixels, and the annotation 0, 0, 3, 3 as well."""
    masks = torch.zeros(1, 1, 8, 8)
    masks[..., :3, :3] = 1
    for truth, ours, theirs in ((box(0, 0, 3, 3), 1, 1), (box(0, 0, 2, 2), 0, 1)):  # 4 / 9 here, 9 / 16 there
        here, there = BoxCurve(), BoxCurve(protocol="wsolevaluation")
        here.update(masks, [truth])
        there.update(masks, [truth])
        assert (here.max_box_acc(), there.max_box_acc()) == (ours, theirs)


def test_the_protocol_of_wsolevaluation_keeps_thresholds_in_double_precision():
    """0.7 of 250 is 175: a pixel of 175 bytes lies outside. Rounded to float32, 0.7 of 250 would be cut to 174."""
    masks = torch.zeros(1, 1, 4, 8)
    masks[..., :2], masks[..., 5] = 250.5 / 255, 175.5 / 255
    curve = BoxCurve([0.69, 0.7], protocol="wsolevaluation", ious=(0.9,))
    curve.update(masks, [box(5, 0, 6, 3)])
    assert curve._any.tolist() == [[1, 0]]


def test_another_protocol_is_named():
    with pytest.raises(ValueError, match="protocol='choe' is unknown; choose one of maskerlib, wsolevaluation"):
        BoxCurve(protocol="choe")


@pytest.mark.parametrize(
    "thresholds", [[], [0.5, 0.5], [0.6, 0.4], [0.5, 1.0], [-0.1, 0.5], [NAN], [[0.1, 0.2]]]
)
def test_bad_thresholds_are_refused(thresholds):
    with pytest.raises(ValueError, match="^thresholds"):
        BoxCurve(thresholds)


def test_box_curve_refuses_nan():
    with pytest.raises(ValueError, match="NaN"):
        BoxCurve().update(torch.full((1, 1, 4, 4), NAN), [box(0, 0, 1, 1)])


def test_curves_on_each_device(device):
    masks, truth = torch.rand(2, 1, 8, 8), torch.rand(2, 8, 8) < 0.5
    here, there = PixelCurve(), PixelCurve()
    here.update(masks, truth)
    there.update(masks.to(device), truth.to(device))
    assert here.foreground.tolist() == there.foreground.tolist()
    boxes = [box(0, 0, 8, 8), box(1, 1, 4, 4)]
    here, there = BoxCurve(), BoxCurve()
    here.update(masks, boxes)
    there.update(masks.to(device), [own.to(device) for own in boxes])
    assert here.localisation_error().tolist() == there.localisation_error().tolist()
