"""The figures of notebook 05: what is drawn, where, and that the numbers in them are those given."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgba

from maskerlib.course import metric_figures

TINY = torch.tensor([[[0.8, 0.8, 0.0, 0.0], [0.8, 0.6, 0.4, 0.0], [0.0, 0.0, 0.0, 0.6], [0.0, 0.0, 1.0, 1.0]]])
TABLE = pd.DataFrame(
    {"LE": [0.1, 0.5, 0.1], "PxAP": [0.9, 0.6, 0.95], "SM": [0.3, -0.2, 0.4]}, index=["FIX", "Grad-CAM", "mine"]
)
BETTER = {"LE": "lower", "PxAP": "higher", "SM": "lower"}


@pytest.fixture(autouse=True)
def nothing_stays_open():
    yield
    assert not plt.get_fignums(), "a figure that stays open is shown twice in a notebook"


def drawn(axis) -> torch.Tensor:
    return torch.as_tensor(axis.images[0].get_array())


def test_the_steps_from_map_to_box():
    figure = metric_figures.steps_picture(TINY, torch.tensor([0.0, 0.0, 2.0, 2.0]))
    values, above, component, boxes = figure.axes
    assert [text.get_text() for text in values.texts][:4] == ["0.8", "0.8", "0.0", "0.0"] and len(values.texts) == 16
    assert torch.equal(drawn(above), (TINY[0] > 0.375).float())
    assert drawn(component).sum() == 5 and drawn(component)[2:].sum() == 0
    assert "0.375" in above.get_title() and boxes.get_title() == "IoU 0.67"
    predicted, true = boxes.patches
    assert (true.get_x(), true.get_y(), true.get_width(), true.get_height()) == (-0.5, -0.5, 2, 2)
    assert (predicted.get_width(), predicted.get_height()) == (3, 2)
    assert predicted.get_edgecolor() == to_rgba("tab:orange") and predicted.get_linewidth() > true.get_linewidth()


def test_the_rectangles_add_up_to_the_area():
    figure = metric_figures.pixel_curve_picture([0.0, 0.6, 4 / 7, 0.25], [0.0, 0.75, 1.0, 1.0], list("abcd"))
    (axis,) = figure.axes
    assert sum(bar.get_width() * bar.get_height() for bar in axis.patches) == pytest.approx(0.45 + 1 / 7)
    (line,) = axis.get_lines()
    assert list(line.get_xdata()) == [0.0, 0.75, 1.0, 1.0]
    assert [text.get_text() for text in axis.texts] == list("abcd")


def test_a_sweep_marks_its_minimum_and_the_own_mean():
    figure = metric_figures.sweep_picture([0.0, 0.5, 0.9], {"CA": [0.9, 0.2, 0.4]}, {"CA": 0.3})
    (axis,) = figure.axes
    line, mean, best = axis.get_lines()
    assert list(line.get_ydata()) == [0.9, 0.2, 0.4] and line.get_label() == "CA"
    assert list(mean.get_ydata()) == [0.3, 0.3] and mean.get_linestyle() == ":"
    assert (list(best.get_xdata()), list(best.get_ydata())) == ([0.5], [0.2])
    assert "lower" in axis.get_ylabel()


def test_an_interval_around_zero_is_grey():
    intervals = {"LE": (0.01, -0.02, 0.04), "F1": (-0.03, -0.04, -0.02), "edge": (0.1, 0.0, 0.2)}
    figure = metric_figures.interval_picture(intervals, "CA better by")
    (axis,) = figure.axes
    bars = [line for line in axis.get_lines() if len(line.get_xdata()) == 2 and line.get_linewidth() > 2]
    assert [tuple(line.get_xdata()) for line in bars] == [(-0.02, 0.04), (-0.04, -0.02), (0.0, 0.2)]
    assert [line.get_color() for line in bars] == ["tab:gray", "tab:orange", "tab:gray"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["LE", "F1", "edge"]
    assert axis.get_xlabel() == "CA better by"


def test_ranks_go_with_what_is_better_and_equal_values_share():
    found = metric_figures.ranks(TABLE, BETTER)
    assert found.LE.tolist() == [1, 3, 1]
    assert found.PxAP.tolist() == [2, 3, 1]
    assert found.SM.tolist() == [2, 1, 3]
    with pytest.raises(ValueError, match="LE is better when 'smaller'"):
        metric_figures.ranks(TABLE, {"LE": "smaller"})


def rank_chart(table):
    return metric_figures.overview(torch.rand(3, 4, 4), torch.zeros(4), {}, table, BETTER).axes[-1]


def test_the_rank_chart_draws_the_ranks_and_writes_the_values():
    axis = rank_chart(TABLE)
    assert [list(line.get_ydata()) for line in axis.get_lines()] == [[1, 2, 2], [3, 3, 1], [1, 1, 3]]
    written = [text.get_text() for text in axis.texts]
    assert {"0.10", "0.95", "-0.20"} <= set(written) and written.count("FIX") == 2
    assert [label.get_text() for label in axis.get_xticklabels()][0] == "LE\n(lower)"
    bottom, top = axis.get_ylim()
    assert bottom > top, "the best rank is on top"


def test_methods_keep_their_colour_and_others_get_one():
    one = rank_chart(TABLE).get_lines()
    other = rank_chart(TABLE.iloc[:1]).get_lines()
    assert one[0].get_color() == other[0].get_color()
    assert len({line.get_color() for line in one}) == 3


def test_the_overview_shows_each_map_with_both_boxes():
    image, box = torch.rand(3, 4, 4), torch.tensor([0.0, 0.0, 2.0, 2.0])
    figure = metric_figures.overview(image, box, {"FIX": TINY, "none": torch.zeros(1, 4, 4)}, TABLE, BETTER)
    scene, found, empty, chart = figure.axes
    assert scene.get_title() == "scene and true box" and len(scene.patches) == 1
    assert found.get_title() == "FIX, IoU 0.67" and len(found.patches) == 2
    assert empty.get_title() == "none, IoU 0.00" and len(empty.patches) == 1, "an empty box is not drawn"
    assert len(chart.get_lines()) == 3
