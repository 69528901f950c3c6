"""Meaningful perturbation is `optimise_mask` with the authors' objective: the same masks, and the patch of a toy."""

import dataclasses

import pytest
import torch
from tiny import Squares, tiny_classifier
from toys import PATCH, bright, inside, patch_classifier

from maskerlib.masking.masks import area, mask_from_logits
from maskerlib.masking.objectives import evaluate_objective
from maskerlib.methods.meaningful import OPTIONS, deletion_game, meaningful_perturbation
from maskerlib.methods.optimise import optimise_mask
from maskerlib.methods.registry import METHODS


def test_it_is_the_function_with_these_options():
    classifier, images = tiny_classifier(), Squares(2).images
    options = OPTIONS | {"steps": 4}
    mine = optimise_mask(classifier, images, objective=deletion_game(16), seed=2, **options).masks
    assert torch.equal(meaningful_perturbation(seed=2, steps=4)(images, None, classifier), mine)
    other = dataclasses.replace(deletion_game(16), size=9.0)
    assert not torch.equal(meaningful_perturbation(seed=2, steps=4, objective=other)(images, None, classifier), mine)


def test_the_objective_is_the_deletion_game():
    """The probability of what is left, and a price of size and roughness whatever the classifier says; by hand."""
    game, classifier = deletion_game(224), patch_classifier()
    assert [side.name for side in game.sides()] == ["out"]
    images, mask = bright(2), torch.rand(2, 1, 16, 16)
    labels, right = torch.ones(2).long(), torch.zeros(2)
    terms = evaluate_objective(game, classifier, images, mask, labels, right, classifier.mean)
    assert list(terms) == ["out", "size_out", "tv", "size"]
    torch.testing.assert_close(terms["out"], classifier(images * (1 - mask)).softmax(dim=1)[:, 1])
    assert terms["size_out"].tolist() == [0, 0]
    torch.testing.assert_close(terms["size"], 784e-4 * area(mask))
    differences = [mask.diff(dim=side).abs().pow(3).sum(dim=(1, 2, 3)) for side in (2, 3)]
    torch.testing.assert_close(terms["tv"], 0.16 / 2 * (224 / 16) * sum(differences))


@pytest.mark.parametrize("side", [56, 112, 224])
def test_a_mask_costs_the_same_at_every_size(side):
    """The authors' price of a mask's 28 x 28 numbers, up to what the drawing smooths away."""
    ramp = torch.linspace(-2, 2, 28).expand(1, 1, 28, 28)
    drawn = mask_from_logits(ramp, (side, side), upsampling="smooth")
    theirs = 1e-2 * ramp.sigmoid().diff(dim=3).pow(3).sum()
    ours = deletion_game(side).shape_terms(drawn, None)["tv"]
    assert float(ours) == pytest.approx(float(theirs), rel=0.1)


def test_it_blurs_the_patch():
    """What hides is black here: a blur of light grey hides nothing."""
    mask = meaningful_perturbation(infill="mean", grid=8, steps=150, lr=0.2)(bright(1), 1, patch_classifier())
    patch = inside(PATCH)
    assert (mask * patch).sum() / patch.sum() > 0.5
    assert (mask * (1 - patch)).sum() / (1 - patch).sum() < 0.2


def test_what_it_says_it_costs():
    assert METHODS["meaningful-perturbation"].cost() == (304, 300)


def test_an_option_that_it_does_not_have_is_named():
    with pytest.raises(ValueError, match="has no option 'tau'; its options are"):
        meaningful_perturbation(tau=4)
