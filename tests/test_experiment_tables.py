"""Reading tables, making them anew, and drawing them."""

import dataclasses
import json
import shutil

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tiny_grid import finish, table_file

from maskerlib.course import ablations
from maskerlib.course.session import open_session
from maskerlib.experiments import tables
from maskerlib.experiments.figures import difference_figure, draw_all, interval_figure, strip_figure
from maskerlib.experiments.grid import load_table, unique
from maskerlib.experiments.results import MissingRuns, finished_part, make_table, missing_runs
from maskerlib.experiments.tables import read_results, rerun, verdict
from maskerlib.metrics.intervals import t_interval


@pytest.fixture
def results(tmp_path):
    table = load_table(table_file(tmp_path))
    finish(table, tmp_path / "runs", lambda run: 0.1 * run.seed + 0.5 * (run.row == "other") + (run.mode == "CA"))
    make_table(table, tmp_path / "runs", tmp_path / "tables")
    return read_results("trial", tmp_path / "tables")


class TestResults:
    def test_values_and_differences_are_found_by_name(self, results):
        assert results.settings == ["plain", "other"]
        assert results.value("other", "CA", "LE")[0] == pytest.approx(1.6)
        assert results.difference("other", "FIX", "LE") == pytest.approx((0.5, 0.5, 0.5))
        assert results.record["baseline"] == "plain"

    def test_another_baseline_turns_the_sign_and_its_own_gives_the_committed_differences(self, results):
        turned = results.against("other")
        assert turned.record["baseline"] == "other" and set(turned.paired["setting"]) == {"plain"}
        assert turned.difference("plain", "CA", "LE") == pytest.approx((-0.5, -0.5, -0.5))
        assert results.difference("other", "CA", "LE")[0] == pytest.approx(0.5), "the results themselves are as they were"
        pd.testing.assert_frame_equal(results.against("plain").paired, results.paired, rtol=1e-5)
        with pytest.raises(KeyError, match="no setting 'third'; the settings are plain, other"):
            results.against("third")

    def test_seeds_that_a_baseline_lacks_do_not_count(self, results):
        seeds = results.seeds[~((results.seeds["setting"] == "other") & (results.seeds["seed"] == 0))].copy()
        seeds.loc[(seeds["setting"] == "other") & (seeds["seed"] == 2), "value"] += 0.2
        turned = dataclasses.replace(results, seeds=seeds).against("other")
        assert turned.difference("plain", "FIX", "LE") == pytest.approx(t_interval([-0.5, -0.7]))
        assert set(turned.paired["seeds"]) == {2}

    def test_what_is_not_there_is_named(self, results):
        with pytest.raises(KeyError, match="no LE of 'third', CA; the settings are plain, other"):
            results.value("third", "CA", "LE")

    def test_the_table_of_texts_keeps_the_order(self, results):
        text = results.table(["LE"], digits=1)
        assert list(text.index) == [("plain", "FIX"), ("plain", "CA"), ("other", "FIX"), ("other", "CA")]
        assert text.loc[("plain", "FIX"), "LE"] == "0.1 [-0.1, 0.3]"

    def test_maps_are_told_apart(self, results):
        assert list(results.maps) == [("plain", "FIX"), ("plain", "CA"), ("other", "FIX"), ("other", "CA")]
        assert results.maps["plain", "CA"].shape == (4, 8)

    def test_its_state_follows_rows_and_code(self, results, tmp_path, monkeypatch):
        table, folder = load_table(table_file(tmp_path)), tmp_path / "tables"
        assert tables.state(table, tmp_path) == "none" and tables.state(table, folder) == "current"
        assert tables.state(load_table(table_file(tmp_path, seeds=[0, 1])), folder) == "other rows"
        assert tables.state(load_table(table_file(tmp_path, baseline="other")), folder) == "other rows"
        monkeypatch.setattr("maskerlib.experiments.committed.VERSION", -1)
        assert tables.state(table, folder) == "other version"

    def test_whole_rows_make_a_part_that_knows_what_it_is(self, tmp_path):
        table, runs, folder = load_table(table_file(tmp_path)), tmp_path / "runs", tmp_path / "part"
        finish(table, runs, lambda run: 0.1 * run.seed)
        gone = [run.setting.address() for run in table.runs() if run.row == "other"][-1]
        (runs / gone / "metrics.json").unlink()
        part = finished_part(table, runs, folder)
        assert [row.name for row in part.rows] == ["plain"]
        make_table(part, runs, folder)
        assert tables.state(table, folder) == "some rows" and read_results("trial", folder).settings == ["plain"]
        shutil.rmtree(runs)
        assert len(missing_runs(table, runs, folder)) == 6, "those of the finished row are known"
        assert tables.state(load_table(table_file(tmp_path, seeds=[0, 1])), folder) == "other rows"

    def test_a_part_needs_the_baseline(self, tmp_path):
        table, runs = load_table(table_file(tmp_path)), tmp_path / "runs"
        with pytest.raises(MissingRuns, match="the baseline 'plain' is not finished"):
            finished_part(table, runs, tmp_path)

    def test_no_table(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="`make experiments TABLE=layers` makes it"):
            read_results("layers", tmp_path)

    @pytest.mark.parametrize(
        "difference, better, expected",
        [
            ((-0.2, -0.3, -0.1), "lower", "better"),
            ((-0.2, -0.3, -0.1), "higher", "worse"),
            ((0.2, 0.1, 0.3), "higher", "better"),
            ((0.2, 0.0, 0.4), "higher", "undecided"),
        ],
    )
    def test_verdicts(self, difference, better, expected):
        assert verdict(difference, better=better) == expected

    def test_a_verdict_needs_a_direction(self):
        with pytest.raises(ValueError, match="better='more' is unknown"):
            verdict((0, 0, 0), better="more")


class TestRerun:
    @pytest.fixture(autouse=True)
    def no_kernel(self, monkeypatch, tmp_path):
        """Runs that leave a result without being run."""
        self.made = []

        def run(notebook, output, values, timeout):
            self.made.append(values)
            done = {run.setting.address(): run for run in self.table.runs()}
            one = done[output.parent.name]
            trial = tmp_path / "one"
            finish(self.table, trial, lambda run: 0.1 * run.seed)
            output.parent.mkdir(parents=True, exist_ok=True)
            for name in ("metrics.json", "maps.png"):
                (output.parent / name).write_bytes((trial / one.setting.address() / name).read_bytes())

        monkeypatch.setattr(tables, "run_notebook", run)
        self.table = load_table(table_file(tmp_path))

    def test_only_what_is_missing_is_made(self, tmp_path):
        runs = tmp_path / "runs"
        finish(self.table, runs, lambda run: 0.1 * run.seed)
        gone = list(unique(list(self.table.runs())))[3]
        (runs / gone / "metrics.json").unlink()
        found = rerun(self.table, runs, tmp_path / "into")
        assert len(self.made) == 1 and self.made[0]["folder"] == str(runs / gone)
        assert self.made[0]["tv"] == 0.1 and self.made[0]["mode"] == "CA"
        assert found.value("plain", "FIX", "LE")[0] == pytest.approx(0.1)

    def test_a_notebook_reads_the_committed_table_or_makes_its_own(self, tmp_path, monkeypatch):
        monkeypatch.setattr(ablations, "tables_folder", lambda: tmp_path)
        monkeypatch.setattr(ablations, "project_root", lambda: tmp_path)
        monkeypatch.setattr(ablations, "read_results", lambda name: "committed")
        monkeypatch.chdir(tmp_path)
        session = open_session("99_trial", "default", "cpu", default={}, smoke={})
        assert ablations.open_results("trial", session) == "committed" and not self.made
        assert ablations.open_results("trial", session, again=True).settings == ["plain", "other"]
        assert len(self.made) == 12

    def test_smoke_makes_two_tiny_runs_and_reads_the_committed_table(self, tmp_path, monkeypatch):
        monkeypatch.setattr(ablations, "tables_folder", lambda: tmp_path)
        monkeypatch.setattr(ablations, "read_results", lambda name: "committed")
        monkeypatch.chdir(tmp_path)
        self.table = self.table.smoke()
        session = open_session("99_trial", "smoke", "cpu", default={}, smoke={})
        assert ablations.open_results("trial", session) == "committed"
        assert len(self.made) == 2 and all(values["steps"] < 5 for values in self.made)


class TestFigures:
    def test_intervals_are_drawn_where_they_lie(self, results):
        figure = interval_figure(results, ["LE"])
        (axis,) = figure.axes
        assert axis.get_title() == "LE (lower)"
        assert [label.get_text() for label in axis.get_yticklabels()] == ["plain", "other"]
        dots = [line for line in axis.lines if line.get_marker() == "o"]
        assert sorted(float(line.get_xdata()[0]) for line in dots) == pytest.approx([0.1, 0.6, 1.1, 1.6])
        bars = [line for line in axis.lines if len(line.get_xdata()) == 2 and line.get_linestyle() == "-"]
        half = 4.30265 * 0.1 / np.sqrt(3)
        widths = [float(np.ptp(line.get_xdata())) for line in bars]
        assert widths == pytest.approx([2 * half] * 4, abs=1e-4)

    def test_differences_leave_the_baseline_out_and_show_nothing(self, results):
        figure = difference_figure(results, ["LE"])
        assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["other"]
        assert any(line.get_linestyle() == "--" and list(line.get_xdata()) == [0, 0] for line in figure.axes[0].lines)

    def test_strips_show_the_masks_of_one_mode(self, results):
        figure = strip_figure(results, torch.rand(2, 3, 8, 8), mode="FIX")
        shown = [axis.images[0].get_array() for axis in figure.axes if axis.images]
        assert len(figure.axes) == 3 * 2 and len(shown) == 6
        assert np.array_equal(shown[2], results.maps["plain", "FIX"][:, :4])

    def test_a_mode_without_masks_is_refused(self, results):
        with pytest.raises(ValueError, match="no masks of mode 'BOTH'"):
            strip_figure(results, torch.rand(2, 3, 8, 8), mode="BOTH")

    def test_every_table_has_a_figure_under_the_name_of_its_notebook(self, results, tmp_path):
        (path,) = draw_all(tmp_path / "tables", tmp_path / "figures", ["trial"])
        with Image.open(path) as drawn:
            assert path.name == "99_trial.png" and drawn.width > 200
        assert json.loads((tmp_path / "tables" / "trial.json").read_text())["notebook"] == "99_trial"
        assert not plt.get_fignums()
