"""Training a masker (equation 2), with the classifier fixed (FIX) or training beside it (CA).

One step, in this order: the pool says who judges; every gradient is computed (`maskerlib.masker.step`); then, and only then,
weights move.
"""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.doors import aligned, check_classifier, check_images, decided
from maskerlib.classifiers.networks import with_gradients
from maskerlib.classifiers.weights import restore_weights
from maskerlib.data.augment import Crops, apply_crops, draw_crops
from maskerlib.data.samples import Batch, Source
from maskerlib.masker.config import MaskerConfig
from maskerlib.masker.network import Masker, masker_for, masker_method
from maskerlib.masker.pool import ClassifierPool
from maskerlib.masker.step import compute_gradients
from maskerlib.masking.infills import Infill
from maskerlib.running.checks import check_finite
from maskerlib.running.files import load_checkpoint, save_checkpoint, write_json
from maskerlib.running.seeds import stream
from maskerlib.training.finished import load_finished, read_history, save_finished
from maskerlib.training.loop import (
    Diverged,
    History,
    Plan,
    Stateful,
    learning_rate_factor,
    run_steps,
    source_identity,
    steps_for,
)

__all__ = ["Trained", "load_trained", "train_masker"]


@dataclass(frozen=True)
class Trained:
    """A trained masker with the classifier whose activations it reads: the one given (FIX), or the one it became (CA).

    `share` is the area that masks are asked for, where the masker is told one; `dataclasses.replace` changes it.
    """

    masker: Masker
    classifier: Classifier
    config: MaskerConfig
    history: History
    share: float = 0.5

    def __call__(self, images: Tensor, targets: Tensor | None = None, classifier: Classifier | None = None) -> Tensor:
        """Masks (B, 1, H, W) of images (B, channels, H, W) in [0, 1], on their device: a saliency method.

        It reads its own classifier, whichever is given, wherever that lives. Raises ValueError for images that it cannot take.
        """
        there = check_images(images, self.classifier).to(self.classifier.mean.device)
        masks = masker_method(self.masker, mask=self.config.mask, share=self.share)(there, targets, self.classifier)
        return masks.to(images.device)


@with_gradients
def train_masker(
    classifier: Classifier,
    source: Source,
    config: MaskerConfig,
    *,
    infill: Infill | None = None,
    targets: str = "labels",
    folder: str | Path | None = None,
    device: torch.device | str | None = None,
    workers: int = 0,
    progress: bool = True,
) -> Trained:
    """Train a masker for `classifier` on `source`. The classifier given is never changed: CA trains a copy.

    Args:
        infill: what stands where the image is hidden, when the config says "given". With a `fingerprint` method (such as
            `maskerlib.masking.inpainting.Inpainter`'s) a folder knows which one its run belongs to.
        targets: "labels" trains masks that explain the label of each image, and, where an image has none, what `classifier`
            predicts; "predicted" explains that for every image. It decides once, on the whole image, before it learns anything.
            Labels count the classes of the source; they are matched with the classifier's by name
            (`maskerlib.classifiers.doors.aligned`).
        folder: where the run lives. A run that was killed goes on from its last checkpoint; a finished one is loaded, not
            repeated; `config.json`, `history.json`, `provenance.json`, `masker.pt` and, for CA, `classifier.pt` are left.
            None keeps nothing.
        device: None means the classifier's.
        workers: processes that load samples.

    Raises ValueError when the folder holds another run or cannot be written to, for a classifier that returns no logits or a
    source that does not suit it (see `maskerlib.classifiers.doors`); `maskerlib.training.loop.Diverged` when a number stops
    being finite.
    """
    if targets not in ("labels", "predicted"):
        raise ValueError(f"targets={targets!r} is unknown; choose labels or predicted")
    folder = Path(folder) if folder is not None else None
    asked = [classifier.fingerprint(), classifier.question(), list(classifier.layers)]
    identity = [config.to_json(), *asked, targets, list(source.class_names), *source_identity(source)]
    if hasattr(infill, "fingerprint"):
        identity.append(infill.fingerprint())
    run = json.dumps(identity)
    if load_finished(folder, "masker", run) is not None:
        return load_trained(folder, classifier)
    check_classifier(classifier, differentiable=True)
    source = aligned(source, classifier) if targets == "labels" else source
    source = decided(source, classifier, every=targets == "predicted", workers=workers)
    device = torch.device(device) if device is not None else classifier.mean.device
    learner = _learner(classifier, config).to(device).to(memory_format=classifier.memory_format)
    masker = _masker(classifier, config, seed=config.seed)
    masker = masker.to(device).to(memory_format=classifier.memory_format).train()
    learns = config.mode == "CA"
    # With a sigmoid head the classifier that was given says once more which answers are yes: a source names one class alone.
    teacher = learner.copied().eval().requires_grad_(False) if learns and classifier.head == "sigmoid" else None
    # Eval mode in CA, too: masked images, mostly one colour, would move the batch-norm statistics away from those of
    # the clean images that the masker reads, and pool members judge in eval mode as well. Only the weights learn.
    learner.eval().requires_grad_(learns)

    steps = config.steps or steps_for(config.passes, len(source), config.batch_size)
    plan = Plan(steps, config.batch_size, config.seed, config.checkpoint_every, workers)
    adam = torch.optim.Adam(masker.parameters(), lr=config.masker_lr, weight_decay=config.weight_decay)
    rates = [(adam, config.masker_lr)]
    state: dict[str, Stateful] = {"masker": masker, "adam": adam}
    pool = None
    if learns:
        sgd = torch.optim.SGD(
            learner.parameters(), lr=config.classifier_lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
        rates.append((sgd, config.classifier_lr))
        pool = ClassifierPool(
            learner,
            every=config.pool_every,
            size=config.pool_size,
            historic=config.prob_historic,
            seed=config.seed,
            first=config.first_snapshot,
        )
        state |= {"classifier": learner, "sgd": sgd, "pool": pool}

    crops = functools.partial(_crops, config)

    def step(number: int, batch: Batch) -> dict[str, float]:
        images = batch.images.to(device, memory_format=classifier.memory_format)
        images = images if source.own_crops else apply_crops(images, crops(number))
        labels = batch.labels.to(device)
        judge = None
        if pool is not None:
            pool.remember(number, learner)
            judge = pool.draw(number)
        for optimiser, rate in rates:
            optimiser.zero_grad(set_to_none=True)
            for group in optimiser.param_groups:
                group["lr"] = rate * learning_rate_factor(number, steps, config.schedule, config.warmup)
        answers = None
        if teacher is not None:
            with torch.no_grad():
                answers = (teacher(images) > 0).float().scatter_(1, labels[:, None], 1.0)
        aside = _Aside(learner) if learns and config.classifier_steps == 2 else None
        numbers = compute_gradients(
            config, learner, masker, images, labels, judge=judge, infill=infill, answers=answers, after_clean=aside
        )
        numbers["gradient norm"] = torch.nn.utils.clip_grad_norm_(masker.parameters(), config.clip_norm)
        if aside is not None:
            aside.step(sgd)
        for optimiser, _ in rates:
            optimiser.step()
        return dict(zip(numbers, torch.stack(list(numbers.values())).tolist(), strict=True))

    history = run_steps(
        plan,
        source,
        step,
        state,
        identity=run,
        folder=folder,
        progress=progress,
        description=f"masker ({config.mode})",
        crops=crops if source.own_crops else None,
    )
    for part in (masker, learner):  # the losses are those before the last step
        try:
            check_finite(part.state_dict(), f"the {type(part).__name__.lower()} after the last step")
        except ValueError as error:
            raise Diverged(f"{error}; lower the learning rate or use precision='fp32'") from None
    trained = Trained(masker.eval(), learner.eval().requires_grad_(False), config, history)
    if folder is not None:
        _save(folder, trained, classifier, run)
    return trained


def _crops(config: MaskerConfig, step: int) -> Crops:
    """The random crops of a step's batch."""
    return draw_crops(config.batch_size, stream(config.seed, "augment", step), scale=config.crop_scale)


class _Aside:
    """Puts the gradients of the clean images aside while those of the masked ones are computed, for two steps a batch."""

    def __init__(self, classifier: Classifier) -> None:
        self.weights = list(classifier.parameters())
        self.clean: list[Tensor | None] = []

    def __call__(self) -> None:
        self.clean = self._exchanged([None] * len(self.weights))

    def step(self, optimiser: torch.optim.Optimizer) -> None:
        """Step on the clean gradients; those of the masked images are back in place afterwards."""
        masked = self._exchanged(self.clean)
        optimiser.step()
        self._exchanged(masked)

    def _exchanged(self, gradients: list[Tensor | None]) -> list[Tensor | None]:
        before = [weight.grad for weight in self.weights]
        for weight, gradient in zip(self.weights, gradients, strict=True):
            weight.grad = gradient
        return before


def _save(folder: Path, trained: Trained, classifier: Classifier, run: str) -> None:
    """Everything a reader needs, `masker.pt` last: it is what marks the run as finished."""
    write_json(folder / "config.json", trained.config.to_json())
    if trained.config.mode == "CA":
        save_checkpoint(folder / "classifier.pt", {"weights": trained.classifier.weights()})
    told = {
        "name": classifier.name,
        "fingerprint": classifier.fingerprint(),
        "layers": list(classifier.layers),
        "question": classifier.question(),
    }
    content = {"config": trained.config.to_json(), "classifier": told, "weights": trained.masker.state_dict()}
    seed = trained.config.seed
    save_finished(folder, "masker", run, content, history=trained.history, seed=seed, classifier=classifier)


def _masker(classifier: Classifier, config: MaskerConfig, *, seed: int = 0) -> Masker:
    """The network that `config` describes, untrained, in float64 for a classifier in float64."""
    told = {"condition": config.condition, "condition_at": config.condition_at}
    masker = masker_for(classifier, config.layers, width=config.width, seed=seed, **told)
    return masker.to(torch.promote_types(torch.float32, classifier.dtype))


def _learner(classifier: Classifier, config: MaskerConfig) -> Classifier:
    """A copy of the classifier; one that is to learn (CA) in float32 at the least, as half precision rounds small steps away."""
    learner = classifier.copied()
    return learner.float() if config.mode == "CA" and learner.dtype in (torch.half, torch.bfloat16) else learner


_EXPLAINED = {"name", "fingerprint", "layers"}
"""What a saved masker says of the classifier that its run started from."""


def load_trained(folder: str | Path, classifier: Classifier) -> Trained:
    """A finished run, read back. `classifier` is the one that the run started from.

    Raises FileNotFoundError when there is no finished run, ValueError when a file is damaged or the classifier is another.
    """
    folder = Path(folder)
    path = folder / "masker.pt"
    saved = load_checkpoint(path)
    explained = saved.get("classifier")
    if not {"config", "weights"} <= saved.keys() or not isinstance(explained, dict) or not _EXPLAINED <= explained.keys():
        raise ValueError(f"{path} is not a masker that train_masker saved; give the folder of one")
    if explained["fingerprint"] != classifier.fingerprint():
        raise ValueError(
            f"{folder} was trained on classifier {explained['name']} ({explained['fingerprint'][:12]}), "
            f"not on {classifier.name} ({classifier.fingerprint()[:12]}); give that one"
        )
    if explained.get("question", classifier.question()) != classifier.question():
        raise ValueError(
            f"{folder} was trained on {explained['name']} with another head, other classes or another output; give the "
            "classifier as it was"
        )
    if explained["layers"] != list(classifier.layers):
        raise ValueError(
            f"{folder} was trained on layers {', '.join(explained['layers'])} of {classifier.name}, not on "
            f"{', '.join(classifier.layers)}; give the classifier with those layers"
        )
    config = MaskerConfig.from_json(saved["config"])
    masker = _masker(classifier, config)
    restore_weights(masker, saved, path)
    masker = masker.to(classifier.mean.device).to(memory_format=classifier.memory_format)
    learner = _learner(classifier, config).to(memory_format=classifier.memory_format)
    if config.mode == "CA":
        restore_weights(learner, load_checkpoint(folder / "classifier.pt"), folder / "classifier.pt")
    return Trained(masker.eval(), learner.eval().requires_grad_(False), config, read_history(folder))
