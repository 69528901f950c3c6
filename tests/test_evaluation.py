"""The table: each column against the function that defines it, and what it says when something is missing."""

import dataclasses
import json
import math
import pickle

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from captum.attr import Occlusion
from sklearn.metrics import average_precision_score
from torch import Tensor, nn
from torch.nn import functional as F

from maskerlib.classifiers.classifier import Classifier
from maskerlib.data.samples import Sample, Source
from maskerlib.masker.config import MaskerConfig
from maskerlib.masker.network import masker_for
from maskerlib.masker.trained import Trained
from maskerlib.methods.asking import ask
from maskerlib.methods.captum_method import captum_method
from maskerlib.methods.centre_box import centre_box
from maskerlib.methods.entry import Unsupported
from maskerlib.methods.grad_cam import grad_cam
from maskerlib.methods.random_map import random_map
from maskerlib.methods.registry import method_named
from maskerlib.metrics.boxes import predicted_boxes
from maskerlib.metrics.curves import BoxCurve
from maskerlib.metrics.evaluation import check_saliency, evaluate
from maskerlib.metrics.evidence import Evidence
from maskerlib.metrics.per_image import (
    crop_and_resize,
    f1,
    localisation_error,
    mask_statistics,
    official_metric,
    saliency_metric,
)
from maskerlib.metrics.registry import columns
from maskerlib.metrics.tally import Tally
from maskerlib.training.classifier import accuracy


class Squares(Source):
    """One bright square of one of three colours in a dim image: the colour is the class."""

    class_names = ("red", "green", "blue")
    size = (16, 16)

    def __init__(self, count: int = 7, *, label=True, boxes=True, mask=True) -> None:
        self.count, self.label, self.boxes, self.mask = count, label, boxes, mask

    @property
    def labels(self) -> Tensor:
        known = set(range(self.count)) if self.label is True else self.label or set()
        return torch.tensor([index % 3 if index in known else -1 for index in range(self.count)], dtype=torch.int64)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        generator = torch.Generator().manual_seed(index)
        image = torch.rand(3, 16, 16, generator=generator) * 0.3
        x, y, side = (torch.randint(*ends, (), generator=generator).item() for ends in ((0, 8), (0, 8), (4, 9)))
        image[index % 3, y : y + side, x : x + side] = 1
        mask = torch.zeros(16, 16, dtype=torch.bool)
        mask[y : y + side, x : x + side] = True

        def known(what: bool | set[int]) -> bool:
            return what if isinstance(what, bool) else index in what

        return Sample(
            image=image,
            label=label if (label := int(self.labels[index])) >= 0 else None,
            boxes=torch.tensor([[x, y, x + side, y + side]]).float() if known(self.boxes) else torch.zeros(0, 4),
            mask=mask if known(self.mask) else None,
            name=f"square {index}",
        )


class Brightest(nn.Module):
    def __init__(self, offset: int = 0) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 3, 1, bias=False)
        with torch.no_grad():
            self.stem.weight.copy_(torch.eye(3).roll(offset, 0)[..., None, None])
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(20 * self.stem(x).mean(dim=(2, 3)))


def classifier(offset: int = 0, name: str = "brightest") -> Classifier:
    options = {"mean": (0.2,) * 3, "std": (1,) * 3, "input_size": (16, 16)}
    return Classifier(Brightest(offset), ("stem",), class_names=Squares.class_names, name=name, **options)


def bright(images: Tensor, targets: Tensor, network: Classifier) -> Tensor:
    """The brightest channel, blurred, below 1 where the object is dim: a map of many levels."""
    blurred = F.avg_pool2d(images.amax(dim=1, keepdim=True), 3, stride=1, padding=1)
    return blurred.clamp(0, 1)


STUDY = set("OM LE F1 F1a SM PxAP MaxBoxAcc MaxBoxAccV2 mean std binarised TV entropy top1".split())
METHODS = {"bright": bright, "centre box": centre_box(), "random": random_map(), "Grad-CAM": grad_cam()}


def test_every_column_is_the_mean_of_its_metric():
    source, judge = Squares(), classifier().eval()
    table = evaluate(METHODS, source, judge, batch_size=3, truth=True, precision="fp32")
    assert list(table.index) == [*METHODS, "truth"] and list(table.columns) == list(columns())
    batch = source.batch(range(len(source)))
    for name, method in METHODS.items():
        maps, row = method(batch.images, batch.labels, judge), table.loc[name]
        predicted, logits = predicted_boxes(maps), judge(batch.images).detach()
        best, mean = f1(maps, batch.boxes)
        curve = BoxCurve()
        curve.update(maps, batch.boxes)
        statistics = mask_statistics(maps)
        expected = {
            "OM": official_metric(predicted, batch.boxes, logits, batch.labels).mean(),
            "LE": localisation_error(predicted, batch.boxes).mean(),
            "F1": best.mean(),
            "F1a": mean.mean(),
            "SM": saliency_metric(batch.images, predicted, batch.labels, judge).mean(),
            "PxAP": average_precision_score(batch.masks.flatten(), (maps * 1000).long().flatten()),
            "MaxBoxAcc": curve.max_box_acc(),
            "MaxBoxAccV2": curve.max_box_acc_v2(),
            "std": statistics["mean"].std(),
            "top1": 1.0,
            **{key: value.mean() for key, value in statistics.items()},
        }
        expected = {key: float(value) for key, value in expected.items()}
        assert row[list(expected)].to_dict() == pytest.approx(expected, abs=1e-5), name
        assert table.attrs["LE_sweep"][name] == pytest.approx(curve.localisation_error().tolist())


def test_truth_is_the_upper_bound():
    table = evaluate(METHODS, Squares(), classifier(), truth=True)
    truth = table.loc["truth"]
    assert truth[["OM", "LE", "F1", "F1a", "PxAP", "MaxBoxAcc", "MaxBoxAccV2"]].tolist() == [
        0,
        0,
        1,
        1,
        1,
        1,
        1,
    ]
    assert truth["LE"] <= table["LE"].min() and truth["PxAP"] >= table["PxAP"].max()
    boxes_only = evaluate({}, Squares(mask=False), classifier(), truth=True).loc["truth"]
    assert boxes_only[["LE", "F1", "MaxBoxAcc"]].tolist() == [0, 1, 1] and math.isnan(boxes_only["PxAP"])


def test_batch_size_changes_nothing():
    tables = [evaluate(METHODS, Squares(10), classifier(), batch_size=size).to_numpy() for size in (1, 4, 64)]
    np.testing.assert_allclose(tables[0], tables[2], atol=1e-6)
    np.testing.assert_allclose(tables[1], tables[2], atol=1e-6)


def test_workers_change_nothing():
    results = [evaluate(METHODS, Squares(10), classifier(), per_image=True, batch_size=4, workers=number) for number in (0, 2)]
    for alone, helped in zip(*results, strict=True):
        pd.testing.assert_frame_equal(alone, helped, check_exact=True)


def test_each_number_uses_its_own_classifier():
    """The explained classifier is always wrong; SM still asks the evaluation classifier."""
    seen = {}

    def spy(images: Tensor, targets: Tensor, network: Classifier) -> Tensor:
        seen[network.name] = targets.tolist()
        return bright(images, targets, network)

    judge, wrong = classifier(), classifier(1, "wrong")
    table = evaluate({"own": spy, "other": spy}, Squares(6), judge, explained={"other": wrong})
    assert table["top1"].tolist() == [1, 0] and table.loc["other", "OM"] == 1
    assert table.loc["own", "SM"] == table.loc["other", "SM"]
    assert table.loc["own", "LE"] == table.loc["other", "LE"] == table.loc["own", "OM"]
    assert seen == {"brightest": [0, 1, 2, 0, 1, 2], "wrong": [0, 1, 2, 0, 1, 2]}
    assert table.attrs["classifier"] == {"name": "brightest", "fingerprint": judge.fingerprint()}
    assert table.attrs["explained"]["other"] == {"name": "wrong", "fingerprint": wrong.fingerprint()}
    assert table.attrs["explained"]["own"] == table.attrs["classifier"]


def test_without_labels_the_target_is_what_the_explained_classifier_predicts():
    seen = []

    def spy(images: Tensor, targets: Tensor, network: Classifier) -> Tensor:
        seen.append(targets.tolist())
        return bright(images, targets, network)

    source = Squares(3, label=False)
    table = evaluate({"a": spy, "b": spy}, source, classifier(), explained={"b": classifier(1, "shifted")})
    assert seen == [[0, 1, 2], [1, 2, 0]]
    assert table[["OM", "top1"]].isna().all(axis=None) and table[["LE", "SM", "PxAP"]].notna().all(axis=None)
    assert set(table.attrs["missing"]) == {"OM", "top1"}
    assert table.loc["b", "SM"] > table.loc["a", "SM"]  # the class it is asked for is not in the image


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        (Squares(4), set()),
        (Squares(4, mask=False), {"PxAP"}),
        (Squares(4, mask={0, 1, 2}), {"PxAP"}),
        (Squares(4, boxes=False), {"OM", "LE", "F1", "F1a", "MaxBoxAcc", "MaxBoxAccV2"}),
        (Squares(4, label={0, 1}, boxes={2, 3}), {"OM"}),
        (Squares(1), {"std"}),
        (
            Squares(4, label=False, boxes=False, mask=False),
            {"OM", "LE", "F1", "F1a", "MaxBoxAcc", "MaxBoxAccV2", "PxAP", "top1"},
        ),
    ],
)
def test_what_is_missing_is_nan_with_a_reason(source, missing):
    table = evaluate({"bright": bright}, source, classifier(), batch_size=2)
    assert set(table.columns[table.isna().all()]) & STUDY == missing
    assert set(table.attrs["missing"]) & STUDY == missing and all(table.attrs["missing"].values())


class TestUnsupported:
    """A method that has no rule for the network; `since`: from its second batch on."""

    @staticmethod
    def ruleless(since: int = 0):
        calls = []

        def method(images: Tensor, targets: Tensor, network: Classifier) -> Tensor:
            calls.append(len(images))
            if len(calls) > since:
                raise Unsupported(f"no rule for Dropout in {network.name}; ask Grad-CAM")
            return bright(images, targets, network)

        return method, calls

    @pytest.mark.parametrize("since", [0, 1])
    def test_its_row_is_empty_and_every_other_is_as_it_was(self, since):
        method, calls = self.ruleless(since)
        with pytest.warns(UserWarning, match="^method 'ruleless' is left out, its row is NaN: no rule for Dropout") as warned:
            table, rows = evaluate(
                {"bright": bright, "ruleless": method, "random": random_map()}, Squares(7), classifier(), batch_size=3,
                per_image=True, truth=True,
            )
        assert len(warned) == 1 and warned[0].filename == __file__ and len(calls) == since + 1
        assert list(table.index) == ["bright", "ruleless", "random", "truth"] and table.loc["ruleless"].isna().all()
        plain, others = evaluate(
            {"bright": bright, "random": random_map()}, Squares(7), classifier(), batch_size=3, per_image=True, truth=True
        )
        pd.testing.assert_frame_equal(table.drop("ruleless"), plain)
        pd.testing.assert_frame_equal(rows.drop("ruleless", level="method"), others)
        own = rows.loc["ruleless"]
        assert own.index.tolist() == list(range(7)) and own["name"].tolist() == others.loc["bright", "name"].tolist()
        assert own.drop(columns="name").isna().all(axis=None)
        attrs = json.loads(json.dumps(table.attrs))
        assert attrs["unsupported"] == {"ruleless": "no rule for Dropout in brightest; ask Grad-CAM"}
        assert plain.attrs["unsupported"] == {} and attrs["missing"] == {} == plain.attrs["missing"]
        assert attrs["LE_sweep"].pop("ruleless") == [] and attrs["LE_sweep"] == plain.attrs["LE_sweep"]

    def test_what_the_images_lack_is_said_of_the_others(self):
        with pytest.warns(UserWarning, match="no rule"):
            table = evaluate({"ruleless": self.ruleless()[0], "bright": bright}, Squares(4, boxes=False), classifier())
        assert table.attrs["missing"]["LE"] == "no image has a ground-truth box"

    def test_alone_it_is_a_row_as_well(self):
        with pytest.warns(UserWarning, match="no rule"):
            table = evaluate({"ruleless": self.ruleless()[0]}, Squares(4), classifier())
        assert table.loc["ruleless"].isna().all() and table.attrs["images_with"] == {"label": 4, "boxes": 4, "mask": 4}

    def test_one_of_the_registry_that_does_not_suit(self):
        network = classifier()
        network.network.stem = nn.Sequential(network.network.stem, nn.SiLU())
        methods = {name: method_named(name, network) for name in ("guided-backprop", "gradient")}
        with pytest.warns(UserWarning, match="method 'guided-backprop' is left out"):
            table = evaluate(methods, Squares(4), network)
        assert table["SM"].isna().tolist() == [True, False] and list(table.attrs["unsupported"]) == ["guided-backprop"]

    def test_any_other_error_still_stops(self):
        def broken(images: Tensor, targets: Tensor, network: Classifier) -> Tensor:
            raise ValueError("a slip")

        with pytest.raises(ValueError, match="a slip"):
            evaluate({"broken": broken, "bright": bright}, Squares(4), classifier())


def test_images_without_a_box_are_left_out_of_the_box_metrics_only():
    some = evaluate({"bright": bright}, Squares(6, boxes={0, 2, 5}), classifier(), batch_size=2)
    _, rows = evaluate({"bright": bright}, Squares(6), classifier(), per_image=True)
    kept = rows.loc["bright"].loc[[0, 2, 5]]
    for column in ("LE", "OM", "F1"):
        assert some.loc["bright", column] == pytest.approx(kept[column].mean())
    assert some.loc["bright", "SM"] == pytest.approx(rows["SM"].mean())
    assert some.attrs["images_with"] == {"label": 6, "boxes": 3, "mask": 6}


def test_per_image_rows_average_to_the_table():
    table, rows = evaluate(METHODS, Squares(5), classifier(), batch_size=2, per_image=True, truth=True)
    assert rows.index.names == ["method", "image"] and len(rows) == 25
    assert rows.loc["Grad-CAM"].index.tolist() == list(range(5))
    assert rows.loc["bright", "name"].tolist() == [f"square {index}" for index in range(5)]
    columns = ["OM", "LE", "F1", "F1a", "SM", "mean", "binarised", "TV", "entropy", "top1"]
    means = rows.groupby(level="method", sort=False)[columns].mean()
    assert list(means.index) == list(table.index)
    np.testing.assert_allclose(means.to_numpy(), table[columns].to_numpy(), atol=1e-6)


def test_attributes_say_what_the_numbers_rest_on_and_are_plain():
    options = {"thresholds": [0.25, 0.5], "normalise": "minmax", "precision": "fp32"}
    table = evaluate({"bright": bright}, Squares(4), classifier(), **options)
    attrs = json.loads(json.dumps(table.attrs))
    assert attrs["images"] == 4 and attrs["images_with"] == {"label": 4, "boxes": 4, "mask": 4}
    assert attrs["thresholds"] == [0.25, 0.5] and len(attrs["LE_sweep"]["bright"]) == 2
    assert (attrs["normalise"], attrs["precision"], attrs["pixel_bins"]) == ("minmax", "fp32", 1000)
    assert attrs["missing"] == {}
    assert table.copy().attrs == table.attrs


def test_normalise_concerns_the_shared_thresholds_only():
    """Each map is scaled by another factor: minmax undoes it, and nothing else notices."""

    def scaled(images: Tensor, targets: Tensor, network: Classifier) -> Tensor:
        maps = images.amax(dim=1, keepdim=True)
        return (maps - maps.amin(dim=(2, 3), keepdim=True)) * (0.05 + 0.45 * targets.view(-1, 1, 1, 1))

    plain, stretched = (
        evaluate({"a": scaled}, Squares(9), classifier(), normalise=how).loc["a"] for how in ("none", "minmax")
    )
    same = ["OM", "LE", "F1", "F1a", "SM", "mean", "binarised"]
    assert plain[same].tolist() == stretched[same].tolist()
    assert plain["PxAP"] < stretched["PxAP"] and plain["MaxBoxAccV2"] <= stretched["MaxBoxAccV2"]


def test_classifiers_are_evaluated_in_eval_mode_and_left_as_they_were():
    judge, other = classifier(), classifier(1, "other")
    judge.train()
    other.requires_grad_(False)
    modes = []

    def spy(images: Tensor, targets: Tensor, network: Classifier) -> Tensor:
        modes.append(network.training or network.network.drop.training)
        return bright(images, targets, network)

    first, second = (evaluate({"a": spy, "b": spy}, Squares(4), judge, explained={"b": other}) for _ in range(2))
    assert first.equals(second) and not any(modes)  # dropout would change SM
    assert judge.training and judge.network.drop.training and other.training
    assert all(weight.requires_grad for weight in judge.parameters())
    assert not any(weight.requires_grad for weight in other.parameters())


# Errors


def returns(value):
    return lambda images, targets, network: value(images) if callable(value) else value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            lambda images: torch.zeros(len(images), 16, 16),
            r"\(2, 16, 16\), expected a tensor \(2, 1, 16, 16\)",
        ),
        (lambda images: torch.zeros(len(images), 1, 8, 8), r"\(2, 1, 8, 8\), expected"),
        (lambda images: torch.zeros(1, 1, 16, 16), r"\(1, 1, 16, 16\), expected"),
        (None, "NoneType, expected"),
        (lambda images: np.zeros((len(images), 1, 16, 16)), "ndarray, expected"),
        (lambda images: torch.full((len(images), 1, 16, 16), float("nan")), "NaN or infinity"),
        (lambda images: torch.full((len(images), 1, 16, 16), 255.0), "255"),
        (lambda images: torch.full((len(images), 1, 16, 16), -1.0), "-1"),
    ],
)
def test_bad_maps_name_the_method(value, message):
    with pytest.raises(ValueError, match="^method 'my method': .*" + message):
        evaluate({"fine": bright, "my method": returns(value)}, Squares(2), classifier())


def test_rounding_outside_the_range_is_clamped():
    images = torch.zeros(1, 3, 2, 2)
    raw = torch.tensor([[[[-1e-4, 0.5], [1.0, 1.0004]]]], dtype=torch.float64, requires_grad=True)
    maps = check_saliency(raw, images, "m")
    assert maps.dtype == torch.float32 and not maps.requires_grad
    assert maps.tolist() == [[[[0, 0.5], [1, 1]]]]


def test_bad_arguments_are_refused():
    judge, source, bare = classifier(), Squares(2), Squares(2, boxes=False, mask=False)
    cases = {
        "the source has 0 images": lambda: evaluate({"a": bright}, Squares(0), judge),
        "0 methods": lambda: evaluate({}, source, judge),
        "called 'truth'": lambda: evaluate({"truth": bright}, source, judge, truth=True),
        "explained has 'b'": lambda: evaluate({"a": bright}, source, judge, explained={"b": judge}),
        "square 0 has neither mask nor box": lambda: evaluate({}, bare, judge, truth=True),
        "normalise='max'": lambda: evaluate({"a": bright}, source, judge, normalise="max"),
        "precision='fp8'": lambda: evaluate({"a": bright}, source, judge, precision="fp8"),
        "batch_size=0": lambda: evaluate({"a": bright}, source, judge, batch_size=0),
        "^thresholds": lambda: evaluate({"a": bright}, source, judge, thresholds=[2.0]),
    }
    for message, call in cases.items():
        with pytest.raises(ValueError, match=message):
            call()


def test_a_label_that_is_no_class_is_refused():
    two = Classifier(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)), (), name="two")
    with pytest.raises(ValueError, match="label 2 of image 2 is none of the 2 classes of two"):
        evaluate({"a": bright}, Squares(3), two)


def test_what_is_kept_does_not_grow_with_the_images():
    """The state of a row after 4 images and after 40 has the same size."""

    def state_size(count: int) -> int:
        tally, judge, source = Tally(None, "none"), classifier().eval(), Squares(count)
        for start in range(0, count, 4):
            batch = source.batch(range(start, start + 4))
            maps = bright(batch.images, batch.labels, judge)
            parts = (batch.images, maps, batch.boxes, batch.masks, judge(batch.images), batch.labels, batch.labels, judge)
            tally.update(Evidence(*parts))
        return len(pickle.dumps(tally))

    assert abs(state_size(4) - state_size(40)) < 64  # bytes; larger counts take a few more


def test_evaluation_on_each_device(device):
    here = evaluate(METHODS, Squares(5), classifier(), batch_size=2, precision="fp32", truth=True)
    there = evaluate(METHODS, Squares(5), classifier().to(device), batch_size=2, precision="fp32", truth=True)
    np.testing.assert_allclose(here.to_numpy(), there.to_numpy(), atol=1e-3)


def test_a_bar_is_shown_only_when_asked(capsys):
    evaluate({"bright": bright}, Squares(2), classifier())
    assert capsys.readouterr() == ("", "")
    evaluate({"bright": bright}, Squares(2), classifier(), progress=True)
    assert "2/2" in capsys.readouterr().err


# Whose classes, whose decision


class Renamed(Squares):
    """The squares under labels of another numbering, or under names that nobody else uses."""

    def __init__(self, names: tuple[str, ...], colours: tuple[str, ...], count: int = 6) -> None:
        super().__init__(count)
        self.class_names, self.colours = names, colours

    @property
    def labels(self) -> Tensor:
        return torch.tensor([self.colours.index(Squares.class_names[index % 3]) for index in range(self.count)])


def spy(seen: list[list[int]]):
    def method(images: Tensor, targets: Tensor, network: Classifier) -> Tensor:
        seen.append(targets.tolist())
        return bright(images, targets, network)

    return method


def test_labels_are_matched_by_name():
    seen: list[list[int]] = []
    names = ("Blue", "GREEN", "red")
    source = Renamed(names, ("blue", "green", "red"))
    table = evaluate({"a": spy(seen)}, source, classifier(), truth=True)
    assert seen == [[0, 1, 2, 0, 1, 2]] and source.labels.tolist() == [2, 1, 0, 2, 1, 0]
    assert table.equals(evaluate({"a": bright}, Squares(6), classifier(), truth=True))
    assert accuracy(classifier(), source, precision="fp32") == 1


def test_labels_of_other_classes_are_refused_or_left_out():
    source = Renamed(("red", "green", "rocket"), ("red", "green", "blue"))
    with pytest.raises(ValueError, match="'rocket' is no class of brightest.*targets='predicted'"):
        evaluate({"a": bright}, source, classifier())
    with pytest.raises(ValueError, match="'rocket' is no class of brightest"):
        accuracy(classifier(), source)
    table = evaluate({"a": bright}, source, classifier(), targets="predicted")
    known = evaluate({"a": bright}, Squares(6), classifier())
    assert table[["OM", "top1"]].isna().all(axis=None)
    assert all("'rocket'" in table.attrs["missing"][column] for column in ("OM", "top1"))
    same = [column for column in columns() if column not in ("OM", "top1")]
    assert table[same].equals(known[same])  # the classifier is always right, so the targets are the same


def test_predicted_targets_are_explained_and_labels_still_compared():
    seen: list[list[int]] = []
    wrong = classifier(1, "wrong")
    table = evaluate({"a": spy(seen)}, Squares(6), classifier(), explained={"a": wrong}, targets="predicted")
    assert seen == [[1, 2, 0, 1, 2, 0]]
    assert table.loc["a", "top1"] == 0 and table.loc["a", "OM"] == 1
    assert table.attrs["targets"] == "predicted"
    labelled = evaluate({"a": bright}, Squares(6), classifier(), explained={"a": wrong})
    assert labelled.attrs["targets"] == "labels" and labelled.loc["a", "SM"] < table.loc["a", "SM"]
    with pytest.raises(ValueError, match="targets='true' is unknown; choose one of labels, predicted"):
        evaluate({"a": bright}, Squares(6), classifier(), targets="true")


@dataclasses.dataclass(frozen=True)
class Carrying:
    """A method that reads a classifier of its own, as a trained masker does."""

    classifier: object

    def __call__(self, images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
        return bright(images, targets, classifier)


def test_a_method_is_asked_about_the_classifier_that_it_carries():
    judge, own, other = classifier(), classifier(1, "own"), classifier(2, "other")
    methods = {"carrying": Carrying(own), "told": Carrying(own), "head": Carrying(nn.Linear(2, 2))}
    table = evaluate(methods, Squares(6), judge, explained={"told": other})
    assert table["top1"].tolist() == [0, 0, 1] and table["OM"].tolist() == [1, 1, table.loc["head", "LE"]]
    explained = table.attrs["explained"]
    assert explained["carrying"] == {"name": "own", "fingerprint": own.fingerprint()}
    assert explained["told"] == {"name": "other", "fingerprint": other.fingerprint()}
    assert explained["head"] == table.attrs["classifier"] == {"name": "brightest", "fingerprint": judge.fingerprint()}
    assert table["SM"].nunique() == 1  # the judge's, whoever is explained


def test_the_judge_is_asked_for_the_class_by_its_own_number():
    """The explained classifier counts blue, red, green; the judge red, green, blue. There are no labels to go by."""
    options = {"mean": (0.2,) * 3, "std": (1,) * 3, "input_size": (16, 16), "name": "other numbers"}
    other = Classifier(Brightest(1), class_names=("blue", "red", "green"), **options)
    source = Squares(6, label=False)
    table = evaluate({"a": bright, "b": bright}, source, classifier(), explained={"b": other})
    assert table.loc["a", "SM"] == table.loc["b", "SM"]
    strange = Classifier(Brightest(), class_names=("cat", "dog", "rocket"), **options)
    source.class_names = ()
    table = evaluate({"a": bright, "b": bright}, source, classifier(), explained={"b": strange})
    assert table["SM"].isna().tolist() == [False, True]
    assert table.attrs["missing"]["SM"] == "b: the evaluation classifier has none of the classes that are explained"


class Offset(nn.Module):
    """Three logits, each its own yes or no: is there this colour, more of it than a grey image has?"""

    def forward(self, x: Tensor) -> Tensor:
        return 20 * (x.amax(dim=(2, 3)) - 0.5)


def test_with_a_sigmoid_head_each_class_is_its_own_question():
    options = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "input_size": (16, 16), "class_names": Squares.class_names}
    judge = Classifier(Offset(), head="sigmoid", name="yes or no", **options)
    source = Squares(6)
    batch = source.batch(range(6))
    table, rows = evaluate({"a": bright}, source, judge, per_image=True, precision="fp32")
    assert table.loc["a", "top1"] == 1 and table.loc["a", "OM"] == table.loc["a", "LE"]
    boxes = predicted_boxes(bright(batch.images, batch.labels, judge))
    crops = crop_and_resize(batch.images, boxes, (16, 16), judge.mean)
    logits = (20 * (crops.amax(dim=(2, 3)) - 0.5)).gather(1, batch.labels[:, None])[:, 0]
    share = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / 256
    expected = share.clamp(min=0.05).log() - F.logsigmoid(logits)
    np.testing.assert_allclose(rows["SM"], expected, atol=1e-5)
    never = Classifier(nn.Sequential(Offset(), Minus()), head="sigmoid", name="never", **options)
    table = evaluate({"a": bright}, source, never)
    assert (
        table.loc["a", "top1"] == 0 and table.loc["a", "OM"] == 1
    )  # red has the largest logit, and still its answer is no
    assert accuracy(judge, source) == 1 and accuracy(never, source) == 0


class Minus(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - 100


def test_a_network_with_one_logit_is_evaluated():
    class IsBlue(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 20 * (x[:, 2:].amax(dim=(2, 3)) - 0.5)

    class BlueOrNot(Squares):
        class_names = ("other", "blue")

        @property
        def labels(self) -> Tensor:
            return (torch.arange(self.count) % 3 == 2).long()

    options = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "input_size": (16, 16), "class_names": ("other", "blue")}
    judge = Classifier(IsBlue(), name="is it blue", **options)
    table = evaluate({"a": bright}, BlueOrNot(6), judge)
    assert table.loc["a", "top1"] == 1 and accuracy(judge, BlueOrNot(6)) == 1
    assert -3 <= table.loc["a", "SM"] <= 0


# Doors


def test_a_classifier_that_returns_probabilities_or_has_no_weights_left_is_refused():
    probabilities = Classifier(
        nn.Sequential(Brightest(), nn.Softmax(dim=1)), class_names=Squares.class_names, input_size=(16, 16)
    )
    broken = classifier(name="broken")
    with torch.no_grad():
        broken.network.stem.weight[0, 0] = torch.nan
    for network, message in ((probabilities, "returns probabilities"), (broken, "of broken holds NaN")):
        with pytest.raises(ValueError, match=message):
            evaluate({"a": bright}, Squares(3), network)
        with pytest.raises(ValueError, match=message):
            evaluate({"a": bright}, Squares(3), classifier(), explained={"a": network})
        with pytest.raises(ValueError, match=message):
            accuracy(network, Squares(3))


def test_images_in_another_range_are_refused_by_name():
    class Bytes(Squares):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            return dataclasses.replace(sample, image=sample.image * 255) if index == 2 else sample

    for call in (lambda: evaluate({"a": bright}, Bytes(4), classifier()), lambda: accuracy(classifier(), Bytes(4))):
        with pytest.raises(
            ValueError, match=r"square 2 has values from .* to 255, expected \[0, 1\]; divide bytes by 255"
        ):
            call()


@pytest.mark.parametrize("what", ["images", "targets"])
def test_a_method_that_changes_what_it_is_given_is_named(what):
    seen = []

    def changing(images: Tensor, targets: Tensor, network: Classifier) -> Tensor:
        maps = bright(images, targets, network)
        (images if what == "images" else targets).numpy()[-1] = 0.25  # behind torch's back
        return maps

    def noting(images: Tensor, targets: Tensor, network: Classifier) -> Tensor:
        seen.append((images.clone(), targets.clone()))
        return bright(images, targets, network)

    with pytest.raises(ValueError, match=f"method 'second' changes the {what} that it is given, in place"):
        evaluate({"first": noting, "second": changing}, Squares(3), classifier())
    batch = Squares(3).batch(range(3))
    images, targets = batch.images.clone(), batch.labels.clone()
    with pytest.raises(ValueError, match=f"{what}.clone"):
        ask("changing", changing, images, targets, classifier(), "fp32")
    assert torch.equal(images, batch.images) and torch.equal(targets, batch.labels)  # what the next method would see
    assert torch.equal(seen[0][0], batch.images)


def test_attributions_are_told_how_to_become_maps():
    reducer = r"maskerlib\.methods\.attributions\.magnitude_map"
    for value in (lambda images: images, lambda images: images[:, :1] - 0.5):
        with pytest.raises(ValueError, match=f"^method 'signed'.*{reducer}"):
            evaluate({"signed": returns(value)}, Squares(2), classifier())
    with pytest.raises(ValueError, match="expected values") as error:
        evaluate({"large": returns(lambda images: images[:, :1] * 9)}, Squares(2), classifier())
    assert "magnitude_map" not in str(error.value)  # that one was only scaled


# Devices and sizes


def test_each_network_is_given_what_it_reads_on_its_own_device(monkeypatch):
    asked = []

    def to_device_of(network: Classifier, part: Tensor, *, copy: bool = False) -> Tensor:
        asked.append((network.name, part.dtype.is_floating_point, copy))
        return part.clone() if copy else part

    monkeypatch.setattr("maskerlib.methods.asking.to_device_of", to_device_of)
    evaluate({"a": bright, "b": bright}, Squares(2), classifier(), explained={"b": classifier(1, "other")})
    for name in ("brightest", "other"):
        assert (name, True, False) in asked  # the images, for its logits
        assert (name, True, True) in asked and (name, False, True) in asked  # images and targets, for its method


def test_a_method_and_its_classifier_may_live_elsewhere(device):
    here, there = classifier(1, "here"), classifier(1, "here").to(device)
    devices = []

    def method(images: Tensor, targets: Tensor, network: Classifier) -> Tensor:
        devices.append({images.device.type, targets.device.type, network.mean.device.type})
        return bright(images, targets, network)

    for judge, own in ((classifier().to(device), here), (classifier(), there)):
        table = evaluate({"a": method}, Squares(3), judge, explained={"a": own}, precision="fp32")
        expected = evaluate({"a": bright}, Squares(3), classifier(), explained={"a": here}, precision="fp32")
        np.testing.assert_allclose(table, expected, atol=1e-3)
    assert devices == [{"cpu"}, {device.type}]


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_sources_of_any_size_are_evaluated(count, batch_size):
    table, rows = evaluate(METHODS, Squares(count), classifier(), batch_size=batch_size, per_image=True, truth=True)
    assert table.attrs["images"] == count and len(rows) == count * 5
    assert table.drop(columns="std").notna().all(axis=None)
    assert accuracy(classifier(), Squares(count), batch_size=batch_size) == 1


# What the numbers follow


def test_boxes_are_clipped_to_the_image():
    """The object fills the left half; its annotated box reaches as far outside as it does inside."""

    class Cut(Squares):
        def __getitem__(self, index: int) -> Sample:
            mask = torch.zeros(16, 16, dtype=torch.bool)
            mask[:, :8] = True
            return dataclasses.replace(super().__getitem__(index), mask=mask, boxes=torch.tensor([[-8.0, 0, 8, 16]]))

    truth = evaluate({}, Cut(3), classifier(), truth=True).loc["truth"]
    assert truth[["OM", "LE", "F1", "MaxBoxAcc"]].tolist() == [0, 0, 1, 1]


def test_the_resize_of_sm_and_the_protocol_are_handed_on():
    source, judge = Squares(5), classifier().eval()
    options = {"resize": "opencv", "protocol": "wsolevaluation", "normalise": "minmax", "precision": "fp32"}
    table = evaluate({"a": bright}, source, judge, **options)
    assert (table.attrs["resize"], table.attrs["protocol"]) == ("opencv", "wsolevaluation")
    batch = source.batch(range(5))
    maps = bright(batch.images, batch.labels, judge)
    sm = saliency_metric(batch.images, predicted_boxes(maps), batch.labels, judge, resize="opencv")
    curve = BoxCurve(protocol="wsolevaluation", normalise="minmax")
    curve.update(maps, batch.boxes)
    assert table.loc["a", "SM"] == pytest.approx(float(sm.mean()), abs=1e-6)
    assert table.loc["a", "MaxBoxAccV2"] == pytest.approx(curve.max_box_acc_v2())
    plain = evaluate({"a": bright}, source, judge, normalise="minmax", precision="fp32")
    assert (plain.attrs["resize"], plain.attrs["protocol"]) == ("antialias", "maskerlib")
    assert plain.loc["a", "SM"] != table.loc["a", "SM"]
    for name in ("resize", "protocol"):
        with pytest.raises(ValueError, match=f"{name}='other' is unknown"):
            evaluate({"a": bright}, source, judge, **{name: "other"})


def test_a_masker_whose_weights_are_not_finite_is_refused():
    judge = tiny.tiny_classifier()
    masker = masker_for(judge, width=4).eval()
    trained = Trained(masker, tiny.tiny_classifier(1), MaskerConfig(), {})
    table = evaluate({"masker": trained}, tiny.Squares(3), judge)
    assert table.attrs["explained"]["masker"]["fingerprint"] == trained.classifier.fingerprint() != judge.fingerprint()
    with torch.no_grad():
        masker.head.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="method 'masker': NaN or infinity, expected values"):
        evaluate({"masker": trained}, tiny.Squares(3), judge)


def test_an_attribution_of_captum_is_evaluated_in_three_lines():
    occlusion = captum_method(Occlusion, sliding_window_shapes=(3, 4, 4), strides=(3, 4, 4))
    table = evaluate({"occlusion": occlusion, "centre box": centre_box()}, Squares(6), classifier())
    assert table.loc["occlusion", "PxAP"] > table.loc["centre box", "PxAP"]


@pytest.mark.parametrize("methods", [[bright], bright])
def test_methods_without_names_are_refused(methods):
    with pytest.raises(ValueError, match=r"methods: (list|function), expected \{name: method\}, such as"):
        evaluate(methods, Squares(2), classifier())
