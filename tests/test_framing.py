"""Whole images fitted and windows cut out: pixels, boxes and masks move alike, and no image is too long."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from maskerlib.data.boxes import mask_box
from maskerlib.data.files import framing
from maskerlib.data.files.framing import cut, fit, mirror


def scaled_then_cropped(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """What `fit` means, by the plain way: all of the image is scaled, and most of it may be thrown away."""
    scale = max(height / image.shape[1], width / image.shape[2])
    rows, columns = max(height, round(image.shape[1] * scale)), max(width, round(image.shape[2] * scale))
    whole = F.interpolate(image[None], (rows, columns), mode="bilinear", antialias=True)[0]
    top, left = (rows - height) // 2, (columns - width) // 2
    return whole[:, top : top + height, left : left + width]


def test_fit_to_its_own_size_changes_nothing():
    image, mask = torch.rand(3, 6, 8), torch.rand(6, 8) > 0.5
    boxes = torch.tensor([[0.0, 0.0, 8.0, 6.0], [1.0, 2.0, 3.0, 4.0]])
    fitted = fit(image, (6, 8), boxes=boxes, mask=mask)
    assert all(torch.equal(after, before) for after, before in zip(fitted, (image, boxes, mask), strict=True))


def test_fit_by_hand():
    """8 high, 16 wide, to 4x4: halved to 4x8, then 2 columns fall off on either side."""
    image = torch.zeros(3, 8, 16)
    image[:, :, 4:8] = 1
    boxes = torch.tensor([[4.0, 0, 8, 8], [0, 2, 6, 6], [0, 0, 4, 8], [10, 4, 16, 8]])
    fitted, moved, mask = fit(image, 4, boxes=boxes, mask=image[0] > 0)
    assert moved.tolist() == [[0, 0, 2, 4], [0, 1, 1, 3], [3, 2, 4, 4]]  # the third lay outside the crop
    assert mask.tolist() == [[True, True, False, False]] * 4
    assert fitted.shape == (3, 4, 4)
    assert fitted[0, 1].tolist() == [
        0.875,
        0.875,
        0.125,
        0,
    ]  # antialiasing weighs 4 columns by 1, 3, 3, 1 eighths


def test_fit_without_boxes_or_mask():
    fitted, boxes, mask = fit(torch.rand(3, 5, 9), (7, 3))
    assert fitted.shape == (3, 7, 3) and boxes.shape == (0, 4) and mask is None
    assert 0 <= fitted.min() and fitted.max() <= 1
    with pytest.raises(ValueError, match="size=0"):
        fit(torch.rand(3, 5, 9), 0)


@given(st.integers(20, 80), st.integers(20, 80), st.integers(8, 60), st.data())
def test_fit_moves_boxes_and_masks_alike(height, width, size, data):
    x0, y0 = data.draw(st.integers(0, width - 8)), data.draw(st.integers(0, height - 8))
    x1, y1 = data.draw(st.integers(x0 + 8, width)), data.draw(st.integers(y0 + 8, height))
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[y0:y1, x0:x1] = True
    box = torch.tensor([[x0, y0, x1, y1]], dtype=torch.float32)
    _, boxes, fitted = fit(torch.zeros(3, height, width), size, boxes=box, mask=mask)
    assert fitted.shape == (size, size)
    for found in mask_box(fitted):
        assert (boxes[0] - found).abs().max() <= 1
    if len(boxes):
        assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= size).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()


# An image that is much longer than wide


@pytest.mark.parametrize("sides", [(3, 400), (400, 3), (40, 900), (1, 333), (333, 1), (17, 2000), (500, 40)])
@pytest.mark.parametrize("size", [(24, 24), (20, 31), (64, 9), (2, 2)])
def test_only_what_is_seen_is_scaled_with_the_same_result(sides, size):
    """The plain way has to count in float64 to be exact: a place among thousands of pixels costs float32 five digits."""
    image = torch.rand(3, *sides)
    exact = scaled_then_cropped(image.double(), *size).float()
    torch.testing.assert_close(fit(image, size)[0], exact, rtol=0, atol=3e-6)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(2, 40), st.integers(2, 40), st.sampled_from([1, 3, 4]))
def test_any_image_fits(height, width, rows, columns, channels):
    image = torch.rand(channels, height, width)
    fitted, boxes, mask = fit(image, (rows, columns), mask=image[0] > 0.5)
    assert fitted.shape == (channels, rows, columns) and mask.shape == (rows, columns) and boxes.shape == (0, 4)
    assert fitted.min() >= 0 and fitted.max() <= 1 and fitted.is_contiguous() and fitted.dtype == torch.float32
    exact = scaled_then_cropped(image.double(), rows, columns).float()
    torch.testing.assert_close(fitted, exact, rtol=0, atol=1e-4)


@pytest.mark.parametrize("sides", [(30, 40), (64, 64), (20, 150)])
def test_an_ordinary_image_has_the_digits_of_the_plain_way(sides):
    image = torch.rand(3, *sides)
    assert torch.equal(fit(image, 32)[0], scaled_then_cropped(image, 32, 32))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("sides", [(1, 60_000), (60_000, 1), (1, 10_000)])
def test_a_line_of_pixels_needs_neither_time_nor_memory(sides, monkeypatch):
    """Scaled as a whole it would have 224 x 13,440,000 pixels."""
    asked = []
    monkeypatch.setattr(framing.F, "interpolate", lambda *args, **_: asked.append(args))
    middle = torch.arange(max(sides), dtype=torch.float32).view(1, *sides) / max(sides)
    fitted, boxes, mask = fit(middle, 224, boxes=torch.tensor([[0.0, 0, sides[1], sides[0]]]), mask=middle[0] >= 0.5)
    assert not asked
    assert fitted.shape == (1, 224, 224) and fitted.mean() == pytest.approx(0.5, abs=1e-3)
    assert boxes.tolist() == [[0, 0, 224, 224]] and 0 < mask.float().mean() < 1


@pytest.mark.parametrize("size", [0, -3, (4, 0), (3,), (3, 4, 5), 2.5, "8", True, None])
def test_a_size_that_is_none_is_named(size):
    with pytest.raises(ValueError, match="size=.*: expected pixels per side, 1 or more, or "):
        fit(torch.rand(3, 5, 9), size)


# Windows


def test_cut_by_hand():
    """The right half of 4x8, halved to 2x2; the object fills the half's left columns."""
    image = torch.zeros(3, 4, 8)
    image[:, :, 4:6] = 1
    boxes = torch.tensor([[4.0, 0, 6, 4], [0, 0, 4, 4], [3, 1, 8, 3]])
    part, moved, mask = cut(image, (4, 0, 8, 4), 2, boxes=boxes, mask=image[0] > 0)
    assert moved.tolist() == [[0, 0, 1, 2], [0, 0.5, 2, 1.5]]  # the second lay outside the window
    assert mask.tolist() == [[True, False]] * 2
    torch.testing.assert_close(
        part[0, 0], torch.tensor([6 / 7, 1 / 7])
    )  # antialiasing weighs columns by 3, 3, 1 sevenths
    flipped, turned, other = cut(image, (4, 0, 8, 4), 2, flip=True, boxes=boxes, mask=image[0] > 0)
    assert torch.equal(flipped, part.flip(2)) and torch.equal(other, mask.flip(1))
    assert turned.tolist() == [[1, 0, 2, 2], [0, 0.5, 2, 1.5]]


def test_a_window_of_the_wanted_size_is_copied():
    image = torch.rand(3, 9, 11)
    part, boxes, mask = cut(image, (2, 3, 8, 7), (4, 6))
    assert torch.equal(part, image[:, 3:7, 2:8]) and boxes.shape == (0, 4) and mask is None


@pytest.mark.parametrize("window", [(-1, 0, 3, 3), (0, 0, 12, 3), (3, 0, 3, 3), (0, 5, 3, 4), (0, 0, 3, 10)])
def test_a_window_outside_the_image_is_refused(window):
    with pytest.raises(ValueError, match="window .* of an image 11x9: expected a part of it"):
        cut(torch.rand(3, 9, 11), window, 4)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 40), st.data())
def test_windows_of_every_shape_become_the_size(height, width, size, data):
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x1, y1 = data.draw(st.integers(x0 + 1, width)), data.draw(st.integers(y0 + 1, height))
    image = torch.rand(3, height, width)
    part, boxes, mask = cut(
        image, (x0, y0, x1, y1), size, boxes=torch.tensor([[0.0, 0, width, height]]), mask=image[0] >= 0
    )
    assert part.shape == (3, size, size) and part.min() >= 0 and part.max() <= 1
    assert boxes.tolist() == [[0, 0, size, size]] and mask.all()


def test_mirroring_twice_changes_nothing():
    image, mask = torch.rand(3, 4, 6), torch.rand(4, 6) > 0.5
    boxes = torch.tensor([[0.0, 0, 2, 4], [1, 1, 6, 3]])
    once = mirror(image, boxes, mask)
    assert once[1].tolist() == [[4, 0, 6, 4], [0, 1, 5, 3]]
    assert all(torch.equal(a, b) for a, b in zip(mirror(*once), (image, boxes, mask), strict=True))
