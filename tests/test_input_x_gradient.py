"""The gradient times the input: against arithmetic, autograd, and captum on the bare network."""

import pytest
import torch
from captum.attr import InputXGradient
from tiny import tiny_classifier
from torch import nn
from toys import linear_classifier

from maskerlib.classifiers.classifier import Classifier
from maskerlib.methods.input_x_gradient import input_x_gradient


def test_of_a_linear_classifier_it_is_what_each_pixel_adds():
    weights, images = torch.randn(3, 3, 4, 4), torch.rand(2, 3, 4, 4)
    attribution = input_x_gradient().attribute(images, [2, 0], linear_classifier(weights))
    torch.testing.assert_close(attribution, weights[[2, 0]] * images)


def test_it_is_captums_on_the_network_that_is_given_normalised_images():
    classifier, images = tiny_classifier(), torch.rand(4, 3, 16, 16)
    targets = torch.tensor([0, 3, 1, 1])
    normalised = ((images - classifier.mean) / classifier.std).requires_grad_()
    expected = InputXGradient(classifier.network).attribute(normalised, target=targets)
    torch.testing.assert_close(input_x_gradient().attribute(images, targets, classifier), expected.detach())


def test_a_pixel_of_the_mean_colour_has_no_part():
    classifier, images = tiny_classifier(), torch.rand(1, 3, 16, 16)
    images[..., 4:8] = classifier.mean
    attribution = input_x_gradient().attribute(images, 1, classifier)
    assert not attribution[..., 4:8].any() and (attribution[..., :4] != 0).float().mean() > 0.9


@pytest.mark.parametrize("target", [0, 3])
def test_without_biases_it_adds_up_to_the_logit(target):
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, bias=False),
        nn.LeakyReLU(),
        nn.Flatten(),
        nn.Linear(200, 4, bias=False),
    )
    classifier, images = Classifier(network.double(), input_size=(16, 16)).eval(), torch.rand(2, 3, 16, 16).double()
    attribution = input_x_gradient().attribute(images, target, classifier)
    torch.testing.assert_close(attribution.sum(dim=(1, 2, 3)), classifier(images)[:, target].detach())
