"""What a method says of itself beside its name: its kind, whether it has signs or draws at random, and what it costs."""

from dataclasses import dataclass

from maskerlib.running.registry import Entry

__all__ = ["KINDS", "MethodEntry"]

KINDS = ("per-image mask", "trained", "gradient", "perturbation", "baseline")
"""How a method comes by its map: by optimising a mask, by a trained network, by derivatives, by trying, or without looking."""


@dataclass(frozen=True)
class MethodEntry(Entry):
    """A method that can be asked for by name; `make(*told, ...)` takes `classifier`, `seed` and `progress` where it needs them.

    kind: one of `KINDS`.
    signed: does it come from numbers that speak for and against the class? Its `attribute` then gives them.
    stochastic: does the map depend on the seed?
    forward, backward: images that the classifier sees, and gradients that pass through it, for each image explained, as the
        method is without options.

    Raises ValueError for another kind or a cost below 0.
    """

    kind: str
    signed: bool = False
    stochastic: bool = False
    forward: int = 1
    backward: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"method {self.name!r}: kind={self.kind!r} is unknown; choose one of {', '.join(KINDS)}")
        if min(self.forward, self.backward) < 0:
            costs = f"forward={self.forward}, backward={self.backward}"
            raise ValueError(f"method {self.name!r}: {costs}: expected 0 or more of each")
