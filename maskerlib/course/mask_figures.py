"""The figure of notebook 02 that compares judges: shares with their intervals, side by side."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from maskerlib import plots

__all__ = ["interval_bars"]


def interval_bars(
    shares: Mapping[str, Sequence[tuple[float, float, float]]], rows: Sequence[str], title: str
) -> Figure:
    """Horizontal bars in groups, from 0 to 1, each with its interval as a line.

    Args:
        shares: {who was asked: one (share, low, high) a row}, each in [0, 1] with low <= share <= high.
        rows: what each group of bars is about, top to bottom.
        title: above the figure.

    Raises ValueError when a judge has not one share a row, or an interval does not hold its share.
    """
    figure, axes = plt.subplots(figsize=(6.6, 0.9 + 0.24 * len(rows) * (len(shares) + 0.6)))
    height = 0.8 / len(shares)
    for number, (judge, values) in enumerate(shares.items()):
        if len(values) != len(rows) or any(not low <= share <= high for share, low, high in values):
            plt.close(figure)
            raise ValueError(f"{judge}: {list(values)} must be one (share, low, high) for each of {', '.join(rows)}")
        share, low, high = np.array(values, dtype=float).T
        places = np.arange(len(rows)) + (number - (len(shares) - 1) / 2) * height
        axes.barh(places, share, height * 0.9, color=f"C{number}", alpha=0.75, label=judge)
        axes.errorbar(share, places, xerr=[share - low, high - share], fmt="none", ecolor="black", elinewidth=1)
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.02)
    axes.tick_params(axis="x", labelsize=7)
    axes.set_title(title, fontsize=9)
    axes.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    axes.spines[["top", "right"]].set_visible(False)
    return plots.finish(figure)
