"""EfficientNet-Lite0, 1 and 2 and their packaged weights."""

import pytest
import torch

from maskerlib.classifiers.efficientnet_lite import efficientnet_lite
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


@pytest.mark.parametrize(("number", "sizes"), [(1, [120, 60, 30, 15, 8]), (2, [130, 65, 33, 17, 9])])
def test_its_larger_sisters_recognise_it_at_their_own_sizes(number, sizes):
    classifier = classifier_named(f"efficientnet-lite{number}")
    with torch.inference_mode():
        logits, seen = classifier.activations(Photos("chelsea", classifier.input_size).batch([0]).images)
    best = [classifier.class_name(int(index)) for index in logits[0].topk(3).indices]
    assert any("cat" in name or "tabby" in name for name in best[:1]), best
    assert [value.shape[-1] for value in seen.values()] == sizes
    assert classifier.class_names == efficientnet_lite0().class_names


def test_there_are_three():
    with pytest.raises(ValueError, match="number=3"):
        efficientnet_lite(3)


def test_weights_from_a_file_are_in_its_name(tmp_path):
    lite = efficientnet_lite0()
    torch.save(lite.network.state_dict(), tmp_path / "lite.pt")
    again = classifier_named("efficientnet-lite0", weights=tmp_path / "lite.pt")
    assert again.fingerprint() == lite.fingerprint() and again.name == "efficientnet-lite0 (lite.pt)"
    with pytest.raises(ValueError, match=r"lite\.pt does not fit EfficientNet: size mismatch"):
        classifier_named("efficientnet-lite0", weights=tmp_path / "lite.pt", class_names=("a", "b"))
