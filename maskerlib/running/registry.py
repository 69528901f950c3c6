"""What can be asked for by name, on a command line or in a configuration: methods, classifiers, data sources.

Each room that offers such things has a `registry` that lists the modules of the room which define one; the module says the
rest in its `ENTRY`. So a new method, say, is one file and one line, and every command, table and test that goes through the
registry knows it.
"""

import difflib
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

__all__ = ["Entry", "Registry"]


@dataclass(frozen=True)
class Entry:
    """One thing that can be asked for.

    name: what it is called: "grad-cam"; or, where it needs to be told something, with a word in capitals for that behind a
        colon: "masker:FOLDER". It is then asked for as "masker:runs/mine".
    says: what it is, in a line.
    make: what makes it; what is told comes first.
    """

    name: str
    says: str
    make: Callable[..., Any]


E = TypeVar("E", bound=Entry)


class Registry(Mapping[str, E], Generic[E]):
    """{name: entry} of the modules listed, in their order; they are imported when something is first looked up.

    kind: what is listed, for error messages: "method".  package: where the modules are.  modules: their names.
    """

    def __init__(self, kind: str, package: str, modules: Sequence[str]) -> None:
        self.kind, self._package, self._modules = kind, package, tuple(modules)
        self._entries: dict[str, E] = {}

    def _known(self) -> dict[str, E]:
        if not self._entries:
            entries = [importlib.import_module(f"{self._package}.{module}").ENTRY for module in self._modules]
            self._entries = {entry.name: entry for entry in entries}
        return self._entries

    def __getitem__(self, name: str) -> E:
        return self._known()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known())

    def __len__(self) -> int:
        return len(self._known())

    def find(self, asked: str) -> tuple[E, tuple[str, ...]]:
        """The entry that is asked for, and what it is told: (told,), or () where it takes nothing.

        Raises ValueError for an unknown name, with a near one and all that are known, and for a colon with nothing behind it.
        """
        head, colon, told = asked.partition(":")
        for name, entry in self._known().items():
            own, takes, word = name.partition(":")
            if head == own and bool(colon) == bool(takes):
                if takes and not told.strip():
                    raise ValueError(f"{self.kind} {asked!r} names no {word.lower()}; give {name}")
                return entry, (told,) if takes else ()
        near = difflib.get_close_matches(asked, self, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"there is no {self.kind} {asked!r}; {hint}choose {', '.join(self)}")

    def lines(self) -> list[str]:
        """A line each: its name and what it is."""
        width = max(22, *(len(name) + 2 for name in self))
        return [f"{name:{width}}{entry.says}" for name, entry in self.items()]
