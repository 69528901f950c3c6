"""The checkers of notebook 04: what is wrong is told apart from what is right, and no hint gives the answer."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from maskerlib.classifiers.classifier import frozen
from maskerlib.course import exercises_04
from maskerlib.masker.network import Masker
from maskerlib.masking.masks import mask_from_logits, masked_in, masked_out


def hint(number: int, answer) -> str | None:
    return getattr(exercises_04, f"exercise_{number}")(answer)


# 4.1 parameters


def count(channels, width):
    return sum(c * width + 2 * width for c in channels) + 9 * width * len(channels) + 1


def count_by_building(channels, width):
    masker = Masker({str(i): c for i, c in enumerate(channels)}, grid_layer="g", width=width)
    return torch.tensor(sum(weight.numel() for weight in masker.parameters()))


def test_parameters_counted_in_two_ways():
    assert hint(1, count) is None
    assert hint(1, count_by_building) is None
    assert count([96, 192], 64) == 19841  # what the notebook's picture says


@pytest.mark.parametrize(
    "wrong, word",
    [
        (lambda c, w: count(c, w) - 2 * w * len(c), "batch norm"),
        (lambda c, w: count(c, w) - w * len(c), "batch norm"),
        (lambda c, w: count(c, w) - 1, "last convolution"),
        (lambda c, w: count(c, w) - 8 * w * len(c), "more than one cell"),
        (lambda c, w: count(c, w) + w * len(c), "1 x 1"),
        (lambda c, w: count(c, w) + 2 * w * len(c), "running"),
        (lambda c, w: 19841, "module by module"),  # right for the notebook's own masker alone
        (lambda c, w: sum(c), "module by module"),
    ],
)
def test_wrong_counts_are_told_apart(wrong, word):
    assert word in hint(1, wrong)
    assert "19841" not in hint(1, wrong) and "9 *" not in hint(1, wrong)


# 4.2 values of a mask


@pytest.mark.parametrize("right", [2304, 48 * 48.0, torch.tensor(2304), np.int64(2304)])
def test_one_value_a_cell(right):
    assert hint(2, right) is None


@pytest.mark.parametrize("wrong, word", [(9216, "neighbouring"), (36, "coarse"), (144, "coarse"), (48, "side"), (256, "grid")])
def test_other_numbers_of_values(wrong, word):
    assert word in hint(2, wrong)
    assert "2304" not in hint(2, wrong) and "48" not in hint(2, wrong)


def test_the_answer_is_true_of_a_masker():
    """Logits on 48 x 48 cells that are all different give 2304 values and no more."""
    logits = torch.linspace(-2, 2, 48 * 48).view(1, 1, 48, 48)
    assert len(mask_from_logits(logits, (96, 96)).unique()) == 2304


# 4.3 break-even


def break_even(training, optimising, drawing):
    return math.ceil(training / (optimising - drawing)) if optimising > drawing else math.inf


def break_even_by_search(training, optimising, drawing):
    for images in range(10_000):
        if training + images * drawing <= images * optimising:
            return torch.tensor(float(images))
    return torch.tensor(math.inf)


def test_break_even_in_two_ways():
    assert hint(3, break_even) is None
    assert hint(3, break_even_by_search) is None


@pytest.mark.parametrize(
    "wrong, word",
    [
        (lambda t, o, d: math.ceil(t / o), "free of charge"),
        (lambda t, o, d: math.floor(t / (o - d)) if o > d else math.inf, "round"),
        (lambda t, o, d: t / (o - d) if o > d else math.inf, "whole number"),
        (lambda t, o, d: math.ceil(t / (o - d)), "as long as optimising"),
        (lambda t, o, d: math.ceil(t / (o - d)) if o > d else None, "as long as optimising"),
        (lambda t, o, d: math.floor(t / (o - d)) + 1 if o > d else math.inf, "equally long"),
        (lambda t, o, d: 5, "equally long"),
        (lambda t, o, d: 5 if d == 1 and o == 3 else 9, "not yet"),
        (lambda t, o, d: t / o, "set them equal"),
    ],
)
def test_wrong_break_evens(wrong, word):
    assert word in hint(3, wrong)
    assert "ceil" not in hint(3, wrong) and "training / (" not in hint(3, wrong)


# 4.4 bootstrap


def bootstrap(difference, draws, generator):
    picked = torch.randint(len(difference), (draws, len(difference)), generator=generator)
    return torch.quantile(difference[picked].mean(dim=1), torch.tensor([0.025, 0.975]).double())


def bootstrap_by_weights(difference, draws, generator):
    shares = torch.ones(len(difference)) / len(difference)
    means = []
    for _ in range(draws):
        picked = torch.multinomial(shares, len(difference), replacement=True, generator=generator)
        means.append(float(torch.bincount(picked, minlength=len(difference)).double() @ difference) / len(difference))
    return np.percentile(means, 2.5), np.percentile(means, 97.5)


def middle(means, share):
    return tuple(torch.quantile(means, torch.tensor([(1 - share) / 2, (1 + share) / 2]).double()))


def draw(difference, draws, generator):
    return difference[torch.randint(len(difference), (draws, len(difference)), generator=generator)]


def test_bootstrap_in_two_ways():
    assert hint(4, bootstrap) is None
    assert hint(4, bootstrap_by_weights) is None


@pytest.mark.parametrize(
    "wrong, word",
    [
        (lambda d, n, g: (d.mean(), d.mean()), "with replacement"),
        (lambda d, n, g: [d[torch.randperm(len(d), generator=g)].mean()] * 2, "with replacement"),
        (lambda d, n, g: middle(d, 0.95), "single images"),
        (lambda d, n, g: middle(draw(d, n, g).mean(dim=1), 0.68), "95 %"),
        (lambda d, n, g: middle(draw(d, n, g).mean(dim=1), 0.90), "95 %"),
        (lambda d, n, g: middle(draw(d, n, g).mean(dim=1), 0.95)[::-1], "comes first"),
        (lambda d, n, g: middle(draw(d - d.mean(), n, g).mean(dim=1), 0.95), "near its middle"),
        (lambda d, n, g: draw(d, n, g).mean(), "two numbers"),
    ],
)
def test_wrong_intervals(wrong, word):
    assert word in hint(4, wrong)
    assert "randint" not in hint(4, wrong) and "0.025" not in hint(4, wrong)


# 4.5 one step


def loss_of(masker, classifier, images, labels, view=masked_in, reduction="mean"):
    activations = classifier.activations(images)[1]
    mask = mask_from_logits(masker(activations), images.shape[-2:])
    return F.cross_entropy(classifier(view(images, mask, classifier.mean)), labels, reduction=reduction)


def one_step(masker, classifier, images, labels):
    with frozen(classifier):
        loss_of(masker, classifier, images, labels).backward()


def one_step_by_asking(masker, classifier, images, labels):
    gradients = torch.autograd.grad(loss_of(masker, classifier, images, labels), list(masker.parameters()))
    for weight, gradient in zip(masker.parameters(), gradients, strict=True):
        weight.grad = gradient


def test_a_step_in_two_ways():
    assert hint(5, one_step) is None
    assert hint(5, one_step_by_asking) is None


def frozen_for_good(masker, classifier, images, labels):
    classifier.requires_grad_(False)
    loss_of(masker, classifier, images, labels).backward()


def cut(masker, classifier, images, labels):
    activations = classifier.activations(images)[1]
    mask = mask_from_logits(masker(activations), images.shape[-2:])
    with torch.no_grad():
        logits = classifier(masked_in(images, mask, classifier.mean))
    F.cross_entropy(logits.requires_grad_(), labels).backward()


def moved(masker, classifier, images, labels):
    one_step(masker, classifier, images, labels)
    torch.optim.SGD(masker.parameters(), lr=0.1).step()


def training_mode(masker, classifier, images, labels):
    one_step(masker, classifier, images, labels)
    classifier.train()


def other(**changes):
    def answer(masker, classifier, images, labels):
        with frozen(classifier):
            loss_of(masker, classifier, images, labels, **changes).backward()

    return answer


def upwards(masker, classifier, images, labels):
    with frozen(classifier):
        (-loss_of(masker, classifier, images, labels)).backward()


@pytest.mark.parametrize(
    "wrong, word",
    [
        (lambda m, c, i, y: loss_of(m, c, i, y).backward(), "of the classifier has a gradient"),
        (lambda m, c, i, y: None, "cuts the way"),
        (cut, "cuts the way"),
        (frozen_for_good, "no longer do"),
        (training_mode, "eval mode"),
        (moved, "has moved"),
        (other(reduction="sum"), "too long"),
        (other(view=masked_out), "which view"),
        (upwards, "sign"),
        (lambda m, c, i, y: one_step(m, c, i, (y + 1) % 5), "hidden colour and labels"),
    ],
)
def test_wrong_steps(wrong, word):
    assert word in hint(5, wrong)
    assert "frozen(" not in hint(5, wrong) and "autograd.grad" not in hint(5, wrong)
