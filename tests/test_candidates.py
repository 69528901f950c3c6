"""Which layers can be read: every kind of output in a network made for it, and the choice for networks of every family."""

import pytest
import torch
import torchvision
from tiny import SIZE, TinyNet, snapshot, tiny_classifier
from torch import nn

from maskerlib.classifiers.candidates import Candidate, candidate_layers, suggest_layers
from maskerlib.classifiers.classifier import Classifier


class Zoo(nn.Module):
    """A 32x32 image: maps 16x16, the same channels last, 2 + 16 tokens of 4x4 patches, numbers without a place."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Conv2d(3, 3, 1)
        self.conv = nn.Conv2d(3, 6, 3, 2, 1)
        self.inplace = nn.ReLU(inplace=True)
        self.last = nn.LayerNorm(6)
        self.patch = nn.Conv2d(6, 10, 4, 4)
        self.block = nn.Identity()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(10, 2)

    def forward(self, x):
        x = self.inplace(self.conv(x))
        x = self.last(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = self.block(torch.cat([torch.zeros(len(x), 2, 10), x], dim=1))
        pooled = self.pool(x[:, 2:].transpose(1, 2)[..., None])
        return self.head(pooled.flatten(1))


def test_every_layout_is_listed_in_order_of_execution():
    assert candidate_layers(Zoo(), 32) == [
        Candidate("conv", "Conv2d", (1, 6, 16, 16), "maps", 6, (16, 16), True),
        Candidate("inplace", "ReLU", (1, 6, 16, 16), "maps", 6, (16, 16), False),
        Candidate("last", "LayerNorm", (1, 16, 16, 6), "channels_last", 6, (16, 16), False),
        Candidate("patch", "Conv2d", (1, 10, 4, 4), "maps", 10, (4, 4), False),
        Candidate("block", "Identity", (1, 18, 10), "tokens", 10, (4, 4), False),
    ]


def test_the_list_prints_as_a_table():
    lines = str(candidate_layers(Zoo(), 32)).splitlines()
    assert lines[0].split() == ["layer", "module", "returns", "layout", "channels", "cells"]
    assert lines[1].split() == ["conv", "Conv2d", "1x6x16x16", "maps", "6", "16x16", "overwritten", "in", "place"]
    assert lines[5].split() == ["block", "Identity", "1x18x10", "tokens", "10", "4x4"]
    assert lines[1].index("maps") == lines[5].index("tokens")  # columns


def test_a_square_that_may_lie_in_two_ways_is_settled_by_an_oblong_image():
    square = nn.Sequential(nn.Conv2d(3, 8, 1, stride=4), nn.Flatten(), nn.LazyLinear(2))
    square(torch.zeros(1, 3, 32, 32))  # 8 channels of 8x8 cells, and a linear layer that takes no other size
    (layer,) = candidate_layers(square, 32)
    assert layer.layout == "maps or channels_last" and not layer.usable
    assert "say which" in str(candidate_layers(square, 32))
    with pytest.raises(ValueError, match="no layer returns maps or tokens that can be read"):
        suggest_layers(square, 32)
    pooled = nn.Sequential(nn.Conv2d(3, 8, 1, stride=4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    assert [layer.layout for layer in candidate_layers(pooled, 32)] == ["maps"]


def test_a_classifier_brings_its_size_and_channels_and_is_left_as_it_was():
    classifier = tiny_classifier().train()
    classifier.network.stem.eval()
    before = snapshot(classifier)
    found = candidate_layers(classifier)
    after = snapshot(classifier)
    assert [(layer.name, layer.cells) for layer in found][-1] == ("stage", (SIZE // 4, SIZE // 4))
    for value, other in zip(before.pop("state").values(), after.pop("state").values(), strict=True):
        assert torch.equal(value, other)
    assert before == after
    grey = Classifier(nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.Flatten()), mean=(0.5,), std=(0.5,), input_size=(8, 12))
    assert candidate_layers(grey)[0].cells == (4, 6)


def test_works_in_inference_mode_and_through_wrappers():
    network = Zoo()
    with torch.inference_mode():
        assert [layer.overwritten for layer in candidate_layers(network, 32)] == [True, False, False, False, False]
    assert candidate_layers(nn.DataParallel(TinyNet()), SIZE) == candidate_layers(TinyNet(), SIZE)


def test_a_network_that_does_not_run_says_what_it_said():
    with pytest.raises(ValueError, match="Sequential does not run on an image of 20x20: .*shapes cannot be multiplied"):
        candidate_layers(nn.Sequential(nn.Flatten(), nn.Linear(5, 2)), 20)
    with pytest.raises(ValueError, match="size=0"):
        candidate_layers(TinyNet(), 0)


def test_a_layer_that_is_overwritten_in_place_is_never_suggested():
    assert suggest_layers(TinyNet(inplace=True), SIZE) == ("stem", "stage")
    found = {layer.name: layer.overwritten for layer in candidate_layers(TinyNet(inplace=True), SIZE)}
    assert found["stem.1"] and found["stage.1"] and not (found["stem"] or found["stage"])


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("resnet18", 64, "maxpool layer1 layer2 layer3 layer4"),
        ("densenet121", 64, "features.relu0 features.denseblock1 features.denseblock2 features.denseblock3 features.denseblock4"),
        ("vgg16", 64, "features.8 features.15 features.22 features.29 features.30"),
        ("mobilenet_v3_large", 64, "features.1 features.3 features.6 features.12 features.16"),
        ("efficientnet_b0", 64, "features.1 features.2 features.3 features.5 features.8"),
        ("convnext_tiny", 64, "features.1 features.3 features.5 features.7"),
        ("swin_t", 64, "features.1 features.3 features.5 features.7"),
        ("inception_v3", 299, "Conv2d_2b_3x3 Conv2d_4a_3x3 Mixed_5d Mixed_6e Mixed_7c"),
        ("vit_b_16", 224, " ".join(f"encoder.layers.encoder_layer_{block}" for block in (2, 4, 7, 9, 11))),
    ],
)
def test_what_is_suggested_of_torchvision(name, size, expected):
    options = {"init_weights": False} if name == "inception_v3" else {}
    network = torchvision.models.get_model(name, weights=None, **options)
    layers = suggest_layers(network, size)
    assert " ".join(layers) == expected
    found = {layer.name: layer for layer in candidate_layers(network, size)}
    assert all(found[layer].usable for layer in layers)
    if name == "swin_t":
        assert [found[layer].channels for layer in layers] == [96, 192, 384, 768]
        assert {found[layer].layout for layer in layers} == {"channels_last"}


def test_what_is_suggested_can_be_read_by_a_classifier():
    network = torchvision.models.mobilenet_v3_small(weights=None)
    classifier = Classifier(network, suggest_layers(network, 64, count=3), input_size=(64, 64))
    found = {layer.name: layer.channels for layer in candidate_layers(classifier)}
    assert classifier.layer_channels() == {layer: found[layer] for layer in classifier.layers} and len(classifier.layers) == 3


def test_a_row_of_blocks_is_taken_at_even_distances():
    class Blocks(nn.Module):
        def __init__(self, depth: int) -> None:
            super().__init__()
            self.patch = nn.Conv2d(3, 8, 4, 4)
            self.blocks = nn.Sequential(*(nn.Sequential(nn.Conv2d(8, 8, 1), nn.GELU()) for _ in range(depth)))

        def forward(self, x):
            return self.blocks(self.patch(x)).mean(dim=(2, 3))

    assert suggest_layers(Blocks(12), 32) == tuple(f"blocks.{block}" for block in (2, 4, 7, 9, 11))
    assert suggest_layers(Blocks(5), 32) == tuple(f"blocks.{block}" for block in range(5))
    assert suggest_layers(Blocks(12), 32, count=2) == ("blocks.5", "blocks.11")
    assert suggest_layers(Blocks(3), 32) == ("blocks.2",)  # too few for five: the last
    with pytest.raises(ValueError, match="count=0"):
        suggest_layers(Blocks(3), 32, count=0)
