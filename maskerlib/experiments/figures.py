"""The figures of the ablations, drawn from their tables alone.

Every function returns a closed `matplotlib.figure.Figure`, as those of `maskerlib.plots` do.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from maskerlib import plots
from maskerlib.experiments.choosing import METHODS_TABLE, OPTIONS_TABLE
from maskerlib.experiments.method_figures import cost_figure
from maskerlib.experiments.rankings import FILLS_TABLE, ranks_figure
from maskerlib.experiments.tables import Results, read_results
from maskerlib.metrics.registry import better

__all__ = ["METRICS", "difference_figure", "draw_all", "interval_figure", "strip_figure"]

METRICS = ("LE", "F1", "PxAP", "SM")
"""What the figures of the ablations show unless told otherwise."""

_COLOURS = {"FIX": "tab:blue", "CA": "tab:orange"}


def interval_figure(results: Results, metrics: Sequence[str] = METRICS, settings: Sequence[str] | None = None) -> Figure:
    """One panel a metric, one line a setting: the mean over the seeds (dot), its 95 % interval (bar), every seed (tick).

    The dashed lines are the baseline's means.
    """
    return _panels(results, results.summary, metrics, settings or results.settings, seeds=True)


def difference_figure(results: Results, metrics: Sequence[str] = METRICS, settings: Sequence[str] | None = None) -> Figure:
    """The same for the differences from the baseline, seed by seed: a bar that does not touch 0 is a difference."""
    others = [name for name in settings or results.settings if name in set(results.paired["setting"])]
    return _panels(results, results.paired, metrics, others, seeds=False)


def _panels(
    results: Results, frame: pd.DataFrame, metrics: Sequence[str], settings: Sequence[str], *, seeds: bool
) -> Figure:
    figure, axes = plt.subplots(
        1, len(metrics), figsize=(1.6 + 2.1 * len(metrics), 0.9 + 0.3 * len(settings)), squeeze=False, sharey=True
    )
    for axis, metric in zip(axes[0], metrics, strict=True):
        rows = frame[frame["metric"] == metric]
        for mode, colour in _COLOURS.items():
            of_mode = rows[rows["mode"] == mode].set_index("setting")
            shift = -0.15 if mode == "FIX" else 0.15
            for at, name in ((at + shift, name) for at, name in enumerate(settings) if name in of_mode.index):
                mean, low, high = of_mode.loc[name, ["mean", "low", "high"]].astype(float)
                if np.isfinite([low, high]).all():
                    axis.plot([low, high], [at, at], color=colour, linewidth=1.4)
                axis.plot(mean, at, "o", color=colour, markersize=3.5)
                if seeds:
                    _ticks(axis, results, name, mode, metric, at, colour)
            _reference(axis, results, mode, metric, colour, seeds)
        axis.set_title(f"{metric} ({better(metric)})" if better(metric) else metric, fontsize=8)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_yticks(range(len(settings)), settings, fontsize=7)
    axes[0][0].set_ylim(len(settings) - 0.5, -0.5)
    modes = {mode: colour for mode, colour in _COLOURS.items() if mode in set(frame["mode"])}
    handles = [Line2D([], [], marker="o", color=colour, label=mode) for mode, colour in modes.items()]
    axes[0][-1].legend(handles=handles, fontsize=7, frameon=False)
    return plots.finish(figure)


def _ticks(axis: Axes, results: Results, setting: str, mode: str, metric: str, at: float, colour: str) -> None:
    """The value of each seed, a thin mark."""
    rows = results.seeds
    values = rows[(rows["setting"] == setting) & (rows["mode"] == mode) & (rows["metric"] == metric)]["value"]
    axis.plot(values, [at] * len(values), "|", color=colour, markersize=5, alpha=0.5)


def _reference(axis: Axes, results: Results, mode: str, metric: str, colour: str, seeds: bool) -> None:
    if not seeds:
        axis.axvline(0, color="tab:gray", linewidth=0.6, linestyle="--", zorder=0)
        return
    base = results.record["baseline"]
    rows = results.summary[(results.summary["setting"] == base) & (results.summary["mode"] == mode)]
    for mean in rows[rows["metric"] == metric]["mean"]:
        axis.axvline(mean, color=colour, linewidth=0.6, linestyle="--", zorder=0)


def strip_figure(results: Results, images: Tensor, settings: Sequence[str] | None = None, *, mode: str = "CA") -> Figure:
    """Masks side by side: one column a scene (B, 3, H, W), at most eight, above them the scenes, one row a setting, in one mode.

    Raises ValueError when the table holds no masks of that mode.
    """
    names = [name for name in settings or results.settings if (name, mode) in results.maps]
    if not names:
        raise ValueError(f"the table holds no masks of mode {mode!r} for these settings")
    count = len(images)
    figure, axes = plt.subplots(1 + len(names), count, figsize=(1.5 + 0.9 * count, 0.95 * (1 + len(names))), squeeze=False)
    for axis, image in zip(axes[0], images, strict=True):
        plots.show(axis, image)
    for line, name in zip(axes[1:], names, strict=True):
        strip = results.maps[name, mode]
        for axis, mask in zip(line, np.split(strip, strip.shape[1] // strip.shape[0], axis=1), strict=False):
            axis.imshow(mask, cmap="inferno", vmin=0, vmax=255)
            axis.axis("off")
        line[0].text(-0.1, 0.5, name, transform=line[0].transAxes, ha="right", va="center", fontsize=7)
    return plots.finish(figure)


_OTHERWISE: Mapping[str, tuple[Callable[[Results], Figure], str] | None] = {
    METHODS_TABLE: (cost_figure, ""),
    FILLS_TABLE: (ranks_figure, "_fills"),
    OPTIONS_TABLE: None,
}


def draw_all(tables: Path, into: Path, names: Sequence[str]) -> list[Path]:
    """The figure of every table, drawn from the files in `tables`, under the name of its notebook in `into`; the paths.

    It is an `interval_figure`, but of the methods, which have a `maskerlib.experiments.method_figures.cost_figure`, and of the
    fills, whose `maskerlib.experiments.rankings.ranks_figure` stands beside it in the same notebook; the choice of options has
    none.
    """
    written = []
    for name in names:
        if (how := _OTHERWISE.get(name, (interval_figure, ""))) is not None:
            draw, end = how
            results = read_results(name, tables)
            written.append(into / f"{results.record['notebook']}{end}.png")
            plots.save_figure(draw(results), written[-1], colours=128)
    return written
