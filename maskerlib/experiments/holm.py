"""Holm's correction: several comparisons decided together, so that not one of them is won by chance in more than 5 % of cases.

Of m comparisons the clearest is held to 1 - 0.05 / m in the place of 95 %, the next to 1 - 0.05 / (m - 1), and so on until one is
undecided; all that are less clear are held to its level. Source: Holm (1979), A simple sequentially rejective multiple test
procedure, section 3.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

__all__ = ["holm_levels"]


def holm_levels(differences: Sequence[Sequence[float]], null: float = 0.0, *, chance: float = 0.05) -> list[float]:
    """The level of each comparison's t interval: it leaves out `null` where Holm's procedure decides, and holds it elsewhere.

    differences: of each comparison, one a seed. How clear it is, is the p of Student's t test of their mean against `null`.

    >>> [round(level, 3) for level in holm_levels([[0.1, 0.2, 0.3], [0.199, 0.2, 0.201], [0.0, 0.1, -0.1]])]
    [0.975, 0.983, 0.975]
    """
    values = [_p(each, null) for each in differences]
    levels, decided, share = [0.0] * len(values), True, chance
    for rank, number in enumerate(np.argsort(values, kind="stable").tolist()):
        if decided:
            share = chance / (len(values) - rank)
        decided = decided and values[number] < share
        levels[number] = 1 - share
    return levels


def _p(differences: Sequence[float], null: float) -> float:
    """p of the two-sided t test of their mean against `null`; 1 for a single one, which has no spread to learn from."""
    mean, count = float(np.mean(differences)), len(differences)
    if count == 1:
        return 1.0
    spread = float(np.std(differences, ddof=1))
    if spread == 0:
        return 1.0 if mean == null else 0.0
    return float(2 * stats.t.sf(abs(mean - null) / spread * math.sqrt(count), count - 1))
