"""EfficientNet-Lite0 and its packaged weights."""

import pytest
import torch

from maskerlib.classifiers.efficientnet_lite0 import efficientnet_lite0
from maskerlib.classifiers.registry import classifier_named
from maskerlib.data.photos import Photos


def test_recognises_a_cat():
    classifier = efficientnet_lite0()
    assert not classifier.training and len(classifier.class_names) == 1000
    with torch.inference_mode():
        logits, seen = classifier.activations(Photos("chelsea").batch([0]).images)
    best = [classifier.class_name(int(index)) for index in logits[0].topk(3).indices]
    assert "cat" in best[0] or "tabby" in best[0], best
    assert "tabby" in best or "tiger cat" in best, best
    assert len(seen) == 5 and [value.shape[-1] for value in seen.values()] == [112, 56, 28, 14, 7]


def test_weights_from_a_file_are_in_its_name(tmp_path):
    lite = efficientnet_lite0()
    torch.save(lite.network.state_dict(), tmp_path / "lite.pt")
    again = classifier_named("efficientnet-lite0", weights=tmp_path / "lite.pt")
    assert again.fingerprint() == lite.fingerprint() and again.name == "efficientnet-lite0 (lite.pt)"
    with pytest.raises(ValueError, match=r"lite\.pt does not fit EfficientNet: size mismatch"):
        classifier_named("efficientnet-lite0", weights=tmp_path / "lite.pt", class_names=("a", "b"))
