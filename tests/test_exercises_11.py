"""The checkers of notebook 11: they tell right from wrong, and their hints do not give the answer away."""

import pytest
import torch
from answers import refused

from maskerlib.course.exercises_11 import exercise_1, exercise_2, exercise_3, exercise_4
from maskerlib.masking.distributions import sampled_mask


@pytest.mark.parametrize("checker", [exercise_1, exercise_2, exercise_3, exercise_4])
def test_a_function_is_asked_for(checker):
    refused(checker, 0.5, "a function is asked for")


class TestChance:
    def test_right(self):
        assert exercise_1(lambda logits, temperature: logits.sigmoid()) is None
        assert exercise_1(lambda logits, temperature: 1 / (1 + (-logits).exp())) is None

    def test_what_it_asks_for_is_what_the_library_draws(self):
        """20,000 draws of each temperature agree with the answer that the checker accepts."""
        logits = torch.tensor([-2.0, 0.0, 1.0])
        for temperature in (0.1, 2.0):
            torch.manual_seed(0)
            cells = logits.view(3, 1, 1, 1).expand(3, 1, 100, 200)
            drawn = sampled_mask(cells, (100, 200), "gumbel", temperature=temperature)
            torch.testing.assert_close((drawn > 0.5).float().mean(dim=(1, 2, 3)), logits.sigmoid(), atol=0.015, rtol=0)

    @pytest.mark.parametrize(
        "answer, part",
        [
            (lambda logits, temperature: (logits / temperature).sigmoid(), "positive number"),
            (lambda logits, temperature: (logits > 0).float(), "at evaluation"),
            (lambda logits, temperature: (-logits).sigmoid(), "the likelier"),
            (lambda logits, temperature: logits.tanh(), "which side of 0"),
            (lambda logits, temperature: 0.5, "which side of 0"),
        ],
    )
    def test_wrong(self, answer, part):
        refused(exercise_1, answer, part)
        assert "sigmoid" not in exercise_1(answer)


class TestDraw:
    def test_right(self):
        assert exercise_2(lambda logits, u, t: ((logits + u.logit()) / t).sigmoid()) is None

        def with_two_outcomes(logits, u, t):
            scores = torch.stack([(logits + u.log()) / t, (1 - u).log() / t])
            return scores.softmax(dim=0)[0]

        assert exercise_2(with_two_outcomes) is None

    @pytest.mark.parametrize(
        "answer, part",
        [
            (lambda logits, u, t: ((logits + u) / t).sigmoid(), "never negative"),
            (lambda logits, u, t: ((logits - u.logit()) / t).sigmoid(), "sign of the noise"),
            (lambda logits, u, t: ((logits - (-u.log()).log()) / t).sigmoid(), "one Gumbel"),
            (lambda logits, u, t: (logits / t).sigmoid(), "where does the draw enter"),
            (lambda logits, u, t: (logits / t + u.logit()).sigmoid(), "part of what is divided"),
            (lambda logits, u, t: (logits + u.logit()).sigmoid(), "temperature is missing"),
            (lambda logits, u, t: ((logits + u.logit()) * t).sigmoid(), "nearer to 0 and 1"),
            (lambda logits, u, t: (logits + u.logit()) / t, "still a logit"),
            (lambda logits, u, t: logits * 0, "not yet"),
        ],
    )
    def test_wrong(self, answer, part):
        refused(exercise_2, answer, part)


class TestStraightThrough:
    def test_right(self):
        assert exercise_3(lambda soft, level: (soft > level).float() + soft - soft.detach()) is None

        class Cut(torch.autograd.Function):
            @staticmethod
            def forward(ctx, soft, level):
                return (soft > level).to(soft)

            @staticmethod
            def backward(ctx, gradient):
                return gradient, None

        assert exercise_3(Cut.apply) is None

    @pytest.mark.parametrize(
        "answer, part",
        [
            (lambda soft, level: soft, "still the soft mask"),
            (lambda soft, level: soft.round() + soft - soft.detach(), "whatever is asked for"),
            (lambda soft, level: (soft <= level).float() + soft - soft.detach(), "wrong side"),
            (lambda soft, level: (soft > level).float(), "a comparison has none"),
            (lambda soft, level: (soft > level).float() + soft - soft, "cancels"),
            (lambda soft, level: (soft > level).float() + 2 * (soft - soft.detach()), "not that of the soft mask"),
            (lambda soft, level: soft * (soft > level), "1 above the level"),
        ],
    )
    def test_wrong(self, answer, part):
        refused(exercise_3, answer, part)
        assert "detach" not in exercise_3(answer)


class TestGate:
    def test_right(self):
        assert exercise_4(lambda x, c: x * torch.einsum("bchw,bc->bhw", x, c).sigmoid()[:, None]) is None
        assert exercise_4(lambda x, c: x * (x * c[:, :, None, None]).sum(dim=1, keepdim=True).sigmoid()) is None

    def test_a_gate_can_do_what_a_constant_cannot(self):
        """Two places, each with its own class: the gate keeps the one that is asked for."""
        features = torch.tensor([[[[10.0, 0.0]], [[0.0, 10.0]]]])
        for asked in (0, 1):
            embedding = torch.full((1, 2), -1.0)
            embedding[0, asked] = 1.0
            gated = features * torch.einsum("bchw,bc->bhw", features, embedding).sigmoid()[:, None]
            assert gated.sum(dim=1).flatten().argmax() == asked

    @pytest.mark.parametrize(
        "answer, part",
        [
            (lambda x, c: x + c[:, :, None, None], "is added is what an appended channel"),
            (lambda x, c: x * c[:, :, None, None].sigmoid(), "the same at every place"),
            (lambda x, c: x * (x * c[:, :, None, None]).sigmoid(), "gate of its own"),
            (lambda x, c: x * (x * c[:, :, None, None]).mean(dim=1, keepdim=True).sigmoid(), "takes no mean"),
            (lambda x, c: x * (x * c[:, :, None, None]).sum(dim=1, keepdim=True), "between 0 and 1"),
            (lambda x, c: x * (-(x * c[:, :, None, None]).sum(dim=1, keepdim=True)).sigmoid(), "the sign"),
            (lambda x, c: (x * c[:, :, None, None]).sum(dim=1, keepdim=True).sigmoid(), "the shape"),
            (lambda x, c: x, "not yet"),
        ],
    )
    def test_wrong(self, answer, part):
        refused(exercise_4, answer, part)

    def test_places_are_not_compared(self):
        def softmax_over_places(x, c):
            inner = (x * c[:, :, None, None]).sum(dim=1)
            return x * inner.flatten(1).softmax(dim=1).view_as(inner)[:, None]

        refused(exercise_4, softmax_over_places, "by itself")
