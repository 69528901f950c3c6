"""One run's configuration of real-time saliency (Dabkowski and Gal, 2017): a frozen dataclass, saved as JSON."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import torch

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.doors import Method
from maskerlib.masker.decoder import Decoder, decoder_for
from maskerlib.masker.network import MaskNetwork, masker_method
from maskerlib.masking.margins import MarginObjective
from maskerlib.running.checks import (
    LARGEST_BATCH,
    SEED,
    WIDEST,
    above,
    between,
    check_fields,
    check_names,
    one_of,
    rising,
    whole,
)
from maskerlib.running.precision import PRECISIONS

__all__ = ["RealTimeConfig"]


@dataclass(frozen=True)
class RealTimeConfig:
    """How a `maskerlib.masker.decoder.Decoder` is trained for a frozen classifier, in two phases.

    The defaults are those of the code release on ImageNet, but for the batches of the first phase: there it takes 8,500 of
    128 images, and here, where one run has one batch size, twice as many of 64. On a small data set a hundredth of the steps
    and a quarter of the width will do.

    Args:
        layers: the classifier's layers that the decoder climbs; None as in `maskerlib.masker.decoder.decoder_for`.
        width: channels of its shallowest layer.
        objective: what a mask should do.
        selector_steps: updates of the class embedding alone, which learns whether a class is there. 0 leaves it at random.
        steps: updates of the rest, after these.
        selector_fakes, fakes: share of the images, in each phase, for which a class is asked that they are not labelled with.
        batch_size: images a step.
        lr: Adam's learning rate. That of the selector falls to a tenth after 8/17 of its steps, and again after 16/17 (every
            4,000th of 8,500); the decoder's stays.
        weight_decay: of both.
        crop_scale: smallest and largest area of the random crops, as shares of the image.
        confidence: what is taken off the selector's similarity when a mask is drawn; see `maskerlib.masker.decoder.Decoder`.
        seed: of weights, order, crops and fakes.
        precision: "auto", "bf16" or "fp32".
        checkpoint_every: steps between checkpoints.

    Raises ValueError for any value that no run could use, naming it and what is possible.
    """

    kind = "real-time"
    mode = "FIX"
    mask = "sigmoid"

    layers: tuple[str, ...] | None = None
    width: int = 64
    objective: MarginObjective = field(default_factory=MarginObjective)
    selector_steps: int = 17000
    steps: int = 3000
    selector_fakes: float = 0.5
    fakes: float = 0.3
    batch_size: int = 64
    lr: float = 1e-3
    weight_decay: float = 1e-4
    crop_scale: tuple[float, float] = (0.3, 1.0)
    confidence: float = 0.0
    seed: int = 0
    precision: str = "auto"
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        check_fields(
            self,
            width=whole(1, WIDEST),
            selector_steps=whole(0),
            batch_size=whole(1, LARGEST_BATCH),
            **{name: whole(1) for name in ("steps", "checkpoint_every")},
            **{name: between(0, 1) for name in ("selector_fakes", "fakes", "weight_decay")},
            lr=above(0),
            crop_scale=rising(),
            seed=SEED,
            precision=one_of(PRECISIONS),
        )
        if self.layers is not None and not self.layers:
            raise ValueError("layers=() leaves the decoder nothing to read; name at least one layer, or None")

    def new_masker(self, classifier: Classifier) -> Decoder:
        """The decoder described, untrained, with weights from `seed`; on the device of `classifier`, in float64 if that is."""
        decoder = decoder_for(classifier, self.layers, width=self.width, seed=self.seed, confidence=self.confidence)
        decoder = decoder.to(classifier.mean.device, torch.promote_types(torch.float32, classifier.dtype))
        return decoder.to(memory_format=classifier.memory_format)

    def learner(self, classifier: Classifier) -> Classifier:
        """A copy of `classifier`, which learns nothing here."""
        return classifier.copied().to(memory_format=classifier.memory_format)

    def method(self, masker: MaskNetwork, area: float = 0.5) -> Method:
        """`masker`, trained as described here, as a saliency method; it is told no `area`."""
        return masker_method(masker)

    def to_json(self) -> dict[str, Any]:
        """The configuration as plain dicts, lists, strings and numbers; "kind" says that it is one of these."""
        return {"kind": self.kind, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`; what is missing has its default.

        Raises ValueError for what is no mapping, and naming any key that is not a field, with the list of fields.
        """
        if isinstance(content, Mapping):
            content = {name: value for name, value in content.items() if (name, value) != ("kind", cls.kind)}
        values = check_names(cls, content)
        if isinstance(values.get("objective"), Mapping):
            values["objective"] = MarginObjective(**check_names(MarginObjective, values["objective"]))
        return cls(**values)
