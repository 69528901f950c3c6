"""The exercises of notebook 03: objectives. Each returns None for a right answer, or a hint."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from maskerlib.course.grading import close, same
from maskerlib.masking.terms import entropy

__all__ = ["exercise_1", "exercise_2", "exercise_3", "exercise_4", "exercise_5"]

_LOGITS = 2 * torch.randn(6, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def exercise_1(answer: Any) -> str | None:
    """The entropy in nats of the prediction (1/2, 1/4, 1/4), one number."""
    right = 1.5 * math.log(2)
    if close(answer, right, 0.006):
        return None
    if close(answer, 1.5, 0.006):
        return "that is right in bits; which logarithm does the notebook take?"
    if close(answer, -right, 0.006):
        return "can an entropy be negative? Look at the sign in front of the sum"
    if close(answer, math.log(2), 0.006):
        return "that is the cross-entropy with the first class; the entropy is an average over all three"
    if close(answer, math.log(3), 0.006):
        return "that is the largest entropy that three classes can have; these three are not equally probable"
    return "write down three products p log p with the natural logarithm, and add them up"


def exercise_2(answer: Callable[[Tensor], Tensor]) -> str | None:
    """A function: logits (B, C) -> the gradient of the entropy with respect to them, (B, C), without autograd."""
    if not callable(answer):
        return "give a function that takes logits (B, C) and returns a tensor of the same shape"
    leaf = _LOGITS.clone().requires_grad_()
    (right,) = torch.autograd.grad(entropy(leaf).sum(), leaf)
    got = answer(_LOGITS.clone())
    if not isinstance(got, Tensor) or got.shape != right.shape:
        return f"for logits of shape (6, 5) expected a tensor of the same shape, got {_shape(got)}"
    p = _LOGITS.softmax(dim=1)
    if same(got, -right):
        return "right up to the sign: at a sure prediction, which way must the largest logit move for the entropy to grow?"
    if same(got, -p.log() - 1):
        return "that is the gradient with respect to the probabilities; the logits are one softmax further away"
    if same(got, -p * p.log()):
        return "the rows do not add up to 0, yet a constant added to all logits changes nothing: a part is missing"
    if not same(got, right):
        return "compare with autograd on one row; section 2 has the formula in terms of p and Ent, one Ent for each row"
    if not same(answer(torch.tensor([[2000.0, 0.0, 0.0, 0.0, 0.0], [2000.0] * 5]).double()), torch.zeros(2, 5)):
        return "right for small logits; for very large ones it is not a number. Which function takes the logarithm safely?"
    return None


def exercise_3(answer: Callable[[Tensor, Tensor], Tensor]) -> str | None:
    """A function: logits (B, C), a class prior (C,) -> the forward KL(prior || p), (B,); a prior may hold zeros."""
    if not callable(answer):
        return "give a function that takes logits (B, C) and a prior (C,) and returns one number an image, (B,)"
    prior = torch.tensor([0.4, 0.3, 0.1, 0.1, 0.1], dtype=torch.float64)
    log_p = _LOGITS.log_softmax(dim=1)
    right = (prior * (prior.log() - log_p)).sum(dim=1)
    got = answer(_LOGITS.clone(), prior.clone())
    if not isinstance(got, Tensor) or got.shape != right.shape:
        return f"for logits of shape (6, 5) expected a tensor of shape (6,), got {_shape(got)}"
    if same(got, (log_p.exp() * (log_p - prior.log())).sum(dim=1)):
        return "that is the backward direction; which of the two distributions weighs the terms of the sum?"
    if same(got, -(prior * log_p).sum(dim=1)):
        return "is it 0 when the prediction equals the prior? A term that does not depend on the logits is missing"
    if same(got, right / 5):
        return "a divergence is a sum over the classes; the weights are already in it"
    if same(got, -right):
        return "a divergence is never negative; which of the two logarithms comes first?"
    if not same(got, right):
        return "try the uniform prior first, where the notebook's forward_kl must come out"
    sparse = torch.tensor([0.5, 0.5, 0.0, 0.0, 0.0], dtype=torch.float64)
    expected = (0.5 * (math.log(0.5) - log_p[:, :2])).sum(dim=1)
    if not same(answer(_LOGITS.clone(), sparse), expected):
        return "a class of prior 0 adds nothing, the limit of q log q at 0; what does your function make of it?"
    return None


def exercise_4(answer: Callable[[Tensor, Tensor, Tensor, float], Tensor]) -> str | None:
    """A function: logits (B, C), labels (B,), areas (B,), tau -> a size reward (B,) earned while p(label) >= tau.

    It is -(bracket - area)_+ with weight 1, and the bracket carries no gradient.
    """
    if not callable(answer):
        return "give a function of logits (B, C), labels (B,), areas (B,) and tau that returns one number an image, (B,)"
    p = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.45, 0.55], [0.2, 0.8]], dtype=torch.float64)
    labels, areas = torch.tensor([0, 0, 0, 1]), torch.tensor([0.2, 0.5, 0.3, 0.9], dtype=torch.float64)

    def reward(tau: float) -> tuple[Tensor, Tensor, Tensor]:
        logits, leaf = p.log().requires_grad_(), areas.clone().requires_grad_()
        return answer(logits, labels, leaf, tau), logits, leaf

    for tau, right in ((0.75, [-0.8, 0.0, 0.0, -0.1]), (0.5, [-0.8, -0.5, 0.0, -0.1]), (0.4, [-0.8, -0.5, -0.7, -0.1])):
        expected = torch.tensor(right, dtype=torch.float64)
        got, logits, leaf = reward(tau)
        if not isinstance(got, Tensor) or got.shape != expected.shape:
            return f"for 4 images expected a tensor of shape (4,), got {_shape(got)}"
        if same(got, -expected):
            return "right up to the sign: the objective is minimised, so what is earned must lower it"
        if not same(got, expected):
            if same(got, torch.where(expected == 0, areas, expected)):
                return "an image whose bracket is 0 must not feel its area at all; what keeps the difference from turning over?"
            return f"with tau = {tau}: whose probability is compared with tau, and is the decision still asked for?"
        try:
            to_logits, to_areas = torch.autograd.grad(got.sum(), [logits, leaf], allow_unused=True)
        except RuntimeError:
            return "nothing of the reward can be differentiated; the bracket is to be a constant, the area is not"
        if to_logits is not None and float(to_logits.abs().max()) > 0:
            return "the values are right, but a gradient reaches the logits; a bracket carries none"
        if to_areas is None or not same(to_areas, (expected < 0).double()):
            return "the values are right, but the gradient of the area is not; has it been detached with the bracket?"
    return None


def exercise_5(answer: Callable[[float, float, float], float]) -> str | None:
    """A function: (slope, threshold, rho) -> the lambda at which the toy's best mask for MinClass (O) + size jumps."""
    if not callable(answer):
        return "give a function of slope, threshold and rho that returns lambda"
    for slope, threshold, rho in ((4.0, 0.6, 0.25), (10.0, 0.3, 0.25), (4.0, 0.6, 0.1), (2.0, 0.9, 0.5)):
        right = (math.log1p(math.exp(slope * threshold)) - math.log(2)) / (rho * threshold)
        got = answer(slope, threshold, rho)
        if close(got, right, 0.002 * right):
            continue
        if close(got, slope / (2 * rho), 0.002 * right) or close(got, slope / rho, 0.002 * right):
            return "that is where one end of the interval stops or starts being a local minimum; compare their two values"
        if close(got, right * rho, 0.002 * right):
            return "the area is only a share of what is hidden of the object"
        if close(got, (math.log1p(math.exp(slope * threshold)) - math.log(2)) / rho, 0.002 * right):
            return "the two candidate masks differ in area, but not by the whole object: how much does each hide?"
        return "above the edge the loss is concave in u, so its lowest point is at an end: set J equal at both, and solve"
    return None


def _shape(value: Any) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
