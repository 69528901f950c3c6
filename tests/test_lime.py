"""LIME: captum's numbers, least squares by other means, the right map of classifiers whose map is known, and its memory."""

import gc

import pytest
import torch
from captum._utils.models.linear_model import SkLearnLinearRegression, SkLearnRidge
from captum.attr import Lime
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from toys import PATCH, both_classifier, bright, inside, linear_classifier, patch_classifier

from maskerlib.masking.segments import segments
from maskerlib.methods.attributions import image_streams
from maskerlib.methods.lime import LinearModel, lime


def squares(size: int = 16) -> Tensor:
    """An image (1, 3, size, size) that SLIC cuts into four squares, each of its own colour."""
    colours = torch.tensor([[0.9, 0.8, 0.7], [0.5, 0.9, 0.3], [0.3, 0.4, 0.9], [0.9, 0.3, 0.4]]).T.view(1, 3, 2, 2)
    return torch.nn.functional.interpolate(colours, size=(size, size))


def test_it_is_captums():
    """Called by hand with the same superpixels, weights, model and draws; scikit-learn fits where maskerlib does."""
    classifier, image = both_classifier(2.0), bright()
    found = lime(60, 9, compactness=100, width=0.4, alpha=0.5, seed=3, batch_size=7).attribute(image, 1, classifier)

    def near(image: Tensor, hidden: Tensor, shown: Tensor, **rest: object) -> Tensor:
        distance = 1 - (shown.sum() / shown.numel()).sqrt()
        return torch.exp(-(distance**2) / (2 * 0.4**2))

    by_hand = Lime(classifier, interpretable_model=SkLearnRidge(alpha=0.5), similarity_func=near)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(image_streams(image, 3, "lime", 0)[0].initial_seed())
        expected = by_hand.attribute(
            image,
            baselines=classifier.mean.expand_as(image),
            target=1,
            feature_mask=segments(image, count=9, compactness=100)[:, None],
            n_samples=60,
            perturbations_per_eval=7,
        )
    assert expected.any()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 10.0])
def test_the_linear_model_is_scikit_learns(alpha):
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(2, (40, 6), generator=generator).float()
    y, w = torch.randn(40, generator=generator), torch.rand(40, generator=generator)
    data = DataLoader(TensorDataset(x, y, w), batch_size=40)
    ours, theirs = LinearModel(alpha), SkLearnRidge(alpha=alpha) if alpha else SkLearnLinearRegression()
    ours.fit(data)
    theirs.fit(data)
    torch.testing.assert_close(ours.representation(), theirs.representation().flatten(), rtol=1e-4, atol=1e-5)


def test_of_a_linear_classifier_it_is_the_attribution_of_each_region():
    """The logit is linear in what is shown, so the fit without a penalty is exact: weight times value, summed over the region."""
    image = squares()
    weights = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    regions = segments(image, count=4)[0]
    assert regions.unique().tolist() == [0, 1, 2, 3]
    found = lime(60, 4, alpha=0.0).attribute(image, 1, linear_classifier(weights))[0, 0]
    each = (weights[1] * image[0]).sum(dim=0)
    for region in range(4):
        at = regions == region
        torch.testing.assert_close(found[at], each[at].sum().expand(int(at.sum())), rtol=1e-4, atol=1e-4)


def test_it_finds_the_patch():
    maps = lime(200, 16, compactness=100)(bright(), 1, patch_classifier())
    assert maps[inside(PATCH) == 1].mean() > 3 * maps[inside(PATCH) == 0].mean()


def test_nothing_is_held_but_a_batch_of_images():
    """Numbers in all tensors that are alive and no smaller than an image, whatever the number of samples."""
    classifier, seen, images = patch_classifier(), [], []

    def look(module: object, inputs: object, logits: Tensor) -> None:
        seen.append(len(logits))
        sizes = [each.numel() for each in gc.get_objects() if issubclass(type(each), Tensor)]
        images.append(sum(size for size in sizes if size >= 3 * 16 * 16))

    classifier.network.register_forward_hook(look)
    most = []
    for samples in (20, 60):
        seen.clear()
        images.clear()
        lime(samples, 4, compactness=100, batch_size=10)(bright(), 1, classifier)
        assert max(seen) == 10 and sum(seen) == samples + 1
        most.append(max(images))
    assert most[1] == most[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "samples=0 must be"),
        ({"width": 0.0}, "width=0.0 must be a finite number above 0"),
        ({"alpha": -1.0}, "alpha=-1.0 must be"),
        ({"batch_size": 0}, "batch_size=0 must be"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        lime(**options)


def test_an_image_in_one_piece_is_refused():
    with pytest.raises(ValueError, match=r"image of \(3, 1, 1\) was left in one piece; raise compactness"):
        lime(4, 2)(torch.rand(1, 3, 1, 1), 0, linear_classifier(torch.ones(2, 3, 1, 1)))
