"""The columns of `evaluate`: which there are, what to wish for, and whence they come.

A metric of single images is one function with `metric(...)` above it. `maskerlib.metrics.evaluation.evaluate` then computes it,
the tables of `maskerlib.experiments` hold it, and their figures say its direction. In a notebook:

    from maskerlib.metrics.registry import metric

    @metric(
        "energy",
        "higher is better",
        says="share of the map's sum that lies on the object",
        source="Wang et al. (2020), energy-based pointing game",
        needs=("mask",),
    )
    def energy(seen):
        return (seen.maps[:, 0] * seen.masks).sum(dim=(1, 2)) / seen.maps.sum(dim=(1, 2, 3))

One that the runs of `maskerlib.experiments` should measure, too, has its place below, among those of the library.

What costs many passes is computed when it is asked for, by name or as a `Metric` with options of its own:

    evaluate(methods, scenes, classifier, metrics=("pointing", "SRG", deletion(OracleInfill(scenes), name="deletion, oracle")))
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from maskerlib.metrics.entry import DIRECTIONS, Function, Metric
from maskerlib.metrics.evidence import Evidence
from maskerlib.metrics.per_image import localisation_error, official_metric, saliency_metric, top1
from maskerlib.metrics.pointing import pointing
from maskerlib.metrics.removal import deletion, insertion, symmetric_relevance_gain
from maskerlib.running.precision import autocast

__all__ = ["METRICS", "ON_REQUEST", "POOLED", "better", "columns", "metric", "requested"]

POOLED: Mapping[str, str] = dict.fromkeys(("PxAP", "MaxBoxAcc", "MaxBoxAccV2"), "higher is better")
"""The columns that pool all images before they give a number (`maskerlib.metrics.curves`), and their direction."""

METRICS: dict[str, Metric] = {}
"""{name: metric} of all that give a number an image, in the order in which they were made; see `columns`."""

ON_REQUEST: Mapping[str, Metric] = {
    each.name: each for each in (insertion(), deletion(), symmetric_relevance_gain(), pointing())
}
"""{name: metric} of those that `evaluate` computes when it is asked to, with the options that they have unless told."""


def requested(metrics: str | Metric | Sequence[str | Metric]) -> dict[str, Metric]:
    """{name: metric} of what `evaluate` is asked for: names of `ON_REQUEST`, and metrics of one's own.

    Raises ValueError for an unknown name, and for a column that is there already.
    """
    found: dict[str, Metric] = {}
    for each in (metrics,) if isinstance(metrics, str | Metric) else metrics:
        if isinstance(each, str) and each not in ON_REQUEST:
            raise ValueError(f"metric {each!r} is unknown; those on request are {', '.join(ON_REQUEST)}, or give a Metric")
        new = ON_REQUEST[each] if isinstance(each, str) else each
        _check_columns(new, [*METRICS.values(), *found.values()])
        found[new.name] = new
    return found


def columns(asked: Mapping[str, Metric] | None = None) -> dict[str, str]:
    """{column: what to wish for, or what it says}: what judges single images, what pools them, and what describes.

    asked: {name: metric} of those on request that are columns as well, after the others of their kind.
    """
    metrics = [*METRICS.values(), *(asked or {}).values()]
    judging = {each.name: each.direction for each in metrics if each.direction}
    describing: dict[str, str] = {}
    for each in metrics:
        describing |= ({} if each.direction else {each.name: each.says}) | dict([each.spread] if each.spread else [])
    return judging | dict(POOLED) | describing


def better(column: str) -> str:
    """Which values of a column are better: "lower", "higher", or "" where it judges nothing or is unknown.

    What stands behind a comma says how a metric was asked, and changes no direction.

    >>> better("LE"), better("insertion"), better("deletion, blur"), better("mean")
    ('lower', 'higher', 'lower', '')
    """
    known = columns({**ON_REQUEST, **METRICS})
    direction = known.get(column, known.get(column.partition(", ")[0]))
    return direction.split()[0] if direction in DIRECTIONS else ""


def metric(name: str, direction: str = "", **about: Any) -> Callable[[Function], Function]:
    """Make a function a metric, see the module. A cell that is run again replaces its own.

    name, direction, about: of `Metric`.

    Raises ValueError as `Metric` does, and for the name of another column.
    """

    def register(function: Function) -> Function:
        new = Metric(name, direction, function, **about)
        others = [each for each in METRICS.values() if each.name != name or _origin(each.function) != _origin(function)]
        _check_columns(new, others)
        METRICS[name] = new
        return function

    return register


def _check_columns(new: Metric, others: Sequence[Metric]) -> None:
    for column in new.columns:
        if column in {"name", *POOLED, *(column for each in others for column in each.columns)}:
            raise ValueError(f"metric {new.name!r}: there is a column {column!r} already; choose another name")


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
