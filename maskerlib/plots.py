"""Figures: photographs through masks, maps side by side, training curves, one table drawn as bars.

Every function returns a `matplotlib.figure.Figure` that is closed in pyplot, so a notebook shows it once, as the value of
its cell; `save_figure` writes it as a whole file or not at all.
"""

import math
import os
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor

from maskerlib.running.files import atomic_path

__all__ = [
    "bar_table",
    "explanation",
    "finish",
    "frame",
    "image_grid",
    "map_grid",
    "objects_and_masks",
    "overlay",
    "save_figure",
    "show",
    "story",
    "training_curves",
    "views_grid",
]


def _pixels(image: Tensor) -> np.ndarray:
    """(3, H, W) or (1, H, W) in [0, 1] -> an array that imshow takes."""
    array = image.detach().float().cpu().clamp(0, 1).numpy()
    return array[0] if array.shape[0] == 1 else array.transpose(1, 2, 0)


def overlay(image: Tensor, saliency: Tensor) -> Tensor:
    """The image (3, H, W) in grey with the map (1, H, W) over it in colour: (3, H, W) in [0, 1]."""
    heat = plt.get_cmap("inferno")(saliency[0].detach().float().cpu().clamp(0, 1).numpy())[..., :3]
    grey = image.detach().float().cpu().mean(dim=0, keepdim=True)
    return 0.45 * grey.expand(3, -1, -1) + 0.55 * grey.new_tensor(heat).permute(2, 0, 1)


def show(axes: Axes, image: Tensor, title: str = "", box: Tensor | None = None) -> None:
    """Draw an image (3, H, W) or a map (1, H, W), both in [0, 1], under its title, with a box (4,) in green."""
    axes.imshow(_pixels(image), cmap="inferno", vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(title, fontsize=8, pad=3)
    if box is not None:
        frame(axes, box, "lime")


def frame(axes: Axes, box: Tensor, colour: str) -> None:
    """Draw a box (4,), x0, y0, x1, y1, half-open, around its pixels; nothing for an empty one."""
    x0, y0, x1, y1 = (float(value) - 0.5 for value in box)
    if x1 > x0 and y1 > y0:
        axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=colour, linewidth=1.2))


def image_grid(rows: Sequence[Sequence[Tensor]], titles: Sequence[Sequence[str]], *, width: float = 1.7) -> Figure:
    """Images (3, H, W) or maps (1, H, W) in rows and columns, each under its title; `width` in inches per image."""
    columns = max(len(row) for row in rows)
    figure, axes = plt.subplots(
        len(rows), columns, figsize=(width * columns, 1.13 * width * len(rows)), squeeze=False
    )
    for line, row, names in zip(axes, rows, titles, strict=True):
        for axis in line:
            axis.set_axis_off()
        for axis, image, name in zip(line, row, names, strict=False):
            show(axis, image, name)
    return finish(figure)


def views_grid(
    images: Tensor, saliency: Tensor, seen_in: Tensor, seen_out: Tensor, captions: Mapping[str, Sequence[str]]
) -> Figure:
    """One column an image; rows: the image, its map, the masked-in and the masked-out view.

    `captions` maps "image", "map", "in" and "out" to one line an image.
    """
    maps = [overlay(image, mask) for image, mask in zip(images, saliency, strict=True)]
    rows = [list(images), maps, list(seen_in), list(seen_out)]
    return image_grid(rows, [captions[name] for name in ("image", "map", "in", "out")])


def explanation(
    image: Tensor,
    seen_in: Tensor,
    seen_out: Tensor,
    saliency: Tensor,
    *,
    class_name: str,
    probabilities: tuple[float, float, float],
    share: float,
    footer: str = "",
) -> Figure:
    """One photograph in four columns: whole, under its map, masked-in, masked-out, each with a bar and a number below it.

    image, seen_in, seen_out: (3, H, W) or (1, H, W), the photograph and its two views. saliency: (1, H, W). All in [0, 1].
    probabilities: of `class_name` in the three, in that order. share: of the photograph that the map covers.
    """
    side = 2.6
    height = side * image.shape[-2] / image.shape[-1]
    top, bottom = 0.3, 0.66 if footer else 0.45  # inches
    figure = plt.figure(figsize=(4 * side + 0.9, height + top + bottom))
    views = {
        "photo": (image, probabilities[0], f"{class_name}: {_percent(probabilities[0])}", "0.35"),
        "map": (overlay(image, saliency), share, f"covers {_percent(share)} of the photo", "#b5367a"),
        "masked-in: what the map keeps": (seen_in, probabilities[1], f"{class_name}: {_percent(probabilities[1])}", "#1b7f4d"),
        "masked-out: what it leaves": (seen_out, probabilities[2], f"{class_name}: {_percent(probabilities[2])}", "#c2571a"),
    }
    width, total = figure.get_size_inches()
    for column, (title, (view, value, text, colour)) in enumerate(views.items()):
        left = (0.15 + column * (side + 0.2)) / width
        axes = figure.add_axes((left, bottom / total, side / width, height / total))
        axes.imshow(_pixels(view), cmap="gray", vmin=0, vmax=1, interpolation="antialiased")
        axes.set_axis_off()
        axes.set_title(title, fontsize=10.5, pad=5)
        bar = figure.add_axes((left, (bottom - 0.13) / total, side / width, 0.08 / total))
        bar.barh(0, 1, color="0.9")
        bar.barh(0, value, color=colour)
        bar.set(xlim=(0, 1), ylim=(-0.4, 0.4))
        bar.set_axis_off()
        figure.text(left + side / width / 2, (bottom - 0.32) / total, text, ha="center", va="center", fontsize=10.5)
    figure.text(0.15 / width, 0.1 / total, footer, fontsize=7.5, color="0.45", va="center")
    plt.close(figure)
    return figure


def _percent(share: float) -> str:
    """A share as people write it: 39 %, 0.4 %, below 0.1 %."""
    if 0 < share < 0.001:
        return "below 0.1 %"
    return f"{share:.1%}".replace("%", " %") if 0 < share < 0.0095 else f"{share:.0%}".replace("%", " %")


def map_grid(images: Tensor, boxes: Sequence[Tensor], maps: Mapping[str, Tensor], names: Sequence[str]) -> Figure:
    """One row an image, with its true box; then one column a method, the maps (B, 1, H, W) in one colour scale from 0 to 1."""
    figure, axes = plt.subplots(
        len(images), 1 + len(maps), figsize=(1.35 * (1 + len(maps)), 1.45 * len(images)), squeeze=False
    )
    for index, line in enumerate(axes):
        show(line[0], images[index], names[index], boxes[index][0] if len(boxes[index]) else None)
        for axis, (method, saliency) in zip(line[1:], maps.items(), strict=True):
            show(axis, saliency[index], method if index == 0 else "")
    return finish(figure)


def training_curves(
    histories: Mapping[str, Mapping[str, Sequence[float]]], panels: Mapping[str, str], *, smooth: int = 20
) -> Figure:
    """One panel a quantity, titled by `panels`, one line a run; a running mean over `smooth` steps."""
    figure, axes = plt.subplots(1, len(panels), figsize=(2.8 * len(panels), 2.2), squeeze=False)
    for axis, (name, title) in zip(axes[0], panels.items(), strict=True):
        for run, history in histories.items():
            if name in history:
                values = pd.Series(list(history[name]))
                axis.plot(values.rolling(smooth, min_periods=1).mean(), label=run, linewidth=1.2)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("step", fontsize=8)
        axis.tick_params(labelsize=7)
    axes[0][0].legend(fontsize=7, frameon=False)
    return finish(figure)


def bar_table(table: pd.DataFrame, columns: Mapping[str, str]) -> Figure:
    """Some columns of a table of metrics, one panel each; `columns` maps a column to "higher" or "lower", what is better."""
    figure, axes = plt.subplots(1, len(columns), figsize=(2.4 * len(columns), 0.28 * len(table) + 0.9), squeeze=False)
    _bars(axes[0], table, columns)
    return finish(figure)


def _bars(axes: Sequence[Axes], table: pd.DataFrame, columns: Mapping[str, str]) -> None:
    colours = ["tab:orange" if name in ("FIX", "CA") else "tab:gray" for name in table.index]
    for number, (axis, (column, better)) in enumerate(zip(axes, columns.items(), strict=True)):
        values = table[column].astype(float)
        axis.barh(range(len(table)), values, color=colours)
        for row, value in enumerate(values):
            if math.isfinite(value):
                axis.text(max(value, 0), row, f" {value:.2f}", va="center", fontsize=6.5)
        axis.set_yticks(range(len(table)), table.index if number == 0 else [""] * len(table), fontsize=7)
        axis.invert_yaxis()
        axis.set_title(f"{column} ({better} is better)", fontsize=8)
        axis.tick_params(axis="x", labelsize=6)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.18)


def objects_and_masks(images: Tensor, masks: Tensor, names: Sequence[str]) -> Figure:
    """Images (B, 3, H, W) above their true pixel masks (B, H, W)."""
    return image_grid([list(images), list(masks[:, None].float())], [names, [""] * len(names)], width=1.1)


def story(
    photos: Sequence[Sequence[Tensor]],
    captions: Sequence[Sequence[str]],
    maps: Mapping[str, Tensor],
    images: Tensor,
    table: pd.DataFrame,
    columns: Mapping[str, str],
) -> Figure:
    """The closing figure of the quickstart: photographs through masks, maps on scenes, metrics as bars.

    `photos` and `captions`: one sequence a photograph, top to bottom. `maps`: {method: (B, 1, H, W)} of `images`
    (B, 3, H, W). `table` and `columns`: as in `bar_table`.
    """
    figure = plt.figure(figsize=(11, 7.4), layout="constrained")
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=[2.1, 1])[:, 0]
    left, right = top.subfigures(1, 2, width_ratios=[1, 1.6])
    for column, views, texts in zip(_columns(left, len(photos[0]), len(photos)), photos, captions, strict=True):
        for axis, view, text in zip(column, views, texts, strict=True):
            show(axis, view, text)
    rows = {"scene": images, **maps}
    for line, (name, row) in zip(_columns(right, len(rows), len(images)).T, rows.items(), strict=True):
        for axis, image in zip(line, row, strict=True):
            show(axis, image)
        line[0].text(-0.08, 0.5, name, transform=line[0].transAxes, ha="right", va="center", fontsize=8)
    _bars(bottom.subplots(1, len(columns), squeeze=False)[0], table, columns)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # each further drawing would shift the layout a little
    plt.close(figure)
    return figure


def _columns(figure: SubFigure, rows: int, columns: int) -> np.ndarray:
    """The axes of a grid, one array of `rows` a column."""
    return figure.subplots(rows, columns, squeeze=False).T


def save_figure(
    figure: Figure, path: str | os.PathLike[str], *, dpi: int = 110, colours: int | None = None
) -> None:
    """Write a figure, atomically; the format follows from the suffix. The date is left out, so equal figures are equal files.

    `colours` (2 to 256, PNG only) writes a palette of so many: photographs take a third of the bytes. Colours are not
    dithered, as the dots would be taken for a mask's.
    """
    with atomic_path(path) as partial:
        png = partial.suffix == ".png"
        if colours is not None and not png:
            raise ValueError(f"{path}: only a PNG has a palette; leave colours out, or choose the suffix .png")
        figure.savefig(partial, dpi=dpi, bbox_inches="tight", metadata={"Software": None} if png else None)
        if colours is not None:
            with Image.open(partial) as drawn:
                small = drawn.convert("RGB").quantize(colours, dither=Image.Dither.NONE)
            small.save(partial, optimize=True)


def finish(figure: Figure) -> Figure:
    """Lay the figure out and close it in pyplot, so that a notebook shows it once."""
    figure.tight_layout(pad=0.4)
    plt.close(figure)
    return figure
