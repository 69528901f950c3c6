"""Random streams without state: every draw follows from a seed, what it is for, and when.

A run that is killed and started again asks for the stream of step 1234 by its number. There is no generator whose state
would have to be saved, and adding a draw in one place moves none in another.
"""

import hashlib

import torch

__all__ = ["stream"]


def stream(seed: int, *names: str | int) -> torch.Generator:
    """A CPU generator that depends on `seed` and `names` alone.

    >>> torch.rand(1, generator=stream(0, "augment", 1234)) == torch.rand(1, generator=stream(0, "augment", 1234))
    tensor([True])
    """
    text = "/".join(str(part) for part in (seed, *names))
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1
    return torch.Generator().manual_seed(number)
