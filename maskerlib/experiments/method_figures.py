"""The figures of the table of methods: what their maps are worth for what they cost, and the maps of a few photographs."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from maskerlib import plots
from maskerlib.classifiers.classifier import Classifier
from maskerlib.data.files.framing import fit
from maskerlib.experiments.named import kind_of
from maskerlib.experiments.settings import Setting
from maskerlib.experiments.tables import Results
from maskerlib.explain import explain
from maskerlib.methods.registry import method_named
from maskerlib.metrics.registry import better

__all__ = ["colour_of", "cost_figure", "photographs_figure"]

_OURS = {"FIX": "tab:blue", "CA": "tab:orange"}
_KINDS = {"trained": "tab:purple", "per-image mask": "tab:green", "perturbation": "tab:brown", "gradient": "0.55"}
_APART = 9.5  # points between two names

_Point = tuple[float, float, str, str]  # passes, value, name, colour


def colour_of(name: str, method: str) -> str:
    """The colour of a row in the figures of methods: FIX and CA have their own, all others that of their kind."""
    return _OURS.get(name) or _KINDS[kind_of(method)]


def cost_figure(results: Results, metrics: Sequence[str] = ("LE", "PxAP"), *, level: str = Setting.level) -> Figure:
    """A panel a metric: its mean over the seeds, with its 95 % interval, against forward and backward passes an image (log axis).

    One point a method, in the colour of its kind, FIX and CA in their own; the dashed lines look at nothing: references.

    Args:
        results: a table whose runs measured the cost.
        metrics: columns of the table.
        level: of the scenes; the rows of others are left out.

    Raises KeyError for a metric that the table does not hold, ValueError for a level of which it has no row.
    """
    rows = {name: row for name, row in results.record["rows"].items() if row["parameters"].get("level", Setting.level) == level}
    if not rows:
        raise ValueError(f"level={level!r}: the table has no row on such scenes; give another level")
    figure, axes = plt.subplots(1, len(metrics), figsize=(5.6 * len(metrics), 4.6), squeeze=False)
    points: dict[Axes, list[_Point]] = {}
    for axis, metric in zip(axes[0], metrics, strict=True):
        points[axis] = []
        for name, row in rows.items():
            mode, label = row["modes"][0], name.removesuffix(f", {level}")
            mean, low, high = results.value(name, mode, metric)
            passes = sum(results.value(name, mode, count)[0] for count in ("forward", "backward"))
            if passes == 0:
                axis.axhline(mean, color="0.7", linewidth=0.8, linestyle="--", zorder=0)
                axis.text(1, mean, label, transform=axis.get_yaxis_transform(), ha="right", va="bottom", fontsize=7, color="0.5")
                continue
            colour = colour_of(label, row["parameters"].get("method", Setting.method))
            if np.isfinite([low, high]).all():
                axis.plot([passes, passes], [low, high], color=colour, linewidth=1.2)
            axis.plot(passes, mean, "o", color=colour, markersize=8 if label in _OURS else 4)
            points[axis].append((passes, mean, label, colour))
        axis.set_xscale("log")
        axis.set_xlabel("passes an image, forward and backward", fontsize=8)
        axis.set_title(f"{metric} ({better(metric)} is better)" if better(metric) else metric, fontsize=9)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.22)
    handles = [Line2D([], [], marker="o", linestyle="", color=colour, label=kind) for kind, colour in _KINDS.items()]
    axes[0][0].legend(handles=handles, fontsize=7, frameon=False, loc="best")
    plots.finish(figure)
    for axis, named in points.items():
        _label(axis, named)
    return figure


def _label(axis: Axes, points: Sequence[_Point]) -> None:
    """Write the name of each point beside it, a little higher or lower where a point or another name stands."""
    scale = 72 / axis.figure.dpi  # points of a pixel
    places = {(x, y): axis.transData.transform((x, y)) * scale for x, y, *_ in points}
    taken = [(across - 3, across + 3, up) for across, up in places.values()]  # left, right and height, in points

    def free(left: float, right: float, up: float) -> bool:
        return all(right < start or end < left or abs(up - height) >= _APART for start, end, height in taken)

    for x, y, name, colour in sorted(points, key=lambda point: point[2] not in _OURS):
        across, up = places[x, y]
        style: dict[str, Any] = {"color": colour, "fontsize": 7, "va": "center", "weight": "bold" if name in _OURS else "normal"}
        trial = axis.text(x, y, name, **style)
        left, right = across + 6, across + 6 + trial.get_window_extent().width * scale
        trial.remove()
        shifts = sorted((_APART * step / 2 for step in range(-40, 41)), key=abs)
        shift = next((shift for shift in shifts if free(left, right, up + shift)), 0.0)
        taken.append((left, right, up + shift))
        line = {"arrowstyle": "-", "color": colour, "linewidth": 0.4, "shrinkA": 0, "relpos": (0, 0.5)}
        axis.annotate(name, (x, y), (6, shift), textcoords="offset points", arrowprops=line if shift else None, **style)


def photographs_figure(
    photos: Sequence[Tensor],
    classifier: Classifier,
    methods: Mapping[str, tuple[str, Mapping[str, Any]]],
    *,
    columns: int = 8,
    seed: int = 0,
) -> Figure:
    """The maps of several methods over photographs: one line a photograph, one column a method, in as many blocks as it takes.

    Each map explains the class that the classifier predicts. A block begins with the photographs and that class.

    Args:
        photos: (3, H, W) in [0, 1] each, of any size.
        methods: {title: (name in `maskerlib.methods.registry.METHODS`, its options)}, drawn in this order.
        columns: methods of a block.
        seed: of those that draw at random.

    Raises ValueError for a method or an option that there is not, and as `maskerlib.explain.explain` does.
    """
    made = {title: method_named(name, classifier, seed=seed, **options) for title, (name, options) in methods.items()}
    found = {title: [explain(photo, classifier, method) for photo in photos] for title, method in made.items()}
    blocks = [list(found.items())[start : start + columns] for start in range(0, len(found), columns)]
    rows, titles = [], []
    for block in blocks:
        for line in range(len(photos)):
            image = fit(photos[line], block[0][1][line].size)[0]
            maps = [plots.overlay(image, each[line].saliency) for _, each in block]
            rows.append([image, *maps])
            titles.append([block[0][1][line].class_name, *(title if line == 0 else "" for title, _ in block)])
    return plots.image_grid(rows, titles, width=1.3)
