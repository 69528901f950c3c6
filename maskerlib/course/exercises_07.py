"""The checkers of notebook 07, the objectives. Each takes an answer; None when it is right, else one hint."""

from typing import Any

import torch

from maskerlib.course.grading import close, same
from maskerlib.masking.objectives import Objective
from maskerlib.masking.terms import MASKED_OUT
from maskerlib.metrics.per_image import f1
from maskerlib.running.seeds import stream

__all__ = ["exercise_1", "exercise_2", "exercise_3", "exercise_4"]


def exercise_1(answer: Any) -> str | None:
    """What a little more area costs: (objective, clean_right, in_right, out_right) -> the slope of the size terms in the area."""
    if not callable(answer):
        return (
            "a function is asked for, that takes an Objective and three truth values: clean_right, in_right, out_right"
        )
    both = Objective(size_in=2.0, size_out=7.0)
    cases = [
        (both, clean, inner, outer) for clean in (True, False) for inner in (True, False) for outer in (True, False)
    ]
    only_in, only_out = Objective(masked_out=None, size_in=3.0), Objective(masked_in=None, size_out=5.0)
    cases += [(only_in, True, True, False), (only_out, True, True, False), (only_out, True, False, True)]
    for objective, clean, inner, outer in cases:
        earned_in = objective.masked_in is not None and inner
        earned_out = objective.masked_out is not None and clean and not outer
        right = objective.size_in * earned_in + objective.size_out * earned_out
        given = answer(objective, clean, inner, outer)
        if close(given, right, 1e-6):
            continue
        words = {True: "right", False: "wrong"}
        case = f"clean {words[clean]}, masked-in {words[inner]}, masked-out {words[outer]}"
        if right and close(given, -right, 1e-6):
            return f"{case}: a larger mask gets less of a reward, so which way does the objective go?"
        if (objective.masked_in is None or objective.masked_out is None) and close(
            given, objective.size_in * inner + objective.size_out * (clean and not outer), 1e-6
        ):
            return f"{case}: a side that the objective does not have gives no reward"
        if close(given, objective.size_in * earned_in + objective.size_out * (not outer), 1e-6):
            return f"{case}: is there anything of the class to hide in this image?"
        if close(given, objective.size_in * earned_in + objective.size_out * (clean and outer), 1e-6):
            return f"{case}: has a mask done its work when the class is still seen without the masked part?"
        return f"not yet for {case}: which brackets are 1, and what does each of them pay for a unit of area?"
    return None


def exercise_2(answer: Any) -> str | None:
    """Backward KL to any class prior: (logits (B, C), prior (C,)) -> (B,)."""
    if not callable(answer):
        return "a function is asked for, that takes logits and a prior"
    generator = stream(0, "exercise 7.2")
    logits = 2 * torch.randn(4, 5, generator=generator)
    ones = torch.ones(4)
    for kind in ("uniform", "uneven"):
        prior = torch.full((5,), 0.2) if kind == "uniform" else torch.rand(5, generator=generator).softmax(dim=0)
        p, u = logits.softmax(dim=1), prior[None]
        right = (p * (p / u).log()).sum(dim=1)
        if kind == "uniform":  # an oracle of its own: the library's
            assert torch.allclose(right, MASKED_OUT["backward_kl"](logits, torch.zeros(4).long(), ones), atol=1e-5)
        given = answer(logits.clone(), prior.clone())
        if same(given, right):
            continue
        if same(given, (u * (u / p).log()).sum(dim=1)):
            return f"{kind} prior: this is the other direction; which of the two distributions weighs the classes?"
        if same(given, -right):
            return f"{kind} prior: a divergence is never below 0"
        if same(given, right.mean()) or same(given, right.sum()):
            return f"{kind} prior: one number an image is asked for"
        if same(given, (p * (p / u).log()).mean(dim=1)):
            return f"{kind} prior: the weights of the classes add up to 1 already"
        if kind == "uneven" and same(given, (p * (p * len(prior)).log()).sum(dim=1)):
            return "uneven prior: this prior was not asked"
        return f"not yet for a {kind} prior: a mean of log ratios, weighted by the prediction"
    one_sided = torch.tensor([[200.0, 0.0, 0.0, 0.0, 0.0]])
    if not same(answer(one_sided, torch.full((5,), 0.2)), torch.tensor([5.0]).log()):
        return "logits of 200 and 0: start from log_softmax, as the logarithm of a rounded 0 is not a number"
    return None


def exercise_3(answer: Any) -> str | None:
    """What a smaller mask may cost: (loss of the large, its area, loss of the small, its area) -> the smallest size reward."""
    if not callable(answer):
        return "a function is asked for, that takes the loss and area of a large mask, then those of a small one"
    for large, area, small, less in ((0.1, 0.30, 0.6, 0.10), (0.2, 0.25, 1.7, 0.20), (0.5, 0.4, 0.5, 0.3)):
        right = (small - large) / (area - less)
        given = answer(large, area, small, less)
        case = f"a mask of {area} with loss {large}, and one of {less} with loss {small}"
        if close(given, right, 1e-6):
            continue
        if close(given, -right, 1e-6):
            return f"{case}: a reward below 0 would ask for larger masks"
        if close(given, (area - less) / (small - large) if small != large else float("inf"), 1e-6):
            return f"{case}: the unit is loss for area, not area for loss"
        if close(given, small - large, 1e-6):
            return f"{case}: that loss is paid for with how much area?"
        return f"not yet for {case}: write down loss and size term of both, and ask where they are equal"
    return None


def exercise_4(answer: Any) -> str | None:
    """F1 of the exact object at a strength: (strength, the object's share of its box) -> F1 against the box."""
    if not callable(answer):
        return "a function is asked for, that takes the strength of the mask and the object's share of its box"
    for strength, filled in ((0.6, 0.7), (1.0, 1.0), (1.0, 0.5), (0.5, 1.0), (0.2, 0.1)):
        truth = torch.zeros(1, 1, 20, 20)
        truth[..., 5:15, 5 : 5 + round(10 * filled)] = 1.0
        best, _ = f1(strength * truth, [torch.tensor([[5.0, 5.0, 15.0, 15.0]])])
        right, given = best.item(), answer(strength, filled)
        case = f"strength {strength}, {filled:.0%} of the box filled"
        if close(given, right, 1e-4):
            continue
        recall = strength * filled
        if close(given, recall, 1e-4):
            return f"{case}: this is the recall; what is the precision of a mask that lies inside the box?"
        if close(given, 2 * filled / (1 + filled), 1e-4) and strength < 1:
            return f"{case}: F1 sees the mask's values, not where they are above a threshold"
        if close(given, 2 * strength / (1 + strength), 1e-4) and filled < 1:
            return f"{case}: the box counts, and not only its object"
        if close(given, 2 * strength * recall / (strength + recall), 1e-4):
            return f"{case}: precision is a share of the mask, and a fainter mask has less to be shared"
        return (
            f"not yet for {case}: how much of the mask is inside the box, and how much of the box does the mask hold?"
        )
    return None
