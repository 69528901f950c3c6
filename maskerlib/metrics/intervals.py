"""Intervals: how far a mean could lie from the one that would be found with other seeds, or other images.

Over few seeds the t interval, which pays for the few; over many images the bootstrap, which assumes no distribution. Two
settings that share their seeds or images are compared by the differences, pair by pair (`a - b`, then one interval).
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from maskerlib.running.checks import between, check_value, whole

__all__ = ["bootstrap_interval", "t_interval"]


def t_interval(values: Sequence[float], *, level: float = 0.95) -> tuple[float, float, float]:
    """The mean of `values`, and the ends of its Student t interval: mean -+ t(n - 1) s / sqrt(n).

    One value has no spread to learn from: its interval is the whole line. Raises ValueError for no values, a value that is
    not finite, or a level outside (0, 1).

    >>> [round(end, 3) for end in t_interval([0.1, 0.2, 0.3])]
    [0.2, -0.048, 0.448]
    """
    given = _checked(values, level)
    mean = float(given.mean())
    if len(given) == 1:
        return mean, -math.inf, math.inf
    half = float(stats.t.ppf((1 + level) / 2, len(given) - 1) * given.std(ddof=1) / math.sqrt(len(given)))
    return mean, mean - half, mean + half


def bootstrap_interval(
    values: Sequence[float], *, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """The mean of `values`, and the ends of its percentile bootstrap interval (Efron & Tibshirani, 1993).

    Raises ValueError for no values, a value that is not finite, a level outside (0, 1), or draws < 1.
    """
    given = _checked(values, level)
    check_value("draws", draws, whole(1))
    picks = np.random.default_rng(seed).integers(len(given), size=(draws, len(given)))
    low, high = np.quantile(given[picks].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(given.mean()), float(low), float(high)


def _checked(values: Sequence[float], level: float) -> np.ndarray:
    given = np.asarray(values, dtype=float).ravel()
    if not len(given):
        raise ValueError("an interval needs 1 value or more, got none")
    if not np.isfinite(given).all():
        raise ValueError(f"value {int((~np.isfinite(given)).argmax())} of {len(given)} is not finite; leave it out or mend it")
    check_value("level", level, between(0, 1, open_below=True, open_above=True))
    return given
