"""One run's configuration: a frozen dataclass that is saved as JSON beside the weights and read back by the same class."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.doors import Method
from maskerlib.masker.network import CONDITION_AT, CONDITIONS, Masker, MaskNetwork, masker_for, masker_method
from maskerlib.masking.distributions import MASKS
from maskerlib.masking.infills import INFILLS
from maskerlib.masking.objectives import Objective
from maskerlib.masking.segments import LARGEST_COUNT, segments
from maskerlib.running.checks import (
    LARGEST,
    LARGEST_BATCH,
    SEED,
    WIDEST,
    above,
    between,
    check_fields,
    check_names,
    check_value,
    one_of,
    rising,
    whole,
)
from maskerlib.running.precision import PRECISIONS
from maskerlib.training.loop import SCHEDULES

__all__ = ["GIVEN", "THINNING", "MaskerConfig"]

GIVEN = "given"
"""The name of an infill that is given to the training as a function: a trained inpainter, say."""

_THINNING: Mapping[str, tuple[dict[str, Any], float, float]] = {
    "F": ({"mode": "FIX"}, 2.5, 9.0),
    "L": ({"prob_historic": 0.0}, 14.0, 18.0),
    "FL": ({"pool_every": LARGEST, "pool_size": 1}, 7.5, 11.0),
    "L100": ({"pool_every": 100}, 10.0, 17.0),
    "L1000": ({"pool_every": 1000}, 10.0, 17.0),
}

THINNING = tuple(_THINNING)
"""Which classifiers judge a mask of CASM: the first (F), the last (L), both, or the last and one of every 100 or 1000 steps."""


@dataclass(frozen=True)
class MaskerConfig:
    """Everything that decides how a masker is trained (Phang et al., section 4 and the recipe of their code release).

    Args:
        mode: "FIX" keeps the classifier as it is; "CA" keeps training it, with a pool of its earlier weights.
        layers: the classifier's layers that the masker reads; None means its two deepest.
        width: channels that the masker reduces each layer to.
        objective: what the mask should do.
        infill: what stands where the image is hidden: a name in `maskerlib.masking.infills.INFILLS`, or "given" for one that is
            given to the training.
        infill_sides: where it stands: "both", or only masked-"in" or masked-"out", with the mean colour on the other side.
        mask: how a mask comes out of logits, one of `maskerlib.masking.distributions.MASKS`, with `temperature` for the sampled
            kinds.
        regions: superpixels of an image, about so many, each with one number for its mask (`maskerlib.masking.segments`); None
            for the cells of the grid. With `compactness`, their shape.
        condition: what the masker is told: None, "size" (with an objective that has a budget) or "class".
        condition_at: where it is told, "layers" (as in the study's release) or "head"; see `maskerlib.masker.network.Masker`.
        areas: smallest and largest area that masks are asked for in training, with condition "size"; shares of the image.
        steps: number of updates; None means `passes` over the source.
        passes: passes over the source when `steps` is None. The release makes about 12.
        batch_size: images a step.
        micro_batch: images that the classifier sees at once, where its memory is short; None for all of the batch that a process
            has. The weights are those of the whole batch up to rounding, batch norm included: the masker, which is small, reads
            the activations of all parts at once and draws their masks; the classifier's passes alone go part by part.
        masker_lr: Adam's learning rate for the masker.
        classifier_lr: SGD's learning rate for the classifier (CA), with `momentum`.
        weight_decay: of both.
        schedule: of both learning rates: "steps" as in the release (x 0.1 after each third of the run) or "cosine".
        warmup: share of the steps, at the start, over which both rates rise from 0; 0, as in the release, is none.
        clip_norm: largest norm of the masker's gradient.
        crop_scale: smallest and largest area of the random crops, as shares of the image.
        pool_every, pool_size, prob_historic: see `maskerlib.masker.pool.ClassifierPool`.
        released_pool: the behaviour of the code release, where a drawn member only stops the classifier's update while
            the current classifier judges; the default lets the drawn member judge.
        first_snapshot: the step before which the pool takes its first snapshot; 1 as in the code release, after one update.
        classifier_steps: SGD steps of the classifier (CA) a batch: 1 on the sum of all gradients, or 2 as in the code release,
            first on those of the clean images, then on those of the masked ones.
        seed: of weights, order, crops and the pool.
        precision: "auto", "bf16" or "fp32".
        checkpoint_every: steps between checkpoints.

    Raises ValueError for any value that no run could use, naming it and what is possible.
    """

    kind = "masker"

    mode: str = "FIX"
    layers: tuple[str, ...] | None = None
    width: int = 64
    objective: Objective = field(default_factory=Objective)
    infill: str = "mean"
    infill_sides: str = "both"
    mask: str = "sigmoid"
    temperature: float = 0.1
    regions: int | None = None
    compactness: float = 10.0
    condition: str | None = None
    condition_at: str = "layers"
    areas: tuple[float, float] = (0.25, 0.75)
    steps: int | None = None
    passes: float = 12.0
    batch_size: int = 72
    micro_batch: int | None = None
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
    first_snapshot: int = 0
    classifier_steps: int = 1
    seed: int = 0
    precision: str = "auto"
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        check_fields(
            self,
            mode=one_of(("FIX", "CA")),
            schedule=one_of(SCHEDULES),
            infill=one_of((*INFILLS, GIVEN)),
            infill_sides=one_of(("both", "in", "out")),
            mask=one_of(MASKS),
            condition=one_of(CONDITIONS),
            condition_at=one_of(CONDITION_AT),
            precision=one_of(PRECISIONS),
            width=whole(1, WIDEST),
            regions=whole(1, LARGEST_COUNT),
            **dict.fromkeys(("batch_size", "micro_batch"), whole(1, LARGEST_BATCH)),
            **{name: whole(1) for name in ("steps", "pool_every", "pool_size", "checkpoint_every")},
            **{name: above(0) for name in ("passes", "masker_lr", "classifier_lr", "clip_norm")},
            **{name: above(0) for name in ("temperature", "compactness")},
            **{name: between(0, 1) for name in ("momentum", "weight_decay", "prob_historic", "warmup")},
            first_snapshot=whole(0),
            classifier_steps=one_of((1, 2)),
            crop_scale=rising(),
            areas=rising(zero=True),
            seed=SEED,
        )
        if self.layers is not None and not self.layers:
            raise ValueError("layers=() leaves the masker nothing to read; name at least one layer, or None for two")
        if self.micro_batch is not None and self.micro_batch > self.batch_size:
            raise ValueError(
                f"micro_batch={self.micro_batch} with batch_size={self.batch_size}: a part of a batch is no larger than it; "
                f"give {self.batch_size} or fewer, or None for all at once"
            )
        if (self.condition == "size") != (self.objective.budget > 0):
            raise ValueError(
                f"condition={self.condition!r} with budget={self.objective.budget}: a masker that is told a size needs an "
                "objective with a budget above 0, and no other masker can use one"
            )

    @classmethod
    def final(cls, mode: str, **changes: Any) -> Self:
        """The study's final model: MaxClass (I) + MaxEnt (O), the two deepest layers; lambda_out 10 (FIX) or 15 (CA).

        >>> MaskerConfig.final("CA", seed=3).objective.size_out
        15.0
        """
        objective = changes.pop("objective", Objective(size_out=15.0 if mode == "CA" else 10.0))
        return cls(mode=mode, objective=objective, **changes)

    @classmethod
    def casm(cls, thinning: str, layers: Sequence[str], *, adversarial: bool = False, **changes: Any) -> Self:
        """CASM, classifier-agnostic saliency map extraction (Zolna, Geras and Cho, 2020), by the options of its code release.

        Its objective is the masked-out side alone, -c0 Ent(F((1 - m) x)) - lambda_r relu(c0 c_out - a); the study adds the
        masked-in side and the total variation, and finds that the two deepest layers do. What its option `--reproduce` sets:

            thinning  who judges                                          lambda_r  adversarial
            F         the first classifier, which never learns                 2.5            9
            L         the classifier as it is now                               14           18
            FL        the first, or, in half of the steps, as it is now        7.5           11
            L100      it, or one of its weights of every 100th step             10           17
            L1000     it, or one of its weights of every 1000th step            10           17

        Args:
            thinning: one of `THINNING`. The pool keeps 30 classifiers, a random one of which is replaced.
            layers: those that the masker reads: all of the classifier's, `classifier.layers`, as published.
            adversarial: minimise -CE in the place of -c0 Ent: the two networks then play for one number.
            changes: any other field; in a short run `pool_every`, say.

        Batches have 128 images, and the classifier steps twice for each. The release reads the classifier in training mode,
        judges by it after its step on the clean images, takes its first snapshot then, and counts every 100th step of an epoch
        anew; here it stays in eval mode, all gradients come first, the first snapshot is the weights that were given, and the
        steps of the whole run count.

        >>> config = MaskerConfig.casm("FL", ("stem", "stage4"))
        >>> config.mode, config.objective.masked_in, config.objective.size_out, config.pool_size
        ('CA', None, 7.5, 1)
        """
        check_value("thinning", thinning, one_of(THINNING))
        options, plain, harder = _THINNING[thinning]
        objective = Objective(
            masked_in=None,
            masked_out="min_class" if adversarial else "max_ent",
            size_out=harder if adversarial else plain,
            tv=0.0,
        )
        published = {"mode": "CA", "layers": tuple(layers), "objective": objective, "batch_size": 128, "classifier_steps": 2}
        return cls(**{**published, **options, **changes})

    @classmethod
    def superpixels(cls, count: int = 50, **changes: Any) -> Self:
        """Adversarial superpixels, in the spirit of the adversarial localisation network of Fan, Zhao and Ermon (2017).

        An image is cut into about `count` regions; a network gives each of them one number, and what it removes is to fool a
        classifier that keeps training on just that. Their losses are not public. Here it is CA with a mask that is constant on
        regions: -CE(F((1 - m) x)), for which the two networks play, and the conditional reward of a small mask as in CASM; the
        classifier as it is now judges, and no total variation is charged, as the regions are all the smoothness there is.

        >>> config = MaskerConfig.superpixels(80, steps=300)
        >>> config.mode, config.regions, config.prob_historic, config.objective.masked_out
        ('CA', 80, 0.0, 'min_class')
        """
        objective = Objective(masked_in=None, masked_out="min_class", size_out=15.0, tv=0.0)
        return cls(**{"mode": "CA", "regions": count, "objective": objective, "prob_historic": 0.0, **changes})

    def region_maps(self, images: Tensor) -> Tensor | None:
        """The regions (B, H, W) on which masks of these images are constant; None where they are not."""
        return None if self.regions is None else segments(images, count=self.regions, compactness=self.compactness)

    def method(self, masker: MaskNetwork, area: float = 0.5) -> Method:
        """`masker`, trained as described here, as a saliency method; `area` is what one that is told a size is asked for."""
        return masker_method(masker, mask=self.mask, area=area, regions=self.region_maps)

    def new_masker(self, classifier: Classifier) -> Masker:
        """The masker described, untrained, with weights from `seed`; on the device of `classifier`, in float64 if that is."""
        masker = masker_for(
            classifier,
            self.layers,
            width=self.width,
            seed=self.seed,
            condition=self.condition,
            condition_at=self.condition_at,
        )
        masker = masker.to(classifier.mean.device, torch.promote_types(torch.float32, classifier.dtype))
        return masker.to(memory_format=classifier.memory_format)

    def learner(self, classifier: Classifier) -> Classifier:
        """A copy of `classifier`; one that learns (CA) in float32 at the least, as half precision rounds small steps away."""
        learner = classifier.copied()
        if self.mode == "CA" and learner.dtype in (torch.half, torch.bfloat16):
            learner = learner.float()
        return learner.to(memory_format=classifier.memory_format)

    def to_json(self) -> dict[str, Any]:
        """The configuration as plain dicts, lists, strings and numbers."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`; `areas` may also be called `share`, and what is missing has its default.

        Raises ValueError for what is no mapping, and naming any key that is not a field, with the list of fields.
        """
        if isinstance(content, Mapping) and "share" in content and "areas" not in content:
            content = {"areas" if name == "share" else name: value for name, value in content.items()}
        values = check_names(cls, content)
        if values.get("condition") is not None:
            values.setdefault("condition_at", "head")  # where a masker was told before there was a choice
        if isinstance(values.get("objective"), Mapping):
            values["objective"] = Objective(**check_names(Objective, values["objective"]))
        return cls(**values)
