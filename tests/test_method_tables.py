"""The tables of methods: settings that train nothing, their scenes and their cost, how options are chosen, claims and figures."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from scipy import stats
from tiny import Squares, tiny_classifier
from tiny_grid import finish, table_file

from maskerlib.classifiers.scene_resnet import scene_classifier
from maskerlib.experiments import __main__ as command_line
from maskerlib.experiments import figures, measuring
from maskerlib.experiments import run as parts
from maskerlib.experiments.choices import ALSO, MEASURED
from maskerlib.experiments.choosing import METHODS_TABLE, OPTIONS_TABLE, choose, differing_rows, tried
from maskerlib.experiments.claims import against_masks
from maskerlib.experiments.committed import rows_record
from maskerlib.experiments.figures import draw_all
from maskerlib.experiments.grid import Table, load_table, load_tables, tables_folder
from maskerlib.experiments.holm import holm_levels
from maskerlib.experiments.method_figures import cost_figure, photographs_figure
from maskerlib.experiments.named import cost_of, is_random, kind_of
from maskerlib.experiments.rankings import FILLS_TABLE, agreement, ranks_figure
from maskerlib.experiments.results import make_table
from maskerlib.experiments.settings import Setting
from maskerlib.experiments.tables import Results, read_results
from maskerlib.masker.config import MaskerConfig
from maskerlib.masker.real_time import RealTimeConfig
from maskerlib.masker.trained import Trained
from maskerlib.methods.registry import METHODS
from maskerlib.metrics.intervals import t_interval
from maskerlib.notebooks.runner import project_root

KNOWN = load_tables(tables_folder())
OPTIONS, METHODS_OF_TABLE, FILLS_OF_TABLE = KNOWN[OPTIONS_TABLE], KNOWN[METHODS_TABLE], KNOWN[FILLS_TABLE]


class TestSetting:
    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"method": "rice"}, "method='rice' is unknown; choose one of masker, real-time, truth, optimise"),
            ({"method": "masker:runs/mine"}, "method='masker:runs/mine' is unknown"),
            ({"method": "rise", "options": {"maks": 1}}, "method 'rise' has no option 'maks'; its options are"),
            ({"method": "rise", "options": {"masks": 0}}, "masks=0 must be a whole number of 1 or more"),
            ({"method": "rise", "options": {"seed": 1}}, "method 'rise' has no option 'seed'"),
            ({"method": "rise", "options": 3}, "options=3 must be names and values, or None"),
            ({"method": "rise", "mode": "CA"}, "mode='CA': 'rise' leaves the classifier as it is; give mode='FIX'"),
            ({"options": {"tv": 0.1}}, "options={'tv': 0.1}: 'masker' has none; its choices are parameters of the run"),
            ({"method": "truth", "options": {"a": 1}}, "'truth' has none; leave them out"),
            ({"method": "real-time", "options": {"steps": 3}}, "options: 'steps' is a parameter of the run"),
            ({"method": "real-time", "options": {"stepps": 3}}, "RealTimeConfig has no parameter 'stepps'"),
            ({"method": "optimise", "options": {"objective": {"tw": 1}}}, "Objective has no parameter 'tw'"),
            ({"also": ["price"]}, "also='price' is unknown; choose one of cost, insertion"),
            ({"measured_on": "test"}, "measured_on='test' is unknown; choose one of val, train"),
            ({"measured_on": "train", "train_images": 8001}, "train_images=8001 must be .* at most 8000"),
            ({"fresh_scenes": True, "val_images": 1001}, "val_images=1001 must be .* at most 1000"),
        ],
    )
    def test_what_no_run_could_use_is_refused(self, values, message):
        with pytest.raises(ValueError, match=message):
            Setting.read(values)

    @pytest.mark.parametrize(
        ("one", "other", "same"),
        [
            ({"method": "grad-cam"}, {"method": "grad-cam", "seed": 3, "tv": 0.1, "steps": 9, "train_images": 64}, True),
            ({"method": "grad-cam"}, {"method": "grad-cam", "options": {}}, True),
            ({"method": "grad-cam"}, {"method": "grad-cam", "options": {"layer": "stage3"}}, False),
            ({"method": "grad-cam"}, {"method": "layer-cam"}, False),
            ({"method": "grad-cam"}, {"method": "grad-cam", "level": "hard"}, False),
            ({"method": "grad-cam", "fresh_scenes": True}, {"method": "grad-cam", "fresh_scenes": True, "seed": 1}, False),
            ({"method": "grad-cam"}, {"method": "grad-cam", "classifier": "shuffled"}, False),
            ({"method": "truth"}, {"method": "truth", "seed": 1}, True),
            ({"method": "random"}, {"method": "random", "seed": 1}, False),
            ({"method": "random"}, {"method": "random", "also": ["cost"]}, False),
            ({"method": "real-time"}, {"method": "real-time", "tv": 0.1, "masker_lr": 1.0, "pool_size": 3}, True),
            ({"method": "real-time"}, {"method": "real-time", "width": 16}, False),
            ({"method": "real-time"}, {"method": "real-time", "seed": 1}, False),
            ({}, {"options": {}}, True),
        ],
    )
    def test_what_counts_for_a_method_is_in_its_address_and_nothing_else(self, one, other, same):
        assert (Setting(**one).address() == Setting(**other).address()) == same

    def test_options_come_from_a_command_line_as_from_a_file(self):
        text = {"method": "rise", "options": "{'masks': 50, 'centred': True}", "also": '["cost"]'}
        found = Setting.of_notebook(text)
        assert found == Setting(method="rise", options={"masks": 50, "centred": True}, also=("cost",))

    def test_another_training_is_given_what_it_has_as_well_and_its_options(self):
        setting = Setting(
            method="real-time", width=16, steps=9, seed=2, options={"lr": 0.01, "objective": {"area": 4.0}}
        )
        config = setting.training()
        assert isinstance(config, RealTimeConfig)
        assert (config.width, config.steps, config.seed, config.lr, config.objective.area) == (16, 9, 2, 0.01, 4.0)
        assert config.crop_scale == (1.0, 1.0) and config.objective.keep == RealTimeConfig().objective.keep
        assert Setting(method="rise").training() is None and isinstance(Setting().training(), MaskerConfig)

    def test_smoke_makes_a_method_cheap(self):
        small = Setting(method="rise", options={"masks": 4000, "cells": 5}).smoke()
        assert small.options == {"cells": 5, **METHODS["rise"].quick} and small.val_images < 100
        assert Setting(method="grad-cam").smoke().options is None

    def test_kinds_and_costs(self):
        assert [kind_of(name) for name in ("masker", "real-time", "truth", "grad-cam")] == [
            *("trained", "trained", "baseline", "gradient")
        ]
        assert cost_of("rise", {"masks": 7}, (16, 16)) == (8, 0) and cost_of("real-time", {"lr": 1.0}, (16, 16)) == (1, 0)
        assert cost_of("truth", None, (16, 16)) == (0, 0)
        assert is_random("masker") and is_random("random") and not is_random("grad-cam") and not is_random("truth")

    def test_what_is_asked_for_can_be_made(self):
        asked = Setting(also=tuple(name for name in ALSO if "oracle" not in name))
        names = [metric.name for metric in measuring._requested(asked, Squares(4))]
        assert names == [name for name in asked.also if name != "cost"]
        with pytest.raises(ValueError, match="Squares is not drawn, so nobody knows what its objects hide"):
            measuring._requested(Setting(also=("SRG, oracle",)), Squares(4))


class TestScenes:
    def names(self, cache, **values):
        train, measured = parts.sources(Setting(train_images=16, val_images=3, **values), cache)
        return [source.batch(range(len(source))).names if len(source) else () for source in (train, measured)]

    def test_seeds_share_their_scenes_unless_fresh_ones_are_asked_for(self, cache):
        assert self.names(cache, seed=2)[1] == self.names(cache)[1]
        fresh = {"fresh_scenes": True, "method": "grad-cam"}
        first, other, hard = (self.names(cache, **fresh, **more)[1] for more in ({}, {"seed": 2}, {"seed": 2, "level": "hard"}))
        assert [name.split(" (")[0] for name in first] == [f"default val scene {number}" for number in (0, 1, 2)]
        assert [name.split(" (")[0] for name in other] == [f"default val scene {number}" for number in (2000, 2001, 2002)]
        assert [name.split()[0] for name in hard] == ["hard"] * 3

    def test_options_are_chosen_on_scenes_that_nothing_was_trained_on(self, cache):
        train, measured = self.names(cache, measured_on="train")
        assert len(train) == 16 and not set(train) & set(measured)
        assert [name.split(" (")[0] for name in measured] == [f"default train scene {number}" for number in (8000, 8001, 8002)]

    def test_a_scene_does_not_depend_on_where_the_others_begin(self, cache):
        _, late = parts.sources(Setting(val_images=2, fresh_scenes=True, seed=1, method="truth"), cache)
        again = parts.Scenes("val", count=1, first=1001, cache=None)
        assert torch.equal(again[0].image, late[1].image) and again[0].label == late[1].label
        assert torch.equal(again.erased([0]), late.erased([1]))

    def test_what_is_not_trained_needs_no_scenes_to_train_on(self, cache):
        train, measured = parts.sources(Setting(val_images=3, method="truth"), cache)
        assert len(train) == 0 and len(measured) == 3


class TestMeasuring:
    def test_maps_are_drawn_once_and_are_those_of_the_method(self):
        seen = []

        def method(images, targets, classifier):
            seen.extend(targets.tolist())
            return images.mean(dim=1, keepdim=True).clamp(0, 1)

        classifier, source = tiny_classifier(), Squares(20)
        setting = Setting(method="grad-cam", also=("cost",), precision="fp32")
        drawn = measuring.draw(setting, method, classifier, source)
        assert seen == source.labels.tolist()
        assert torch.equal(drawn["all"].maps, source.images.mean(dim=1, keepdim=True).clamp(0, 1))
        measured = measuring.measure(setting, drawn, classifier)["all"]["metrics"]
        assert seen == source.labels.tolist() and measured["milliseconds"] == drawn["all"].milliseconds > 0
        assert (measured["forward"], measured["backward"]) == METHODS["grad-cam"].cost()
        without = measuring.measure(dataclasses.replace(setting, also=None), drawn, classifier)["all"]["metrics"]
        assert not {"milliseconds", "forward", "backward"} & set(without)
        assert without == pytest.approx({name: measured[name] for name in without}, nan_ok=True)

    def test_the_threads_are_as_before(self):
        before = torch.get_num_threads()
        during = []

        def method(images, targets, classifier):
            during.append(torch.get_num_threads())
            return torch.ones_like(images[:, :1])

        for also in (("cost",), None):
            measuring.draw(Setting(method="grad-cam", also=also), method, tiny_classifier(), Squares(4))
        assert during == [1, before] and torch.get_num_threads() == before

    def test_the_truth_is_the_upper_bound(self, cache):
        setting = Setting(method="truth", val_images=16, also=("pointing", "deletion, oracle"), precision="fp32")
        classifier = scene_classifier()
        train, val = parts.sources(setting, cache)
        assert parts.made_method(setting, classifier, train) is None
        drawn = measuring.draw(setting, None, classifier, val)
        measured = measuring.measure(setting, drawn, classifier)["all"]["metrics"]
        assert measured["PxAP"] == pytest.approx(1) and measured["pointing"] == 1
        assert 0 <= measured["deletion, oracle"] <= 1

    @pytest.mark.parametrize("method", ["masker", "real-time", "smooth-grad"])
    def test_a_run_of_each_sort(self, method, cache, tmp_path):
        """From a setting to its pictures, as the notebook has it."""
        options = {"masker": None, "real-time": {"selector_steps": 1}, "smooth-grad": {"samples": 2}}[method]
        tiny = {"train_images": 8, "val_images": 9, "steps": 1, "batch_size": 4, "width": 4}
        setting = Setting(method=method, options=options, **tiny)
        classifier = scene_classifier()
        train, val = parts.sources(setting, cache)
        made = parts.made_method(setting, classifier, train)
        assert isinstance(made, Trained) == (method != "smooth-grad")
        drawn = measuring.draw(setting, made, classifier, val)
        assert 0 <= measuring.measure(setting, drawn, classifier)["all"]["metrics"]["LE"] <= 1
        measuring.save_maps(tmp_path / "maps.png", drawn)
        assert (tmp_path / "maps.png").stat().st_size > 100

    def test_the_seed_reaches_the_method(self, cache):
        made = [parts.made_method(Setting(method="random", seed=seed), tiny_classifier(), Squares(4)) for seed in (0, 0, 1)]
        first, again, other = (method(Squares(4).images, None, tiny_classifier()) for method in made)
        assert torch.equal(first, again) and not torch.equal(first, other)


class TestRepeatedRows:
    def test_each_row_comes_once_more(self, tmp_path):
        table = load_table(table_file(tmp_path, repeated={"hard": {"level": "hard"}, "wide": {"width": 128}}))
        names = ["plain", "other", "plain, hard", "other, hard", "plain, wide", "other, wide"]
        assert [row.name for row in table.rows] == names
        assert table.rows[3].parameters == {"tv": 0.1, "level": "hard"} and table.rows[3].label == "the other, hard"
        with pytest.raises(ValueError, match="repeated 'hard': 'seed' is no parameter of a table"):
            load_table(table_file(tmp_path, repeated={"hard": {"seed": 1}}))
        with pytest.raises(ValueError, match="rows 'plain' and 'plain, same' come to the same run"):
            load_table(table_file(tmp_path, repeated={"same": {"tv": 0.002}}))

    def test_the_command_of_a_method_makes_that_run(self, tmp_path):
        rows = [{"name": "plain", "modes": ["FIX"], "parameters": {"method": "rise", "options": {"masks": 5, "centred": True}}}]
        run = next(load_table(table_file(tmp_path, rows=rows)).runs())
        given = run.arguments()
        texts = dict(zip(given[1::3], given[2::3], strict=True))
        assert Setting.of_notebook(texts) == run.setting


def tables(tmp_path, le: dict[str, float], rows: list[dict]) -> tuple[Table, Results, Table]:
    """A made table of options with these LE, its results, and a table of methods with these rows."""
    tried_rows = [
        {"name": name, "modes": ["FIX"], "parameters": {"tv": round(0.1 + 0.01 * number, 2), "val_images": 20}}
        for number, name in enumerate(le)
    ]
    options = load_table(table_file(tmp_path, rows=tried_rows, seeds=[0], modes=["FIX"], baseline=next(iter(le))))
    finish(options, tmp_path / "runs", lambda run: le[run.row])
    make_table(options, tmp_path / "runs", tmp_path / "tables")
    found = read_results("trial", tmp_path / "tables")
    return options, found, load_table(table_file(tmp_path, rows=rows, seeds=[0], modes=["FIX"], baseline=rows[0]["name"]))


class TestChoosing:
    LE = {"one: a": 0.3, "one: b": 0.2, "two: a": 0.4, "two: b": 0.4}

    def test_the_lowest_le_is_taken_and_the_first_of_equals(self, tmp_path):
        options, found, methods = tables(
            tmp_path,
            self.LE,
            [
                {"name": "one", "parameters": {"tv": 0.11, "val_images": 9}},
                {"name": "one, hard", "parameters": {"tv": 0.11, "level": "hard"}},
                {"name": "two", "parameters": {"tv": 0.12}},
            ],
        )
        chosen = choose(options, found)
        assert {method: row.name for method, row in chosen.items()} == {"one": "one: b", "two": "two: a"}
        assert list(differing_rows(chosen, methods)) == []

    def test_what_differs_is_named(self, tmp_path):
        rows = [{"name": "one", "parameters": {"tv": 0.11}}, {"name": "one, hard", "parameters": {"tv": 0.1, "level": "hard"}}]
        options, found, methods = tables(tmp_path, self.LE, rows)
        hard, missing = differing_rows(choose(options, found), methods)
        assert "row 'one, hard'" in hard and "chosen was 'one: b'" in hard
        assert "has no row 'two'" in missing and "{'tv': 0.12}" in missing

    def test_the_command_says_so(self, tmp_path, monkeypatch, capsys):
        _, _, methods = tables(tmp_path, self.LE, [{"name": "one", "parameters": {"tv": 0.1}}])
        monkeypatch.setattr(command_line, "OPTIONS_TABLE", "trial")
        monkeypatch.setattr(command_line, "METHODS_TABLE", "later")
        monkeypatch.setattr(command_line, "project_root", lambda: tmp_path)
        options, _, _ = tables(tmp_path, self.LE, [{"name": "one", "parameters": {"tv": 0.1}}])
        made = tmp_path / "figures" / "tables"
        monkeypatch.setattr(command_line, "tables_of", lambda *_: ({"trial": options, "later": methods}, made))
        (tmp_path / "figures").mkdir()
        (tmp_path / "tables").rename(tmp_path / "figures" / "tables")
        assert command_line.main(["choose"]) == 1
        printed = capsys.readouterr().out
        assert printed.startswith("one: b\ntwo: a\n") and "row 'one'" in printed

    @pytest.mark.parametrize("name", ["one", "one, two: a"])
    def test_a_row_of_another_name_is_refused(self, tmp_path, name):
        table = load_table(table_file(tmp_path, rows=[{"name": name, "modes": ["FIX"]}], baseline=name))
        with pytest.raises(ValueError, match="call it 'METHOD: setting'"):
            tried(table)


class TestTables:
    def test_every_method_has_as_many_settings_to_choose_from(self):
        counts = {method: len(rows) for method, rows in tried(OPTIONS).items()}
        assert set(counts.values()) == {4}
        assert all(row.seeds == (0,) for row in OPTIONS.rows)

    def test_every_method_is_measured_on_both_levels(self):
        measured = {row.name for row in METHODS_OF_TABLE.rows}
        assert measured == {f"{name}{end}" for name in (*tried(OPTIONS), "random", "truth") for end in ("", ", hard")}
        used = {run.setting.method for run in METHODS_OF_TABLE.runs()}
        assert used == {"masker", "real-time", "truth", *(name for name in METHODS if ":" not in name)}

    def test_the_options_are_those_that_were_chosen(self):
        folder = project_root() / "figures" / "tables"
        if (folder / f"{OPTIONS_TABLE}.csv").is_file():
            chosen = choose(OPTIONS, read_results(OPTIONS_TABLE, folder))
        else:  # until then, the first of each
            chosen = {method: rows[0] for method, rows in tried(OPTIONS).items()}
        assert list(differing_rows(chosen, METHODS_OF_TABLE)) == []

    def test_what_the_fills_are_asked_of_has_the_options_of_the_methods(self):
        rows = {row.name: row for row in METHODS_OF_TABLE.rows}
        for row in FILLS_OF_TABLE.rows:
            same = {name: value for name, value in rows[row.name].parameters.items() if name not in MEASURED}
            assert row.parameters == same and row.modes == rows[row.name].modes

    def test_options_and_results_rest_on_other_scenes(self):
        assert {run.setting.measured_on for run in OPTIONS.runs()} == {"train"}
        for run in METHODS_OF_TABLE.runs():
            assert run.setting.measured_on == "val" and run.setting.fresh_scenes
            assert run.setting.val_images % 16 == 0 and len(METHODS_OF_TABLE.rows[0].seeds) * run.setting.val_images >= 500

    def test_casm_and_superpixels_are_as_their_configurations_say(self):
        layers = ("stem", "stage1", "stage2", "stage3", "stage4")
        schedule = {"batch_size", "pool_every", "masker_lr", "schedule", "warmup", "steps", "crop_scale", "checkpoint_every"}
        schedule |= {"precision"}
        for name, published in (
            *((f"CASM: {thinning}", MaskerConfig.casm(thinning, layers)) for thinning in ("F", "L", "FL", "L100")),
            *((f"superpixels: {count}", MaskerConfig.superpixels(count)) for count in (25, 50, 100)),
        ):
            (row,) = [row for row in OPTIONS.rows if row.name == name]
            config = OPTIONS.setting(row, row.modes[0], 0).config()
            for field in {each.name for each in dataclasses.fields(config)} - schedule:
                assert getattr(config, field) == getattr(published, field), (name, field)


def made_up(table: Table, le: dict[str, float]) -> Results:
    """Results of a table of methods: LE as given or 0.5, PxAP 1 less that, and the cost that is declared."""
    values = []
    for run in table.runs():
        forward, backward = cost_of(run.setting.method, run.setting.options, (96, 96))
        error = le.get(run.row, 0.5) + 0.01 * run.seed
        for metric, value in {"LE": error, "PxAP": 1 - error, "forward": forward, "backward": backward}.items():
            values.append((run.row, run.mode, metric, run.seed, value, "0"))
    seeds = pd.DataFrame(values, columns=["setting", "mode", "metric", "seed", "value", "address"])
    keys = ["setting", "mode", "metric"]
    means = [(*key, *t_interval(group["value"]), len(group)) for key, group in seeds.groupby(keys, sort=False)]
    summary = pd.DataFrame(means, columns=[*keys, "mean", "low", "high", "seeds"])
    return Results(summary, pd.DataFrame(), seeds, {}, {"table": table.name, "rows": rows_record(table)})


def in_order(values: dict[str, list[float]]) -> Results:
    """Results of a table of gradients that go by letters, and of a reference: {metric: a value each}, in each of three seeds."""
    names = [*"abcd", "nothing"]
    seeds = [
        (name, "FIX", metric, seed, value, "0")
        for metric, column in values.items()
        for seed in range(3)
        for name, value in zip(names, column, strict=True)
    ]
    frame = pd.DataFrame(seeds, columns=["setting", "mode", "metric", "seed", "value", "address"])
    summary = frame.groupby(["setting", "mode", "metric"], sort=False, as_index=False)["value"].mean()
    summary = summary.rename(columns={"value": "mean"}).assign(low=np.nan, high=np.nan, seeds=3)
    methods = dict.fromkeys(names, "gradient") | {"nothing": "random"}
    rows = {name: {"parameters": {"method": method}, "modes": ["FIX"]} for name, method in methods.items()}
    return Results(summary, pd.DataFrame(), frame, {}, {"rows": rows})


class TestRankings:
    RESULTS = in_order(
        {
            "LE": [0.1, 0.2, 0.3, 0.4, 0.9],
            "PxAP": [0.9, 0.8, 0.7, 0.6, 0.95],
            "SRG": [0.1, 0.2, 0.3, 0.4, 0.0],
            "pointing": [0.9, 0.8, 0.6, 0.7, 0.1],
            "insertion, mean": [0.9, 0.8, 0.6, 0.7, 0.1],
            "insertion, blur": [0.9, 0.8, 0.7, 0.6, 0.1],
            "insertion, oracle": [0.6, 0.7, 0.8, 0.9, 0.1],
            "mean": [0.5] * 5,
        }
    )

    def test_kendall_s_tau_by_hand(self):
        assert agreement(self.RESULTS, "LE", "PxAP")[0] == pytest.approx(1), "lower LE, higher PxAP; no reference counts"
        assert agreement(self.RESULTS, "LE", "SRG")[0] == pytest.approx(-1)
        assert agreement(self.RESULTS, "PxAP", "pointing") == pytest.approx((4 / 6,) * 3), "one pair of six differs"

    def test_what_orders_nothing_is_refused(self):
        with pytest.raises(ValueError, match="mean has no direction"):
            agreement(self.RESULTS, "LE", "mean")
        with pytest.raises(KeyError, match="no 'OM' in the table; its metrics are LE"):
            agreement(self.RESULTS, "LE", "OM")

    def test_the_figure_has_each_method_s_place_under_each_fill(self):
        (axis,) = ranks_figure(self.RESULTS, ["insertion"]).axes
        assert [line.get_ydata().tolist() for line in axis.lines] == [[1, 4, 1], [2, 3, 2], [4, 2, 3], [3, 1, 4]]
        texts = [text.get_text() for text in axis.texts]
        assert texts[:4] == list("abcd") and texts[4].startswith("τ -0.67") and texts[5].startswith("τ -1.00")
        assert axis.get_title() == "insertion (higher is better)"


class TestAgainstMasks:
    def test_the_final_model_is_compared_with_all_that_masks_on_the_default_level(self):
        pairs = against_masks(made_up(METHODS_OF_TABLE, {}))
        others = {other for _, other in pairs}
        assert {ours for ours, _ in pairs} == {("FIX", "FIX"), ("CA", "CA")} and len(pairs) == 2 * len(others)
        assert {("RISE", "FIX"), ("superpixels", "CA"), ("real-time", "FIX"), ("LIME", "FIX")} <= others
        names = {name for name, _ in others}
        assert not names & {"FIX", "CA", "truth", "random", "centre box", "Grad-CAM", "gradient"}
        assert not any("hard" in name for name in names)


class TestHolm:
    def test_it_decides_as_the_procedure_does(self):
        draws = np.random.default_rng(0)
        for _ in range(50):
            gains = draws.normal(draws.normal(0, 2, size=(6, 1)), 1, size=(6, 5))
            p = stats.ttest_1samp(gains, 0.3, axis=1).pvalue
            rejected = np.zeros(6, bool)
            for rank, number in enumerate(np.argsort(p)):
                if p[number] >= 0.05 / (6 - rank):
                    break
                rejected[number] = True
            levels = holm_levels(gains.tolist(), 0.3)
            ends = [t_interval(each, level=level)[1:] for each, level in zip(gains.tolist(), levels, strict=True)]
            assert [not low <= 0.3 <= high for low, high in ends] == rejected.tolist()

    def test_one_comparison_is_not_corrected(self):
        assert holm_levels([[0.1, 0.2, 0.4]]) == [0.95] and holm_levels([[0.3]]) == [0.95]

    def test_what_does_not_vary_is_clear(self):
        assert holm_levels([[1.0, 1.0], [0.0, 0.0]]) == [0.975, 0.95]


class TestFigures:
    def test_a_point_a_method_where_it_lies(self):
        results = made_up(METHODS_OF_TABLE, {"FIX": 0.1, "random": 0.9})
        figure = cost_figure(results, ["LE"])
        (axis,) = figure.axes
        assert axis.get_xscale() == "log" and axis.get_title() == "LE (lower is better)"
        dots = {tuple(map(float, line.get_xydata()[0])) for line in axis.lines if line.get_marker() == "o"}
        assert any(dot == pytest.approx((1.0, 0.12)) for dot in dots), "FIX costs one pass"
        assert any(dot == pytest.approx((3.0, 0.52)) for dot in dots), "a gradient two, and one back"
        assert min(passes for passes, _ in dots) == 1
        texts = [text.get_text() for text in axis.texts]
        names = [row.name for row in METHODS_OF_TABLE.rows if ", hard" not in row.name]
        assert sorted(texts) == sorted(names), "each once, and none of the hard level"
        dashed = [line.get_ydata()[0] for line in axis.lines if line.get_linestyle() == "--"]
        assert sorted(dashed) == pytest.approx([0.52, 0.52, 0.92]), "what looks at nothing"

    def test_names_do_not_lie_on_each_other(self):
        draws = np.random.default_rng(0)
        figure = cost_figure(made_up(METHODS_OF_TABLE, {row.name: draws.uniform() for row in METHODS_OF_TABLE.rows}), ["LE"])
        renderer = FigureCanvasAgg(figure).get_renderer()
        names = [text for text in figure.axes[0].texts if text.get_text() not in ("truth", "random", "centre box")]
        for name in names:
            name.update_positions(renderer)
        boxes = [Text.get_window_extent(name, renderer) for name in names]  # without the line to its point
        assert len({box.x0 for box in boxes}) > 5
        assert len(boxes) > 20
        assert not any(a.overlaps(b) for number, a in enumerate(boxes) for b in boxes[:number])

    def test_the_hard_level_has_its_own(self):
        results = made_up(METHODS_OF_TABLE, {})
        (axis,) = cost_figure(results, ["PxAP"], level="hard").axes
        assert "FIX" in [text.get_text() for text in axis.texts]
        with pytest.raises(ValueError, match="level='easy': the table has no row"):
            cost_figure(results, level="easy")

    def test_the_methods_have_this_figure_and_their_options_none(self, tmp_path, monkeypatch):
        results = made_up(METHODS_OF_TABLE, {})
        record = {**results.record, "notebook": "15_trial"}
        monkeypatch.setattr("maskerlib.experiments.figures.read_results", lambda *_: dataclasses.replace(results, record=record))
        monkeypatch.setitem(figures._OTHERWISE, FILLS_TABLE, (cost_figure, "_fills"))
        drawn = draw_all(tmp_path, tmp_path, [OPTIONS_TABLE, METHODS_TABLE, FILLS_TABLE])
        assert [path.name for path in drawn] == ["15_trial.png", "15_trial_fills.png"]

    def test_photographs_by_methods_in_blocks(self):
        methods = {"a": ("gradient", {}), "b": ("grad-cam", {}), "c": ("centre-box", {"area": 0.25})}
        figure = photographs_figure([torch.rand(3, 20, 30), torch.rand(3, 16, 16)], tiny_classifier(), methods, columns=2)
        shown = [axis for axis in figure.axes if axis.images]
        assert len(figure.axes) == 4 * 3 and len(shown) == 2 * 3 + 2 * 2
        assert [axis.get_title() for axis in figure.axes[:3]][1:] == ["a", "b"] and figure.axes[7].get_title() == "c"
        with pytest.raises(ValueError, match="there is no method 'grad-camm'"):
            photographs_figure([torch.rand(3, 16, 16)], tiny_classifier(), {"a": ("grad-camm", {})})


def test_the_plan_knows_what_a_method_should_take(tmp_path):
    rows = tuple(row for row in METHODS_OF_TABLE.rows if row.name in ("FIX", "RISE", "truth"))
    table = dataclasses.replace(METHODS_OF_TABLE, rows=rows)
    runs = [run for run in table.runs() if run.seed == 0]
    seconds = command_line.expected_seconds(runs, tmp_path)
    final, rise, truth = (seconds[run.setting.address()] for run in runs)
    assert truth < final < rise
    address = runs[1].setting.address()
    (tmp_path / address).mkdir()
    (tmp_path / address / "metrics.json").write_text(json.dumps({"seconds": 7.0}))
    again = command_line.expected_seconds([*runs, *(run for run in table.runs() if run.seed == 1)], tmp_path)
    learnt = [again[run.setting.address()] for run in table.runs() if run.row == "RISE" and run.seed < 2]
    assert learnt == [7.0, 7.0], "another seed does as much"
    assert again[runs[0].setting.address()] == final


def test_every_table_draws_a_figure_of_another_name():
    how = {name: figures._OTHERWISE.get(name, (None, "")) for name in KNOWN}
    names = [f"{KNOWN[name].notebook}{drawn[1]}" for name, drawn in how.items() if drawn is not None]
    assert len(set(names)) == len(names) == len(KNOWN) - 1, "the options have none"
