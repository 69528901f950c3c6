"""Extremal perturbations (Fong, Patrick and Vedaldi, 2019): of all smooth masks of area a, the one that moves the answer most.

    m_a = argmax over m of  r(x seen through m) - lambda * mean((sort(m) - r_a)^2)

r is the class's logit, m a max-convolution of free values on a coarse grid, so that a mask is smooth and still reaches 1, and
r_a the sorted mask that has a share a of ones and nothing else. A mask has the area that it is asked for, and no weight is left
to choose; so several areas are asked for at once, and the smallest that keeps the score answers "what is enough?" (section 3).
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from maskerlib.classifiers.classifier import Classifier, frozen
from maskerlib.classifiers.doors import Method, Targets, as_targets, check_images
from maskerlib.classifiers.networks import with_gradients
from maskerlib.masking.infills import Infill, as_infill, blur, fill
from maskerlib.masking.masks import masked_in
from maskerlib.methods.blur_pyramid import blur_pyramid, faded
from maskerlib.methods.entry import MethodEntry
from maskerlib.methods.max_convolution import MaxConvolution
from maskerlib.running.checks import above, between, check_value, one_of, whole
from maskerlib.running.precision import single
from maskerlib.running.registry import check_options, with_options_of
from maskerlib.running.seeds import stream
from maskerlib.training.loop import Diverged

__all__ = [
    "AREAS",
    "CHOICES",
    "ENTRY",
    "REWARDS",
    "VARIANTS",
    "Extremal",
    "area_loss",
    "extremal_masks",
    "extremal_perturbation",
]

AREAS = (0.025, 0.05, 0.1, 0.2)
"""Shares of the image; those with which the authors play the pointing game on VOC."""

VARIANTS = ("preserve", "delete", "dual")
"""What is asked of a mask: to show the class, to hide it, or both."""

REWARDS = ("logit", "contrastive")
"""The class's logit, or how far it lies above the largest other."""

CHOICES = ("sum", "smallest")
"""One map of several areas: the mean of their masks; or that of the smallest area that keeps the score."""


@dataclass(frozen=True)
class Extremal:
    """What `extremal_masks` found for B images and K areas.

    masks: (B, K, H, W) in [0, 1], high where the class is.  areas: the K areas, smallest first.
    targets: (B,) int64.  clean: (B,), the probability of the target in the image.
    kept, left: (B, K), its probability in what each mask shows, and in what it leaves.
    """

    masks: Tensor
    areas: tuple[float, ...]
    targets: Tensor
    clean: Tensor
    kept: Tensor
    left: Tensor

    def smallest(self, share: float = 0.9, variant: str = "preserve") -> Tensor:
        """(B,) int64: the number of the smallest area whose mask keeps the score; of the largest area where none does.

        "preserve": what the mask shows has at least `share` of the clean probability. "delete": what it leaves has at most
        1 - `share` of it. "dual": both.
        """
        keeps = self.kept >= share * self.clean[:, None]
        deletes = self.left <= (1 - share) * self.clean[:, None]
        good = {"preserve": keeps, "delete": deletes, "dual": keeps & deletes}[variant]
        first = good.to(torch.uint8).argmax(dim=1)  # of several largest values, the first
        return torch.where(good.any(dim=1), first, len(self.areas) - 1)


def area_loss(masks: Tensor, areas: Sequence[float]) -> Tensor:
    """How far masks (N, 1, H, W) are from being 0 and 1 with the N areas asked for: (N,), 0 at best.

    mean((sort(m) - r_a)^2): the values of each are sorted, and compared with as many ones as make up its area. Where a mask is,
    and of what shape, is left free. All that the order decides is which pixels should be 1; those that are equal at its edge, to
    five decimals, are pulled alike: no pixel is preferred for the place where a sort puts it.

    >>> mask = torch.tensor([[[[0.0, 1.0], [0.0, 0.0]]]])
    >>> area_loss(mask, [0.25]), area_loss(mask, [0.5])
    (tensor([0.]), tensor([0.2500]))
    """
    rows = masks.flatten(1)
    pixels = rows.shape[1]
    counts = [min(max(round(area * pixels), 1), pixels) for area in areas]
    ranked = zip(rows.detach(), counts, strict=True)
    edge = torch.stack([row.kthvalue(pixels - count + 1).values for row, count in ranked])[:, None]
    over, at = rows > edge + 1e-5, (rows - edge).abs() <= 1e-5
    left = rows.new_tensor(counts)[:, None] - over.sum(dim=1, keepdim=True)
    one = over + at * (left / at.sum(dim=1, keepdim=True))  # the share of it that should be 1
    return (one * (1 - rows).square() + (1 - one) * rows.square()).mean(dim=1)


@with_gradients
def extremal_masks(
    classifier: Classifier,
    images: Tensor,
    targets: Targets = None,
    *,
    area: float | Sequence[float] = AREAS,
    variant: str = "preserve",
    reward: str = "logit",
    infill: Infill | str = "pyramid",
    grid: int = 32,
    sigma: float = 3.0,
    steps: int = 800,
    lr: float = 0.01,
    weight: float = 300.0,
    growth: float = 16.4,
    flip: bool = True,
    seed: int = 0,
    batch_size: int = 64,
    progress: bool = False,
) -> Extremal:
    """A mask of each area for each image, by gradient descent; areas and images do not influence each other.

    Every default is the authors' (their release, at 224 pixels), lengths turned into cells; but the area is that of the image,
    where theirs counts a margin around it as well.

    Args:
        classifier: left exactly as it was.
        images: (B, channels, H, W) in [0, 1].
        targets: the classes to explain, as for every method.
        area: one share of the image or several, each above 0 and at most 1.
        variant: one of `VARIANTS`.
        reward: one of `REWARDS`. With a sigmoid head both are the class's own logit.
        infill: what stands where the mask hides, a name in `maskerlib.masking.infills.INFILLS` or an `Infill`; or "pyramid", the
            more blur the lower the mask (`maskerlib.methods.blur_pyramid`).
        grid: cells along the shorter side, the other in proportion.
        sigma: of the max-convolution, in cells.
        steps: updates, by SGD with momentum and dampening 0.9.  lr: its learning rate.
        weight: lambda at the start; it grows to `growth` times that.
        flip: every second step looks at the mirror image. Not for a classifier that tells left from right.
        seed: of what an infill draws.
        batch_size: masks in one pass at most, which bounds the memory whatever the number of images and areas.
        progress: show a bar.

    Raises ValueError for arguments that make no sense, `Diverged` when a mask stops being finite.
    """
    areas = _areas(area)
    _check(variant=variant, reward=reward, batch_size=batch_size)
    _check(grid=grid, sigma=sigma, steps=steps, lr=lr, weight=weight, growth=growth)
    filler = None if infill == "pyramid" else as_infill(infill)
    check_images(images, classifier)
    with frozen(classifier), torch.no_grad():
        logits = torch.cat([classifier(part) for part in torch.split(images, batch_size)])
    chosen = as_targets(targets, logits, classifier)
    size = height, width = images.shape[-2], images.shape[-1]
    cells = round(grid * height / min(size)), round(grid * width / min(size))
    convolve = MaxConvolution(cells, size, sigma=sigma, like=single(images))
    # As many masks as images times areas, each image's areas after one another; none knows of the others.
    number = torch.arange(len(images), device=images.device).repeat_interleave(len(areas))
    parts, asked, found = torch.split(number, batch_size), areas * len(images), []
    bar = tqdm(total=steps * len(parts), desc="mask", disable=not progress, leave=False)
    with frozen(classifier), torch.random.fork_rng(), bar:
        torch.manual_seed(stream(seed, "infill").initial_seed())  # an infill may draw
        for part, numbers in enumerate(parts):
            wanted, of = asked[part * batch_size :][: len(numbers)], chosen[numbers]
            show = _shown(images[numbers].contiguous(memory_format=classifier.memory_format), classifier, filler)
            values = torch.ones(len(of), 1, *cells, device=images.device, dtype=single(images).dtype, requires_grad=True)
            sgd = torch.optim.SGD([values], lr=lr, momentum=0.9, dampening=0.9)
            for step in range(steps):
                masks = convolve(values)
                loss = weight * growth ** (step / steps) * area_loss(masks, wanted)
                for sign, seen in _sides(variant, masks):
                    views = show(seen)
                    answers = classifier(views.flip(3) if flip and step % 2 else views)
                    loss = loss - sign * _reward(classifier, answers, of, reward)
                (values.grad,) = torch.autograd.grad(loss.sum(), values)
                sgd.step()
                with torch.no_grad():
                    values.clamp_(0, 1)
                bar.update()
            with torch.no_grad():
                masks = convolve(values)
                answered = [classifier.log_probability(classifier(show(each)), of).exp() for each in (masks, 1 - masks)]
            found.append((masks[:, 0], *answered))
    masks, kept, left = (torch.cat(each).unflatten(0, (len(images), len(areas))) for each in zip(*found, strict=True))
    if not masks.isfinite().all():
        raise Diverged("a mask stopped being finite; look for NaN in the classifier's weights, or lower lr")
    return Extremal(masks, areas, chosen, classifier.log_probability(logits, chosen).exp(), kept, left)


def _shown(images: Tensor, classifier: Classifier, infill: Infill | None) -> Callable[[Tensor], Tensor]:
    """Masks (N, 1, H, W) -> the images (N, channels, H, W) seen through them; what an infill draws is drawn here."""
    with torch.no_grad():
        if infill is None:
            pyramid = blur_pyramid(images)
            return lambda masks: faded(pyramid, masks)
        filling = infill(images, classifier.mean)
        return lambda masks: masked_in(images, masks, fill(filling, 1 - masks))


def _sides(variant: str, masks: Tensor) -> list[tuple[int, Tensor]]:
    """What is shown of the image, and whether it should speak for the class, 1, or not, -1."""
    show, hide = (1, masks), (-1, 1 - masks)
    return {"preserve": [show], "delete": [hide], "dual": [show, hide]}[variant]


def _reward(classifier: Classifier, logits: Tensor, targets: Tensor, kind: str) -> Tensor:
    """(N,): the logit of each target, or how far it lies above the others."""
    answers, labels = classifier.decision(logits, targets)
    own = answers.gather(1, labels[:, None])[:, 0]
    if kind == "logit":
        return own
    return own - answers.scatter(1, labels[:, None], -math.inf).amax(dim=1)


def _check(**values: Any) -> None:
    rules = {"variant": one_of(VARIANTS), "reward": one_of(REWARDS), "choose": one_of(CHOICES)}
    rules |= {"share": between(0, 1, open_below=True), "smooth": above(0, included=True)}
    rules |= dict.fromkeys(("grid", "steps", "batch_size"), whole(1))
    rules |= dict.fromkeys(("sigma", "lr", "weight", "growth"), above(0))
    for name, value in values.items():
        if name in rules:
            check_value(name, value, rules[name])


def _areas(area: float | Sequence[float]) -> tuple[float, ...]:
    """The areas asked for, smallest first, once they are what areas can be."""
    several = list(area) if isinstance(area, Sequence) else [area]
    if not several:
        raise ValueError("area=() asks for no mask; give at least one share of the image")
    for each in several:
        check_value("area", each, between(0, 1, open_below=True))
    return tuple(sorted(float(each) for each in several))


@with_options_of(extremal_masks)
def extremal_perturbation(
    *,
    area: float | Sequence[float] = AREAS,
    choose: str = "sum",
    share: float = 0.9,
    smooth: float = 0.0,
    variant: str = "preserve",
    seed: int = 0,
    progress: bool = False,
    **options: Any,
) -> Method:
    """`extremal_masks` as a saliency method: (images, targets, classifier) -> maps (B, 1, H, W) in [0, 1].

    With the defaults an image costs 3,200 gradients; `steps=100` costs an eighth, and a single `area` a quarter.

    Args:
        area: one share of the image or several.
        choose: one of `CHOICES`; with the first the authors play the pointing game. Of a single area both are its mask.
        share: of the clean probability that counts as kept, in (0, 1]; see `Extremal.smallest`. Ours.
        smooth: standard deviation of a Gaussian over the map, as a share of the shorter side; the authors' pointing game has
            0.09, for a mask has no single highest point.
        variant, seed, progress, **options: as in `extremal_masks`.

    Raises ValueError for an option that it does not have, or a value that makes no sense.
    """
    check_options("extremal_masks", options, inspect.signature(extremal_perturbation).parameters)  # it names them all
    _check(choose=choose, share=share, smooth=smooth, variant=variant, **options)
    _areas(area)
    as_infill("mean" if options.get("infill", "pyramid") == "pyramid" else options["infill"])

    def method(images: Tensor, targets: Targets, classifier: Classifier) -> Tensor:
        found = extremal_masks(classifier, images, targets, area=area, variant=variant, seed=seed, progress=progress, **options)
        if choose == "sum":
            maps = found.masks.mean(dim=1, keepdim=True)
        else:
            best = found.smallest(share, variant)
            maps = found.masks[torch.arange(len(best), device=best.device), best][:, None]
        return fill(blur(224 * smooth)(maps, maps), maps) if smooth > 0 else maps

    return method


def _gradients(options: Mapping[str, Any], size: tuple[int, int]) -> int:
    return len(_areas(options["area"])) * (2 if options["variant"] == "dual" else 1) * int(options["steps"])


ENTRY = MethodEntry(
    "extremal",
    "the best smooth mask of each of a few areas",
    extremal_perturbation,
    kind="per-image mask",
    forward=lambda options, size: _gradients(options, size) + 2 * len(_areas(options["area"])) + 1,
    backward=_gradients,
    quick={"area": (0.1, 0.3), "steps": 4}, moderate={"area": 0.1, "steps": 100, "lr": 0.08},
)
