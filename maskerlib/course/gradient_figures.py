"""The figures of notebook 01: curves along a path, what a gradient promised, and the question asked twice.

curves          lines in panels: the logit along a path, or how an agreement falls
promises        promised against measured changes of a logit, one panel an amount
asked_twice     the same photograph, two questions, several methods
opening         the last two together: the figure that the notebook opens with
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from maskerlib import plots

__all__ = ["asked_twice", "curves", "opening", "promises"]

Lines = Mapping[str, tuple[Sequence[float], Sequence[float]]]
"""{label: (x values, y values)}."""


def curves(panels: Mapping[str, Lines], across: Sequence[str], *, log: bool = False) -> Figure:
    """One panel a title, with its lines and a legend; `across` names each horizontal axis; `log` makes it logarithmic."""
    figure, axes = plt.subplots(1, len(panels), figsize=(3.3 * len(panels), 2.5), squeeze=False)
    for axis, (title, lines), label in zip(axes[0], panels.items(), across, strict=True):
        _lines(axis, title, lines, label, log)
    return plots.finish(figure)


def _lines(axis: Axes, title: str, lines: Lines, across: str, log: bool) -> None:
    for label, (x, y) in lines.items():
        axis.plot([float(value) for value in x], [float(value) for value in y], marker=".", markersize=4, label=label)
    if log:
        axis.set_xscale("log")
    axis.axhline(0, color="lightgray", linewidth=0.8, zorder=0)
    axis.set_title(title, fontsize=9)
    axis.set_xlabel(across, fontsize=8)
    axis.tick_params(labelsize=7)
    axis.legend(fontsize=7, frameon=False)


def promises(promised: Mapping[str, Tensor], measured: Mapping[str, Tensor]) -> Figure:
    """Promised (across) against measured (up) changes, (K,) each, one panel a title; the dashed line is a promise kept.

    Both axes of a panel have the same range, which follows from its values. ValueError when the titles differ.
    """
    if list(promised) != list(measured):
        raise ValueError(f"promised has the panels {list(promised)}, measured {list(measured)}; give both the same")
    figure, axes = plt.subplots(1, len(promised), figsize=(2.6 * len(promised), 2.7), squeeze=False)
    for axis, (title, across) in zip(axes[0], promised.items(), strict=True):
        up = measured[title]
        reach = 1.1 * max(float(across.abs().max()), float(up.abs().max())) or 1.0
        axis.plot([-reach, reach], [-reach, reach], "--", color="tab:gray", linewidth=0.8)
        axis.plot(across.cpu(), up.cpu(), "o", markersize=3.5, color="tab:orange")
        axis.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
        axis.locator_params(nbins=5)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("promised change of the logit", fontsize=8)
        axis.tick_params(labelsize=7)
    axes[0][0].set_ylabel("measured change", fontsize=8)
    return plots.finish(figure)


def asked_twice(image: Tensor, maps: Mapping[str, Tensor], questions: Sequence[str]) -> Figure:
    """The image (3, H, W) at the left of each row, a row a question, and one column a method: maps (questions, 1, H, W)."""
    figure, axes = plt.subplots(
        len(questions), 1 + len(maps), figsize=(1.6 * (1 + len(maps)), 1.8 * len(questions)), squeeze=False
    )
    for row, (line, question) in enumerate(zip(axes, questions, strict=True)):
        _asked(line, image, maps, question, row)
    return plots.finish(figure)


def _asked(line: Sequence[Axes], image: Tensor, maps: Mapping[str, Tensor], question: str, row: int) -> None:
    plots.show(line[0], image, f"why {question}?")
    for axis, (method, saliency) in zip(line[1:], maps.items(), strict=True):
        plots.show(axis, saliency[row], method)


def opening(
    image: Tensor, maps: Mapping[str, Tensor], questions: Sequence[str], lines: Lines, title: str, across: str
) -> Figure:
    """`asked_twice` on the left, and on the right one panel of lines over a logarithmic axis."""
    figure = plt.figure(figsize=(8.4, 3.1), layout="constrained")
    ((left, right),) = figure.subfigures(1, 2, width_ratios=[2.1, 1], squeeze=False)
    grid = left.subplots(len(questions), 1 + len(maps), squeeze=False)
    for row, (line, question) in enumerate(zip(grid, questions, strict=True)):
        _asked(line, image, maps, question, row)
    _lines(right.subplots(), title, lines, across, True)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # each further drawing would shift the layout a little
    plt.close(figure)
    return figure
