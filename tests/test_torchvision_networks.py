"""Networks of torchvision by name: what is published with them, random weights, weights from files."""

import urllib.error

import pytest
import torch
import torchvision

from maskerlib.classifiers.registry import classifier_named
from maskerlib.classifiers.torchvision_networks import from_torchvision


def test_a_resnet_with_a_head_of_one_s_own(tmp_path):
    classifier = from_torchvision("resnet18", class_names="abc", seed=1)
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
    again = from_torchvision("resnet18", class_names="abc", weights=str(tmp_path / "mine.pth"))
    assert again.name == "resnet18 (mine.pth)" and again.fingerprint() == classifier.fingerprint()
    with pytest.raises(ValueError, match=r"mine\.pth does not fit ResNet: size mismatch"):
        from_torchvision("resnet18", class_names="abcd", weights=str(tmp_path / "mine.pth"))


def test_random_weights_say_so_and_follow_from_the_seed():
    before = torch.random.get_rng_state()
    made = [classifier_named("torchvision:squeezenet1_1", seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(torch.random.get_rng_state(), before)
    prints = [each.fingerprint() for each in made]
    assert prints[0] == prints[1] != prints[2]
    assert made[0].name == "squeezenet1_1 (random weights)" and not made[0].training
    assert len(made[0].class_names) == 1000 and made[0].class_name(281) == "tabby"


def test_normalisation_and_size_are_those_that_are_published():
    classifier = classifier_named("torchvision:inception_v3", class_names=("a", "b"), layers=["Mixed_7c"])
    preset = torchvision.models.Inception_V3_Weights.DEFAULT.transforms()
    assert classifier.input_size == (299, 299) and classifier.class_count() == 2
    assert classifier.mean.flatten().tolist() == pytest.approx(preset.mean)
    assert classifier.std.flatten().tolist() == pytest.approx(preset.std)


def test_options_reach_the_network():
    small = from_torchvision("vit_b_32", class_names=("a", "b"), image_size=64)
    assert small.input_size == (64, 64) and small.class_count() == 2


def test_layers_are_those_known_to_be_good_or_those_given():
    assert classifier_named("torchvision:resnet18").layers == ("maxpool", "layer1", "layer2", "layer3", "layer4")
    assert classifier_named("torchvision:resnet18", layers=("layer3",)).layers == ("layer3",)
    assert classifier_named("torchvision:swin_t").layers == ("features.1", "features.3", "features.5", "features.7")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet5", "no classification network 'resnet5'; did you mean resnet50"),
        ("fcn_resnet50", "no classification network 'fcn_resnet50'"),
        ("zzz", "no classification network 'zzz'; choose one of alexnet"),
    ],
)
def test_unknown_names_are_answered_with_near_ones(name, message):
    with pytest.raises(ValueError, match=message):
        classifier_named(f"torchvision:{name}")


def test_weights_that_are_neither_a_set_nor_a_file():
    with pytest.raises(FileNotFoundError, match="no weights at IMAGENET1K_V7; .* or IMAGENET1K_V1"):
        from_torchvision("resnet18", weights="IMAGENET1K_V7")


def test_weights_that_cannot_be_downloaded_name_the_other_way(monkeypatch):
    def offline(*args, **kwargs):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(OSError, match="DEFAULT of torchvision's resnet18 could not be downloaded .*give the path") as caught:
        classifier_named("torchvision:resnet18", weights="DEFAULT")
    assert "\n" not in str(caught.value)


def test_a_weight_set_has_classes_of_its_own():
    with pytest.raises(ValueError, match="2 class names, but the weights IMAGENET1K_V1 have 1000 classes"):
        classifier_named("torchvision:resnet18", weights="IMAGENET1K_V1", class_names=("a", "b"))
