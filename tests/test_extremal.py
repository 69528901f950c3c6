"""Extremal perturbations: the two relaxations against plain loops, and toys on which the best mask of an area is known."""

import itertools
import math

import pytest
import torch
from tiny import SIZE, Squares, tiny_classifier
from torch import Tensor, nn
from toys import OTHER, PATCH, both_classifier, bright, inside, patch_classifier

from maskerlib.classifiers.classifier import Classifier
from maskerlib.masking.infills import blur
from maskerlib.methods.blur_pyramid import blur_pyramid, faded
from maskerlib.methods.extremal import AREAS, ENTRY, Extremal, area_loss, extremal_masks, extremal_perturbation
from maskerlib.methods.max_convolution import MaxConvolution
from maskerlib.training.loop import Diverged

TOY = {"infill": "mean", "flip": False, "grid": 16, "sigma": 0.5, "steps": 80, "lr": 0.03}
QUICK = {"area": (0.3, 0.1), "steps": 4, "grid": 8}
PATCH_AREA = 1 / 16


class TestAreaLoss:
    """mean((sort(m) - r_a)^2) by a sort and a loop."""

    @staticmethod
    def plain(mask: Tensor, area: float) -> float:
        values = sorted(mask.flatten().tolist())
        ones = round(area * len(values))
        wanted = [0.0] * (len(values) - ones) + [1.0] * ones
        return sum((value - want) ** 2 for value, want in zip(values, wanted, strict=True)) / len(values)

    def test_against_a_sort(self):
        masks, areas = torch.rand(4, 1, 5, 8), (0.025, 0.1, 0.5, 1.0)
        expected = [self.plain(mask, area) for mask, area in zip(masks, areas, strict=True)]
        assert area_loss(masks, areas).tolist() == pytest.approx(expected, abs=1e-5)

    def test_with_many_equal_values(self):
        masks = torch.randint(0, 3, (3, 1, 6, 6)).float() / 2
        expected = [self.plain(mask, 0.4) for mask in masks]
        assert area_loss(masks, [0.4] * 3).tolist() == pytest.approx(expected, abs=1e-6)

    def test_what_is_equal_is_pulled_alike_wherever_it_lies(self):
        mask = torch.full((1, 1, 4, 4), 0.7, requires_grad=True)
        area_loss(mask, [0.25]).sum().backward()
        torch.testing.assert_close(mask.grad, torch.full_like(mask, 2 * (0.7 - 0.25) / 16))

    def test_descent_makes_what_is_high_1_and_the_rest_0(self):
        mask = torch.tensor([[[[0.9, 0.8], [0.3, 0.1]]]], requires_grad=True)
        area_loss(mask, [0.5]).sum().backward()
        torch.testing.assert_close(mask.grad.flatten(), torch.tensor([-0.1, -0.2, 0.3, 0.1]) / 2)


class TestMaxConvolution:
    @staticmethod
    def plain(values: Tensor, size: tuple[int, int], sigma: float) -> Tensor:
        """A loop over the pixels, and over the cells of each pixel's square."""
        rows, columns = values.shape
        pitch = size[0] / rows, size[1] / columns
        scale = sigma * min(pitch)
        reach = [math.ceil(round(scale / each, 6)) + 1 for each in pitch]
        mask = torch.zeros(size, dtype=values.dtype)
        for y, x in itertools.product(range(size[0]), range(size[1])):
            at = (y + 0.5, x + 0.5)
            own = [math.floor(place / each) for place, each in zip(at, pitch, strict=True)]
            products = []
            around = (range(middle - far, middle + far + 1) for middle, far in zip(own, reach, strict=True))
            for i, j in itertools.product(*around):
                away = math.dist(at, ((i + 0.5) * pitch[0], (j + 0.5) * pitch[1])) / scale
                value = values[min(max(i, 0), rows - 1), min(max(j, 0), columns - 1)]
                products.append(math.exp(-2 * max(away - 0.5, 0) ** 2) * value)
            found = torch.stack(products)
            mask[y, x] = (found * (20 * found).softmax(dim=0)).sum()
        return mask

    @pytest.mark.parametrize(
        "cells, size, sigma", [((3, 3), (6, 6), 1.5), ((2, 3), (4, 6), 3.0), ((4, 5), (7, 9), 1.0), ((6, 6), (4, 4), 2.0)]
    )
    def test_against_a_loop_over_pixels_and_cells(self, cells, size, sigma):
        values = torch.rand(2, 1, *cells, dtype=torch.float64, requires_grad=True)
        other = values.detach().clone().requires_grad_()
        masks = MaxConvolution(cells, size, sigma=sigma, like=values)(values)
        expected = torch.stack([self.plain(value[0], size, sigma)[None] for value in other])
        torch.testing.assert_close(masks, expected)
        upstream = torch.rand_like(masks)
        (ours,) = torch.autograd.grad(masks, values, upstream)
        (plain,) = torch.autograd.grad(expected, other, upstream)
        torch.testing.assert_close(ours, plain)

    def test_one_cell_stays_1_where_an_average_would_fade_it(self):
        values = torch.zeros(1, 1, 9, 9)
        values[..., 4, 4] = 1
        mask = MaxConvolution((9, 9), (27, 27), sigma=2.0, like=values)(values)
        assert mask[0, 0, 13, 13] > 0.999 and 0.05 < mask.mean() < 0.4
        steps = torch.cat([mask.diff(dim=2).flatten(), mask.diff(dim=3).flatten()])
        assert steps.abs().max() < 0.3, "the mask is not smooth"

    def test_no_pixel_is_above_others_where_all_cells_are_equal(self):
        mask = MaxConvolution((8, 8), (24, 24), sigma=3.0, like=torch.ones(1))(torch.full((1, 1, 8, 8), 0.6))
        assert torch.equal(mask, mask[..., :3, :3].repeat(1, 1, 8, 8))

    def test_on_the_device(self, device):
        values = torch.rand(2, 1, 6, 6, device=device, requires_grad=True)
        masks = MaxConvolution((6, 6), (13, 13), sigma=2.0, like=values)(values)
        masks.sum().backward()
        there = values.detach().cpu().requires_grad_()
        expected = MaxConvolution((6, 6), (13, 13), sigma=2.0, like=there)(there)
        expected.sum().backward()
        assert masks.device.type == device.type
        torch.testing.assert_close(masks.cpu(), expected)
        torch.testing.assert_close(values.grad.cpu(), there.grad, rtol=1e-4, atol=1e-4)


class TestPyramid:
    def test_levels_are_blurs_from_strong_to_none(self):
        images = torch.rand(2, 3, 20, 28)
        pyramid = blur_pyramid(images, levels=5, sigma=20)
        assert pyramid.shape == (2, 5, 3, 20, 28) and torch.equal(pyramid[:, -1], images)
        for level, sigma in enumerate((20, 15, 10, 5)):
            torch.testing.assert_close(pyramid[:, level], blur(sigma)(images, images))

    def test_a_mask_picks_a_level_and_lies_between_two(self):
        pyramid = torch.rand(2, 4, 3, 6, 5, dtype=torch.float64)
        masks = torch.rand(2, 1, 6, 5, dtype=torch.float64, requires_grad=True)
        view = faded(pyramid, masks)
        for b, c, y, x in itertools.product(range(2), range(3), range(6), range(5)):
            height = float(masks[b, 0, y, x].detach()) * 3
            low = min(int(height), 2)
            between = pyramid[b, low, c, y, x] * (low + 1 - height) + pyramid[b, low + 1, c, y, x] * (height - low)
            assert float(view[b, c, y, x].detach()) == pytest.approx(float(between), abs=1e-9)
        assert torch.autograd.gradcheck(lambda m: faded(pyramid, m), 0.05 + 0.2 * masks.detach().requires_grad_())

    def test_the_ends(self):
        pyramid = torch.rand(1, 8, 3, 4, 4)
        assert torch.equal(faded(pyramid, torch.ones(1, 1, 4, 4)), pyramid[:, -1])
        assert torch.equal(faded(pyramid, torch.zeros(1, 1, 4, 4)), pyramid[:, 0])


class TestWhatIsFound:
    @pytest.mark.parametrize("variant", ["preserve", "delete", "dual"])
    @pytest.mark.parametrize("reward", ["logit", "contrastive"])
    def test_the_mask_of_the_patch_s_area_is_the_patch(self, variant, reward):
        options = {**TOY, "variant": variant, "reward": reward}
        found = extremal_masks(patch_classifier(), bright(2), 1, area=PATCH_AREA, **options)
        assert torch.equal(found.masks > 0.5, inside(PATCH).bool().expand(2, 1, -1, -1))
        assert found.masks.mean(dim=(2, 3)).sub(PATCH_AREA).abs().max() < 0.02
        assert (found.kept > 0.9).all() and (found.left < 0.1).all()

    def test_masks_have_the_area_asked_for(self):
        areas = (0.025, 0.05, 0.1, 0.2, 0.4)
        found = extremal_masks(patch_classifier(), bright(1), 1, area=areas, **TOY)
        assert found.areas == areas
        asked = torch.tensor(areas)
        assert (found.masks.mean(dim=(2, 3)) - asked).abs().max() < 0.02
        assert ((found.masks > 0.5).float().mean(dim=(2, 3)) - asked).abs().max() < 0.02

    def test_of_two_patches_both_must_be_shown_and_one_be_hidden(self):
        """Preserving needs twice the area that deleting does; the smallest area that keeps the score says so."""
        areas = (PATCH_AREA / 2, PATCH_AREA, 2 * PATCH_AREA, 3 * PATCH_AREA)
        both, image = both_classifier(), bright(1)
        shown = extremal_masks(both, image, 1, area=areas, variant="preserve", **TOY)
        hidden = extremal_masks(both, image, 1, area=areas, variant="delete", **{**TOY, "sigma": 1.0, "steps": 160})

        def covered(found: Extremal, number: int) -> list[float]:
            return sorted(float((found.masks[0, number] * inside(box)[0, 0]).sum() / 16) for box in (PATCH, OTHER))

        enough = int(shown.smallest(0.9))
        assert areas[enough] == 2 * PATCH_AREA and min(covered(shown, enough)) > 0.9
        one = int(hidden.smallest(0.9, "delete"))
        assert areas[one] == PATCH_AREA
        less, more = covered(hidden, one)
        assert less < 0.1 and more > 0.6

    def test_a_mirror_image_every_second_step_leaves_left_and_right_undecided(self):
        options = {**TOY, "flip": True}
        found = extremal_masks(patch_classifier(), bright(1), 1, area=2 * PATCH_AREA, **options)
        mirrored = inside(PATCH)[0, 0].flip(1)
        assert (found.masks[0, 0] * mirrored).sum() > 8 and (found.masks[0, 0] * inside(PATCH)[0, 0]).sum() > 8

    def test_each_label_of_several_is_its_own_question(self):
        class Halves(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return torch.stack([8 * x[:, :, rows].mean(dim=(1, 2, 3)) - 3 for rows in (slice(0, 8), slice(8, 16))], dim=1)

        classifier = Classifier(Halves(), input_size=(16, 16), head="sigmoid")
        found = extremal_masks(classifier, bright(2), [0, 1], area=0.4, **TOY)
        assert found.masks[0, 0, :8].mean() > 0.7 and found.masks[1, 0, 8:].mean() > 0.7


def test_the_smallest_area_that_keeps_the_score_by_hand():
    kept = torch.tensor([[0.1, 0.8, 0.9], [0.1, 0.2, 0.3], [0.9, 0.1, 0.9]])
    left = torch.tensor([[0.9, 0.5, 0.0], [0.9, 0.2, 0.1], [0.0, 0.0, 0.0]])
    found = Extremal(torch.zeros(3, 3, 1, 1), (0.1, 0.2, 0.3), torch.zeros(3).long(), torch.ones(3), kept, left)
    assert found.smallest(0.8).tolist() == [1, 2, 0]
    assert found.smallest(0.8, "delete").tolist() == [2, 1, 0]
    assert found.smallest(0.8, "dual").tolist() == [2, 2, 0]


def test_several_areas_and_images_at_once_are_one_at_a_time():
    classifier, images = tiny_classifier(), Squares(3).images
    options = {"steps": 6, "grid": 8}
    together = extremal_masks(classifier, images, [0, 1, 2], area=AREAS, **options)
    for image, number in itertools.product(range(3), range(len(AREAS))):
        alone = extremal_masks(classifier, images[image : image + 1], image, area=AREAS[number], **options)
        torch.testing.assert_close(alone.masks[0, 0], together.masks[image, number], rtol=0, atol=1e-3)
    in_parts = extremal_masks(classifier, images, [0, 1, 2], area=AREAS, batch_size=5, **options)
    torch.testing.assert_close(in_parts.masks, together.masks, rtol=0, atol=1e-3)
    torch.testing.assert_close(in_parts.kept, together.kept, rtol=0, atol=1e-3)


def test_no_pass_is_larger_than_asked():
    classifier, sizes = tiny_classifier(), []
    classifier.network.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    extremal_masks(classifier, Squares(5).images, area=AREAS, batch_size=3, steps=2, variant="dual")
    assert max(sizes) <= 3


@pytest.mark.parametrize("variant", ["preserve", "dual"])
@pytest.mark.parametrize("area", [0.1, (0.1, 0.2, 0.3)])
def test_it_costs_as_many_passes_as_it_says(variant, area):
    classifier, seen = tiny_classifier(), []
    classifier.network.register_forward_hook(lambda module, inputs, output: seen.append((len(output), output.requires_grad)))
    method = extremal_perturbation(area=area, variant=variant, steps=3)
    method(Squares(1).images, None, classifier)  # how its memory lies is asked once
    seen.clear()
    method(Squares(2).images, None, classifier)
    forward, backward = ENTRY.cost((SIZE, SIZE), area=area, variant=variant, steps=3)
    assert sum(count for count, _ in seen) == 2 * forward
    assert sum(count for count, graph in seen if graph) == 2 * backward


def test_the_map_is_the_mean_of_the_masks_or_that_of_the_smallest_area():
    classifier, images = patch_classifier(), bright(2)
    options = {**TOY, "area": (0.2, PATCH_AREA)}
    masks = extremal_masks(classifier, images, 1, **options).masks
    assert torch.equal(extremal_perturbation(**options)(images, 1, classifier), masks.mean(dim=1, keepdim=True))
    small = extremal_perturbation(choose="smallest", share=0.9, **options)(images, 1, classifier)
    assert torch.equal(small, masks[:, :1])
    assert torch.equal(extremal_perturbation(choose="smallest", **{**options, "area": 0.2})(images, 1, classifier), masks[:, 1:])
    smooth = extremal_perturbation(smooth=0.09, **options)(images, 1, classifier)
    assert smooth.diff(dim=3).abs().max() < 0.5 * masks.mean(dim=1, keepdim=True).diff(dim=3).abs().max()


@pytest.mark.parametrize("infill", ["mean", "blur", "noise", "local_mean", lambda images, mean: torch.zeros_like(images)])
def test_what_hides_can_be_chosen(infill):
    classifier, images = tiny_classifier(), Squares(2).images
    first, again = (extremal_masks(classifier, images, infill=infill, **QUICK).kept for _ in range(2))
    assert torch.equal(first, again) and not torch.equal(first, extremal_masks(classifier, images, **QUICK).kept)


def test_images_that_are_no_squares_have_cells_that_are():
    images = torch.rand(1, 3, 16, 24)
    found = extremal_masks(tiny_classifier(), images, area=0.2, steps=3)
    assert found.masks.shape == (1, 1, 16, 24)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"area": 0.0}, r"area=0\.0 must lie above 0 and at most at 1"),
        ({"area": (0.1, 1.2)}, r"area=1\.2 must lie above 0"),
        ({"area": ()}, r"area=\(\) asks for no mask"),
        ({"area": "half"}, "area='h' must lie"),
        ({"variant": "keep"}, "variant='keep' is unknown; choose one of preserve, delete, dual"),
        ({"reward": "p"}, "reward='p' is unknown; choose one of logit, contrastive"),
        ({"choose": "all"}, "choose='all' is unknown; choose one of sum, smallest"),
        ({"share": 0.0}, r"share=0\.0 must lie above 0"),
        ({"smooth": -1.0}, r"smooth=-1\.0 must be"),
        ({"grid": 0}, "grid=0 must be a whole number"),
        ({"steps": 0}, "steps=0 must be a whole number"),
        ({"batch_size": 0}, "batch_size=0 must be a whole number"),
        ({"sigma": 0.0}, r"sigma=0\.0 must be"),
        ({"lr": math.nan}, "lr=nan must be"),
        ({"weight": -1.0}, r"weight=-1\.0 must be"),
        ({"growth": 0.0}, r"growth=0\.0 must be"),
        ({"step": 1}, "extremal_masks has no option 'step'; its options are"),
    ],
)
def test_bad_options_are_named_before_anything_runs(options, message):
    with pytest.raises(ValueError, match=message):
        extremal_perturbation(**options)


def test_an_infill_that_is_none_is_named():
    with pytest.raises(ValueError, match="infill='grey' is unknown; choose mean, blur"):
        extremal_masks(tiny_classifier(), Squares(1).images, infill="grey", **QUICK)


def test_a_mask_that_is_not_finite_is_no_result():
    def nowhere(images: Tensor, mean: Tensor) -> Tensor:
        return images * math.nan

    with pytest.raises(Diverged, match="stopped being finite"):
        extremal_masks(tiny_classifier(), Squares(1).images, infill=nowhere, **QUICK)
