"""Figures of the objectives: a loss on the triangle of three-class predictions, on the cells of a mask, on a toy's areas.

to_plane, simplex_grid, descent   from three probabilities to a point of the triangle, and where gradient descent goes
simplex_figure, path_figure       a loss on the triangle; the way of its gradient descent and the length of its gradient
cells_figure                      which cells of a mask a loss would raise and which it would lower
size_figure, optimum_figure       a loss against the share of the object shown, and the best share against lambda
landscape_figure                  an objective over masks of every size and strength, and where it is lowest
summary_figure                    notebook 03 in one picture
"""

import math
from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from maskerlib import plots

__all__ = [
    "cells_figure",
    "descent",
    "landscape_figure",
    "optimum_figure",
    "path_figure",
    "simplex_figure",
    "simplex_grid",
    "size_figure",
    "summary_figure",
    "to_plane",
]

Loss = Callable[[Tensor], Tensor]
"""Logits (N, 3) -> one value each, (N,)."""

CORNERS = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, math.sqrt(3) / 2]])
NAMES = ("y", "b", "c")
COLOURS = ("tab:orange", "tab:blue", "tab:green", "tab:purple", "tab:gray")


def to_plane(probabilities: Tensor) -> Tensor:
    """Three probabilities (..., 3) as a point (..., 2) of the triangle: a corner for a sure class, the centre for undecided."""
    return probabilities @ CORNERS.to(probabilities)


def simplex_grid(cells: int, margin: float = 0.0) -> Tensor:
    """An even grid of (cells + 1)(cells + 2) / 2 predictions (N, 3), each probability `margin` or more, in [0, 1/3).

    >>> simplex_grid(1, margin=0.25).tolist()
    [[0.25, 0.25, 0.5], [0.25, 0.5, 0.25], [0.5, 0.25, 0.25]]
    """
    steps = [(i, j, cells - i - j) for i in range(cells + 1) for j in range(cells + 1 - i)]
    return margin + (1 - 3 * margin) * torch.tensor(steps, dtype=torch.float64) / cells


def descent(loss: Loss, probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """One small step of gradient descent on the logits, seen from the triangle.

    probabilities: (N, 3), all above 0. Returns the direction in which the point moves, (N, 2) of length 1 (0 where it
    rests), and the length of the gradient with respect to the logits, (N,).
    """
    logits = probabilities.double().log().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(logits).sum(), logits)
    p = logits.detach().exp()
    moved = to_plane(-p * (gradient - (p * gradient).sum(dim=1, keepdim=True)))  # dp = (diag(p) - p p^T) dz
    length = moved.norm(dim=1, keepdim=True)
    resting = gradient.norm(dim=1, keepdim=True) < 1e-6
    return torch.where(resting, 0.0, moved / length.clamp(min=1e-300)), gradient.norm(dim=1)


def simplex_figure(losses: Mapping[str, Loss]) -> Figure:
    """One triangle a loss: its value as shades, gradient descent on the logits as arrows as long as the gradient."""
    figure, axes = plt.subplots(1, len(losses), figsize=(2.5 * len(losses), 2.5), squeeze=False)
    for axis, (name, loss) in zip(axes[0], losses.items(), strict=True):
        _simplex(axis, name, loss)
    return plots.finish(figure)


def path_figure(paths: Mapping[str, Tensor], lengths: Mapping[str, Sequence[float]]) -> Figure:
    """Left, the way over the triangle, (T, 3) a loss; right, the length of the gradient step by step."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.8), width_ratios=[1, 1.4])
    _triangle(left)
    for colour, (name, path) in zip(COLOURS, paths.items(), strict=False):
        x, y = to_plane(path).T
        left.plot(x, y, ".-", markersize=3, linewidth=1, color=colour, label=name)
        right.plot(lengths[name], color=colour, label=name)
    left.plot(*to_plane(torch.full((3,), 1 / 3)), "k+")
    right.set_xlabel("step", fontsize=8)
    right.set_title("length of the gradient", fontsize=9)
    right.tick_params(labelsize=7)
    right.legend(fontsize=7, frameon=False)
    return plots.finish(figure)


def cells_figure(
    images: Tensor, boxes: Sequence[Tensor], steps: Mapping[str, Tensor], names: Sequence[str], *, scale: bool = True
) -> Figure:
    """One row an image with its box, then one column a loss: the step (B, 1, h, w) that descent makes in each cell.

    Red cells are raised, blue ones lowered. Each panel has its own scale, from minus to plus its largest step, which
    stands above it when `scale`; a panel without any step is white.
    """
    figure, axes = plt.subplots(
        len(images), 1 + len(steps), figsize=(1.4 * (1 + len(steps)), 1.75 * len(images)), squeeze=False
    )
    for row, line in enumerate(axes):
        plots.show(line[0], images[row], names[row], boxes[row][0])
        for axis, (name, step) in zip(line[1:], steps.items(), strict=True):
            values = step[row, 0].detach().cpu().numpy()
            reach = float(abs(values).max())
            axis.imshow(values, cmap="RdBu_r", vmin=-(reach or 1.0), vmax=reach or 1.0)
            title = [name] * (row == 0) + [f"± {reach:.2g}"] * scale
            axis.set_title("\n".join(title), fontsize=8, pad=3)
            axis.set_axis_off()
    return plots.finish(figure)


def size_figure(shown: Tensor, panels: Mapping[str, Mapping[str, Tensor]], threshold: float) -> Figure:
    """One panel a reward, one line a lambda: the loss (N,) against the share of the object shown, `shown` (N,).

    The lowest point of each line is marked, the threshold of the decision dashed. A line breaks where it jumps.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(3.6 * len(panels), 2.6), squeeze=False)
    for axis, (title, lines) in zip(axes[0], panels.items(), strict=True):
        axis.axvline(threshold, color="tab:gray", linestyle="--", linewidth=0.8)
        for colour, (name, values) in zip(COLOURS, lines.items(), strict=False):
            drawn = values.clone()
            jump = (values.diff().abs() > 20 * values.diff().abs().median() + 1e-3).nonzero()
            drawn[jump[:, 0]] = math.nan
            axis.plot(shown, drawn, color=colour, linewidth=1.2, label=name)
            best = int(values.argmin())
            axis.plot(shown[best], values[best], "o", color=colour, markersize=4)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("share of the object shown, u", fontsize=8)
        axis.tick_params(labelsize=7)
    axes[0][0].set_ylabel("objective", fontsize=8)
    axes[0][0].legend(fontsize=7, frameon=False)
    return plots.finish(figure)


def optimum_figure(
    weights: Tensor,
    lines: Mapping[str, Tensor],
    dots: Mapping[str, tuple[Tensor, Tensor]],
    smallest: float,
) -> Figure:
    """The best area against lambda: the closed form as `lines` over `weights` (N,), what gradient descent found as `dots`.

    dots: {name of a line: (lambda, area)}.  smallest: the smallest area that keeps the decision, dashed.
    """
    figure, axis = plt.subplots(figsize=(5.2, 2.8))
    _optimum(axis, weights, lines, dots, smallest)
    return plots.finish(figure)


def landscape_figure(landscapes: Mapping[str, pd.DataFrame]) -> Figure:
    """One panel an objective: a row of its frame a strength of the mask, a column the pixels by which the object has grown.

    Bright is low; all values above a panel's median have one shade. The lowest is marked.
    """
    across = min(3, len(landscapes))
    down = math.ceil(len(landscapes) / across)
    size = (2.7 * across, 0.4 + 1.7 * down)
    figure, axes = plt.subplots(down, across, figsize=size, squeeze=False, sharex=True, sharey=True)
    for axis, (name, frame) in zip(axes.flat, landscapes.items(), strict=False):
        values = frame.to_numpy()
        axis.imshow(values, cmap="viridis_r", vmin=values.min(), vmax=np.median(values), aspect="auto", origin="lower")
        row, column = np.unravel_index(values.argmin(), values.shape)
        axis.plot(column, row, "o", color="tab:red", markersize=7)
        axis.set_title(name, fontsize=8)
        axis.set_xticks(range(len(frame.columns)), frame.columns)
        axis.set_yticks(range(len(frame.index)), frame.index)
    for axis in axes.flat[len(landscapes) :]:
        axis.set_axis_off()
    for axis in axes[-1]:
        axis.set_xlabel("grown by, pixels", fontsize=8)
    for axis in axes[:, 0]:
        axis.set_ylabel("strength", fontsize=8)
    return plots.finish(figure)


def summary_figure(
    losses: Mapping[str, Loss],
    optimum: tuple[Tensor, Mapping[str, Tensor], Mapping[str, tuple[Tensor, Tensor]], float],
    images: Tensor,
    boxes: Sequence[Tensor],
    maps: Mapping[str, Tensor],
) -> Figure:
    """Top: losses on the triangle, and the arguments of `optimum_figure`. Bottom: images and their masks, one row an image."""
    figure = plt.figure(figsize=(9.6, 2.6 + 1.3 * len(images)), layout="constrained")
    (top,), (bottom,) = figure.subfigures(2, 1, height_ratios=[2.6, 1.3 * len(images)], squeeze=False)
    axes = top.subplots(1, len(losses) + 1, width_ratios=[1] * len(losses) + [1.5])
    for axis, (name, loss) in zip(axes, losses.items(), strict=False):
        _simplex(axis, name, loss)
    _optimum(axes[-1], *optimum)
    for row, line in enumerate(bottom.subplots(len(images), 1 + len(maps), squeeze=False)):
        plots.show(line[0], images[row], "scene" if row == 0 else "", boxes[row][0])
        for axis, (name, saliency) in zip(line[1:], maps.items(), strict=True):
            plots.show(axis, saliency[row], name if row == 0 else "")
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    plt.close(figure)
    return figure


def _triangle(axis: Axes) -> None:
    axis.plot(*CORNERS[[0, 1, 2, 0]].T, color="black", linewidth=0.8)
    for name, (x, y), (dx, dy) in zip(NAMES, CORNERS, [(-0.06, -0.03), (0.06, -0.03), (0, 0.07)], strict=True):
        axis.text(x + dx, y + dy, name, ha="center", va="center", fontsize=9)
    axis.set_aspect("equal")
    axis.set_axis_off()


def _simplex(axis: Axes, name: str, loss: Loss) -> None:
    fine = simplex_grid(60, 0.004)
    x, y = to_plane(fine).T
    axis.tricontourf(x.numpy(), y.numpy(), loss(fine.log()).detach().numpy(), levels=14, cmap="viridis")
    coarse = simplex_grid(9, 0.05)
    direction, length = descent(loss, coarse)
    x, y = to_plane(coarse).T
    dx, dy = (direction * length[:, None] * 0.1).T
    axis.quiver(x, y, dx, dy, color="white", angles="xy", scale_units="xy", scale=1, width=0.011, headwidth=3.6)
    _triangle(axis)
    axis.set_title(name, fontsize=9, pad=10)


def _optimum(
    axis: Axes,
    weights: Tensor,
    lines: Mapping[str, Tensor],
    dots: Mapping[str, tuple[Tensor, Tensor]],
    smallest: float,
) -> None:
    axis.axhline(smallest, color="tab:gray", linestyle="--", linewidth=0.8)
    for colour, (name, areas) in zip(COLOURS, lines.items(), strict=False):
        axis.plot(weights, areas, color=colour, linewidth=1.2, label=name)
        if name in dots:
            axis.plot(*dots[name], "o", color=colour, markersize=4)
    axis.set_xlabel("weight of the size term", fontsize=8)
    axis.set_title("area of the best mask (toy)", fontsize=9)
    axis.tick_params(labelsize=7)
    axis.legend(fontsize=7, frameon=False)
