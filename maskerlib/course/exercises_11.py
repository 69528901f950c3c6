"""The checkers of notebook 11, the mask's distribution. Each takes an answer; None when it is right, else one hint."""

from typing import Any

import torch
from torch import Tensor

from maskerlib.course.grading import same

__all__ = ["exercise_1", "exercise_2", "exercise_3", "exercise_4"]


def _random(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def exercise_1(answer: Any) -> str | None:
    """The chance that a cell is drawn above one half: (logits, temperature) -> a tensor of their shape."""
    if not callable(answer):
        return "a function is asked for, that takes logits and a temperature"
    logits = torch.cat([3 * _random(0, 2, 1, 3, 4).flatten(), torch.tensor([0.0, -8.0, 8.0])])
    for temperature in (0.1, 0.5, 2.0):
        given = answer(logits.clone(), temperature)
        if same(given, logits.sigmoid(), 1e-4):
            continue
        if same(given, (logits / temperature).sigmoid(), 1e-4):
            return "can dividing by a positive number carry the noisy logit across 0?"
        if same(given, (logits > 0).float(), 1e-4):
            return "that is what is decided at evaluation; in training a cell below 0 is sometimes drawn above one half"
        if same(given, (-logits).sigmoid(), 1e-4):
            return "the higher the logit, the likelier the cell is shown"
        return "not yet: on which side of 0 must logit plus noise lie, and how is that noise distributed?"
    return None


def exercise_2(answer: Any) -> str | None:
    """A soft draw of the binary concrete distribution: (logits, uniform, temperature) -> a tensor of their shape."""
    if not callable(answer):
        return "a function is asked for, that takes logits, uniform numbers and a temperature"
    logits = 2 * _random(1, 2, 1, 4, 5)
    uniform = torch.rand(logits.shape, generator=torch.Generator().manual_seed(2)).clamp(1e-3, 1 - 1e-3)
    noise, gumbel = uniform.logit(), -(-uniform.log()).log()
    for temperature in (0.5, 0.1, 2.0):
        given = answer(logits.clone(), uniform.clone(), temperature)
        if same(given, ((logits + noise) / temperature).sigmoid(), 1e-4):
            continue
        for wrong, hint in (
            (
                (logits + uniform) / temperature,
                "uniform numbers are never negative; first turn them into logistic noise",
            ),
            ((logits - noise) / temperature, "the sign of the noise: a number near 1 should push the cell up"),
            (
                (logits + gumbel) / temperature,
                "that is one Gumbel; there are two outcomes, and their noises are subtracted",
            ),
            (logits / temperature, "where does the draw enter? two calls with different uniform numbers should differ"),
            (logits / temperature + noise, "the noise is part of what is divided"),
            (logits + noise, "the temperature is missing"),
            ((logits + noise) * temperature, "a lower temperature should bring the draws nearer to 0 and 1"),
        ):
            if same(given, wrong.sigmoid(), 1e-4):
                return hint
        if same(given, (logits + noise) / temperature, 1e-4):
            return "this is still a logit; a mask lies between 0 and 1"
        return "not yet: logistic noise from the uniform numbers, added to the logits, then temperature, then sigmoid"
    return None


def exercise_3(answer: Any) -> str | None:
    """Straight through at a threshold: (soft mask, level) -> 0 and 1, with the gradient of the soft mask."""
    if not callable(answer):
        return "a function is asked for, that takes a soft mask and a level"
    weights = 1 + torch.arange(24.0).view(1, 1, 4, 6)
    for level in (0.5, 0.2, 0.8):
        logits = 2 * _random(3, 1, 1, 4, 6).requires_grad_()
        soft = logits.sigmoid()
        right = (soft > level).float()
        given = answer(soft, level)
        if not same(given, right, 1e-5):
            if same(given, soft, 1e-5):
                return "forward it is still the soft mask"
            if same(given, soft.round(), 1e-5):
                return f"level {level}: rounding cuts at one half, whatever is asked for"
            if same(given, 1 - right, 1e-5):
                return "the wrong side of the level is shown"
            return f"level {level}: the values should be 1 above the level and 0 elsewhere"
        if not given.requires_grad:
            return "the values are right, but no gradient leads back: a comparison has none"
        (found,) = torch.autograd.grad((weights * given).sum(), logits, allow_unused=True)
        expected = weights * (soft * (1 - soft)).detach()
        if found is None or same(found, torch.zeros_like(expected), 1e-6):
            return "the values are right, but the soft mask's gradient cancels: one of its two copies should carry none"
        if not same(found, expected, 1e-4):
            return "the values are right, but the gradient is not that of the soft mask"
    return None


def exercise_4(answer: Any) -> str | None:
    """Dabkowski and Gal's gate: (features (B, C, h, w), embedding (B, C)) -> gated features of the same shape."""
    if not callable(answer):
        return "a function is asked for, that takes features and embeddings"
    for images, channels, height, width in ((2, 3, 4, 5), (3, 8, 6, 6), (1, 1, 2, 3)):
        features, embedding = _random(5, images, channels, height, width), _random(6, images, channels)
        spread = embedding[:, :, None, None]
        product = features * spread
        inner = product.sum(dim=1, keepdim=True)
        given = answer(features.clone(), embedding.clone())
        if same(given, features * inner.sigmoid(), 1e-4):
            continue
        if isinstance(given, Tensor) and given.shape != features.shape:
            return f"the shape should be {tuple(features.shape)}, that of the features; yours is {tuple(given.shape)}"
        for wrong, hint in (
            (features + spread, "a constant that is added is what an appended channel comes to; a gate multiplies"),
            (features * spread.sigmoid(), "the gate is the same at every place; it should depend on what is there"),
            (features * product.sigmoid(), "each channel has a gate of its own; a place has one for all of them"),
            (features * product.mean(dim=1, keepdim=True).sigmoid(), "an inner product adds up; it takes no mean"),
            (features * inner, "a gate lies between 0 and 1"),
            (features * (-inner).sigmoid(), "the sign: features that fit the class should pass"),
            (
                features * inner.flatten(1).softmax(dim=1).view_as(inner),
                "each place is judged by itself, not against the others",
            ),
        ):
            if same(given, wrong, 1e-4):
                return hint
        return "not yet: for each place one number from its features and the embedding, then the gate, then the product"
    return None
