"""A new metric is one function: where it is found by itself, and what every metric has to keep to."""

import math
import pickle
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tiny import COLOURS, SIZE, Squares, tiny_classifier
from tiny_grid import table_file
from torch import Tensor, nn

from maskerlib.classifiers.classifier import Classifier
from maskerlib.data.samples import Sample, Source
from maskerlib.experiments.figures import difference_figure, interval_figure
from maskerlib.experiments.grid import load_table, unique
from maskerlib.experiments.measuring import draw, measure
from maskerlib.experiments.results import make_table, save_result
from maskerlib.experiments.settings import Setting
from maskerlib.experiments.tables import read_results, state
from maskerlib.masker.config import MaskerConfig
from maskerlib.masker.network import masker_for
from maskerlib.masker.trained import Trained
from maskerlib.metrics.entry import DIRECTIONS, Metric
from maskerlib.metrics.evaluation import evaluate
from maskerlib.metrics.evidence import NEEDS, Evidence
from maskerlib.metrics.pointing import pointing as pointing_metric
from maskerlib.metrics.registry import METRICS, ON_REQUEST, POOLED, better, columns, metric, requested
from maskerlib.metrics.tally import Tally
from maskerlib.metrics.truth import truth_map

BUILT_IN = tuple(METRICS)
EVERY = {**METRICS, **ON_REQUEST}
JUDGING = [name for name, each in EVERY.items() if each.direction]


@pytest.fixture
def restored() -> Iterator[None]:
    """Metrics that a test makes are gone after it."""
    kept = dict(METRICS)
    yield
    METRICS.clear()
    METRICS.update(kept)


def pointing(seen: Evidence) -> Tensor:
    """1 where the highest value lies in a box."""
    peak = seen.maps.flatten(1).argmax(dim=1, keepdim=True)
    return truth_map(None, seen.boxes, seen.size).flatten(1).gather(1, peak)[:, 0] > 0


@pytest.fixture
def toy(restored: None) -> None:
    about = {"says": "1 for a peak in a box", "source": "Zhang et al. (2018), pointing game", "needs": ("box",)}
    metric("toy peak", "higher is better", **about)(pointing)


class Known(Source):
    """The tiny squares, of which some images lack a label, a box or a mask."""

    class_names, size = COLOURS, (SIZE, SIZE)

    def __init__(self, count: int, *, label=(), box=(), mask=()) -> None:
        self.whole, self.lacking = Squares(count), {"label": set(label), "box": set(box), "mask": set(mask)}
        self.labels = torch.tensor([-1 if i in self.lacking["label"] else i % 4 for i in range(count)])

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, index: int) -> Sample:
        sample = self.whole[index]
        x0, y0, x1, y1 = sample.boxes[0].int().tolist()
        mask = torch.zeros(SIZE, SIZE, dtype=torch.bool)
        mask[y0:y1, x0:x1] = True
        lacks = {need for need, which in self.lacking.items() if index in which}
        return Sample(
            sample.image,
            None if "label" in lacks else sample.label,
            torch.zeros(0, 4) if "box" in lacks else sample.boxes,
            None if "mask" in lacks else mask,
            sample.name,
        )


def dim(images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
    return images.amax(dim=1, keepdim=True).clamp(0, 1)


class TestANewMetric:
    def test_is_a_column_between_those_that_judge_single_images_and_those_that_pool(self, toy):
        names = list(columns())
        judging = [name for name, each in METRICS.items() if each.direction]
        assert names[: len(judging) + 1] == [*judging, "PxAP"] and judging[-1] == "toy peak"
        assert columns()["toy peak"] == "higher is better" and better("toy peak") == "higher"

    def test_is_in_the_table_its_rows_and_its_reasons(self, toy):
        source = Known(6, box={1, 4})
        table, rows = evaluate({"dim": dim}, source, tiny_classifier(), per_image=True, truth=False, batch_size=4)
        found = rows.loc["dim", "toy peak"]
        assert found.isna().tolist() == [False, True, False, False, True, False]
        assert table.loc["dim", "toy peak"] == pytest.approx(found.mean()) and 0 < found.mean() <= 1
        table = evaluate({"dim": dim}, Known(3, box={0, 1, 2}), tiny_classifier())
        assert math.isnan(table.loc["dim", "toy peak"])
        assert table.attrs["missing"]["toy peak"] == table.attrs["missing"]["LE"] == "no image has a ground-truth box"

    def test_leaves_all_others_as_they_were(self, restored):
        before = evaluate({"dim": dim}, Known(6), tiny_classifier())
        metric("zero", "lower is better", says="nothing", source="here")(lambda seen: torch.zeros(len(seen)))
        after = evaluate({"dim": dim}, Known(6), tiny_classifier())
        pd.testing.assert_frame_equal(after.drop(columns="zero"), before, check_exact=True)
        assert after.loc["dim", "zero"] == 0

    def test_that_describes_comes_last_and_may_have_a_spread(self, restored):
        about = {"says": "the highest value", "spread": ("peak, std", "its standard deviation")}
        metric("peak", **about)(lambda seen: seen.maps.amax(dim=(1, 2, 3)))
        assert list(columns().items())[-2:] == [("peak", "the highest value"), ("peak, std", "its standard deviation")]
        assert better("peak") == ""
        maps = torch.rand(5, 1, SIZE, SIZE)
        table = evaluate({"saved": maps}, Known(5), tiny_classifier())
        expected = maps.amax(dim=(1, 2, 3)).double()
        assert table.loc["saved", "peak"] == pytest.approx(float(expected.mean()))
        assert table.loc["saved", "peak, std"] == pytest.approx(float(expected.std()))
        single = evaluate({"saved": maps[:1]}, Known(1), tiny_classifier())
        assert single.attrs["missing"] == dict.fromkeys(("std", "peak, std"), "there is only one image")

    def test_is_measured_kept_tabled_and_drawn(self, toy, tmp_path):
        """One function, and the runs, NAME.csv, the differences and the figures have it."""
        table, runs, into = load_table(table_file(tmp_path)), tmp_path / "runs", tmp_path / "tables"
        classifier, val = tiny_classifier(), Known(8)
        for address, run in unique(list(table.runs())).items():
            masker = masker_for(classifier, width=4, seed=run.seed + 10 * (run.row == "other")).eval()
            drawn = draw(Setting(), Trained(masker, classifier, MaskerConfig(), {}), classifier, val)
            measured = measure(Setting(), drawn, classifier)
            assert set(measured["all"]["by_class"]["red"]) >= {"OM", "LE", "F1", "SM", "toy peak"}
            save_result(runs / address, run.setting, measured, classifier, seconds=1.0)
            Image.fromarray(np.zeros((4, 8), dtype=np.uint8)).save(runs / address / "maps.png")
        make_table(table, runs, into)
        rows = pd.read_csv(into / "trial.csv")
        assert (rows["metric"] == "toy peak").sum() == 4  # two settings, two modes
        results = read_results("trial", into)
        assert 0 <= results.value("other", "CA", "toy peak")[0] <= 1
        assert set(results.paired["metric"]) >= {"toy peak", "LE"}
        for figure in (interval_figure(results, ["LE", "toy peak"]), difference_figure(results, ["LE", "toy peak"])):
            assert [axis.get_title() for axis in figure.axes] == ["LE (lower)", "toy peak (higher)"]
            assert figure.axes[1].lines

    def test_may_be_known_of_some_runs_only(self, toy, tmp_path):
        """A table that was made before the metric stays as it is, and takes a row that has it."""
        rows = [{"name": "plain"}, {"name": "other", "parameters": {"tv": 0.1}}]
        before = load_table(table_file(tmp_path, rows=rows))
        runs, into = tmp_path / "runs", tmp_path / "tables"
        tell(before, runs, {"LE": 0.5, "F1": 0.1})
        make_table(before, runs, into)
        assert state(before, into) == "current"
        after = load_table(table_file(tmp_path, rows=[*rows, {"name": "third", "parameters": {"tv": 0.2}}]))
        tell(after, runs, {"LE": 0.25, "F1": 0.2, "toy peak": 0.75}, only="third")
        make_table(after, runs, into)
        results = read_results("trial", into)
        assert results.value("third", "CA", "toy peak")[0] == pytest.approx(0.75)
        assert results.value("plain", "CA", "LE")[0] == 0.5 and results.difference("third", "CA", "LE")[0] == -0.25
        for setting in ("plain", "other"):
            with pytest.raises(KeyError, match="no toy peak"):
                results.value(setting, "CA", "toy peak")
        assert "toy peak" not in set(results.paired["metric"])  # the baseline has none
        for drawn in (interval_figure, difference_figure):
            assert drawn(results, ["LE", "toy peak"]).axes[1].get_title() == "toy peak (higher)"

    def test_that_some_runs_lack_is_not_compared_on_classes(self, tmp_path):
        rows = [{"name": "plain"}, {"name": "few", "parameters": {"class_share": 0.5}, "variants": ["unseen"]}]
        table = load_table(table_file(tmp_path, rows=rows))
        runs, into = tmp_path / "runs", tmp_path / "tables"
        tell(table, runs, {"LE": 0.5}, only="plain")
        tell(table, runs, {"LE": 0.25, "toy peak": 0.75}, only="few")
        make_table(table, runs, into)
        results = read_results("trial", into)
        assert results.difference("few", "CA", "LE")[0] == pytest.approx(-0.25)
        assert set(results.paired["metric"]) == {"LE"}


def tell(table, runs, values: dict[str, float], only: str = "") -> None:
    """Finished runs of a table, or of one row, that all found the same values, in each class as well."""
    for address, run in unique(list(table.runs())).items():
        if only in ("", run.row) and not (runs / address).exists():
            of_all = {"metrics": values, "by_class": {"cat": values, "dog": values}}
            measured = {"all": of_all, "unseen": {"metrics": values, "by_class": {"cat": values}}}
            save_result(runs / address, run.setting, measured, tiny_classifier(), seconds=1.0)
            Image.fromarray(np.zeros((4, 8), dtype=np.uint8)).save(runs / address / "maps.png")


@pytest.mark.parametrize("part", ["images", "maps", "masks", "classes"])
def test_a_metric_that_writes_over_what_others_look_at_is_named(part, restored):
    def careless(seen: Evidence) -> Tensor:
        getattr(seen, part).zero_()
        return torch.zeros(len(seen))

    metric("careless", says="nothing")(careless)
    with pytest.raises(ValueError, match=f"metric 'careless' changes the {part} in place, which others look at"):
        evaluate({"dim": dim}, Known(3), tiny_classifier())


class TestMaking:
    def test_a_function_stays_the_function_that_it_is(self, restored):
        assert metric("pointing", says="a peak")(pointing) is pointing

    def test_a_cell_that_is_run_again_replaces_its_metric_where_it_stands(self, restored):
        def cell(value: float) -> None:
            @metric("constant", says="a number", spread=("constant, std", "none"))
            def constant(seen: Evidence) -> Tensor:
                return torch.full((len(seen),), value)

        cell(1.0)
        metric("last", says="another")(pointing)
        cell(2.0)
        assert list(METRICS)[-2:] == ["constant", "last"]
        assert evaluate({"dim": dim}, Known(2), tiny_classifier()).loc["dim", "constant"] == 2

    @pytest.mark.parametrize("name", ["LE", "PxAP", "std", "name"])
    def test_a_name_that_is_taken_is_refused(self, restored, name):
        with pytest.raises(ValueError, match=f"there is a column '{name}' already; choose another name"):
            metric(name, says="something")(pointing)
        with pytest.raises(ValueError, match=f"there is a column '{name}' already; choose another name"):
            metric("pointing", says="something", spread=(name, "its spread"))(pointing)
        assert tuple(METRICS) == BUILT_IN

    @pytest.mark.parametrize(
        ("about", "message"),
        [
            (
                {"direction": "higher", "says": "x", "source": "y"},
                "direction='higher' is unknown; choose one of lower is better",
            ),
            ({"says": "x", "needs": ("boxes",)}, "need='boxes' is unknown; choose one of label, box, mask, class"),
            ({"says": ""}, "metric 'new': says is empty"),
            ({"says": "x", "direction": "lower is better"}, "metric 'new': source is empty"),
        ],
    )
    def test_what_is_said_wrongly_is_refused(self, about, message):
        with pytest.raises(ValueError, match=message):
            Metric("new", **{"direction": "", "function": pointing, **about})

    @pytest.mark.parametrize("value", [torch.zeros(3, 1), torch.zeros(2), torch.tensor(0.0), 1.0, None])
    def test_anything_but_a_number_an_image_is_refused_by_name(self, restored, value):
        metric("odd", says="odd")(lambda seen: value)
        with pytest.raises(ValueError, match=r"metric 'odd' returned .*, expected \(3,\), a number for each image"):
            evaluate({"dim": dim}, Known(3), tiny_classifier())


def full(value: float, name: str = "mine", **about) -> Metric:
    about = {"says": "a number", "source": "here", **about}
    return Metric(name, "higher is better", lambda seen: torch.full((len(seen),), value), **about)


class TestOnRequest:
    NAMES = ("insertion", "deletion", "SRG", "pointing")

    def test_nothing_is_added_unless_asked(self):
        assert tuple(ON_REQUEST) == self.NAMES and not set(self.NAMES) & set(columns())
        table = evaluate({"dim": dim}, Known(3), tiny_classifier())
        assert list(table.columns) == list(columns()) and "requested" not in table.attrs

    def test_columns_follow_those_that_judge_single_images_in_the_order_of_the_question(self):
        own = Metric("peak", "", lambda seen: seen.maps.amax(dim=(1, 2, 3)), says="the highest value")
        asked = ("pointing", full(2.0), "deletion", own)
        table, rows = evaluate({"dim": dim}, Known(3), tiny_classifier(), metrics=asked, per_image=True)
        before = list(columns())
        at = before.index("PxAP")
        assert list(table.columns) == [*before[:at], "pointing", "mine", "deletion", *before[at:], "peak"]
        assert rows["mine"].tolist() == [2.0] * 3 and table.loc["dim", "mine"] == 2
        assert list(table.attrs["requested"]) == ["pointing", "mine", "deletion", "peak"]
        assert table.attrs["requested"]["mine"] == {}
        plain = evaluate({"dim": dim}, Known(3), tiny_classifier())
        pd.testing.assert_frame_equal(table[before], plain, check_exact=True)
        pd.testing.assert_frame_equal(rows[[*rows.columns.intersection(before)]], _rows_of(Known(3)), check_exact=True)

    @pytest.mark.parametrize("asked", ["pointing", pointing_metric(), ["pointing"]])
    def test_one_may_be_asked_alone(self, asked):
        assert list(requested(asked)) == ["pointing"]

    def test_what_is_missing_has_a_reason(self):
        table = evaluate({"dim": dim}, Known(3, box={0, 1, 2}), tiny_classifier(), metrics="pointing")
        assert table.attrs["missing"]["pointing"] == "no image has a ground-truth box"
        assert math.isnan(table.loc["dim", "pointing"])

    def test_their_direction_is_known(self):
        assert [better(name) for name in self.NAMES] == ["higher", "lower", "higher", "higher"]

    @pytest.mark.parametrize(
        ("asked", "message"),
        [
            ("inserting", "metric 'inserting' is unknown; those on request are insertion, deletion, SRG, pointing, or give a"),
            ("LE", "metric 'LE' is unknown"),
            (full(1.0, "PxAP"), "metric 'PxAP': there is a column 'PxAP' already; choose another name"),
            (("SRG", "SRG"), "metric 'SRG': there is a column 'SRG' already"),
            ((full(1.0), full(2.0, "std")), "there is a column 'std' already"),
        ],
    )
    def test_what_cannot_be_a_column_is_refused_before_anything_is_computed(self, asked, message):
        def never(*_):
            raise AssertionError("a map was drawn")

        with pytest.raises(ValueError, match=message):
            evaluate({"never": never}, Known(3), tiny_classifier(), metrics=asked)

    def test_a_registered_metric_of_the_same_name_stands_in_the_way(self, toy):
        with pytest.raises(ValueError, match="there is a column 'toy peak' already"):
            requested(pointing_metric(name="toy peak"))
        assert list(requested("pointing")) == ["pointing"]


def _rows_of(source: Source) -> pd.DataFrame:
    return evaluate({"dim": dim}, source, tiny_classifier(), per_image=True)[1].drop(columns="name")


class TestNeeds:
    def test_reasons_follow_from_needs(self, restored):
        for names in (("mask",), ("class", "box"), ("label", "mask"), ("box",), ()):
            metric(" and ".join(names) or "none", says="x", needs=names)(
                lambda seen: torch.full((len(seen),), torch.nan)
            )
        table = evaluate(
            {"dim": dim}, Known(4, label={0, 1}, box={0, 1, 2, 3}, mask={3}), tiny_classifier(), batch_size=2
        )
        missing = table.attrs["missing"]
        assert missing["mask"] == missing["label and mask"] == "some images have no pixel mask"
        assert missing["box"] == "no image has a ground-truth box"
        assert (
            missing["class and box"]
            == "no image has both a class that the evaluation classifier has and a ground-truth box"
        )
        assert missing["OM"] == "no image has both a label and a ground-truth box"
        assert missing["none"] == "it is undefined for every image"
        assert table[list(missing)].isna().all(axis=None)

    def test_a_metric_of_masks_does_not_depend_on_the_batches(self, restored):
        """Images that share a batch with one without a mask have none either; so all count, or none does."""
        metric("covered", says="share", needs=("mask",))(lambda seen: (seen.maps[:, 0] * seen.masks).mean(dim=(1, 2)))
        for size in (1, 2, 64):
            some = evaluate({"dim": dim}, Known(4, mask={3}), tiny_classifier(), batch_size=size)
            assert math.isnan(some.loc["dim", "covered"])
            assert evaluate({"dim": dim}, Known(4), tiny_classifier(), batch_size=size).loc["dim", "covered"] > 0

    def test_a_function_never_sees_a_batch_of_which_no_image_has_what_it_needs(self, restored):
        seen_boxes = []
        metric("boxes", says="x", needs=("box",))(
            lambda seen: seen_boxes.append(len(seen.boxes)) or torch.zeros(len(seen))
        )
        evaluate({"dim": dim}, Known(6, box={0, 1, 2}), tiny_classifier(), batch_size=2)
        assert seen_boxes == [2, 2]

    def test_a_box_outside_the_image_is_none(self):
        outside = (torch.tensor([[20.0, 0, 30, 9]]), torch.tensor([[-4.0, -4, 8, 8]]))
        assert evidence(dim_maps(2), boxes=outside).has["box"].tolist() == [False, True]


# The contract of every metric


class Brightness(nn.Module):
    """Logits of two classes: how bright the image is, and how dark."""

    def forward(self, images: Tensor) -> Tensor:
        bright = 40 * (images.mean(dim=(1, 2, 3)) - 0.5)
        return torch.stack([bright, -bright], dim=1)


JUDGE = Classifier(Brightness(), mean=(0.0,) * 3, std=(1.0,) * 3, input_size=(8, 8), name="brightness").eval()


def dim_maps(count: int) -> Tensor:
    return torch.rand(count, 1, 8, 8) * 0.9 + 0.05


def evidence(maps: Tensor, **changes) -> Evidence:
    """Bright squares, the class 0, in the top left corners of dark images."""
    count = len(maps)
    images, masks = torch.zeros(count, 3, 8, 8), torch.zeros(count, 8, 8, dtype=torch.bool)
    images[..., :4, :4] = 1
    masks[:, :4, :4] = True
    given = {
        "images": images,
        "maps": maps,
        "boxes": (torch.tensor([[0.0, 0, 4, 4]]),) * count,
        "masks": masks,
        "question": torch.tensor([[2.0, 1.0]]).repeat(count, 1),
        "answers": torch.zeros(count, dtype=torch.int64),
        "classes": torch.zeros(count, dtype=torch.int64),
        "classifier": JUDGE,
    }
    return Evidence(**{**given, **changes})


def lacking(need: str, which: int, count: int) -> dict:
    """The fields of an `Evidence` in which the image `which` lacks a need; of masks all of a batch do."""
    unknown = torch.where(torch.arange(count) == which, -1, 0)
    boxes = tuple(torch.zeros(0, 4) if index == which else torch.tensor([[0.0, 0, 4, 4]]) for index in range(count))
    return {
        "label": {"answers": unknown},
        "box": {"boxes": boxes},
        "mask": {"masks": None},
        "class": {"classes": unknown},
    }[need]


@pytest.mark.parametrize("name", EVERY)
class TestContract:
    def test_a_number_an_image_in_double_precision(self, name):
        values = EVERY[name](evidence(dim_maps(5)))
        assert values.shape == (5,) and values.dtype == torch.float64 and values.isfinite().all()

    def test_nan_where_the_image_lacks_what_it_needs_and_nowhere_else(self, name):
        for need in NEEDS:
            values = EVERY[name](evidence(dim_maps(4), **lacking(need, 2, 4)))
            expected = [need in EVERY[name].needs and (need == "mask" or index == 2) for index in range(4)]
            assert values.isnan().tolist() == expected, need

    def test_the_order_and_the_company_of_images_do_not_matter(self, name):
        maps, order = dim_maps(6), torch.tensor([4, 0, 5, 2, 1, 3])
        question = torch.randn(6, 2)
        images = torch.rand(6, 3, 8, 8)
        values = EVERY[name](evidence(maps, images=images, question=question))
        turned = EVERY[name](evidence(maps[order], images=images[order], question=question[order]))
        assert torch.allclose(turned, values[order], atol=1e-6)
        alone = [
            EVERY[name](evidence(maps[i, None], images=images[i, None], question=question[i, None])) for i in range(6)
        ]
        assert torch.allclose(torch.cat(alone), values, atol=1e-6)

    def test_it_is_said_what_it_is_and_whence_it_comes(self, name):
        kind = EVERY[name]
        assert kind.name == name and kind.says and set(kind.needs) <= set(NEEDS)
        assert not kind.direction or (kind.direction in DIRECTIONS and kind.source)
        assert columns(ON_REQUEST)[name] == (kind.direction or kind.says)

    def test_nothing_that_it_is_shown_is_changed(self, name):
        seen = evidence(dim_maps(3))
        before = {
            part: getattr(seen, part).clone() for part in ("images", "maps", "masks", "question", "answers", "classes")
        }
        EVERY[name](seen)
        assert all(torch.equal(getattr(seen, part), value) for part, value in before.items())


@pytest.mark.parametrize("name", JUDGING)
def test_the_true_map_is_better_than_its_opposite(name):
    """The object and nothing else, against everything but the object: the direction says which value is the better."""
    best = torch.zeros(1, 1, 8, 8)
    best[..., :4, :4] = 1
    good, bad = (float(EVERY[name](evidence(maps))) for maps in (best, 1 - best))
    assert (good < bad) if better(name) == "lower" else (good > bad)


def test_the_columns_are_those_of_the_study_in_this_order():
    study = "OM LE F1 F1a SM PxAP MaxBoxAcc MaxBoxAccV2 mean std binarised TV entropy top1".split()
    assert [name for name in columns() if name in study] == study
    directions = {"lower": ["OM", "LE", "SM"], "higher": ["F1", "F1a", "PxAP", "MaxBoxAcc", "MaxBoxAccV2"]}
    for direction, names in directions.items():
        assert [name for name in study if better(name) == direction] == names
    assert set(POOLED.values()) == {"higher is better"} and better("no such column") == ""


def test_what_is_kept_of_a_new_metric_does_not_grow_with_the_images(toy):
    sizes = []
    for count in (1, 40):
        tally = Tally(None, "none")
        for _ in range(count):
            tally.update(evidence(dim_maps(4)))
        sizes.append(len(pickle.dumps(tally)))
    assert abs(sizes[1] - sizes[0]) < 64  # bytes; larger counts take a few more
