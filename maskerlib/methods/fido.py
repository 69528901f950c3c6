"""FIDO (Chang, Creager, Goldenberg and Duvenaud, 2019): a coin for each pixel, and the rates at which they should fall.

    SSR, smallest sufficient region:   minimise over the rates q   -E[ log-odds of y in (z x + (1 - z) fill) ] + lambda mean(q)
    SDR, smallest destroying region:   minimise over the rates q    E[ log-odds of y in ((1 - z) x + z fill) ] + lambda mean(q)

z ~ Bernoulli(q) at every pixel, 1 where it is kept (SSR) or destroyed (SDR); log-odds = log p_y - log(1 - p_y). The expectation
has a gradient once each coin is a binary concrete variable, sigmoid((logit q + logistic noise) / temperature). What fills a hole
is asked with z rounded to 0 and 1, so that an inpainter sees a hole and no mist, and has no gradient.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from maskerlib.classifiers.classifier import Classifier, frozen
from maskerlib.classifiers.doors import Method, Targets, as_targets, check_images
from maskerlib.classifiers.networks import with_gradients
from maskerlib.masking.infills import Filling, Infill, as_infill, fill
from maskerlib.masking.masks import mask_from_logits, masked_in, masked_out
from maskerlib.masking.terms import log_odds
from maskerlib.methods.entry import MethodEntry
from maskerlib.running.checks import above, check_value, one_of, whole
from maskerlib.running.precision import single
from maskerlib.running.seeds import stream
from maskerlib.training.loop import Diverged

__all__ = ["ENTRY", "GAMES", "concrete", "drawn_loss", "fido", "passes"]

GAMES = ("ssr", "sdr")
"""Which region is looked for: the smallest that is sufficient, or the smallest whose loss destroys the answer."""


def concrete(logits: Tensor, noise: Tensor, temperature: float = 0.1) -> Tensor:
    """A soft coin: sigmoid((logits + noise) / temperature), in [0, 1], for logistic noise.

    Above 1/2 just as often as a coin of the rate sigmoid(logits) falls on 1; the lower the temperature, the nearer to 0 or 1.
    """
    return ((logits + noise) / temperature).sigmoid()


def drawn_loss(
    game: str, classifier: Classifier, images: Tensor, targets: Tensor, draws: Tensor, filling: Filling
) -> Tensor:
    """The log-odds of each target in what its draws leave of the image, minus them for "ssr": (N,), lower is better.

    images: (N, channels, H, W).  targets: (N,) int64.  draws: z, (N, 1, H, W) in [0, 1].  filling: what stands in the holes
    (`maskerlib.masking.infills`); where it depends on the hole, it is asked with the rounded one.
    """
    rounded = draws.round()
    if game == "ssr":
        shown = masked_in(images, draws, fill(filling, 1 - rounded))
    else:
        shown = masked_out(images, draws, fill(filling, rounded))
    odds = log_odds(*classifier.decision(classifier(shown), targets))
    return -odds if game == "ssr" else odds


def fido(
    *,
    game: str = "ssr",
    infill: Infill | str = "local_mean",
    grid: int = 56,
    steps: int = 300,
    samples: int = 8,
    lr: float = 0.05,
    size: float = 50.0,
    warmup: float = 0.1,
    temperature: float = 0.1,
    seed: int = 0,
    batch_size: int = 64,
    progress: bool = False,
) -> Method:
    """FIDO as a saliency method: (images, targets, classifier) -> the rates (B, 1, H, W) in [0, 1].

    High where a pixel belongs to the region that is looked for; 1/2 is undecided. The defaults are the authors', but for
    `infill`, of which they have several and prefer a generative network. With them an image costs 2,400 gradients; `samples=2`
    costs a quarter.

    Args:
        game: one of `GAMES`.
        infill: what stands where a pixel is hidden: a name in `maskerlib.masking.infills.INFILLS` or an `Infill`. What it draws
            is drawn once for each sample of a step.
        grid: cells along the shorter side, the other in proportion: a number each, between which the logits are interpolated
            (the authors interpolate the rates, which comes to nearly the same).
        steps: updates by Adam, whose learning rate falls from `lr` to 0 along a line.
        samples: draws an image and step.
        size: lambda, on the mean rate. The authors add up 0.001 times the rates of 224 x 224 pixels, which is 50 times the mean.
        warmup: share of the steps, at the start, over which `size` rises from 0 along a line.
        temperature: of the concrete variables.
        seed: of the coins, which are the same for every image, and of what an infill draws.
        batch_size: images in one pass at most, which bounds the memory whatever the number of images and samples. It changes
            no map but by rounding, save under an infill that draws for the whole batch.
        progress: show a bar.

    Raises ValueError for options that make no sense; the method `Diverged` when a rate stops being finite.
    """
    check_value("game", game, one_of(GAMES))
    for name, number in {"grid": grid, "steps": steps, "samples": samples, "batch_size": batch_size}.items():
        check_value(name, number, whole(1))
    for name, value in {"lr": lr, "temperature": temperature}.items():
        check_value(name, value, above(0))
    for name, value in {"size": size, "warmup": warmup}.items():
        check_value(name, value, above(0, included=True))
    infill = as_infill(infill)

    at_once = max(count for count in range(1, min(samples, batch_size) + 1) if samples % count == 0)

    @with_gradients
    def method(images: Tensor, targets: Targets, classifier: Classifier) -> Tensor:
        check_images(images, classifier)
        with frozen(classifier), torch.no_grad():
            answers = torch.cat([classifier(part) for part in torch.split(images, batch_size)])
        chosen = as_targets(targets, answers, classifier)
        count = max(1, batch_size // at_once)
        parts = list(zip(torch.split(images, count), torch.split(chosen, count), strict=True))
        bar = tqdm(total=steps * len(parts), desc="rates", disable=not progress, leave=False)
        with frozen(classifier), torch.random.fork_rng(), bar:
            torch.manual_seed(stream(seed, "infill").initial_seed())  # an infill may draw
            return torch.cat([rates(*part, classifier, bar.update) for part in parts])

    def rates(images: Tensor, targets: Tensor, classifier: Classifier, done: Callable[[], Any]) -> Tensor:
        """The rates of some of the images, each of which is in a pass `at_once` times."""
        height, width = images.shape[-2:]
        cells = (round(grid * height / min(height, width)), round(grid * width / min(height, width)))
        several = images.repeat(at_once, 1, 1, 1).contiguous(memory_format=classifier.memory_format)
        of = targets.repeat(at_once)
        with torch.no_grad():
            filling = infill(several, classifier.mean)
        logits = torch.zeros(len(images), 1, *cells, device=images.device, dtype=single(images).dtype, requires_grad=True)
        adam = torch.optim.Adam([logits], lr=lr)
        for step in range(steps):
            rising = min(1.0, (step + 1) / (warmup * steps)) if warmup > 0 else 1.0
            gradient = torch.autograd.grad(rising * size * logits.sigmoid().mean(dim=(1, 2, 3)).sum(), logits)[0]
            for start in range(0, samples, at_once):
                draws = [_logistic(height, width, seed, step, number) for number in range(start, start + at_once)]
                wide = F.interpolate(logits, size=(height, width), mode="bilinear", align_corners=False)
                coins = concrete(wide, torch.stack(draws).to(logits), temperature).flatten(0, 1)
                loss = drawn_loss(game, classifier, several, of, coins, filling)
                gradient = gradient + torch.autograd.grad(loss.sum() / samples, logits)[0]
            logits.grad = gradient
            adam.param_groups[0]["lr"] = lr * (1 - step / steps)
            adam.step()
            done()
        with torch.no_grad():
            found = mask_from_logits(logits, (height, width), upsampling="bilinear")
        if not found.isfinite().all():
            raise Diverged("a rate stopped being finite; look for NaN in the classifier's weights, or lower lr")
        return found

    return method


def _logistic(height: int, width: int, *names: int) -> Tensor:
    """Logistic noise (1, 1, H, W): the logit of uniform draws that depend on `names` alone."""
    seed, *rest = names
    return torch.rand(1, 1, height, width, generator=stream(seed, "fido", *rest)).logit(eps=1e-6)


def passes(looks: int) -> Callable[[Mapping[str, Any], tuple[int, int]], int]:
    """The passes of an image, by the options; `looks` is 1 where those without a gradient count."""
    return lambda options, size: int(options["steps"] * options["samples"]) + looks


ENTRY = MethodEntry(
    "fido",
    "the smallest region that is sufficient, by random holes",
    fido,
    kind="per-image mask",
    stochastic=True,
    forward=passes(1),
    backward=passes(0),
    quick={"steps": 4, "samples": 2},
    moderate={"grid": 28, "steps": 40, "samples": 2, "lr": 0.3},
)
