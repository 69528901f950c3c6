"""What a method says of itself beside its name: its kind, its signs and draws, what it costs, and what it cannot."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from maskerlib.running.registry import Entry

__all__ = ["KINDS", "Cost", "MethodEntry", "Unsupported"]

KINDS = ("per-image mask", "trained", "gradient", "perturbation", "baseline")
"""How a method comes by its map: by optimising a mask, by a trained network, by derivatives, by trying, or without looking."""

Cost = int | Callable[[Mapping[str, Any], tuple[int, int]], int]
"""So many of each image; or (options of the method, the image's (H, W)) -> so many."""


class Unsupported(ValueError):
    """A method has no rule for something that a network does; the message says for what, and which method has.

    Raised by a method when it is asked. `maskerlib.metrics.evaluation.evaluate` then leaves its row empty, and goes on.
    """


@dataclass(frozen=True)
class MethodEntry(Entry):
    """A method that can be asked for by name; `make(*told, ...)` takes `classifier`, `seed` and `progress` where it needs them.

    kind: one of `KINDS`.
    signed: does it come from numbers that speak for and against the class? Its `attribute` then gives them.
    stochastic: does the map depend on the seed?
    forward, backward: images that the classifier sees, and gradients that pass through it, for each image explained: as it is
        without options, or a function of the options and of the size of the image; `cost` gives both.
    quick: options with which it is cheap, and still the same method; for tests, and to try it.
    moderate: options with which it costs some hundred passes at most, and its map can be looked at: for whoever waits for it.

    Raises ValueError for another kind or a cost below 0.
    """

    kind: str
    signed: bool = False
    stochastic: bool = False
    forward: Cost = 1
    backward: Cost = 0
    quick: Mapping[str, Any] = field(default_factory=dict)
    moderate: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind not in KINDS:
            raise ValueError(f"method {self.name!r}: kind={self.kind!r} is unknown; choose one of {', '.join(KINDS)}")
        if any(isinstance(cost, int) and cost < 0 for cost in (self.forward, self.backward)):
            costs = f"forward={self.forward}, backward={self.backward}"
            raise ValueError(f"method {self.name!r}: {costs}: expected 0 or more of each")

    def cost(self, size: tuple[int, int] = (224, 224), /, **options: Any) -> tuple[int, int]:
        """`forward` and `backward` for an image of this size, (H, W), with these options and the defaults of all others.

        >>> passes = lambda options, size: options["steps"]
        >>> MethodEntry("mine", "mine", lambda steps=9: None, kind="gradient", backward=passes).cost(steps=5)
        (1, 5)
        """
        parameters = inspect.signature(self.make).parameters.values()
        every = {each.name: each.default for each in parameters if each.default is not each.empty} | options
        forward, backward = (cost if isinstance(cost, int) else cost(every, size) for cost in (self.forward, self.backward))
        return forward, backward
