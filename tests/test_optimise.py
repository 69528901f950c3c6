"""Equation 1 on one image: gradients, a classifier whose best mask is known, independence, and real photographs."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from tiny import SIZE, Squares, tiny_classifier
from torch import Tensor, nn

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.efficientnet_lite0 import efficientnet_lite0
from maskerlib.data.photos import Photos
from maskerlib.masking.infills import fill, opencv
from maskerlib.masking.masks import mask_from_logits, masked_in, masked_out
from maskerlib.masking.objectives import Objective, evaluate_objective
from maskerlib.methods.optimise import PER_IMAGE, mask_method, optimise_mask
from maskerlib.training.loop import Diverged


class Quadrant(nn.Module):
    """Class 1 in proportion to the brightness of the upper left quarter, of which hidden pixels have 0. Nothing else counts."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(3.0))

    def forward(self, x: Tensor) -> Tensor:
        quarter = x[:, :, : x.shape[2] // 2, : x.shape[3] // 2].mean(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(quarter), self.scale * quarter], dim=1)


def quadrant_classifier() -> Classifier:
    return Classifier(Quadrant(), (), class_names=("other", "bright"), input_size=(32, 32), name="quadrant").eval()


QUICK = {"steps": 3, "grid": 4, "shift": 0.1, "precision": "fp32"}


@pytest.mark.parametrize("shape", [(32, 32), (32, 48)])
def test_the_mask_is_the_quarter_that_the_classifier_looks_at(shape, device):
    # Showing all of the quarter lowers the cross-entropy by 0.14 at the end, the size terms cost 0.05; outside they are all.
    objective = Objective(size_in=0.1, size_out=0.1, tv=0.0)
    images = torch.ones(2, 3, *shape, device=device)
    found = optimise_mask(quadrant_classifier().to(device), images, objective=objective, grid=8, shift=0.0)
    mask = found.masks[:, 0]
    assert found.targets.tolist() == [1, 1] and mask.device.type == device.type and mask.shape == (2, *shape)
    rows, columns = shape[0] // 2, shape[1] // 2
    inside = mask[:, : rows - 4, : columns - 4]
    assert inside.min() > 0.8
    assert mask[:, rows + 4 :].max() < 0.1 and mask[:, :, columns + 4 :].max() < 0.1
    assert (found.kept > 0.95 * found.clean).all() and (found.left < 0.65).all()  # 0.5 is a guess between two


def test_gradients_of_the_coarse_logits_are_those_of_finite_differences():
    classifier, batch = tiny_classifier().double(), Squares().batch(range(3))
    objective = Objective(size_in=0.3, size_out=0.7, tv=0.05)
    logits = torch.randn(3, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def value(free: Tensor) -> Tensor:
        mask = mask_from_logits(free, (SIZE, SIZE), upsampling="smooth")
        right = torch.ones(3, dtype=torch.float64)
        judge = classifier.network
        terms = evaluate_objective(objective, judge, batch.images.double(), mask, batch.labels, right, classifier.mean)
        return torch.stack(list(terms.values())).sum()

    (exact,) = torch.autograd.grad(value(logits), logits)
    with torch.no_grad():
        for at in [(0, 0, 1, 2), (1, 0, 3, 3), (2, 0, 0, 1)]:
            ahead, behind = logits.clone(), logits.clone()
            ahead[at] += 1e-5
            behind[at] -= 1e-5
            assert exact[at].item() == pytest.approx((value(ahead) - value(behind)).item() / 2e-5, rel=1e-4, abs=1e-8)


def test_the_objective_falls():
    found = optimise_mask(tiny_classifier(), Squares().batch(range(4)).images, grid=4, steps=30, noise=0.0)
    total = [sum(terms) for terms in zip(*found.history.values(), strict=True)]
    assert len(total) == 30 and sum(total[-5:]) < sum(total[:5])


def test_images_do_not_influence_each_other():
    classifier, images = tiny_classifier(), Squares().batch(range(3)).images
    together = optimise_mask(classifier, images, grid=4, steps=10).masks
    alone = torch.cat([optimise_mask(classifier, image[None], grid=4, steps=10).masks for image in images])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-3)


def test_the_seed_decides():
    classifier, images = tiny_classifier(), Squares().batch(range(2)).images
    first, again, other = (optimise_mask(classifier, images, seed=seed, **QUICK).masks for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_several_shifts_a_step_are_the_mean_of_their_gradients():
    """Where none moves and none wobbles, all are one; else they are looked at one after the other, each once."""
    classifier, images = tiny_classifier(), Squares().batch(range(2)).images
    still = {**QUICK, "shift": 0.0, "noise": 0.0}
    one, four = (optimise_mask(classifier, images, shifts=shifts, **still) for shifts in (1, 4))
    torch.testing.assert_close(four.masks, one.masks)
    assert [len(values) for values in four.history.values()] == [len(values) for values in one.history.values()]
    for name, values in one.history.items():
        assert four.history[name] == pytest.approx(values, abs=1e-5)
    seen: list[Tensor] = []
    classifier.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    optimise_mask(classifier, images, shifts=4, infill=lambda images, mean: images, **{**QUICK, "shift": 0.2})
    assert len(seen) == 1 + 3 * 4 * 2 + 3
    assert len({tuple(view[0, 0].sum(dim=1).tolist()) for view in seen[1:9:2]}) > 1


def test_the_classifier_is_left_as_it_was():
    classifier = tiny_classifier().train()
    classifier.network.head.weight.requires_grad_(False)
    before = copy.deepcopy(classifier.state_dict())
    with torch.no_grad():  # a caller's switch must not stop the optimisation
        optimise_mask(classifier, Squares().batch(range(2)).images, **QUICK)
    assert all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items())
    assert classifier.training and classifier.network.stem[1].training
    assert not classifier.network.head.weight.requires_grad and classifier.network.head.bias.requires_grad
    assert all(weight.grad is None for weight in classifier.parameters())


def test_targets_default_to_the_prediction_and_can_be_others():
    classifier, images = tiny_classifier(), Squares().batch(range(4)).images
    predicted = classifier(images).argmax(dim=1)
    assert torch.equal(optimise_mask(classifier, images, **QUICK).targets, predicted)
    other = (predicted + 1) % 4
    found = optimise_mask(classifier, images, other, **QUICK)
    torch.testing.assert_close(found.clean, classifier(images).softmax(dim=1).gather(1, other[:, None])[:, 0])


def frame(images: Tensor, mean: Tensor) -> Callable[[Tensor], Tensor]:
    """An infill that depends on the hole: its own share of the image as grey."""
    return lambda hole: hole.mean(dim=(2, 3), keepdim=True).expand(-1, 3, *images.shape[-2:])


@pytest.mark.parametrize("infill", ["blur", "noise", "opencv", frame, lambda images, mean: torch.zeros_like(images)])
def test_what_hides_can_be_chosen(infill):
    classifier, images = tiny_classifier(), Squares().batch(range(2)).images
    found = optimise_mask(classifier, images, infill=infill, **QUICK)
    assert not torch.equal(found.masks, optimise_mask(classifier, images, **QUICK).masks)


def test_an_infill_is_asked_for_the_hole_of_each_side_in_place_and_moves_with_the_image():
    """Holes of images that stay where they are; a judge that sees the shifted image in its shifted surroundings."""
    images, holes, views = Squares().batch(range(2)).images, [], []

    def spy(images: Tensor, mean: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda hole: holes.append(hole) or images  # what hides is the image itself: every view is the image

    classifier = tiny_classifier()
    classifier.register_forward_pre_hook(lambda module, inputs: views.append(inputs[0].detach()))
    found = optimise_mask(classifier, images, infill=spy, steps=3, grid=4, shift=0.2, noise=0.0)
    assert len(holes) == 3 * 2 + 2 and len(views) == 1 + 3 * 2 + 3
    for kept, left in zip(holes[::2], holes[1::2], strict=True):
        torch.testing.assert_close(kept, 1 - left)
    start = torch.ones(2, 1, SIZE, SIZE).sigmoid()
    torch.testing.assert_close(holes[:2], [1 - start, start])
    torch.testing.assert_close(holes[-1], found.masks)
    torch.testing.assert_close(found.kept, found.clean)
    for kept, left in zip(views[1:7:2], views[2:7:2], strict=True):
        torch.testing.assert_close(kept, left, rtol=0, atol=1e-6)
    assert not torch.allclose(views[1], images, atol=1e-3)  # shifted


def test_probabilities_are_those_of_the_views_that_the_infill_gives():
    classifier, images = tiny_classifier(), Squares().batch(range(3)).images
    found = optimise_mask(classifier, images, infill="opencv", **QUICK)
    filling = opencv()(images, classifier.mean)
    for view, hole, expected in ((masked_in, 1 - found.masks, found.kept), (masked_out, found.masks, found.left)):
        shown = view(images, found.masks, fill(filling, hole))
        answer = classifier(shown).softmax(dim=1).gather(1, found.targets[:, None])[:, 0]
        torch.testing.assert_close(answer.detach(), expected)


@pytest.mark.parametrize("infill", ["noise", "opencv"])
def test_the_seed_decides_whatever_hides(infill):
    classifier, images = tiny_classifier(), Squares().batch(range(2)).images
    before = torch.random.get_rng_state()
    options = {"infill": infill, **QUICK}
    first, again, other = (optimise_mask(classifier, images, seed=seed, **options).masks for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_objective_with_a_budget_has_no_area_here():
    with pytest.raises(ValueError, match="budget=10: the objective asks each mask for an area"):
        optimise_mask(tiny_classifier(), Squares().batch([0]).images, objective=Objective(budget=10), **QUICK)


def test_the_method_is_the_function():
    classifier, images = tiny_classifier(), Squares().batch(range(2)).images
    assert torch.equal(mask_method(**QUICK)(images, None, classifier), optimise_mask(classifier, images, **QUICK).masks)


IMAGES = torch.rand(2, 3, SIZE, SIZE)


@pytest.mark.parametrize(
    "images, options, message",
    [
        (IMAGES[0], {}, r"images: torch.float32 \(3, 16, 16\), expected floats \(B, 3, H, W\)"),
        (IMAGES[:0], {}, r"images: torch.float32 \(0, 3, 16, 16\)"),
        (IMAGES * float("nan"), {}, "image 0 holds NaN or infinity"),
        (IMAGES * 255, {}, r"image 0 has values from .* expected \[0, 1\]; divide bytes by 255"),
        (IMAGES - 0.5, {}, r"image 0 has values from -0\.\d+ .* before its normalisation"),
        (IMAGES[:, :1], {}, "images have 1 channels, tiny takes 3"),
        (IMAGES, {"targets": torch.tensor([1])}, "1 targets for 2 images; give one class, or one an image"),
        (
            IMAGES,
            {"targets": torch.tensor([1.0, 2.0])},
            r"target 1\.0 is no class of tiny; give whole numbers from 0 to 3, or names",
        ),
        (IMAGES, {"targets": torch.tensor([1, 4])}, "target 4 is no class of tiny; give whole numbers from 0 to 3"),
        (IMAGES, {"targets": 4}, "target 4 is no class"),
        (IMAGES, {"targets": "whit"}, "'whit' is no class of tiny; near ones: white"),
        (IMAGES, {"batch_size": 0}, "batch_size=0 must be"),
        (IMAGES, {"grid": 0}, "grid=0 must be 1 cell or more"),
        (IMAGES, {"steps": 0}, "steps=0 must be"),
        (IMAGES, {"shifts": 0}, "shifts=0 must be a whole number"),
        (IMAGES, {"lr": 0.0}, "lr=0.0 must be"),
        (IMAGES, {"lr": float("nan")}, "lr=nan must be"),
        (IMAGES, {"noise": -1.0}, r"noise=-1\.0 must be"),
        (IMAGES, {"shift": 0.5}, r"shift=0\.5 must lie at least at 0 and below 0\.5"),
        (IMAGES, {"infill": "grey"}, "infill='grey' is unknown; choose mean, blur, noise, local_mean, opencv or give"),
    ],
)
def test_bad_arguments_are_named(images, options, message):
    with pytest.raises(ValueError, match=message):
        optimise_mask(tiny_classifier(), images, **options)


def test_a_number_that_is_not_finite_stops_with_the_step_and_the_term():
    with pytest.raises(Diverged, match="step 0: in is nan"):
        optimise_mask(tiny_classifier(), IMAGES, infill=lambda images, mean: mean * float("nan"), **QUICK)


def test_weights_that_are_not_finite_are_named_before_anything_runs():
    classifier = tiny_classifier()
    with torch.no_grad():
        classifier.network.head.bias[0] = float("nan")
    with pytest.raises(ValueError, match=r"weight 'network\.head\.bias' of tiny holds NaN or infinity"):
        optimise_mask(classifier, IMAGES, **QUICK)


@pytest.mark.parametrize(
    "targets", [2, "blue", [2, 2, 2], ["blue", 2, "Blue"], np.full(3, 2), torch.full((3,), 2, dtype=torch.int32)]
)
def test_targets_may_be_one_class_or_one_an_image_by_number_or_name(targets):
    images = Squares().batch(range(3)).images
    expected = optimise_mask(tiny_classifier(), images, torch.full((3,), 2), **QUICK)
    assert torch.equal(optimise_mask(tiny_classifier(), images, targets, **QUICK).masks, expected.masks)


def test_more_images_than_a_batch_holds_are_done_in_parts():
    classifier, images = tiny_classifier(), Squares().batch(range(5)).images
    sizes: list[int] = []
    hook = classifier.network.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    in_parts = optimise_mask(classifier, images, batch_size=2, **QUICK)
    hook.remove()
    assert max(sizes) <= 3  # three images are what the check of the classifier itself looks at
    whole = optimise_mask(classifier, images, **QUICK)
    for name in ("masks", "clean", "kept", "left"):
        torch.testing.assert_close(getattr(in_parts, name), getattr(whole, name), atol=1e-4, rtol=1e-4)
    assert torch.equal(in_parts.targets, whole.targets)
    for name, values in whole.history.items():
        assert in_parts.history[name] == pytest.approx(values, abs=1e-4)


class TestYesOrNo:
    """Networks whose logits are each a yes or no: one logit, or several labels at once."""

    @staticmethod
    def bright(where: slice) -> nn.Module:
        """A logit that is high where the rows of `where` are bright, and "no" where they are hidden."""

        class Bright(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return 8 * x[:, :, where].mean(dim=(1, 2, 3))[:, None] - 3

        return Bright()

    def test_one_logit_shows_the_evidence_for_yes_and_for_no(self):
        classifier = Classifier(self.bright(slice(0, 8)), input_size=(SIZE, SIZE), class_names=("no", "yes"))
        images = torch.full((1, 3, SIZE, SIZE), 0.9)
        yes = optimise_mask(classifier, images, steps=40, grid=4)
        assert yes.targets.tolist() == [1] and float(yes.kept) > float(yes.left) + 0.1
        assert yes.masks[0, 0, :8].mean() > yes.masks[0, 0, 8:].mean() + 0.3
        assert float(optimise_mask(classifier, images, "no", **QUICK).clean) == pytest.approx(
            1 - float(yes.clean), abs=1e-5
        )

    def test_each_label_of_several_is_its_own_question(self):
        class Both(nn.Module):
            def __init__(self, parts: list[nn.Module]) -> None:
                super().__init__()
                self.parts = nn.ModuleList(parts)

            def forward(self, x: Tensor) -> Tensor:
                return torch.cat([part(x) for part in self.parts], dim=1)

        both = Both([self.bright(slice(0, 8)), self.bright(slice(8, 16))])
        classifier = Classifier(both, input_size=(SIZE, SIZE), head="sigmoid")
        images = torch.full((2, 3, SIZE, SIZE), 0.9)
        found = optimise_mask(classifier, images, [0, 1], steps=40, grid=4)
        assert float(found.clean.min()) > 0.9, "a softmax over both labels would be undecided"
        top, bottom = found.masks[:, 0, :8].mean(dim=(1, 2)), found.masks[:, 0, 8:].mean(dim=(1, 2))
        assert top[0] > bottom[0] + 0.3 and bottom[1] > top[1] + 0.3

    @pytest.mark.parametrize("last, mend", [(nn.Softmax(1), r"returned\.log\(\)"), (nn.Sigmoid(), r"torch\.logit")])
    def test_probabilities_are_refused_with_the_mend_which_works(self, last, mend):
        network = nn.Sequential(
            tiny_classifier().network, nn.Linear(4, 1) if isinstance(last, nn.Sigmoid) else nn.Identity(), last
        )
        with pytest.raises(
            ValueError,
            match=rf"returns .*, expected logits; .*output={'' if mend[0] == 't' else 'lambda returned: '}{mend}",
        ):
            optimise_mask(Classifier(network, input_size=(SIZE, SIZE)), IMAGES, **QUICK)
        undone = torch.logit if isinstance(last, nn.Sigmoid) else torch.log
        optimise_mask(Classifier(network, input_size=(SIZE, SIZE), output=undone), IMAGES, **QUICK)


@pytest.mark.slow
def test_real_photographs_keep_and_lose_their_decision_with_masks_that_can_be_moved():
    classifier = efficientnet_lite0()
    photos = Photos(["coffee", "motorcycle"]).batch(range(2)).images
    found = optimise_mask(classifier, photos, precision="fp32")
    assert found.masks.mean(dim=(1, 2, 3)).max() < 0.4
    assert (found.kept >= 0.8 * found.clean).all() and (found.left <= 0.1 * found.clean).all()
    for shift in ((3, 0), (0, -3)):
        moved = [torch.roll(part, shift, dims=(2, 3)) for part in (photos, found.masks)]
        with torch.no_grad():
            kept, left = (
                classifier(view(*moved, classifier.mean)).softmax(dim=1).gather(1, found.targets[:, None])[:, 0]
                for view in (masked_in, masked_out)
            )
        assert (kept >= 0.4 * found.clean).all() and (left <= 0.2 * found.clean).all()
    neighbours = found.masks.diff(dim=2).abs().max(), found.masks.diff(dim=3).abs().max()
    assert max(neighbours) < 0.2, "the mask has hard edges: it is no longer smooth"
    assert PER_IMAGE.tv > 0
