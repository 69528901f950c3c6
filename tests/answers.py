"""What the tests of the checkers share."""

from collections.abc import Callable

__all__ = ["refused"]


def refused(checker: Callable[[object], str | None], answer: object, part: str) -> None:
    """The checker gives a hint, and `part` is in it."""
    hint = checker(answer)
    assert isinstance(hint, str) and part in hint, hint
