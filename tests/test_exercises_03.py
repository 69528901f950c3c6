"""The checkers of notebook 03: right answers in any form, and hints that fit the mistake without giving the answer."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from maskerlib.course.grading import exercises, grade

SOFTPLUS = math.log1p(math.exp(2.4))


def entropy_gradient(logits):
    log_p = logits.log_softmax(dim=1)
    return -log_p.exp() * (log_p - (log_p.exp() * log_p).sum(dim=1, keepdim=True))


def entropy_gradient_by_differences(logits, step=1e-4):
    def entropy(z):
        return torch.distributions.Categorical(logits=z).entropy()

    moves = step * torch.eye(logits.shape[1], dtype=logits.dtype)
    return torch.stack([(entropy(logits + m) - entropy(logits - m)) / (2 * step) for m in moves], dim=1)


def overflowing_gradient(logits):
    p = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
    return -p * (p.log() - (p * p.log()).sum(dim=1, keepdim=True))


def underflowing_gradient(logits):
    p = logits.softmax(dim=1)
    return -p * (p.log() - (p * p.log()).sum(dim=1, keepdim=True))


def to_prior(logits, prior):
    return (torch.xlogy(prior, prior) - prior * logits.log_softmax(dim=1)).sum(dim=1)


def to_prior_by_torch(logits, prior):
    return F.kl_div(logits.log_softmax(dim=1), prior.expand_as(logits), reduction="none").sum(dim=1)


def to_positive_prior(logits, prior):
    return (prior * (prior.log() - logits.log_softmax(dim=1))).sum(dim=1)


def backward_to_prior(logits, prior):
    log_p = logits.log_softmax(dim=1)
    return (log_p.exp() * (log_p - prior.log())).sum(dim=1)


def label_probability(logits, labels):
    return logits.softmax(dim=1).gather(1, labels[:, None])[:, 0]


def reward(logits, labels, areas, tau):
    return -((label_probability(logits, labels) >= tau).to(areas) - areas).relu()


def reward_written_out(logits, labels, areas, tau):
    with torch.no_grad():
        bracket = torch.stack([row.softmax(0)[y] >= tau for row, y in zip(logits, labels, strict=True)])
    return torch.where(bracket, areas - 1, torch.zeros_like(areas))


def without_kink(logits, labels, areas, tau):
    return -((label_probability(logits, labels) >= tau).to(areas) - areas)


def straight_through(logits, labels, areas, tau):
    p = label_probability(logits, labels)
    return -((p >= tau).to(areas) + p - p.detach() - areas).relu()


def jump(slope, threshold, rho):
    return (math.log1p(math.exp(slope * threshold)) - math.log(2)) / (rho * threshold)


def jump_by_search(slope, threshold, rho):
    """Bisect for the lambda where the best u of a fine grid leaves the whole object."""
    u = np.append(np.linspace(1 - threshold + 1e-9, 1, 4001), 1.0)

    def hides_all(weight):
        return np.argmin(-np.logaddexp(0, slope * (u - 1 + threshold)) - weight * (1 - rho * u)) >= len(u) // 2

    low, high = 0.0, 1000.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if hides_all(middle) else (low, middle)
    return low


RIGHT = {
    "3.1": [1.5 * math.log(2), 1.04, np.float32(1.0397), torch.tensor(1.0397)],
    "3.2": [entropy_gradient, entropy_gradient_by_differences],
    "3.3": [to_prior, to_prior_by_torch],
    "3.4": [reward, reward_written_out],
    "3.5": [jump, jump_by_search, lambda s, t, r: torch.tensor(jump(s, t, r))],
}

WRONG = [
    ("3.1", 1.5, "bits"),
    ("3.1", -1.04, "negative"),
    ("3.1", math.log(2), "cross-entropy"),
    ("3.1", math.log(3), "largest"),
    ("3.1", 0.9, "three products"),
    ("3.1", "1.04", "three products"),
    ("3.2", lambda z: -entropy_gradient(z), "sign"),
    ("3.2", lambda z: -z.log_softmax(1) - 1, "probabilities"),
    ("3.2", lambda z: -z.softmax(1) * z.log_softmax(1), "constant"),
    ("3.2", lambda z: z.softmax(1), "compare with autograd"),
    ("3.2", overflowing_gradient, "not a number"),
    ("3.2", underflowing_gradient, "not a number"),
    ("3.2", lambda z: z.sum(1), "shape"),
    ("3.2", 1.0, "function"),
    ("3.3", backward_to_prior, "backward"),
    ("3.3", lambda z, q: -(q * z.log_softmax(1)).sum(1), "equals the prior"),
    ("3.3", lambda z, q: to_prior(z, q) / 5, "sum over the classes"),
    ("3.3", lambda z, q: -to_prior(z, q), "never negative"),
    ("3.3", lambda z, q: z.sum(1), "uniform"),
    ("3.3", to_positive_prior, "prior 0"),
    ("3.3", lambda z, q: to_prior(z, q).sum(), "shape"),
    ("3.3", 0, "function"),
    ("3.4", lambda *given: -reward(*given), "sign"),
    ("3.4", without_kink, "turning over"),
    ("3.4", lambda z, y, a, tau: reward(z, y, a, 0.5), "with tau = 0.75"),
    ("3.4", lambda z, y, a, tau: -((z.argmax(1) == y).to(a) - a).relu(), "with tau = 0.75"),
    ("3.4", lambda z, y, a, tau: reward(z, y, a, tau).detach(), "differentiated"),
    ("3.4", straight_through, "reaches the logits"),
    ("3.4", lambda z, y, a, tau: reward(z, y, a.detach(), tau) + 0 * z.sum(), "area is not"),
    ("3.4", lambda z, y, a, tau: reward(z, y, a, tau).mean(), "shape"),
    ("3.4", None.__class__, "raised"),
    ("3.5", lambda s, t, r: s / (2 * r), "local minimum"),
    ("3.5", lambda s, t, r: s / r, "local minimum"),
    ("3.5", lambda s, t, r: jump(s, t, r) * r, "share"),
    ("3.5", lambda s, t, r: jump(s, t, r) * t, "whole object"),
    ("3.5", lambda s, t, r: 11.96, "concave"),
    ("3.5", 11.96, "function"),
]


def test_there_are_five_exercises_with_a_line_each():
    known = exercises(3)
    assert list(known) == list(RIGHT)
    assert all(checker.__doc__ for checker in known.values())


@pytest.mark.parametrize(("number", "answer"), [(number, answer) for number, all_ in RIGHT.items() for answer in all_])
def test_right_answers_in_any_form(number, answer):
    verdict = grade(number, answer)
    assert verdict, verdict


@pytest.mark.parametrize(("number", "answer", "says"), WRONG)
def test_wrong_answers_get_the_hint_that_fits(number, answer, says):
    verdict = grade(number, answer)
    assert not verdict and says in verdict.text


@pytest.mark.parametrize(("number", "answer", "says"), WRONG)
def test_no_hint_gives_the_answer_away(number, answer, says):
    hint = grade(number, answer).text
    for answer_itself in ("1.04", "1.5 log", "xlogy", "log_p + ", "detach()", "(rho * threshold)", "log 2"):
        assert answer_itself not in hint


def test_the_toy_of_the_last_exercise_jumps_where_its_docstring_says():
    u = torch.linspace(0.4, 1, 5000, dtype=torch.float64)[1:]
    for weight, best in ((jump(4, 0.6, 0.25) - 0.05, 1.0), (jump(4, 0.6, 0.25) + 0.05, 0.4)):
        values = -F.softplus(4 * (u - 0.4)) - weight * (1 - 0.25 * u)
        assert abs(float(u[values.argmin()]) - best) < 1e-3
    assert jump(4, 0.6, 0.25) == pytest.approx((SOFTPLUS - math.log(2)) / 0.15)
