"""Runs of the grid on images that are no scenes: small trees in the layouts of ImageNet and of Oxford-IIIT Pet."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_classifier

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.registry import classifier_named
from maskerlib.data.folder import Folder
from maskerlib.experiments import measuring
from maskerlib.experiments import run as parts
from maskerlib.experiments.real_data import real_sources
from maskerlib.experiments.run import own_layers
from maskerlib.experiments.settings import Setting
from maskerlib.notebooks.runner import run_notebook
from maskerlib.running.files import read_json
from maskerlib.training.classifier import ClassifierConfig, train_classifier

ROOT = Path(__file__).parents[1]
WNIDS = [f"n{number:08d}" for number in range(1000)]
COLOURS = {3: "red", 281: "green", 282: "blue", 999: "orange"}
TINY = {"train_images": None, "val_images": None, "image_size": 64, "steps": 2, "batch_size": 4, "precision": "fp32"}


def picture(path, colour):
    image = Image.new("RGB", (80, 64), "grey")
    image.paste(colour, (20, 16, 60, 48))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """40 images of four classes of ImageNet, 32 to train on, and the box of each to measure on."""
    root = tmp_path_factory.mktemp("imagenet")
    (root / "words.txt").write_text("\n".join(f"{wnid} word" for wnid in WNIDS), encoding="utf-8")
    for label, colour in COLOURS.items():
        for split, count in (("train", 8), ("val", 2)):
            for number in range(count):
                picture(root / split / WNIDS[label] / f"{WNIDS[label]}_{split}_{number}.JPEG", colour)
                corners = "<xmin>20</xmin><ymin>16</ymin><xmax>59</xmax><ymax>47</ymax>"
                xml = root / "boxes" / split / f"{WNIDS[label]}_{split}_{number}.xml"
                xml.parent.mkdir(parents=True, exist_ok=True)
                one = f"<object><name>{WNIDS[label]}</name><bndbox>{corners}</bndbox></object>"
                xml.write_text(f"<annotation>{one}</annotation>", encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    """Eight pets of two breeds to train on, and four to measure on, with trimaps."""
    root = tmp_path_factory.mktemp("pets")
    trimap = np.full((64, 80), 2, np.uint8)
    trimap[16:48, 20:60] = 3
    trimap[18:46, 22:58] = 1
    for split, numbers in (("trainval", range(4)), ("test", range(4, 6))):
        lines = []
        for label, (breed, colour) in enumerate((("Abyssinian", "red"), ("beagle", "blue")), start=1):
            for number in numbers:
                name = f"{breed}_{number}"
                picture(root / "images" / f"{name}.jpg", colour)
                path = root / "annotations" / "trimaps" / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(trimap).save(path)
                lines.append(f"{name} {label} {label} 1")
        (root / "annotations" / f"{split}.txt").write_text("\n".join(lines), encoding="utf-8")
    return root


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # where indexes are kept


def measured(setting: Setting, shared, folder):
    """From a setting to its metrics, as the notebook has it."""
    train, val = parts.sources(setting, shared)
    before = parts.shared_classifier(setting, shared, torch.device("cpu"))
    infill = parts.shared_infill(setting, shared, before)
    method = parts.made_method(setting, before, train, infill=infill, folder=folder)
    drawn = measuring.draw(setting, method, before, val)
    return method, measuring.measure(setting, drawn, before)["all"]


@pytest.mark.parametrize("mode", ["FIX", "CA"])
def test_imagenet_with_a_network_of_torchvision(imagenet, tmp_path, mode):
    setting = Setting(data="imagenet", root=str(imagenet), classifier="torchvision:resnet18", mode=mode, **TINY)
    method, found = measured(setting, tmp_path / "shared", tmp_path / "run")
    assert method.masker.layers == ("layer3", "layer4"), "the two deepest"
    assert 0 <= found["metrics"]["LE"] <= 1 and np.isnan(found["metrics"]["PxAP"]), "boxes, and no masks"
    assert len(found["by_class"]) == len(COLOURS)


def test_imagenet_with_a_transformer(imagenet, tmp_path):
    pytest.importorskip("timm")
    setting = Setting(
        data="imagenet",
        root=str(imagenet),
        classifier="timm:vit_tiny_patch16_224",  # of random weights
        layers=("stage3", "stage4"),
        **{**TINY, "image_size": None, "train_images": 4, "val_images": 2},
    )
    method, found = measured(setting, tmp_path / "shared", tmp_path / "run")
    classifier = classifier_named(setting.classifier)
    assert method.masker.layers == tuple(classifier.layers[3:5]) and np.isfinite(found["metrics"]["LE"])


@pytest.fixture
def of_pets(pets, tmp_path):
    """The file of a small network that has seen the pets."""
    setting = Setting(data="pets", root=str(pets), classifier="torchvision:resnet18", **TINY)
    train, _ = real_sources(setting, (64, 64))
    start = classifier_named("torchvision:resnet18", class_names=train.class_names)
    config = ClassifierConfig(passes=1, batch_size=4, precision="fp32")
    train_classifier(start, train, config, folder=tmp_path / "classifier", progress=False)
    return tmp_path / "classifier" / "classifier.pt"


def test_pets_with_masks_and_regions_to_ignore(pets, of_pets, tmp_path):
    given = {"data": "pets", "root": str(pets), "classifier": "torchvision:resnet18", "weights": str(of_pets)}
    setting = Setting(also=("pointing", "deletion"), **given, **TINY)
    _, found = measured(setting, tmp_path / "shared", tmp_path / "run")
    assert 0 <= found["metrics"]["PxAP"] <= 1 and 0 <= found["metrics"]["deletion"] <= 1
    truth = dataclasses.replace(setting, method="truth")
    assert measured(truth, tmp_path / "shared", None)[1]["metrics"]["PxAP"] == pytest.approx(1)


def test_an_infill_that_is_trained_and_another_method(pets, of_pets, tmp_path):
    given = {"data": "pets", "root": str(pets), "classifier": "torchvision:resnet18", "weights": str(of_pets), **TINY}
    method, found = measured(Setting(infill="inpainter", **given), tmp_path / "shared", tmp_path / "run")
    assert method is not None and np.isfinite(found["metrics"]["LE"])
    layered = Setting(method="grad-cam", options={"layer": "stage3"}, **given)
    ours = parts.made_method(layered, parts.shared_classifier(layered, tmp_path, torch.device("cpu")), None)
    assert ours is not None
    assert np.isfinite(measured(layered, tmp_path / "shared", None)[1]["metrics"]["LE"])


def test_the_notebook_runs_on_imagenet(imagenet, tmp_path):
    """Through papermill, from its parameters to metrics.json."""
    setting = Setting(data="imagenet", root=str(imagenet), classifier="torchvision:resnet18", **TINY)
    values = setting.changes() | {"folder": str(tmp_path / "out"), "profile": "default", "device": "cpu"}
    run_notebook(ROOT / "notebooks" / "experiment.ipynb", tmp_path / "run.ipynb", values)
    result = read_json(tmp_path / "out" / "metrics.json")
    assert result["address"] == setting.address() and 0 <= result["measured"]["all"]["metrics"]["LE"] <= 1


class TestSources:
    def test_the_first_images_of_one_order(self, imagenet):
        given = {"data": "imagenet", "root": str(imagenet), "classifier": "torchvision:resnet18"}
        every = Setting(**given, train_images=None, val_images=None)
        train, val = real_sources(every, (32, 32))
        assert (len(train), len(val)) == (32, 8) and set(train.labels.tolist()) == set(range(len(COLOURS)))
        few, _ = real_sources(dataclasses.replace(every, train_images=5), (32, 32))
        assert few.batch(range(5)).names == train.batch(range(5)).names
        with pytest.raises(ValueError, match="train_images: 33 images are asked for and 32 are there"):
            real_sources(dataclasses.replace(every, train_images=33), (32, 32))

    def test_options_are_chosen_on_images_that_nothing_is_trained_on(self, imagenet):
        given = {"data": "imagenet", "root": str(imagenet), "classifier": "torchvision:resnet18"}
        setting = Setting(**given, measured_on="train", train_images=20, val_images=8)
        train, measured_on = real_sources(setting, (32, 32))
        names = [set(source.batch(range(len(source))).names) for source in (train, measured_on)]
        assert [len(each) for each in names] == [20, 8] and not names[0] & names[1]
        with pytest.raises(ValueError, match="val_images, beside those to train on,: 13 images"):
            real_sources(dataclasses.replace(setting, val_images=13), (32, 32))

    def test_a_folder_has_its_splits_in_folders(self, tmp_path):
        for split, count in (("train", 3), ("val", 2)):
            for number in range(count):
                picture(tmp_path / "mine" / split / "cat" / f"{number}.png", "red")
        setting = Setting(data="folder", root="mine", classifier="torchvision:resnet18", train_images=None, val_images=None)
        train, val = real_sources(setting, (16, 16))
        assert (len(train), len(val)) == (3, 2) and isinstance(train.source, Folder)

    def test_options_of_the_source(self, imagenet):
        wrong = {"val_options": {"splitt": "val"}, "train_images": None}
        setting = Setting(data="imagenet", root=str(imagenet), classifier="torchvision:resnet18", **wrong)
        with pytest.raises(ValueError, match="source 'imagenet:.*' has no option 'splitt'; its options are boxed, channels"):
            real_sources(setting, (32, 32))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"root": "data"}, "root='data': scenes have none; name the data as well"),
        ({"image_size": 224}, "image_size=224: scenes have none"),
        ({"train_images": None}, "train_images=None"),
        ({"data": "imagenett", "root": "x"}, "data='imagenett' is unknown; choose one of scenes, folder"),
        ({"data": "pets"}, "root='' for data='pets'; give the folder"),
        ({"data": "pets", "root": "x"}, "classifier='scenes' knows scenes; name one for data='pets'"),
        ({"data": "pets", "root": "x", "level": "hard"}, "there are no scenes in data='pets'"),
        ({"classifier": "resnet50"}, "there is no classifier 'resnet50'"),
    ],
)
def test_what_does_not_go_together_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Setting(**values)


def test_where_the_files_are_makes_no_other_run():
    given = {"data": "pets", "classifier": "efficientnet-lite0"}
    one, other = Setting(root="here", **given), Setting(root="there", **given)
    assert one.address() == other.address() != Setting(root="here", **given, image_size=64).address()
    assert json.dumps(one.consequences()).count("pets") == 1


class TestLayers:
    def classifier(self, *layers) -> Classifier:
        found = tiny_classifier()
        object.__setattr__(found, "layers", layers)
        return found

    def test_those_of_the_study_are_the_first_to_the_fifth(self):
        other = self.classifier("a", "b", "c", "d", "e")
        assert own_layers(("stage4", "stem"), other) == ("e", "a") and own_layers(("b",), other) == ("b",)
        assert own_layers(None, other) is None

    def test_a_classifier_that_has_these_names_keeps_them(self):
        own = self.classifier("stage4", "stage3", "stage2", "stage1", "stem")
        assert own_layers(("stage4",), own) == ("stage4",)

    def test_one_with_fewer_is_refused(self):
        with pytest.raises(ValueError, match=r"layer 5 \('stage4'\): .* reads 2 layers; name its own"):
            own_layers(("stage4",), self.classifier("a", "b"))
