"""The weights that travel with the package are whole, belong together, and do what the notebooks say of them."""

import shutil
from pathlib import Path

import pytest

import maskerlib
from maskerlib.classifiers.scene_resnet import scene_classifier
from maskerlib.data.scenes.source import Scenes
from maskerlib.masker import pretrained
from maskerlib.masker.collection import masker_cards
from maskerlib.metrics.evaluation import evaluate
from maskerlib.running.files import load_checkpoint, save_checkpoint, write_json
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


def test_the_cards_say_which_weights_these_are_and_how_they_were_made():
    for mode in ("FIX", "CA"):
        card = masker_cards()[f"scenes-{mode}"]
        assert card.command == card.made["command"] == "make run && make weights"
        assert card.fingerprint == card.made["classifier"]["fingerprint"] == scene_classifier().fingerprint()
        assert card.made["seeds"] == [0] and card.made["versions"]["maskerlib"]


@pytest.fixture
def quickstart(tmp_path):
    """What `make run` leaves, as far as it is packed; made of what was packed."""
    for mode in ("FIX", "CA"):
        card = masker_cards()[f"scenes-{mode}"]
        shutil.copytree(SHIPPED / f"scenes-{mode}", tmp_path / "quickstart" / mode)
        write_json(tmp_path / "quickstart" / mode / "provenance.json", card.made)
    metrics = {mode: masker_cards()[f"scenes-{mode}"].metrics for mode in ("FIX", "CA")}
    write_json(tmp_path / "quickstart" / "metrics.json", metrics)
    shutil.copy(SHIPPED / "classifier.pt", tmp_path)
    return [str(tmp_path), str(tmp_path / "quickstart"), "--into", str(tmp_path / "weights")]


def test_packing_what_was_packed_gives_the_same_files(quickstart, tmp_path, capsys):
    assert pretrained.main(quickstart) == 0
    assert "packed the classifier and 2 maskers" in capsys.readouterr().out
    packed = [path for path in (tmp_path / "weights").rglob("*") if path.is_file() and path.name != "maskers.json"]
    assert len(packed) == 8
    for path in packed:
        assert path.read_bytes() == (SHIPPED / path.relative_to(tmp_path / "weights")).read_bytes(), path
    again, shipped = masker_cards(tmp_path / "weights" / "maskers.json"), masker_cards()
    assert list(again) == ["scenes-FIX", "scenes-CA"] and all(again[name] == shipped[name] for name in again)


def test_nothing_is_packed_unless_everything_fits(quickstart, tmp_path, capsys):
    weights = load_checkpoint(tmp_path / "classifier.pt")
    weights["weights"]["network.head.bias"] += 1
    save_checkpoint(tmp_path / "classifier.pt", weights)
    assert pretrained.main(quickstart) == 1
    assert "was trained on classifier" in capsys.readouterr().err
    assert pretrained.main([str(tmp_path / "nowhere")] * 2 + quickstart[2:]) == 1
    assert "make run" in capsys.readouterr().err
    assert not (tmp_path / "weights").exists()
