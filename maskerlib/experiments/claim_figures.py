"""The figures of notebook 14 that are drawn from tables alone: the claims, and figure 1C of Phang et al. (2020)."""

import re
from typing import Literal

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from maskerlib import plots
from maskerlib.experiments.tables import Results

__all__ = ["claims_figure", "few_shot_figure"]

_COLOURS = {"holds": "tab:green", "does not hold": "tab:red", "undecided": "tab:gray"}
_MODES = {"FIX": "tab:blue", "CA": "tab:orange"}


def claims_figure(claims: pd.DataFrame) -> Figure:
    """One line a comparison, one panel a metric: the gain in points with its 95 % interval, in the colour of its verdict.

    claims: as `maskerlib.experiments.claims.read_claims` gives it. A claim holds to the right of its dotted line, -margin.
    """
    metrics = list(dict.fromkeys(claims["metric"]))
    names, at, line = {}, {}, 0
    for claim, rows in claims.groupby("claim", sort=False):
        names[line] = f"{claim}:"
        for ours, other in dict.fromkeys(zip(rows["ours"], rows["other"], strict=True)):
            line += 1
            at[claim, ours, other] = line
            names[line] = f"{ours}  against  {other}"
        line += 1
    figure, axes = plt.subplots(1, len(metrics), figsize=(10, 0.6 + 0.24 * line), sharey=True, squeeze=False)
    for axis, metric in zip(axes[0], metrics, strict=True):
        for row in claims[claims["metric"] == metric].itertuples():
            y, colour = at[row.claim, row.ours, row.other], _COLOURS[row.verdict]
            axis.plot([100 * row.low, 100 * row.high], [y, y], color=colour, linewidth=1.4)
            axis.plot(100 * row.estimate, y, "o", color=colour, markersize=3.5)
            axis.plot([-100 * row.margin] * 2, [y - 0.5, y + 0.5], color="black", linewidth=0.9, linestyle=":")
        axis.set_title(f"gain in {metric}, points", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_yticks(list(names), list(names.values()), fontsize=7)
    axes[0][0].set_ylim(line - 0.5, -0.7)
    for label in axes[0][0].get_yticklabels():
        label.set_fontweight("bold" if label.get_text().endswith(":") else "normal")
    handles = [Line2D([], [], marker="o", color=colour, label=name) for name, colour in _COLOURS.items()]
    axes[0][-1].legend(handles=handles, fontsize=7, frameon=False, loc="lower right")
    return plots.finish(figure)


def few_shot_figure(results: Results, metric: str = "LE") -> Figure:
    """A metric against the examples per class, with 95 % intervals; dashed: one pass, dotted: the full schedule."""
    counts = {name: int(found[1]) for name in results.settings if (found := re.fullmatch(r"(\d+) per class", name))}
    references: dict[str, Literal["--", ":"]] = {"one pass": "--", "full schedule": ":"}
    figure, axis = plt.subplots(figsize=(5, 3.2))
    for shift, (mode, colour) in zip((0.97, 1.03), _MODES.items(), strict=True):
        points = [(count * shift, *results.value(name, mode, metric)) for name, count in counts.items()]
        axis.plot(
            [x for x, *_ in points], [mean for _, mean, *_ in points], "o-", color=colour, markersize=4, label=mode
        )
        for x, _, low, high in points:
            axis.plot([x, x], [low, high], color=colour, linewidth=1.2)
        for name, style in references.items():
            axis.axhline(results.value(name, mode, metric)[0], color=colour, linewidth=0.9, linestyle=style)
    axis.set_xscale("log")
    axis.set_xticks(list(counts.values()), [str(count) for count in counts.values()])
    axis.minorticks_off()
    axis.set_xlabel("examples per class", fontsize=8)
    axis.set_ylabel(metric, fontsize=8)
    axis.tick_params(labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)
    lines = [
        Line2D([], [], color="black", linewidth=0.9, linestyle=style, label=name)
        for name, style in references.items()
    ]
    axis.legend(handles=[*axis.get_legend_handles_labels()[0], *lines], fontsize=7, frameon=False)
    return plots.finish(figure)
