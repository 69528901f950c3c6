"""Training for real-time saliency (Dabkowski and Gal, 2017), by the code release: the selector first, then the decoder.

One run of `maskerlib.training.loop` takes the steps of both phases. In the first, the embedding of the classes learns whether a
class is there, by the mean of its similarity to the deepest features; in the second it rests, and all else learns to draw.
"""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.networks import with_gradients
from maskerlib.data.augment import apply_crops
from maskerlib.data.loading import moved
from maskerlib.data.samples import Batch, Source
from maskerlib.masker.real_time import RealTimeConfig
from maskerlib.masker.run import MaskerRun, check_config
from maskerlib.masker.trained import Trained
from maskerlib.masking.margins import blur_or_colour
from maskerlib.masking.masks import area, mask_from_logits
from maskerlib.running.distributed import share
from maskerlib.running.precision import autocast
from maskerlib.running.seeds import for_each, stream
from maskerlib.training.loop import Plan, run_steps
from maskerlib.training.whole_batch import add_up_step, whole_batch

__all__ = ["asked_for", "train_real_time"]


@with_gradients
def train_real_time(
    classifier: Classifier,
    source: Source,
    config: RealTimeConfig | None = None,
    *,
    targets: str = "labels",
    folder: str | Path | None = None,
    device: torch.device | str | None = None,
    workers: int = 0,
    progress: bool = True,
) -> Trained:
    """Train a decoder for `classifier`, which stays as it is, on `source`; arguments, result and errors of `train_masker`.

    `history` has "selector" (its loss) and "selector right" (its share of right answers) of the first phase's steps; and of the
    second's "objective", its terms and the mean "area".

    Raises ValueError as `maskerlib.masker.training.train_masker` does, and for a classifier of one class, as there is then no
    other to ask for.
    """
    config = RealTimeConfig() if config is None else config
    check_config(config, RealTimeConfig)
    run = MaskerRun(classifier, source, config, targets=targets, folder=folder)
    if (finished := run.load()) is not None:
        return finished
    source = run.prepared(workers)
    device = torch.device(device) if device is not None else classifier.mean.device
    learner = config.learner(classifier).to(device).eval().requires_grad_(False)
    decoder = config.new_masker(classifier).to(device).train()
    classes, mine = decoder.embed.num_embeddings, share()
    if classes < 2:
        raise ValueError(f"{classifier.name} has one class; a selector needs two, so that there is one to ask for in vain")
    rest = [weight for name, weight in decoder.named_parameters() if not name.startswith("embed.")]
    selector_adam = torch.optim.Adam(decoder.embed.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    decoder_adam = torch.optim.Adam(rest, lr=config.lr, weight_decay=config.weight_decay)

    def step(number: int, batch: Batch) -> dict[str, float]:
        images = moved(batch.images, device).to(memory_format=classifier.memory_format)
        images = images if source.own_crops else apply_crops(images, run.crops(number).part(mine))
        selects = number < config.selector_steps
        fakes = config.selector_fakes if selects else config.fakes
        asked = asked_for(batch.labels, classes, fakes, stream(config.seed, "fakes", number)).to(device)
        labels = moved(batch.labels, device)
        with torch.no_grad(), autocast(config.precision, device):
            logits, activations = learner.activations(images)
        decoder.embed.requires_grad_(selects)
        adam = selector_adam if selects else decoder_adam
        adam.zero_grad(set_to_none=True)
        with autocast(config.precision, device):
            if selects:
                drawn = decoder.presence(activations, asked).float()
            else:
                drawn = mask_from_logits(decoder(activations, asked), (images.shape[2], images.shape[3]))
        if selects:
            adam.param_groups[0]["lr"] = config.lr * 0.1 ** (17 * number // (8 * config.selector_steps))
            numbers = _select(drawn, asked == labels, config.batch_size)
        else:
            numbers = _judge(config, learner, logits, images, drawn, asked, labels)
        add_up_step([adam], numbers)
        adam.step()
        return dict(zip(numbers, torch.stack(list(numbers.values())).tolist(), strict=True))

    with whole_batch(decoder):
        history = run_steps(
            Plan(config.selector_steps + config.steps, config.batch_size, config.seed, config.checkpoint_every, workers),
            source,
            step,
            {"masker": decoder, "selector adam": selector_adam, "decoder adam": decoder_adam},
            identity=run.origin.run,
            folder=run.folder,
            device=device,
            progress=progress,
            description="real-time saliency",
            crops=run.crops if source.own_crops else None,
        )
    return run.finished(decoder, learner, history)


def asked_for(labels: Tensor, classes: int, share: float, generator: torch.Generator) -> Tensor:
    """The classes whose masks are asked for, (B,): the labels (B,), or, with probability `share`, any other, all alike.

    >>> asked_for(torch.tensor([0, 1, 1]), 2, 1.0, stream(0, "fakes"))
    tensor([1, 0, 0])
    """
    fakes = for_each(lambda like: torch.rand(like.shape, generator=generator), labels) < share
    away = for_each(lambda like: torch.randint(1, classes, like.shape, generator=generator), labels)
    return torch.where(fakes, (labels + away) % classes, labels)


def _select(presence: Tensor, real: Tensor, batch_size: int) -> dict[str, Tensor]:
    """The gradients of a step of the first phase, left in the embedding; the numbers of its history.

    Either is what these images add to the means over a batch.
    """
    part = len(real) / batch_size
    loss = F.binary_cross_entropy_with_logits(presence, real.to(presence)) * part
    loss.backward()
    return {"selector": loss.detach(), "selector right": ((presence > 0) == real).float().mean() * part}


def _judge(
    config: RealTimeConfig,
    classifier: Classifier,
    logits: Tensor,
    images: Tensor,
    mask: Tensor,
    asked: Tensor,
    labels: Tensor,
) -> dict[str, Tensor]:
    """The gradients of a step of the second phase, left in the decoder; the numbers of its history; as in `_select`."""
    part = len(images) / config.batch_size

    def classify(views: Tensor) -> Tensor:
        with autocast(config.precision, views.device):
            return classifier.decision(classifier(views), labels)[0]

    leaf = mask.detach().requires_grad_()
    answers = classifier.decision(logits, labels)[1]
    terms = config.objective.terms(classify, images, leaf, answers, asked == labels, classifier.mean, blur_or_colour())
    means = {}
    for name, term in terms:  # the graph of one view is gone before the next is built
        mean = term.mean() * part
        mean.backward()
        means[name] = mean.detach()
    mask.backward(leaf.grad)
    return {"objective": torch.stack(list(means.values())).sum(), **means, "area": area(mask.detach()).mean() * part}
