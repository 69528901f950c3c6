"""Several processes on one run, as torchrun starts them: which one this is, and what they add up. On one process, nothing.

    from maskerlib.running.distributed import together

    with together() as device:
        trained = train_masker(classifier.to(device), source, config, folder="runs/ca")

Nothing is wrapped: every process makes the same calls, takes its share of each batch (`share`), and what was computed is added
up (`add_up`). A run that adds up sums and not means is the same however unequal the shares are. The first process writes, all
read: a folder lies on a disk that all of them see.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

__all__ = [
    "Abandoned",
    "add_up",
    "agreed",
    "anyone",
    "first",
    "gathered",
    "rank",
    "share",
    "summed",
    "together",
    "wait",
    "world",
]

Value = TypeVar("Value")


class Abandoned(RuntimeError):
    """Another process of the run has stopped; what it said itself is the cause."""


@contextlib.contextmanager
def together(device: torch.device | str | None = None) -> Iterator[torch.device]:
    """Join the processes that torchrun started, and part from them at the end; yields the device of this one.

    device: None means the GPU of this process's number on its machine, or the CPU where there is none. CPUs talk through gloo,
        GPUs through NCCL.

    Without torchrun, or for one process, nothing is joined, and the device alone is chosen.

    Raises ValueError where there are more processes on a machine than GPUs.
    """
    local, count = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if device is None and torch.cuda.is_available():
        if local >= torch.cuda.device_count():
            raise ValueError(
                f"process {local} of this machine has no GPU, there are {torch.cuda.device_count()}; start as many as there are: "
                f"--nproc-per-node {torch.cuda.device_count()}"
            )
        device = torch.device("cuda", local)
    chosen = torch.device("cpu" if device is None else device)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if count == 1 or world() > 1:
        yield chosen
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo")
    yield chosen  # after an error the group is left as it is: to part from processes that wait elsewhere could hang
    wait()
    dist.destroy_process_group()


def world() -> int:
    """How many processes share the run; 1 unless they were joined."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, 0 for the first."""
    return dist.get_rank() if world() > 1 else 0


def first() -> bool:
    """Whether this is the process that writes, and shows how far the run is."""
    return rank() == 0


def share() -> slice:
    """The positions of a batch, or of anything in order, that this process takes: its own number, and every world()th after it.

    >>> list(range(5)[share()])
    [0, 1, 2, 3, 4]
    """
    return slice(rank(), None, world())


def add_up(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its sum over the processes: one all-reduce, whatever their number. They lie on one device.

    Every process gives as many, of the same shapes. Raises `Abandoned` where another process has stopped.
    """
    if world() == 1 or not tensors:
        return
    kind = tensors[0].dtype
    for tensor in tensors:
        kind = torch.promote_types(kind, tensor.dtype)
    flat = torch.cat([tensor.detach().to(kind).flatten() for tensor in tensors])
    with _asking():
        dist.all_reduce(flat)
    with torch.no_grad():
        for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.detach().copy_(total.view(tensor.shape))


def summed(values: Tensor) -> Tensor:
    """The sum of `values` over the processes, through which gradients flow: each process's from the losses of all.

    Raises `Abandoned` where another process has stopped.
    """
    if world() == 1:
        return values
    total: Tensor = _Summed.apply(values)
    return total


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        return _total(values)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return _total(gradient)


def _total(values: Tensor) -> Tensor:
    total = values.detach().clone(memory_format=torch.contiguous_format)
    with _asking():
        dist.all_reduce(total)
    return total


def gathered(value: Value) -> list[Value]:
    """The value of every process, in their order, on every process. Any object that can be pickled."""
    if world() == 1:
        return [value]
    found: list[Any] = [None] * world()
    with _asking():
        dist.all_gather_object(found, value)
    return found


def agreed(value: object, what: str, mend: str) -> None:
    """Raises ValueError on every process, naming `what`, the values and the mend, unless all of them have the same value."""
    values = gathered(value)
    if any(other != values[0] for other in values):
        raise ValueError(f"the {len(values)} processes differ in {what}: {', '.join(map(str, values))}; {mend}")


def anyone(flag: bool) -> bool:
    """Whether the flag is up on any process."""
    if world() == 1:
        return flag
    wire = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
    count = torch.tensor([float(flag)], device=wire)
    add_up([count])
    return bool(count > 0)


def wait() -> None:
    """Wait until every process is here."""
    anyone(False)


@contextlib.contextmanager
def _asking() -> Iterator[None]:
    """What a lost connection says, as one clear error."""
    try:
        yield
    except RuntimeError as error:  # gloo's own, or DistBackendError of NCCL
        reason = " ".join(str(error).split())[:120]
        raise Abandoned(
            f"process {rank()} of {world()}: another process of this run has stopped, and what it said is the cause ({reason}); "
            "mend that and run the same command again, a run with a folder goes on from its last checkpoint"
        ) from None
