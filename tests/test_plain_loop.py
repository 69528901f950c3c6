"""Nine steps of training, FIX and CA, against a plain loop in float64 that shares no mathematics with the library.

The loop below spells out equation 2 of Phang et al. for the final model (MaxClass (I) + MaxEnt (O)), the masker of their
figure 1B, the classifier-agnostic training with its pool, clipping, schedule and the two optimisers' updates. It takes from the
library what is drawn at random, and nothing else.
"""

import copy
import dataclasses

import pytest
import torch
from tiny import SIZE, Squares, tiny_classifier
from torch import Tensor
from torch.nn import functional as F

from maskerlib.classifiers.classifier import Classifier
from maskerlib.data.samples import Batch
from maskerlib.masker.config import MaskerConfig
from maskerlib.masker.network import masker_for
from maskerlib.masker.training import train_masker
from maskerlib.running.seeds import stream

STEPS, BATCH = 9, 5
CONFIG = MaskerConfig.final(
    "FIX",
    steps=STEPS,
    batch_size=BATCH,
    width=8,
    masker_lr=1e-2,
    classifier_lr=1e-2,
    warmup=0.3,
    clip_norm=0.5,
    crop_scale=(1.0, 1.0),
    pool_every=3,
    pool_size=2,
    seed=3,
    precision="fp32",
)


class Doubles(Squares):
    """The squares in float64."""

    def batch(self, indices) -> Batch:
        batch = super().batch(indices)
        return dataclasses.replace(batch, images=batch.images.double())


def logits_and_features(weights: dict[str, Tensor], images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`tiny.TinyNet` in eval mode, written out: logits, stem (B, 4, 8, 8), stage (B, 6, 4, 4)."""

    def block(x: Tensor, name: str) -> Tensor:
        x = F.conv2d(x, weights[f"network.{name}.0.weight"], stride=2, padding=1)
        mean, var = weights[f"network.{name}.1.running_mean"], weights[f"network.{name}.1.running_var"]
        x = (x - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
        return (x * weights[f"network.{name}.1.weight"][:, None, None] + weights[f"network.{name}.1.bias"][:, None, None]).relu()

    stem = block((images - 0.5) / 0.5, "stem")
    stage = block(stem, "stage")
    logits = stage.mean(dim=(2, 3)) @ weights["network.head.weight"].T + weights["network.head.bias"]
    return logits, stem, stage


def mask_of(weights: dict[str, Tensor], stem: Tensor, stage: Tensor) -> Tensor:
    """The masker in training mode: the stem as it is, the stage reduced, normalised over the batch, enlarged; one convolution."""
    x = F.conv2d(stage, weights["reduce.1.0.weight"])
    mean, var = x.mean(dim=(0, 2, 3), keepdim=True), x.var(dim=(0, 2, 3), unbiased=False, keepdim=True)
    x = (x - mean) / (var + 1e-5).sqrt()
    x = (x * weights["reduce.1.1.weight"][:, None, None] + weights["reduce.1.1.bias"][:, None, None]).relu()
    x = F.interpolate(x, size=stem.shape[-2:], mode="bilinear", align_corners=False)
    z = F.conv2d(torch.cat([stem, x], dim=1), weights["head.weight"], weights["head.bias"], padding=1)
    return z.repeat_interleave(SIZE // z.shape[2], dim=2).repeat_interleave(SIZE // z.shape[3], dim=3).sigmoid()


def objective(config: MaskerConfig, judge, images: Tensor, m: Tensor, y: Tensor, c0: Tensor) -> Tensor:
    """Equation 1, per image, averaged: L_in + R_in + L_out + R_out + TV."""
    inside, outside = judge(0.5 + m * (images - 0.5)), judge(0.5 + (1 - m) * (images - 0.5))
    a = m.mean(dim=(1, 2, 3))
    c_in, c_out = (inside.argmax(1) == y).double(), (outside.argmax(1) != y).double()
    p = outside.softmax(dim=1)
    loss = -inside.log_softmax(dim=1)[range(len(y)), y] + c0 * (p * p.log()).sum(dim=1)
    loss = loss - config.objective.size_in * (c_in - a).clamp(min=0) - config.objective.size_out * (c0 * c_out - a).clamp(min=0)
    tv = (m[:, :, 1:] - m[:, :, :-1]).pow(2).sum((1, 2, 3)) + (m[..., 1:] - m[..., :-1]).pow(2).sum((1, 2, 3))
    for edge in (m[:, :, 0], m[:, :, -1], m[..., 0], m[..., -1]):
        tv = tv + 0.3 * edge.pow(2).sum((1, 2))
    return (loss + config.objective.tv * 224 / SIZE * tv / 2).mean()


def plain_loop(config: MaskerConfig, classifier: Classifier, source: Doubles) -> tuple[list[Tensor], list[Tensor]]:
    """The weights of masker and classifier after the run."""
    learns = config.mode == "CA"
    start = masker_for(classifier, ("stem", "stage"), width=8, seed=config.seed).double()
    theta = {name: value.clone().requires_grad_() for name, value in start.named_parameters()}
    phi = {name: value.clone() for name, value in classifier.state_dict().items() if value.is_floating_point()}
    learnt = [f"network.{name}" for name, _ in classifier.network.named_parameters()]
    first, second = ({name: torch.zeros_like(value) for name, value in theta.items()} for _ in range(2))
    speed: dict[str, Tensor] = {}
    pool: dict[int, dict[str, Tensor]] = {}
    seen = [
        int(index)
        for number in range(STEPS * BATCH // len(source) + 1)
        for index in torch.randperm(len(source), generator=stream(config.seed, "order", number))
    ]
    for step in range(STEPS):
        batch = source.batch(seen[step * BATCH : (step + 1) * BATCH])
        flip = torch.rand(5, BATCH, generator=stream(config.seed, "augment", step))[4] < 0.5
        images, y = torch.where(flip[:, None, None, None], batch.images.flip(3), batch.images), batch.labels
        rate = min(1.0, (step + 1) / (0.3 * STEPS)) * 0.1 ** min(2, 3 * step // STEPS)

        judge_weights = None
        if learns:
            if step % 3 == 0:
                if len(pool) == 2:
                    del pool[sorted(pool)[int(torch.randint(2, (1,), generator=stream(config.seed, "pool-replace", step)))]]
                pool[step] = {name: value.clone() for name, value in phi.items()}
            chance, which = torch.rand(2, generator=stream(config.seed, "pool-draw", step)).tolist()
            judge_weights = pool[sorted(pool)[int(which * len(pool))]] if chance < 0.5 else None

        weights = {name: value.clone().requires_grad_(learns and name in learnt) for name, value in phi.items()}
        logits, stem, stage = logits_and_features(weights, images)
        m = mask_of(theta, stem.detach(), stage.detach())
        c0 = (logits.argmax(1) == y).double()
        frozen = judge_weights or {name: value.detach() for name, value in weights.items()}
        loss = objective(config, lambda x: logits_and_features(frozen, x)[0], images, m, y, c0)  # noqa: B023
        gradients = dict(zip(theta, torch.autograd.grad(loss, list(theta.values())), strict=True))

        if learns:
            kept, left = 0.5 + m.detach() * (images - 0.5), 0.5 + (1 - m.detach()) * (images - 0.5)
            views = [images] if judge_weights else [images, kept, left]
            total = sum(F.cross_entropy(logits_and_features(weights, view)[0], y) for view in views)
            for name, gradient in zip(learnt, torch.autograd.grad(total, [weights[name] for name in learnt]), strict=True):
                gradient = gradient + config.weight_decay * phi[name]
                speed[name] = config.momentum * speed[name] + gradient if name in speed else gradient
                phi[name] = phi[name] - rate * config.classifier_lr * speed[name]

        norm = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
        for name, value in theta.items():
            gradient = gradients[name] * min(1.0, config.clip_norm / (norm + 1e-6)) + config.weight_decay * value.detach()
            first[name] = 0.9 * first[name] + 0.1 * gradient
            second[name] = 0.999 * second[name] + 0.001 * gradient**2
            ahead = (second[name] / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
            moved = value.detach() - rate * config.masker_lr * first[name] / (1 - 0.9 ** (step + 1)) / ahead
            theta[name] = moved.requires_grad_()
    return [value.detach() for value in theta.values()], [phi[name] for name in learnt]


@pytest.mark.parametrize("mode, size_out", [("FIX", 10.0), ("CA", 15.0)])
def test_nine_steps_equal_a_plain_loop_in_float64(mode, size_out):
    config = dataclasses.replace(CONFIG, mode=mode, layers=("stem", "stage"), objective=MaskerConfig.final(mode).objective)
    assert config.objective.size_out == size_out
    classifier, source = tiny_classifier().double(), Doubles()
    masker, learnt = plain_loop(config, copy.deepcopy(classifier), source)
    trained = train_masker(classifier, source, config, progress=False)
    for (name, found), expected in zip(trained.masker.named_parameters(), masker, strict=True):
        assert found.dtype == torch.float64
        torch.testing.assert_close(found.detach(), expected, rtol=1e-9, atol=1e-9, msg=name)
    for (name, found), expected in zip(trained.classifier.network.named_parameters(), learnt, strict=True):
        torch.testing.assert_close(found.detach(), expected, rtol=1e-9, atol=1e-9, msg=name)
    start = [weight.detach() for weight in classifier.network.parameters()]
    moved = max(float((a - b).abs().max()) for a, b in zip(learnt, start, strict=True))
    assert (moved > 1e-3) == (mode == "CA")
