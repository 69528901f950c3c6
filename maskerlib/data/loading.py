"""Loader processes: batches made ahead of their use, in any number of processes, the same as in one.

What goes wrong in a worker is raised where the batch is asked for, as if there were none: the error itself and, where a worker
died, one that says at what. A worker lives as long as the loading, over all passes of a training.
"""

import contextlib
import os
import pickle
import re
import signal
import traceback
from collections.abc import Generator, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

__all__ = ["AHEAD", "Batched", "InBatches", "loading", "moved"]

AHEAD = 2
"""Batches that each worker has ready before they are asked for."""

T_co = TypeVar("T_co", covariant=True)


class Batched(Protocol[T_co]):
    """Batches by number. What it holds is sent to the workers."""

    def __getitem__(self, number: int) -> T_co: ...

    def names(self, number: int) -> Sequence[str]:
        """What the images of a batch are called, known without reading them."""
        ...


class InBatches:
    """A source (`maskerlib.data.samples.Source`) as a list of batches in order, made by the source's own fast `batch`."""

    def __init__(self, source: Any, batch_size: int):
        self.source, self.batch_size = source, batch_size

    def __len__(self) -> int:
        return -(-len(self.source) // self.batch_size)

    def _positions(self, number: int) -> range:
        start = number * self.batch_size
        return range(start, min(start + self.batch_size, len(self.source)))

    def __getitem__(self, number: int) -> Any:
        return self.source.batch(self._positions(number))

    def names(self, number: int) -> list[str]:
        return [self.source.name(position) for position in self._positions(number)]


@contextlib.contextmanager
def loading(
    batched: Batched[T_co], numbers: Sequence[int], *, workers: int = 0, device: torch.device | None = None
) -> Iterator[Iterator[T_co]]:
    """An iterator over the batches of these numbers, in their order.

    Args:
        workers: processes that make them, each `AHEAD` batches in advance; 0 makes them here, when they are asked for.
        device: where they go next. For CUDA they lie in pinned memory, so that nobody waits while they are `moved`.

    Raises, where a batch is asked for, what making it raised; RuntimeError, with the images that it was at, when a worker died,
    there or elsewhere in the context.
    """
    now = torch.full((workers, 2), -1).share_memory_()  # of each worker: its process, and the batch that it is at
    loader = DataLoader(
        _Reported(batched, now),
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        prefetch_factor=AHEAD if workers else None,
        worker_init_fn=_ignore_interrupts,
        pin_memory=device is not None and device.type == "cuda",
    )
    try:
        with contextlib.closing(_raised(loader)) as batches:  # it ends the workers, whatever else still holds them
            yield batches
    except RuntimeError as error:
        if not workers or "DataLoader worker" not in str(error):
            raise
        raise RuntimeError(_death(str(error), batched, now.tolist())) from None


def moved(tensor: Tensor, device: torch.device | str) -> Tensor:
    """The tensor on a device; CUDA copies it by itself from pinned memory, and what is asked of it next waits for that."""
    return tensor.to(device, non_blocking=torch.device(device).type == "cuda")


class _Failed:
    """An error on its way from a worker."""

    def __init__(self, error: Exception):
        if not isinstance(error, OSError | ValueError):
            error.add_note(f"in a loader process:\n{traceback.format_exc()}")
        try:
            pickle.loads(pickle.dumps(error))
            self.error = error
        except Exception:  # whatever a class of exceptions that cannot be sent does
            self.error = RuntimeError(f"{type(error).__name__}: {error}")


class _Reported(Dataset[Any]):
    """Batches by number that say, in a worker, which is being made, and hand an error over in place of the batch."""

    def __init__(self, batched: Batched[Any], now: Tensor):
        self.batched, self.now = batched, now

    def __getitem__(self, number: int) -> Any:
        worker = get_worker_info()
        if worker is None:
            return self.batched[number]
        self.now[worker.id] = torch.tensor([os.getpid(), number])
        try:
            return self.batched[number]
        except Exception as error:
            return _Failed(error)


def _raised(batches: DataLoader[Any]) -> Generator[Any, None, None]:
    for batch in batches:
        if isinstance(batch, _Failed):
            raise batch.error
        yield batch


def _death(message: str, batched: Batched[Any], now: list[list[int]]) -> str:
    """What is known of the worker that torch says has died, in one line."""
    dead = {int(process) for process in re.findall(r"\d+", message.partition("\n")[0])}
    how = re.search(r"killed by signal: (\w+( \w+)*)", message)
    told = f"a loader process died ({how[0] if how else 'it ended without a word'})"
    numbers = [number for process, number in now if number >= 0 and process in dead]
    mend = "take fewer workers or a smaller batch if memory ran out, also that which they share (/dev/shm); workers=0 shows more"
    if not numbers:
        return f"{told}; {mend}"
    names = batched.names(numbers[0])
    few = ", ".join(names[:8])
    return f"{told} at batch {numbers[0]}, of {few}{f' and {len(names) - 8} more' if len(names) > 8 else ''}; {mend}"


def _ignore_interrupts(worker: int) -> None:
    """A terminal sends Ctrl-C to the workers as well, which the process that they work for may still need for a batch."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
