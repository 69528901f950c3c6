"""Prediction difference analysis (Zintgraf et al., 2017): what a classifier says when it does not know a window of the image.

    p(c | x without w) = E p(c | x with x_w drawn anew)
    WE_w = log2 odds p(c | x) - log2 odds p(c | x without w),    odds p = p / (1 - p)

The weight of evidence of a window w, in bits, is above 0 where what stands there speaks for the class, and below where it
speaks against it. A window that is drawn anew is not hidden: what may as well stand there is averaged over
(`maskerlib.methods.patch_samplers`). Each pixel has the mean of the windows that cover it.
"""

import math

import torch
from torch import Tensor
from tqdm.auto import tqdm

from maskerlib.classifiers.classifier import Classifier, frozen
from maskerlib.data.samples import Source
from maskerlib.methods.attributions import AttributionMethod, admitted, image_streams
from maskerlib.methods.entry import MethodEntry
from maskerlib.methods.patch_samplers import ConditionalSampler, MarginalSampler, Sampler
from maskerlib.running.checks import LARGEST_BATCH, SEED, above, between, check_value, one_of, whole
from maskerlib.running.precision import single

__all__ = ["ENTRY", "prediction_difference", "weight_of_evidence"]

SAMPLERS = ("conditional", "marginal")

POOL = 100
"""Images of a source that patches are drawn from, at most."""


def weight_of_evidence(before: Tensor, after: Tensor, classes: int, *, n: int = 100_000) -> Tensor:
    """log2 odds before - log2 odds after, in bits, of probabilities in [0, 1] that got their Laplace correction first.

    p becomes (p n + 1) / (n + classes), so that 0 and 1 have finite odds; n is the size of an imagined training set.

    >>> weight_of_evidence(torch.tensor([0.8, 0.5]), torch.tensor([0.5, 1.0]), 2).round(decimals=2).tolist()
    [2.0, -16.61]
    """
    odds = [((p.double() * n + 1) / (n + classes)).logit() / math.log(2) for p in (before, after)]
    return odds[0] - odds[1]


def prediction_difference(
    samples: int = 10,
    window: float = 10 / 224,
    stride: float = 0.5,
    *,
    sampler: str | Sampler = "conditional",
    images: Tensor | Source | None = None,
    frame: float = 0.2,
    seed: int = 0,
    batch_size: int = 16,
    progress: bool = False,
    channels: str = "sum",
    clip: float = 0.99,
    sign: str = "positive",
) -> AttributionMethod:
    """Prediction difference analysis; the attribution is the weight of evidence, the same number in every channel.

    What patches look like is learnt from `images`. Without them it is learnt from the explained image alone, which is all that
    a method is given: patches that may hold the object again, so that less evidence is found than with other images. The
    authors take other images of the data set.

    A pass for each draw of each window: with the defaults some 19,000 an image whatever its size, five to ten minutes of
    EfficientNet-Lite0 on two cores. stride=1 takes a quarter of that. The authors slide the window pixel by pixel, which is
    stride=0.1 at 224 pixels: 462,000 passes.

    Args:
        samples: draws for each window.
        window: its side, as a share of the image's shorter side. The authors have 10 pixels of 224.
        stride: from one window to the next, as a share of the window. The last of a row stands at the edge.
        sampler: "conditional" on the frame, "marginal", or a `maskerlib.methods.patch_samplers.Sampler`, which has its own
            number of samples.
        images: (N, channels, H, W) in [0, 1] of the size of those explained; or a source of such, of which 100 are taken.
        frame: its width, as a share of the window. The authors have 2 pixels around 10.
        seed: of the draws. An image has one map in every batch and order.
        batch_size: images in one pass at most.
        progress: show a bar.
        channels, clip, sign: as in `maskerlib.methods.attributions.magnitude_map`; by default only what speaks for the class
            counts.

    Raises ValueError for an option that is none and, when called, for `images` of another size than those explained.
    """
    check_value("samples", samples, whole(1))
    check_value("window", window, between(0, 1, open_below=True))
    check_value("stride", stride, between(0, 1, open_below=True))
    check_value("frame", frame, above(0, included=True))
    check_value("seed", seed, SEED)
    check_value("batch_size", batch_size, whole(1, LARGEST_BATCH))
    if isinstance(sampler, str):
        check_value("sampler", sampler, one_of(SAMPLERS))

    def fitted(pool: Tensor, side: int, *, own: bool) -> Sampler:
        if callable(sampler):
            return sampler
        if sampler == "marginal":
            return MarginalSampler(pool, side, samples, elsewhere=own)
        return ConditionalSampler(pool, side, round(frame * side), samples, seed)

    @torch.no_grad()
    def attribute(given: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
        given = single(given)
        size = (given.shape[-2], given.shape[-1])
        side, places = _windows(size, window, stride)
        shared = None if images is None else fitted(_pool(images, given), side, own=False)
        classes = 2 if classifier.head == "sigmoid" else classifier.class_count()
        at_once = max(1, batch_size // samples)
        found = []
        bar = tqdm(total=len(given) * len(places), desc="windows", disable=not progress, leave=False)
        with frozen(classifier), bar:
            for image, target, draws in zip(given, targets, image_streams(given, seed, "windows", 0), strict=True):
                draw = shared or fitted(image[None], side, own=True)
                before = _probability(image[None], target, classifier)
                total, covers = torch.zeros(2, *size, dtype=torch.float64)
                for first in range(0, len(places), at_once):
                    group = places[first : first + at_once]
                    views = _drawn_anew(image, group, [draw(image, *place, draws) for place in group])
                    each = torch.cat([_probability(part, target, classifier) for part in views.split(batch_size)])
                    without = each.view(len(group), -1).mean(dim=1)
                    for (top, left), bits in zip(group, weight_of_evidence(before, without, classes), strict=True):
                        total[top : top + side, left : left + side] += bits
                        covers[top : top + side, left : left + side] += 1
                    bar.update(len(group))
                found.append((total / covers).to(image.dtype).to(image.device).expand_as(image))
        return torch.stack(found)

    return AttributionMethod(admitted(attribute), channels, clip, sign)


def _probability(views: Tensor, target: Tensor, classifier: Classifier) -> Tensor:
    """p of the class in each of the views: (B,), on the CPU."""
    logits = classifier(views.contiguous(memory_format=classifier.memory_format))
    return classifier.log_probability(logits, target.expand(len(views))).exp().cpu()


def _drawn_anew(image: Tensor, places: list[tuple[int, int]], draws: list[Tensor]) -> Tensor:
    """Copies of an image, one for each draw (S, channels, k, k) of each place, with the draw in the window there."""
    views = image.repeat(len(places), len(draws[0]), 1, 1, 1)
    side = draws[0].shape[-1]
    for copies, (top, left), drawn in zip(views, places, draws, strict=True):
        copies[..., top : top + side, left : left + side] = drawn
    return views.flatten(0, 1)


def _windows(size: tuple[int, int], window: float, stride: float) -> tuple[int, list[tuple[int, int]]]:
    """The side of the window in pixels, and the corners of all windows; the last of a row or column stands at the edge."""
    side = max(1, round(window * min(size)))
    step = max(1, round(stride * side))
    rows, columns = ([*range(0, length - side, step), length - side] for length in size)
    return side, [(top, left) for top in rows for left in columns]


def _pool(images: Tensor | Source, given: Tensor) -> Tensor:
    """Images that patches are learnt from; of a source `POOL` at most, evenly spaced."""
    if isinstance(images, Source):
        count = min(POOL, len(images))
        images = images.batch([number * len(images) // count for number in range(count)]).images
    if images.dim() != 4 or images.shape[1:] != given.shape[1:] or not len(images):
        expected = f"(N, {', '.join(map(str, given.shape[1:]))}) like those explained"
        raise ValueError(f"images of shape {tuple(images.shape)} to draw windows from, expected {expected}")
    return images


ENTRY = MethodEntry(
    "prediction-difference",
    "evidence lost when a window is drawn anew",
    prediction_difference,
    kind="perturbation",
    signed=True,
    stochastic=True,
    forward=lambda options, size: 2 + options["samples"] * len(_windows(size, options["window"], options["stride"])[1]),
    quick={"samples": 2, "window": 0.25, "stride": 1.0},
    moderate={"samples": 2, "window": 0.125, "stride": 1.0},
)
