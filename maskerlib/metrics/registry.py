"""The columns of `evaluate`: which there are, what to wish for, and whence they come.

A metric of single images is one function with `metric(...)` above it. `maskerlib.metrics.evaluation.evaluate` then computes it,
the tables of `maskerlib.experiments` hold it, and their figures say its direction. In a notebook:

    from maskerlib.metrics.registry import metric

    @metric(
        "pointing",
        "higher is better",
        says="1 where the highest value lies on the object",
        source="Zhang et al. (2018), pointing game",
        needs=("mask",),
    )
    def pointing(seen):
        peak = seen.maps.flatten(1).argmax(dim=1, keepdim=True)
        return seen.masks.flatten(1).gather(1, peak)[:, 0]

One that the runs of `maskerlib.experiments` should measure, too, has its place below, among those of the library.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maskerlib.metrics.evidence import NEEDS, Evidence
from maskerlib.metrics.per_image import localisation_error, official_metric, saliency_metric, top1
from maskerlib.running.checks import check_value, one_of
from maskerlib.running.precision import autocast

__all__ = ["DIRECTIONS", "METRICS", "POOLED", "Metric", "better", "columns", "metric"]

Function = Callable[[Evidence], Tensor]

DIRECTIONS = ("lower is better", "higher is better")

POOLED: Mapping[str, str] = dict.fromkeys(("PxAP", "MaxBoxAcc", "MaxBoxAccV2"), "higher is better")
"""The columns that pool all images before they give a number (`maskerlib.metrics.curves`), and their direction."""


@dataclass(frozen=True)
class Metric:
    """A metric that gives one number an image; what is reported is the mean over images.

    name: of its column.
    direction: one of `DIRECTIONS` where it judges maps, "" where it only describes what there is.
    function: `Evidence` of B images -> (B,). What it returns for an image that lacks a need is not looked at.
    says: what it is, in a line; with the unit where it describes.
    source: paper, and section or equation; what describes may have none.
    needs: what an image must have, of `maskerlib.metrics.evidence.NEEDS`; other images are left out of the mean. "mask" is met
        by a source whose images all have one.
    by_class: do the tables of `maskerlib.experiments` know it class by class as well? Of those that judge.
    spread: name and text of a further column, the standard deviation between images.

    Raises ValueError for an unknown direction or need, and where a line that says what it is, or the source, is missing.
    """

    name: str
    direction: str
    function: Function
    says: str
    source: str = ""
    needs: tuple[str, ...] = ()
    by_class: bool = True
    spread: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        if self.direction:
            check_value("direction", self.direction, one_of(DIRECTIONS))
        for need in self.needs:
            check_value("need", need, one_of(tuple(NEEDS)))
        if not self.says or (self.direction and not self.source):
            raise ValueError(f"metric {self.name!r}: {'source' if self.says else 'says'} is empty; fill it in")

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of its columns."""
        return (self.name, self.spread[0]) if self.spread else (self.name,)

    def able(self, seen: Evidence) -> Tensor:
        """Which images have all that it needs: (B,) bool, on the CPU."""
        able = torch.ones(len(seen), dtype=torch.bool)
        for need in self.needs:
            able &= seen.has[need]
        return able

    def __call__(self, seen: Evidence) -> Tensor:
        """The value of each image: (B,) float64, on the CPU; NaN for one that lacks a need.

        Raises ValueError where the function returns anything but a number for each image.
        """
        able = self.able(seen)
        if not able.any():
            return torch.full((len(seen),), torch.nan, dtype=torch.float64)
        values = self.function(seen)
        if not isinstance(values, Tensor) or values.shape != (len(seen),):
            found = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(f"metric {self.name!r} returned {found}, expected ({len(seen)},), a number for each image")
        return values.detach().cpu().double().where(able, torch.nan)


METRICS: dict[str, Metric] = {}
"""{name: metric} of all that give a number an image, in the order in which they were made; see `columns`."""


def columns() -> dict[str, str]:
    """{column: what to wish for, or what it says}: what judges single images, what pools them, and what describes."""
    judging = {each.name: each.direction for each in METRICS.values() if each.direction}
    describing: dict[str, str] = {}
    for each in METRICS.values():
        describing |= ({} if each.direction else {each.name: each.says}) | dict([each.spread] if each.spread else [])
    return judging | dict(POOLED) | describing


def better(column: str) -> str:
    """Which values of a column are better: "lower", "higher", or "" where it judges nothing or is unknown.

    >>> better("LE"), better("PxAP"), better("mean")
    ('lower', 'higher', '')
    """
    direction = columns().get(column)
    return direction.split()[0] if direction in DIRECTIONS else ""


def metric(name: str, direction: str = "", **about: Any) -> Callable[[Function], Function]:
    """Make a function a metric, see the module. A cell that is run again replaces its own.

    name, direction, about: of `Metric`.

    Raises ValueError as `Metric` does, and for the name of another column.
    """

    def register(function: Function) -> Function:
        new = Metric(name, direction, function, **about)
        others = [each for each in METRICS.values() if each.name != name or _origin(each.function) != _origin(function)]
        for column in new.columns:
            if column in {"name", *POOLED, *(column for each in others for column in each.columns)}:
                raise ValueError(f"metric {name!r}: there is a column {column!r} already; choose another name")
        METRICS[name] = new
        return function

    return register


def _origin(function: Function) -> tuple[object, object]:
    return getattr(function, "__module__", None), getattr(function, "__qualname__", function)


_STUDY = "Phang et al. (2020), evaluation"


@metric(
    "OM",
    "lower is better",
    says="1 where LE is 1 or the top-1 class is wrong",
    source=f"Russakovsky et al. (2015), single-object localization; {_STUDY}",
    needs=("label", "box"),
)
def _om(seen: Evidence) -> Tensor:
    return official_metric(seen.predicted, seen.boxes, seen.question, seen.answers, size=seen.size)


@metric(
    "LE", "lower is better", says="1 where no box has IoU > 0.5 with the predicted one", source=_STUDY, needs=("box",)
)
def _le(seen: Evidence) -> Tensor:
    return localisation_error(seen.predicted, seen.boxes, size=seen.size)


@metric(
    "F1", "higher is better", says="soft F1 of the mask against the box that fits best", source=_STUDY, needs=("box",)
)
def _f1(seen: Evidence) -> Tensor:
    return seen.f1[0]


@metric("F1a", "higher is better", says="F1, the mean over boxes", source=_STUDY, needs=("box",), by_class=False)
def _f1a(seen: Evidence) -> Tensor:
    return seen.f1[1]


@metric(
    "SM",
    "lower is better",
    says="log of the predicted box's area - log p(y | what it shows), in nats",
    source=f"Dabkowski & Gal (2017), saliency metric; {_STUDY}",
    needs=("class",),
)
def _sm(seen: Evidence) -> Tensor:
    with autocast(seen.precision, seen.images.device):
        return saliency_metric(
            seen.images, seen.predicted, seen.classes.clamp(min=0), seen.classifier, resize=seen.resize
        )


@metric(
    "mean",
    says="share of the image, mean over images",
    spread=("std", "standard deviation of that share between images"),
)
def _mean(seen: Evidence) -> Tensor:
    return seen.statistics["mean"]


@metric("binarised", says="share of the image above the mask's own mean")
def _binarised(seen: Evidence) -> Tensor:
    return seen.statistics["binarised"]


@metric("TV", says="mean squared differences of neighbours")
def _tv(seen: Evidence) -> Tensor:
    return seen.statistics["TV"]


@metric("entropy", says="bits a pixel, 0 is decided")
def _entropy(seen: Evidence) -> Tensor:
    return seen.statistics["entropy"]


@metric("top1", says="accuracy of the explained classifier on clean images", needs=("label",))
def _top1(seen: Evidence) -> Tensor:
    return top1(seen.question, seen.answers)
