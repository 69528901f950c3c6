"""The checkers of notebook 14, the claims. Each takes an answer; None when it is right, else one hint."""

import math
from collections.abc import Callable
from typing import Any

from scipy import stats

from maskerlib.course.grading import close
from maskerlib.experiments.claims import VERDICTS, judge, overall

__all__ = ["exercise_1", "exercise_2", "exercise_3", "exercise_4"]


def exercise_1(answer: Any) -> str | None:
    """The gain of one setting over another: (ours, other, better) -> a number, positive where ours is better."""
    if not callable(answer):
        return 'a function is asked for, that takes ours, other and better, which is "lower" or "higher"'
    for ours, other in ((0.06, 0.10), (0.85, 0.80), (0.5, 0.5)):
        for better in ("lower", "higher"):
            right = (other - ours) if better == "lower" else (ours - other)
            given = answer(ours, other, better)
            case = f"ours {ours}, other {other}, {better} is better"
            if close(given, right, 1e-9):
                continue
            if close(abs(float(given)), abs(right), 1e-9):
                return f"{case}: would you call that a gain or a loss?"
            return f"not yet for {case}: the difference of the two, and nothing else"
    return None


def exercise_2(answer: Any) -> str | None:
    """The verdict on an interval of a gain: (low, high, margin) -> "holds", "does not hold" or "undecided"."""
    if not callable(answer):
        return "a function is asked for, that takes low, high and margin"
    cases = (
        (0.01, 0.02, 0.0),
        (-0.02, -0.01, 0.0),
        (-0.01, 0.02, 0.0),
        (-0.005, 0.001, 0.007),
        (-0.006, -0.002, 0.007),
        (-0.01, 0.03, 0.007),
        (-0.03, -0.01, 0.007),
    )
    for low, high, margin in cases:
        given, right = answer(low, high, margin), judge(low, high, margin)
        case = f"from {low} to {high} with margin {margin}"
        if given not in VERDICTS:
            return f"{case}: the answer is one of {', '.join(VERDICTS)}"
        if given == right:
            continue
        if margin and given == judge(low, high):
            return f"{case}: how much of a loss does this claim allow?"
        if margin and given == judge(low, high, -margin):
            return f"{case}: a margin makes the claim more modest, not bolder"
        return (
            f"not yet for {case}: on which side of the line that the claim draws does the interval lie, and all of it?"
        )
    return None


def exercise_3(answer: Any) -> str | None:
    """The verdict on a claim from those on its comparisons: a list of verdicts -> one of them."""
    if not callable(answer):
        return "a function is asked for, that takes a list of verdicts"
    holds, fails, open_ = VERDICTS
    for verdicts in (
        [holds],
        [holds, holds],
        [holds, open_],
        [open_, holds, fails],
        [fails, fails],
        [holds, holds, fails],
    ):
        given, right = answer(list(verdicts)), overall(verdicts)
        if given == right:
            continue
        if fails in verdicts:
            return f"{verdicts}: one comparison that goes the other way is evidence against the claim, whatever the others say"
        if open_ in verdicts and given == holds:
            return f"{verdicts}: what of the comparison that could still go either way?"
        return f"not yet for {verdicts}: what do all of them together allow one to say?"
    return None


def exercise_4(answer: Any) -> str | None:
    """How many seeds it takes: (standard deviation of the differences, gain) -> the smallest n whose interval excludes 0."""
    if not callable(answer):
        return "a function is asked for, that takes a standard deviation and a gain and returns a whole number"

    def smallest(factor: Callable[[int], float], sd: float, gain: float) -> int:
        return next(n for n in range(2, 10_000) if factor(n) * sd / math.sqrt(n) < gain)

    def student(n: int) -> float:
        return float(stats.t.ppf(0.975, n - 1))

    for sd, gain in ((0.02, 0.01), (0.01, 0.01), (0.01, 0.02), (0.03, 0.1)):
        given, right = answer(sd, gain), smallest(student, sd, gain)
        if close(given, right, 0.1):
            continue
        case = f"standard deviation {sd}, gain {gain}"
        if close(given, smallest(lambda n: 1.96, sd, gain), 0.1):
            return (
                f"{case}: with so few seeds the factor is not the normal distribution's, and it depends on their number"
            )
        if close(given, smallest(lambda n: stats.t.ppf(0.95, n - 1), sd, gain), 0.1):
            return f"{case}: 2.5 % should lie beyond each end"
        if close(given, right - 1, 0.1):
            return f"{case}: with that many, does the interval still hold 0?"
        return f"not yet for {case}: try n = 2, 3, ... until half the width of the interval is below the gain"
    return None
