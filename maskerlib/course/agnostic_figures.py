"""The figures of notebook 06: who judges which step, and how much of a mask lies on each part of a scene."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib import color_sequences
from matplotlib.figure import Figure

from maskerlib import plots

__all__ = ["judges", "region_bars"]

Interval = Sequence[float]
"""A value with the lower and the upper end of its interval."""


def judges(drawn: Sequence[int | None], every: int) -> Figure:
    """Who judges the masks of each step: one point a step, at the height of the step at which its judge was taken.

    Args:
        drawn: for each step the step of the member that judges, or None for the current classifier.
        every: steps between two members; each has a thin line from the step at which it joins the pool.
    """
    figure, axis = plt.subplots(figsize=(7.5, 2.4))
    for member in range(0, len(drawn), every):
        axis.plot([member, len(drawn) - 1], [member, member], color="tab:gray", linewidth=0.6, zorder=1)
    steps = range(len(drawn))
    members = [(step, judge) for step, judge in zip(steps, drawn, strict=True) if judge is not None]
    current = [step for step, judge in zip(steps, drawn, strict=True) if judge is None]
    axis.scatter(current, current, s=14, color="tab:blue", label="the current classifier", zorder=2)
    if members:
        drawn_at, taken_at = zip(*members, strict=True)
        axis.scatter(drawn_at, taken_at, s=14, color="tab:orange", label="a member of the pool", zorder=2)
    axis.set_xlabel("step", fontsize=8)
    axis.set_ylabel("the judge's weights are of step", fontsize=8)
    axis.tick_params(labelsize=7)
    axis.legend(fontsize=7, frameon=False, loc="upper left")
    axis.spines[["top", "right"]].set_visible(False)
    return plots.finish(figure)


def region_bars(panels: Mapping[str, Mapping[str, Mapping[str, Interval]]]) -> Figure:
    """One panel a quantity, one group of bars a run, one bar a region; the black lines are the intervals.

    `panels`: {title: {run: {region: (value, low, high)}}}, with values in [0, 1].
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(4.4 * len(panels), 2.6), squeeze=False)
    for axis, (title, runs) in zip(axes[0], panels.items(), strict=True):
        regions = list(next(iter(runs.values())))
        width = 0.8 / len(regions)
        for number, (region, colour) in enumerate(zip(regions, color_sequences["Dark2"], strict=False)):
            at = [group + (number - (len(regions) - 1) / 2) * width for group in range(len(runs))]
            values, low, high = zip(*(values[region] for values in runs.values()), strict=True)
            below = [value - end for value, end in zip(values, low, strict=True)]
            above = [end - value for value, end in zip(values, high, strict=True)]
            axis.bar(at, values, width, yerr=[below, above], color=colour, label=region, error_kw={"elinewidth": 1})
        axis.set_xticks(range(len(runs)), list(runs), fontsize=7)
        axis.set_ylim(0, 1)
        axis.set_title(title, fontsize=9)
        axis.tick_params(axis="y", labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].legend(fontsize=7, frameon=False)
    return plots.finish(figure)
