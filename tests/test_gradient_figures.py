"""The figures of notebook 01: which values are drawn where."""

import matplotlib.pyplot as plt
import pytest
import torch

from maskerlib import plots
from maskerlib.course.gradient_figures import asked_twice, curves, opening, promises

IMAGE = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
MAPS = {"gradient": torch.zeros(2, 1, 8, 8), "Grad-CAM": torch.ones(2, 1, 8, 8)}
MAPS["gradient"][1, 0, 3, 3] = 1.0
LINES = {"scenes": ([0.01, 0.1, 1.0], torch.tensor([1.0, 0.5, 0.25]))}


@pytest.fixture(autouse=True)
def nothing_stays_open():
    yield
    assert not plt.get_fignums(), "a figure that stays open is shown twice in a notebook"


def titles(figure) -> list[str]:
    return [axis.get_title() for axis in figure.axes]


def test_curves_draw_their_values_under_their_titles():
    figure = curves({"a": LINES, "b": {"one": ([0.1, 1.0], [2.0, 3.0])}}, ["amount", "way"], log=True)
    assert titles(figure) == ["a", "b"]
    assert [axis.get_xlabel() for axis in figure.axes] == ["amount", "way"]
    line = figure.axes[0].get_lines()[0]
    assert line.get_xdata().tolist() == [0.01, 0.1, 1.0] and line.get_ydata().tolist() == [1.0, 0.5, 0.25]
    assert line.get_label() == "scenes" and figure.axes[1].get_xscale() == "log"
    assert curves({"a": LINES}, ["amount"]).axes[0].get_xscale() == "linear"


def test_a_promise_kept_lies_on_the_dashed_line():
    promised = {"1 %": torch.tensor([0.1, -0.2]), "100 %": torch.tensor([1.0, 2.0])}
    figure = promises(promised, {"1 %": promised["1 %"], "100 %": torch.tensor([-4.0, 0.0])})
    assert titles(figure) == ["1 %", "100 %"]
    diagonal, points = figure.axes[0].get_lines()
    assert points.get_xdata().tolist() == points.get_ydata().tolist()
    assert diagonal.get_xdata().tolist() == list(diagonal.get_ydata())
    second = figure.axes[1]
    assert second.get_lines()[1].get_ydata().tolist() == [-4.0, 0.0]
    assert second.get_xlim() == second.get_ylim() and second.get_ylim()[1] == pytest.approx(4.4)


def test_promises_of_nothing_are_drawn_and_other_titles_refused():
    zeros = {"none": torch.zeros(3)}
    assert promises(zeros, zeros).axes[0].get_xlim() == (-1, 1)
    with pytest.raises(ValueError, match="other"):
        promises(zeros, {"other": torch.zeros(3)})


def test_a_row_a_question_and_a_column_a_method():
    figure = asked_twice(IMAGE, MAPS, ["a dog", "a cat"])
    assert titles(figure) == ["why a dog?", "gradient", "Grad-CAM", "why a cat?", "gradient", "Grad-CAM"]
    drawn = figure.axes[4].images[0].get_array()
    torch.testing.assert_close(torch.as_tensor(drawn), MAPS["gradient"][1, 0])
    torch.testing.assert_close(torch.as_tensor(figure.axes[3].images[0].get_array()).permute(2, 0, 1), IMAGE)


def test_the_opening_figure_shows_both_and_saves_the_same_file_twice(tmp_path):
    figure = opening(IMAGE, MAPS, ["a dog", "a cat"], LINES, "correlation", "faded by")
    assert len(figure.axes) == 7 and titles(figure)[-1] == "correlation"
    assert figure.axes[-1].get_xscale() == "log" and figure.axes[-1].get_xlabel() == "faded by"
    for name in ("one.png", "two.png"):
        plots.save_figure(figure, tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
