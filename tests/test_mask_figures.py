"""The figures of notebook 02: what is drawn where."""

import matplotlib.pyplot as plt
import pytest

from maskerlib.course.mask_figures import interval_bars

SHARES = {"first": [(0.9, 0.8, 1.0), (0.5, 0.4, 0.55)], "second": [(0.7, 0.6, 0.75), (0.0, 0.0, 0.0)]}


@pytest.fixture(autouse=True)
def nothing_stays_open():
    yield
    assert not plt.get_fignums()


def test_bars_intervals_and_names_are_those_given():
    figure = interval_bars(SHARES, ["own", "other"], "shares")
    (axes,) = figure.axes
    assert axes.get_title() == "shares" and axes.get_xlim() == (0, 1.02)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["own", "other"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["first", "second"]
    assert [bar.get_width() for bar in axes.patches] == [0.9, 0.5, 0.7, 0.0]
    ends = [tuple(segment[:, 0]) for line in axes.collections for segment in line.get_segments()]
    assert ends == [pytest.approx(ends) for ends in [(0.8, 1.0), (0.4, 0.55), (0.6, 0.75), (0.0, 0.0)]]


def test_groups_stand_top_to_bottom_without_overlap():
    (axes,) = interval_bars(SHARES, ["own", "other"], "").axes
    assert axes.yaxis_inverted()
    spans = sorted((bar.get_y(), bar.get_y() + bar.get_height()) for bar in axes.patches)
    assert all(below <= above for (_, below), (above, _) in zip(spans, spans[1:], strict=False))


@pytest.mark.parametrize("values", [[(0.5, 0.4, 0.6)], [(0.5, 0.6, 0.7), (0.5, 0.4, 0.6)]])
def test_what_does_not_fit_is_refused(values):
    with pytest.raises(ValueError, match="asked"):
        interval_bars({"asked": values}, ["own", "other"], "")
