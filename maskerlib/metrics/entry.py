"""What a metric says of itself to be a column of `evaluate`: its name, what to wish for, what an image must have for it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from maskerlib.metrics.evidence import NEEDS, Evidence
from maskerlib.running.checks import check_value, one_of

__all__ = ["DIRECTIONS", "Function", "Metric"]

Function = Callable[[Evidence], Tensor]
"""`Evidence` of B images -> (B,), a number for each."""

DIRECTIONS = ("lower is better", "higher is better")


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
    rests_on: {option: plain value}, what its numbers depend on besides the maps, such as a seed; and "passes", what it costs in
        forward passes an image, where that is dear.

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
    rests_on: Mapping[str, Any] = field(default_factory=dict)

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

        Raises ValueError where the function returns anything but a number for each image, or changes what it is shown.
        """
        able = self.able(seen)
        if not able.any():
            return torch.full((len(seen),), torch.nan, dtype=torch.float64)
        before = _versions(seen)
        values = self.function(seen)
        for name, version in _versions(seen).items():
            if version != before[name]:
                raise ValueError(f"metric {self.name!r} changes the {name} in place, which others look at; let it copy them")
        if not isinstance(values, Tensor) or values.shape != (len(seen),):
            found = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(f"metric {self.name!r} returned {found}, expected ({len(seen)},), a number for each image")
        return values.detach().cpu().double().where(able, torch.nan)


def _versions(seen: Evidence) -> dict[str, int]:
    """How often each tensor has been written to, as PyTorch counts it."""
    tensors = {"images": seen.images, "maps": seen.maps, "masks": seen.masks, "logits": seen.question, "classes": seen.classes}
    return {name: part._version for name, part in tensors.items() if part is not None and not part.is_inference()}
