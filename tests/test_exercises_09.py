"""The checkers of notebook 09: they tell right from wrong, and their hints do not give the answer away."""

import math

import numpy as np
import pytest
import scipy.stats
from answers import refused

from maskerlib.course.exercises_09 import exercise_1, exercise_2, exercise_3, exercise_4
from maskerlib.experiments.tables import verdict
from maskerlib.metrics.intervals import t_interval


class TestWeights:
    def test_right(self):
        assert exercise_1(lambda channels, width: sum(c * width + 2 * width + 9 * width for c in channels) + 1) is None
        assert exercise_1(lambda channels, width: 1 + width * (sum(channels) + 11 * len(channels))) is None

    @pytest.mark.parametrize(
        "answer, part",
        [
            (lambda channels, width: sum(c * width + 9 * width for c in channels) + 1, "batch norm"),
            (lambda channels, width: sum(c * width + 11 * width for c in channels), "has a bias"),
            (lambda channels, width: sum(c * width + 12 * width for c in channels) + 1, "have no bias"),
            (lambda channels, width: sum(c * width + 2 * width for c in channels), "one channel of all"),
            (lambda channels, width: sum(channels) * width, "print a small masker"),
        ],
    )
    def test_wrong(self, answer, part):
        refused(exercise_1, answer, part)


class TestPaired:
    def test_right(self):
        assert exercise_2(lambda a, b: np.mean([a[seed] - b[seed] for seed in a.keys() & b.keys()])) is None
        assert exercise_2(lambda a, b: sum(a[s] - b[s] for s in a if s in b) / sum(s in b for s in a)) is None

    @pytest.mark.parametrize(
        "answer, part",
        [
            (lambda a, b: np.mean([b[s] - a[s] for s in a if s in b]), "the sign"),
            (lambda a, b: np.mean(list(a.values())) - np.mean(list(b.values())), "only one of the two"),
            (lambda a, b: np.mean([x - y for x, y in zip(a.values(), b.values(), strict=True)]), "only one of the two"),
            (lambda a, b: 0.0, "for each seed in both"),
        ],
    )
    def test_wrong(self, answer, part):
        refused(exercise_2, answer, part)


class TestInterval:
    def test_right(self):
        assert exercise_3(lambda values: t_interval(values)[1:]) is None

        def with_scipy(values):
            return scipy.stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=scipy.stats.sem(values))

        assert exercise_3(with_scipy) is None

    @staticmethod
    def interval(factor, ddof=1, root=True):
        def answer(values):
            half = factor(len(values)) * np.std(values, ddof=ddof) / (math.sqrt(len(values)) if root else 1)
            return np.mean(values) - half, np.mean(values) + half

        return answer

    def test_wrong(self):
        t = scipy.stats.t.ppf
        refused(exercise_3, self.interval(lambda n: 1.96), "normal distribution")
        refused(exercise_3, self.interval(lambda n: t(0.975, n - 1), root=False), "single values")
        refused(exercise_3, self.interval(lambda n: t(0.975, n - 1), ddof=0), "too small by n - 1")
        refused(exercise_3, self.interval(lambda n: t(0.975, n)), "degrees of freedom")
        refused(exercise_3, self.interval(lambda n: t(0.95, n - 1)), "beyond each end")
        refused(exercise_3, lambda values: (0, 1), "factor of Student")


class TestVerdict:
    def test_right(self):
        assert exercise_4(lambda low, high, better: verdict((0, low, high), better=better)) is None

        def other(low, high, better):
            if low * high <= 0:
                return "undecided"
            return "better" if (low + high < 0) == (better == "lower") else "worse"

        assert exercise_4(other) is None

    @pytest.mark.parametrize(
        "answer, part",
        [
            (lambda low, high, better: "better" if (low + high < 0) == (better == "lower") else "worse", "ruled out"),
            (lambda low, high, better: "undecided", "does decide"),
            (lambda low, high, better: "undecided" if low <= 0 <= high else "better" if high < 0 else "worse", "good news"),
        ],
    )
    def test_wrong(self, answer, part):
        refused(exercise_4, answer, part)
