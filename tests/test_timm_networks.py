"""Networks of timm by name, and what is said where timm is missing."""

import importlib

import pytest
import torch

from maskerlib.classifiers.registry import classifier_named
from maskerlib.classifiers.timm_networks import from_timm


def test_where_it_is_missing_one_line_says_what_to_install(monkeypatch):
    real = importlib.import_module

    def without(name, *args):
        if name == "timm":
            raise ModuleNotFoundError("No module named 'timm'")
        return real(name, *args)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(ImportError, match=r"timm is not installed .*; pip install 'maskerlib\[timm\]'") as caught:
        classifier_named("timm:resnet18")
    assert "\n" not in str(caught.value)


class TestTimm:
    @pytest.fixture(autouse=True)
    def _there(self):
        pytest.importorskip("timm", reason="timm, an extra, is not installed")

    def test_any_of_its_networks(self):
        classifier = classifier_named("timm:vit_tiny_patch16_224", seed=3)
        assert classifier.name == "vit_tiny_patch16_224 (random weights)" and not classifier.training
        assert classifier.layers == tuple(f"blocks.{block}" for block in (2, 4, 7, 9, 11))
        assert classifier.mean.flatten().tolist() == [0.5, 0.5, 0.5] and classifier.input_size == (224, 224)
        assert classifier.class_name(281) == "tabby" and classifier.layer_channels() == dict.fromkeys(classifier.layers, 192)
        mobile = classifier_named("timm:mobilenetv4_conv_small", class_names=("a", "b"))
        assert mobile.class_count() == 2 and mobile.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])

    def test_options_reach_the_network_and_its_channels_follow(self):
        small = from_timm("vit_tiny_patch16_224", class_names=("a", "b"), img_size=64, in_chans=1)
        assert small.input_size == (64, 64) and small.channels == 1
        assert small(torch.rand(2, 1, 64, 64)).shape == (2, 2)

    def test_the_name_says_where_the_weights_are_from(self, tmp_path):
        save_file = pytest.importorskip("safetensors.torch").save_file
        network = classifier_named("timm:mobilenetv4_conv_small", class_names=("a", "b"), seed=5)
        save_file(network.network.state_dict(), tmp_path / "mine.safetensors")
        again = classifier_named("timm:mobilenetv4_conv_small", class_names=("a", "b"), weights=tmp_path / "mine.safetensors")
        assert again.fingerprint() == network.fingerprint() and again.name == "mobilenetv4_conv_small (mine.safetensors)"

    @pytest.mark.parametrize(
        ("name", "weights", "error", "message"),
        [
            ("vit_tiny_patch16_22", None, ValueError, "timm has no network 'vit_tiny_patch16_22'; did you mean .*vit_tiny"),
            ("vit_tiny_patch16_224.mine", None, ValueError, "timm has no weights 'mine' of .*augreg_in21k"),
            ("vit_tiny_patch16_224", "mine.pth", FileNotFoundError, "no weights at mine.pth; .*pretrained or augreg_in21k"),
            ("vit_small_patch14_reg4_dinov2", None, ValueError, "has no classes, it returns features; give class_names"),
        ],
    )
    def test_what_is_not_there_is_named(self, name, weights, error, message):
        with pytest.raises(error, match=message):
            classifier_named(f"timm:{name}", weights=weights)
