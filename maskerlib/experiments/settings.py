"""The parameters of one run of `notebooks/experiment.ipynb`: every choice of the study, one name each, or another method.

A setting is plain values only, so that papermill, a YAML file and a command line can all give it. `address` turns it,
with the version of the training's numbers, into the name of the folder where its results live.

What `MaskerConfig` and `Objective` have as well is declared there: what it means, what it may be, and its default, unless a
default of the grid's own stands here. The cell of the notebook is written from this class (`maskerlib.experiments.cell`).
"""

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from maskerlib.data.scenes.drawing import LEVELS
from maskerlib.experiments.choices import ALSO, INPAINTER, MEASURED, MEASURED_ON, SCENES, SHUFFLED, check_data
from maskerlib.experiments.named import TRAININGS, check_method, is_random, quick_options
from maskerlib.experiments.version import VERSION
from maskerlib.masker.config import GIVEN, MaskerConfig
from maskerlib.masker.trained import Config
from maskerlib.masking.infills import INFILLS
from maskerlib.masking.objectives import Objective
from maskerlib.notebooks.parameters import read_as
from maskerlib.running.checks import above, between, check_fields, check_value, one_of, shown, whole

__all__ = ["BESIDE", "Setting"]

BESIDE = ("profile", "device", "folder")
"""What the notebook is given beside a setting: how it runs, and not what."""

_LITERALS = (bool, int, float, str, list, tuple, dict, type(None))
_OF_THE_KERNEL = {"In", "Out"}
_SMOKE = {"train_images": 48, "val_images": 32, "steps": 3, "batch_size": 8, "pool_every": 2}


@dataclass(frozen=True)
class Setting:
    """One run: the data, the classifier, the masker, its objective, and how it is trained; or another method and its options.

    The names that `maskerlib.masker.config.MaskerConfig` and `maskerlib.masking.objectives.Objective` have as well mean the
    same here. The defaults are the study's final model (MaxClass (I) + MaxEnt (O), two deepest layers), in a schedule that
    takes about a minute of one processor core (FIX), or two (CA), on the scenes.

    Args:
        data: "scenes", or a source of `maskerlib.data.registry.SOURCES` whose files are below a folder: "imagenet", "pets", ...
        root: that folder. It makes no other run: the same files may lie elsewhere.
        train_options, val_options: of that source for the images to train on and to measure on, where they are other than
            `maskerlib.data.registry.split_named` has them.
        image_size: pixels a side; None means what the classifier was made for. Scenes have theirs.
        level: of the scenes.
        train_images, val_images: how many images to train the masker on, and to measure it on. Where the data are no scenes, None
            takes all.
        per_class: train on this many images of each class only, drawn by the seed; None takes all.
        class_share: train on images of this share of the classes only, drawn by the seed; 1 takes all.
        measured_on: one of `MEASURED_ON`. The scenes are the first of the validation split, or those of the training split from
            number 8000 on.
        fresh_scenes: measure seed s on the scenes from 1000 s further on, so that seeds differ in their scenes as well. Runs of
            one seed share theirs, as far as both have as many.
        also: what is measured besides, names in `ALSO`.
        classifier: "scenes", "shuffled", which learnt scenes by shuffled labels, or any name in
            `maskerlib.classifiers.registry.CLASSIFIERS`, such as "torchvision:resnet50".
        weights: of that classifier, by name or path; None means those that come with it.
        method: "masker" trains one, by all the parameters below. Any other training of `maskerlib.masker` goes by its kind,
            "real-time", and is given those parameters that it has as well; a name in `maskerlib.methods.registry.METHODS` is
            that method, and trains nothing; "truth" is the pixel masks.
        options: of another method than "masker", as its factory or its configuration takes them.
        size_out: None means the study's 10 for FIX and 15 for CA.
        infill: a name in `maskerlib.masking.infills.INFILLS`, or "inpainter" for the network of `maskerlib.masking.inpainting`.
        passes: where given, the number of steps follows from it: passes over the training scenes.
        smallest_crop: smallest area of the random crops, as a share of the scene; 1 trains on whole scenes.

    Raises ValueError, naming the parameter, for a value that no run could use.
    """

    data: str = SCENES
    root: str = ""
    train_options: dict[str, Any] | None = None
    val_options: dict[str, Any] | None = None
    image_size: int | None = None
    level: str = "default"
    train_images: int | None = 4000
    val_images: int | None = 400
    per_class: int | None = None
    class_share: float = 1.0
    measured_on: str = "val"
    fresh_scenes: bool = False
    also: tuple[str, ...] | None = None
    classifier: str = SCENES
    weights: str | None = None

    method: str = MaskerConfig.kind
    options: dict[str, Any] | None = None

    mode: str = MaskerConfig.mode
    layers: tuple[str, ...] | None = MaskerConfig.layers
    width: int = MaskerConfig.width
    mask: str = MaskerConfig.mask
    temperature: float = MaskerConfig.temperature
    regions: int | None = MaskerConfig.regions
    compactness: float = MaskerConfig.compactness
    condition: str | None = MaskerConfig.condition
    condition_at: str = MaskerConfig.condition_at

    masked_in: str | None = Objective.masked_in
    masked_out: str | None = Objective.masked_out
    weight_in: float = Objective.weight_in
    weight_out: float = Objective.weight_out
    size_in: float = Objective.size_in
    size_out: float | None = None
    size: float = Objective.size
    tv: float = Objective.tv
    tv_power: float = Objective.tv_power
    tv_border: float = Objective.tv_border
    budget: float = Objective.budget
    budget_power: int = Objective.budget_power

    infill: str = MaskerConfig.infill
    infill_sides: str = MaskerConfig.infill_sides

    steps: int = 128
    passes: float | None = None
    batch_size: int = 16
    masker_lr: float = 5e-3
    classifier_lr: float = MaskerConfig.classifier_lr
    momentum: float = MaskerConfig.momentum
    weight_decay: float = MaskerConfig.weight_decay
    schedule: str = "cosine"
    warmup: float = 0.1
    clip_norm: float = MaskerConfig.clip_norm
    smallest_crop: float = 1.0

    pool_every: int = 8
    pool_size: int = MaskerConfig.pool_size
    prob_historic: float = MaskerConfig.prob_historic
    released_pool: bool = MaskerConfig.released_pool
    first_snapshot: int = MaskerConfig.first_snapshot
    classifier_steps: int = MaskerConfig.classifier_steps

    seed: int = MaskerConfig.seed
    precision: str = MaskerConfig.precision

    def __post_init__(self) -> None:
        check_fields(
            self,
            level=one_of(tuple(LEVELS)),
            measured_on=one_of(MEASURED_ON),
            infill=one_of((*INFILLS, INPAINTER)),
            **{name: whole(1) for name in ("image_size", "train_images", "val_images", "per_class")},
            **{name: between(0, 1, open_below=True) for name in ("class_share", "smallest_crop")},
            passes=above(0),
        )
        for name in self.also or ():
            check_value("also", name, one_of(ALSO))
        check_data({field.name: getattr(self, field.name) for field in dataclasses.fields(self)})
        self.config()  # it checks what is left
        object.__setattr__(self, "options", self.options or None)  # none given, in either way
        check_method(self.method, self.options or {}, self.seed)
        if self.mode != "FIX" and self.method != MaskerConfig.kind:
            raise ValueError(f"mode={self.mode!r}: {self.method!r} leaves the classifier as it is; give mode='FIX'")
        self.training()  # it checks the options of what is trained

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """A setting from names and values.

        Raises ValueError for what is no mapping, and for a name that is no parameter, with all that are.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"a run is read from names and values, not from {shown(values)}; give a dict of parameters")
        known = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                near = difflib.get_close_matches(str(name), known, n=1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise ValueError(f"a run has no parameter {name!r}; {hint}the parameters are {', '.join(known)}")
        return cls(**values)

    @classmethod
    def of_notebook(cls, names: Mapping[str, Any]) -> Self:
        """The setting among the names of a notebook, `globals()`, right after its parameters.

        Every plain value there must be a parameter, or one of the names in `BESIDE`. papermill itself only warns about a name
        that the notebook does not know; here it is refused, and text is read as a value of the parameter's type. Raises
        ValueError as `read` does, and for a text that is no such value.
        """
        given = {
            name: value
            for name, value in names.items()
            if isinstance(value, _LITERALS) and not name.startswith("_") and name not in (*_OF_THE_KERNEL, *BESIDE)
        }
        types = {field.name: field.type for field in dataclasses.fields(cls)}
        return cls.read({name: read_as(types.get(name, str), value, name) for name, value in given.items()})

    def smoke(self) -> Self:
        """The same at a tiny size, for testing that it runs at all. Who asks for all images of a source, still gets all."""
        smaller = {name: min(value, own) for name, value in _SMOKE.items() if (own := getattr(self, name)) is not None}
        few = None if self.per_class is None else min(self.per_class, 2)
        options = quick_options(self.method, self.options)
        return dataclasses.replace(self, **smaller, per_class=few, passes=None, options=options)

    def training(self) -> Config | None:
        """How the method is trained; None for one that is not."""
        if self.method == MaskerConfig.kind:
            return self.config()
        if (kind := TRAININGS.get(self.method)) is None:
            return None
        shared = self._as_in(kind) | {"crop_scale": (self.smallest_crop, 1.0), "checkpoint_every": 25}
        for name in self.options or {}:
            if name in shared:
                raise ValueError(f"options: {name!r} is a parameter of the run, or follows from one; give it there")
        return kind.from_json({**shared, **(self.options or {})})

    def config(self) -> MaskerConfig:
        """How the masker is trained, where the method is "masker"."""
        objective = self._as_in(Objective)
        if self.size_out is None:
            objective["size_out"] = MaskerConfig.final(self.mode).objective.size_out
        training = self._as_in(MaskerConfig) | {"infill": GIVEN if self.infill == INPAINTER else self.infill}
        training |= {"passes": MaskerConfig.passes} if self.passes is None else {"steps": None, "passes": float(self.passes)}
        crops = (self.smallest_crop, 1.0)
        return MaskerConfig(**training, objective=Objective(**objective), crop_scale=crops, checkpoint_every=25)

    def _as_in(self, kind: type[Config] | type[Objective]) -> dict[str, Any]:
        """The parameters that `kind` has as well."""
        theirs = {field.name for field in dataclasses.fields(kind)}
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name in theirs}

    def changes(self) -> dict[str, Any]:
        """The parameters that differ from the defaults."""
        fields = ((field, getattr(self, field.name)) for field in dataclasses.fields(self))
        return {field.name: value for field, value in fields if value != field.default}

    def consequences(self) -> dict[str, Any]:
        """The parameters that differ from the defaults and make a difference: in FIX, say, none of a pool.

        >>> Setting(mode="CA", pool_size=5).consequences(), Setting(mode="FIX", pool_size=5).consequences()
        ({'mode': 'CA', 'pool_size': 5}, {})
        """
        usual_size_out = dataclasses.replace(self, size_out=None).config().objective.size_out
        unused = {
            "classifier_lr momentum classifier_steps prob_historic": self.mode == "FIX",
            "pool_every pool_size released_pool first_snapshot": self.mode == "FIX" or self.prob_historic == 0,
            "temperature": self.mask == "sigmoid",
            "compactness": self.regions is None,
            "condition_at": self.condition is None,
            "tv_power tv_border": self.tv == 0,
            "budget_power": self.budget == 0,
            "weight_in size_in": self.masked_in is None,
            "weight_out size_out": self.masked_out is None,
            "size_out": self.size_out == usual_size_out,
            "infill_sides": self.infill == "mean",
            "steps": self.passes is not None,
            "root": True,
        }
        left_out = {name for names, applies in unused.items() if applies for name in names.split()}
        left_out |= set() if self.method == MaskerConfig.kind else self._other_methods_leave_out()
        numbers = {field.name for field in dataclasses.fields(self) if "float" in str(field.type)}
        found = {name: value for name, value in self.changes().items() if name not in left_out}
        return {name: float(value) if name in numbers and value is not None else value for name, value in found.items()}

    def _other_methods_leave_out(self) -> set[str]:
        counts = {*MEASURED, "classifier", "weights", "method", "options"}
        if self.classifier == SHUFFLED:
            counts |= {"train_images"}
        if kind := TRAININGS.get(self.method):
            counts |= {"train_options", "train_images", "per_class", "class_share", "smallest_crop", *self._as_in(kind)}
        if self.fresh_scenes or is_random(self.method):
            counts |= {"seed"}
        return {field.name for field in dataclasses.fields(self)} - counts

    def address(self) -> str:
        """Sixteen hex digits: the same for settings that come to the same under one version of the numbers, for no others."""
        content = json.dumps([self.consequences(), VERSION], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]
