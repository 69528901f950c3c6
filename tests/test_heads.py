"""Another number of classes for a network: a new last layer, all else as it was."""

import pytest
import torch
from torch import nn

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.heads import for_classes
from maskerlib.classifiers.registry import classifier_named


@pytest.mark.parametrize("name", ["scenes", "efficientnet-lite0", "torchvision:squeezenet1_1", "torchvision:vit_b_32"])
def test_only_the_last_layer_is_new(name):
    classifier = classifier_named(name)
    before = classifier.fingerprint()
    found = for_classes(classifier, ("cat", "dog", "bird"))
    assert found.class_names == ("cat", "dog", "bird") and found.class_count() == 3 and found.layers == classifier.layers
    assert classifier.fingerprint() == before and classifier.class_count() > 3
    old, new = classifier.network.state_dict(), found.network.state_dict()
    changed = [key for key in old if old[key].shape != new[key].shape or not torch.equal(old[key], new[key])]
    assert old.keys() == new.keys() and len(changed) == 2, "a weight and a bias"
    assert all(len(new[key]) == 3 and new[key].std() > 0 for key in changed)


def test_the_seed_decides():
    classifier = classifier_named("scenes")
    prints = [for_classes(classifier, ("a", "b"), seed=seed).fingerprint() for seed in (0, 0, 1)]
    assert prints[0] == prints[1] != prints[2]


def test_a_layer_without_a_bias():
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5, bias=False))
    assert for_classes(Classifier(network), ("a", "b")).network[2].bias is None


def test_what_has_no_such_layer_is_refused():
    with pytest.raises(ValueError, match="has no linear layer with 3 outputs, one a class, to be replaced; give a network"):
        for_classes(Classifier(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())), ("a", "b"))
    summed = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5), nn.Linear(5, 5), nn.BatchNorm1d(5))
    with pytest.raises(ValueError, match="still has 5 classes with another 3"):
        for_classes(Classifier(summed), ("a", "b"))
    with pytest.raises(ValueError, match="are fewer than two"):
        for_classes(classifier_named("scenes"), ("a",))
