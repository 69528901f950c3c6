"""The per-image metrics: worked out by hand on small grids, and against independent versions."""

import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from oracles import box_of, flood_fill, iou, largest
from PIL import Image
from torch import nn

from maskerlib.classifiers.classifier import Classifier
from maskerlib.metrics.boxes import predicted_boxes
from maskerlib.metrics.per_image import (
    RESIZES,
    crop_and_resize,
    f1,
    localisation_error,
    mask_statistics,
    official_metric,
    saliency_metric,
    top1,
)

NAN = float("nan")
NO_BOX = torch.zeros(0, 4)


class Colours(nn.Module):
    """Logits are 4 times the mean red, green and blue of the image."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return 4 * images.mean(dim=(2, 3))


def colours(mean=(0.0, 0.0, 0.0), size=(4, 4)) -> Classifier:
    return Classifier(Colours(), (), mean=mean, std=(1, 1, 1), input_size=size, name="colours")


def box(*corners: float) -> torch.Tensor:
    return torch.tensor([corners], dtype=torch.float32)


# LE


@pytest.mark.parametrize(
    ("predicted", "boxes", "error"),
    [
        (box(0, 0, 4, 4), box(0, 0, 4, 4), 0),  # perfect
        (box(0, 0, 0, 0), box(0, 0, 4, 4), 1),  # empty
        (box(0, 0, 0, 0), box(0, 0, 0, 0), 1),  # empty against an empty annotation
        (box(0, 0, 2, 4), box(0, 0, 4, 4), 1),  # IoU exactly one half is not above it
        (box(0, 0, 3, 3), box(0, 0, 4, 4), 0),  # 9 / 16
        (box(0, 0, 3, 2), box(1, 0, 4, 2), 1),  # 4 / 8
        (box(0, 0, 4, 4), torch.cat([box(0, 0, 1, 1), box(0, 0, 4, 3)]), 0),  # the second of two
    ],
)
def test_le_by_hand(predicted, boxes, error):
    assert localisation_error(predicted, [boxes]).tolist() == [error]


def test_le_is_unknown_without_a_box():
    errors = localisation_error(torch.zeros(2, 4), [NO_BOX, box(0, 0, 1, 1)])
    assert errors.tolist() == pytest.approx([NAN, 1], nan_ok=True)


def test_le_has_other_iou_levels():
    assert localisation_error(box(0, 0, 2, 4), [box(0, 0, 4, 4)], iou=0.3).tolist() == [0]
    assert localisation_error(box(0, 0, 3, 4), [box(0, 0, 4, 4)], iou=0.8).tolist() == [1]


@given(hnp.arrays(np.float32, (6, 6), elements=st.sampled_from([0, 0.25, 0.5, 0.75, 1])))
def test_le_from_mask_to_error_agrees_with_the_definition(values):
    truth = (1, 1, 5, 4)
    found = largest(flood_fill((values > values.mean(dtype=np.float64)).tolist()))
    expected = float(not found or iou(box_of(found), truth) <= 0.5)
    predicted = predicted_boxes(torch.from_numpy(values)[None, None])
    assert localisation_error(predicted, [box(*truth)]).tolist() == [expected]


def test_le_of_the_visible_part_of_a_box():
    """The perfect mask of an object of which half is cut off: LE 0, and not 1."""
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., 2:] = 1
    truth = [box(2, 0, 6, 4)]
    predicted = predicted_boxes(mask)
    assert localisation_error(predicted, truth).tolist() == [1]  # IoU one half
    assert localisation_error(predicted, truth, size=(4, 4)).tolist() == [0]
    logits, labels = torch.tensor([[0.0, 1.0]]), torch.tensor([1])
    assert official_metric(predicted, truth, logits, labels, size=(4, 4)).tolist() == [0]
    assert official_metric(predicted, truth, logits, labels).tolist() == [1]
    assert localisation_error(predicted, [box(5, 0, 9, 4)], size=(4, 4)).isnan().all()  # no box of this image


# OM and top-1


def test_om_needs_both_the_box_and_the_class():
    hit, miss = box(0, 0, 4, 4), box(0, 0, 1, 1)
    predicted = torch.cat([hit, hit, miss, miss])
    logits = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    labels = torch.tensor([1, 1, 1, 1])
    truth = [box(0, 0, 4, 4)] * 4
    assert top1(logits, labels).tolist() == [1, 0, 1, 0]
    assert official_metric(predicted, truth, logits, labels).tolist() == [0, 1, 1, 1]


def test_om_is_unknown_without_label_or_box():
    logits = torch.tensor([[0.0, 1.0]] * 3)
    predicted = torch.zeros(3, 4)
    om = official_metric(predicted, [box(0, 0, 1, 1), NO_BOX, NO_BOX], logits, torch.tensor([-1, 0, -1]))
    assert om.isnan().all()
    assert top1(logits, torch.tensor([-1, 1, 0])).tolist() == pytest.approx([NAN, 1, 0], nan_ok=True)


# F1


def test_f1_by_hand():
    """4x4 image, box 2x2 at the top left. Area 4."""
    truth = box(0, 0, 2, 2)
    perfect = torch.zeros(1, 1, 4, 4)
    perfect[..., :2, :2] = 1
    cases = {
        "perfect": (perfect, 1.0),
        "empty": (torch.zeros(1, 1, 4, 4), 0.0),
        "full: precision 4/16, recall 1": (torch.ones(1, 1, 4, 4), 2 * 0.25 / 1.25),
        "faint: precision 1, recall 1/2": (perfect / 2, 2 * 0.5 / 1.5),
        "outside": (1 - perfect, 0.0),
        "one pixel: precision 1, recall 1/4": (
            perfect * torch.eye(4)[0] * torch.eye(4)[0][:, None],
            2 * 0.25 / 1.25,
        ),
    }
    for name, (mask, expected) in cases.items():
        best, mean = f1(mask, [truth])
        assert best.item() == pytest.approx(expected), name
        assert mean.item() == pytest.approx(expected), name


def test_f1_is_the_best_and_f1a_the_mean_over_boxes():
    mask = torch.zeros(2, 1, 4, 4)
    mask[0, :, :2, :2] = 1
    boxes = [torch.cat([box(0, 0, 2, 2), box(2, 2, 4, 4)]), NO_BOX]
    best, mean = f1(mask, boxes)
    assert best.tolist() == pytest.approx([1.0, NAN], nan_ok=True)
    assert mean.tolist() == pytest.approx([0.5, NAN], nan_ok=True)


def test_f1_leaves_out_what_lies_outside_the_image():
    best, _ = f1(torch.ones(1, 1, 4, 4), [box(-4, -4, 8, 8)])
    assert best.item() == pytest.approx(1.0)


def test_f1_of_a_box_partly_outside_is_that_of_its_visible_part():
    """Mask of one half, box 2 x 4 of which 1 x 4 is visible: precision 2 / 8, recall 2 / 4."""
    best, mean = f1(torch.full((1, 1, 4, 4), 0.5), [box(3, 0, 5, 4)])
    assert best.item() == pytest.approx(2 * 0.25 * 0.5 / 0.75) and mean.item() == best.item()
    best, mean = f1(torch.ones(2, 1, 4, 4), [torch.cat([box(0, 0, 4, 4), box(5, 0, 9, 4)]), box(5, 0, 9, 4)])
    assert mean.tolist() == pytest.approx([1.0, NAN], nan_ok=True)  # a box with nothing inside is none of the image's


@given(hnp.arrays(np.float32, (5, 6), elements=st.floats(0, 1, width=32)))
def test_f1_agrees_with_precision_and_recall(values):
    x0, y0, x1, y1 = 1, 2, 5, 4
    inside, total = values[y0:y1, x0:x1].sum(dtype=np.float64), values.sum(dtype=np.float64)
    precision, recall = inside / total if total else 0.0, inside / ((x1 - x0) * (y1 - y0))
    expected = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    assert f1(torch.from_numpy(values)[None, None], [box(x0, y0, x1, y1)])[0].item() == pytest.approx(
        expected, abs=1e-5
    )


@pytest.mark.parametrize(
    "bad", [torch.full((1, 1, 4, 4), NAN), torch.zeros(1, 4, 4), torch.full((1, 1, 4, 4), 2.0)]
)
def test_f1_and_statistics_refuse_bad_masks(bad):
    with pytest.raises(ValueError, match="^masks: "):
        f1(bad, [box(0, 0, 1, 1)])
    with pytest.raises(ValueError, match="^masks: "):
        mask_statistics(bad)


# SM


def red_then_green() -> torch.Tensor:
    """4x4, left half pure red, right half pure green."""
    image = torch.zeros(1, 3, 4, 4)
    image[:, 0, :, :2] = 1
    image[:, 1, :, 2:] = 1
    return image


def log_softmax(logits: list[float], index: int) -> float:
    return logits[index] - math.log(sum(math.exp(value) for value in logits))


@pytest.mark.parametrize(
    ("predicted", "share", "seen"),
    [
        (box(0, 0, 2, 4), 0.5, [4, 0, 0]),  # half the image, red only
        (box(2, 0, 4, 4), 0.5, [0, 4, 0]),  # the wrong half
        (box(0, 0, 1, 1), 1 / 16, [4, 0, 0]),  # one pixel, still above the floor of 0.05
        (box(0, 0, 0, 0), 0.05, [0.8, 2, 1.2]),  # empty: area floor, and the mean colour
    ],
)
def test_sm_by_hand(predicted, share, seen):
    classifier = colours(mean=(0.2, 0.5, 0.3))
    # The network sees images minus the mean; the logits by hand are of what it sees.
    seen = [value - 4 * mean for value, mean in zip(seen, (0.2, 0.5, 0.3), strict=True)]
    sm = saliency_metric(red_then_green(), predicted, torch.tensor([0]), classifier)
    assert sm.item() == pytest.approx(math.log(share) - log_softmax(seen, 0), abs=1e-5)


def test_sm_of_the_whole_image_is_its_negative_log_probability():
    images = torch.rand(3, 3, 8, 6)
    classifier = colours(size=(8, 6))
    labels = torch.tensor([0, 1, 2])
    sm = saliency_metric(images, box(0, 0, 6, 8).expand(3, 4), labels, classifier)
    torch.testing.assert_close(sm, nn.functional.cross_entropy(classifier(images), labels, reduction="none"))


def test_sm_floor():
    image = torch.zeros(1, 3, 10, 10)
    image[:, 0] = 1
    one, four = (
        saliency_metric(image, b, torch.tensor([0]), colours()) for b in (box(0, 0, 1, 1), box(0, 0, 2, 2))
    )
    assert one.item() == pytest.approx(four.item())
    assert one.item() == pytest.approx(math.log(0.05) - log_softmax([4, 0, 0], 0), abs=1e-5)


def test_sm_leaves_no_graph_and_refuses_targets_that_are_no_class():
    classifier = Classifier(
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)), (), name="two"
    )
    images = torch.rand(1, 3, 8, 8)
    assert not saliency_metric(images, box(0, 0, 8, 8), torch.tensor([1]), classifier).requires_grad
    with pytest.raises(ValueError, match="target -1"):
        saliency_metric(images, box(0, 0, 8, 8), torch.tensor([-1]), classifier)
    with pytest.raises(ValueError, match="target 2: two has classes 0 to 1"):
        saliency_metric(images, box(0, 0, 8, 8), torch.tensor([2]), classifier)


@pytest.mark.parametrize("corners", [(2, 3, 17, 9), (0, 0, 40, 30), (5, 5, 6, 30)])
def test_crop_agrees_with_pillow(corners):
    """Bicubic with antialiasing, upwards and downwards. Clamped: bicubic overshoots at edges."""
    image = torch.rand(1, 3, 30, 40)
    crop = crop_and_resize(image, box(*corners), (12, 16), torch.zeros(1, 3, 1, 1))
    for channel in range(3):
        picture = (
            Image.fromarray(image[0, channel].numpy())
            .crop(corners)
            .resize((16, 12), Image.Resampling.BICUBIC)
        )
        np.testing.assert_allclose(crop[0, channel].numpy(), np.asarray(picture).clip(0, 1), atol=1e-5)


@pytest.mark.parametrize("corners", [(2, 3, 17, 9), (0, 0, 40, 30), (5, 5, 6, 30), (39, 0, 40, 1), (0, 0, 3, 28)])
@pytest.mark.parametrize("size", [(12, 16), (30, 7)])
def test_crop_agrees_with_opencv(corners, size):
    """INTER_CUBIC upwards and downwards, on numbers as they are: nothing is averaged, and nothing clamped."""
    image = torch.rand(1, 3, 30, 40)
    x0, y0, x1, y1 = corners
    blank = torch.zeros(1, 3, 1, 1)
    crop = crop_and_resize(image, box(*corners), size, blank, resize="opencv")[0].permute(1, 2, 0).numpy()
    part = np.ascontiguousarray(image[0, :, y0:y1, x0:x1].permute(1, 2, 0).numpy())
    expected = cv2.resize(part, size[::-1], interpolation=cv2.INTER_CUBIC)
    np.testing.assert_allclose(crop, expected, atol=3e-6)


def test_opencv_does_not_clamp_and_the_two_resizes_are_two():
    image = (torch.rand(1, 3, 30, 40) > 0.5).float()
    blank = torch.zeros(1, 3, 1, 1)
    soft, sharp = (crop_and_resize(image, box(0, 0, 40, 30), (12, 16), blank, resize=name) for name in RESIZES)
    assert sharp.min() < 0 and sharp.max() > 1 and soft.min() >= 0 and soft.max() <= 1
    assert torch.equal(soft, crop_and_resize(image, box(0, 0, 40, 30), (12, 16), blank))
    values = [
        saliency_metric(image, box(0, 0, 40, 30), torch.tensor([0]), colours(), resize=name).item() for name in RESIZES
    ]
    assert values[0] != values[1]
    assert values[0] == saliency_metric(image, box(0, 0, 40, 30), torch.tensor([0]), colours()).item()


def test_another_resize_is_named():
    with pytest.raises(ValueError, match="resize='cubic' is unknown; choose one of antialias, opencv"):
        saliency_metric(torch.rand(1, 3, 4, 4), box(0, 0, 4, 4), torch.tensor([0]), colours(), resize="cubic")


def test_sm_of_a_sigmoid_head_asks_the_target_s_own_yes_or_no():
    """The whole image, red: the logit of red is 4, and p = 1 / (1 + exp(-4)) whatever the other logits."""
    classifier = Classifier(Colours(), (), mean=(0,) * 3, std=(1,) * 3, input_size=(4, 4), head="sigmoid")
    image = torch.zeros(1, 3, 4, 4)
    image[:, 0] = 1
    sm = saliency_metric(image, box(0, 0, 4, 4), torch.tensor([0]), classifier)
    assert sm.item() == pytest.approx(math.log(1 + math.exp(-4)), abs=1e-5)


def test_crop_of_an_empty_box_is_blank():
    blank = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)
    crop = crop_and_resize(torch.rand(2, 3, 6, 6), torch.zeros(2, 4), (4, 5), blank)
    torch.testing.assert_close(crop, blank.expand(2, 3, 4, 5))


# Statistics


def test_statistics_by_hand():
    half = torch.zeros(1, 1, 4, 4)
    half[..., :2] = 1
    masks = torch.cat([torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4), half, torch.full((1, 1, 4, 4), 0.5)])
    statistics = mask_statistics(masks)
    assert statistics["mean"].tolist() == [0, 1, 0.5, 0.5]
    assert statistics["binarised"].tolist() == [0, 0, 0.5, 0]
    assert statistics["TV"].tolist() == pytest.approx(
        [0, 0, 4 / 12, 0]
    )  # 4 of 12 horizontal neighbours differ
    assert statistics["entropy"].tolist() == [0, 0, 0, 1]


def test_entropy_of_a_quarter_and_a_checkerboard():
    assert mask_statistics(torch.full((1, 1, 2, 2), 0.25))["entropy"].item() == pytest.approx(
        0.811278, abs=1e-5
    )
    board = (torch.arange(4)[:, None] + torch.arange(4)) % 2
    assert mask_statistics(board[None, None].float())["TV"].item() == 2


def test_double_precision_is_kept_and_single_agrees():
    masks, images = torch.rand(3, 1, 8, 8).double(), torch.rand(3, 3, 8, 8).double()
    boxes = [box(0, 0, 3, 3), box(1.5, 2, 9, 7), box(2, 2, 4, 8)]
    predicted, labels = predicted_boxes(masks), torch.tensor([0, 1, 2])

    def values(masks: torch.Tensor, images: torch.Tensor, classifier: Classifier) -> list[torch.Tensor]:
        sm = saliency_metric(images, predicted, labels, classifier)
        return [*f1(masks, boxes), sm, *mask_statistics(masks).values()]

    exact = values(masks, images, colours(size=(8, 8)).double())
    assert all(value.dtype == torch.float64 for value in exact)
    for value, single in zip(exact, values(masks.float(), images.float(), colours(size=(8, 8))), strict=True):
        assert single.dtype == torch.float32
        torch.testing.assert_close(value.float(), single, rtol=1e-5, atol=1e-6)


def test_f1_by_finite_differences():
    masks = (0.1 + 0.8 * torch.rand(2, 1, 4, 4)).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda m: f1(m, [box(0.5, 0, 3, 3), box(1, 1, 6, 4)])[1], masks)


def test_metrics_run_on_the_device_of_their_input(device):
    masks = torch.rand(2, 1, 6, 6, device=device)
    images, boxes = torch.rand(2, 3, 6, 6, device=device), [box(0, 0, 3, 3), NO_BOX]
    predicted = predicted_boxes(masks)
    classifier = colours(size=(6, 6)).to(device)
    labels = torch.tensor([0, -1], device=device)
    values = [
        localisation_error(predicted, boxes),
        official_metric(predicted, boxes, classifier(images), labels),
        *f1(masks, boxes),
        saliency_metric(images, predicted, labels.clamp(min=0), classifier),
        *mask_statistics(masks).values(),
    ]
    assert {value.device.type for value in values} == {device.type}
    assert all(value.shape == (2,) for value in values)
