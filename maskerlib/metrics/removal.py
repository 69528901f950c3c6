"""Insertion, deletion and the symmetric relevance gain: what a classifier says while an image loses pixels in a map's order.

Both curves are one function, p(k) = p(y | the image without its first k / K of the pixels), k = 0 ... K:

    deletion   hides the most important pixels first: the sooner p falls, the better
    insertion  shows the most important ones first, which is to hide the least important first, read backwards

What is reported is the area under p by the trapezoid, (p(0) / 2 + p(1) + ... + p(K - 1) + p(K) / 2) / K (RISE: Petsiuk, Das
& Saenko, 2018). Where both have the same fill, insertion - deletion is the symmetric relevance gain (Bluecher, Vielhaben &
Strodthoff, 2024, arXiv 2401.06654): what a fill does to both curves alike drops out.

These are columns of `evaluate` on request, `evaluate(..., metrics=("insertion", "deletion", "SRG"))`, as each costs K + 1
passes an image and method. They ask the evaluation classifier about the class that was explained, like SM. Three things decide
their values as much as the map does, and each is said in `table.attrs["requested"]`:

1. the fill, any `maskerlib.masking.infills.Infill`; hard edges and grey patches are no photographs, whatever the map says.
2. K. The tables of RISE have K = 28 (1,792 of 50,176 pixels at once), its pictures K = 224. The default is 28: 29 passes.
3. ties. A map of ones and zeros leaves the order open: within a tie it is random, by the seed and the image's checksum, so that
   an image has one order in every batch and run, and a constant map is worth what a random one is.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from maskerlib.classifiers.classifier import Classifier
from maskerlib.masking.infills import Infill, as_infill, fill
from maskerlib.metrics.entry import Metric
from maskerlib.metrics.evidence import Evidence
from maskerlib.running.checks import SEED, check_value, one_of, whole
from maskerlib.running.precision import autocast, single
from maskerlib.running.seeds import stream

__all__ = ["STEPS", "area_under", "deletion", "insertion", "pixel_ranks", "removal_curve", "symmetric_relevance_gain"]

STEPS = 28
"""K of the tables of Petsiuk et al. (2018): in how many steps an image is hidden."""

_RISE = "Petsiuk, Das & Saenko (2018), RISE, causal metrics"


def pixel_ranks(maps: Tensor, images: Tensor, seed: int = 0) -> Tensor:
    """The place of each pixel in the order of its map, 0 = the highest value: (B, 1, H, W) int64, each place once.

    Equal values are in random order, which depends on the seed and the image alone.

    maps: (B, 1, H, W).  images: (B, channels, H, W), which the maps are of.

    >>> pixel_ranks(torch.tensor([[[[0.1, 0.9], [0.5, 0.2]]]]), torch.zeros(1, 3, 2, 2)).tolist()
    [[[[3, 0], [1, 2]]]]
    """
    values = maps.flatten(1)
    names = [zlib.crc32(image.contiguous().numpy()) for image in images.detach().float().cpu()]
    shuffles = [torch.randperm(values.shape[1], generator=stream(seed, "ties", name)) for name in names]
    shuffled = torch.stack(shuffles).to(values.device)
    order = shuffled.gather(1, values.gather(1, shuffled).argsort(dim=1, descending=True, stable=True))
    places = torch.arange(values.shape[1], device=values.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places).view(maps.shape)


def removal_curve(
    images: Tensor,
    ranks: Tensor,
    targets: Tensor,
    classifier: Classifier,
    *,
    infill: Infill | str = "mean",
    steps: int = STEPS,
    first: str = "most",
    seed: int = 0,
    precision: str = "auto",
) -> Tensor:
    """p(k): the probability of each target while its image is hidden step by step, (B, steps + 1), from all to nothing.

    One pass a point; memory is that of one pass and does not grow with `steps`. The classifier is run in the mode that it is in
    (`evaluate` sets eval mode), without gradients.

    Args:
        images: (B, channels, H, W) in [0, 1].  ranks: (B, 1, H, W) int64, of `pixel_ranks`.  targets: (B,) int64.
        infill: a name in `maskerlib.masking.infills.INFILLS` or an `Infill`. It is asked once for the batch; what it draws, it
            draws for the batch, by the seed.
        steps: K. After k steps the first k H W / K pixels are hidden, rounded down.
        first: "most" hides the most important pixels first (deletion), "least" the least important (insertion backwards).
        precision: in which the classifier runs, see `maskerlib.running.precision.autocast`.

    Raises ValueError for another infill or `first`, or for steps below 1 or above the number of pixels.
    """
    pixels = ranks[0].numel()
    check_value("steps", steps, whole(1, pixels))
    check_value("first", first, one_of(("most", "least")))
    order = ranks if first == "most" else pixels - 1 - ranks
    images = images.contiguous(memory_format=classifier.memory_format)
    points = []
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(stream(seed, "infill").initial_seed())
        filling = as_infill(infill)(images, classifier.mean)
        for step in range(steps + 1):
            hole = order < step * pixels // steps
            view = torch.where(hole, fill(filling, hole.to(images)), images)
            with autocast(precision, view.device):
                logits = classifier(view)
            points.append(classifier.log_probability(single(logits), targets).exp())
    return torch.stack(points, dim=1)


def area_under(curve: Tensor) -> Tensor:
    """The area under each curve (B, K + 1), whose points are equally far apart, on [0, 1] by the trapezoid: (B,).

    >>> area_under(torch.tensor([[1.0, 0.5, 0.0], [1.0, 1.0, 1.0]]))
    tensor([0.5000, 1.0000])
    """
    return (curve.sum(dim=1) - (curve[:, 0] + curve[:, -1]) / 2) / (curve.shape[1] - 1)


def deletion(infill: Infill | str = "mean", *, steps: int = STEPS, seed: int = 0, name: str = "deletion") -> Metric:
    """Deletion, lower is better, in [0, 1]: the area under p while the most important pixels are hidden first.

    Args:
        infill: what stands where pixels are hidden, a name in `maskerlib.masking.infills.INFILLS` or an `Infill`, such as
            `maskerlib.masking.oracle.OracleInfill`. The published one is the mean colour.
        steps: K; it costs K + 1 passes an image.
        seed: of the order within ties, and of what an infill draws.
        name: of the column; give one where a table has deletion under several fills.

    Raises ValueError for an unknown infill or steps below 1; when used, for more steps than an image has pixels.
    """
    hiding = _Hiding(infill, steps, seed)
    says = "mean probability of the class while its most important pixels are hidden first"
    return hiding.metric(name, "lower is better", lambda seen: hiding.area(seen, "most"), says, _RISE)


def insertion(infill: Infill | str = "blur", *, steps: int = STEPS, seed: int = 0, name: str = "insertion") -> Metric:
    """Insertion, higher is better, in [0, 1]: the area under p while the most important pixels are shown first.

    The published start is a blur of 11 pixels, sigma 5, at 224, from which the scene classifier still tells the class of every
    fifth scene. The default is the library's blur of sigma 20 (Fong & Vedaldi, 2017), from which it tells no more than by
    chance; `maskerlib.masking.infills.blur(5)` is near the published one. Arguments and errors are those of `deletion`.
    """
    hiding = _Hiding(infill, steps, seed)
    says = "mean probability of the class while its most important pixels are shown first"
    return hiding.metric(name, "higher is better", lambda seen: hiding.area(seen, "least"), says, _RISE)


def symmetric_relevance_gain(
    infill: Infill | str = "mean", *, steps: int = STEPS, seed: int = 0, name: str = "SRG"
) -> Metric:
    """SRG, higher is better, in [-1, 1]: the area of hiding the least important pixels first less that of the most important.

    It is insertion less deletion under one fill. A random order has 0 in the mean, a map turned upside down the negative.
    Arguments and errors are those of `deletion`. It costs 2 (K + 1) passes an image; none where insertion and deletion with the
    same fill, steps and seed are in the same table.
    """
    hiding = _Hiding(infill, steps, seed)
    return hiding.metric(
        name,
        "higher is better",
        lambda seen: hiding.area(seen, "least") - hiding.area(seen, "most"),
        "insertion less deletion under one fill",
        "Bluecher, Vielhaben & Strodthoff (2024), arXiv 2401.06654",
        curves=2,
    )


@dataclass(frozen=True)
class _Hiding:
    """How pixels are hidden, and in how many steps."""

    infill: Infill | str
    steps: int
    seed: int

    def __post_init__(self) -> None:
        check_value("steps", self.steps, whole(1))
        check_value("seed", self.seed, SEED)
        as_infill(self.infill)

    def area(self, seen: Evidence, first: str) -> Tensor:
        """The area under one curve of each image, (B,); metrics that look at the same curve share it."""
        key = self.infill if isinstance(self.infill, str) else id(self.infill)
        return seen.once(("area", key, self.steps, self.seed, first), lambda: self._area(seen, first))

    def _area(self, seen: Evidence, first: str) -> Tensor:
        ranks = seen.once(("ranks", self.seed), lambda: pixel_ranks(seen.maps, seen.images, self.seed))
        curve = removal_curve(
            seen.images,
            ranks,
            seen.classes.clamp(min=0),
            seen.classifier,
            infill=self.infill,
            steps=self.steps,
            first=first,
            seed=self.seed,
            precision=seen.precision,
        )
        return area_under(curve)

    def metric(
        self,
        name: str,
        direction: str,
        function: Callable[[Evidence], Tensor],
        says: str,
        source: str,
        *,
        curves: int = 1,
    ) -> Metric:
        rests_on = {"infill": _called(self.infill), "steps": self.steps, "seed": self.seed}
        rests_on["passes"] = curves * (self.steps + 1)
        return Metric(name, direction, function, says, source, needs=("class",), rests_on=rests_on)


def _called(infill: Infill | str) -> str:
    """The name of an infill, or of the function or class that made it."""
    name: str = infill if isinstance(infill, str) else getattr(infill, "__qualname__", type(infill).__name__)
    return name.split(".<locals>")[0]
