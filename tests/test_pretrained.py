"""The weights that travel with the package are whole, belong together, and do what the notebooks say of them."""

import json
import shutil
from pathlib import Path

import pytest

import maskerlib
from maskerlib.classifiers.scene_resnet import scene_classifier
from maskerlib.data.scenes.source import Scenes
from maskerlib.masker import pretrained
from maskerlib.metrics.evaluation import evaluate
from maskerlib.running.files import load_checkpoint, save_checkpoint
from maskerlib.training.classifier import accuracy

SHIPPED = Path(maskerlib.__file__).with_name("weights")


@pytest.fixture(scope="module")
def scenes():
    return Scenes("val", count=128, cache=None)


def test_the_classifier_knows_its_scenes(scenes):
    classifier = scene_classifier()
    assert accuracy(classifier, scenes) >= 0.94  # 0.974 on 1,000 scenes
    assert not classifier.training and not any(weight.requires_grad for weight in classifier.parameters())
    assert classifier.class_names == scenes.class_names and classifier.input_size == scenes.size


@pytest.mark.parametrize("mode", ["FIX", "CA"])
def test_each_masker_finds_the_objects(mode, scenes):
    trained = pretrained.scene_masker(mode)
    assert trained.config.mode == mode and len(trained.history["in"]) == trained.config.steps
    table = evaluate({mode: trained}, scenes, scene_classifier())
    assert table.LE[mode] < 0.2 and table.PxAP[mode] > 0.75


def test_only_ca_has_another_classifier_than_the_one_it_began_with():
    start = scene_classifier().fingerprint()
    assert pretrained.scene_masker("FIX").classifier.fingerprint() == start
    assert pretrained.scene_masker("CA").classifier.fingerprint() != start
    with pytest.raises(ValueError, match="mode='fix' is unknown; choose one of FIX, CA"):
        pretrained.scene_masker("fix")


def test_the_record_says_which_weights_these_are_and_how_they_were_made():
    record = json.loads((SHIPPED / "provenance.json").read_text(encoding="utf-8"))
    assert record["command"] == "make run && make weights"
    assert record["classifier"]["fingerprint"] == scene_classifier().fingerprint()
    assert record["seeds"] == [0, 0] and record["versions"]["maskerlib"]


def test_packing_what_was_packed_gives_the_same_files(tmp_path, capsys):
    assert pretrained.main([str(SHIPPED), str(SHIPPED), "--into", str(tmp_path / "weights")]) == 0
    assert "packed 8 files" in capsys.readouterr().out
    for name in ("classifier.pt", "FIX/masker.pt", "CA/masker.pt", "CA/classifier.pt"):
        assert (tmp_path / "weights" / name).read_bytes() == (SHIPPED / name).read_bytes()


def test_nothing_is_packed_unless_everything_fits(tmp_path, capsys):
    shutil.copytree(SHIPPED, tmp_path / "runs")
    weights = load_checkpoint(tmp_path / "runs" / "classifier.pt")
    weights["weights"]["network.head.bias"] += 1
    save_checkpoint(tmp_path / "runs" / "classifier.pt", weights)
    assert pretrained.main([str(tmp_path / "runs")] * 2 + ["--into", str(tmp_path / "into")]) == 1
    assert "was trained on classifier" in capsys.readouterr().err
    assert pretrained.main([str(tmp_path / "nowhere")] * 2 + ["--into", str(tmp_path / "into")]) == 1
    assert "make run" in capsys.readouterr().err
    assert not (tmp_path / "into").exists()
