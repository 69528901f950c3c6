"""What may be asked of a source: positions that it has, and a size that images can have."""

import operator
from collections.abc import Sequence

from torch import Tensor

__all__ = ["as_indices", "as_size", "check_index"]


def as_size(size: int | Sequence[int]) -> tuple[int, int]:
    """(height, width) of pixels per side, or of (height, width). ValueError for anything else, or below 1.

    >>> as_size(96), as_size((96, 128))
    ((96, 96), (96, 128))
    """
    try:
        height, width = (operator.index(side) for side in (size if isinstance(size, Sequence) else (size, size)))
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1 or isinstance(size, bool):
        raise ValueError(f"size={size!r}: expected pixels per side, 1 or more, or (height, width)")
    return height, width


def check_index(index: int, length: int) -> int:
    """`index` counted from the front, as lists do; IndexError (which ends a for loop) when it is outside.

    >>> check_index(-1, 6)
    5
    """
    if not -length <= index < length:
        valid = f"expected {-length} to {length - 1}" if length else "it holds none"
        raise IndexError(f"index {index} of a source of {length} samples: {valid}")
    return index % length


def as_indices(indices: Sequence[int] | Tensor, length: int) -> list[int]:
    """Positions in a source of `length` samples, counted from the front.

    IndexError for one that is outside; TypeError for what are no whole numbers, such as a mask of True and False.
    """
    try:
        listed = indices.tolist() if isinstance(indices, Tensor) else list(indices)
        if any(isinstance(index, bool) for index in listed):
            raise TypeError
        return [check_index(operator.index(index), length) for index in listed]
    except TypeError:
        kind = str(indices.dtype) if isinstance(indices, Tensor) else type(indices).__name__
        raise TypeError(
            f"indices of a source: expected a sequence of whole numbers, such as range(6) or [3], not {kind} "
            f"{str(indices)[:60]!r}; for a mask of True and False give mask.nonzero().flatten()"
        ) from None
