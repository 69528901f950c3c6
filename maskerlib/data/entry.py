"""What a module of this room says of the data source that it offers by name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from maskerlib.data.samples import Source
from maskerlib.running.registry import Entry

__all__ = ["SourceEntry"]


@dataclass(frozen=True)
class SourceEntry(Entry):
    """A source that can be asked for by name; `make(*told, size=, ...)` gives it.

    example: writes the smallest data set of its layout into an empty folder, and opens it at 32 pixels per side; a source that
        brings its own images writes nothing.
    """

    example: Callable[[Path], Source]
