"""The checkers of notebook 14: they tell right from wrong, and their hints do not give the answer away."""

import math

import pytest
from answers import refused
from scipy import stats

from maskerlib.course.exercises_14 import exercise_1, exercise_2, exercise_3, exercise_4
from maskerlib.experiments.claims import judge, overall


class TestGain:
    def test_right(self):
        assert exercise_1(lambda ours, other, better: (other - ours) * (1 if better == "lower" else -1)) is None
        assert exercise_1(lambda ours, other, better: ours - other if better == "higher" else other - ours) is None

    @pytest.mark.parametrize(
        "answer, part",
        [
            (lambda ours, other, better: ours - other, "gain or a loss"),
            (lambda ours, other, better: abs(ours - other), "gain or a loss"),
            (lambda ours, other, better: ours / other, "nothing else"),
            (None, "a function is asked for"),
        ],
    )
    def test_wrong(self, answer, part):
        refused(exercise_1, answer, part)


class TestJudge:
    def test_right(self):
        assert exercise_2(judge) is None

        def other(low, high, margin):
            if (low + margin) * (high + margin) <= 0:
                return "undecided"
            return "holds" if low + margin > 0 else "does not hold"

        assert exercise_2(other) is None

    @pytest.mark.parametrize(
        "answer, part",
        [
            (lambda low, high, margin: judge(low, high), "how much of a loss"),
            (lambda low, high, margin: judge(low, high, -margin), "more modest"),
            (lambda low, high, margin: "holds" if low + high > -2 * margin else "does not hold", "all of it"),
            (lambda low, high, margin: "yes", "one of holds"),
        ],
    )
    def test_wrong(self, answer, part):
        refused(exercise_2, answer, part)


class TestOverall:
    def test_right(self):
        assert exercise_3(overall) is None
        order = ["does not hold", "undecided", "holds"]
        assert exercise_3(lambda verdicts: order[min(order.index(one) for one in verdicts)]) is None

    @pytest.mark.parametrize(
        "answer, part",
        [
            (lambda verdicts: "holds" if "holds" in verdicts else verdicts[0], "either way"),
            (lambda verdicts: "undecided" if "undecided" in verdicts else verdicts[0], "evidence against"),
            (lambda verdicts: "undecided", "all of them together"),
        ],
    )
    def test_wrong(self, answer, part):
        refused(exercise_3, answer, part)


class TestSeeds:
    @staticmethod
    def smallest(factor):
        def answer(sd, gain):
            n = 2
            while factor(n) * sd / math.sqrt(n) >= gain:
                n += 1
            return n

        return answer

    def test_right(self):
        assert exercise_4(self.smallest(lambda n: stats.t.ppf(0.975, n - 1))) is None
        assert (
            exercise_4(lambda sd, gain: min(n for n in range(2, 99) if stats.t.isf(0.025, n - 1) / n**0.5 < gain / sd))
            is None
        )

    def test_wrong(self):
        student = self.smallest(lambda n: stats.t.ppf(0.975, n - 1))
        refused(exercise_4, self.smallest(lambda n: 1.96), "normal distribution")
        refused(exercise_4, self.smallest(lambda n: stats.t.ppf(0.95, n - 1)), "beyond each end")
        refused(exercise_4, lambda sd, gain: student(sd, gain) - 1, "still hold 0")
        refused(exercise_4, lambda sd, gain: 100, "try n = 2, 3")
