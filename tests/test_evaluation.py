"""The table: each column against the function that defines it, and what it says when something is missing."""

import json
import math
import pickle

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor, nn
from torch.nn import functional as F

from maskerlib.boxes import predicted_boxes
from maskerlib.classifiers import Classifier
from maskerlib.curves import BoxCurve
from maskerlib.evaluation import check_saliency, evaluate
from maskerlib.metrics import f1, localisation_error, mask_statistics, official_metric, saliency_metric
from maskerlib.references import centre_box, grad_cam, random_map
from maskerlib.samples import Sample, Source
from maskerlib.tally import COLUMNS, Tally


class Squares(Source):
    """One bright square of one of three colours in a dim image: the colour is the class."""

    class_names = ("red", "green", "blue")
    size = (16, 16)

    def __init__(self, count: int = 7, *, label=True, boxes=True, mask=True) -> None:
        self.count, self.label, self.boxes, self.mask = count, label, boxes, mask

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        generator = torch.Generator().manual_seed(index)
        image = torch.rand(3, 16, 16, generator=generator) * 0.3
        x, y, side = (
            torch.randint(*ends, (), generator=generator).item() for ends in ((0, 8), (0, 8), (4, 9))
        )
        image[index % 3, y : y + side, x : x + side] = 1
        mask = torch.zeros(16, 16, dtype=torch.bool)
        mask[y : y + side, x : x + side] = True

        def known(what: bool | set[int]) -> bool:
            return what if isinstance(what, bool) else index in what

        return Sample(
            image=image,
            label=index % 3 if known(self.label) else None,
            boxes=torch.tensor([[x, y, x + side, y + side]]).float()
            if known(self.boxes)
            else torch.zeros(0, 4),
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


METHODS = {"bright": bright, "centre box": centre_box(), "random": random_map(), "Grad-CAM": grad_cam()}


def test_every_column_is_the_mean_of_its_metric():
    source, judge = Squares(), classifier().eval()
    table = evaluate(METHODS, source, judge, batch_size=3, truth=True)
    assert list(table.index) == [*METHODS, "truth"] and list(table.columns) == list(COLUMNS)
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
        assert row.to_dict() == pytest.approx(expected, abs=1e-5), name
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
    assert set(table.columns[table.isna().all()]) == missing
    assert set(table.attrs["missing"]) == missing and all(table.attrs["missing"].values())


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
        evaluate({"a": scaled}, Squares(9), classifier(), normalise=how).loc["a"]
        for how in ("none", "minmax")
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

    first, second = (
        evaluate({"a": spy, "b": spy}, Squares(4), judge, explained={"b": other}) for _ in range(2)
    )
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
        "normalise 'max'": lambda: evaluate({"a": bright}, source, judge, normalise="max"),
        "precision 'fp8'": lambda: evaluate({"a": bright}, source, judge, precision="fp8"),
        "batch_size=0": lambda: evaluate({"a": bright}, source, judge, batch_size=0),
        "^thresholds": lambda: evaluate({"a": bright}, source, judge, thresholds=[2.0]),
    }
    for message, call in cases.items():
        with pytest.raises(ValueError, match=message):
            call()


def test_a_label_that_is_no_class_names_the_image():
    two = Classifier(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)), (), name="two")
    with pytest.raises(ValueError, match="square 2: label 2; two has classes 0 to 1"):
        evaluate({"a": bright}, Squares(3), two)


def test_what_is_kept_does_not_grow_with_the_images():
    """The state of a row after 4 images and after 40 has the same size."""

    def state_size(count: int) -> int:
        tally, judge, source = Tally(None, "none"), classifier().eval(), Squares(count)
        for start in range(0, count, 4):
            batch = source.batch(range(start, start + 4))
            maps = bright(batch.images, batch.labels, judge)
            tally.update(batch, maps, predicted_boxes(maps), judge(batch.images), torch.zeros(4))
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
