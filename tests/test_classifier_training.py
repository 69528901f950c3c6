"""Training a classifier."""

import dataclasses
import math
import re

import pytest
import torch
from tiny import Squares, tiny_classifier

from maskerlib.classifiers.classifier import Classifier
from maskerlib.data.samples import Subset
from maskerlib.running.files import read_json
from maskerlib.training import classifier as classifier_training
from maskerlib.training.classifier import ClassifierConfig, accuracy, train_classifier
from maskerlib.training.loop import Diverged
from maskerlib.training.run import TrainingRun

FAST = ClassifierConfig(passes=1, batch_size=6, precision="fp32")


def train(config: ClassifierConfig = FAST, source: Squares | None = None, **options):
    source = Squares() if source is None else source
    return train_classifier(tiny_classifier(), source, config, progress=False, **options)


def state(classifier) -> dict[str, list[float]]:
    return {name: value.flatten().tolist() for name, value in classifier.state_dict().items()}


def test_learns_and_leaves_the_classifier_given_alone():
    classifier, source = tiny_classifier(), Squares(48)
    before = state(classifier)
    trained = train_classifier(
        classifier, source, dataclasses.replace(FAST, passes=20, batch_size=12, lr=0.1), progress=False
    )
    assert state(classifier) == before and all(weight.grad is None for weight in classifier.parameters())
    assert accuracy(trained, Squares(48, seed=1), precision="fp32") > 0.9 > accuracy(classifier, Squares(48, seed=1))
    assert not trained.training and not any(weight.requires_grad for weight in trained.parameters())


def test_accuracy_is_the_share_that_is_right():
    classifier, source = tiny_classifier(), Squares(10)
    predicted = torch.cat([classifier(source.batch([index]).images).argmax(dim=1) for index in range(10)])
    expected = (predicted == source.labels).float().mean().item()
    assert 0 < expected < 1
    for size in (1, 3, 250):
        assert accuracy(classifier, source, batch_size=size, precision="fp32") == pytest.approx(expected)
    assert all(weight.requires_grad for weight in classifier.parameters())


def test_the_seed_decides_bit_for_bit():
    one, again, other = train(), train(), train(dataclasses.replace(FAST, seed=1))
    assert state(one) == state(again) != state(other)


def test_one_cycle():
    factors = [classifier_training._one_cycle(step, 99, warm=0.2) for step in range(99)]
    peak = max(range(99), key=factors.__getitem__)
    assert factors[peak] == pytest.approx(1, abs=1e-3) and peak == 19  # a fifth of the way
    assert factors[:4] == pytest.approx([0.05, 0.1, 0.15, 0.2]) and factors[59] == pytest.approx(0.5)
    assert 0 < factors[-1] < 1e-3
    assert all(a > b for a, b in zip(factors[20:], factors[21:], strict=False))
    for steps in (1, 2, 3):
        assert all(0 < classifier_training._one_cycle(step, steps) <= 1 for step in range(steps))


class TestFolder:
    def test_a_finished_run_is_loaded_and_not_repeated(self, tmp_path, monkeypatch):
        trained = train(folder=tmp_path / "a b")
        left = sorted(path.name for path in (tmp_path / "a b").iterdir())
        assert left == ["classifier.pt", "history.json", "provenance.json"]
        assert set(read_json(tmp_path / "a b" / "history.json")) == {"loss", "right"}
        assert read_json(tmp_path / "a b" / "provenance.json")["classifier"]["fingerprint"] == trained.fingerprint()
        monkeypatch.setattr(TrainingRun, "train", None)  # calling it would be an error
        (tmp_path / "a b" / "checkpoint.pt").touch()
        again = train(folder=tmp_path / "a b")
        assert state(again) == state(trained) and not again.training
        assert sorted(path.name for path in (tmp_path / "a b").iterdir()) == left

    def test_another_run_is_refused(self, tmp_path):
        train(folder=tmp_path)
        for other in ({"config": dataclasses.replace(FAST, lr=0.1)}, {"source": Squares(seed=1)}):
            with pytest.raises(ValueError, match="holds a finished classifier of another run.*use another folder"):
                train(**{"config": FAST, **other}, folder=tmp_path)


class TestStops:
    def test_sources_that_do_not_fit_are_refused(self):
        with pytest.raises(ValueError, match="Squares has no labels to train a classifier with"):
            train(source=Squares(labelled=False))
        other = Squares()
        other.class_names = ("a", "b", "c", "d")
        with pytest.raises(ValueError, match=r"tiny has 4 classes, .*class_names=source\.class_names"):
            train(source=other)
        with pytest.raises(ValueError, match="holds no images"):
            train(source=Subset(Squares(), []))
        for label, message in ((-1, "image 5 of the source has no label"), (4, "label 4 of image 5 is none of the 4 classes")):
            source = Squares()
            source.labels[5] = label
            with pytest.raises(ValueError, match=message):
                train(source=source)

    def test_nan_is_named(self):
        source = Squares()
        source.images[2] = math.nan
        with pytest.raises(Diverged, match=r"step \d: square 2 holds NaN"):
            train(source=source)
        with pytest.raises(Diverged, match=r"step \d+: loss is (nan|inf); lower the learning rate"):
            train(dataclasses.replace(FAST, lr=1e30, passes=5))

    def test_accuracy_needs_labels(self):
        for source in (Squares(labelled=False), Subset(Squares(), [])):
            with pytest.raises(ValueError, match="accuracy needs a label for each of the"):
                accuracy(tiny_classifier(), source)

    @pytest.mark.parametrize(
        "name, values",
        [
            ("passes", (0, math.nan, "6")),
            ("lr", (0, math.inf)),
            ("batch_size", (0, 2.5, True)),
            ("checkpoint_every", (0, None)),
            ("momentum", (-0.1, math.nan)),
            ("weight_decay", (2,)),
            ("small", (1.5,)),
            ("crop_scale", ((0, 1), (0.5,))),
            ("seed", (0.5,)),
            ("precision", ("half",)),
        ],
    )
    def test_bad_values_are_named(self, name, values):
        for value in values:
            with pytest.raises(ValueError, match=re.escape(f"{name}={value!r} ") + "(must|is unknown)"):
                ClassifierConfig(**{name: value})


def test_small_images_first_and_no_momentum(monkeypatch):
    sizes = []
    forward = Classifier.forward
    monkeypatch.setattr(
        Classifier, "forward", lambda self, images: sizes.append(images.shape[-1]) or forward(self, images)
    )
    train(dataclasses.replace(FAST, passes=2, small=0.5, momentum=0.0))
    assert sizes[-8:] == [10] * 4 + [16] * 4
