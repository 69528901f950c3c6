"""KernelSHAP: captum's numbers, exact Shapley values by their definition, and that they add up."""

import itertools
import math

import pytest
import torch
from captum.attr import KernelShap
from test_lime import squares
from torch import Tensor
from toys import linear_classifier

from maskerlib.classifiers.classifier import Classifier
from maskerlib.masking.segments import segments
from maskerlib.methods.attributions import image_streams
from maskerlib.methods.kernel_shap import kernel_shap


def shapley(classifier: Classifier, image: Tensor, regions: Tensor, target: int) -> list[float]:
    """By the definition: the mean over all sets without a region of what it adds, weighed by the orders that lead there."""
    count = int(regions.max()) + 1

    def value(shown: tuple[int, ...]) -> float:
        mask = torch.isin(regions, torch.tensor(shown, dtype=torch.int64))
        return float(classifier(torch.where(mask, image, classifier.mean))[0, target])

    values = []
    for region in range(count):
        others = [each for each in range(count) if each != region]
        total = 0.0
        for size in range(count):
            weight = math.factorial(size) * math.factorial(count - 1 - size) / math.factorial(count)
            sets = itertools.combinations(others, size)
            total += weight * sum(value((*some, region)) - value(some) for some in sets)
        values.append(total)
    return values


class Products(torch.nn.Module):
    """Logits [0, z]: z has products of neighbouring corners' colours, so that regions act together."""

    def forward(self, x: Tensor) -> Tensor:
        a, b, c, d = (part.mean(dim=(1, 2, 3)) for part in (x[..., :8, :8], x[..., :8, 8:], x[..., 8:, :8], x[..., 8:, 8:]))
        z = 4 * a * b + 2 * b * c * d - d
        return torch.stack([torch.zeros_like(z), z], dim=1)


def test_it_is_captums():
    classifier = Classifier(Products(), input_size=(16, 16))
    image = squares()
    found = kernel_shap(40, 9, seed=3, batch_size=7).attribute(image, 1, classifier)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(image_streams(image, 3, "kernel-shap", 0)[0].initial_seed())
        expected = KernelShap(classifier).attribute(
            image,
            baselines=classifier.mean.expand_as(image),
            target=1,
            feature_mask=segments(image, count=9)[:, None],
            n_samples=40,
            perturbations_per_eval=7,
        )
    assert expected.any()
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=2e-3)  # captum's fit is in float32, with weights of 1e6


def test_of_a_linear_classifier_they_are_exact():
    image = squares()
    classifier = linear_classifier(torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    regions = segments(image, count=4)[0]
    found = kernel_shap(30, 4).attribute(image, 1, classifier)[0, 0]
    exact = shapley(classifier, image, regions, 1)
    each = (classifier.network.weights[1] * image[0]).sum(dim=0)
    for region, value in enumerate(exact):
        assert value == pytest.approx(float(each[regions == region].sum()), abs=1e-3)  # no game of their own
        assert float(found[regions == region].mean()) == pytest.approx(value, abs=1e-3)


def test_of_regions_that_act_together_they_come_near_and_add_up():
    classifier, image = Classifier(Products(), mean=(0.0,) * 3, std=(1.0,) * 3, input_size=(16, 16)), squares()
    regions = segments(image, count=4)[0]
    exact = torch.tensor(shapley(classifier, image, regions, 1))
    found = kernel_shap(2000, 4, batch_size=100).attribute(image, 1, classifier)[0, 0]
    values = torch.tensor([float(found[regions == region].mean()) for region in range(4)])
    assert (values - exact).norm() < 0.05 * exact.norm()
    change = classifier(image)[0, 1] - classifier(torch.zeros_like(image))[0, 1]
    torch.testing.assert_close(values.sum(), change, rtol=1e-3, atol=1e-3)


def test_passes_are_as_large_as_asked():
    classifier, seen = Classifier(Products(), input_size=(16, 16)), []
    classifier.network.register_forward_hook(lambda module, inputs, logits: seen.append(len(logits)))
    kernel_shap(25, 4, batch_size=10)(squares(), 1, classifier)
    assert max(seen) == 10 and sum(seen) == 26


@pytest.mark.parametrize("option", ["samples", "batch_size"])
def test_options_that_make_no_sense_are_refused(option):
    with pytest.raises(ValueError, match=f"{option}=0 must be a whole number of 1 or more"):
        kernel_shap(**{option: 0})
