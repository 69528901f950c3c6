"""The claims: gains with the right sign, one rule for all, and a file that says where it comes from."""

import dataclasses
import shutil

import pandas as pd
import pytest
from tiny_grid import finish, table_file

from maskerlib.experiments import __main__ as command_line
from maskerlib.experiments import claims
from maskerlib.experiments.claim_figures import claims_figure, few_shot_figure
from maskerlib.experiments.claims import (
    CLAIMS,
    Claim,
    gain,
    held,
    judge,
    make_claims,
    overall,
    read_claims,
    tables_needed,
)
from maskerlib.experiments.committed import rows_record
from maskerlib.experiments.grid import load_table, load_tables
from maskerlib.experiments.holm import holm_levels
from maskerlib.experiments.results import make_table
from maskerlib.experiments.tables import Results, read_results
from maskerlib.metrics.intervals import t_interval
from maskerlib.notebooks.runner import project_root
from maskerlib.running.files import read_json


@pytest.fixture
def results(tmp_path):
    """Of two settings in two modes: LE of `other` is larger by 0.5 and, for CA, by another 1."""
    table = load_table(table_file(tmp_path))
    finish(
        table,
        tmp_path / "runs",
        lambda run: 0.1 + 0.01 * run.seed + 0.5 * (run.row == "other") + 1.0 * (run.mode == "CA"),
    )
    make_table(table, tmp_path / "runs", tmp_path / "tables")
    return read_results("trial", tmp_path / "tables")


class TestGain:
    def test_less_error_is_a_gain(self, results):
        mean, low, high, seeds = gain(results, ("plain", "FIX"), ("other", "FIX"), "LE")
        assert (mean, seeds) == (pytest.approx(0.5), 3)
        assert low == pytest.approx(0.5, abs=1e-6) and high == pytest.approx(0.5, abs=1e-6), "each seed says the same"

    def test_more_precision_is_a_gain(self, results):
        frame = results.seeds.copy()
        frame.loc[frame["metric"] == "LE", "metric"] = "PxAP"
        renamed = dataclasses.replace(results, seeds=frame[frame["metric"] == "PxAP"].dropna())
        assert gain(renamed, ("plain", "FIX"), ("other", "FIX"), "PxAP")[0] == pytest.approx(-0.5)

    def test_modes_are_paired_by_seed(self, results):
        frame = results.seeds.copy()
        wanted = (frame["setting"] == "plain") & (frame["mode"] == "CA") & (frame["metric"] == "LE")
        frame.loc[wanted, "value"] += frame.loc[wanted, "seed"] * 0.1
        mean, low, high, _ = gain(
            dataclasses.replace(results, seeds=frame), ("plain", "FIX"), ("plain", "CA"), "LE"
        )
        assert (mean, low, high) == pytest.approx(t_interval([1.0, 1.1, 1.2]))

    def test_seeds_that_one_lacks_do_not_count(self, results):
        frame = results.seeds[~((results.seeds["setting"] == "other") & (results.seeds["seed"] == 0))]
        assert gain(dataclasses.replace(results, seeds=frame), ("plain", "FIX"), ("other", "FIX"), "LE")[3] == 2

    def test_an_unknown_setting_is_refused(self, results):
        with pytest.raises(KeyError, match="no LE of 'third', FIX"):
            gain(results, ("plain", "FIX"), ("third", "FIX"), "LE")

    def test_what_has_no_direction_cannot_be_better(self, results):
        with pytest.raises(ValueError, match="mean has no direction.*choose one such as LE or PxAP"):
            gain(results, ("plain", "FIX"), ("other", "FIX"), "mean")


class TestRule:
    @pytest.mark.parametrize(
        "low, high, margin, verdict",
        [
            (0.01, 0.02, 0.0, "holds"),
            (0.0, 0.02, 0.0, "undecided"),
            (-0.02, -0.01, 0.0, "does not hold"),
            (-0.005, 0.02, 0.007, "holds"),
            (-0.009, 0.02, 0.007, "undecided"),
            (-0.03, -0.008, 0.007, "does not hold"),
            (-0.006, -0.001, 0.007, "holds"),
        ],
    )
    def test_intervals(self, low, high, margin, verdict):
        assert judge(low, high, margin) == verdict

    def test_all_comparisons_count(self):
        assert overall(["holds", "holds"]) == "holds"
        assert overall(["holds", "undecided"]) == "undecided"
        assert overall(word for word in ("undecided", "does not hold")) == "does not hold"

    @pytest.mark.parametrize("given", [[], ["perhaps"]])
    def test_no_verdict_is_refused(self, given):
        with pytest.raises(ValueError, match="at least one"):
            overall(given)


class TestFile:
    @pytest.fixture
    def folder(self, results, tmp_path, monkeypatch):
        frame = pd.read_csv(tmp_path / "tables" / "trial_seeds.csv")
        more = frame[frame["metric"] == "LE"].assign(metric="PxAP")
        pd.concat([frame[frame["metric"] == "LE"], more]).to_csv(tmp_path / "tables" / "trial_seeds.csv", index=False)
        pairs = [(("plain", "FIX"), ("other", "FIX")), (("plain", "CA"), ("plain", "FIX"))]
        monkeypatch.setattr(claims, "CLAIMS", (Claim("plain is better", "so they say", "trial", pairs, 0.007),))
        return tmp_path / "tables"

    def test_it_is_written_and_read(self, folder):
        assert [path.name for path in make_claims(folder)] == ["claims.csv", "claims.json"]
        found = read_claims(folder)
        assert found["verdict"].tolist() == ["holds", "does not hold", "does not hold", "holds"]
        assert found["estimate"].tolist() == pytest.approx([0.5, -1.0, -0.5, 1.0])
        assert found["other"].tolist()[:2] == ["other, FIX", "plain, FIX"]
        assert set(found["margin"]) == {0.007} and set(found["seeds"]) == {3}

    def test_one_against_many_is_corrected_for_their_number(self, folder, monkeypatch):
        frame = pd.read_csv(folder / "trial_seeds.csv")
        frame.loc[frame["setting"] == "other", "value"] += 0.1 * frame["seed"]
        frame.to_csv(folder / "trial_seeds.csv", index=False)
        (claim,) = claims.CLAIMS
        make_claims(folder)
        before = read_claims(folder).iloc[0]
        monkeypatch.setattr(claims, "CLAIMS", (dataclasses.replace(claim, corrected=True),))
        make_claims(folder)
        after = read_claims(folder)
        assert after.loc[0, "estimate"] == before["estimate"] and after.loc[0, "low"] < before["low"]
        gains = [[0.5, 0.6, 0.7], [-1.0] * 3, [-0.5, -0.6, -0.7], [1.0] * 3]
        levels = holm_levels(gains, -0.007)
        assert after["low"].tolist() == pytest.approx(
            [t_interval(each, level=level)[1] for each, level in zip(gains, levels, strict=True)]
        )
        assert read_json(folder / "claims.json")["corrected"]["claims"] == ["plain is better"]

    def test_an_optional_claim_waits_for_its_table(self, folder, monkeypatch):
        (claim,) = claims.CLAIMS
        more = dataclasses.replace(claim, name="later", table="later", optional=True)
        monkeypatch.setattr(claims, "CLAIMS", (claim, more))
        assert tables_needed(folder) == ["trial"]
        make_claims(folder)
        assert set(read_claims(folder)["claim"]) == {"plain is better"}
        monkeypatch.setattr(claims, "CLAIMS", (claim, dataclasses.replace(more, optional=False)))
        with pytest.raises(FileNotFoundError, match="no table later"):
            make_claims(folder)

    def test_a_picture_of_it(self, folder):
        make_claims(folder)
        figure = claims_figure(read_claims(folder))
        assert [axis.get_title() for axis in figure.axes] == ["gain in LE, points", "gain in PxAP, points"]
        dots = [float(line.get_xdata()[0]) for line in figure.axes[0].lines if line.get_marker() == "o"]
        assert dots == pytest.approx([50, -100])
        names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        assert names == ["plain is better:", "plain, FIX  against  other, FIX", "plain, CA  against  plain, FIX"]

    def test_the_command_line_writes_and_draws_it(self, folder, tmp_path, monkeypatch, capsys):
        (tmp_path / "experiments").mkdir()
        (tmp_path / "figures").mkdir()
        folder.rename(tmp_path / "figures" / "tables")
        monkeypatch.setattr(command_line, "project_root", lambda: tmp_path)
        assert command_line.main(["claims"]) == 0
        assert "figures/tables/claims.csv" in capsys.readouterr().out.replace("\\", "/")
        assert command_line.main(["figures"]) == 0
        assert (tmp_path / "figures" / "14_paper_figures.png").stat().st_size > 1000
        (tmp_path / "figures" / "tables" / "trial_seeds.csv").unlink()
        assert command_line.main(["claims"]) == 2
        assert "trial" in capsys.readouterr().err

    def test_without_its_tables_it_is_not_made(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="make experiments TABLE=objectives"):
            make_claims(tmp_path)
        with pytest.raises(FileNotFoundError, match="make experiments TABLE=claims"):
            read_claims(tmp_path)


def test_the_committed_claims_follow_from_the_committed_tables(tmp_path):
    committed = project_root() / "figures" / "tables"
    shutil.copytree(committed, tmp_path / "tables")
    make_claims(tmp_path / "tables")
    pd.testing.assert_frame_equal(read_claims(tmp_path / "tables"), read_claims(), rtol=1e-4)
    assert len(set(read_json(committed / "claims.json")["tables"].values())) == 1, "tables of different versions"


def test_the_readme_gives_the_verdicts_of_the_committed_claims():
    readme = (project_root() / "README.md").read_text(encoding="utf-8")
    decided = read_claims().groupby(["claim", "metric"], sort=False)["verdict"].agg(overall)
    assert {name for name, _ in decided.index} == {claim.name for claim in held(project_root() / "figures" / "tables")}
    for name in dict.fromkeys(name for name, _ in decided.index):
        assert f"| {name} | {decided[name, 'LE']} | {decided[name, 'PxAP']} |" in readme


def test_the_claims_ask_for_rows_that_the_tables_have():
    known = load_tables(project_root() / "experiments")
    assert len(CLAIMS) == 5 and {claim.table for claim in CLAIMS} <= set(known)
    for claim in CLAIMS:
        table = known[claim.table]
        rows = {(row.name, mode) for row in table.rows for mode in row.modes}
        none = pd.DataFrame()
        compared = claim.compared(Results(none, none, none, {}, {"rows": rows_record(table)}))
        assert compared and {setting for pair in compared for setting in pair} <= rows


def test_the_few_shot_figure_shows_counts_and_two_references(tmp_path):
    rows = [{"name": name} for name in ("1 per class", "10 per class", "one pass", "full schedule")]
    for position, row in enumerate(rows):
        row["parameters"] = {"tv": 0.001 * (position + 1)}
    table = load_table(table_file(tmp_path, rows=rows, baseline="one pass"))
    finish(
        table, tmp_path / "runs", lambda run: 0.1 * run.setting.tv + (0.5 if run.mode == "CA" else 0) + 0.01 * run.seed
    )
    make_table(table, tmp_path / "runs", tmp_path / "tables")
    (axis,) = few_shot_figure(read_results("trial", tmp_path / "tables")).axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["1", "10"]
    assert sorted(
        line.get_linestyle() for line in axis.lines if len(set(line.get_ydata())) == 1 and len(line.get_ydata()) == 2
    )[:4] == ["--", "--", ":", ":"]
