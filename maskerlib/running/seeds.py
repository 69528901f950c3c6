"""Random streams without state: every draw follows from a seed, what it is for, and when.

A run that is killed and started again asks for the stream of step 1234 by its number. There is no generator whose state
would have to be saved, and adding a draw in one place moves none in another.

A process that has a part of a batch draws for the whole of it and keeps what belongs to its images (`for_each`). So what an
image meets follows from its position in the batch, however many processes share it.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import torch
from torch import Tensor

__all__ = ["for_each", "part_of_batch", "stream"]

_PART: ContextVar[tuple[slice, int] | None] = ContextVar("part of a batch", default=None)


def stream(seed: int, *names: str | int) -> torch.Generator:
    """A CPU generator that depends on `seed` and `names` alone.

    >>> torch.rand(1, generator=stream(0, "augment", 1234)) == torch.rand(1, generator=stream(0, "augment", 1234))
    tensor([True])
    """
    text = "/".join(str(part) for part in (seed, *names))
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1
    return torch.Generator().manual_seed(number)


@contextlib.contextmanager
def part_of_batch(rows: slice, count: int) -> Iterator[None]:
    """Within it, `for_each` knows that the images at hand are those at `rows` of a batch of `count`."""
    before = _PART.set((rows, count))
    try:
        yield
    finally:
        _PART.reset(before)


def for_each(draw: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
    """`draw(like)`, such as `torch.rand_like`, for values (B, ...) with one row an image: from torch's global generator.

    Within `part_of_batch` the rows are those that a draw for the whole batch has there.

    >>> images, _ = torch.zeros(3, 2), torch.manual_seed(0)
    >>> whole, _ = for_each(torch.rand_like, images), torch.manual_seed(0)
    >>> with part_of_batch(slice(1, None, 2), 3):
    ...     torch.equal(for_each(torch.rand_like, images[1::2]), whole[1::2])
    True
    """
    part = _PART.get()
    if part is None or len(like) != len(range(part[1])[part[0]]):
        return draw(like)
    rows, count = part
    # Laid out in memory as the images are, for this is the order in which a draw fills it.
    last = like.dim() == 4 and not like.is_contiguous() and like.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    whole = torch.empty((count, *like.shape[1:]), dtype=like.dtype, device=like.device, memory_format=layout)
    return draw(whole)[rows]
