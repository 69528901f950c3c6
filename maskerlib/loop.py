"""The loop that every training of this library runs in: seeded batches, a step, and a checkpoint that survives a kill.

Nothing random is kept between steps (see `maskerlib.seeds`), so a checkpoint is the step's number, the history and the
state of what learns. A run that was killed goes on from its last checkpoint and ends with the same weights, bit for bit
on one CPU machine, as one that never was.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from maskerlib.classifiers import Classifier
from maskerlib.files import hash_tensors, load_checkpoint, make_folder, remove_leftovers, save_checkpoint
from maskerlib.samples import Batch, Source
from maskerlib.seeds import stream

__all__ = [
    "Diverged",
    "History",
    "Plan",
    "Stateful",
    "check_start",
    "clear_checkpoint",
    "run_steps",
    "source_identity",
    "learning_rate_factor",
    "steps_for",
]

History = dict[str, list[float]]
_CHECKPOINT = "checkpoint.pt"


class Stateful(Protocol):
    """What learns: modules, optimisers, the pool."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any: ...


class Diverged(RuntimeError):
    """A loss or a gradient stopped being a finite number; the message names the step and the first cause found."""


@dataclass(frozen=True)
class Plan:
    """How long a run takes and in what order it sees the data.

    Args:
        steps: number of batches.
        batch_size: images a batch. Batches run through one shuffled pass after another and may span two.
        seed: of the order of the images.
        checkpoint_every: steps between checkpoints.
        workers: processes that load samples; 0 loads in this one.
    """

    steps: int
    batch_size: int
    seed: int = 0
    checkpoint_every: int = 100
    workers: int = 0

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("batch_size", 1), ("checkpoint_every", 1), ("workers", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} must be {least} or more")


def steps_for(passes: float, images: int, batch_size: int) -> int:
    """Steps that see `images` images `passes` times, rounded up."""
    return math.ceil(passes * images / batch_size)


def learning_rate_factor(step: int, steps: int, schedule: str, warmup: float = 0.0) -> float:
    """What the learning rates are multiplied by at `step` of `steps`.

    "steps" is the study's schedule: 1, 0.1 and 0.01, each for a third of the run. "cosine" falls smoothly from 1 to 0, which
    serves short runs better: two thirds of the study's steps hardly move the weights. Over the first `warmup` share of the
    steps either is multiplied by a line that rises to 1: a large rate can push an untrained masker to masks that are empty
    everywhere, where no gradient leads back.
    """
    rising = min(1.0, (step + 1) / (warmup * steps)) if warmup > 0 else 1.0
    if schedule == "cosine":
        return rising * 0.5 * (1 + math.cos(math.pi * step / steps))
    return rising * 0.1 ** min(2, step * 3 // steps)


def source_identity(source: Source) -> list[str | int]:
    """How a run recognises its data: kind, number, every label, and the pixels of the first and the last image.

    Raises ValueError for an empty source.
    """
    if len(source) == 0:
        raise ValueError(f"{type(source).__name__} holds no images; give a source that does")
    ends = source.batch([0, len(source) - 1])
    return [type(source).__name__, len(source), hash_tensors({"images": ends.images, "labels": source.labels})]


def check_start(classifier: Classifier, source: Source, *, unlabelled: bool) -> None:
    """Refuse, before the first step, what would mislead a whole run or stop it in its middle.

    Raises ValueError for a weight that is not finite, for a label that is no class of `classifier` (-1, unknown, passes
    where `unlabelled` is True), and for a source whose classes have other names.
    """
    for name, value in classifier.state_dict().items():
        if value.is_floating_point() and not value.isfinite().all():
            raise ValueError(f"weight {name!r} of {classifier.name} holds NaN or infinity; load its weights again")
    names = tuple(source.class_names)
    if names and classifier.class_names and names != classifier.class_names:
        raise ValueError(
            f"{classifier.name} has {len(classifier.class_names)} classes, the source has {len(names)} or other names, so "
            "its labels mean something else; build the classifier with class_names=source.class_names"
        )
    classes = classifier.class_count()
    least = -1 if unlabelled else 0
    bad = ((source.labels < least) | (source.labels >= classes)).nonzero()
    if len(bad):
        raise ValueError(
            f"label {int(source.labels[bad[0]])} of image {int(bad[0])} is none of the {classes} classes of "
            f"{classifier.name}; labels go from {least} to {classes - 1}"
        )


def run_steps(
    plan: Plan,
    source: Source,
    step: Callable[[int, Batch], Mapping[str, float]],
    state: Mapping[str, Stateful],
    *,
    identity: str,
    folder: Path | None = None,
    progress: bool = True,
    description: str = "training",
) -> History:
    """Call `step(number, batch)` for each step of `plan`; return the history of what it returned.

    Args:
        step: one update; returns named numbers. A non-finite one among them stops the run with `Diverged`.
        state: everything that `step` changes, by name; saved and restored together.
        identity: what the run is (configuration, classifier, data). A checkpoint of another run is refused.
        folder: where the checkpoint lives; None keeps none.
        progress: show a bar with the live numbers.

    Raises ValueError for an empty source, a folder that cannot be written to, or a checkpoint that is damaged or belongs
    to another run; `Diverged` for a number or an image that is not finite.
    """
    if len(source) == 0:
        raise ValueError("the source holds no images; give one that does")
    start, history = 0, {}
    if folder is not None:
        make_folder(folder)
        remove_leftovers(folder)
        start, history = _restore(folder / _CHECKPOINT, state, identity)
    bar = tqdm(total=plan.steps, initial=start, disable=not progress, desc=description, leave=False)
    with bar, torch.random.fork_rng():
        for number, batch in enumerate(_batches(plan, source, start), start=start):
            torch.manual_seed(stream(plan.seed, "step", number).initial_seed())  # for dropout and its kind
            _refuse_bad(batch, number)
            numbers = step(number, batch)
            bad = [f"{name} is {value}" for name, value in numbers.items() if not math.isfinite(value)]
            if bad:
                raise Diverged(f"step {number}: {', '.join(bad)}; lower the learning rate or use precision='fp32'")
            for name, value in numbers.items():
                history.setdefault(name, []).append(float(value))
            bar.set_postfix({name: f"{value:.3f}" for name, value in numbers.items()}, refresh=False)
            bar.update()
            done = number + 1
            if folder is not None and (done % plan.checkpoint_every == 0 or done == plan.steps):
                content = {name: part.state_dict() for name, part in state.items()}
                save_checkpoint(
                    folder / _CHECKPOINT, {"identity": identity, "step": done, "history": history, "state": content}
                )
    return history


def _refuse_bad(batch: Batch, number: int) -> None:
    bad = ~batch.images.isfinite().flatten(1).all(dim=1)
    if bad.any():
        name = batch.names[int(bad.nonzero()[0])]
        raise Diverged(f"step {number}: image {name} holds NaN or infinity; remove or mend it")


def clear_checkpoint(folder: Path) -> None:
    """Remove the checkpoint of a run whose result has been saved."""
    (folder / _CHECKPOINT).unlink(missing_ok=True)


def _restore(path: Path, state: Mapping[str, Stateful], identity: str) -> tuple[int, History]:
    if not path.exists():
        return 0, {}
    saved = load_checkpoint(path)
    if saved.get("identity") != identity:
        raise ValueError(
            f"{path} belongs to a run with another configuration, classifier or data; use another folder or delete it"
        )
    for name, part in state.items():
        part.load_state_dict(saved["state"][name])
    return int(saved["step"]), saved["history"]


class _Batches(Dataset[Batch]):
    """Batches of `source` by step number; a DataLoader worker can compute any of them."""

    def __init__(self, plan: Plan, source: Source) -> None:
        self.plan, self.source = plan, source
        self._passes: dict[int, torch.Tensor] = {}

    def _order(self, number: int) -> torch.Tensor:
        if number not in self._passes:
            self._passes = {key: order for key, order in self._passes.items() if key == number - 1}
            generator = stream(self.plan.seed, "order", number)
            self._passes[number] = torch.randperm(len(self.source), generator=generator)
        return self._passes[number]

    def __getitem__(self, step: int) -> Batch:
        first = step * self.plan.batch_size
        positions = range(first, first + self.plan.batch_size)
        return self.source.batch(
            [int(self._order(at // len(self.source))[at % len(self.source)]) for at in positions]
        )


def _batches(plan: Plan, source: Source, start: int) -> Iterator[Batch]:
    loader = DataLoader(
        _Batches(plan, source),  # type: ignore[arg-type]
        batch_size=None,
        sampler=range(start, plan.steps),
        num_workers=plan.workers,
        persistent_workers=False,
    )
    yield from loader
