"""What is drawn for a window: the closed form of a normal distribution given its frame, or windows of the pool as they are."""

import numpy as np
import pytest
import torch
from torch import Tensor

from maskerlib.methods.patch_samplers import VARIANCE, ConditionalSampler, MarginalSampler, conditional_normal
from maskerlib.running.seeds import stream


def pool(count: int = 8, size: int = 20, channels: int = 2) -> Tensor:
    """Noise that is smooth, so that neighbours tell of each other, and in the second channel upside down."""
    noise = torch.rand(count, channels, size + 2, size + 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.nn.functional.avg_pool2d(noise, 3, stride=1)


def test_a_normal_given_some_of_it_has_the_closed_form_of_its_precision():
    """Of the precision P = S^-1: C = P_uu^-1, A = -C P_uk; another way to the same numbers."""
    root = torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    covariance = root @ root.mT + 0.1 * torch.eye(6, dtype=torch.float64)
    known = torch.tensor([True, False, True, True, False, True])
    slope, within = conditional_normal(covariance, known)
    precision = covariance.inverse()
    expected = precision[:, ~known][:, :, ~known].inverse()
    torch.testing.assert_close(within, expected)
    torch.testing.assert_close(slope, -expected @ precision[:, ~known][:, :, known])


@pytest.mark.parametrize(("top", "left", "corner"), [(8, 9, (7, 8)), (0, 9, (0, 8)), (18, 18, (16, 16)), (18, 0, (16, 0))])
def test_draws_have_the_mean_and_covariance_of_the_window_given_its_frame(top, left, corner):
    """Against NumPy's covariance of all patches; at the border the frame moves inwards."""
    window, frame, side = 2, 1, 4
    images = pool()
    sampler = ConditionalSampler(images, window, frame, samples=20_000)
    draws = sampler(images[0], top, left, stream(0, "test"))
    assert draws.shape == (20_000, 2, window, window)
    inside = np.zeros((side, side), dtype=bool)
    inside[top - corner[0] : top - corner[0] + window, left - corner[1] : left - corner[1] + window] = True
    u, k = inside.ravel(), ~inside.ravel()
    for channel in range(2):
        every = np.array(
            [
                image[y : y + side, x : x + side].ravel()
                for image in images[:, channel].numpy()
                for y in range(17)
                for x in range(17)
            ]
        )
        covariance = np.cov(every.T, ddof=0) + VARIANCE * np.eye(side * side)
        patch = images[0, channel, corner[0] : corner[0] + side, corner[1] : corner[1] + side].numpy().ravel()
        slope = covariance[np.ix_(u, k)] @ np.linalg.inv(covariance[np.ix_(k, k)])
        mean = every.mean(axis=0)[u] + slope @ (patch[k] - every.mean(axis=0)[k])
        within = covariance[np.ix_(u, u)] - slope @ covariance[np.ix_(k, u)]
        found = draws[:, channel].flatten(1).numpy()
        error = np.sqrt(np.diag(within) / len(found))
        assert (np.abs(found.mean(axis=0) - mean) < 5 * error + 1e-3).all()  # draws beyond the pool's range are clipped
        assert np.abs(np.cov(found.T) - within).max() < 0.05 * within.max()
        assert np.diag(within).max() < 0.7 * np.diag(covariance)[u].max()  # the frame tells much


def test_draws_stay_in_the_range_of_the_pool_at_each_pixel_and_differ():
    images = pool(2, 8)
    draws = ConditionalSampler(images, 2, 1, samples=500)(images[0], 3, 3, stream(0, "test"))
    low, high = (end for end in images.unfold(2, 4, 1).unfold(3, 4, 1).flatten(2, 3).flatten(0, 1).aminmax(dim=1))
    for channel in range(2):
        ends = [end.view(2, 2, 4, 4)[:, channel, 1:3, 1:3] for end in (low, high)]
        assert (draws[:, channel] >= ends[0].amin(dim=0)).all() and (draws[:, channel] <= ends[1].amax(dim=0)).all()
    assert len(draws.unique(dim=0)) == 500


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_of_a_flat_pool_nothing_but_its_colour_is_drawn(value):
    flat = torch.full((1, 3, 9, 9), value)
    draws = ConditionalSampler(flat, 3, 1, samples=4)(flat[0], 2, 0, stream(0, "test"))
    torch.testing.assert_close(draws, torch.full((4, 3, 3, 3), value))


def test_a_frame_that_does_not_fit_is_smaller():
    images = pool(2, 4)
    assert ConditionalSampler(images, 3, 5, samples=2)(images[0], 1, 0, stream(0, "test")).shape == (2, 2, 3, 3)
    whole = ConditionalSampler(images, 4, 1, samples=2)  # no frame at all: the distribution itself
    assert whole(images[0], 0, 0, stream(0, "test")).shape == (2, 2, 4, 4)


def test_marginal_draws_are_windows_of_the_pool():
    images = pool(5, 6)
    draws = MarginalSampler(images, 2, samples=30)(images[0], 3, 1, stream(0, "test"))
    there = images[:, :, 3:5, 1:3]
    assert {each.numpy().tobytes() for each in draws} == {each.contiguous().numpy().tobytes() for each in there}
    anywhere = MarginalSampler(images[:1], 2, samples=400, elsewhere=True)(images[0], 3, 1, stream(0, "test"))
    every = images[0].unfold(1, 2, 1).unfold(2, 2, 1).flatten(1, 2).transpose(0, 1)
    assert {each.numpy().tobytes() for each in anywhere} == {each.contiguous().numpy().tobytes() for each in every}
