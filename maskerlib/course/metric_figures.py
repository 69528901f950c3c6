"""The figures of notebook 05: a map of sixteen pixels step by step, thresholds swept, methods ranked by every metric.

Every function returns a closed `matplotlib.figure.Figure`, as those of `maskerlib.plots` do. `ranks` gives the numbers that
the rank chart draws.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from maskerlib import plots
from maskerlib.data.boxes import box_iou, component_boxes
from maskerlib.metrics.boxes import binarise, largest_component, predicted_boxes

__all__ = [
    "interval_picture",
    "overview",
    "pixel_curve_picture",
    "ranks",
    "steps_picture",
    "sweep_picture",
]

_COLOURS = {
    "truth": "black",
    "FIX": "tab:orange",
    "CA": "tab:red",
    "Grad-CAM": "tab:blue",
    "edges": "tab:green",
    "centre box": "tab:purple",
    "random": "tab:gray",
}


def _colours(names: Sequence[str]) -> dict[str, str]:
    """One colour a method, the same in all figures; a method that is not listed gets a colour of the cycle."""
    return {name: _COLOURS.get(name, f"C{number}") for number, name in enumerate(names)}


def steps_picture(saliency: Tensor, box: Tensor) -> Figure:
    """From a map to a box, four panels: the map's numbers, the set above its mean, the largest component, the two boxes.

    saliency: (1, H, W) in [0, 1], small, for each pixel's value is written.  box: (4,), the true box, drawn in green; the
    predicted one is orange.
    """
    above = binarise(saliency[None])
    component = largest_component(above)
    predicted = component_boxes(component)[0]
    figure, axes = plt.subplots(1, 4, figsize=(9.2, 2.5))
    plots.show(axes[0], saliency, "the map")
    plots.show(axes[1], above[0].float(), f"above its mean, {float(saliency.mean()):.3f}")
    plots.show(axes[2], component[0].float(), "largest component")
    plots.show(axes[3], component[0].float(), f"IoU {float(box_iou(predicted, box)):.2f}")
    plots.frame(axes[3], predicted, "tab:orange")
    for patch in axes[3].patches:  # where the boxes share an edge, both are seen
        patch.set_linewidth(4)
    plots.frame(axes[3], box, "lime")
    for y, row in enumerate(saliency[0].tolist()):
        for x, value in enumerate(row):
            shade = "black" if value > 0.6 else "white"
            axes[0].text(x, y, f"{value:.1f}", ha="center", va="center", color=shade, fontsize=9)
    for axis in axes:  # room for a frame at the border
        axis.set(xlim=(-0.7, saliency.shape[2] - 0.3), ylim=(saliency.shape[1] - 0.3, -0.7))
    return plots.finish(figure)


def pixel_curve_picture(precision: Sequence[float], recall: Sequence[float], labels: Sequence[str]) -> Figure:
    """A precision-recall curve of few points, with the area that PxAP sums: one rectangle a step of recall.

    precision, recall: one value a threshold, thresholds falling, so that recall rises.  labels: what to write at each point.
    """
    figure, axis = plt.subplots(figsize=(3.4, 2.6))
    before = 0.0
    for height, reached in zip(precision, recall, strict=True):
        axis.bar(before, height, reached - before, align="edge", color="tab:orange", alpha=0.35, edgecolor="tab:orange")
        before = reached
    axis.plot(recall, precision, "o", color="black", markersize=4)
    for height, reached, label in zip(precision, recall, labels, strict=True):
        axis.annotate(label, (reached, height), (3, 4), textcoords="offset points", fontsize=7)
    axis.set(xlim=(-0.03, 1.22), ylim=(-0.03, 1.05))
    axis.set_xlabel("recall", fontsize=8)
    axis.set_ylabel("precision", fontsize=8)
    axis.tick_params(labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)
    return plots.finish(figure)


def sweep_picture(
    thresholds: Sequence[float], sweep: Mapping[str, Sequence[float]], own: Mapping[str, float]
) -> Figure:
    """LE against the threshold that all images share, one line a method; dotted, LE at each map's own mean.

    sweep: {method: LE at each threshold}.  own: {method: LE}. The best threshold of each method is marked.
    """
    figure, axis = plt.subplots(figsize=(6.4, 3.2))
    for name, colour in _colours(list(sweep)).items():
        values = list(sweep[name])
        axis.plot(thresholds, values, color=colour, linewidth=1.4, label=name)
        axis.axhline(own[name], color=colour, linewidth=0.9, linestyle=":")
        best = min(range(len(values)), key=values.__getitem__)
        axis.plot([thresholds[best]], [values[best]], "o", color=colour, markersize=5)
    axis.set(xlim=(0, 1), ylim=(-0.02, 1.02))
    axis.set_xlabel("threshold shared by all images", fontsize=8)
    axis.set_ylabel("LE (lower is better)", fontsize=8)
    axis.tick_params(labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return plots.finish(figure)


def interval_picture(intervals: Mapping[str, tuple[float, float, float]], meaning: str) -> Figure:
    """Differences with their intervals, one line each, and the zero that they have to exclude.

    intervals: {label: (estimate, low, high)}; an interval that contains 0 is grey.  meaning: the label of the axis.
    """
    figure, axis = plt.subplots(figsize=(5.6, 0.34 * len(intervals) + 0.8))
    for row, (estimate, low, high) in enumerate(intervals.values()):
        colour = "tab:gray" if low <= 0 <= high else "tab:orange"
        axis.plot([low, high], [row, row], color=colour, linewidth=2.2)
        axis.plot([estimate], [row], "o", color=colour, markersize=5)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_yticks(range(len(intervals)), list(intervals), fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel(meaning, fontsize=8)
    axis.tick_params(axis="x", labelsize=7)
    axis.spines[["top", "right", "left"]].set_visible(False)
    return plots.finish(figure)


def ranks(table: pd.DataFrame, better: Mapping[str, str]) -> pd.DataFrame:
    """The rank of each method (row) in each column of `better`, 1 = best; equal values share the better rank.

    better: {column: "lower" or "higher"}, what is better. Raises ValueError for another word.

    >>> ranks(pd.DataFrame({"LE": [0.1, 0.3, 0.3]}, index=["FIX", "box", "CAM"]), {"LE": "lower"})["LE"].to_dict()
    {'FIX': 1, 'box': 2, 'CAM': 2}
    """
    for column, word in better.items():
        if word not in ("lower", "higher"):
            raise ValueError(f"{column} is better when {word!r}? Expected lower or higher")
    found = {column: table[column].rank(ascending=word == "lower", method="min") for column, word in better.items()}
    return pd.DataFrame(found).astype(int)


def _ranks(axis: Axes, table: pd.DataFrame, better: Mapping[str, str]) -> None:
    """One line a method through its rank in every column, best on top, with the value beside each point."""
    places = ranks(table, better)
    last = len(better) - 1
    for name, colour in _colours(list(table.index)).items():
        row = places.loc[name].tolist()
        axis.plot(range(len(row)), row, color=colour, linewidth=1.6, marker="o", markersize=5)
        for number, (column, place) in enumerate(zip(better, row, strict=True)):
            value = axis.text(number + 0.07, place - 0.2, f"{table.loc[name, column]:.2f}", fontsize=6.5, color=colour)
            value.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.3})
        axis.text(-0.12, row[0], name, ha="right", va="center", fontsize=8, color=colour)
        axis.text(last + 0.4, row[-1], name, ha="left", va="center", fontsize=8, color=colour)
    axis.set_xticks(range(len(better)), [f"{column}\n({word})" for column, word in better.items()], fontsize=7)
    axis.set_xlim(-0.3, last + 0.42)
    axis.set_yticks([])
    axis.set_ylim(len(table) + 0.4, 0.4)
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def overview(
    image: Tensor, box: Tensor, maps: Mapping[str, Tensor], table: pd.DataFrame, better: Mapping[str, str]
) -> Figure:
    """The closing figure: one scene and its maps with the boxes that they predict, above the ranks of the methods.

    image: (3, H, W).  box: (4,), the true box.  maps: {method: (1, H, W)}.  table: one row a
    method.  better: {column: "lower" or "higher"}, in the order of the columns drawn.
    """
    figure = plt.figure(figsize=(9.2, 5.2))
    grid = figure.add_gridspec(2, len(maps) + 1, height_ratios=[1, 2.3], hspace=0.16, wspace=0.06)
    plots.show(figure.add_subplot(grid[0, 0]), image, "scene and true box", box)
    for column, (name, saliency) in enumerate(maps.items(), start=1):
        axis = figure.add_subplot(grid[0, column])
        predicted = predicted_boxes(saliency[None].float())[0]
        plots.show(axis, saliency, f"{name}, IoU {float(box_iou(predicted, box)):.2f}")
        axis.title.set_fontsize(7)
        plots.frame(axis, box, "lime")
        plots.frame(axis, torch.as_tensor(predicted), "tab:orange")
    _ranks(figure.add_subplot(grid[1, :]), table, better)
    plt.close(figure)
    return figure
