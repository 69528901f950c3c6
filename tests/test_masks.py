"""Masks: how they are made, blended with an image, and measured."""

import numpy as np
import pytest
import scipy.interpolate
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from maskerlib.classifiers.classifier import Classifier
from maskerlib.masking.masks import (
    area,
    mask_from_logits,
    masked_in,
    masked_out,
    total_variation,
)

sizes = st.integers(1, 7)
seeds = st.integers(0, 10_000)


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


class TestBlend:
    @settings(max_examples=30)
    @given(seeds, sizes, sizes, st.booleans())
    def test_ones_keep_zeros_hide_and_the_two_views_add_up(self, seed, height, width, plain):
        images = random(seed, 2, 3, height, width)
        hidden = random(seed + 1, *((1, 3, 1, 1) if plain else images.shape))
        masks = random(seed + 2, 2, 1, height, width)
        ones = torch.ones_like(masks)
        torch.testing.assert_close(masked_in(images, ones, hidden), images)
        torch.testing.assert_close(masked_in(images, 0 * ones, hidden), hidden.expand_as(images))
        torch.testing.assert_close(masked_out(images, ones, hidden), hidden.expand_as(images))
        torch.testing.assert_close(masked_out(images, 0 * ones, hidden), images)
        both = masked_in(images, masks, hidden) + masked_out(images, masks, hidden)
        torch.testing.assert_close(both, images + hidden)

    def test_by_hand(self):
        image, mask, hidden = torch.full((1, 3, 1, 1), 0.8), torch.full((1, 1, 1, 1), 0.25), torch.tensor(0.4)
        assert masked_in(image, mask, hidden).unique().item() == pytest.approx(0.25 * 0.8 + 0.75 * 0.4)
        assert masked_out(image, mask, hidden).unique().item() == pytest.approx(0.75 * 0.8 + 0.25 * 0.4)

    def test_the_mean_colour_is_zero_after_the_normalisation(self):
        classifier = Classifier(nn.Flatten(), (), mean=(0.2, 0.5, 0.7), std=(0.1, 0.3, 0.5))
        images = torch.rand(2, 3, 4, 5)
        hidden = masked_in(images, torch.zeros(2, 1, 4, 5), classifier.mean)
        torch.testing.assert_close(classifier(hidden), torch.zeros(2, 60))
        assert classifier(images).abs().max() > 1


class TestMaskFromLogits:
    def test_nearest_repeats_each_cell(self, device):
        logits = torch.tensor([[[[0.0, 20.0], [-20.0, 1.0]]]], device=device)
        mask = mask_from_logits(logits, (4, 6))
        assert mask.device.type == device.type and mask.shape == (1, 1, 4, 6)
        expected = logits.sigmoid().repeat_interleave(2, dim=2).repeat_interleave(3, dim=3)
        torch.testing.assert_close(mask, expected, rtol=0, atol=0)
        assert mask[0, 0, 0, 0] == 0.5

    def test_bilinear_interpolates_the_logits(self):
        mask = mask_from_logits(torch.tensor([[[[-4.0, 4.0]]]]), (1, 8), upsampling="bilinear")[0, 0, 0]
        torch.testing.assert_close(mask.logit(), torch.tensor([-4.0, -4, -3, -1, 1, 3, 4, 4]), rtol=0, atol=1e-4)

    @pytest.mark.parametrize("cells, pixels", [(5, 40), (7, 11), (1, 6), (9, 4)])
    def test_smooth_is_the_cubic_spline_of_scipy(self, cells, pixels):
        logits = random(0, 2, 1, cells, 3).double()
        mask = mask_from_logits(logits, (pixels, 3 * pixels), upsampling="smooth")
        expected = logits.numpy()
        for axis, count in ((2, pixels), (3, 3 * pixels)):  # edges repeated, then one spline per axis
            size = expected.shape[axis]
            padded = np.pad(expected, [(2, 2) if each == axis else (0, 0) for each in range(4)], mode="edge")
            knots = np.arange(size + 8) - 4.0  # so that the spline of a padded cell is centred on its place
            centres = (np.arange(count) + 0.5) * size / count - 0.5
            expected = scipy.interpolate.BSpline(knots, padded, 3, axis=axis)(centres)
        torch.testing.assert_close(mask.logit(), torch.from_numpy(expected), rtol=0, atol=1e-6)

    def test_smooth_keeps_a_constant_and_the_mean_and_carries_gradients(self, device):
        logits = torch.full((2, 1, 4, 6), 0.7, device=device, requires_grad=True)
        mask = mask_from_logits(logits, (31, 45), upsampling="smooth")
        torch.testing.assert_close(mask, logits.sigmoid()[..., :1, :1].expand_as(mask))
        mask.sum().backward()
        assert (logits.grad > 0).all()

    @pytest.mark.parametrize("shape", [(2, 2), (1, 2, 2), (1, 3, 2, 2)])
    def test_another_shape_is_named(self, shape):
        with pytest.raises(ValueError, match=r"mask logits have shape .*expected \(B, 1, h, w\)"):
            mask_from_logits(torch.zeros(shape), (4, 4))

    def test_another_upsampling_is_named(self):
        with pytest.raises(ValueError, match="upsampling='bicubic' is unknown; choose one of nearest, bilinear, smooth"):
            mask_from_logits(torch.zeros(1, 1, 2, 2), (4, 4), upsampling="bicubic")


def released_tv(mask: np.ndarray) -> float:
    """The release's sum, one square at a time: the neighbours' differences, and 0.3 of each border's squares."""
    height, width = mask.shape
    total = 0.0
    for row in range(height):
        for column in range(width):
            here = mask[row, column]
            total += (mask[row + 1, column] - here) ** 2 if row + 1 < height else 0.3 * here**2
            total += (mask[row, column + 1] - here) ** 2 if column + 1 < width else 0.3 * here**2
            total += 0.3 * here**2 if row == 0 else 0.0
            total += 0.3 * here**2 if column == 0 else 0.0
    return total


class TestMeasures:
    def test_total_variation_at_224_is_the_release_s(self):
        masks = random(0, 2, 1, 224, 224).double()
        expected = torch.tensor([released_tv(mask[0].numpy()) for mask in masks])
        torch.testing.assert_close(total_variation(masks), expected)

    def test_total_variation_by_hand(self):
        # Four cells of 112 pixels, one of them full: two inner edges and two border edges of 112 pixels.
        mask = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
        assert total_variation(mask).item() == pytest.approx(2 * 112 + 2 * 0.3 * 112)
        assert total_variation(torch.zeros(1, 1, 3, 5)).item() == 0
        assert total_variation(torch.ones(1, 1, 3, 5)).item() == pytest.approx(4 * 0.3 * 224)

    @settings(max_examples=30)
    @given(seeds, sizes, sizes, st.integers(1, 5))
    def test_replication_changes_neither_measure(self, seed, height, width, factor):
        cells = random(seed, 2, 1, height, width)
        pixels = mask_from_logits(cells.logit(), (factor * height, factor * width))
        torch.testing.assert_close(total_variation(pixels), total_variation(cells), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(area(pixels), area(cells), rtol=1e-4, atol=1e-4)

    def test_area_is_a_share_of_each_image(self):
        masks = torch.zeros(3, 1, 4, 5)
        masks[1] = 1
        masks[2, :, :2] = 0.5
        torch.testing.assert_close(area(masks), torch.tensor([0, 1, 0.25]))
