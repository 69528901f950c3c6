"""The figures of notebook 06: what is drawn where."""

import matplotlib.pyplot as plt
import pytest

from maskerlib.course.agnostic_figures import judges, region_bars


@pytest.fixture(autouse=True)
def nothing_stays_open():
    yield
    assert not plt.get_fignums(), "a figure that stays open is shown twice in a notebook"


def test_every_step_has_one_point_at_its_judge():
    figure = judges([None, 0, None, 2], every=2)
    (axis,) = figure.axes
    drawn = {points.get_label(): points.get_offsets().tolist() for points in axis.collections}
    assert drawn == {"the current classifier": [[0, 0], [2, 2]], "a member of the pool": [[1, 0], [3, 2]]}
    assert [line.get_xydata().tolist() for line in axis.lines] == [[[0, 0], [3, 0]], [[2, 2], [3, 2]]]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == list(drawn)


def test_a_pool_that_is_never_asked():
    (axis,) = judges([None, None], every=5).axes
    assert len(axis.collections) == 1


def test_bars_stand_for_values_and_lines_for_intervals():
    runs = {
        "FIX": {"mark": (0.6, 0.5, 0.8), "object": (0.1, 0.0, 0.2)},
        "CA": {"mark": (0.3, 0.2, 0.4), "object": (0.7, 0.6, 0.9)},
    }
    figure = region_bars({"value": runs, "share": {"CA": runs["CA"]}})
    first, second = figure.axes
    assert [axis.get_title() for axis in (first, second)] == ["value", "share"]
    heights = [bar.get_height() for bar in first.patches]
    assert heights == pytest.approx([0.6, 0.3, 0.1, 0.7])  # region by region
    ends = [segment[:, 1].tolist() for lines in first.collections for segment in lines.get_segments()]
    found = {tuple(round(end, 6) for end in pair) for pair in ends}
    assert found == {(0.5, 0.8), (0.2, 0.4), (0.0, 0.2), (0.6, 0.9)}
    assert [text.get_text() for text in first.get_xticklabels()] == ["FIX", "CA"]
    assert [text.get_text() for text in first.get_legend().get_texts()] == ["mark", "object"]
    assert first.get_ylim() == (0, 1) and len(second.patches) == 2
    mark, _, object_, _ = first.patches
    assert mark.get_x() + mark.get_width() == pytest.approx(object_.get_x())  # side by side, not one on the other
