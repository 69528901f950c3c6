"""The checkers of notebook 07: they tell right from wrong, and their hints do not give the answer away."""

import pytest
import torch
from answers import refused
from torch.nn import functional as F

from maskerlib.course.exercises_07 import exercise_1, exercise_2, exercise_3, exercise_4
from maskerlib.masking.objectives import Objective


@pytest.mark.parametrize("checker", [exercise_1, exercise_2, exercise_3, exercise_4])
def test_a_number_is_no_function(checker):
    refused(checker, 3, "a function is asked for")


def slope(objective, clean, inner, outer):
    slopes = {"in": objective.size_in * inner, "out": objective.size_out * (clean and not outer)}
    return sum(slopes[side.name] for side in objective.sides())


class TestSlope:
    def test_right(self):
        assert exercise_1(slope) is None

        def with_autograd(objective, clean, inner, outer):
            """The library's size terms, differentiated. Two classes, label 0; the logits say who is right."""
            logits = {"in": torch.tensor([[float(inner), 0.5]]), "out": torch.tensor([[float(outer), 0.5]])}
            area = torch.tensor([0.3], requires_grad=True)
            label, clean_correct = torch.tensor([0]), torch.tensor([float(clean)])
            loss = sum(side.terms(logits[side.name], label, area, clean_correct)[1].sum() for side in objective.sides())
            (gradient,) = torch.autograd.grad(loss, area)
            return gradient

        assert exercise_1(with_autograd) is None

    @pytest.mark.parametrize(
        "answer, part",
        [
            (lambda *case: -slope(*case), "less of a reward"),
            (lambda o, clean, inner, outer: o.size_in * inner + o.size_out * (clean and not outer), "does not have"),
            (
                lambda o, clean, inner, outer: o.size_in * inner + o.size_out * (not outer),
                "anything of the class to hide",
            ),
            (lambda o, clean, inner, outer: o.size_in * inner + o.size_out * (clean and outer), "done its work"),
            (lambda o, clean, inner, outer: 4.0, "which brackets are 1"),
        ],
    )
    def test_wrong(self, answer, part):
        refused(exercise_1, answer, part)


def backward(logits, prior):
    return (logits.softmax(dim=1) * (logits.log_softmax(dim=1) - prior.log())).sum(dim=1)


class TestPrior:
    def test_right(self):
        assert exercise_2(backward) is None

        def with_torch(logits, prior):
            target = logits.log_softmax(dim=1)
            return F.kl_div(prior.log().expand_as(target), target, reduction="none", log_target=True).sum(dim=1)

        assert exercise_2(with_torch) is None

    @pytest.mark.parametrize(
        "answer, part",
        [
            (lambda z, u: (u * (u.log() - z.log_softmax(dim=1))).sum(dim=1), "other direction"),
            (lambda z, u: -backward(z, u), "never below 0"),
            (lambda z, u: backward(z, u).mean(), "one number an image"),
            (lambda z, u: backward(z, u) / z.shape[1], "add up to 1"),
            (lambda z, u: backward(z, torch.full_like(u, 1 / len(u))), "was not asked"),
            (lambda z, u: (z.softmax(dim=1) * (z.softmax(dim=1) / u).log()).sum(dim=1), "log_softmax"),
            (lambda z, u: torch.zeros(len(z)), "weighted by the prediction"),
        ],
    )
    def test_wrong(self, answer, part):
        refused(exercise_2, answer, part)


class TestPrice:
    def test_right(self):
        assert exercise_3(lambda large, area, small, less: (small - large) / (area - less)) is None
        assert exercise_3(lambda large, area, small, less: torch.tensor((large - small) / (less - area))) is None

    def test_it_is_where_the_two_objectives_are_equal(self):
        """With the answer as size reward, loss - reward (1 - area) is the same for both masks."""
        reward = (0.6 - 0.1) / (0.30 - 0.10)
        assert 0.1 - reward * (1 - 0.30) == pytest.approx(0.6 - reward * (1 - 0.10))

    @pytest.mark.parametrize(
        "answer, part",
        [
            (lambda large, area, small, less: (large - small) / (area - less), "larger masks"),
            (lambda large, area, small, less: (area - less) / (small - large), "loss for area"),
            (lambda large, area, small, less: small - large, "how much area"),
            (lambda large, area, small, less: 10.0, "where they are equal"),
        ],
    )
    def test_wrong(self, answer, part):
        refused(exercise_3, answer, part)


class TestStrength:
    def test_right(self):
        assert exercise_4(lambda s, g: 2 * s * g / (1 + s * g)) is None
        assert exercise_4(lambda s, g: 2 / (1 + 1 / (s * g))) is None

    @pytest.mark.parametrize(
        "answer, part",
        [
            (lambda s, g: s * g, "this is the recall"),
            (lambda s, g: 2 * g / (1 + g), "not where they are above a threshold"),
            (lambda s, g: 2 * s / (1 + s), "not only its object"),
            (lambda s, g: 2 * s * (s * g) / (s + s * g), "share of the mask"),
            (lambda s, g: 0.0, "how much of the mask"),
        ],
    )
    def test_wrong(self, answer, part):
        refused(exercise_4, answer, part)


def test_the_objective_in_the_exercise_is_the_library_s():
    assert slope(Objective(), True, True, False) == 11
