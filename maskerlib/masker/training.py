"""Training a masker (equation 2), with the classifier fixed (FIX) or training beside it (CA).

One step, in this order: the pool says who judges; every gradient is computed (`maskerlib.masker.step`); then, and only then,
weights move.

Several processes (`maskerlib.running.distributed`) share each batch: what they computed is added up in between, once, and every
one of them then takes the same step.
"""

import contextlib
from pathlib import Path

import torch
from torch import Tensor

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.networks import compiled, with_gradients
from maskerlib.data.augment import apply_crops
from maskerlib.data.loading import moved
from maskerlib.data.samples import Batch, Source
from maskerlib.masker.config import MaskerConfig
from maskerlib.masker.pool import ClassifierPool
from maskerlib.masker.run import MaskerRun, check_config
from maskerlib.masker.step import compute_gradients
from maskerlib.masker.trained import Trained
from maskerlib.masking.infills import Infill
from maskerlib.running.distributed import share
from maskerlib.training.loop import Plan, Stateful, learning_rate_factor, run_steps, steps_for
from maskerlib.training.whole_batch import add_up_step, whole_batch

__all__ = ["train_masker"]


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
    compile: str | None = None,
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
            None keeps nothing. Several processes share it, and it may go on with another number of them.
        device: None means the classifier's.
        compile: a backend of torch.compile, such as "inductor", through which the views are judged, two of the three passes of a
            batch; None runs them as written. The weights are the same but for rounding.
        workers: processes that load samples.

    Raises ValueError when the folder holds another run or cannot be written to, for more processes than images a batch, for a
    configuration of another training, a classifier that returns no logits or a source that does not suit it (see
    `maskerlib.classifiers.doors`); `maskerlib.training.loop.Diverged` when a number stops being finite.
    """
    check_config(config, MaskerConfig)
    run = MaskerRun(classifier, source, config, targets=targets, folder=folder, infill=infill)
    if (finished := run.load()) is not None:
        return finished
    source = run.prepared(workers)
    device = torch.device(device) if device is not None else classifier.mean.device
    learner = config.learner(classifier).to(device)
    masker = config.new_masker(classifier).to(device).train()
    learns = config.mode == "CA"
    # With a sigmoid head the classifier that was given says once more which answers are yes: a source names one class alone.
    teacher = learner.copied().eval().requires_grad_(False) if learns and classifier.head == "sigmoid" else None
    # Eval mode in CA, too: masked images, mostly one colour, would move the batch-norm statistics away from those of
    # the clean images that the masker reads, and pool members judge in eval mode as well. Only the weights learn.
    learner.eval().requires_grad_(learns)

    mine = share()
    steps = config.steps or steps_for(config.passes, len(source), config.batch_size)
    plan = Plan(steps, config.batch_size, config.seed, config.checkpoint_every, workers)
    adam = torch.optim.Adam(masker.parameters(), lr=config.masker_lr, weight_decay=config.weight_decay)
    rates: list[tuple[torch.optim.Optimizer, float]] = [(adam, config.masker_lr)]
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

    def step(number: int, batch: Batch) -> dict[str, float]:
        images = moved(batch.images, device).to(memory_format=classifier.memory_format)
        images = images if source.own_crops else apply_crops(images, run.crops(number).part(mine))
        labels = moved(batch.labels, device)
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
            config,
            learner,
            masker,
            images,
            labels,
            judge=judge,
            infill=infill,
            answers=answers,
            after_clean=aside,
            batch_size=config.batch_size,
        )
        add_up_step([optimiser for optimiser, _ in rates], numbers, aside.clean if aside is not None else ())
        numbers["gradient norm"] = torch.nn.utils.clip_grad_norm_(masker.parameters(), config.clip_norm)
        if aside is not None:
            aside.step(sgd)
        for optimiser, _ in rates:
            optimiser.step()
        return dict(zip(numbers, torch.stack(list(numbers.values())).tolist(), strict=True))

    judges = [learner.network] + ([pool.judge.network] if pool is not None else [])
    faster = contextlib.nullcontext() if compile is None else compiled(judges, compile)
    with whole_batch(masker), faster:
        history = run_steps(
            plan,
            source,
            step,
            state,
            identity=run.origin.run,
            folder=run.folder,
            device=device,
            progress=progress,
            description=f"masker ({config.mode})",
            crops=run.crops if source.own_crops else None,
        )
    return run.finished(masker, learner, history)


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
