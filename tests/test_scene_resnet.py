"""The small ResNet of the lessons, and its weights."""

import pytest
import torch

from maskerlib.classifiers.registry import classifier_named
from maskerlib.classifiers.scene_resnet import scene_classifier, scene_resnet


def test_its_layers():
    classifier = scene_resnet("abcdef", size=96, seed=3)
    logits, seen = classifier.activations(torch.rand(2, 3, 96, 96))
    assert logits.shape == (2, 6) and classifier.class_names == tuple("abcdef")
    assert [tuple(value.shape[1:]) for value in seen.values()] == [
        (16, 48, 48),
        (32, 24, 24),
        (48, 24, 24),
        (96, 12, 12),
        (192, 6, 6),
    ]


def test_weights_follow_from_the_seed_and_the_global_generator_is_left_alone():
    before = torch.random.get_rng_state()
    prints = [scene_resnet("ab", seed=seed).fingerprint() for seed in (0, 0, 1)]
    assert prints[0] == prints[1] != prints[2]
    assert torch.equal(torch.random.get_rng_state(), before)


def test_by_name_it_is_the_classifier_of_the_quickstart():
    scenes = classifier_named("scenes", layers=["stage2", "stage4"])
    assert scenes.fingerprint() == scene_classifier().fingerprint()
    assert scenes.layers == ("stage2", "stage4") and scenes.class_names[0] == "cat" and scenes.input_size == (96, 96)


def test_its_weights_have_classes_of_their_own(tmp_path):
    with pytest.raises(ValueError, match="the weights of 'scenes' have classes of their own"):
        classifier_named("scenes", class_names=("a", "b"))
    assert classifier_named("scenes", class_names=scene_classifier().class_names).class_names[0] == "cat"
    torch.save(scene_classifier().network.state_dict(), tmp_path / "network.pt")
    with pytest.raises(ValueError, match=r"network\.pt does not fit SceneResNet: size mismatch"):
        classifier_named("scenes", weights=tmp_path / "network.pt", class_names=("a", "b"))
    two = scene_resnet("ab", seed=3)
    torch.save(two.network.state_dict(), tmp_path / "two.pt")
    again = classifier_named("scenes", weights=tmp_path / "two.pt", class_names="ab")
    assert again.fingerprint() == two.fingerprint() and again.class_names == ("a", "b")
