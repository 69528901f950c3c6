"""GradientSHAP: exact on linear classifiers, and in the mean what captum's and integrated gradients are."""

import numpy as np
import pytest
import torch
from captum.attr import GradientShap
from tiny import tiny_classifier
from torch import Tensor
from toys import linear_classifier

from maskerlib.methods.gradient_shap import gradient_shap
from maskerlib.methods.integrated_gradients import integrated_gradients


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(4))


def baselines(count: int = 2) -> Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("samples", [1, 7])
def test_of_a_linear_classifier_it_is_the_weight_times_the_way_from_the_baseline(samples, images):
    weights = torch.randn(4, 3, 16, 16)
    classifier = linear_classifier(weights)
    black = gradient_shap(samples).attribute(images, 2, classifier)
    torch.testing.assert_close(black, weights[2] * images)
    grey = gradient_shap(samples, torch.full((1, 3, 1, 1), 0.25)).attribute(images, [2, 0, 1], classifier)
    torch.testing.assert_close(grey, weights[[2, 0, 1]] * (images - 0.25))


def test_each_sample_starts_at_one_of_the_baselines(images):
    weights, choice = torch.randn(2, 3, 16, 16), baselines(3)
    found = [gradient_shap(1, choice, seed=seed).attribute(images, 1, linear_classifier(weights)) for seed in range(20)]
    possible = weights[1] * (images[:, None] - choice)
    gaps = (torch.stack(found)[:, :, None] - possible).abs().amax(dim=(3, 4, 5))  # (seeds, images, baselines)
    assert ((gaps < 1e-5).sum(dim=2) == 1).all()
    assert (gaps < 1e-5).any(dim=0).all()  # every image has met every baseline


def test_noise_has_the_width_that_is_asked_for():
    classifier = linear_classifier(torch.ones(2, 3, 64, 64))
    images = torch.rand(1, 3, 64, 64)
    moved = gradient_shap(1, sigma=0.2).attribute(images, 0, classifier) - images
    assert moved.std().item() == pytest.approx(0.2, rel=0.03) and abs(moved.mean().item()) < 0.01


def apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


def test_with_one_baseline_it_approaches_integrated_gradients(images):
    classifier = tiny_classifier()
    exact = integrated_gradients(steps=400).attribute(images, 1, classifier)
    few, many = (apart(gradient_shap(samples).attribute(images, 1, classifier), exact) for samples in (10, 300))
    assert many < 0.05 and many < few / 3


def test_it_is_captums_in_the_mean(images):
    classifier, choice = tiny_classifier(), baselines()
    np.random.seed(0)  # what captum draws from
    torch.manual_seed(0)
    expected = GradientShap(classifier).attribute(images[:1], choice, n_samples=500, stdevs=0.1, target=1).detach()
    methods = (gradient_shap(500, given, 0.1) for given in (choice, choice[:1]))
    found, other = (method.attribute(images[:1], 1, classifier) for method in methods)
    assert apart(found, expected) < 0.2 and apart(other, expected) > 0.3


def test_draws_belong_to_the_seed_and_the_image_and_move_no_global_state(images):
    classifier = tiny_classifier()
    numpys = np.random.get_state()[1].copy()
    method = gradient_shap(3, baselines(), 0.1, seed=7)
    first = method.attribute(images, 1, classifier)
    assert (np.random.get_state()[1] == numpys).all()
    torch.testing.assert_close(method.attribute(images.flip(0), 1, classifier).flip(0), first, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(gradient_shap(3, baselines(), 0.1, seed=8).attribute(images, 1, classifier), first)


def test_one_sample_is_in_memory_at_a_time(images):
    classifier, sizes = tiny_classifier(), []
    classifier.network.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    gradient_shap(9)(images, 1, classifier)
    assert sizes == [3] * 10


def test_what_does_not_fit_is_refused(images):
    for options, message in (
        ({"samples": 0}, "^samples=0"),
        ({"sigma": -1.0}, "^sigma=-1"),
        ({"baselines": torch.rand(3, 16, 16)}, r"baselines have shape \(3, 16, 16\)"),
        ({"baselines": torch.rand(0, 3, 16, 16)}, "K >= 1"),
    ):
        with pytest.raises(ValueError, match=message):
            gradient_shap(**options)
    for wrong in (torch.rand(2, 3, 8, 8), torch.rand(2, 1, 16, 16)):
        with pytest.raises(ValueError, match="resize them"):
            gradient_shap(1, wrong)(images, 1, tiny_classifier())
