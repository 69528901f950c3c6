"""The masker: shapes, layers, and that it never reaches into the classifier."""

import pytest
import torch
from tiny import SIZE, tiny_classifier
from torch import nn

from maskerlib.classifiers import Classifier
from maskerlib.distributions import MASKS
from maskerlib.masker import CONDITIONS, EMBEDDING, Masker, masker_for, masker_method
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


class TestConditions:
    """A masker that is told something: constant channels beside what it sees, and nothing else."""

    DRAWS = torch.Generator().manual_seed(0)
    ACTIVATIONS = {
        "stem": torch.randn(2, 2, 6, 8, generator=DRAWS),
        "stage": torch.randn(2, 3, 3, 4, generator=DRAWS),
    }

    def masker(self, condition: str | None, classes: int = 0) -> Masker:
        return Masker({"stem": 2, "stage": 3}, grid="stem", width=4, condition=condition, classes=classes).eval()

    def by_hand(self, masker: Masker, constant: torch.Tensor) -> torch.Tensor:
        """The last convolution over the features and (B, C) numbers that are the same in every cell."""
        planes = constant[:, :, None, None] * torch.ones(2, constant.shape[1], 6, 8)
        seen = torch.cat([*masker.features(self.ACTIVATIONS).values(), planes], dim=1)
        return nn.functional.conv2d(seen, masker.draw.weight, masker.draw.bias, padding=1)

    def test_a_size_is_one_constant_channel(self):
        masker = self.masker("size")
        assert masker.draw.weight.shape == (1, 2 + 4 + 1, 3, 3)
        share = torch.tensor([0.2, 0.7])
        torch.testing.assert_close(masker(self.ACTIVATIONS, share), self.by_hand(masker, share[:, None]))

    def test_a_class_is_its_embedding_in_constant_channels(self):
        masker = self.masker("class", 5)
        assert masker.embed.weight.shape == (5, 64) and EMBEDDING == 64
        assert masker.draw.weight.shape == (1, 2 + 4 + 64, 3, 3)
        expected = self.by_hand(masker, masker.embed.weight[[4, 0]])
        torch.testing.assert_close(masker(self.ACTIVATIONS, torch.tensor([4, 0])), expected)

    @pytest.mark.parametrize(
        "condition, one, other",
        [("size", torch.tensor([0.2, 0.7]), torch.tensor([0.9, 0.7])), ("class", torch.tensor([4, 0]), torch.tensor([1, 0]))],
    )
    def test_changes_the_logits_by_a_constant_away_from_the_border(self, condition, one, other):
        masker = self.masker(condition, 5)
        change = masker(self.ACTIVATIONS, other) - masker(self.ACTIVATIONS, one)
        assert (change[1] == 0).all()  # told the same, it draws the same
        inner = change[0, 0, 1:-1, 1:-1]
        assert inner.abs().min() > 1e-3
        torch.testing.assert_close(inner, inner[0, 0].expand_as(inner), rtol=0, atol=1e-5)

    @pytest.mark.parametrize("condition", ["size", "class"])
    def test_what_it_is_told_is_learnt_from(self, condition):
        masker = self.masker(condition, 5)
        told = torch.tensor([0.2, 0.7], requires_grad=True) if condition == "size" else torch.tensor([4, 0])
        masker(self.ACTIVATIONS, told).square().sum().backward()
        if condition == "size":
            assert (told.grad != 0).all() and (masker.draw.weight.grad[:, -1] != 0).any()
        else:
            assert masker.embed.weight.grad.abs().sum(dim=1).nonzero().flatten().tolist() == [0, 4]

    def test_none_is_the_masker_of_the_study(self):
        plain = self.masker(None)
        assert plain.draw.weight.shape == (1, 6, 3, 3) and not hasattr(plain, "embed")
        assert plain(self.ACTIVATIONS, None).equal(plain(self.ACTIVATIONS))

    def test_bad_conditions_are_named(self):
        assert CONDITIONS == (None, "size", "class")
        with pytest.raises(ValueError, match="condition='area' is unknown; choose one of None, size, class"):
            self.masker("area")
        with pytest.raises(ValueError, match="classes=0: a masker that is told the class needs their number"):
            self.masker("class")

    @pytest.mark.parametrize("condition", ["size", "class"])
    def test_being_told_nothing_is_refused(self, condition):
        with pytest.raises(ValueError, match=f"a masker with condition='{condition}' was told nothing"):
            self.masker(condition, 5)(self.ACTIVATIONS)

    def test_being_told_something_for_nothing_is_refused(self):
        with pytest.raises(ValueError, match="a masker with condition=None was told something"):
            self.masker(None)(self.ACTIVATIONS, torch.tensor([0.5, 0.5]))


class TestMaskersFor:
    def test_conditions_change_no_shape_but_that_of_the_last_convolution(self):
        classifier = tiny_classifier()
        plain, size, one_class = (masker_for(classifier, width=8, condition=each) for each in CONDITIONS)
        shapes = [{name: tuple(value.shape) for name, value in each.state_dict().items()} for each in (plain, size, one_class)]
        assert [each.pop("draw.weight") for each in shapes] == [(1, 4 + 8 + extra, 3, 3) for extra in (0, 1, 64)]
        assert shapes[2].pop("embed.weight") == (4, 64)  # as many as the classifier has logits
        assert shapes[0] == shapes[1] == shapes[2]

    def test_weights_follow_from_the_seed_and_the_global_generator_is_left_alone(self):
        classifier, before = tiny_classifier(), torch.random.get_rng_state()
        one, again, other = (masker_for(classifier, seed=seed, condition="class") for seed in (0, 0, 1))
        assert torch.equal(torch.random.get_rng_state(), before)
        for name in ("embed.weight", "draw.weight", "reduce.1.0.weight"):
            first, second, third = (each.state_dict()[name] for each in (one, again, other))
            assert torch.equal(first, second) and not torch.equal(first, third)

    def test_plain_weights_come_from_the_seed_alone(self):
        """Nothing is drawn before or between them for a condition that is not there."""
        classifier = tiny_classifier()
        masker = masker_for(classifier, ["stage"], width=8, seed=5)
        torch.manual_seed(5)
        nn.Conv2d(6, 8, 1, bias=False), nn.Conv2d(8, 1, 3, padding=1)  # torch's own initialisation, drawn over below
        reduce = nn.init.kaiming_normal_(torch.empty(8, 6, 1, 1), mode="fan_out", nonlinearity="relu")
        draw = nn.init.kaiming_normal_(torch.empty(1, 8, 3, 3), mode="fan_in", nonlinearity="relu")
        assert torch.equal(masker.reduce[0][0].weight, reduce) and torch.equal(masker.draw.weight, draw)


class TestMethod:
    def masks(self, masker: Masker, told: torch.Tensor | None, images: torch.Tensor, kind: str = "sigmoid") -> torch.Tensor:
        with torch.no_grad():
            logits = masker.eval()(tiny_classifier().activations(images)[1], told)
        mask = mask_from_logits(logits, (SIZE, SIZE))
        return mask if kind == "sigmoid" else (logits > 0).float().repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

    def test_a_size_is_the_share(self):
        classifier, images = tiny_classifier(), torch.rand(4, 3, SIZE, SIZE)
        masker = masker_for(classifier, condition="size")
        found = [masker_method(masker, share=share)(images, None, classifier) for share in (0.1, 0.9)]
        assert not torch.equal(*found)
        for mask, share in zip(found, (0.1, 0.9), strict=True):
            torch.testing.assert_close(mask, self.masks(masker, torch.full((4,), share), images))
        half = masker_method(masker)(images, torch.tensor([0, 1, 2, 3]), classifier)  # targets are not looked at
        torch.testing.assert_close(half, self.masks(masker, torch.full((4,), 0.5), images))

    def test_a_class_is_the_target_or_what_is_predicted(self):
        classifier, images = tiny_classifier(), torch.rand(4, 3, SIZE, SIZE)
        masker = masker_for(classifier, condition="class")
        predicted = classifier(images).argmax(dim=1)
        targets = (predicted + 1) % 4
        draw = masker_method(masker)
        torch.testing.assert_close(draw(images, None, classifier), self.masks(masker, predicted, images))
        torch.testing.assert_close(draw(images, targets, classifier), self.masks(masker, targets, images))
        assert (draw(images, targets, classifier) - draw(images, predicted, classifier)).abs().amax(dim=(1, 2, 3)).min() > 0

    @pytest.mark.parametrize("kind", MASKS)
    def test_sampled_kinds_are_decided_without_noise(self, kind):
        classifier, images = tiny_classifier(), torch.rand(4, 3, SIZE, SIZE)
        masker = masker_for(classifier)
        found = masker_method(masker, mask=kind)(images, None, classifier)
        torch.testing.assert_close(found, self.masks(masker, None, images, kind))
        assert torch.equal(masker_method(masker, mask=kind)(images, None, classifier), found)
        assert (found.unique().tolist() == [0, 1]) == (kind != "sigmoid")

    def test_another_kind_is_named(self):
        classifier = tiny_classifier()
        with pytest.raises(ValueError, match="mask='hard' is unknown; choose one of sigmoid, gumbel, gumbel_hard"):
            masker_method(masker_for(classifier), mask="hard")(torch.rand(1, 3, SIZE, SIZE), None, classifier)

    @pytest.mark.parametrize("condition", CONDITIONS)
    def test_on_the_device(self, condition, device):
        classifier = tiny_classifier().to(device)
        masker = masker_for(classifier, condition=condition).to(device)
        assert masker_method(masker)(torch.rand(2, 3, SIZE, SIZE, device=device), None, classifier).device.type == device.type
