"""The checkers of notebook 15, other ways to find a mask. Each takes an answer; None when it is right, else one hint."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskerlib.course.grading import close, same
from maskerlib.masking.terms import log_odds
from maskerlib.methods.extremal import area_loss
from maskerlib.methods.patch_samplers import conditional_normal

__all__ = ["exercise_1", "exercise_2", "exercise_3", "exercise_4"]


def _random(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def exercise_1(answer: Any) -> str | None:
    """RISE's map from masks and scores: (masks (N, 1, H, W), scores (N,), keep) -> (1, H, W)."""
    if not callable(answer):
        return "a function is asked for, that takes masks, scores and keep and returns a map"
    for seed, (count, keep) in enumerate(((5, 0.5), (12, 0.2), (1, 0.8))):
        masks, scores = _random(seed, count, 1, 4, 6), _random(seed + 10, count)
        total = (scores[:, None, None, None] * masks).sum(dim=0)
        right = total / (count * keep)
        given = answer(masks.clone(), scores.clone(), keep)
        if not isinstance(given, Tensor):
            return "a tensor is asked for, one number a pixel"
        if given.squeeze().shape != (4, 6):
            return (
                f"{tuple(given.shape)} came back for masks of 4 x 6 pixels; the map has one number a pixel, (1, 4, 6)"
            )
        given = given.reshape(1, 4, 6)
        if same(given, right, 1e-4):
            continue
        for wrong, hint in (
            (total, "a sum grows with the number of masks; a map that does not is asked for"),
            (
                total / count,
                "nearly: how often is a pixel shown? Another `keep` should not change the scale of the map",
            ),
            (
                total / scores.sum(),
                "a mean mask, weighted by the scores, is the same when all scores are halved; RISE's map is not",
            ),
            (total / (count * (1 - keep)), "`keep` is the chance that a pixel is shown, not that it is hidden"),
            (
                total / masks.sum(dim=0).clamp(min=1e-9),
                "divided by how often each pixel was shown; RISE takes how often to expect it",
            ),
            (
                (scores - scores.mean()) @ masks.flatten(1) / (count * keep),
                "this is the centred map; here every score counts in full",
            ),
            (scores @ (1 - masks).flatten(1) / (count * keep), "a pixel is credited where it was hidden"),
        ):
            if same(given, wrong.reshape(1, 4, 6), 1e-4):
                return hint
        return (
            "not yet: each mask counts by its score, and the sum is scaled by how many masks show a pixel, on average"
        )
    return None


def exercise_2(answer: Any) -> str | None:
    """The area loss of one mask: (mask (H, W), area) -> a number."""
    if not callable(answer):
        return "a function is asked for, that takes a mask (H, W) and an area and returns a number"
    perfect = torch.zeros(4, 5)
    perfect[1:3, 1:3] = 1
    for case, mask, area in (
        ("random values", _random(0, 4, 5), 0.25),
        ("random values, a larger area", _random(1, 8, 5), 0.75),
        ("a mask of 0 and 1 with the area asked for", perfect, 0.2),
        ("the whole image", _random(2, 4, 5), 1.0),
    ):
        ones = round(area * mask.numel())
        ranked = mask.flatten().sort().values
        wanted = torch.arange(mask.numel()) >= mask.numel() - ones
        right = float(area_loss(mask[None, None], [area]))
        given = answer(mask.clone(), area)
        if close(given, right, 1e-4):
            continue
        zeros = (torch.arange(mask.numel()) >= ones).float()
        apart = ranked - wanted.float()
        wrongs = (
            ((mask.mean() - area).square(), "a grey mask can have the right mean; each value should be 0 or 1"),
            (
                (ranked - wanted.flip(0).float()).square().mean(),
                "sorted one way, compared the other: the largest should be 1",
            ),
            (
                (mask.flatten() - wanted.float()).square().mean(),
                "as if the last pixels had to be shown: which ones should be is free",
            ),
            (
                (mask.flatten() - wanted.flip(0).float()).square().mean(),
                "as if the first pixels had to be shown: which ones is free",
            ),
            (apart.square().sum(), "a sum grows with the number of pixels"),
            (apart.square().mean().sqrt(), "nearly: no root is taken"),
            (apart.abs().mean(), "nearly: a small difference should count less than in proportion"),
            ((ranked - zeros).square().mean(), "`area` is the share of ones, not of zeros"),
        )
        number = isinstance(given, int | float | np.number) or (isinstance(given, Tensor) and given.numel() == 1)
        if not number or not math.isfinite(float(given)):
            return f"{case}: one finite number is asked for"
        for wrong, hint in wrongs:
            if close(given, float(wrong), 1e-4):
                return f"{case}: {hint}"
        return f"{case}: not yet. Put the values in order; how many of the largest should be 1, and what of the others?"
    return None


def exercise_3(answer: Any) -> str | None:
    """The log-odds of a class: (logits (B, C), labels (B,)) -> (B,), finite however sure the classifier is."""
    if not callable(answer):
        return "a function is asked for, that takes logits and labels and returns one number an image"
    plain, labels = 3 * (_random(0, 4, 5) - 0.5), torch.tensor([0, 4, 2, 2])
    sure = torch.tensor([[300.0, 0.0, -5.0], [-300.0, 0.0, 1.0], [40.0, 3.0, 3.0]])
    for case, logits, chosen in (
        ("logits of usual size", plain, labels),
        ("a sure classifier", sure, torch.tensor([0, 0, 0])),
    ):
        right = log_odds(logits.double(), chosen).float()
        given = answer(logits.clone(), chosen.clone())
        if isinstance(given, Tensor) and given.shape == (len(logits), 1):
            given = given[:, 0]
        if same(given, right, 1e-3):
            continue
        if not isinstance(given, Tensor) or given.shape != right.shape:
            return f"{case}: one number an image is asked for, a tensor of {len(logits)}"
        own = logits.gather(1, chosen[:, None])[:, 0]
        others = logits.scatter(1, chosen[:, None], -math.inf)
        if not given.isfinite().all():
            return f"{case}: not every number is finite. Which p has been rounded to 1, or to 0? Do without p"
        for wrong, hint in (
            (own, "this is the logit: add 1 to all logits, and it moves, while nothing else does"),
            (own - logits.logsumexp(dim=1), "this is log p: it ends at 0 however sure the classifier is"),
            (logits.softmax(dim=1).gather(1, chosen[:, None])[:, 0], "this is p"),
            (right.exp(), "these are the odds; their logarithm is asked for"),
            (right / math.log(2), "in bits; the natural logarithm is asked for"),
            (-right, "the sign: a sure class has high log-odds"),
            (own - others.amax(dim=1), "all other classes share 1 - p, not the largest of them alone"),
            (own - (logits.sum(dim=1) - own) / (logits.shape[1] - 1), "the others' p add up; their logits do not"),
        ):
            if same(given, wrong, 1e-3):
                return f"{case}: {hint}"
        if case == "a sure classifier":
            return f"{case}: rounding has taken over: where p is 1 in float32, 1 - p is lost. Write p out, and see what cancels"
        return f"{case}: not yet. Write p and 1 - p as sums of exponentials, and divide the one by the other"
    return None


def exercise_4(answer: Any) -> str | None:
    """A window given its frame: (mean (D,), covariance (D, D), known (D,), values (K,)) -> (mean (U,), covariance (U, U))."""
    if not callable(answer):
        return "a function is asked for, that takes mean, covariance, known and values and returns the two"
    mixing = _random(3, 6, 6) - 0.5
    covariance, mean = mixing @ mixing.T + 0.1 * torch.eye(6), _random(4, 6)
    for case, numbers in (("two pixels known", [0, 4]), ("four pixels known", [1, 2, 3, 5]), ("no pixel known", [])):
        known = torch.zeros(6, dtype=torch.bool)
        known[numbers] = True
        values = _random(5, 6)[known]
        slope, right = conditional_normal(covariance, known)
        prior, apart = mean[~known], values - mean[known]
        given = answer(mean.clone(), covariance.clone(), known.clone(), values.clone())
        if not isinstance(given, tuple | list) or len(given) != 2:
            return "two tensors are asked for: the mean of the unknown pixels, and their covariance"
        middle, spread = given
        if not same(middle, prior + slope @ apart, 1e-4):
            if not isinstance(middle, Tensor) or middle.shape != prior.shape:
                return f"{case}: the mean has {len(prior)} numbers, one for each unknown pixel"
            for wrong, hint in (
                (prior, "what the known pixels show has to move it"),
                (
                    slope @ apart,
                    "the pixels' own mean is missing: what if the known ones are as bright as they are on average?",
                ),
                (
                    prior + slope @ values,
                    "only by how much the known pixels differ from *their* mean do they move the others",
                ),
                (
                    prior - slope @ apart,
                    "a bright frame makes a bright window likelier where their covariance is above 0",
                ),
                (
                    prior + covariance[~known][:, known] @ apart,
                    "the covariance has a unit; divide by that of the known pixels",
                ),
            ):
                if same(middle, wrong, 1e-4):
                    return f"{case}, mean: {hint}"
            return f"{case}, mean: not yet. It is linear in the known pixels; by which matrix?"
        if not same(spread, right, 1e-4):
            if not isinstance(spread, Tensor) or spread.shape != right.shape:
                return f"{case}: the covariance is that of the {len(prior)} unknown pixels alone, with one another"
            within = covariance[~known][:, ~known]
            if same(spread, within, 1e-4):
                return (
                    f"{case}, covariance: the mean is right; but to know the frame must make the window less uncertain"
                )
            if same(spread, 2 * within - right, 1e-4):
                return f"{case}, covariance: the mean is right; but to know more cannot make the window more uncertain"
            if same(spread, right.diagonal().diag(), 1e-4):
                return f"{case}, covariance: the mean is right; but neighbours in the window still go together"
            return f"{case}, covariance: the mean is right. How much of the window's variance does the frame explain?"
    return None
