"""Training a classifier, from scratch or from weights for other classes, so that there is one to explain."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from maskerlib.classifiers.classifier import Classifier, frozen
from maskerlib.classifiers.doors import aligned, check_classifier, check_images
from maskerlib.data.augment import apply_crops, draw_crops
from maskerlib.data.loading import moved
from maskerlib.data.samples import Batch, Source, batches
from maskerlib.running.checks import LARGEST_BATCH, SEED, above, between, check_fields, one_of, rising, whole
from maskerlib.running.distributed import share
from maskerlib.running.precision import PRECISIONS, autocast
from maskerlib.running.seeds import stream
from maskerlib.training.loop import Plan, source_identity, steps_for
from maskerlib.training.run import TrainingRun
from maskerlib.training.whole_batch import add_up_step

__all__ = ["ClassifierConfig", "accuracy", "train_classifier"]


@dataclass(frozen=True)
class ClassifierConfig:
    """How a classifier is trained: SGD with Nesterov momentum on a one-cycle schedule, small images first.

    Args:
        passes: passes over the source.
        batch_size: images a step.
        lr: largest learning rate, reached after a seventh of the steps and brought to 0 by a cosine.
        momentum, weight_decay: of SGD.
        small: share of the steps, at the start, that see images at two thirds of their size: what is learnt there
            carries over, at less than half of the cost. 0 turns it off.
        crop_scale: smallest and largest area of the random crops; (1, 1) only flips.
        seed: of order and crops.
        precision: "auto", "bf16" or "fp32".
        checkpoint_every: steps between checkpoints.

    Raises ValueError for any value that no run could use, naming it and what is possible.

    >>> ClassifierConfig(momentum=9)
    Traceback (most recent call last):
    ValueError: momentum=9 must lie between 0 and 1
    """

    passes: float = 7.5
    batch_size: int = 64
    lr: float = 0.08
    momentum: float = 0.9
    weight_decay: float = 5e-4
    small: float = 0.55
    crop_scale: tuple[float, float] = (1.0, 1.0)
    seed: int = 0
    precision: str = "auto"
    checkpoint_every: int = 200

    def __post_init__(self) -> None:
        check_fields(
            self,
            **{name: above(0) for name in ("passes", "lr")},
            batch_size=whole(1, LARGEST_BATCH),
            checkpoint_every=whole(1),
            **{name: between(0, 1) for name in ("momentum", "weight_decay", "small")},
            crop_scale=rising(),
            seed=SEED,
            precision=one_of(PRECISIONS),
        )


def train_classifier(
    classifier: Classifier,
    source: Source,
    config: ClassifierConfig | None = None,
    *,
    folder: str | Path | None = None,
    device: torch.device | str | None = None,
    workers: int = 0,
    progress: bool = True,
) -> Classifier:
    """A trained copy of `classifier`, in eval mode and without gradients; labels come from `source`.

    With a `folder`, a finished run of the same configuration is loaded instead of repeated and a killed one goes on;
    `classifier.pt`, `history.json` and `provenance.json` are left there.

    Raises ValueError for a source without labels, with other classes, a folder that holds another run, or a network that does not
    take the smaller images that `small` shows it.
    """
    config = config or ClassifierConfig()
    if not source.class_names:
        raise ValueError(f"{type(source).__name__} has no labels to train a classifier with; use Scenes or a Folder")
    if tuple(source.class_names) != classifier.class_names:
        raise ValueError(
            f"{classifier.name} has {len(classifier.class_names)} classes, the source has {len(source.class_names)} or "
            "other names; build the classifier with class_names=source.class_names"
        )
    run = TrainingRun("classifier", folder, config, classifier.fingerprint(), *source_identity(source))
    device = torch.device(device) if device is not None else classifier.mean.device
    learner = classifier.copied().to(device).to(memory_format=classifier.memory_format).train().requires_grad_(True)
    if run.load(learner):
        return learner

    check_classifier(classifier)
    aligned(source, classifier)
    if (unknown := (source.labels < 0).nonzero()).numel():
        raise ValueError(f"image {int(unknown[0])} of the source has no label; a classifier is trained on labelled images alone")
    if config.small > 0:
        _check_smaller(learner, source.size)
    mine, steps = share(), steps_for(config.passes, len(source), config.batch_size)
    decayed = [weight for weight in learner.parameters() if weight.dim() > 1]
    others = [weight for weight in learner.parameters() if weight.dim() <= 1]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    decay, momentum = config.weight_decay, config.momentum
    sgd = torch.optim.SGD(groups, lr=config.lr, momentum=momentum, weight_decay=decay, nesterov=momentum > 0)

    def step(number: int, batch: Batch) -> dict[str, float]:
        images = moved(batch.images, device).to(memory_format=classifier.memory_format)
        draws = stream(config.seed, "augment", number)
        images = apply_crops(images, draw_crops(config.batch_size, draws, scale=config.crop_scale).part(mine))
        if number < config.small * steps:
            images = _smaller(images)
        labels = moved(batch.labels, device)
        for group in sgd.param_groups:
            group["lr"] = config.lr * _one_cycle(number, steps)
        sgd.zero_grad(set_to_none=True)
        with autocast(config.precision, device):
            logits = learner(images)
        part = len(images) / config.batch_size
        loss = F.cross_entropy(logits, labels) * part
        loss.backward()
        right = (logits.detach().argmax(dim=1) == labels).float().mean() * part
        numbers = {"loss": loss.detach(), "right": right}
        add_up_step([sgd], numbers)
        sgd.step()
        return dict(zip(numbers, torch.stack(list(numbers.values())).tolist(), strict=True))

    plan = Plan(steps, config.batch_size, config.seed, config.checkpoint_every, workers)
    run.train(learner, plan, source, step, {"sgd": sgd}, classifier=learner, progress=progress)
    return learner


def _smaller(images: Tensor) -> Tensor:
    return F.interpolate(images, scale_factor=2 / 3, mode="bilinear", antialias=True)


def _check_smaller(classifier: Classifier, size: tuple[int, int]) -> None:
    """ValueError for a network that takes one size of images alone, as vision transformers do."""
    blank = _smaller(torch.zeros(1, classifier.channels, *size, device=classifier.mean.device))
    try:
        with frozen(classifier), torch.no_grad():
            classifier(blank)
    except (RuntimeError, AssertionError, ValueError) as error:
        seen = "x".join(map(str, blank.shape[2:]))
        reason = " ".join(str(error).split())[:120]
        raise ValueError(f"{classifier.name} does not take the smaller images, {seen} ({reason}); train with small=0") from None


def _one_cycle(step: int, steps: int, *, warm: float = 0.15) -> float:
    """Learning-rate factor: linear from 0 to 1 in the first `warm` share of the steps, then a cosine towards 0."""
    at = (step + 1) / (steps + 1)  # so that even a run of one step moves
    return at / warm if at < warm else 0.5 * (1 + math.cos(math.pi * (at - warm) / (1 - warm)))


def accuracy(classifier: Classifier, source: Source, *, batch_size: int = 250, precision: str = "auto") -> float:
    """Share of images of a labelled source that the classifier gets right (top-1), in [0, 1]; higher is better.

    Labels count the classes of the source and are matched with the classifier's by name
    (`maskerlib.classifiers.doors.aligned`). With a sigmoid head an image is right where the yes of its label is given.

    Raises ValueError for a source that is empty or lacks a label, for labels or images that do not suit the classifier, or a
    classifier that returns no logits.
    """
    if len(source) == 0 or int(source.labels.min()) < 0:
        raise ValueError(f"accuracy needs a label for each of the {len(source)} images; give a labelled source")
    source = aligned(source, classifier)
    check_classifier(classifier)
    right = 0
    device = classifier.mean.device
    with frozen(classifier), torch.inference_mode(), autocast(precision, device):
        for batch in batches(source, batch_size):
            images = check_images(batch.images, classifier, batch.names)
            logits = classifier(images.to(device, memory_format=classifier.memory_format))
            right += int(classifier.right(logits, batch.labels.to(device)).sum())
    return right / len(source)
