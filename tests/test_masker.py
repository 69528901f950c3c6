"""The masker: shapes, layers, and that it never reaches into the classifier."""

import pytest
import torch
from tiny import SIZE, tiny_classifier
from torch import nn

from maskerlib.classifiers import Classifier
from maskerlib.masker import Masker, masker_for, masker_method
from maskerlib.masks import mask_from_logits
from maskerlib.zoo import efficientnet_lite0, scene_resnet, torchvision_resnet


class Plain(nn.Module):
    """Not a ResNet: layers in a list, one of them grouped, pooling in between, odd numbers of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 7, 4, 3),
            nn.GELU(),
            nn.Conv2d(7, 14, 3, groups=7),
            nn.MaxPool2d(2),
            nn.Conv2d(14, 5, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.features(x).amax(dim=(2, 3))


def plain() -> Classifier:
    return Classifier(Plain(), ("features.1", "features.3", "features.4"), input_size=(48, 48), name="plain")


@pytest.mark.parametrize(
    "make, sizes",
    [
        (lambda: scene_resnet("abcd"), [(96, 96), (61, 83), (33, 128)]),
        (lambda: torchvision_resnet("resnet18"), [(64, 64), (75, 97)]),
        (efficientnet_lite0, [(64, 96), (77, 61)]),
        (plain, [(48, 48), (31, 64)]),
    ],
    ids=["scene", "resnet18", "efficientnet", "plain"],
)
def test_masks_of_any_size_from_any_classifier(make, sizes):
    classifier = make().eval()
    draw = masker_method(masker_for(classifier, classifier.layers))
    for size in sizes:
        mask = draw(torch.rand(2, 3, *size), None, classifier)
        assert mask.shape == (2, 1, *size) and mask.dtype == torch.float32
        assert mask.min() >= 0 and mask.max() <= 1 and mask.std() > 0


def test_the_grid_is_the_first_layer_s(device):
    classifier = scene_resnet("abcd").to(device)
    masker = masker_for(classifier).to(device)
    images = torch.rand(2, 3, 61, 83, device=device)
    assert masker.layers == ("stage3", "stage4") and masker.grid == "stem"
    logits = masker(classifier.activations(images)[1])
    assert logits.shape == (2, 1, 31, 42) and logits.dtype == torch.float32 and logits.device.type == device.type


class TestLayers:
    def test_the_first_one_enters_as_it_is_beside_others(self):
        channels = {"stem": 4, "stage": 6}
        masker = Masker(channels, grid="stem", width=8)
        assert isinstance(masker.reduce[0], nn.Identity)
        assert [tuple(weight.shape) for weight in masker.reduce[1].parameters()] == [(8, 6, 1, 1), (8,), (8,)]
        assert masker.draw.weight.shape == (1, 4 + 8, 3, 3) and masker.draw.bias.shape == (1,)

    def test_the_first_one_alone_is_reduced(self):
        masker = Masker({"stem": 4}, grid="stem", width=8)
        assert masker.reduce[0][0].weight.shape == (8, 4, 1, 1) and masker.draw.weight.shape == (1, 8, 3, 3)

    def test_forward_by_hand(self):
        """Stem as it is; stage through convolution, norm, ReLU and upsampling; then one convolution."""
        masker = Masker({"stem": 2, "stage": 3}, grid="stem", width=4).eval()
        stem, stage = torch.randn(1, 2, 6, 8), torch.randn(1, 3, 3, 4)
        reduced = torch.einsum("oi,bihw->bohw", masker.reduce[1][0].weight[:, :, 0, 0], stage) / (1 + 1e-5) ** 0.5
        upsampled = nn.functional.interpolate(reduced.relu(), size=(6, 8), mode="bilinear", align_corners=False)
        expected = nn.functional.conv2d(
            torch.cat([stem, upsampled], 1), masker.draw.weight, masker.draw.bias, padding=1
        )
        torch.testing.assert_close(masker({"stem": stem, "stage": stage}), expected)

    def test_what_cannot_be_read_is_named(self):
        classifier = tiny_classifier()
        with pytest.raises(ValueError, match="layer 'head' is not read from tiny; choose from stem, stage"):
            masker_for(classifier, ["stage", "head"])
        with pytest.raises(ValueError, match="at least one layer to read"):
            masker_for(classifier, [])
        with pytest.raises(ValueError, match="tiny names no layers to read"):
            masker_for(tiny_classifier(layers=()))

    @pytest.mark.parametrize("missing", ["stem", "stage"])
    def test_a_missing_activation_is_named(self, missing):
        activations = {"stem": torch.zeros(1, 4, 8, 8), "stage": torch.zeros(1, 6, 4, 4)}
        del activations[missing]
        with pytest.raises(ValueError, match=f"layer '{missing}' is not among the activations"):
            masker_for(tiny_classifier(), ["stage"])(activations)


def test_its_loss_leaves_no_gradient_in_the_classifier():
    classifier = tiny_classifier().train()
    masker = masker_for(classifier, classifier.layers)
    logits, activations = classifier.activations(torch.rand(4, 3, SIZE, SIZE))
    assert logits.requires_grad  # so a way into the classifier would be open
    mask_from_logits(masker(activations), (SIZE, SIZE)).square().mean().backward()
    assert all(weight.grad is None for weight in classifier.parameters())
    assert all(weight.grad is not None for weight in masker.parameters())


def test_weights_follow_from_the_seed():
    classifier = tiny_classifier()
    one, same, other = (masker_for(classifier, seed=seed).draw.weight for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)
    deviation = masker_for(scene_resnet("ab"), ["stage4"], width=512).reduce[0][0].weight.std().item()
    assert deviation == pytest.approx((2 / 512) ** 0.5, rel=0.02)  # He, fan-out


def test_the_first_masks_are_grey_not_saturated():
    classifier = scene_resnet("ab")
    masks = masker_for(classifier, seed=3)(classifier.activations(torch.rand(8, 3, 96, 96))[1]).sigmoid()
    assert ((masks > 0.02) & (masks < 0.98)).float().mean() > 0.95


def test_the_method_leaves_modes_and_statistics_as_they_were_and_ignores_targets():
    classifier, images = tiny_classifier(), torch.rand(4, 3, SIZE, SIZE)
    masker = masker_for(classifier, classifier.layers)
    assert masker.training
    before = {name: value.clone() for name, value in masker.state_dict().items()}
    masks = masker_method(masker)(images, torch.tensor([0, 1, 2, 3]), classifier)
    assert masker.training and all(torch.equal(before[name], value) for name, value in masker.state_dict().items())
    assert not masks.requires_grad
    torch.testing.assert_close(masker_method(masker)(images[:1], None, classifier), masks[:1])  # one image or many
