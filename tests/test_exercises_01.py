"""The checkers of notebook 01: a plausible mistake gets a hint that does not give the answer away; any correct form passes."""

import numpy as np
import pytest
import torch

from maskerlib.course.grading import exercises, grade


def rejected(number: str, answer, hint: str, *secrets: str) -> None:
    verdict = grade(number, answer)
    assert not verdict and hint in verdict.text, verdict.text
    for secret in secrets:
        assert secret not in verdict.text


def test_there_are_five():
    assert list(exercises(1)) == ["1.1", "1.2", "1.3", "1.4", "1.5"]


# 1.1: the gradient of 3 x1 - 2 relu(x2 - x3)


@pytest.mark.parametrize(
    "answer", [(3, -2, 2), [3.0, -2.0, 2.0], np.array([3, -2, 2]), torch.tensor([[3.0, -2.0, 2.0]])]
)
def test_a_gradient_in_any_form(answer):
    assert grade("1.1", answer)


def test_autograd_agrees_with_the_first_checker():
    x = torch.tensor([0.2, 0.9, 0.4], requires_grad=True)
    assert grade("1.1", torch.autograd.grad(3 * x[0] - 2 * (x[1] - x[2]).relu(), x)[0])


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        ((3, 0, 0), "is the ReLU closed"),
        ((3, -2, -2), "opposite signs"),
        ((0.6, -1.8, 0.8), "times the input"),
        ((1, 1, 1), "one variable at a time"),
        ((3, -2), "there are 2"),
        ("three", "give 3 numbers"),
        ((3, -2, float("nan")), "one variable at a time"),
    ],
)
def test_wrong_gradients(answer, hint):
    rejected("1.1", answer, hint, "(3, -2, 2)", "-2")


# 1.2: integrated gradients of x1^2 + 3 x2


@pytest.mark.parametrize("answer", [(4, 3), torch.tensor([4.0, 3.0]), np.array([4.0004, 3.0])])
def test_integrated_gradients_in_any_form(answer):
    assert grade("1.2", answer)


def test_the_integral_agrees_with_the_second_checker():
    points = (torch.arange(1000) + 0.5) / 1000
    assert grade("1.2", [float((2 * 2 * points).mean()) * 2, 3.0])


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        ((8, 3), "the slope at the end"),
        ((2, 3), "how long is the way"),
        ((3, 4), "other order"),
        ((7, 7), "check completeness"),
        (7, "there are 1"),
        ((4, float("nan")), "check completeness"),
    ],
)
def test_wrong_integrals(answer, hint):
    rejected("1.2", answer, hint, "4", "(4, 3)")


# 1.3: the promise of hiding a pixel


def promise(gradient, images, hidden):
    return (gradient * (hidden - images)).sum(dim=1, keepdim=True)


def by_loop(gradient, images, hidden):
    total = torch.zeros_like(images[:, :1])
    for channel in range(images.shape[1]):
        total[:, 0] += gradient[:, channel] * (hidden[:, channel] - images[:, channel])
    return total


@pytest.mark.parametrize("answer", [promise, by_loop])
def test_promises(answer):
    assert grade("1.3", answer)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda g, x, z: g * (z - x), "three channels at once"),
        (lambda g, x, z: (g * (z - x)).sum(dim=1), "not (2, 4, 5)"),
        (lambda g, x, z: (g * (x - z)).sum(dim=1, keepdim=True), "wrong way round"),
        (lambda g, x, z: (g * (z - x)).abs().sum(dim=1, keepdim=True), "a promise has a sign"),
        (lambda g, x, z: -(g * x).sum(dim=1, keepdim=True), "by black"),
        (lambda g, x, z: (g * (z - x)).mean(dim=1, keepdim=True), "not averaged"),
        (lambda g, x, z: g.sum(dim=1, keepdim=True), "a slope times the way"),
        (lambda g, x, z: 3.0, "return a tensor"),
        (lambda g, x: g, "TypeError"),
    ],
)
def test_wrong_promises(answer, hint):
    rejected("1.3", answer, hint, "hidden - images", "hidden -", "- images")


# 1.4: the guided ReLU


def guided(before, arriving):
    return arriving.clamp(min=0) * (before > 0)


def guided_by_where(before, arriving):
    return torch.where((before > 0) & (arriving > 0), arriving, torch.zeros(()))


@pytest.mark.parametrize("answer", [guided, guided_by_where])
def test_guided_relus(answer):
    assert grade("1.4", answer)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda before, arriving: arriving * (before > 0), "ordinary ReLU"),
        (lambda before, arriving: arriving.relu(), "the ReLU's input has a say"),
        (lambda before, arriving: ((before > 0) & (arriving > 0)).float(), "not 1"),
        (lambda before, arriving: (before > 0).float(), "not 1"),
        (lambda before, arriving: arriving.abs() * (before > 0), "not turned round"),
        (lambda before, arriving: arriving.sum(), "it is ()"),
        (lambda before, arriving: before, "two conditions"),
    ],
)
def test_wrong_relus(answer, hint):
    rejected("1.4", answer, hint, "before > 0", "clamp", "arriving > 0")


# 1.5: completeness


def gap(classifier, attribution, images, classes, start):
    ends = [classifier(part).gather(1, classes[:, None])[:, 0] for part in (images, start.expand_as(images))]
    return attribution.sum(dim=(1, 2, 3)) - (ends[0] - ends[1])


def gap_by_loop(classifier, attribution, images, classes, start):
    blank = classifier(start.expand_as(images[:1]))[0]
    rows = zip(images, attribution, classes, strict=True)
    return torch.stack([(classifier(x[None])[0, c] - blank[c] - a.sum()).abs() for x, a, c in rows])


@pytest.mark.parametrize("answer", [gap, gap_by_loop])
def test_gaps(answer):
    assert grade("1.5", answer)


def wrong_gap(score=lambda logits: logits, pick=None, minus=True, signed=True):
    def answer(classifier, attribution, images, classes, start):
        def value(x):
            logits = score(classifier(x))
            return logits.amax(dim=1) if pick == "best" else logits.gather(1, classes[:, None])[:, 0]

        change = value(images) - (value(start.expand_as(images)) if minus else 0)
        return (attribution if signed else attribution.abs()).sum(dim=(1, 2, 3)) - change

    return answer


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (wrong_gap(minus=False), "at the start"),
        (wrong_gap(score=lambda logits: logits.softmax(dim=1)), "was that the probability"),
        (wrong_gap(pick="best"), "need not be the classifier's choice"),
        (wrong_gap(signed=False), "keep the signs"),
        (lambda *given: wrong_gap()(*given).mean(), "one number for each image"),
        (lambda *given: 0.0, "this is float"),
        (lambda *given: torch.zeros(4), "two parts"),
    ],
)
def test_wrong_gaps(answer, hint):
    rejected("1.5", answer, hint, "gather", "logit(x) - logit")
