"""The checkers of notebook 09, the layers of the masker. Each takes an answer; None when it is right, else one hint."""

from typing import Any

import numpy as np
from scipy import stats

from maskerlib.course.grading import close
from maskerlib.masker.network import Masker
from maskerlib.metrics.intervals import t_interval

__all__ = ["exercise_1", "exercise_2", "exercise_3", "exercise_4"]


def exercise_1(answer: Any) -> str | None:
    """How many weights a masker has: (channels of the layers that it reads, width) -> a whole number."""
    if not callable(answer):
        return "a function is asked for, that takes a list of channels and the width"
    for channels, width in (([96, 192], 64), ([192], 64), ([1024, 2048], 64), ([32, 48, 96, 192], 16)):
        masker = Masker({f"layer {number}": count for number, count in enumerate(channels)}, grid_layer="none", width=width)
        right = sum(weight.numel() for weight in masker.parameters())
        given = answer(list(channels), width)
        if close(given, right, 0.5):
            continue
        case = f"channels {channels}, width {width}"
        norms, last = 2 * width * len(channels), 9 * width * len(channels) + 1
        if close(given, right - norms, 0.5):
            return f"{case}: batch norm learns something as well, a scale and a shift for each channel"
        if close(given, right - 1, 0.5):
            return f"{case}: one of the convolutions has a bias"
        if close(given, right + width * len(channels), 0.5):
            return f"{case}: the 1x1 convolutions have no bias"
        if close(given, right - last, 0.5):
            return f"{case}: something has to make one channel of all of them"
        return f"not yet for {case}: print a small masker and add up what each of its parts learns"
    return None


def exercise_2(answer: Any) -> str | None:
    """The mean difference of two settings over the seeds that both have: ({seed: value}, {seed: value}) -> a number."""
    if not callable(answer):
        return "a function is asked for, that takes two dicts from seed to value"
    a, b = {0: 0.3, 1: 0.5, 2: 0.4, 3: 0.9}, {2: 0.1, 0: 0.2, 1: 0.1, 7: 5.0}
    right = float(np.mean([a[seed] - b[seed] for seed in (0, 1, 2)]))
    given = answer(dict(a), dict(b))
    if close(given, -right, 1e-6):
        return "the sign: the first setting minus the second"
    if close(given, float(np.mean(list(a.values())) - np.mean(list(b.values()))), 1e-6):
        return "seeds that only one of the two has say nothing about the difference"
    if close(given, float(np.mean([x - y for x, y in zip(a.values(), b.values(), strict=False)])), 1e-6):
        return "the order of a dict is not that of the seeds: pair by the key"
    if not close(given, right, 1e-6):
        return "not yet: for each seed in both dicts take the difference, then the mean"
    return None


def exercise_3(answer: Any) -> str | None:
    """The 95 % t interval of the mean of a few numbers: values -> (low, high)."""
    if not callable(answer):
        return "a function is asked for, that takes a list of numbers and returns the lower and the upper end"
    for values in ([1.0, 2.0, 3.0], [0.07, 0.06, 0.09, 0.05, 0.08], [4.0, 4.5]):
        mean, low, high = t_interval(values)
        given = [float(end) for end in answer(list(values))]
        half, ours, count = (given[1] - given[0]) / 2, (high - low) / 2, len(values)
        if close(half, ours, 1e-3 * ours) and close(sum(given) / 2, mean, 1e-3 * ours):
            continue
        t, freedom = stats.t.ppf, count - 1
        for factor, hint in (
            (1.96 / t(0.975, freedom), "with so few numbers the normal distribution's 1.96 is too small a factor"),
            (np.sqrt(count), "this is about single values; the mean of n of them spreads less"),
            (np.sqrt((count - 1) / count), "the spread of a sample about its own mean is too small by n - 1 to n: correct it"),
            (t(0.975, count) / t(0.975, freedom), "how many degrees of freedom are left once the mean is known?"),
            (t(0.95, freedom) / t(0.975, freedom), "2.5 % should lie beyond each end"),
        ):
            if close(half, factor * ours, 2e-3 * ours):
                return hint
        return "not yet: mean, standard deviation over the root of n, and the factor of Student's distribution"
    return None


def exercise_4(answer: Any) -> str | None:
    """What an interval of a difference allows one to say: (low, high, better) -> "better", "worse" or "undecided"."""
    if not callable(answer):
        return 'a function is asked for, that takes low, high and better, which is "lower" or "higher"'
    cases = ((-0.2, -0.1), (-0.1, 0.3), (0.1, 0.2), (0.0, 0.2), (-0.2, 0.0))
    for low, high in cases:
        for better in ("lower", "higher"):
            given = answer(low, high, better)
            case = f"from {low} to {high} where {better} is better"
            if low <= 0 <= high:
                if given != "undecided":
                    return f"{case}: is a difference of nothing ruled out?"
            elif given not in ("better", "worse"):
                return f"{case}: 0 lies outside, so this interval does decide"
            elif (given == "better") != ((high < 0) == (better == "lower")):
                return f"{case}: a negative difference is good news for an error and bad news for a score"
    return None
