"""The loop that every training of this library runs in: seeded batches, a step, and a checkpoint that survives a kill.

Nothing random is kept between steps (see `maskerlib.running.seeds`), so a checkpoint is the step's number, the history and the
state of what learns. A run that was killed goes on from its last checkpoint and ends with the same weights, bit for bit
on one CPU machine, as one that never was.
"""

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from maskerlib.classifiers.doors import check_images
from maskerlib.data.augment import Crops
from maskerlib.data.loading import loading
from maskerlib.data.samples import Batch, Source
from maskerlib.running.checks import LARGEST_BATCH, SEED, check_fields, check_value, one_of, whole
from maskerlib.running.distributed import agreed, anyone, first, share, world
from maskerlib.running.files import hash_tensors, make_folder, remove_leftovers
from maskerlib.running.interruption import Interrupted, interruptible
from maskerlib.running.processes import sole_use
from maskerlib.running.progress import report
from maskerlib.running.seeds import part_of_batch, stream
from maskerlib.training.checkpoint import Checkpoint, History, Stateful

__all__ = [
    "SCHEDULES",
    "Diverged",
    "History",
    "Interrupted",
    "Plan",
    "Stateful",
    "learning_rate_factor",
    "run_steps",
    "source_identity",
    "steps_for",
]

SCHEDULES = ("steps", "cosine")
"""How learning rates fall; see `learning_rate_factor`."""

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
        workers: processes that load samples, over the whole run; 0 loads in this one. The batches are the same.
    """

    steps: int
    batch_size: int
    seed: int = 0
    checkpoint_every: int = 100
    workers: int = 0

    def __post_init__(self) -> None:
        check_fields(
            self, steps=whole(1), batch_size=whole(1, LARGEST_BATCH), seed=SEED, checkpoint_every=whole(1), workers=whole(0)
        )


def steps_for(passes: float, images: int, batch_size: int) -> int:
    """Steps that see `images` images `passes` times, rounded up.

    >>> steps_for(1.5, images=100, batch_size=32)
    5
    """
    return math.ceil(passes * images / batch_size)


def learning_rate_factor(step: int, steps: int, schedule: str, warmup: float = 0.0) -> float:
    """What the learning rates are multiplied by at `step` of `steps`.

    "steps" is the study's schedule: 1, 0.1 and 0.01, each for a third of the run. "cosine" falls smoothly from 1 to 0, which
    serves short runs better: two thirds of the study's steps hardly move the weights. Over the first `warmup` share of the
    steps either is multiplied by a line that rises to 1: a large rate can push an untrained masker to masks that are empty
    everywhere, where no gradient leads back.

    Raises ValueError for another schedule.

    >>> [round(learning_rate_factor(step, 90, "steps", warmup=0.1), 3) for step in (0, 8, 30, 60)]
    [0.111, 1.0, 0.1, 0.01]
    """
    check_value("schedule", schedule, one_of(SCHEDULES))
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


def run_steps(
    plan: Plan,
    source: Source,
    step: Callable[[int, Batch], Mapping[str, float]],
    state: Mapping[str, Stateful],
    *,
    identity: str,
    folder: Path | None = None,
    crops: Callable[[int], Crops] | None = None,
    device: torch.device | None = None,
    progress: bool = True,
    description: str = "training",
) -> History:
    """Call `step(number, batch)` for each step of `plan`; return the history of what it returned.

    Args:
        step: one update; returns named numbers. A non-finite one among them stops the run with `Diverged`.
        state: everything that `step` changes, by name; saved and restored together.
        identity: what the run is (configuration, classifier, data). A checkpoint of another run is refused.
        folder: where the checkpoint lives; None keeps none. One process at a time trains into it.
        crops: the crops of a step by its number: batches are then `source.cropped(indices, crops(number))`. Workers compute
            them, so it is a function that can be pickled: one of a module, or a `functools.partial` of one.
        device: where the steps take their batches (`maskerlib.data.loading.moved`); for CUDA they lie in pinned memory.
        progress: show a bar with the live numbers. `maskerlib.running.progress` reports them to a file in any case, where one
            is named.

    Where there are several processes (`maskerlib.running.distributed`), each gets its share of every batch, and `step` has to add
    up what they compute (`maskerlib.training.whole_batch`).

    A first Ctrl-C lets the step that runs end and saves it, a second stops at once. Of several processes the first writes.

    Raises ValueError for an empty source, a folder that cannot be written to or is in use, more processes than images a batch,
    or a checkpoint that is damaged or belongs to another run; `Diverged` for a number or an image that is not finite;
    `Interrupted` after Ctrl-C; what reading an image raises, in a worker as well; RuntimeError, with the images that it was at,
    where a worker dies.
    """
    if len(source) == 0:
        raise ValueError("the source holds no images; give one that does")
    if plan.batch_size < world():
        raise ValueError(
            f"batch_size={plan.batch_size} for {world()} processes: each of them takes one image of a batch at the least; start "
            f"{plan.batch_size} or fewer, or make the batch larger"
        )
    start, history, checkpoint = 0, History(), None
    with contextlib.ExitStack() as stack:
        if folder is not None:
            if first():
                make_folder(folder)
                stack.enter_context(sole_use(folder))
                remove_leftovers(folder)
            checkpoint = Checkpoint(folder, identity)
            start, history = checkpoint.restore(state, plan.steps)
        agreed(identity, "what the run is", "give all of them the same configuration, classifier and source")
        agreed(start, "the step to go on from", "their folder has to lie on a disk that all of them see")
        asked = stack.enter_context(interruptible())
        options = {"initial": start, "disable": not (progress and first()), "desc": description, "leave": False}
        bar = stack.enter_context(tqdm(total=plan.steps, **options))
        stack.enter_context(torch.random.fork_rng())
        done = kept = start
        mine = share()
        _report(description, done, plan.steps)
        try:
            batched = _Batches(plan, source, crops, mine)
            loaded = loading(batched, range(start, plan.steps), workers=plan.workers, device=device)
            for number, batch in enumerate(stack.enter_context(loaded), start=start):
                torch.manual_seed(stream(plan.seed, "step", number).initial_seed())  # for dropout and its kind
                _refuse_bad(batch, number)
                with part_of_batch(mine, plan.batch_size):
                    numbers = step(number, batch)
                bad = [f"{name} is {value}" for name, value in numbers.items() if not math.isfinite(value)]
                if bad:
                    raise Diverged(f"step {number}: {', '.join(bad)}; lower the learning rate or use precision='fp32'")
                for name, value in numbers.items():
                    history.setdefault(name, []).append(float(value))
                bar.set_postfix({name: f"{value:.3f}" for name, value in numbers.items()}, refresh=False)
                bar.update()
                done, stop = number + 1, anyone(asked())
                _report(description, done, plan.steps, numbers)
                if checkpoint is not None and (stop or done % plan.checkpoint_every == 0 or done == plan.steps):
                    if first():
                        checkpoint.save(state, done, history)
                    kept = done
                if stop:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            if checkpoint is None:
                how = "nothing is kept without a folder; with one, the same call goes on where it was stopped"
            else:
                how = f"run the same call again and it goes on from {'there' if kept == done else f'step {kept}'}"
            raise Interrupted(f"{description} stopped at step {done} of {plan.steps}; {how}") from None
    return history


def _report(*what: Any) -> None:
    if first():
        report(*what)


def _refuse_bad(batch: Batch, number: int) -> None:
    try:
        check_images(batch.images, names=batch.names)
    except ValueError as error:
        raise Diverged(f"step {number}: {error}") from None


class _Batches:
    """Batches of `source` by step number, `mine` of each; a loader worker can compute any of them."""

    def __init__(self, plan: Plan, source: Source, crops: Callable[[int], Crops] | None, mine: slice) -> None:
        self.plan, self.source, self.crops, self.mine = plan, source, crops, mine
        self._passes: dict[int, torch.Tensor] = {}

    def _order(self, number: int) -> torch.Tensor:
        if number not in self._passes:
            self._passes = {key: order for key, order in self._passes.items() if key == number - 1}
            generator = stream(self.plan.seed, "order", number)
            self._passes[number] = torch.randperm(len(self.source), generator=generator)
        return self._passes[number]

    def _indices(self, step: int) -> list[int]:
        begin = step * self.plan.batch_size
        positions = range(begin, begin + self.plan.batch_size)[self.mine]
        return [int(self._order(at // len(self.source))[at % len(self.source)]) for at in positions]

    def __getitem__(self, step: int) -> Batch:
        indices = self._indices(step)
        if self.crops is None:
            return self.source.batch(indices)
        return self.source.cropped(indices, self.crops(step).part(self.mine))

    def names(self, step: int) -> list[str]:
        return [self.source.name(index) for index in self._indices(step)]
