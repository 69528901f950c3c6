"""What a module of this room says of the data source that it offers by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maskerlib.data.samples import Source
from maskerlib.running.registry import Entry

__all__ = ["SourceEntry"]


@dataclass(frozen=True)
class SourceEntry(Entry):
    """A source that can be asked for by name; `make(*told, size=, ...)` gives it.

    example: writes the smallest data set of its layout into an empty folder, and opens it at 32 pixels per side; a source that
        brings its own images writes nothing.
    splits: {"train": options, "val": options} of what is trained on and what is measured on, where the source names its splits.
    """

    example: Callable[[Path], Source]
    splits: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
