"""Ctrl-C in a long loop: the first lets the step that runs come to its end, the second stops at once."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["Interrupted", "interruptible"]


class Interrupted(KeyboardInterrupt):
    """A loop was stopped by Ctrl-C; the message says where, and how to go on. In a notebook it is all that is shown."""

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Within it, a first SIGINT only makes the function that is yielded return True; a second raises KeyboardInterrupt.

    Where SIGINT has another meaning than Python's own, or outside of the main thread, everything stays as it is.
    """
    asked = False
    before = signal.getsignal(signal.SIGINT)

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, before)

    ours = before is signal.default_int_handler and threading.current_thread() is threading.main_thread()
    if ours:
        signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: asked
    finally:
        if ours:
            signal.signal(signal.SIGINT, before)
