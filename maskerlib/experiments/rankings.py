"""The same methods in order of several metrics: how far two orders agree, and a figure of them side by side.

What looks at nothing, a reference, is left out: every metric puts it last, and orders would agree for that alone.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from scipy import stats

from maskerlib import plots
from maskerlib.experiments.method_figures import colour_of
from maskerlib.experiments.named import kind_of
from maskerlib.experiments.settings import Setting
from maskerlib.experiments.tables import Results
from maskerlib.metrics.intervals import t_interval
from maskerlib.metrics.registry import better

__all__ = ["FILLS_TABLE", "agreement", "compared", "ranks_figure"]

FILLS_TABLE = "fills"
"""The table that asks whether what stands in place of pixels matters."""


def compared(results: Results) -> list[tuple[str, str]]:
    """(setting, mode) of every method of the table that is no reference, in its order."""
    rows = results.record["rows"].items()
    return [
        (name, mode)
        for name, row in rows
        if kind_of(row["parameters"].get("method", Setting.method)) != "baseline"
        for mode in row["modes"]
    ]


def agreement(results: Results, one: str, other: str) -> tuple[float, float, float]:
    """Kendall's tau of the methods' order by two metrics: its mean over the seeds, and the ends of the 95 % t interval.

    1 where both put every pair of methods in the same order, -1 where in the opposite one, 0 in the mean for a random order.
    Better comes first, whatever a metric's direction. Each seed has an order of its own.

    Raises KeyError for a metric that the table does not hold, ValueError for one without a direction.
    """
    wide = [_values(results, metric) for metric in (one, other)]
    taus = [stats.kendalltau(*(values[seed] for values in wide)).statistic for seed in wide[0]]
    mean, low, high = t_interval(taus)
    return mean, low, high


def _values(results: Results, metric: str) -> dict[int, list[float]]:
    """{seed: the value of each method, larger where it is better}."""
    rows = results.seeds[results.seeds["metric"] == metric]
    if rows.empty:
        raise KeyError(f"no {metric!r} in the table; its metrics are {', '.join(dict.fromkeys(results.seeds['metric']))}")
    sign = _sign(metric)
    found = rows.set_index(["seed", "setting", "mode"])["value"].sort_index()
    return {
        int(seed): [sign * float(found[seed, setting, mode]) for setting, mode in compared(results)]
        for seed in sorted(rows["seed"].unique())
    }


def _sign(metric: str) -> int:
    direction = better(metric)
    if not direction:
        raise ValueError(f"{metric} has no direction, so it puts nothing in order; choose one such as LE")
    return -1 if direction == "lower" else 1


def ranks_figure(
    results: Results,
    metrics: Sequence[str] = ("insertion", "deletion", "SRG"),
    fills: Sequence[str] = ("mean", "oracle", "blur"),
) -> Figure:
    """A panel a metric: each method's place by its mean over the seeds, 1 for the best, under one fill after the other.

    A line a method; where lines cross, two fills disagree: the exact one stands between the others. Below each gap stands
    Kendall's tau of the two orders beside it (`agreement`), with its interval.
    """
    methods = compared(results)
    figure, axes = plt.subplots(1, len(metrics), figsize=(4.2 * len(metrics), 0.9 + 0.3 * len(methods)), squeeze=False)
    for axis, metric in zip(axes[0], metrics, strict=True):
        names = [f"{metric}, {fill}" for fill in fills]
        means = [[_sign(name) * results.value(*method, name)[0] for method in methods] for name in names]
        places = [stats.rankdata([-value for value in column], method="ordinal") for column in means]
        for number, (name, _) in enumerate(methods):
            row = results.record["rows"][name]
            colour = colour_of(name, row["parameters"].get("method", Setting.method))
            line = [column[number] for column in places]
            axis.plot(range(len(fills)), line, "o-", color=colour, markersize=4, linewidth=1.2)
            beside = {"xytext": (6, 0), "textcoords": "offset points", "va": "center", "fontsize": 8, "color": colour}
            axis.annotate(name, (len(fills) - 1, line[-1]), **beside)
        for at, pair in enumerate(zip(names, names[1:], strict=False)):
            tau, low, high = agreement(results, *pair)
            text = f"τ {tau:.2f}\n[{low:.2f}, {high:.2f}]"
            axis.annotate(text, (at + 0.5, 0), (0, -32), ("data", "axes fraction"), "offset points", ha="center", fontsize=8)
        axis.set_xticks(range(len(fills)), fills, fontsize=9)
        axis.set_yticks([1, len(methods)], ["best", "last"], fontsize=8)
        axis.set_ylim(len(methods) + 0.6, 0.4)
        axis.set_xlim(-0.15, len(fills) - 0.1)
        axis.set_title(f"{metric} ({better(names[0])} is better)", fontsize=10)
        axis.spines[["top", "right", "left"]].set_visible(False)
    return plots.finish(figure)
