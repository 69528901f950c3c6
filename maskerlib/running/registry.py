"""What can be asked for by name, on a command line or in a configuration: methods, classifiers, data sources.

Each room that offers such things has a `registry` that lists the modules of the room which define one; the module says the
rest in its `ENTRY`. So a new method, say, is one file and one line (and a line in the room's map, which a test asks for), and
every command, table and test that goes through the registry knows it.
"""

import dataclasses
import difflib
import functools
import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from maskerlib.running.literals import read_as

__all__ = ["Entry", "Registry", "check_options", "with_options_of"]


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

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and self.name and isinstance(self.says, str) and callable(self.make)):
            given = f"{self.name!r}, {self.says!r}, {self.make!r}"
            raise ValueError(f"an entry of {given}: expected a name, a line that says what it is, and a function that makes it")


E = TypeVar("E", bound=Entry)
F = TypeVar("F", bound=Callable[..., Any])


class Registry(Mapping[str, E], Generic[E]):
    """{name: entry} of the modules listed, in their order; they are imported when something is first looked up.

    Args:
        kind: what is listed, for error messages: "method".
        entry: the class of every `ENTRY`.
        package: where the modules are.  modules: their names.

    Raises ValueError, when something is first looked up, for a module without such an `ENTRY`, and for two with one name.
    """

    def __init__(self, kind: str, entry: type[E], package: str, modules: Sequence[str]) -> None:
        self.kind, self._entry = kind, entry
        self._places = tuple(f"{package}.{module}" for module in modules)

    @functools.cached_property
    def _entries(self) -> dict[str, E]:
        entries: dict[str, E] = {}
        places: dict[str, str] = {}
        for place in self._places:
            entry = getattr(importlib.import_module(place), "ENTRY", None)
            if not isinstance(entry, self._entry):
                found = "no ENTRY" if entry is None else f"an ENTRY that is {type(entry).__name__}"
                mend = f"define ENTRY = {self._entry.__name__}({_fields(self._entry)}) there"
                raise ValueError(f"{place} has {found}; {mend}")
            if entry.name in entries:
                both = f"{places[entry.name]} and {place}"
                raise ValueError(f"{both} both define the {self.kind} {entry.name!r}; rename one")
            entries[entry.name], places[entry.name] = entry, place
        return entries

    def __getitem__(self, name: str) -> E:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, asked: str) -> tuple[E, tuple[str, ...]]:
        """The entry that is asked for, and what it is told: (told,), or () where it takes nothing.

        Raises ValueError for an unknown name, with a near one and all that are known, and for a colon with nothing behind it.
        """
        head, colon, told = asked.partition(":")
        for name, entry in self.items():
            own, takes, word = name.partition(":")
            if (head, colon) == (own, takes):
                if takes and not told.strip():
                    raise ValueError(f"{self.kind} {asked!r} names no {word.lower()}; give {name}")
                return entry, (told,) if takes else ()
        near = difflib.get_close_matches(asked, self, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"there is no {self.kind} {asked!r}; {hint}choose {', '.join(self)}")

    def made(self, asked: str, options: Mapping[str, Any], offered: Mapping[str, Any] | None = None) -> Any:
        """What the entry that is asked for makes of what it is told, all of `options`, and as much of `offered` as it takes.

        Raises ValueError as `find` does, and for an option that it does not have, unless it takes any and checks them itself.
        """
        entry, told = self.find(asked)
        owner = f"{self.kind} {asked!r}"
        parameters = self._parameters(asked)
        taken = {each.name for each in parameters if each.kind is not each.VAR_KEYWORD}
        given = {key: value for key, value in (offered or {}).items() if key in taken}
        if len(taken) == len(parameters):
            check_options(owner, options, taken - given.keys())
        missing = [
            each.name
            for each in parameters
            if each.default is each.empty
            and each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
            and each.name not in {*given, *options}
        ]
        if missing:
            says = f"the make of its ENTRY needs {' and '.join(missing)}, which nobody gives"
            raise ValueError(f"{owner}: {says}; give defaults, or a factory that returns what is asked for")
        found = entry.make(*told, **given, **options)
        if found is None:
            raise ValueError(f"{owner}: the make of its ENTRY returned None; let it return what it made")
        return found

    def options(self, asked: str, offered: Iterable[str] = ()) -> dict[str, inspect.Parameter]:
        """{name: parameter} of what the entry that is asked for takes beside what it is told and what is `offered`, in its order.

        The parameter has the option's default, and its annotation. Raises ValueError as `find` does.
        """
        taken = [each for each in self._parameters(asked) if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)]
        return {each.name: each for each in taken if each.name not in tuple(offered)}

    def read(self, asked: str, texts: Iterable[tuple[str, str]], offered: Iterable[str] = ()) -> dict[str, Any]:
        """Options of the entry that is asked for from (option, text) of a command line, each read as its factory declares it.

        Raises ValueError as `find` does, for an option that there is not (with those that there are) or that is given twice, and
        for a text that is no value of the option's type.
        """
        known = self.options(asked, offered)
        read: dict[str, Any] = {}
        for option, text in texts:
            owner = f"{self.kind} {asked!r}"
            check_options(owner, [option], known)
            if option in read:
                raise ValueError(f"{owner}: {option} is given twice, as {read[option]!r} and {text!r}; give it once")
            read[option] = read_as(known[option].annotation, text, option)
        return read

    def _parameters(self, asked: str) -> list[inspect.Parameter]:
        entry, told = self.find(asked)
        return list(inspect.signature(entry.make).parameters.values())[len(told) :]

    def lines(self) -> list[str]:
        """A line each: its name and what it is."""
        width = 2 + max(20, *map(len, self))
        return [f"{name:{width}}{entry.says}" for name, entry in self.items()]


def _fields(entry: type[Entry]) -> str:
    """What an entry of that class has to be given, as in a call: "name, says, make, kind=..."."""
    needed = [each.name for each in dataclasses.fields(entry) if each.default is each.default_factory is dataclasses.MISSING]
    return ", ".join(name if name in ("name", "says", "make") else f"{name}=..." for name in needed)


def with_options_of(function: Callable[..., Any], **defaults: Any) -> Callable[[F], F]:
    """Decorates a factory that hands its `**options` on to `function`: its signature names them, with their types and defaults.

    They are the keyword-only parameters of `function` that the factory does not have itself; `defaults` are those of the factory
    where they differ. So whoever asks what options there are (`Registry.options`, `help`) is told all of them.

    >>> def search(image, *, steps: int = 100, lr: float = 0.1): ...
    >>> @with_options_of(search, lr=0.5)
    ... def method(*, seed: int = 0, **options): ...
    >>> print(inspect.signature(method))
    (*, seed: int = 0, steps: int = 100, lr: float = 0.5)
    """

    def named(factory: F) -> F:
        own = inspect.signature(factory)
        kept = [each for each in own.parameters.values() if each.kind is not each.VAR_KEYWORD]
        further = [
            each.replace(default=defaults.get(each.name, each.default))
            for each in inspect.signature(function).parameters.values()
            if each.kind is each.KEYWORD_ONLY and each.name not in own.parameters
        ]
        factory.__signature__ = own.replace(parameters=[*kept, *further])  # type: ignore[attr-defined]  # inspect looks there
        return factory

    return named


def check_options(owner: str, given: Iterable[str], known: Iterable[str]) -> None:
    """ValueError, beginning with `owner` and with those that there are, for an option given that is not among the known.

    >>> check_options("a box", ["size"], ["area"])
    Traceback (most recent call last):
    ValueError: a box has no option 'size'; its options are area
    """
    known = sorted(known)
    for option in given:
        if option not in known:
            raise ValueError(f"{owner} has no option {option!r}; its options are {', '.join(known) or 'none'}")
