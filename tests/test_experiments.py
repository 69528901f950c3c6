"""The grid of runs: settings and their addresses, tables of settings, and what is computed from finished runs."""

import dataclasses
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
import types
import typing
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from papermill import inspect_notebook
from PIL import Image
from tiny import Squares, tiny_classifier
from tiny_grid import finish, table_file

from maskerlib.experiments import __main__ as command_line
from maskerlib.experiments import golden, measuring, results
from maskerlib.experiments import run as parts
from maskerlib.experiments.cell import differing, parameters_cell
from maskerlib.experiments.choosing import METHODS_TABLE, OPTIONS_TABLE
from maskerlib.experiments.committed import carry_over, committed_runs, row_name
from maskerlib.experiments.grid import NOTEBOOK, Table, load_table, load_tables, unique
from maskerlib.experiments.rankings import FILLS_TABLE
from maskerlib.experiments.results import MissingRuns, collect, make_table, missing_runs, paired, summarise
from maskerlib.experiments.settings import BESIDE, Setting
from maskerlib.experiments.tables import state
from maskerlib.experiments.version import VERSION
from maskerlib.masker.config import GIVEN, MaskerConfig
from maskerlib.masker.training import train_masker
from maskerlib.masking.infills import INFILLS
from maskerlib.masking.objectives import Objective
from maskerlib.notebooks.parameters import read_parameters
from maskerlib.notebooks.runner import run_notebook
from maskerlib.running.files import read_json

ROOT = Path(__file__).resolve().parents[1]
BY_METHOD = (METHODS_TABLE, OPTIONS_TABLE, FILLS_TABLE)


def types_in(annotation: object) -> set[object]:
    """The types that an annotation admits."""
    return set(typing.get_args(annotation)) if isinstance(annotation, types.UnionType) else {annotation}


class TestSetting:
    def test_every_choice_of_a_masker_and_of_its_objective_is_a_parameter_of_the_same_type(self):
        ours = typing.get_type_hints(Setting)
        theirs = typing.get_type_hints(MaskerConfig) | typing.get_type_hints(Objective)
        for name in ("objective", "areas", "crop_scale", "checkpoint_every", "micro_batch"):  # a setting decides these itself
            assert theirs.pop(name) and name not in ours
        for name, annotation in theirs.items():
            free = {types.NoneType} if name in ("steps", "passes", "size_out") else set()
            assert types_in(ours[name]) ^ types_in(annotation) <= free, name

    def test_the_defaults_are_the_final_model(self):
        for mode in ("FIX", "CA"):
            final = MaskerConfig.final(mode)
            ours = Setting(mode=mode).config()
            for name in (
                "objective",
                "layers",
                "infill",
                "mask",
                "condition",
                "prob_historic",
                "released_pool",
                "width",
            ):
                assert getattr(ours, name) == getattr(final, name)

    def test_a_misspelt_name_is_refused_with_all_that_there_are(self):
        with pytest.raises(
            ValueError, match="no parameter 'sede'; did you mean 'seed'.*masked_in, masked_out.*released_pool"
        ):
            Setting.read({"sede": 1})

    @pytest.mark.parametrize(
        "values, message",
        [
            ({"mode": "BOTH"}, "mode='BOTH' is unknown; choose one of FIX, CA"),
            ({"infill": "grey"}, f"infill='grey' is unknown; choose one of {', '.join(INFILLS)}, inpainter"),
            ({"classifier": "mine"}, "there is no classifier 'mine'"),
            ({"level": "odd"}, "level='odd' is unknown"),
            ({"per_class": 0}, "per_class=0 must be a whole number"),
            ({"class_share": 0.0}, "class_share=0.0 must lie above 0"),
            ({"passes": -1.0}, "passes=-1.0 must be"),
            ({"masked_in": None, "masked_out": None}, "both are None"),
            ({"condition": "size"}, "needs an objective with a budget"),
            ({"temperature": 0.0}, "temperature=0.0 must be"),
            ({"released_pool": "false"}, "released_pool='false' must be True or False"),
            ({"released_pool": 1}, "released_pool=1 must be True or False"),
            ({"layers": '["stage4"]'}, r"layers='\[\"stage4\"\]' must be a list, each item of it a text, or None"),
            ({"layers": [1]}, r"layers=\(1,\) must be a list"),
            ({"width": 10**12}, "width=1000000000000 must be a whole number of 1 or more, at most 65536"),
            ({"train_images": 10**12}, "train_images=1000000000000 must be a whole number"),
            ({"steps": "128"}, "steps='128' must be a whole number"),
            ({"seed": True}, "seed=True must be a whole number"),
            ({"tv": "0.1"}, "tv='0.1' must be a finite number"),
            ({"masked_out": 3}, "masked_out=3 must be a text, or None"),
            ([], r"a run is read from names and values, not from \[\]"),
            (["mode"], r"a run is read from names and values, not from \['mode'\]"),
            ({1: 2}, "a run has no parameter 1; the parameters are data, root"),
        ],
    )
    def test_a_value_that_no_run_could_use_is_refused(self, values, message):
        with pytest.raises(ValueError, match=message):
            Setting.read(values)

    def test_papermill_s_own_warning_becomes_an_error(self):
        names = {"seed": 3, "In": [], "Out": {}, "_private": 1, "json": json, "Setting": Setting, "device": "cpu"}
        assert Setting.of_notebook(names) == Setting(seed=3)
        with pytest.raises(ValueError, match="no parameter 'modus'"):
            Setting.of_notebook({**names, "modus": "CA"})

    def test_size_reward_follows_the_mode_unless_given(self):
        assert [Setting(mode=mode).config().objective.size_out for mode in ("FIX", "CA")] == [10, 15]
        assert Setting(mode="CA", size_out=4.0).config().objective.size_out == 4

    def test_passes_take_the_place_of_steps(self):
        config = Setting(passes=2.0).config()
        assert config.steps is None and config.passes == 2

    def test_the_inpainter_is_given_to_the_training(self):
        assert Setting(infill="inpainter").config().infill == GIVEN
        assert Setting(infill="blur").config().infill == "blur"

    def test_equal_settings_share_an_address_and_others_do_not(self):
        assert Setting(layers=["stage4"]).address() == Setting(layers=("stage4",)).address()
        addresses = [Setting(**values).address() for values in ({}, {"seed": 1}, {"mode": "CA"}, {"layers": ["stem"]})]
        assert len(set(addresses)) == 4 and all(len(address) == 16 for address in addresses)

    def test_another_version_is_another_address(self, monkeypatch):
        before = Setting().address()
        monkeypatch.setattr("maskerlib.experiments.settings.VERSION", -1)
        assert Setting().address() != before

    def test_smoke_is_small_whatever_the_setting(self):
        small = Setting(per_class=125, passes=3.0, train_images=8000).smoke()
        assert small.per_class == 2 and small.passes is None and small.train_images < 100 and small.steps < 5

    @pytest.mark.parametrize(
        "settings, same",
        [
            ([{}, {"prob_historic": 0.25}, {"released_pool": True}, {"pool_every": 3, "classifier_lr": 1e-2}], True),
            ([{"mode": "CA"}, {"mode": "CA", "prob_historic": 0.25}], False),
            ([{"mode": "CA", "prob_historic": 0.0}, {"mode": "CA", "prob_historic": 0.0, "released_pool": True}], True),
            ([{}, {"temperature": 0.5}], True),
            ([{"mask": "gumbel"}, {"mask": "gumbel", "temperature": 0.5}], False),
            ([{}, {"size_out": 10.0}, {"infill_sides": "in"}, {"condition_at": "head"}, {"budget_power": 2}], True),
            ([{"mode": "CA"}, {"mode": "CA", "size_out": 15.0}], True),
            ([{"mode": "CA"}, {"mode": "CA", "size_out": 10.0}], False),
            ([{"infill": "blur"}, {"infill": "blur", "infill_sides": "in"}], False),
            ([{"masked_out": None}, {"masked_out": None, "weight_out": 3.0, "size_out": 1.0}], True),
            ([{"passes": 2.0}, {"passes": 2.0, "steps": 7}], True),
            ([{"condition": "class"}, {"condition": "class", "condition_at": "head"}], False),
            ([{"tv": 0}, {"tv": 0.0}], True),
        ],
    )
    def test_what_makes_no_difference_makes_no_other_address(self, settings, same):
        assert (len({Setting(**values).address() for values in settings}) == 1) == same

    def test_what_is_left_out_of_an_address_is_without_consequence_for_the_masker(self, cache):
        tiny = {"train_images": 16, "val_images": 8, "steps": 2, "batch_size": 4, "width": 4, "precision": "fp32"}
        plain = golden.golden_run(tiny, cache)
        assert (
            golden.golden_run(
                {**tiny, "prob_historic": 0.1, "pool_every": 1, "temperature": 0.7, "condition_at": "head"}, cache
            )
            == plain
        )
        assert golden.golden_run({**tiny, "tv": 0.1}, cache) != plain


class TestCell:
    def test_the_notebook_s_parameters_are_those_of_a_setting(self):
        assert differing(ROOT / NOTEBOOK) == [], "python -m maskerlib.experiments parameters --write"
        cell = read_parameters(ROOT / NOTEBOOK)
        defaults = {field.name: field.default for field in dataclasses.fields(Setting)}
        assert {name: parameter.default for name, parameter in cell.items()} == defaults | dict.fromkeys(BESIDE, "")

    def test_papermill_knows_them_all(self):
        """Of a parameter that it does not find in the cell its command line says that it is unknown."""
        assert list(inspect_notebook(ROOT / NOTEBOOK)) == list(read_parameters(ROOT / NOTEBOOK))

    def test_a_cell_that_fell_behind_is_mended_and_keeps_its_comments(self):
        right = json.loads((ROOT / NOTEBOOK).read_text(encoding="utf-8"))
        (source,) = ["".join(cell["source"]) for cell in right["cells"] if "parameters" in cell["metadata"].get("tags", [])]
        lines = [line for line in source.splitlines() if not line.startswith("width")]
        stale = "\n".join(["gone: int = 3", *lines]).replace("tv: float = 0.002", "tv: int = 5").replace("list|None", "list")
        assert parameters_cell(stale) == source == parameters_cell(source)
        assert "# None: 10 for FIX, 15 for CA" in source and "\n\nmode: str" in source

    def test_the_command_says_what_differs_and_mends_it(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(command_line, "project_root", lambda: tmp_path)
        path = tmp_path / NOTEBOOK
        path.parent.mkdir()
        right = (ROOT / NOTEBOOK).read_text(encoding="utf-8")
        path.write_text(right.replace("batch_size: int = 16", "batch_size: int = 17"), encoding="utf-8")
        assert command_line.main(["parameters"]) == 1
        assert capsys.readouterr().out.splitlines() == ["- batch_size: int = 17", "+ batch_size: int = 16"]
        assert command_line.main(["parameters", "--write"]) == 0 and path.read_text(encoding="utf-8") == right
        capsys.readouterr()
        assert command_line.main(["parameters"]) == 0
        assert capsys.readouterr().out.strip() == "the parameters of notebooks/experiment.ipynb are those of Setting"


class TestGolden:
    @pytest.mark.parametrize("name", golden.GOLDEN)
    def test_a_golden_run_comes_out_as_it_is_kept(self, name, cache, one_thread):
        kept = golden.kept(ROOT)
        assert kept["version"] == VERSION and set(kept["runs"]) == set(golden.GOLDEN)
        found = golden.differences(golden.golden_run(golden.GOLDEN[name], cache), kept["runs"][name])
        assert not found, f"the training's numbers changed; raise the version: {found}"

    def test_a_small_change_of_a_rule_is_found(self, cache):
        kept = golden.kept(ROOT)["runs"]["CA"]
        for change in ({"momentum": 0.85}, {"tv": 0.004}, {"clip_norm": 2.0}, {"size_out": 14.0}, {"warmup": 0.4}):
            assert golden.differences(golden.golden_run({**golden.GOLDEN["CA"], **change}, cache), kept), change

    def test_words(self):
        kept = {"metrics": {"F1": 0.5}, "moves": {"masker": [0.2, 0.1, 0.2, 0.3]}}
        assert not golden.differences({"metrics": {"F1": 0.515}, "moves": {"masker": [0.202, 0.1, 0.2, 0.315]}}, kept)
        assert golden.differences({"metrics": {"F1": 0.5}, "moves": {"masker": [0.206, 0.1, 0.2, 0.3]}}, kept)
        other = {"metrics": {"F1": 0.6}, "moves": {}}
        words = golden.differences(other, kept)
        assert words[0] == "F1 is 0.6, was 0.5" and words[1].startswith("the weights of the masker moved by [nan")


class TestCommitted:
    """Tables that know their runs: what is asked for beyond is made, and nothing else."""

    def made(self, tmp_path, **changes) -> tuple[Table, Path, Path]:
        table, runs, into = load_table(table_file(tmp_path, **changes)), tmp_path / "runs", tmp_path / "tables"
        finish(table, runs, lambda run: 0.1 * run.seed + 0.3 * (run.row == "other"))
        for path in runs.rglob("metrics.json"):
            content = json.loads(path.read_text())
            content["measured"].pop("unseen")
            path.write_text(json.dumps(content))
        make_table(table, runs, into)
        return table, runs, into

    def test_a_seed_and_a_row_more_ask_for_their_runs_alone(self, tmp_path):
        table, runs, into = self.made(tmp_path)
        shutil.rmtree(runs)
        assert not missing_runs(table, runs, into)
        before = {path.name: path.read_bytes() for path in into.iterdir() if path.suffix == ".csv"}
        make_table(table, runs, into)
        assert {name: (into / name).read_bytes() for name in before} == before
        rows = [
            {"name": "plain"},
            {"name": "other", "parameters": {"tv": 0.1}},
            {"name": "third", "parameters": {"tv": 0.2}},
        ]
        more = load_table(table_file(tmp_path, rows=rows, seeds=[0, 1, 2, 3]))
        left = missing_runs(more, runs, into)
        assert {(run.row, run.seed) for run in left.values()} == {
            ("plain", 3),
            ("other", 3),
            *(("third", seed) for seed in range(4)),
        }
        with pytest.raises(MissingRuns, match="12 of the runs of trial are not finished"):
            make_table(more, runs, into)
        few = [row for row in more.rows if row.name == "third"]
        finish(dataclasses.replace(more, rows=tuple(few), baseline="third"), runs, lambda run: 0.9)
        last = [dataclasses.replace(row, seeds=(3,)) for row in more.rows if row.name != "third"]
        finish(dataclasses.replace(more, rows=tuple(last)), runs, lambda run: 0.3)
        make_table(more, runs, into)
        values = (
            pd.read_csv(into / "trial_seeds.csv")
            .query("metric == 'LE'")
            .set_index(["setting", "mode", "seed"])["value"]
        )
        assert values["other", "CA", 1] == pytest.approx(0.4) and values["other", "CA", 3] == pytest.approx(0.3)
        assert values["third", "FIX", 2] == pytest.approx(0.9) and len(values) == 24
        assert np.asarray(Image.open(into / "trial_maps.png")).shape == (6 * 4, 8)

    def test_another_version_knows_nothing(self, tmp_path):
        table, _, into = self.made(tmp_path)
        record = json.loads((into / "trial.json").read_text())
        (into / "trial.json").write_text(json.dumps(record | {"version": VERSION + 1}))
        assert not committed_runs(table, into)

    def test_a_table_is_carried_over_once_two_runs_gave_the_same_digits(self, tmp_path):
        table, runs, into = self.made(tmp_path)
        values = pd.read_csv(into / "trial_seeds.csv")
        values["address"] = [f"{number // 2:016x}" for number in range(len(values))]
        values.to_csv(into / "trial_seeds.csv", index=False)
        record = json.loads((into / "trial.json").read_text())
        del record["version"]
        (into / "trial.json").write_text(json.dumps(record | {"code": "abc"}))
        assert state(table, into) == "other version"
        addresses = list(unique(list(table.runs())))
        for address in addresses[1:]:
            shutil.rmtree(runs / address)
        with pytest.raises(ValueError, match="1 runs of trial were made again, expected 2 or more, such as\npython -m"):
            carry_over(table, runs, into)
        finish(dataclasses.replace(table, rows=table.rows[:1]), runs, lambda run: 0.1 * run.seed)
        for path in runs.rglob("metrics.json"):
            content = json.loads(path.read_text())
            content["measured"].pop("unseen", None)
            path.write_text(json.dumps(content))
        assert len(carry_over(table, runs, into)) == 6 and state(table, into) == "current"
        assert set(pd.read_csv(into / "trial_seeds.csv")["address"]) == set(addresses)
        record = json.loads((into / "trial.json").read_text())
        assert record["checked"][0] == {"row": "plain", "mode": "FIX", "seed": 0} and "code" not in record

    def test_another_digit_is_named_and_nothing_is_carried_over(self, tmp_path):
        table, runs, into = self.made(tmp_path)
        path = runs / list(unique(list(table.runs())))[4] / "metrics.json"
        path.write_text(path.read_text().replace('"LE": 0.1', '"LE": 0.10001'))
        before = (into / "trial_seeds.csv").read_bytes()
        with pytest.raises(ValueError, match=r"plain, FIX, seed 1: LE is 0\.10001 now, was 0\.1"):
            carry_over(table, runs, into)
        assert (into / "trial_seeds.csv").read_bytes() == before


class TestParts:
    def test_few_of_each_is_even_nested_and_seeded(self):
        source = Squares(24)
        few, more, other = (parts.few_of_each(source, *how) for how in ((2, 0), (4, 0), (2, 1)))
        assert few.labels.bincount().tolist() == [2, 2, 2, 2]
        assert set(few.indices) <= set(more.indices)
        assert set(few.indices) != set(other.indices)
        assert few.indices == parts.few_of_each(source, 2, 0).indices

    def test_too_many_of_a_class(self):
        with pytest.raises(ValueError, match="per_class=7: class 'red' has 6 images"):
            parts.few_of_each(Squares(24), 7)

    @given(st.integers(1, 40), st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 99))
    def test_drawn_classes_are_nested(self, classes, one, other, seed):
        small, large = sorted((one, other))
        few, many = (parts.drawn_classes(classes, share, seed) for share in (small, large))
        assert set(few) <= set(many) <= set(range(classes))
        assert len(few) == max(1, round(small * classes)) and few == sorted(few)

    def test_of_classes_keeps_the_order(self):
        source = Squares(24)
        subset = parts.of_classes(source, [1, 3])
        assert set(subset.labels.tolist()) == {1, 3} and len(subset) == 12
        assert subset.indices == sorted(subset.indices)

    def test_shuffled_labels_are_as_many_but_no_longer_the_images(self):
        source = Squares(24)
        shuffled = parts.Shuffled(source, seed=0)
        assert shuffled.labels.bincount().tolist() == source.labels.bincount().tolist()
        assert not torch.equal(shuffled.labels, source.labels)
        batch = shuffled.batch(range(5))
        assert torch.equal(batch.labels, shuffled.labels[:5]) and torch.equal(
            batch.images, source.batch(range(5)).images
        )
        assert shuffled[3].label == int(shuffled.labels[3])

    def test_views_by_hand(self):
        classifier, source = tiny_classifier(), Squares(8)
        drawn = measuring.Drawn(torch.ones(8, 1, 16, 16), source, classifier, 0.0)
        everything = measuring.views(drawn, classifier, batch_size=3)
        images, labels = source.batch(range(8)).images, source.labels
        with torch.no_grad():
            clean, blank = classifier(images), classifier(classifier.mean.expand(8, -1, 16, 16))
        right = float((clean.argmax(dim=1) == labels).float().mean())
        assert everything["accuracy before"] == everything["in after"] == pytest.approx(right)
        assert everything["out before"] == pytest.approx(float((blank.argmax(dim=1) == labels).float().mean()))
        p = blank.softmax(dim=1)
        assert everything["entropy after"] == pytest.approx(float(-(p * p.log()).sum(dim=1).mean()), rel=1e-4)

    def test_variants_measure_what_the_masker_was_told_and_has_seen(self):
        classifier, source = tiny_classifier(), Squares(24)
        for values, expected in (
            ({}, ["all"]),
            ({"condition": "class"}, ["all", "predicted"]),
            ({"condition": "size", "budget": 1.0}, ["0.25", "0.5", "0.75"]),
            ({"class_share": 0.5}, ["all", "seen", "unseen"]),
        ):
            setting = Setting(**values, steps=1, batch_size=4, width=4)
            trained = train_masker(classifier, source, setting.config(), progress=False)
            found = measuring.variants(setting, trained, source)
            assert list(found) == expected
            images = source.batch(range(3)).images
            assert all(
                method(images, source.labels[:3], classifier).shape == (3, 1, 16, 16) for method, _ in found.values()
            )
        seen, unseen = (set(found[name][1].labels.tolist()) for name in ("seen", "unseen"))
        assert len(seen) == 2 and seen | unseen == {0, 1, 2, 3} and not seen & unseen


def as_row(values: dict) -> dict:
    """A row of `values`, of one mode and one seed where they name these."""
    alone = {f"{name}s": [values[name]] for name in ("mode", "seed") if name in values}
    return alone | {"parameters": {name: value for name, value in values.items() if name not in ("mode", "seed")}}


class TestTables:
    def test_every_table_of_the_repository_can_run(self):
        tables = load_tables(ROOT / "experiments")
        assert set(tables) == {
            "objectives",
            "classifier_training",
            "layers",
            "infilling",
            "distribution",
            "few_shot",
            "unseen_classes",
            *BY_METHOD,
        }
        for name, table in tables.items():
            assert all(len(row.seeds) >= (1 if name == OPTIONS_TABLE else 3) for row in table.rows)
            for run in table.runs():
                run.setting.training()

    def test_runs_come_seed_by_seed(self, tmp_path):
        runs = list(load_table(table_file(tmp_path)).runs())
        assert [(run.seed, run.row, run.mode) for run in runs[:4]] == [
            (0, "plain", "FIX"),
            (0, "plain", "CA"),
            (0, "other", "FIX"),
            (0, "other", "CA"),
        ]
        assert len(runs) == 12 and runs[2].setting == Setting(tv=0.1)

    def test_shared_runs_are_made_once(self, tmp_path):
        table = load_table(
            table_file(tmp_path, rows=[{"name": "plain"}, {"name": "same", "parameters": {"tv": 0.002}, "variants": ["seen"]}])
        )
        assert len(list(table.runs())) == 12 and len(unique(list(table.runs()))) == 6

    def test_a_run_is_found_by_name(self, tmp_path):
        table = load_table(table_file(tmp_path))
        run = table.run("other", "CA", 2)
        assert (run.row, run.mode, run.seed, run.setting) == ("other", "CA", 2, Setting(mode="CA", seed=2, tv=0.1))
        with pytest.raises(KeyError, match="trial has no row 'othr'; the rows are plain, other"):
            table.run("othr", "CA", 2)
        with pytest.raises(KeyError, match="row 'other', has no run CA, seed 3; it has FIX, CA with seeds 0, 1, 2"):
            table.run("other", "CA", 3)

    def test_the_command_of_a_run_makes_that_run(self, tmp_path):
        rows = [{"name": "plain"}, {"name": "other", "parameters": {"layers": ["stem", "stage4"], "masked_out": None}}]
        run = list(load_table(table_file(tmp_path, rows=rows)).runs())[3]
        given = run.arguments()
        cell = read_parameters(ROOT / NOTEBOOK)
        values = {name: cell[name].parse(value) for name, value in zip(given[1::3], given[2::3], strict=True)}
        assert Setting.read(values) == run.setting
        assert f"runs/experiments/{run.setting.address()}/" in run.command()

    @pytest.mark.parametrize(
        "changes, message",
        [
            ({"colour": 1}, "'colour' is unknown; choose from baseline"),
            ({"table": "other"}, "calls itself 'other'"),
            ({"baseline": "none"}, "the baseline 'none' is no row; the rows are plain, other"),
            ({"modes": ["FIXED"]}, "needs modes among FIX, CA"),
            ({"rows": [{"name": "plain"}, {"name": "plain"}]}, "two rows are called 'plain'"),
            ({"rows": [{"name": "plain", "parameters": {"tvv": 1}}]}, "row 'plain': a run has no parameter 'tvv'"),
            ({"rows": [{"label": "no name"}]}, "'name' is missing"),
            ({"rows": ["plain"]}, "expected names and values, got 'plain'"),
        ],
    )
    def test_a_table_that_cannot_run_is_refused(self, tmp_path, changes, message):
        with pytest.raises(ValueError, match=message):
            load_table(table_file(tmp_path, **changes))

    @pytest.mark.parametrize(
        "changes, message",
        [
            ({"rows": [{"name": "plain", "parameters": {"seed": 32}}]}, r"row 'plain': 'seed' .* write seeds: \[32\] beside"),
            ({"rows": [{"name": "plain", "parameters": {"mode": "CA"}}]}, r"row 'plain': 'mode' .* write modes: \[CA\] beside"),
            ({"shared": {"seed": 3}}, r"trial.yaml, shared: 'seed' .* write seeds: \[3\] beside"),
            ({"shared": {"mode": "FIX"}}, r"trial.yaml, shared: 'mode' .* write modes: \[FIX\] beside"),
            ({"shared": [1]}, r"shared: the parameters are .*, expected names and values"),
            ({"seeds": 3}, r"trial.yaml: seeds is 3; give a list of whole numbers"),
            ({"seeds": ["a"]}, r"trial.yaml: seeds is \['a'\]; give a list"),
            ({"seeds": [True]}, r"trial.yaml: seeds is \[True\]; give a list"),
            ({"seeds": [-1]}, r"trial.yaml: seeds is \[-1\]; give a list"),
            ({"seeds": []}, r"trial.yaml: seeds is \[\]; give a list"),
            ({"seeds": [0, 1, 0]}, r"trial.yaml: seeds is \[0, 1, 0\]; give .* each once"),
            ({"rows": [{"name": "plain"}, {"name": "b", "seeds": 3}]}, r"row 'b': seeds is 3; give a list"),
            ({"modes": "FIX"}, r"trial.yaml: modes is 'FIX'; it needs modes among FIX, CA"),
            ({"rows": [{"name": "plain", "modes": [["FIX"]]}]}, r"row 'plain': modes is .* needs modes among FIX, CA"),
            ({"rows": [{"name": False}]}, r"row False: its name is no text; put it in quotes"),
            ({"rows": 3}, r"trial.yaml: rows is 3, expected a list of rows"),
            ({"rows": [{"name": "plain", "variants": "all"}]}, r"row 'plain': variants is 'all', expected a list"),
            ({"rows": [{"name": "plain", "parameters": {"masker_lr": "5e-3"}}]}, r"masker_lr is 5e-3, .*; write 5\.0e-3"),
            ({"shared": {"weight_decay": "1.5E2"}}, r"shared: weight_decay is 1.5E2, .*; write 1\.5e\+2"),
        ],
    )
    def test_a_table_that_would_run_another_thing_than_it_says_is_refused(self, tmp_path, changes, message):
        with pytest.raises(ValueError, match=message):
            load_table(table_file(tmp_path, **changes))

    def test_a_number_that_a_table_is_told_to_write_is_read_as_one(self, tmp_path):
        path = table_file(tmp_path, rows=[{"name": "plain", "parameters": {"masker_lr": "LR"}}])
        text = path.read_text()
        path.write_text(text.replace("LR", "5e-3"))
        with pytest.raises(ValueError, match="reads as a text; write 5.0e-3"):
            load_table(path)
        path.write_text(text.replace("LR", "5.0e-3"))
        assert load_table(path).rows[0].parameters == {"masker_lr": 0.005}

    @pytest.mark.parametrize(
        "more, key", [("seeds: [5]", "seeds"), ("shared: {tv: 0.1, tv: 0.2}", "tv"), ("rows: []", "rows")]
    )
    def test_a_key_that_a_table_gives_twice_is_refused(self, tmp_path, more, key):
        path = table_file(tmp_path)
        path.write_text(f"{path.read_text()}{more}\n")
        with pytest.raises(ValueError, match=f"trial.yaml is not YAML: '{key}' is given twice; leave one out.* line"):
            load_table(path)

    @pytest.mark.parametrize(
        "one, other, run",
        [
            ({"tv": 0.1}, {"tv": 0.1}, "FIX, seed 0"),
            ({}, {"tv": 0.002}, "FIX, seed 0"),
            ({}, {"temperature": 0.5}, "FIX, seed 0"),
            ({"size_out": 15.0}, {"mode": "CA"}, "CA, seed 0"),
            ({"mode": "CA", "seed": 4}, {"mode": "CA", "seed": 4, "pool_size": 30}, "CA, seed 4"),
        ],
    )
    def test_two_rows_of_a_table_that_come_to_one_run_are_refused(self, tmp_path, one, other, run):
        rows = [{"name": "plain", **as_row(one)}, {"name": "wide", "parameters": {"width": 8}}, {"name": "b", **as_row(other)}]
        with pytest.raises(ValueError, match=rf"trial.yaml: rows 'plain' and 'b' come to the same run \({run}\)"):
            load_table(table_file(tmp_path, rows=rows))

    @pytest.mark.parametrize("change", [{"variants": ["seen"]}, {"seeds": [3]}, {"parameters": {"tv": 0.01}}])
    def test_rows_of_a_table_that_differ_in_what_is_measured_are_kept(self, tmp_path, change):
        assert len(load_table(table_file(tmp_path, rows=[{"name": "plain"}, {"name": "b", **change}])).rows) == 2

    def test_no_table(self, tmp_path):
        table_file(tmp_path)
        with pytest.raises(FileNotFoundError, match="the tables there are: trial"):
            load_table(tmp_path / "layers.yaml")

    def test_not_yaml(self, tmp_path):
        (tmp_path / "trial.yaml").write_text("a: [1")
        with pytest.raises(ValueError, match="trial.yaml is not YAML"):
            load_table(tmp_path / "trial.yaml")

    def test_smoke_is_a_small_table(self, tmp_path):
        small = load_table(table_file(tmp_path)).smoke()
        runs = list(small.runs())
        assert {(run.seed, run.mode) for run in runs} == {(0, "FIX")} and all(run.setting.steps < 5 for run in runs)
        assert [run.setting.tv for run in runs] == [0.002, 0.1]


class TestResults:
    @pytest.fixture
    def table(self, tmp_path) -> Table:
        return load_table(table_file(tmp_path))

    def test_missing_runs_are_counted(self, table, tmp_path):
        with pytest.raises(
            MissingRuns, match="12 of the runs of trial are not finished; `make experiments TABLE=trial`"
        ):
            collect(table, tmp_path / "runs", tmp_path / "tables")

    def test_means_and_intervals_over_seeds(self, table, tmp_path):
        finish(table, tmp_path, lambda run: 0.1 * run.seed + (run.row == "other") + 10 * (run.mode == "CA"))
        summary = summarise(collect(table, tmp_path, tmp_path / "tables")).set_index(["setting", "mode", "metric"])
        mean, low, high, seeds = summary.loc[("other", "CA", "LE")]
        assert (mean, seeds) == (pytest.approx(11.1), 3)
        half = 4.30265 * 0.1 / math.sqrt(3)
        assert (low, high) == pytest.approx((11.1 - half, 11.1 + half), abs=1e-5)
        assert summary.loc[("plain", "FIX", "PxAP")].isna()["mean"]

    def test_pairing_takes_out_what_the_seeds_share(self, table, tmp_path):
        finish(table, tmp_path, lambda run: 5 * run.seed + (0.2 + 0.01 * run.seed) * (run.row == "other"))
        differences = paired(collect(table, tmp_path, tmp_path / "tables"), "plain").set_index(["setting", "mode", "metric"])
        mean, low, high = differences.loc[("other", "FIX", "LE"), ["mean", "low", "high"]]
        assert mean == pytest.approx(0.21) and 0.18 < low < 0.21 < high < 0.24
        assert "plain" not in differences.index.get_level_values("setting")

    def test_unseen_classes_are_compared_on_the_same_classes(self, tmp_path):
        rows = [{"name": "plain"}, {"name": "other", "parameters": {"class_share": 0.5}, "variants": ["unseen"]}]
        table = load_table(table_file(tmp_path, rows=rows))
        finish(table, tmp_path, lambda run: 0.5 + 0.1 * run.seed + 0.3 * (run.row == "other"))
        make_table(table, tmp_path, tmp_path / "tables")
        differences = pd.read_csv(tmp_path / "tables" / "trial_paired.csv").set_index(["setting", "mode", "metric"])
        # the row's LE is measured on cats alone, and the baseline's on cats is 0.1 lower than on all
        assert differences.loc[("other", "FIX", "LE"), "mean"] == pytest.approx(0.3 + 0.1)

    def test_a_result_of_another_run_is_refused(self, table, tmp_path):
        finish(table, tmp_path, lambda run: 0.5)
        path = tmp_path / list(unique(list(table.runs())))[0] / "metrics.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "address": "0" * 16}))
        with pytest.raises(ValueError, match="is not the result of this run"):
            collect(table, tmp_path, tmp_path / "tables")

    def test_an_unknown_variant_is_named(self, tmp_path):
        table = load_table(table_file(tmp_path, rows=[{"name": "plain", "variants": ["seen"]}]))
        finish(table, tmp_path, lambda run: 0.5)
        with pytest.raises(ValueError, match="there is no variant 'seen'; choose from all, unseen"):
            collect(table, tmp_path, tmp_path / "tables")

    def test_a_table_leaves_values_intervals_differences_maps_and_where_they_come_from(self, table, tmp_path):
        finish(table, tmp_path / "runs", lambda run: 0.1 * run.seed)
        written = make_table(table, tmp_path / "runs", tmp_path / "tables")
        assert all(path.is_file() for path in written)
        frame = pd.read_csv(tmp_path / "tables" / "trial.csv")
        assert list(frame) == ["setting", "mode", "metric", "mean", "low", "high", "seeds"]
        seeds = pd.read_csv(tmp_path / "tables" / "trial_seeds.csv")
        assert list(seeds) == ["setting", "mode", "metric", "seed", "value", "address"]
        record = json.loads((tmp_path / "tables" / "trial.json").read_text())
        assert record["command"] == "make experiments TABLE=trial" and record["runs"] == 12
        assert record["core minutes"] == 12 and len(record["environments"]) == 1
        maps = np.asarray(Image.open(tmp_path / "tables" / "trial_maps.png"))
        assert len(record["maps"]) == 4 and maps.shape == (4 * 4, 8)

    def test_a_table_is_the_same_bytes_when_made_again(self, table, tmp_path):
        finish(table, tmp_path / "runs", lambda run: 0.1 * run.seed)
        first, again = (
            [path.read_bytes() for path in make_table(table, tmp_path / "runs", tmp_path / name)] for name in "ab"
        )
        assert first == again


class TestCommandLine:
    @pytest.fixture(autouse=True)
    def here(self, tmp_path, monkeypatch):
        (tmp_path / "experiments").mkdir()
        table_file(tmp_path / "experiments")
        monkeypatch.setattr(command_line, "project_root", lambda: tmp_path)

    def test_the_plan_counts_what_is_left_and_learns_from_what_is_done(self, tmp_path, capsys):
        assert command_line.main(["plan", "--cores", "2"]) == 0
        assert capsys.readouterr().out.splitlines()[1].split() == ["trial", "12", "0", "12", "8", "min", "none"]
        table = load_table(tmp_path / "experiments" / "trial.yaml")
        finish(dataclasses.replace(table, rows=table.rows[:1]), tmp_path / "runs" / "experiments", lambda run: 0.0)
        assert command_line.main(["plan", "trial", "--cores", "1"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[1].split() == ["trial", "12", "6", "6", "6", "min", "none"]
        assert len(lines) == 2 + 6 and "-p tv 0.1" in lines[2]

    def test_a_table_that_misses_runs_says_so(self, capsys):
        assert command_line.main(["table", "trial"]) == 1
        assert "12 of the runs of trial are not finished" in capsys.readouterr().err

    def test_a_table_is_written(self, tmp_path, capsys):
        finish(
            load_table(tmp_path / "experiments" / "trial.yaml"),
            tmp_path / "runs" / "experiments",
            lambda run: 0.1 * run.seed,
        )
        assert command_line.main(["table", "trial"]) == 0
        assert "figures/tables/trial.csv" in capsys.readouterr().out.replace("\\", "/")

    def test_the_rows_that_are_finished_are_written_when_asked_for(self, tmp_path, capsys):
        table, runs = load_table(tmp_path / "experiments" / "trial.yaml"), tmp_path / "runs" / "experiments"
        finish(table, runs, lambda run: 0.1 * run.seed)
        gone = [run.setting.address() for run in table.runs() if run.row == "other"][-1]
        (runs / gone / "metrics.json").unlink()
        assert command_line.main(["table", "trial"]) == 1 and not (tmp_path / "figures").exists()
        capsys.readouterr()
        assert command_line.main(["table", "trial", "--partial"]) == 0
        said = capsys.readouterr()
        assert said.err == "trial: 1 of 2 rows are finished\n" and "trial.csv" in said.out
        assert command_line.main(["plan"]) == 0
        assert "some rows" in capsys.readouterr().out

    def test_an_unknown_table_is_refused_with_those_there_are(self, capsys):
        with pytest.raises(SystemExit):
            command_line.main(["plan", "trail"])
        assert "there is no table 'trail'; choose from trial" in capsys.readouterr().err


def made_tables() -> dict[str, Table]:
    """The tables of the repository that are made; all are, but for those by method, whose runs take a night."""
    tables = load_tables(ROOT / "experiments")
    made = {name: table for name, table in tables.items() if (ROOT / "figures" / "tables" / f"{name}.csv").is_file()}
    assert set(tables) - set(made) <= set(BY_METHOD)
    return made


def test_the_committed_tables_are_of_their_rows_and_of_one_version():
    folder = ROOT / "figures" / "tables"
    tables = made_tables()
    states = {name: state(table, folder) for name, table in tables.items()}
    parts = {name for name, found in states.items() if found == "some rows"}
    assert parts <= set(BY_METHOD) and set(states.values()) <= {"current", "some rows", "other version"}, states
    assert len({read_json(folder / f"{name}.json")["version"] for name in tables}) == 1, "tables of different versions"
    for name, table in tables.items():
        wanted = {
            (row_name(row, variant), mode, seed)
            for row in table.rows
            if row.name in read_json(folder / f"{name}.json")["rows"]
            for variant in row.variants
            for mode in row.modes
            for seed in row.seeds
        }
        found = pd.read_csv(folder / f"{name}_seeds.csv")[["setting", "mode", "seed"]]
        assert set(found.itertuples(index=False, name=None)) == wanted


@pytest.mark.parametrize("table", made_tables().values(), ids=lambda table: table.name)
def test_the_notebook_of_a_table_shows_the_command_of_a_run(table):
    cells = nbformat.read(ROOT / "notebooks" / f"{table.notebook}.ipynb", as_version=4).cells
    (shown,) = [cell for cell in cells if cell.cell_type == "code" and ".command())" in cell.source]
    printed = "".join(output.get("text", "") for output in shown.outputs)
    assert any(run.arguments() and shlex.join(run.arguments()) in printed for run in table.runs())


def test_the_notebook_writes_its_result_last():
    cells = [cell for cell in nbformat.read(ROOT / NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    assert "save_result(" in cells[-1].source and not any("save_result(" in cell.source for cell in cells[:-1])


def test_results_know_their_module():
    assert set(results.__all__) <= set(vars(results))


def test_the_readme_lists_every_table_with_its_question_and_number_of_runs():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, table in made_tables().items():
        runs = len(unique(list(table.runs())))
        assert f"| [{name}](experiments/{name}.yaml) | {table.question} | {runs} |" in readme


def test_papermill_by_itself_refuses_a_misspelt_parameter(tmp_path):
    """Without `maskerlib.notebooks.runner` in between, as from papermill's own command line, which only warns."""
    given = ["-p", "sede", "1", "-p", "profile", "smoke", "--no-progress-bar"]
    command = [sys.executable, "-m", "papermill", str(ROOT / NOTEBOOK), str(tmp_path / "out.ipynb"), *given]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode != 0
    assert "a run has no parameter 'sede'; did you mean 'seed'" in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_the_notebook_runs_on_fewer_validation_scenes_than_it_shows(tmp_path, monkeypatch):
    """Five scenes, where eight are kept and six are drawn."""
    monkeypatch.chdir(tmp_path)
    values = {"val_images": 5, "profile": "smoke", "device": "cpu", "folder": str(tmp_path / "run")}
    run_notebook(ROOT / NOTEBOOK, tmp_path / "run.ipynb", values, 300)
    assert read_json(tmp_path / "run" / "metrics.json")["setting"]["val_images"] == 5
