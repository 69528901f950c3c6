"""Occlusion: captum's numbers, the right map of classifiers whose map is known, and passes of one size."""

import pytest
import torch
from captum.attr import Occlusion
from toys import PATCH, bright, inside, linear_classifier, patch_classifier

from maskerlib.methods.occlusion import occlusion


def test_it_is_captums():
    classifier, images = patch_classifier(), bright(3)
    found = occlusion(window=4 / 16, stride=2 / 16, batch_size=5).attribute(images, [0, 1, 1], classifier)
    by_hand = Occlusion(classifier).attribute(
        images, (3, 4, 4), strides=(3, 2, 2), baselines=classifier.mean, target=torch.tensor([0, 1, 1])
    )
    torch.testing.assert_close(found, by_hand)


def test_of_a_linear_classifier_patches_lose_what_they_hold():
    """Patches that do not overlap: each pixel has the sum of weight times value over its patch."""
    weights = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    found = occlusion(window=0.25, stride=0.25).attribute(image, 1, linear_classifier(weights))
    sums = (weights[1] * image[0]).sum(dim=0).unflatten(0, (4, 2)).unflatten(2, (4, 2)).sum(dim=(1, 3))
    expected = sums.repeat_interleave(2, dim=0).repeat_interleave(2, dim=1)
    torch.testing.assert_close(found, expected.expand_as(found))


def test_it_finds_the_patch():
    maps = occlusion(window=2 / 16, stride=2 / 16)(bright(), 1, patch_classifier())
    assert torch.equal((maps > 0.5).float(), inside(PATCH)) and not maps[inside(PATCH) == 0].any()


def test_a_pass_has_one_image_and_a_batch_of_patches():
    classifier, seen = patch_classifier(), []
    classifier.network.register_forward_hook(lambda module, inputs, logits: seen.append(len(logits)))
    occlusion(window=2 / 16, stride=1 / 16, batch_size=6)(bright(4), 1, classifier)
    assert max(seen[1:]) == 6 and sum(seen) == 4 * (2 + 15 * 15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0.0}, "window=0.0 must lie above 0"),
        ({"window": 0.1, "stride": 0.2}, "stride=0.2 must lie above 0 and at most at 0.1"),
        ({"batch_size": 0}, "batch_size=0 must be"),
        ({"sign": "both"}, "sign='both' is unknown"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        occlusion(**options)
