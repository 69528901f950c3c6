"""One mask per image (equation 1): gradient descent on the logits of a coarse mask.

The objective, the blends and the way from logits to a mask are those of a trained masker (equation 2); only the logits
are free numbers here. The objective alone is easily met by speckle that fools the classifier. Four plain measures leave
it no room, each of which can be turned off to see what it does: a coarse grid drawn smoothly, total variation, a random
shift of image and mask together at every step, and noise on the logits, so that no mask lives on the precise grey of a
cell (Fong & Vedaldi, 2017, jitter and blur for the same reason).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from maskerlib.classifiers import Classifier, frozen
from maskerlib.infills import INFILLS, Infill, fill
from maskerlib.loop import Diverged, learning_rate_factor
from maskerlib.masks import mask_from_logits, masked_in, masked_out
from maskerlib.objectives import Objective, objective_backward
from maskerlib.precision import autocast
from maskerlib.references import Method
from maskerlib.seeds import stream

__all__ = ["PER_IMAGE", "Optimised", "mask_method", "optimise_mask"]

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


def optimise_mask(
    classifier: Classifier,
    images: Tensor,
    targets: Tensor | None = None,
    *,
    objective: Objective = PER_IMAGE,
    grid: int | tuple[int, int] = 14,
    steps: int = 100,
    lr: float = 1.2,
    start: float = 1.0,
    shift: float = 0.036,
    noise: float = 1.5,
    infill: Infill | str = "mean",
    seed: int = 0,
    precision: str = "auto",
    progress: bool = False,
) -> Optimised:
    """Find the mask of each image by Adam on equation 1. Images do not influence each other.

    Args:
        classifier: left exactly as it was.
        images: (B, 3, H, W) in [0, 1].
        targets: (B,) int64, the classes to explain; None means those that the classifier predicts.
        objective: what the mask should do.
        grid: cells of the mask along the shorter side (the other in proportion), or (rows, columns).
        steps: updates; the learning rate `lr` falls along a cosine.
        start: every logit at the beginning; 1 shows 73 % of everything.
        shift: largest random shift of image and mask together, as a share of the shorter side. 0 for none.
        noise: standard deviation of the noise on the logits. 0 for none.
        infill: a name in `maskerlib.infills.INFILLS` or an `Infill`; no gradient flows through it.
        seed: of shifts and noise, and of what an infill draws.
        precision: "auto", "bf16" or "fp32".
        progress: show a bar with the live terms.

    Raises ValueError for arguments that make no sense, `Diverged` when a term stops being finite.
    """
    _check(images, targets, classifier, grid, steps=steps, lr=lr, shift=shift, noise=noise)
    if isinstance(infill, str) and infill not in INFILLS:
        raise ValueError(f"infill={infill!r} is unknown; choose {', '.join(INFILLS)} or give a function")
    infill = INFILLS[infill]() if isinstance(infill, str) else infill
    height, width = size = images.shape[-2:]
    short = min(size)
    cells = (round(grid * height / short), round(grid * width / short)) if isinstance(grid, int) else grid
    reach = round(shift * short)
    images = images.contiguous(memory_format=torch.channels_last)

    def see(views: Tensor) -> Tensor:
        with autocast(precision, views.device):
            return classifier(views)

    history: dict[str, list[float]] = {}
    bar = tqdm(total=steps, desc="mask", disable=not progress, leave=False)
    with torch.enable_grad(), frozen(classifier), torch.random.fork_rng(), bar:
        torch.manual_seed(stream(seed, "infill").initial_seed())  # an infill may draw
        with torch.no_grad():
            clean = see(images)
            filling = infill(images, classifier.mean)
        targets = clean.argmax(dim=1) if targets is None else targets.to(images.device)
        clean_correct = (clean.argmax(dim=1) == targets).float()
        logits = torch.full((len(images), 1, *cells), float(start), device=images.device, requires_grad=True)
        adam = torch.optim.Adam([logits], lr=lr)
        for step in range(steps):
            draws = stream(seed, "optimise", step)
            by = torch.randint(-reach, reach + 1, (2,), generator=draws).tolist()
            wobble = noise * torch.randn(1, 1, *cells, generator=draws).to(images.device)
            mask = mask_from_logits(logits + wobble, size, upsampling="smooth")
            adam.param_groups[0]["lr"] = lr * max(learning_rate_factor(step, steps, "cosine"), 0.05)
            adam.zero_grad()
            hidden = {
                side.name: _move(fill(filling, side.hole(mask)), by, reach) for side in objective.sides()
            }
            moved = [_move(part, by, reach) for part in (images, mask)]
            terms = objective_backward(objective, see, *moved, targets, clean_correct, hidden)
            logits.grad *= len(images)  # the sum of the images' objectives, not their mean: each on its own
            _record(history, terms, step)
            adam.step()
            bar.set_postfix({name: f"{values[-1]:.2f}" for name, values in history.items()}, refresh=False)
            bar.update()
        with torch.no_grad():
            mask = mask_from_logits(logits, size, upsampling="smooth")
            kept = masked_in(images, mask, fill(filling, 1 - mask))
            left = masked_out(images, mask, fill(filling, mask))
            views = (images, kept, left)
            answers = [see(view).softmax(dim=1).gather(1, targets[:, None])[:, 0] for view in views]
    return Optimised(mask, targets, *answers, history)


def mask_method(**options: object) -> Method:
    """`optimise_mask` with `options` as a saliency method: (images, targets, classifier) -> masks (B, 1, H, W)."""

    def method(images: Tensor, targets: Tensor | None, classifier: Classifier) -> Tensor:
        return optimise_mask(classifier, images, targets, **options).masks  # type: ignore[arg-type]

    return method


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


def _check(
    images: Tensor, targets: Tensor | None, classifier: Classifier, grid: int | tuple[int, int], **numbers: float
) -> None:
    if images.dim() != 4 or images.shape[1] != 3 or len(images) == 0:
        raise ValueError(f"images have shape {tuple(images.shape)}, expected (B, 3, H, W) with B >= 1")
    if not images.isfinite().all():
        raise ValueError("the images hold NaN or infinity; remove or mend them")
    if targets is not None and (targets.shape != images.shape[:1] or targets.is_floating_point()):
        raise ValueError(
            f"targets have shape {tuple(targets.shape)}, expected whole numbers of shape ({len(images)},)"
        )
    if (
        targets is not None
        and classifier.class_names
        and not 0 <= int(targets.min()) <= int(targets.max()) < len(classifier.class_names)
    ):
        raise ValueError(f"targets {targets.tolist()} must lie in 0..{len(classifier.class_names) - 1}")
    if min((grid,) if isinstance(grid, int) else grid) < 1:
        raise ValueError(f"grid={grid!r} must be 1 cell or more along each side")
    for name, value in numbers.items():
        least = 1 if name == "steps" else 0
        if not (math.isfinite(value) and value >= least) or (name == "lr" and value == 0):
            raise ValueError(
                f"{name}={value!r} must be a finite number, {'above 0' if name == 'lr' else f'{least} or more'}"
            )
    if numbers["shift"] >= 0.5:
        raise ValueError(f"shift={numbers['shift']!r} must be below 0.5 of the shorter side")
