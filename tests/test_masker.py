"""The masker: shapes, layers, and that it never reaches into the classifier."""

import pytest
import torch
from tiny import SIZE, tiny_classifier
from torch import nn

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.efficientnet_lite0 import efficientnet_lite0
from maskerlib.classifiers.scene_resnet import scene_resnet
from maskerlib.classifiers.torchvision_networks import from_torchvision
from maskerlib.masker.network import (
    CONDITION_AT,
    CONDITIONS,
    EMBEDDING,
    Masker,
    masker_for,
    masker_method,
    named_as_now,
)
from maskerlib.masking.distributions import MASKS
from maskerlib.masking.masks import mask_from_logits


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
        (lambda: from_torchvision("resnet18"), [(64, 64), (75, 97)]),
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
    assert masker.layers == ("stage3", "stage4") and masker.grid_layer == "stem"
    logits = masker(classifier.activations(images)[1])
    assert logits.shape == (2, 1, 31, 42) and logits.dtype == torch.float32 and logits.device.type == device.type


class TestLayers:
    def test_the_first_one_enters_as_it_is_beside_others(self):
        channels = {"stem": 4, "stage": 6}
        masker = Masker(channels, grid_layer="stem", width=8)
        assert isinstance(masker.reduce[0], nn.Identity)
        assert [tuple(weight.shape) for weight in masker.reduce[1].parameters()] == [(8, 6, 1, 1), (8,), (8,)]
        assert masker.head.weight.shape == (1, 4 + 8, 3, 3) and masker.head.bias.shape == (1,)

    def test_the_first_one_alone_is_reduced(self):
        masker = Masker({"stem": 4}, grid_layer="stem", width=8)
        assert masker.reduce[0][0].weight.shape == (8, 4, 1, 1) and masker.head.weight.shape == (1, 8, 3, 3)

    def test_forward_by_hand(self):
        """Stem as it is; stage through convolution, norm, ReLU and upsampling; then one convolution."""
        masker = Masker({"stem": 2, "stage": 3}, grid_layer="stem", width=4).eval()
        stem, stage = torch.randn(1, 2, 6, 8), torch.randn(1, 3, 3, 4)
        reduced = torch.einsum("oi,bihw->bohw", masker.reduce[1][0].weight[:, :, 0, 0], stage) / (1 + 1e-5) ** 0.5
        upsampled = nn.functional.interpolate(reduced.relu(), size=(6, 8), mode="bilinear", align_corners=False)
        expected = nn.functional.conv2d(
            torch.cat([stem, upsampled], 1), masker.head.weight, masker.head.bias, padding=1
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
    one, same, other = (masker_for(classifier, seed=seed).head.weight for seed in (0, 0, 1))
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


TOLD = pytest.mark.parametrize(
    "condition, one, other",
    [("size", torch.tensor([0.2, 0.7]), torch.tensor([0.9, 0.7])), ("class", torch.tensor([4, 0]), torch.tensor([1, 0]))],
)


class TestConditions:
    """A masker that is told something: constant channels beside each layer that it reads, or beside their features."""

    DRAWS = torch.Generator().manual_seed(0)
    ACTIVATIONS = {
        "stem": torch.randn(2, 2, 6, 8, generator=DRAWS),
        "stage": torch.randn(2, 3, 3, 4, generator=DRAWS),
    }

    def masker(self, condition: str | None, classes: int = 0, *, at: str = "layers", layers=("stem", "stage")) -> Masker:
        channels = {"stem": 2, "stage": 3}
        told = {"condition": condition, "classes": classes, "condition_at": at}
        return Masker({name: channels[name] for name in layers}, grid_layer="stem", width=4, **told).eval()

    def draw(self, masker: Masker, seen: list[torch.Tensor]) -> torch.Tensor:
        return nn.functional.conv2d(torch.cat(seen, dim=1), masker.head.weight, masker.head.bias, padding=1)

    def planes(self, constant: torch.Tensor, *size: int) -> torch.Tensor:
        """(B, C) numbers as channels that are the same in every cell."""
        return constant[:, :, None, None] * torch.ones(2, constant.shape[1], *size)

    def reduced(self, masker: Masker, index: int, seen: torch.Tensor) -> torch.Tensor:
        """1x1 convolution, batch norm with its first statistics, ReLU, upsampling."""
        weight = masker.reduce[index][0].weight[:, :, 0, 0]
        after = (torch.einsum("oi,bihw->bohw", weight, seen) / (1 + 1e-5) ** 0.5).relu()
        return nn.functional.interpolate(after, size=(6, 8), mode="bilinear", align_corners=False)

    def by_hand(self, masker: Masker, constant: torch.Tensor) -> torch.Tensor:
        """Beside each layer: the stem takes them on as it is, the stage has them before its convolution."""
        stem = torch.cat([self.ACTIVATIONS["stem"], self.planes(constant, 6, 8)], dim=1)
        stage = torch.cat([self.ACTIVATIONS["stage"], self.planes(constant, 3, 4)], dim=1)
        return self.draw(masker, [stem, self.reduced(masker, 1, stage)])

    def at_the_head(self, masker: Masker, constant: torch.Tensor) -> torch.Tensor:
        seen = [self.ACTIVATIONS["stem"], self.reduced(masker, 1, self.ACTIVATIONS["stage"])]
        return self.draw(masker, [*seen, self.planes(constant, 6, 8)])

    def test_a_size_is_one_constant_channel(self):
        areas = torch.tensor([0.2, 0.7])
        masker = self.masker("size")
        assert masker.head.weight.shape == (1, 3 + 4, 3, 3) and masker.reduce[1][0].weight.shape == (4, 3 + 1, 1, 1)
        torch.testing.assert_close(masker(self.ACTIVATIONS, areas), self.by_hand(masker, areas[:, None]))
        masker = self.masker("size", at="head")
        assert masker.head.weight.shape == (1, 2 + 4 + 1, 3, 3) and masker.reduce[1][0].weight.shape == (4, 3, 1, 1)
        torch.testing.assert_close(masker(self.ACTIVATIONS, areas), self.at_the_head(masker, areas[:, None]))

    def test_a_class_is_its_embedding_in_constant_channels(self):
        masker = self.masker("class", 5)
        assert masker.embed.weight.shape == (5, 64) and EMBEDDING == 64
        assert masker.head.weight.shape == (1, 66 + 4, 3, 3) and masker.reduce[1][0].weight.shape == (4, 3 + 64, 1, 1)
        told = torch.tensor([4, 0])
        torch.testing.assert_close(masker(self.ACTIVATIONS, told), self.by_hand(masker, masker.embed.weight[told]))
        masker = self.masker("class", 5, at="head")
        assert masker.embed.weight.shape == (5, 64) and masker.head.weight.shape == (1, 2 + 4 + 64, 3, 3)
        torch.testing.assert_close(masker(self.ACTIVATIONS, told), self.at_the_head(masker, masker.embed.weight[told]))

    def test_the_first_layer_alone_is_reduced_with_what_it_is_told(self):
        masker, areas = self.masker("size", layers=("stem",)), torch.tensor([0.2, 0.7])
        stem = torch.cat([self.ACTIVATIONS["stem"], self.planes(areas[:, None], 6, 8)], dim=1)
        expected = self.draw(masker, [self.reduced(masker, 0, stem)])
        torch.testing.assert_close(masker(self.ACTIVATIONS, areas), expected)

    def change(self, at: str, condition: str, one: torch.Tensor, other: torch.Tensor, layers) -> torch.Tensor:
        """(h, w) away from the border: how the logits of the first image change with what it is told."""
        torch.manual_seed(3)
        masker = self.masker(condition, 5, at=at, layers=layers)
        change = masker(self.ACTIVATIONS, other) - masker(self.ACTIVATIONS, one)
        assert (change[1] == 0).all()  # told the same, it draws the same
        return change[0, 0, 1:-1, 1:-1]

    @pytest.mark.parametrize("layers", [("stage",), ("stem", "stage")])
    @TOLD
    def test_at_the_head_it_changes_all_logits_by_one_constant(self, condition, one, other, layers):
        change = self.change("head", condition, one, other, layers)
        assert change.abs().min() > 1e-3
        torch.testing.assert_close(change, change[0, 0].expand_as(change), rtol=0, atol=1e-5)

    @TOLD
    def test_beside_the_layers_it_changes_logits_here_and_not_there(self, condition, one, other):
        change = self.change("layers", condition, one, other, ("stage",))
        assert change.std() > 0.02 * change.abs().max()  # against 1e-5 at the head

    @pytest.mark.parametrize("at, least, most", [("layers", 0.3, 2.0), ("head", 0.0, 1e-3)])
    def test_a_class_beside_the_layers_can_choose_a_place(self, at, least, most):
        """How far the difference of the masks' logits for two classes is from a constant, as a share of the logits' range."""
        classifier = scene_resnet("abcd").eval()
        masker = masker_for(classifier, condition="class", condition_at=at).eval()
        with torch.no_grad():
            activations = classifier.activations(torch.rand(2, 3, 96, 96))[1]
            first, second = (masker(activations, torch.full((2,), told))[:, :, 1:-1, 1:-1] for told in (0, 3))
        change = first - second
        deviation = (change - change.mean(dim=(2, 3), keepdim=True)).abs().amax() / (first.amax() - first.amin())
        assert least <= deviation.item() <= most

    @pytest.mark.parametrize("at", CONDITION_AT)
    @pytest.mark.parametrize("condition", ["size", "class"])
    def test_what_it_is_told_is_learnt_from(self, condition, at):
        masker = self.masker(condition, 5, at=at)
        told = torch.tensor([0.2, 0.7], requires_grad=True) if condition == "size" else torch.tensor([4, 0])
        masker(self.ACTIVATIONS, told).square().sum().backward()
        first = masker.head if at == "head" else masker.reduce[1][0]
        assert (first.weight.grad[:, -1] != 0).any()
        if condition == "size":
            assert (told.grad != 0).all()
        else:
            assert masker.embed.weight.grad.abs().sum(dim=1).nonzero().flatten().tolist() == [0, 4]

    def test_none_is_the_masker_of_the_study(self):
        plain = self.masker(None)
        assert plain.head.weight.shape == (1, 6, 3, 3) and not hasattr(plain, "embed")
        assert plain(self.ACTIVATIONS, None).equal(plain(self.ACTIVATIONS))

    def test_bad_conditions_are_named(self):
        assert CONDITIONS == (None, "size", "class")
        with pytest.raises(ValueError, match="condition='area' is unknown; choose one of None, size, class"):
            self.masker("area")
        assert CONDITION_AT == ("layers", "head")
        with pytest.raises(ValueError, match="condition_at='stem' is unknown; choose one of layers, head"):
            self.masker("size", at="stem")
        with pytest.raises(ValueError, match="classes=0: a masker that is told the class needs their number"):
            self.masker("class")

    @pytest.mark.parametrize("condition", ["size", "class"])
    def test_being_told_nothing_is_refused(self, condition):
        with pytest.raises(ValueError, match=rf"a masker with condition='{condition}' needs conditioning, \(B,\); give it"):
            self.masker(condition, 5)(self.ACTIVATIONS)

    def test_being_told_something_for_nothing_is_refused(self):
        with pytest.raises(ValueError, match="a masker with condition=None takes no conditioning; leave it out"):
            self.masker(None)(self.ACTIVATIONS, torch.tensor([0.5, 0.5]))


class TestMaskersFor:
    @pytest.mark.parametrize("at", CONDITION_AT)
    def test_conditions_change_no_shape_but_that_of_the_convolution_that_is_told(self, at):
        classifier = tiny_classifier()
        maskers = [masker_for(classifier, ["stage"], width=8, condition=each, condition_at=at) for each in CONDITIONS]
        shapes = [{name: tuple(value.shape) for name, value in each.state_dict().items()} for each in maskers]
        told = "head.weight" if at == "head" else "reduce.0.0.weight"
        kernel = (1, 8, 3, 3) if at == "head" else (8, 6, 1, 1)
        expected = [(kernel[0], kernel[1] + extra, *kernel[2:]) for extra in (0, 1, 64)]
        assert [each.pop(told) for each in shapes] == expected
        assert shapes[2].pop("embed.weight") == (4, 64)  # as many as the classifier has logits
        assert shapes[0] == shapes[1] == shapes[2]

    @pytest.mark.parametrize("at", CONDITION_AT)
    def test_where_it_is_told_is_of_no_consequence_without_a_condition(self, at):
        classifier = tiny_classifier()
        plain, other = masker_for(classifier), masker_for(classifier, condition_at=at)
        for name, value in plain.state_dict().items():
            assert torch.equal(value, other.state_dict()[name]), name

    def test_weights_follow_from_the_seed_and_the_global_generator_is_left_alone(self):
        classifier, before = tiny_classifier(), torch.random.get_rng_state()
        one, again, other = (masker_for(classifier, seed=seed, condition="class") for seed in (0, 0, 1))
        assert torch.equal(torch.random.get_rng_state(), before)
        for name in ("embed.weight", "head.weight", "reduce.1.0.weight"):
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
        assert torch.equal(masker.reduce[0][0].weight, reduce) and torch.equal(masker.head.weight, draw)


class TestWeightsFromBefore:
    """State dicts in which the last convolution is called `draw`."""

    def before(self, masker: Masker) -> dict[str, torch.Tensor]:
        return {name.replace("head.", "draw."): value for name, value in masker.state_dict().items()}

    def test_are_loaded_alone_and_as_part_of_another_module(self):
        classifier = tiny_classifier()
        masker, other, inside = (masker_for(classifier, seed=seed) for seed in (0, 1, 2))
        saved = self.before(masker)
        assert {"draw.weight", "draw.bias"} <= set(saved) and set(named_as_now(saved)) == set(masker.state_dict())
        other.load_state_dict(saved)
        assert set(saved) == set(self.before(masker))  # the caller's own dict is left alone
        nn.ModuleDict({"masker": inside}).load_state_dict({f"masker.{name}": value for name, value in saved.items()})
        for loaded in (other, inside):
            for name, value in masker.state_dict().items():
                assert torch.equal(loaded.state_dict()[name], value), name

    def test_what_does_not_fit_is_still_refused(self):
        masker = masker_for(tiny_classifier())
        with pytest.raises(RuntimeError, match="draws.weight"):
            masker.load_state_dict({**masker.state_dict(), "draws.weight": torch.zeros(1)})
        with pytest.raises(RuntimeError, match="head.bias"):
            masker.load_state_dict({name: value for name, value in self.before(masker).items() if name != "draw.bias"})


class TestMethod:
    def masks(self, masker: Masker, told: torch.Tensor | None, images: torch.Tensor, kind: str = "sigmoid") -> torch.Tensor:
        with torch.no_grad():
            logits = masker.eval()(tiny_classifier().activations(images)[1], told)
        mask = mask_from_logits(logits, (SIZE, SIZE))
        return mask if kind == "sigmoid" else (logits > 0).float().repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

    def test_a_size_is_the_area_asked_for(self):
        classifier, images = tiny_classifier(), torch.rand(4, 3, SIZE, SIZE)
        masker = masker_for(classifier, condition="size")
        found = [masker_method(masker, area=area)(images, None, classifier) for area in (0.1, 0.9)]
        assert not torch.equal(*found)
        for mask, area in zip(found, (0.1, 0.9), strict=True):
            torch.testing.assert_close(mask, self.masks(masker, torch.full((4,), area), images))
        half = masker_method(masker)(images, torch.tensor([0, 1, 2, 3]), classifier)  # targets are not looked at
        torch.testing.assert_close(half, self.masks(masker, torch.full((4,), 0.5), images))

    @pytest.mark.parametrize("area", [-0.1, 1.5, float("nan")])
    def test_an_area_that_no_mask_can_have_is_refused(self, area):
        with pytest.raises(ValueError, match=f"area={area} must lie between 0 and 1"):
            masker_method(masker_for(tiny_classifier(), condition="size"), area=area)

    def test_a_class_is_the_target_or_what_is_predicted(self):
        classifier, images = tiny_classifier(), torch.rand(4, 3, SIZE, SIZE)
        masker = masker_for(classifier, condition="class")
        predicted = classifier(images).argmax(dim=1)
        targets = (predicted + 1) % 4
        draw = masker_method(masker)
        torch.testing.assert_close(draw(images, None, classifier), self.masks(masker, predicted, images))
        torch.testing.assert_close(draw(images, targets, classifier), self.masks(masker, targets, images))
        assert (draw(images, targets, classifier) - draw(images, predicted, classifier)).abs().amax(dim=(1, 2, 3)).min() > 0

    @pytest.mark.parametrize("targets, expected", [(2, [2, 2, 2, 2]), ([0, 3, 1, 1], [0, 3, 1, 1]), ("blue", [2, 2, 2, 2])])
    def test_targets_may_be_one_for_all_or_a_list_or_names(self, targets, expected):
        classifier, images = tiny_classifier(), torch.rand(4, 3, SIZE, SIZE)
        masker = masker_for(classifier, condition="class")
        found = masker_method(masker)(images, targets, classifier)
        torch.testing.assert_close(found, self.masks(masker, torch.tensor(expected), images))

    @pytest.mark.parametrize("targets, message", [(4, "target 4 is no class of tiny"), ([0, 1], "2 targets for 4 images")])
    def test_targets_that_are_no_class_are_named(self, targets, message):
        classifier = tiny_classifier()
        method = masker_method(masker_for(classifier, condition="class"))
        with pytest.raises(ValueError, match=message):
            method(torch.rand(4, 3, SIZE, SIZE), targets, classifier)

    def test_images_that_are_none_are_named(self):
        classifier, images = tiny_classifier(), torch.rand(2, 3, SIZE, SIZE)
        images[1, 0, 0, 0] = float("nan")
        with pytest.raises(ValueError, match="image 1 holds NaN"):
            masker_method(masker_for(classifier))(images, None, classifier)

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


class TestPrecisionAndDevice:
    def test_double_precision_passes(self):
        """And is that of single precision, up to its rounding."""
        classifier, images = tiny_classifier(), torch.rand(2, 3, SIZE, SIZE)
        masker = masker_for(classifier, condition="size").eval()
        share = torch.tensor([0.3, 0.6])
        single = masker(classifier.activations(images)[1], share)
        classifier, masker = classifier.double(), masker.double()
        double = masker(classifier.activations(images.double())[1], share.double())
        assert single.dtype == torch.float32 and double.dtype == torch.float64
        torch.testing.assert_close(single, double.float(), rtol=1e-4, atol=1e-5)

    def test_its_gradient_holds_in_double_precision(self):
        masker = Masker({"stem": 2, "stage": 3}, grid_layer="stem", width=4, condition="class", classes=3).double().eval()
        stem, stage = torch.randn(1, 2, 4, 4).double(), torch.randn(1, 3, 2, 2).double()

        def logits(stem: torch.Tensor, stage: torch.Tensor) -> torch.Tensor:
            return masker({"stem": stem, "stage": stage}, torch.tensor([1]))

        assert torch.autograd.gradcheck(logits, (stem.requires_grad_(), stage.requires_grad_()))

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
    def test_activations_of_another_precision_are_read_in_its_own(self, dtype):
        masker = Masker({"stem": 2, "stage": 3}, grid_layer="stem", width=4).eval()
        seen = {"stem": torch.randn(1, 2, 4, 4).to(dtype), "stage": torch.randn(1, 3, 2, 2).to(dtype)}
        found = masker(seen)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, masker({name: value.float() for name, value in seen.items()}), rtol=0, atol=0)

    def test_activations_on_another_device_are_named(self):
        masker = Masker({"stem": 2, "stage": 3}, grid_layer="stem", width=4)
        seen = {"stem": torch.zeros(1, 2, 4, 4), "stage": torch.zeros(1, 3, 2, 2, device="meta")}
        with pytest.raises(ValueError, match="the masker is on cpu, the activations of 'stage' on meta; move one to the other"):
            masker(seen)
