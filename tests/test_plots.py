"""Figures: what is drawn where. How it looks is for eyes; the notebooks show it."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from maskerlib import plots

IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
MAPS = torch.zeros(2, 1, 8, 8)
MAPS[:, :, :4] = 1.0
TABLE = pd.DataFrame({"LE": [0.1, 0.5, math.nan], "PxAP": [0.9, 0.6, 0.1]}, index=["FIX", "Grad-CAM", "random"])
BETTER = {"LE": "lower", "PxAP": "higher"}


@pytest.fixture(autouse=True)
def nothing_stays_open():
    yield
    assert not plt.get_fignums(), "a figure that stays open is shown twice in a notebook"


def titles(figure) -> list[str]:
    return [axis.get_title() for axis in figure.axes if axis.get_title()]


def test_an_overlay_is_bright_where_the_map_is_high():
    mixed = plots.overlay(IMAGES[0], MAPS[0])
    assert mixed.shape == (3, 8, 8) and mixed.min() >= 0 and mixed.max() <= 1
    assert mixed[:, :4].mean() > mixed[:, 4:].mean() + 0.3


def test_a_grid_shows_each_image_under_its_title():
    figure = plots.image_grid([list(IMAGES), list(MAPS)], [["a", "b"], ["c", "d"]])
    assert titles(figure) == ["a", "b", "c", "d"]
    drawn = figure.axes[1].images[0].get_array()
    torch.testing.assert_close(torch.as_tensor(drawn).permute(2, 0, 1), IMAGES[1])


def test_views_have_four_rows():
    captions = {name: [name, name] for name in ("image", "map", "in", "out")}
    figure = plots.views_grid(IMAGES, MAPS, IMAGES, IMAGES, captions)
    assert titles(figure) == ["image", "image", "map", "map", "in", "in", "out", "out"]


def test_an_explanation_has_a_bar_and_a_number_below_each_view():
    figure = plots.explanation(
        IMAGES[0], IMAGES[1], IMAGES[0], MAPS[0], class_name="cat", probabilities=(0.39, 0.004, 0.0), share=0.5, footer="by"
    )
    views, bars = figure.axes[::2], figure.axes[1::2]
    assert titles(figure) == ["photo", "map", "masked-in: what the map keeps", "masked-out: what it leaves"]
    assert [axis.patches[1].get_width() for axis in bars] == [0.39, 0.5, 0.004, 0.0]
    assert [text.get_text() for text in figure.texts] == ["cat: 39 %", "covers 50 % of the photo", "cat: 0.4 %", "cat: 0 %", "by"]
    torch.testing.assert_close(torch.as_tensor(views[2].images[0].get_array()).permute(2, 0, 1), IMAGES[1])
    grey = plots.explanation(*[IMAGES[0][:1]] * 3, MAPS[0], class_name="x", probabilities=(1e-9, 1, 1), share=1)
    assert grey.axes[0].images[0].get_array().ndim == 2 and grey.texts[0].get_text() == "x: below 0.1 %"


def test_maps_are_drawn_beside_the_image_with_its_box_on_half_open_edges():
    boxes = [torch.tensor([[1.0, 2.0, 5.0, 6.0]]), torch.zeros(0, 4)]
    figure = plots.map_grid(IMAGES, boxes, {"one": MAPS, "two": MAPS}, ["cat", "dog"])
    assert len(figure.axes) == 6 and titles(figure) == ["cat", "one", "two", "dog"]
    (box,) = figure.axes[0].patches
    assert (box.get_x(), box.get_y(), box.get_width(), box.get_height()) == (0.5, 1.5, 4.0, 4.0)
    assert not figure.axes[3].patches
    assert figure.axes[1].images[0].get_clim() == (0, 1)  # one colour scale, whatever the map's range


def test_curves_are_running_means():
    histories = {"FIX": {"in": [4.0, 2.0, 0.0]}, "CA": {"out": [1.0]}}
    figure = plots.training_curves(histories, {"in": "term", "out": "other"}, smooth=2)
    (line,) = figure.axes[0].get_lines()
    assert line.get_ydata().tolist() == [4.0, 3.0, 1.0] and line.get_label() == "FIX"
    assert titles(figure) == ["term", "other"] and len(figure.axes[1].get_lines()) == 1


def test_bars_show_the_numbers_and_leave_out_what_is_missing():
    figure = plots.bar_table(TABLE, BETTER)
    assert titles(figure) == ["LE (lower is better)", "PxAP (higher is better)"]
    assert [text.get_text().strip() for text in figure.axes[0].texts] == ["0.10", "0.50"]
    assert [bar.get_width() for bar in figure.axes[1].patches] == [0.9, 0.6, 0.1]


def test_the_story_and_its_file_are_the_same_each_time(tmp_path):
    photos, captions = [[IMAGES[0], MAPS[0]]] * 2, [["a", "b"]] * 2
    figure = plots.story(photos, captions, {"FIX": MAPS}, IMAGES, TABLE, BETTER)
    assert len(figure.axes) == 4 + 4 + 2
    for name in ("one.png", "two.png"):
        plots.save_figure(figure, tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.png", "two.png"]
    plots.save_figure(figure, tmp_path / "one.pdf")
    assert (tmp_path / "one.pdf").stat().st_size > 0


def test_a_palette_keeps_the_picture_and_saves_bytes(tmp_path):
    figure, axes = plt.subplots(figsize=(3, 3))
    rows, columns = np.mgrid[0:1:64j, 0:1:64j]
    axes.imshow(np.stack([rows, columns, rows * columns], axis=2))
    plt.close(figure)
    plots.save_figure(figure, tmp_path / "full.png", dpi=80)
    plots.save_figure(figure, tmp_path / "small.png", dpi=80, colours=256)
    plots.save_figure(figure, tmp_path / "again.png", dpi=80, colours=256)
    with Image.open(tmp_path / "full.png") as full, Image.open(tmp_path / "small.png") as small:
        assert small.size == full.size and small.mode == "P" and len(small.getcolors()) <= 256
        difference = np.asarray(full.convert("RGB"), float) - np.asarray(small.convert("RGB"), float)
    assert np.abs(difference).mean() < 6
    assert (tmp_path / "small.png").stat().st_size < 0.8 * (tmp_path / "full.png").stat().st_size
    assert (tmp_path / "small.png").read_bytes() == (tmp_path / "again.png").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.png", "full.png", "small.png"]
    with pytest.raises(ValueError, match="only a PNG has a palette"):
        plots.save_figure(figure, tmp_path / "figure.pdf", colours=256)
