"""The checkers of notebook 15: they tell right from wrong, and their hints do not give the answer away."""

import math

import numpy as np
import pytest
import torch
from answers import refused
from torch.nn import functional as F

from maskerlib.course.exercises_15 import exercise_1, exercise_2, exercise_3, exercise_4
from maskerlib.masking.terms import log_odds
from maskerlib.methods.extremal import area_loss
from maskerlib.methods.patch_samplers import conditional_normal


@pytest.mark.parametrize("checker", [exercise_1, exercise_2, exercise_3, exercise_4])
def test_something_that_cannot_be_called_is_refused(checker):
    refused(checker, 3, "asked for")


def estimate(masks, scores, keep):
    return (scores[:, None, None, None] * masks).mean(dim=0) / keep


class TestEstimate:
    @pytest.mark.parametrize(
        "answer",
        [
            estimate,
            lambda m, s, keep: torch.einsum("n,nchw->chw", s, m) / (len(m) * keep),
            lambda m, s, keep: estimate(m, s, keep)[0],
            lambda m, s, keep: estimate(m, s, keep)[None],
            lambda m, s, keep: sum(score * mask for score, mask in zip(s, m, strict=True)) / keep / len(s),
        ],
    )
    def test_right(self, answer):
        assert exercise_1(answer) is None

    @pytest.mark.parametrize(
        "answer, part",
        [
            (lambda m, s, keep: estimate(m, s, keep) * len(m) * keep, "grows with the number"),
            (lambda m, s, keep: estimate(m, s, keep) * keep, "how often is a pixel shown"),
            (lambda m, s, keep: estimate(m, s, keep) * keep * len(m) / s.sum(), "halved"),
            (lambda m, s, keep: estimate(m, s, 1 - keep), "not that it is hidden"),
            (lambda m, s, keep: estimate(m, s, keep) * keep * len(m) / m.sum(dim=0), "how often to expect"),
            (lambda m, s, keep: estimate(m, s - s.mean(), keep), "counts in full"),
            (lambda m, s, keep: estimate(1 - m, s, keep), "where it was hidden"),
            (lambda m, s, keep: estimate(m, s.round(), keep), "counts by its score"),
            (lambda m, s, keep: m * s[:, None, None, None], "one number a pixel"),
            (lambda m, s, keep: float(s.mean()), "a tensor"),
        ],
    )
    def test_wrong(self, answer, part):
        refused(exercise_1, answer, part)


def by_sorting(mask, area):
    ranked = mask.flatten().sort(descending=True).values
    wanted = torch.zeros_like(ranked)
    wanted[: round(area * len(ranked))] = 1
    return (ranked - wanted).square().mean()


def ranked(mask):
    return mask.flatten().sort().values


def wanted(mask, area):
    return (torch.arange(mask.numel()) >= mask.numel() - round(area * mask.numel())).float()


class TestAreaLoss:
    @pytest.mark.parametrize(
        "answer",
        [
            by_sorting,
            lambda m, a: area_loss(m[None, None], [a]),
            lambda m, a: float(F.mse_loss(ranked(m), wanted(m, a))),
            lambda m, a: np.mean((np.sort(m.numpy().ravel()) - wanted(m, a).numpy()) ** 2),
        ],
    )
    def test_right(self, answer):
        assert exercise_2(answer) is None

    @pytest.mark.parametrize(
        "answer, part",
        [
            (lambda m, a: (m.mean() - a) ** 2, "a grey mask"),
            (lambda m, a: (ranked(m).flip(0) - wanted(m, a)).square().mean(), "one way"),
            (lambda m, a: (m.flatten() - wanted(m, a)).square().mean(), "is free"),
            (lambda m, a: (m.flatten() - wanted(m, a).flip(0)).square().mean(), "is free"),
            (lambda m, a: by_sorting(m, a) * m.numel(), "grows with"),
            (lambda m, a: by_sorting(m, a).sqrt(), "no root"),
            (lambda m, a: (ranked(m) - wanted(m, a)).abs().mean(), "in proportion"),
            (lambda m, a: by_sorting(m, 1 - a), "not of zeros"),
            (lambda m, a: by_sorting(m.round(), a), "in order"),
            (lambda m, a: (ranked(m) - wanted(m, a)).square(), "one finite number"),
            (lambda m, a: math.nan, "one finite number"),
            (lambda m, a: by_sorting(m, 0.25), "larger area"),
        ],
    )
    def test_wrong(self, answer, part):
        refused(exercise_2, answer, part)


def by_exponentials(logits, labels):
    logits = logits.double()
    of_class = F.one_hot(labels, logits.shape[1]).bool()
    return logits[of_class] - logits.masked_fill(of_class, -math.inf).logsumexp(dim=1)


def one_at_a_time(logits, labels):
    found = []
    for row, label in zip(logits, labels.tolist(), strict=True):
        others = torch.cat([row[:label], row[label + 1 :]])
        found.append(row[label] - others.logsumexp(dim=0))
    return torch.stack(found)


def chosen(values, labels):
    return values.gather(1, labels[:, None])[:, 0]


class TestLogOdds:
    @pytest.mark.parametrize("answer", [log_odds, by_exponentials, one_at_a_time, lambda z, y: log_odds(z, y)[:, None]])
    def test_right(self, answer):
        assert exercise_3(answer) is None

    @pytest.mark.parametrize(
        "answer, part",
        [
            (lambda z, y: chosen(z.softmax(dim=1), y).logit(), "not every number is finite"),
            (lambda z, y: chosen(z.softmax(dim=1), y).logit(eps=1e-6), "rounding has taken over"),
            (lambda z, y: chosen(z, y), "add 1 to all logits"),
            (lambda z, y: chosen(z.log_softmax(dim=1), y), "log p"),
            (lambda z, y: chosen(z.softmax(dim=1), y), "this is p"),
            (lambda z, y: log_odds(z, y).exp(), "odds"),
            (lambda z, y: log_odds(z, y) / math.log(2), "in bits"),
            (lambda z, y: -log_odds(z, y), "sign"),
            (lambda z, y: chosen(z, y) - z.scatter(1, y[:, None], -math.inf).amax(dim=1), "the largest"),
            (lambda z, y: chosen(z, y) - (z.sum(dim=1) - chosen(z, y)) / (z.shape[1] - 1), "do not"),
            (lambda z, y: log_odds(z, y) + 1, "sums of exponentials"),
            (lambda z, y: log_odds(z, y).mean(), "one number an image"),
            (lambda z, y: 0.0, "one number an image"),
        ],
    )
    def test_wrong(self, answer, part):
        refused(exercise_3, answer, part)


def given_frame(mean, covariance, known, values):
    slope, spread = conditional_normal(covariance, known)
    return mean[~known] + slope @ (values - mean[known]), spread


def by_inverse(mean, covariance, known, values):
    across, within = covariance[~known][:, known], covariance[known][:, known]
    weights = across @ within.inverse()
    return mean[~known] + weights @ (values - mean[known]), covariance[~known][:, ~known] - weights @ across.T


def by_precision(mean, covariance, known, values):
    """The same by the inverse of the whole covariance, as an information matrix."""
    precision = covariance.double().inverse()
    spread = precision[~known][:, ~known].inverse()
    return mean[~known] - spread @ precision[~known][:, known] @ (values - mean[known]).double(), spread


def changed(first=lambda *given: given_frame(*given)[0], second=lambda *given: given_frame(*given)[1]):
    return lambda *given: (first(*given), second(*given))


def across(covariance, known):
    return covariance[~known][:, known]


class TestWindow:
    @pytest.mark.parametrize("answer", [given_frame, by_inverse, by_precision, lambda *given: list(by_inverse(*given))])
    def test_right(self, answer):
        assert exercise_4(answer) is None

    @pytest.mark.parametrize(
        "answer, part",
        [
            (changed(lambda m, c, k, v: m[~k]), "has to move it"),
            (changed(lambda m, c, k, v: given_frame(m, c, k, v)[0] - m[~k]), "own mean is missing"),
            (changed(lambda m, c, k, v: m[~k] + conditional_normal(c, k)[0] @ v), "differ from"),
            (changed(lambda m, c, k, v: 2 * m[~k] - given_frame(m, c, k, v)[0]), "bright frame"),
            (changed(lambda m, c, k, v: m[~k] + across(c, k) @ (v - m[k])), "has a unit"),
            (changed(lambda m, c, k, v: m[~k] + v.mean()), "linear in the known"),
            (changed(lambda m, c, k, v: m), "one for each unknown"),
            (changed(second=lambda m, c, k, v: c[~k][:, ~k]), "less uncertain"),
            (changed(second=lambda m, c, k, v: 2 * c[~k][:, ~k] - conditional_normal(c, k)[1]), "more uncertain"),
            (changed(second=lambda m, c, k, v: conditional_normal(c, k)[1].diagonal().diag()), "go together"),
            (changed(second=lambda m, c, k, v: conditional_normal(c, k)[1] + 1), "How much of the window's"),
            (changed(second=lambda m, c, k, v: c), "alone"),
            (lambda *given: given_frame(*given)[0], "two tensors"),
        ],
    )
    def test_wrong(self, answer, part):
        refused(exercise_4, answer, part)
