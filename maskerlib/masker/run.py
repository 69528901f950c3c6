"""One run of the training of a masker: loaded where it is finished, else prepared, carried out and kept."""

import functools
import json
from pathlib import Path
from typing import Any

import torch

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.doors import aligned, check_classifier, decided
from maskerlib.data.augment import Crops, draw_crops
from maskerlib.data.samples import Source
from maskerlib.masker.config import MaskerConfig
from maskerlib.masker.network import MaskNetwork
from maskerlib.masker.real_time import RealTimeConfig
from maskerlib.masker.trained import Config, Origin, Trained, load_trained
from maskerlib.masking.infills import Infill
from maskerlib.running.checks import changes, check_finite, check_value, one_of, shown
from maskerlib.running.distributed import agreed, first, wait
from maskerlib.running.seeds import stream
from maskerlib.training.finished import load_finished
from maskerlib.training.loop import Diverged, History, source_identity

__all__ = ["MaskerRun", "check_config", "step_crops"]

_TRAINED_BY = {MaskerConfig: "train_masker", RealTimeConfig: "train_real_time"}


def check_config(config: Any, kind: type[Config]) -> None:
    """Raises ValueError for a configuration of another kind than the training's, with the training that takes it."""
    if isinstance(config, kind):
        return
    others = [name for other, name in _TRAINED_BY.items() if isinstance(config, other)]
    mend = f"that one is for {others[0]}" if others else f"make one, {kind.__name__}(...), or read it, {kind.__name__}.from_json"
    raise ValueError(f"config={shown(config)} is of type {type(config).__name__}, expected {kind.__name__}; {mend}")


def step_crops(config: Config, step: int) -> Crops:
    """The random crops of the batch of a step; they depend on nothing else."""
    return draw_crops(config.batch_size, stream(config.seed, "augment", step), scale=config.crop_scale)


class MaskerRun:
    """What every training of a masker does before its first step and after its last.

        run = MaskerRun(classifier, source, config)
        if (trained := run.load()) is None:
            trained = run.finished(masker, learner, run_steps(plan, run.prepared(), step, state, identity=run.origin.run))

    Args:
        targets, folder, infill: as in `maskerlib.masker.training.train_masker`.

    `crops(step)` are those of a step's batch; loader workers may compute them.
    """

    def __init__(
        self,
        classifier: Classifier,
        source: Source,
        config: Config,
        *,
        targets: str = "labels",
        folder: str | Path | None = None,
        infill: Infill | None = None,
    ) -> None:
        check_value("targets", targets, one_of(("labels", "predicted")))
        self.classifier, self.source, self.config, self.targets = classifier, source, config, targets
        self.folder = Path(folder) if folder is not None else None
        digest, question, layers = classifier.fingerprint(), classifier.question(), classifier.layers
        asked = [changes(config), digest, question, list(layers), targets]
        identity = [*asked, list(source.class_names), *source_identity(source)]
        fingerprint = getattr(infill, "fingerprint", None)
        if fingerprint is not None:
            identity.append(fingerprint())
        if config.kind != "masker":
            identity.append(config.kind)
        self.crops = functools.partial(step_crops, config)
        self.origin = Origin(json.dumps(identity), classifier.name, digest, layers, question)

    def load(self) -> Trained | None:
        """What this run left in its folder; None where it is not finished, or has no folder.

        Raises ValueError for a folder that holds another run, or a file that is damaged.
        """
        read = type(self.config).from_json
        done = self.folder is not None and load_finished(self.folder, "masker", self.origin.run, read) is not None
        agreed(done, "whether their run is finished", "their folder has to lie on a disk that all of them see")
        return load_trained(self.folder, self.classifier) if self.folder is not None and done else None

    def prepared(self, workers: int = 0) -> Source:
        """The source with a label of the classifier's for each image; `workers` processes load them.

        Raises ValueError for a classifier that returns no logits, or a source that does not suit it
        (`maskerlib.classifiers.doors`).
        """
        check_classifier(self.classifier, differentiable=True)
        source = aligned(self.source, self.classifier) if self.targets == "labels" else self.source
        return decided(source, self.classifier, every=self.targets == "predicted", workers=workers)

    def finished(self, masker: MaskNetwork, learner: Classifier, history: History) -> Trained:
        """The masker and its classifier after the last step, ready to use and left in the folder.

        Raises `maskerlib.training.loop.Diverged` for a weight that is not finite.
        """
        parts: dict[str, torch.nn.Module] = {"masker": masker, "classifier": learner}
        for name, part in parts.items():  # the losses are those before the last step
            try:
                check_finite(part.state_dict(), f"the {name} after the last step")
            except ValueError as error:
                raise Diverged(f"{error}; lower the learning rate or use precision='fp32'") from None
        trained = Trained(masker.eval(), learner.eval().requires_grad_(False), self.config, history, origin=self.origin)
        if self.folder is not None and first():
            trained.save(self.folder)
        wait()  # until it is in its folder
        return trained
