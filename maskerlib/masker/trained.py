"""A trained masker: a saliency method, and the folder that it is kept in."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.doors import Targets, check_images
from maskerlib.classifiers.weights import restore_weights
from maskerlib.masker.config import MaskerConfig
from maskerlib.masker.network import MaskNetwork, named_as_now
from maskerlib.masker.real_time import RealTimeConfig
from maskerlib.running.files import load_checkpoint, save_checkpoint, write_json
from maskerlib.training.finished import load_finished, read_history, save_finished
from maskerlib.training.loop import History

__all__ = ["Config", "Origin", "Trained", "load_trained"]

Config = MaskerConfig | RealTimeConfig
"""How a masker was trained: what builds its network, and says how that draws."""


@dataclass(frozen=True)
class Origin:
    """Where a masker comes from, as its folder says it: the run, and the classifier that the run started from.

    run: all that decides the run, as a text.
    name, digest, layers, question: of the classifier; the digest is its `fingerprint`.
    """

    run: str
    name: str
    digest: str
    layers: tuple[str, ...]
    question: Any

    def fingerprint(self) -> str:
        """Which classifier the run started from."""
        return self.digest

    def check(self, classifier: Classifier, folder: Path) -> None:
        """Raises ValueError, naming `folder` and what differs, unless `classifier` is the one that the run started from."""
        if self.digest != classifier.fingerprint():
            raise ValueError(
                f"{folder} was trained on classifier {self.name} ({self.digest[:12]}), "
                f"not on {classifier.name} ({classifier.fingerprint()[:12]}); give that one"
            )
        if self.question != classifier.question():
            raise ValueError(
                f"{folder} was trained on {self.name} with another head, other classes or another output; give the "
                "classifier as it was"
            )
        if self.layers != classifier.layers:
            raise ValueError(
                f"{folder} was trained on layers {', '.join(self.layers)} of {classifier.name}, not on "
                f"{', '.join(classifier.layers)}; give the classifier with those layers"
            )


@dataclass(frozen=True)
class Trained:
    """A trained masker with the classifier whose activations it reads: the one given (FIX), or the one it became (CA).

    `area` is what masks are asked for, a share of the image in [0, 1], where the masker is told a size; `dataclasses.replace`
    changes it. `origin` is there for a masker that `train_masker` trained, with or without a folder; `save` needs it.
    """

    masker: MaskNetwork
    classifier: Classifier
    config: Config
    history: History
    area: float = 0.5
    origin: Origin | None = None

    def __call__(self, images: Tensor, targets: Targets = None, classifier: Classifier | None = None) -> Tensor:
        """Masks (B, 1, H, W) of images (B, channels, H, W) in [0, 1], on their device: a saliency method.

        It reads its own classifier, whichever is given, wherever that lives. Raises ValueError for images that it cannot take.
        """
        there = check_images(images, self.classifier).to(self.classifier.mean.device)
        masks = self.config.method(self.masker, self.area)(there, targets, self.classifier)
        return masks.to(images.device)

    def to(self, device: torch.device | str) -> Self:
        """Move masker and classifier to `device`, in place as PyTorch moves a module, and return this very object."""
        self.masker.to(device)
        self.classifier.to(device)
        return self

    def save(self, folder: str | Path) -> None:
        """Leave in `folder` what `train_masker` leaves there; `load_trained(folder, classifier)` reads it back, `area` and all.

        `masker.pt` comes last: it is what marks the run as finished. A folder of the same run is written over.

        Raises ValueError for a folder that holds another run, one that cannot be written to, or a masker without `origin`.
        """
        if self.origin is None:
            raise ValueError(
                "origin=None: nothing says which run and which classifier this masker comes from; save one that train_masker "
                "or load_trained returned"
            )
        folder = Path(folder)
        load_finished(folder, "masker", self.origin.run, type(self.config).from_json)
        write_json(folder / "config.json", self.config.to_json())
        if self.config.mode == "CA":
            save_checkpoint(folder / "classifier.pt", {"weights": self.classifier.weights()})
        started = {
            "name": self.origin.name,
            "fingerprint": self.origin.digest,
            "layers": list(self.origin.layers),
            "question": self.origin.question,
        }
        content = {
            "config": self.config.to_json(),
            "classifier": started,
            "area": self.area,
            "weights": self.masker.state_dict(),
        }
        seed, run = self.config.seed, self.origin.run
        save_finished(folder, "masker", run, content, history=self.history, seed=seed, classifier=self.origin)


_STARTED = {"name", "fingerprint", "layers"}
"""What a saved masker says of the classifier that its run started from."""


def load_trained(folder: str | Path, classifier: Classifier) -> Trained:
    """A finished run of any training of this room, read back. `classifier` is the one that it started from.

    The masker is on its device.

    Raises FileNotFoundError when there is no finished run, ValueError when a file is damaged or the classifier is another.
    """
    folder = Path(folder)
    path = folder / "masker.pt"
    saved = load_checkpoint(path)
    started = saved.get("classifier")
    known = {"run", "config", "weights"} <= saved.keys() and isinstance(saved["weights"], Mapping)
    if not known or not isinstance(started, dict) or not _STARTED <= started.keys():
        raise ValueError(f"{path} is not a masker that train_masker saved; give the folder of one")
    question = started.get("question", classifier.question())
    origin = Origin(saved["run"], started["name"], started["fingerprint"], tuple(started["layers"]), question)
    origin.check(classifier, folder)
    config = _config(saved["config"], path)
    masker = config.new_masker(classifier)
    restore_weights(masker, {"weights": named_as_now(saved["weights"])}, path)
    learner = config.learner(classifier)
    if config.mode == "CA":
        restore_weights(learner, load_checkpoint(folder / "classifier.pt"), folder / "classifier.pt")
    masker, learner = masker.eval(), learner.eval().requires_grad_(False)
    return Trained(masker, learner, config, read_history(folder), saved.get("area", Trained.area), origin)


def _config(content: Mapping[str, Any], path: Path) -> Config:
    """The configuration of the kind that it says it is; one that says nothing is a `MaskerConfig`."""
    kind = content.get("kind", MaskerConfig.kind)
    for known in (MaskerConfig, RealTimeConfig):
        if kind == known.kind:
            return known.from_json(content)
    raise ValueError(f"{path} holds a masker of kind {kind!r}, which this version does not know; train one anew")
