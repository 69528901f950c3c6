"""Intervals against scipy, by hand, and by how often they hold the truth."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from maskerlib.metrics.intervals import bootstrap_interval, t_interval

values = st.lists(st.floats(-100, 100), min_size=2, max_size=9)


class TestT:
    def test_by_hand(self):
        # mean 2, s = 1, s / sqrt(3) = 0.5774, t(2, 97.5 %) = 4.3027
        mean, low, high = t_interval([1, 2, 3])
        assert mean == 2
        assert (low, high) == pytest.approx((2 - 4.3027 * 0.57735, 2 + 4.3027 * 0.57735), abs=1e-4)

    @given(values, st.floats(0.5, 0.99))
    def test_agrees_with_scipy(self, numbers, level):
        mean, low, high = t_interval(numbers, level=level)
        if np.std(numbers) < 1e-9:
            assert low == pytest.approx(mean) == pytest.approx(high)
        else:
            expected = scipy.stats.ttest_1samp(numbers, 0).confidence_interval(level)
            assert (low, high) == pytest.approx((expected.low, expected.high), rel=1e-6, abs=1e-6)

    def test_one_value_knows_nothing_of_its_spread(self):
        assert t_interval([0.3]) == (0.3, -math.inf, math.inf)

    def test_holds_the_truth_as_often_as_it_says(self):
        rng = np.random.default_rng(0)
        held = [low <= 0.5 <= high for _, low, high in (t_interval(rng.normal(0.5, 1, 3)) for _ in range(2000))]
        assert 0.93 < np.mean(held) < 0.97


class TestBootstrap:
    def test_three_values_by_counting(self):
        # of 27 draws from 0, 0, 1 the mean is 0 in 8 and 1 in 1: more than 2.5 % at either end
        assert bootstrap_interval([0, 0, 1]) == (pytest.approx(1 / 3), 0, 1)

    def test_near_the_normal_interval_for_many_values(self):
        given = np.random.default_rng(1).normal(2, 3, 900)
        mean, low, high = bootstrap_interval(given)
        assert mean == pytest.approx(given.mean())
        assert (low, high) == pytest.approx((mean - 1.96 * 0.1, mean + 1.96 * 0.1), abs=0.02)

    def test_the_seed_decides(self):
        given = [0.1, 0.5, 0.2, 0.9, 0.4, 0.3]
        assert bootstrap_interval(given, seed=1) == bootstrap_interval(given, seed=1)
        assert bootstrap_interval(given, seed=1, draws=50) != bootstrap_interval(given, seed=2, draws=50)

    def test_needs_a_draw(self):
        with pytest.raises(ValueError, match="draws=0 must be a whole number of 1 or more"):
            bootstrap_interval([1.0], draws=0)


@pytest.mark.parametrize("interval", [t_interval, bootstrap_interval])
@pytest.mark.parametrize(
    "given, options, message",
    [
        ([], {}, "1 value or more, got none"),
        ([1, math.nan, 2], {}, "value 1 of 3 is not finite"),
        ([1, 2], {"level": 1.0}, "level=1.0 must lie above 0 and below 1"),
    ],
)
def test_bad_input_is_named(interval, given, options, message):
    with pytest.raises(ValueError, match=message):
        interval(given, **options)
