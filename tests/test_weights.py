"""Weights from files: loaded where they fit, refused by name where not, and never run."""

import math
import os

import pytest
import torch
from tiny import TinyNet, tiny_classifier
from torch import nn

from maskerlib.classifiers.weights import load_weights, restore_weights
from maskerlib.running.files import load_checkpoint, save_checkpoint


@pytest.fixture
def path(tmp_path):
    return tmp_path / "w.pt"


class TestLoad:
    def test_a_network_s_weights_leave_the_normalisation(self, path):
        torch.save(tiny_classifier(1).network.state_dict(), path)
        classifier = tiny_classifier()
        classifier.mean.fill_(0.25)
        load_weights(classifier, path)
        assert classifier.mean.flatten().tolist() == [0.25] * 3
        classifier.mean.fill_(0.5)
        assert classifier.fingerprint() == tiny_classifier(1).fingerprint()

    @pytest.mark.parametrize("wrapped", [False, True])
    def test_a_classifier_s_weights_bring_theirs(self, path, wrapped):
        other = tiny_classifier(1)
        other.mean.fill_(0.25)
        torch.save({"weights": other.state_dict()} if wrapped else other.state_dict(), path)
        classifier = tiny_classifier()
        load_weights(classifier, str(path))
        assert classifier.fingerprint() == other.fingerprint() == classifier.reading(["stem"]).fingerprint()

    def test_a_file_with_code_is_refused_and_never_run(self, path, tmp_path):
        class Bomb:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "exploded"),)

        torch.save({"stem.0.weight": Bomb()}, path)
        with pytest.raises(ValueError, match=r"w\.pt is not a readable checkpoint"):
            load_weights(tiny_classifier(), path)
        assert not (tmp_path / "exploded").exists()

    def test_a_truncated_file_is_named(self, path):
        torch.save(TinyNet().state_dict(), path)
        path.write_bytes(path.read_bytes()[:-200])
        with pytest.raises(ValueError, match=r"w\.pt is not a readable checkpoint"):
            load_weights(tiny_classifier(), path)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (TinyNet(classes=7).state_dict(), "size mismatch for head.bias"),
            ({"weights": TinyNet(classes=7).state_dict()}, "size mismatch for head.bias"),
            ({"weights": None, **TinyNet().state_dict()}, "Unexpected key.*weights"),
            ({"model": TinyNet().state_dict()}, "Unexpected key.*model"),
            ({"mean": torch.zeros(1, 1, 1, 1), "std": torch.ones(1, 1, 1, 1)}, "size mismatch for std"),
        ],
    )
    def test_another_architecture_is_named(self, path, content, message):
        torch.save(content, path)
        with pytest.raises(ValueError, match=rf"w\.pt does not fit TinyNet: {message}"):
            load_weights(tiny_classifier(), path)

    def test_safetensors(self, tmp_path):
        save_file = pytest.importorskip("safetensors.torch").save_file
        path = tmp_path / "w.safetensors"
        save_file(tiny_classifier(1).network.state_dict(), path)
        classifier = tiny_classifier()
        load_weights(classifier, path)
        assert classifier.fingerprint() == tiny_classifier(1).fingerprint()
        path.write_bytes(b"nothing")
        with pytest.raises(ValueError, match=r"w\.safetensors is not a readable checkpoint"):
            load_weights(classifier, path)


class TestRestore:
    @pytest.mark.parametrize(
        "saved",
        [
            {},
            {"weights": None},
            {"weights": 3},
            {"weights": {}},
            {"weights": {"weight": 1, "bias": 2}},
            {"weights": nn.Linear(3, 2).state_dict()},
            {"weights": nn.BatchNorm1d(3).state_dict()},
        ],
    )
    def test_weights_of_another_network_are_named_in_one_line(self, path, saved):
        message = r"w\.pt does not hold the weights of this network \(.*\); copy it again, or delete it to start afresh"
        with pytest.raises(ValueError, match=message) as caught:
            restore_weights(nn.Linear(2, 3), saved, path)
        assert "\n" not in str(caught.value)

    def test_weights_that_are_not_finite_are_named(self, path):
        weights = nn.Linear(2, 3).state_dict()
        weights["bias"][1] = math.nan
        save_checkpoint(path, {"weights": weights})
        with pytest.raises(ValueError, match=r"weight 'bias' of .*w\.pt holds NaN or infinity; load its weights again"):
            restore_weights(nn.Linear(2, 3), load_checkpoint(path), path)
