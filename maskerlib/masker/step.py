"""One step of training a masker: every gradient, and no weight moved.

The classifier looks at the clean images; the masker draws masks from what it saw; the objective judges the two views of
every image, side by side. Weights move afterwards, in `maskerlib.masker.training`. (The code release moves the classifier
between the masker's forward and backward pass, which gives wrong gradients.)
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from maskerlib.classifiers.classifier import Classifier
from maskerlib.masker.config import GIVEN, MaskerConfig
from maskerlib.masker.network import Masker
from maskerlib.masking.distributions import sampled_mask
from maskerlib.masking.infills import INFILLS, Filling, Infill, mean_colour
from maskerlib.masking.masks import area
from maskerlib.masking.objectives import objective_backward
from maskerlib.running.precision import autocast
from maskerlib.running.seeds import for_each

__all__ = ["compute_gradients"]


def compute_gradients(
    config: MaskerConfig,
    classifier: Classifier,
    masker: Masker,
    images: Tensor,
    labels: Tensor,
    *,
    judge: Classifier | None = None,
    infill: Infill | None = None,
    answers: Tensor | None = None,
    after_clean: Callable[[], None] | None = None,
    batch_size: int | None = None,
) -> dict[str, Tensor]:
    """The gradients of one step, left in `.grad` of the masker and, for CA, of the classifier. No weight moves.

    Whatever is drawn (noise of a sampled mask, sizes asked for, noise as infill) comes from torch's global generator
    (`maskerlib.running.seeds.for_each`).

    Args:
        config: everything that concerns one step is read: mode, objective, infill, mask, regions, condition, precision and
            micro_batch.
        classifier: FIX: without gradients (see `maskerlib.classifiers.classifier.frozen`). CA: with gradients. In eval mode.
        images: (B, 3, H, W) in [0, 1].
        labels: (B,) int64, the class that each mask explains. Not what a *learning* classifier predicts: it would drift to one
            class that is always right (`maskerlib.classifiers.doors.decided`).
        judge: a pool member that judges the masks in the classifier's place; then the classifier does not learn from
            the masked images of this step.
        infill: what stands where the image is hidden, when the config says "given".
        answers: (B, C) of 0 and 1, what a classifier with a sigmoid head is to say of the clean images as it learns.
        after_clean: called where the classifier holds the gradients of the clean images, and not yet those of the masked ones.
        batch_size: of the batch that these images are a part of, B where it is None. Gradients and results are then what this
            part adds to the means over the batch: those of all parts add up to them, however unequal they are.

    Returns scalars by name: the objective and its terms, the mean area, the share of clean images classified right.
    """
    learns = config.mode == "CA"
    if labels.min() < 0:
        mend = "maskerlib.classifiers.doors.decided gives them"
        raise ValueError(f"label {int(labels.min())}: every image needs a class to explain; {mend}")
    whole = len(images) if batch_size is None else batch_size
    at_once = config.micro_batch or len(images)
    parts = [slice(start, start + at_once) for start in range(0, len(images), at_once)]
    logits, activations, clean_loss = _look(config, classifier, masker, images, labels, answers, parts, whole)
    numbers: dict[str, Tensor] = {}
    if learns:
        numbers["clean"] = clean_loss
        if after_clean is not None:
            after_clean()
    clean_correct = classifier.right(logits, labels).to(logits)
    with autocast(config.precision, images.device):
        areas, conditioning = None, None
        if config.condition == "size":
            low, high = config.areas
            areas = conditioning = low + (high - low) * for_each(torch.rand_like, torch.empty(len(images), device=images.device))
        elif config.condition == "class":
            conditioning = labels
        height, width = images.shape[-2:]
        mask = sampled_mask(
            masker(activations, conditioning),
            (height, width),
            config.mask,
            temperature=config.temperature,
            regions=config.region_maps(images),
        )
    member = judge if judge is not None and not config.released_pool else classifier
    train = [weight for weight in classifier.parameters() if weight.requires_grad] if learns and judge is None else None
    hidden = _hidden(config, infill, images, classifier.mean)
    question = classifier.decision(logits, labels)[1]
    leaf = mask.detach().requires_grad_()
    found = []
    for part in parts:

        def classify(views: Tensor, asked: Tensor = labels[part]) -> Tensor:
            with autocast(config.precision, views.device):
                return member.decision(member(views), asked)[0]

        found.append(
            objective_backward(
                config.objective,
                classify,
                images[part],
                leaf[part],
                question[part],
                clean_correct[part],
                hidden(part),
                areas=None if areas is None else areas[part],
                train=train,
                share=len(images[part]) / whole,
            )
        )
    torch.autograd.backward(mask, leaf.grad)
    share = len(images) / whole
    means = {name: torch.cat([terms[name] for terms in found]).mean() * share for name in found[0]}
    numbers = {"objective": torch.stack(list(means.values())).sum(), **numbers, **means}
    return {**numbers, "area": area(mask.detach()).mean() * share, "right": clean_correct.mean() * share}


def _look(
    config: MaskerConfig,
    classifier: Classifier,
    masker: Masker,
    images: Tensor,
    labels: Tensor,
    answers: Tensor | None,
    parts: Sequence[slice],
    whole: int,
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Logits and activations of the clean images, detached, and the loss of a classifier that learns; its gradients are left.

    The loss is what these images add to the mean over a batch of `whole`. Of several parts only what the masker reads is kept.
    """
    logits, activations, losses = [], [], []
    for part in parts:
        with torch.set_grad_enabled(config.mode == "CA"), autocast(config.precision, images.device):
            answer, seen = classifier.activations(images[part])
        if config.mode == "CA":
            if answers is None:
                loss = F.cross_entropy(answer, labels[part])
            else:
                loss = F.binary_cross_entropy_with_logits(answer, answers[part])
            loss = loss * (len(answer) / whole)
            torch.autograd.backward(loss)
            losses.append(loss.detach())
        logits.append(answer.detach())
        activations.append(seen)
    if len(parts) == 1:
        joined = activations[0]
    else:
        joined = {name: torch.cat([seen[name] for seen in activations]) for name in {*masker.layers, masker.grid_layer}}
    return torch.cat(logits), joined, torch.stack(losses).sum() if losses else images.new_zeros(())


def _hidden(
    config: MaskerConfig, infill: Infill | None, images: Tensor, mean: Tensor
) -> Callable[[slice], dict[str, Filling]]:
    """What stands where a part of the images is hidden, by side. What depends on the hole is asked for each part."""
    if (infill is None) == (config.infill == GIVEN):
        what = "no function was given" if infill is None else "a function was given as well"
        raise ValueError(f"infill={config.infill!r}, and {what}; give infill=... exactly when the config says {GIVEN!r}")
    chosen = INFILLS[config.infill]() if infill is None else infill
    with torch.no_grad():
        everywhere = chosen(images, mean)
        plain = mean_colour(images, mean)

    def of(part: slice) -> dict[str, Filling]:
        filling = everywhere
        if isinstance(everywhere, Tensor):
            filling = everywhere[part] if len(everywhere) == len(images) else everywhere
        elif len(images[part]) < len(images):
            with torch.no_grad():
                filling = chosen(images[part], mean)
        return {side: filling if config.infill_sides in ("both", side) else plain for side in ("in", "out")}

    return of
