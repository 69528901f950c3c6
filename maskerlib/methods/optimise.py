"""One mask per image (equation 1): m = argmin over m of the objective, by gradient descent on the logits of a coarse mask.

The objective, the blends and the way from logits to a mask are those of a trained masker (equation 2); only the logits
are free numbers here. The objective alone is easily met by speckle that fools the classifier. Four plain measures leave
it no room, each of which can be turned off to see what it does: a coarse grid drawn smoothly, total variation, a random
shift of image and mask together at every step, and noise on the logits, so that no mask lives on the precise grey of a
cell (Fong & Vedaldi, 2017, jitter and blur for the same reason).
"""

import dataclasses
import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from maskerlib.classifiers.classifier import Classifier, frozen
from maskerlib.classifiers.doors import Method, Targets, as_targets, check_classifier, check_images
from maskerlib.classifiers.networks import with_gradients
from maskerlib.masking.infills import Infill, as_infill, fill
from maskerlib.masking.masks import mask_from_logits, masked_in, masked_out
from maskerlib.masking.objectives import Objective, objective_backward
from maskerlib.methods.entry import MethodEntry
from maskerlib.running.checks import above, between, check_names, check_value, whole
from maskerlib.running.precision import autocast
from maskerlib.running.registry import check_options, with_options_of
from maskerlib.running.seeds import stream
from maskerlib.training.loop import Diverged, learning_rate_factor

__all__ = ["ENTRY", "PER_IMAGE", "Optimised", "mask_method", "optimise_mask"]

PER_IMAGE = Objective(size_out=5.0, tv=0.03)
"""The study's final objective with a smaller reward for small masks and more smoothness, as nothing is learnt over images."""


@dataclass(frozen=True)
class Optimised:
    """What `optimise_mask` found.

    masks: (B, 1, H, W) in [0, 1].  targets: (B,) int64, the class that each mask explains.
    clean, kept, left: (B,), the probability of the target in the whole, the masked-in and the masked-out image.
    history: the mean over the images of each term of the objective, step by step.
    """

    masks: Tensor
    targets: Tensor
    clean: Tensor
    kept: Tensor
    left: Tensor
    history: dict[str, list[float]]


@with_gradients
def optimise_mask(
    classifier: Classifier,
    images: Tensor,
    targets: Targets = None,
    *,
    objective: Objective = PER_IMAGE,
    grid: int | tuple[int, int] = 14,
    steps: int = 100,
    lr: float = 1.2,
    start: float = 1.0,
    shift: float = 0.036,
    shifts: int = 1,
    noise: float = 1.5,
    infill: Infill | str = "mean",
    seed: int = 0,
    batch_size: int = 64,
    precision: str = "auto",
    progress: bool = False,
) -> Optimised:
    """Find the mask of each image by Adam on equation 1. Images do not influence each other.

    Args:
        classifier: left exactly as it was.
        images: (B, channels, H, W) in [0, 1].
        targets: the classes to explain: one for all images or one for each, as numbers or names; None means those that the
            classifier predicts. With a sigmoid head each is its own yes or no.
        objective: what the mask should do.
        grid: cells of the mask along the shorter side (the other in proportion), or (rows, columns).
        steps: updates; the learning rate `lr` falls along a cosine.
        start: every logit at the beginning; 1 shows 73 % of everything.
        shift: largest random shift of image and mask together, as a share of the shorter side. 0 for none.
        shifts: shifts drawn at each step, and with each of them its own noise; the step takes the mean gradient.
        noise: standard deviation of the noise on the logits. 0 for none.
        infill: a name in `maskerlib.masking.infills.INFILLS` or an `Infill`; no gradient flows through it.
        seed: of shifts and noise, and of what an infill draws.
        batch_size: images in one pass at most, which bounds the memory whatever their number. It changes no mask but by
            rounding, save under an infill that draws for the whole batch.
        precision: "auto", "bf16" or "fp32".
        progress: show a bar with the live terms.

    Raises ValueError for arguments that make no sense, `Diverged` when a term stops being finite.
    """
    _check(grid, steps=steps, lr=lr, shift=shift, shifts=shifts, noise=noise, batch_size=batch_size)
    infill = as_infill(infill)
    check_images(images, classifier)
    check_classifier(classifier, differentiable=True)
    height, width = images.shape[-2:]
    short = min(height, width)
    cells = (round(grid * height / short), round(grid * width / short)) if isinstance(grid, int) else grid
    reach = round(shift * short)
    parts = torch.split(images, batch_size)
    with frozen(classifier), torch.no_grad():
        logits = [_see(classifier, part, precision) for part in parts]
    chosen = as_targets(targets, torch.cat(logits), classifier)
    found = [
        _optimise(
            classifier,
            *part,
            objective=objective,
            cells=cells,
            steps=steps,
            lr=lr,
            start=start,
            reach=reach,
            shifts=shifts,
            noise=noise,
            infill=infill,
            seed=seed,
            precision=precision,
            progress=progress,
        )
        for part in zip(parts, logits, torch.split(chosen, batch_size), strict=True)
    ]
    return found[0] if len(found) == 1 else _joined(found)


def _see(classifier: Classifier, views: Tensor, precision: str) -> Tensor:
    with autocast(precision, views.device):
        logits: Tensor = classifier(views.contiguous(memory_format=classifier.memory_format))
    return logits


def _optimise(
    classifier: Classifier,
    images: Tensor,
    clean: Tensor,
    targets: Tensor,
    *,
    objective: Objective,
    cells: tuple[int, int],
    steps: int,
    lr: float,
    start: float,
    reach: int,
    shifts: int,
    noise: float,
    infill: Infill,
    seed: int,
    precision: str,
    progress: bool,
) -> Optimised:
    """The masks of one batch; `clean` are the logits of the images."""
    size = (images.shape[-2], images.shape[-1])
    images = images.contiguous(memory_format=classifier.memory_format)

    def classify(views: Tensor) -> Tensor:
        with autocast(precision, views.device):
            return classifier.decision(classifier(views), targets)[0]

    history: dict[str, list[float]] = {}
    bar = tqdm(total=steps, desc="mask", disable=not progress, leave=False)
    with torch.enable_grad(), frozen(classifier), torch.random.fork_rng(), bar:
        torch.manual_seed(stream(seed, "infill").initial_seed())  # an infill may draw
        with torch.no_grad():
            filling = infill(images, classifier.mean)
        labels = classifier.decision(clean, targets)[1]
        clean_correct = classifier.right(clean, targets).to(clean)
        logits = torch.full((len(images), 1, *cells), float(start), device=images.device, requires_grad=True)
        adam = torch.optim.Adam([logits], lr=lr)
        for step in range(steps):
            draws = stream(seed, "optimise", step)
            adam.param_groups[0]["lr"] = lr * max(learning_rate_factor(step, steps, "cosine"), 0.05)
            adam.zero_grad()
            drawn = []
            for _ in range(shifts):
                by = torch.randint(-reach, reach + 1, (2,), generator=draws).tolist()
                wobble = noise * torch.randn(1, 1, *cells, generator=draws).to(images.device)
                mask = mask_from_logits(logits + wobble, size, upsampling="smooth")
                hidden = {
                    side.name: _move(fill(filling, side.hole(mask)), by, reach) for side in objective.sides()
                }
                shown, moved = _move(images, by, reach), _move(mask, by, reach)
                drawn.append(objective_backward(objective, classify, shown, moved, labels, clean_correct, hidden))
            assert logits.grad is not None
            logits.grad *= len(images) / shifts  # the sum of the images' objectives, not their mean: each on its own
            _record(history, {name: torch.cat([terms[name] for terms in drawn]) for name in drawn[0]}, step)
            adam.step()
            bar.set_postfix({name: f"{values[-1]:.2f}" for name, values in history.items()}, refresh=False)
            bar.update()
        with torch.no_grad():
            mask = mask_from_logits(logits, size, upsampling="smooth")
            kept = masked_in(images, mask, fill(filling, 1 - mask))
            left = masked_out(images, mask, fill(filling, mask))
            answers = [classify(view).softmax(dim=1).gather(1, labels[:, None])[:, 0] for view in (images, kept, left)]
    return Optimised(mask, targets, answers[0], answers[1], answers[2], history)


def _joined(parts: list[Optimised]) -> Optimised:
    """What was found for several batches, as one; the history is the mean over all images."""
    fields = ("masks", "targets", "clean", "kept", "left")
    whole = {field: torch.cat([getattr(part, field) for part in parts]) for field in fields}
    share = [len(part.masks) / len(whole["masks"]) for part in parts]
    history = {
        name: [sum(weight * value for weight, value in zip(share, values, strict=True)) for values in zip(*steps, strict=True)]
        for name, steps in {name: [part.history[name] for part in parts] for name in parts[0].history}.items()
    }
    return Optimised(**whole, history=history)


@with_options_of(optimise_mask)
def mask_method(
    *, objective: Objective | Mapping[str, Any] = PER_IMAGE, seed: int = 0, progress: bool = False, **options: Any
) -> Method:
    """`optimise_mask` with `options` as a saliency method: (images, targets, classifier) -> masks (B, 1, H, W).

    Args:
        objective: as in `optimise_mask`, or names and values: what is other than in `PER_IMAGE`.
        seed, progress, **options: as in `optimise_mask`.

    Raises ValueError for an option that it does not have, or a value that makes no sense.
    """
    parameters = inspect.signature(optimise_mask).parameters.values()
    known = {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}
    check_options("optimise_mask", options, known)
    _check(**{name: options.get(name, known[name]) for name in _NUMBERS})
    as_infill(options.get("infill", known["infill"]))
    options = options | {"objective": _objective({"objective": objective})}

    def method(images: Tensor, targets: Targets, classifier: Classifier) -> Tensor:
        return optimise_mask(classifier, images, targets, seed=seed, progress=progress, **options).masks

    return method


def _objective(options: Mapping[str, Any]) -> Objective:
    """The objective that the options of `mask_method` ask for."""
    given = options["objective"]
    return dataclasses.replace(PER_IMAGE, **check_names(Objective, given)) if isinstance(given, Mapping) else given


def _gradients(options: Mapping[str, Any], size: tuple[int, int]) -> int:
    return len(list(_objective(options).sides())) * int(options["steps"]) * int(options["shifts"])


def _move(part: Tensor, by: list[int], reach: int) -> Tensor:
    """Shift (B, C, H, W) by `by` pixels, at most `reach`; what enters repeats the edge. A single colour stays."""
    height, width = part.shape[-2:]
    if reach == 0 or (height, width) == (1, 1):
        return part
    padded = F.pad(part, (reach,) * 4, mode="replicate")
    return padded[..., reach - by[0] : reach - by[0] + height, reach - by[1] : reach - by[1] + width]


def _record(history: dict[str, list[float]], terms: dict[str, Tensor], step: int) -> None:
    for name, values in terms.items():
        mean = float(values.mean())
        if not math.isfinite(mean):
            raise Diverged(f"step {step}: {name} is {mean}; look for NaN in the classifier's weights, or lower lr")
        history.setdefault(name, []).append(mean)


_NUMBERS = ("grid", "steps", "lr", "shift", "shifts", "noise", "batch_size")
"""The options of `optimise_mask` that `_check` holds against a rule."""


def _check(grid: int | tuple[int, int], **numbers: float) -> None:
    if min((grid,) if isinstance(grid, int) else grid) < 1:
        raise ValueError(f"grid={grid!r} must be 1 cell or more along each side")
    rules = {"steps": whole(1), "shifts": whole(1), "batch_size": whole(1), "lr": above(0), "noise": above(0, included=True)}
    rules["shift"] = between(0, 0.5, open_above=True)
    for name, value in numbers.items():
        check_value(name, value, rules[name])


ENTRY = MethodEntry(
    "optimise",
    "one mask per image, by gradient descent",
    mask_method,
    kind="per-image mask",
    stochastic=True,
    forward=lambda options, size: _gradients(options, size) + 4,
    backward=_gradients,
    moderate={"steps": 40},
)
