"""One run's configuration: a frozen dataclass that is saved as JSON beside the weights and read back by the same class."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from maskerlib.distributions import MASKS
from maskerlib.infills import INFILLS
from maskerlib.masker import CONDITIONS
from maskerlib.objectives import Objective
from maskerlib.precision import PRECISIONS

__all__ = ["GIVEN", "MaskerConfig"]

GIVEN = "given"
"""The name of an infill that is given to the training as a function: a trained inpainter, say."""


@dataclass(frozen=True)
class MaskerConfig:
    """Everything that decides how a masker is trained (Phang et al., section 4 and the recipe of their code release).

    Args:
        mode: "FIX" keeps the classifier as it is; "CA" keeps training it, with a pool of its earlier weights.
        layers: the classifier's layers that the masker reads; None means its two deepest.
        width: channels that the masker reduces each layer to.
        objective: what the mask should do.
        infill: what stands where the image is hidden: a name in `maskerlib.infills.INFILLS`, or "given" for one that is given
            to the training.
        infill_sides: where it stands: "both", or only masked-"in" or masked-"out", with the mean colour on the other side.
        mask: how a mask comes out of logits, one of `maskerlib.distributions.MASKS`, with `temperature` for the sampled kinds.
        condition: what the masker is told: None, "size" (with an objective that has a budget) or "class".
        share: smallest and largest share of the image that masks are asked for in training, with condition "size".
        steps: number of updates; None means `passes` over the source.
        passes: passes over the source when `steps` is None. The release makes about 12.
        batch_size: images a step.
        masker_lr: Adam's learning rate for the masker.
        classifier_lr: SGD's learning rate for the classifier (CA), with `momentum`.
        weight_decay: of both.
        schedule: of both learning rates: "steps" as in the release (x 0.1 after each third of the run) or "cosine".
        warmup: share of the steps, at the start, over which both rates rise from 0; 0, as in the release, is none.
        clip_norm: largest norm of the masker's gradient.
        crop_scale: smallest and largest area of the random crops, as shares of the image.
        pool_every, pool_size, prob_historic: see `maskerlib.pool.ClassifierPool`.
        released_pool: the behaviour of the code release, where a drawn member only stops the classifier's update while
            the current classifier judges; the default lets the drawn member judge.
        seed: of weights, order, crops and the pool.
        precision: "auto", "bf16" or "fp32".
        checkpoint_every: steps between checkpoints.

    Raises ValueError for any value that no run could use, naming it and what is possible.
    """

    mode: str = "FIX"
    layers: tuple[str, ...] | None = None
    width: int = 64
    objective: Objective = field(default_factory=Objective)
    infill: str = "mean"
    infill_sides: str = "both"
    mask: str = "sigmoid"
    temperature: float = 0.1
    condition: str | None = None
    share: tuple[float, float] = (0.25, 0.75)
    steps: int | None = None
    passes: float = 12.0
    batch_size: int = 72
    masker_lr: float = 1e-3
    classifier_lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: str = "steps"
    warmup: float = 0.0
    clip_norm: float = 10.0
    crop_scale: tuple[float, float] = (0.08, 1.0)
    pool_every: int = 100
    pool_size: int = 30
    prob_historic: float = 0.5
    released_pool: bool = False
    seed: int = 0
    precision: str = "auto"
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        for name, valid in (
            ("mode", ("FIX", "CA")),
            ("schedule", ("steps", "cosine")),
            ("infill", (*INFILLS, GIVEN)),
            ("infill_sides", ("both", "in", "out")),
            ("mask", MASKS),
            ("condition", CONDITIONS),
            ("precision", PRECISIONS),
        ):
            if getattr(self, name) not in valid:
                raise ValueError(f"{name}={getattr(self, name)!r} is unknown; choose one of {', '.join(map(str, valid))}")
        for name in ("width", "batch_size", "pool_every", "pool_size", "checkpoint_every", "steps"):
            value = getattr(self, name)
            if not (type(value) is int and value >= 1) and not (name == "steps" and value is None):
                raise ValueError(f"{name}={value!r} must be a whole number of 1 or more")
        for name in ("passes", "masker_lr", "classifier_lr", "clip_norm", "temperature"):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and math.isfinite(value) and value > 0):
                raise ValueError(f"{name}={value!r} must be a finite number above 0")
        for name in ("momentum", "weight_decay", "prob_historic", "warmup"):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and 0 <= value <= 1):
                raise ValueError(f"{name}={getattr(self, name)!r} must lie between 0 and 1")
        if type(self.seed) is not int:
            raise ValueError(f"seed={self.seed!r} must be a whole number")
        if self.layers is not None and not self.layers:
            raise ValueError("layers=() leaves the masker nothing to read; name at least one layer, or None for two")
        if len(self.crop_scale) != 2 or not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError(f"crop_scale={self.crop_scale!r} must satisfy 0 < smallest <= largest <= 1")
        if len(self.share) != 2 or not 0 <= self.share[0] <= self.share[1] <= 1:
            raise ValueError(f"share={self.share!r} must satisfy 0 <= smallest <= largest <= 1")
        if (self.condition == "size") != (self.objective.budget > 0):
            raise ValueError(
                f"condition={self.condition!r} with budget={self.objective.budget}: a masker that is told a size needs an "
                "objective with a budget above 0, and no other masker can use one"
            )

    @classmethod
    def final(cls, mode: str, **changes: Any) -> Self:
        """The study's final model: MaxClass (I) + MaxEnt (O), the two deepest layers; lambda_out 10 (FIX) or 15 (CA)."""
        objective = changes.pop("objective", Objective(size_out=15.0 if mode == "CA" else 10.0))
        return cls(mode=mode, objective=objective, **changes)

    def to_json(self) -> dict[str, Any]:
        """The configuration as plain dicts, lists, strings and numbers."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`. Raises ValueError naming any key that is not a field, with the list of fields."""
        values = dict(content)
        _refuse_unknown(cls, values)
        if isinstance(values.get("objective"), Mapping):
            _refuse_unknown(Objective, values["objective"])
            values["objective"] = Objective(**values["objective"])
        for name in ("layers", "crop_scale", "share"):
            if isinstance(values.get(name), list):
                values[name] = tuple(values[name])
        return cls(**values)


def _refuse_unknown(kind: type, values: Mapping[str, Any]) -> None:
    known = [entry.name for entry in dataclasses.fields(kind)]
    for name in values:
        if name not in known:
            raise ValueError(f"{kind.__name__} has no parameter {name!r}; choose from {', '.join(known)}")
