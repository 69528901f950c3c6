"""The checkers of notebook 08: they tell right from wrong, and their hints do not give the answer away."""

import pytest
import torch
from answers import refused
from tiny import tiny_classifier

from maskerlib.course.exercises_08 import exercise_1, exercise_2, exercise_3, exercise_4
from maskerlib.masker.pool import ClassifierPool


class TestLearntAndForgotten:
    @pytest.mark.parametrize(
        "answer",
        [
            lambda before, after: ((~before & after).float().mean(), (before & ~after).float().mean()),
            lambda before, after: tuple(float(((after.int() - before.int()) == way).float().mean()) for way in (1, -1)),
        ],
    )
    def test_right(self, answer):
        assert exercise_1(answer) is None

    @pytest.mark.parametrize(
        "answer, part",
        [
            (lambda before, after: ((before & ~after).float().mean(), (~before & after).float().mean()), "other way round"),
            (lambda before, after: (after[~before].float().mean(), (~after)[before].float().mean()), "shares of all images"),
            (lambda before, after: (after.float().mean(), before.float().mean()), "only if its truth value has changed"),
        ],
    )
    def test_wrong(self, answer, part):
        refused(exercise_1, answer, part)


class TestAge:
    def test_right(self):
        assert exercise_2(lambda t, k, p: p * (t - k * (t // k) / 2)) is None
        assert exercise_2(lambda t, k, p: torch.tensor([t - m for m in range(0, t + 1, k)]).float().mean() * p) is None

    def test_the_pool_agrees(self):
        classifier = tiny_classifier()
        pool = ClassifierPool(classifier, every=4)
        for step in range(11):
            pool.remember(step, classifier)
        ages = [10 - member for member in pool.members]
        assert 0.5 * sum(ages) / len(ages) == pytest.approx(0.5 * (10 - 4 * 2 / 2))

    @pytest.mark.parametrize(
        "answer, part",
        [
            (lambda t, k, p: t - k * (t // k) / 2, "whose age is 0"),
            (lambda t, k, p: p * sum(ages := [t - m for m in range(0, t, k)] or [0]) / len(ages), "before the judge is drawn"),
            (lambda t, k, p: p * t / 2, "each is drawn equally often"),
        ],
    )
    def test_wrong(self, answer, part):
        refused(exercise_2, answer, part)


class TestSurvival:
    def test_right(self):
        assert exercise_3(lambda taken, size: (1 - 1 / size) ** max(0, taken - size)) is None

        def step_by_step(taken, size):
            chance = 1.0
            for number in range(taken):
                chance *= (size - 1) / size if number >= size else 1
            return chance

        assert exercise_3(step_by_step) is None

    @pytest.mark.parametrize(
        "answer, part",
        [
            (lambda taken, size: min(1, size / taken), "always enters"),
            (lambda taken, size: (1 - 1 / size) ** (taken - 1), "nothing is replaced"),
            (lambda taken, size: 1.0 if taken <= size else (1 - 1 / size) ** taken, "have replaced a member"),
            (lambda taken, size: 1.0 if taken <= size else 0.4, "the same chance"),
        ],
    )
    def test_wrong(self, answer, part):
        refused(exercise_3, answer, part)


class TestWhoJudges:
    def test_right(self):
        assert exercise_4(lambda drawn, released: (drawn and not released, not drawn)) is None
        assert exercise_4(lambda drawn, released: [drawn > released, drawn is False]) is None

    @pytest.mark.parametrize(
        "answer, part",
        [
            (lambda drawn, released: (drawn, not drawn), "whose answers"),
            (lambda drawn, released: (drawn and not released, not drawn or released), "In both versions the same"),
            (lambda drawn, released: (drawn and not released, True), "In both versions the same"),
        ],
    )
    def test_wrong(self, answer, part):
        refused(exercise_4, answer, part)
