"""RISE: its masks are those of the paper, its estimate comes to its own expectation, and its memory does not grow with N."""

import gc
import itertools

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from toys import OTHER, PATCH, both_classifier, bright, inside, linear_classifier, patch_classifier

from maskerlib.classifiers.classifier import Classifier
from maskerlib.methods.rise import Rise, grown, random_masks


@pytest.mark.parametrize(("size", "cells"), [((12, 12), (3, 3)), ((10, 17), (3, 5)), ((3, 4), (5, 7))])
def test_masks_are_the_upsampled_grid_cut_at_the_shift(size, cells):
    generator = torch.Generator().manual_seed(0)
    cell = [-(-side // count) for side, count in zip(size, cells, strict=True)]
    grids = (torch.rand(9, *cells, generator=generator) < 0.5).float()
    shifts = torch.stack([torch.randint(each, (9,), generator=generator) for each in cell], dim=1)
    masks = grown(grids, shifts, size)
    for grid, (down, right), mask in zip(grids, shifts.tolist(), masks, strict=True):
        large = [(count + 1) * each for count, each in zip(cells, cell, strict=True)]
        whole = F.interpolate(grid[None, None], size=large, mode="bilinear", align_corners=False)[0]
        torch.testing.assert_close(mask, whole[:, down : down + size[0], right : right + size[1]])


def test_a_mask_depends_on_seed_and_number_alone():
    size = (12, 20)
    some = random_masks([5, 2, 7], size, cells=3, seed=4)
    torch.manual_seed(1)
    assert torch.equal(some, random_masks(range(9), size, cells=3, seed=4)[[5, 2, 7]])
    assert not torch.equal(some, random_masks([5, 2, 7], size, cells=3, seed=5))
    assert some.shape == (3, 1, *size) and 0 <= some.min() and some.max() <= 1
    assert len({mask.numpy().tobytes() for mask in random_masks(range(50), size, cells=3)}) == 50


@pytest.mark.parametrize("keep", [0.1, 0.5])
def test_masks_show_a_share_and_no_pixel_more_than_others(keep):
    mean = random_masks(range(4000), (9, 9), cells=3, keep=keep).mean(dim=0)
    torch.testing.assert_close(mean, torch.full_like(mean, keep), rtol=0, atol=5 * 0.5 / 4000**0.5)


# --- the expectation, on a grid of 2 x 2 cells: 16 masks at each of 4 shifts ----------------------

SIZE = 4


def every_mask(keep: float) -> tuple[Tensor, Tensor]:
    """All masks (64, 1, 4, 4) that can be drawn, and their probabilities (64,)."""
    grids = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4))).view(16, 2, 2)
    shifts = torch.tensor(list(itertools.product([0, 1], repeat=2)))
    masks = torch.cat([grown(grids, shift.expand(16, 2), (SIZE, SIZE)) for shift in shifts])
    shown = grids.sum(dim=(1, 2))
    probability = keep**shown * (1 - keep) ** (4 - shown)
    return masks, probability.repeat(4) / 4


def colourful(gain: float, seed: int = 0) -> tuple[Classifier, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weights = gain * torch.randn(3, 3, SIZE, SIZE, generator=generator)
    return linear_classifier(weights), torch.rand(1, 3, SIZE, SIZE, generator=generator)


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("keep", [0.3, 0.5])
def test_the_estimate_comes_to_its_expectation(centred, keep):
    classifier, image = colourful(1.0)
    masks, probability = every_mask(keep)
    scores = classifier(image * masks).softmax(dim=1)  # black is what hides
    products = torch.einsum("kc,khw->kchw", scores - (probability @ scores if centred else 0), masks[:, 0]) / keep
    expected = torch.einsum("k,kchw->chw", probability, products)
    spread = torch.einsum("k,kchw->chw", probability, (products - expected) ** 2).sqrt()
    misses = []
    for count in (100, 10_000):
        found = Rise(masks=count, cells=2, keep=keep, centred=centred, batch_size=1000).maps(image, None, classifier)[0]
        misses.append((found - expected).abs().mean())
        assert ((found - expected).abs() < 5 * spread / count**0.5).all()
    assert misses[1] < misses[0] / 4  # a hundred times the masks, a tenth of the error


def test_centred_needs_fewer_masks():
    classifier, image = colourful(1.0)
    masks, probability = every_mask(0.5)
    scores = classifier(image * masks).softmax(dim=1)
    expected = 2 * torch.einsum("k,kc,khw->chw", probability, scores - probability @ scores, masks[:, 0])
    plain, centred = (
        torch.cat([Rise(50, cells=2, seed=s, centred=c).maps(image, None, classifier) for s in range(20)]) for c in (False, True)
    )
    noise = [(each - each.mean(dim=0)).square().mean() for each in (plain, centred)]
    assert noise[1] < noise[0] / 2
    torch.testing.assert_close(centred.mean(dim=0), expected, rtol=0, atol=0.03)


def test_of_a_linear_classifier_it_is_the_attribution_seen_through_the_masks():
    """Of small weights p_1 = 1/2 + (z_1 - z_0) / 4, so S_1 = cov(p_1, M) / p = cov(M, M) a / p with a = w x / 4."""
    generator = torch.Generator().manual_seed(1)
    weights = 1e-3 * torch.randn(2, 3, SIZE, SIZE, generator=generator)
    image = torch.rand(1, 3, SIZE, SIZE, generator=generator)
    masks, probability = every_mask(0.5)
    flat = masks.flatten(1)
    away = flat - probability @ flat
    attribution = ((weights[1] - weights[0]) * image[0]).sum(dim=0).flatten() / 4
    expected = (away.T @ (probability[:, None] * away)) @ attribution / 0.5
    rise = Rise(masks=8000, cells=2, centred=True, batch_size=1000)
    found = rise.maps(image.double(), [1], linear_classifier(weights).double())[0, 0].flatten()
    assert (found - expected).norm() < 0.05 * expected.norm()


# --- what it finds, and what it costs ------------------------------------------------------------


def test_it_finds_the_patch_and_both_patches():
    image = bright()
    one = Rise(500, cells=4, centred=True, batch_size=64)(image, 1, patch_classifier())
    assert inside(PATCH).flatten()[one.argmax()] == 1
    assert one[inside(PATCH) == 1].mean() > 0.7 and one[inside(PATCH) == 0].mean() < 0.4
    two = Rise(2000, cells=4, centred=True, batch_size=64)(image, 1, both_classifier())
    means = [two[inside(box) == 1].mean() for box in (PATCH, OTHER)]
    assert min(means) > 0.6 > 0.45 > two[(inside(PATCH) + inside(OTHER)) == 0].mean()


def test_all_classes_come_from_the_same_passes():
    classifier, image = colourful(1.0)
    seen = []
    classifier.network.register_forward_hook(lambda module, inputs, logits: seen.append(len(logits)))
    rise = Rise(masks=30, cells=2, batch_size=8)
    images = torch.cat([image, image.flip(-1)])
    maps = rise.maps(images, None, classifier)
    assert maps.shape == (2, 3, SIZE, SIZE) and seen[-8:] == [8, 8, 8, 8, 8, 8, 6, 6]
    torch.testing.assert_close(maps.sum(dim=1), maps.sum(dim=1)[:1].expand(2, -1, -1))  # all p are 1: it is mean(M) / p
    torch.testing.assert_close(rise.maps(images, [2, 0], classifier), maps[:, [2, 0]])
    own = rise(images, [2, 0], classifier)[:, 0]
    for found, full, label in zip(own, maps, (2, 0), strict=True):
        low, high = full[label].min(), full[label].max()
        torch.testing.assert_close(found, (full[label] - low) / (high - low))


def test_with_a_sigmoid_head_each_class_is_its_own_question():
    classifier, image = colourful(1.0)
    classifier.head = "sigmoid"
    masks = random_masks(range(20), (SIZE, SIZE), cells=2, seed=3)
    scores = classifier(image * masks).sigmoid()
    expected = torch.einsum("kc,khw->chw", scores, masks[:, 0]) / (20 * 0.5)
    torch.testing.assert_close(Rise(20, cells=2, seed=3).maps(image, None, classifier)[0], expected)


def test_the_batch_size_changes_nothing():
    classifier, image = colourful(1.0)
    maps = [Rise(50, cells=2, batch_size=size).maps(image, None, classifier) for size in (1, 7, 50)]
    torch.testing.assert_close(maps[1], maps[0])
    torch.testing.assert_close(maps[2], maps[0])


def test_memory_is_that_of_one_batch():
    """Numbers held by all tensors that are alive while the classifier looks: as many with three times the masks."""
    classifier, image = colourful(1.0)
    held = []

    def look(*_: object) -> None:
        tensors = [each for each in gc.get_objects() if issubclass(type(each), Tensor)]
        held.append(sum(each.numel() for each in tensors))

    classifier.network.register_forward_hook(look)
    most = []
    for count in (40, 120):
        held.clear()
        Rise(count, cells=2, batch_size=20).maps(image, None, classifier)
        most.append(max(held))
    assert most[1] <= most[0] + 100


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"masks": 0}, "masks=0 must be a whole number of 1 or more"),
        ({"cells": 0}, "cells=0 must be"),
        ({"keep": 1.0}, "keep=1.0 must lie above 0 and below 1"),
        ({"batch_size": 0}, "batch_size=0 must be"),
        ({"masks": 2.5}, r"masks=2\.5 must be"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Rise(**options)


def test_a_class_that_is_none_is_refused():
    classifier, image = colourful(1.0)
    with pytest.raises(ValueError, match="target 3 is no class of linear"):
        Rise(4, cells=2).maps(image, [0, 3], classifier)
