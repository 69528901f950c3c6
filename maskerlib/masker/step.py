"""One step of training a masker: every gradient, and no weight moved.

The classifier looks at the clean images; the masker draws masks from what it saw; the objective judges the two views of
every image, side by side. Weights move afterwards, in `maskerlib.masker.training`. (The code release moves the classifier
between the masker's forward and backward pass, which gives wrong gradients.)
"""

from collections.abc import Callable

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
        config: everything that concerns one step is read: mode, objective, infill, mask, regions, condition, precision.
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
    share = 1.0 if batch_size is None else len(images) / batch_size
    with torch.set_grad_enabled(learns), autocast(config.precision, images.device):
        logits, activations = classifier.activations(images)
    if labels.min() < 0:
        mend = "maskerlib.classifiers.doors.decided gives them"
        raise ValueError(f"label {int(labels.min())}: every image needs a class to explain; {mend}")
    numbers: dict[str, Tensor] = {}
    if learns:
        if answers is None:
            clean_loss = F.cross_entropy(logits, labels)
        else:
            clean_loss = F.binary_cross_entropy_with_logits(logits, answers)
        clean_loss = clean_loss * share
        torch.autograd.backward(clean_loss)
        numbers["clean"] = clean_loss.detach()
        if after_clean is not None:
            after_clean()
    clean_correct = classifier.right(logits.detach(), labels).to(logits)
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

    def classify(views: Tensor) -> Tensor:
        with autocast(config.precision, views.device):
            return member.decision(member(views), labels)[0]

    train = [weight for weight in classifier.parameters() if weight.requires_grad] if learns and judge is None else None
    hidden = _hidden(config, infill, images, classifier.mean)
    question = classifier.decision(logits.detach(), labels)[1]
    terms = objective_backward(
        config.objective, classify, images, mask, question, clean_correct, hidden, areas=areas, train=train, share=share
    )
    means = {name: term.mean() * share for name, term in terms.items()}
    numbers = {"objective": torch.stack(list(means.values())).sum(), **numbers, **means}
    return {**numbers, "area": area(mask.detach()).mean() * share, "right": clean_correct.mean() * share}


def _hidden(config: MaskerConfig, infill: Infill | None, images: Tensor, mean: Tensor) -> dict[str, Filling]:
    """What stands where the image is hidden, by side."""
    if (infill is None) == (config.infill == GIVEN):
        what = "no function was given" if infill is None else "a function was given as well"
        raise ValueError(f"infill={config.infill!r}, and {what}; give infill=... exactly when the config says {GIVEN!r}")
    chosen = INFILLS[config.infill]() if infill is None else infill
    with torch.no_grad():
        filling = chosen(images, mean)
        return {
            side: filling if config.infill_sides in ("both", side) else mean_colour(images, mean) for side in ("in", "out")
        }
