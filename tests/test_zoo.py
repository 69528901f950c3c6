"""The ready-made classifiers, and those of torchvision and timm by name."""

import importlib
import os
import urllib.error

import pytest
import torch
import torchvision
from tiny import TinyNet

from maskerlib.classifiers import libraries
from maskerlib.classifiers.efficientnet_lite0 import efficientnet_lite0
from maskerlib.classifiers.registry import classifier_named
from maskerlib.classifiers.scene_resnet import scene_classifier, scene_resnet
from maskerlib.classifiers.torchvision_networks import torchvision_resnet
from maskerlib.classifiers.weights import load_weights
from maskerlib.data.photos import Photos


def weights(module: torch.nn.Module) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in module.state_dict().items()}


class TestWeights:
    def test_round_trip(self, tmp_path):
        torch.save(TinyNet().state_dict(), tmp_path / "w.pt")
        one, other = TinyNet(), TinyNet()
        load_weights(one, tmp_path / "w.pt")
        load_weights(other, str(tmp_path / "w.pt"))
        assert weights(one) == weights(other)

    def test_a_file_with_code_is_refused_and_never_run(self, tmp_path):
        class Bomb:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "exploded"),)

        torch.save({"stem.0.weight": Bomb()}, tmp_path / "w.pt")
        with pytest.raises(ValueError, match=r"w\.pt is not a readable checkpoint"):
            load_weights(TinyNet(), tmp_path / "w.pt")
        assert not (tmp_path / "exploded").exists()

    def test_a_truncated_file_is_named(self, tmp_path):
        torch.save(TinyNet().state_dict(), tmp_path / "w.pt")
        (tmp_path / "w.pt").write_bytes((tmp_path / "w.pt").read_bytes()[:-200])
        with pytest.raises(ValueError, match=r"w\.pt is not a readable checkpoint"):
            load_weights(TinyNet(), tmp_path / "w.pt")

    def test_another_architecture_is_named(self, tmp_path):
        torch.save(TinyNet(classes=7).state_dict(), tmp_path / "w.pt")
        with pytest.raises(ValueError, match=r"w\.pt does not fit TinyNet: size mismatch for head.bias"):
            load_weights(TinyNet(), tmp_path / "w.pt")
        torch.save({"weights": TinyNet().state_dict()}, tmp_path / "w.pt")
        with pytest.raises(ValueError, match=r"w\.pt does not fit TinyNet: Unexpected key.*weights"):
            load_weights(TinyNet(), tmp_path / "w.pt")


class TestZoo:
    def test_scene_resnet(self):
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

    def test_weights_follow_from_the_seed_and_the_global_generator_is_left_alone(self):
        before = torch.random.get_rng_state()
        prints = [scene_resnet("ab", seed=seed).fingerprint() for seed in (0, 0, 1)]
        assert prints[0] == prints[1] != prints[2]
        assert torch.equal(torch.random.get_rng_state(), before)

    def test_torchvision_resnet(self, tmp_path):
        classifier = torchvision_resnet("resnet18", class_names="abc", seed=1).eval()
        logits, seen = classifier.activations(torch.rand(1, 3, 64, 96))
        assert logits.shape == (1, 3)
        assert [tuple(value.shape[1:]) for value in seen.values()] == [
            (64, 16, 24),
            (64, 16, 24),
            (128, 8, 12),
            (256, 4, 6),
            (512, 2, 3),
        ]
        torch.save(classifier.network.state_dict(), tmp_path / "mine.pth")
        again = torchvision_resnet("resnet18", class_names="abc", weights=str(tmp_path / "mine.pth"))
        assert again.name == "resnet18 (mine.pth)" and weights(again.network) == weights(classifier.network)
        with pytest.raises(ValueError, match=r"mine\.pth does not fit ResNet: size mismatch"):
            torchvision_resnet("resnet18", class_names="abcd", weights=str(tmp_path / "mine.pth"))

    def test_torchvision_names(self):
        with pytest.raises(ValueError, match="torchvision has no 'vgg11'; choose one of .*resnet50"):
            torchvision_resnet("vgg11")
        with pytest.raises(FileNotFoundError, match="no weights at IMAGENET1K_V7; .* or IMAGENET1K_V1"):
            torchvision_resnet("resnet18", weights="IMAGENET1K_V7")

    def test_efficientnet_lite0_recognises_a_cat(self):
        classifier = efficientnet_lite0()
        assert not classifier.training and len(classifier.class_names) == 1000
        with torch.inference_mode():
            logits, seen = classifier.activations(Photos("chelsea").batch([0]).images)
        best = [classifier.class_name(int(index)) for index in logits[0].topk(3).indices]
        assert "cat" in best[0] or "tabby" in best[0], best
        assert "tabby" in best or "tiger cat" in best, best
        assert len(seen) == 5 and [value.shape[-1] for value in seen.values()] == [112, 56, 28, 14, 7]


class TestByName:
    def test_what_travels_with_the_package(self):
        assert list(NAMES)[:2] == ["efficientnet-lite0", "scenes"]
        assert classifier_named("efficientnet-lite0").fingerprint() == efficientnet_lite0().fingerprint()
        scenes = classifier_named("scenes", layers=["stage2", "stage4"])
        assert scenes.fingerprint() == scene_classifier().fingerprint()
        assert scenes.layers == ("stage2", "stage4") and scenes.class_names[0] == "cat" and scenes.input_size == (96, 96)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("efficientnet-lite", "no classifier 'efficientnet-lite'; did you mean 'efficientnet-lite0'"),
            ("resnet50", "no classifier 'resnet50'; .*torchvision:NAME, timm:NAME"),
            ("torchvision:resnet5", "no classification network 'resnet5'; did you mean resnet50"),
            ("torchvision:fcn_resnet50", "no classification network 'fcn_resnet50'"),
            ("torchvision:", "no classification network ''; choose one of alexnet"),
        ],
    )
    def test_unknown_names_are_answered_with_near_ones(self, name, message):
        with pytest.raises(ValueError, match=message):
            classifier_named(name)

    def test_random_weights_say_so_and_follow_from_the_seed(self):
        before = torch.random.get_rng_state()
        made = [classifier_named("torchvision:squeezenet1_1", seed=seed) for seed in (0, 0, 1)]
        assert torch.equal(torch.random.get_rng_state(), before)
        prints = [each.fingerprint() for each in made]
        assert prints[0] == prints[1] != prints[2]
        assert made[0].name == "squeezenet1_1 (random weights)" and not made[0].training
        assert len(made[0].class_names) == 1000 and made[0].class_name(281) == "tabby"

    def test_normalisation_and_size_are_those_that_are_published(self):
        classifier = classifier_named("torchvision:inception_v3", class_names=("a", "b"), layers=["Mixed_7c"])
        preset = torchvision.models.Inception_V3_Weights.DEFAULT.transforms()
        assert classifier.input_size == (299, 299) and classifier.class_count() == 2
        assert classifier.mean.flatten().tolist() == pytest.approx(preset.mean)
        assert classifier.std.flatten().tolist() == pytest.approx(preset.std)

    def test_layers_are_those_known_to_be_good_or_those_given(self):
        assert classifier_named("torchvision:resnet18").layers == ("maxpool", "layer1", "layer2", "layer3", "layer4")
        assert classifier_named("torchvision:resnet18", layers=("layer3",)).layers == ("layer3",)
        assert classifier_named("torchvision:swin_t").layers == ("features.1", "features.3", "features.5", "features.7")

    def test_a_file_of_weights_for_each_kind(self, tmp_path):
        scenes = scene_classifier()
        torch.save({"weights": scenes.state_dict()}, tmp_path / "classifier.pt")
        torch.save(scenes.network.state_dict(), tmp_path / "network.pt")
        for file in ("classifier.pt", "network.pt"):
            assert classifier_named("scenes", weights=tmp_path / file).fingerprint() == scenes.fingerprint()
        with pytest.raises(ValueError, match=r"network\.pt does not fit SceneResNet: size mismatch"):
            classifier_named("scenes", weights=tmp_path / "network.pt", class_names=("a", "b"))
        with pytest.raises(ValueError, match="the weights of 'scenes' have classes of their own"):
            classifier_named("scenes", class_names=("a", "b"))
        lite = efficientnet_lite0()
        torch.save(lite.network.state_dict(), tmp_path / "lite.pt")
        again = classifier_named("efficientnet-lite0", weights=tmp_path / "lite.pt")
        assert again.fingerprint() == lite.fingerprint() and again.name == "efficientnet-lite0 (lite.pt)"
        with pytest.raises(ValueError, match=r"lite\.pt does not fit EfficientNet: size mismatch"):
            classifier_named("efficientnet-lite0", weights=tmp_path / "lite.pt", class_names=("a", "b"))

    def test_weights_that_cannot_be_downloaded_name_the_other_way(self, monkeypatch):
        def offline(*args, **kwargs):
            raise urllib.error.URLError("Name or service not known")

        monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
        monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
        with pytest.raises(OSError, match="DEFAULT of torchvision's resnet18 could not be downloaded .*give the path") as caught:
            classifier_named("torchvision:resnet18", weights="DEFAULT")
        assert "\n" not in str(caught.value)

    def test_a_weight_set_has_classes_of_its_own(self):
        with pytest.raises(ValueError, match="2 class names, but the weights IMAGENET1K_V1 have 1000 classes"):
            classifier_named("torchvision:resnet18", weights="IMAGENET1K_V1", class_names=("a", "b"))


class TestTimm:
    def test_where_it_is_missing_one_line_says_what_to_install(self, monkeypatch):
        real = importlib.import_module

        def without(name, *args):
            if name == "timm":
                raise ModuleNotFoundError("No module named 'timm'")
            return real(name, *args)

        monkeypatch.setattr(libraries.importlib, "import_module", without)
        with pytest.raises(ImportError, match=r"timm is not installed .*; pip install 'maskerlib\[timm\]'"):
            classifier_named("timm:resnet18")

    def test_any_of_its_networks(self):
        pytest.importorskip("timm", reason="timm, an extra, is not installed")
        classifier = classifier_named("timm:vit_tiny_patch16_224", seed=3)
        assert classifier.name == "vit_tiny_patch16_224 (random weights)" and not classifier.training
        assert classifier.layers == tuple(f"blocks.{block}" for block in (2, 4, 7, 9, 11))
        assert classifier.mean.flatten().tolist() == [0.5, 0.5, 0.5] and classifier.input_size == (224, 224)
        assert classifier.class_name(281) == "tabby" and classifier.layer_channels() == dict.fromkeys(classifier.layers, 192)
        mobile = classifier_named("timm:mobilenetv4_conv_small", class_names=("a", "b"))
        assert mobile.class_count() == 2 and mobile.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])

    def test_options_reach_the_network_and_its_channels_follow(self):
        pytest.importorskip("timm", reason="timm, an extra, is not installed")
        small = libraries.from_timm("vit_tiny_patch16_224", class_names=("a", "b"), img_size=64, in_chans=1)
        assert small.input_size == (64, 64) and small.channels == 1
        assert small(torch.rand(2, 1, 64, 64)).shape == (2, 2)
        other = libraries.from_torchvision("vit_b_32", class_names=("a", "b"), image_size=64)
        assert other.input_size == (64, 64) and other.class_count() == 2

    def test_weights_files(self, tmp_path):
        pytest.importorskip("timm", reason="timm, an extra, is not installed")
        save_file = pytest.importorskip("safetensors.torch").save_file
        network = classifier_named("timm:mobilenetv4_conv_small", class_names=("a", "b"), seed=5)
        save_file(network.network.state_dict(), tmp_path / "mine.safetensors")
        again = classifier_named("timm:mobilenetv4_conv_small", class_names=("a", "b"), weights=tmp_path / "mine.safetensors")
        assert again.fingerprint() == network.fingerprint() and again.name == "mobilenetv4_conv_small (mine.safetensors)"
        (tmp_path / "mine.safetensors").write_bytes(b"nothing")
        with pytest.raises(ValueError, match=r"mine\.safetensors is not a readable checkpoint"):
            classifier_named("timm:mobilenetv4_conv_small", class_names=("a", "b"), weights=tmp_path / "mine.safetensors")

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
        pytest.importorskip("timm", reason="timm, an extra, is not installed")
        with pytest.raises(error, match=message):
            classifier_named(f"timm:{name}", weights=weights)
