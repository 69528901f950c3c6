"""What a value must be: the fields of a configuration, an argument of a function, and weights that are finite.

A configuration comes from code, from JSON, YAML, a command line or the cell of a notebook, and only the first of these has
types. `check_fields` holds every field against its annotation, so that a text "False" is no True and a 1 no layer;
`check_value` does the same for a single argument. A `Rule` says what a value has to be besides.

    >>> check_value("steps", 0, whole(1))
    Traceback (most recent call last):
    ValueError: steps=0 must be a whole number of 1 or more, at most 1000000000
"""

import dataclasses
import math
import reprlib
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from torch import Tensor

__all__ = [
    "LARGEST",
    "LARGEST_BATCH",
    "SEED",
    "WIDEST",
    "Rule",
    "above",
    "between",
    "changes",
    "check_fields",
    "check_finite",
    "check_names",
    "check_value",
    "one_of",
    "rising",
    "shown",
    "whole",
]

LARGEST = 10**9
"""More steps, or images, than any run has: beyond it a number is a mistake."""

LARGEST_BATCH = 2**20
"""More images than fit in any memory at once."""

WIDEST = 2**16
"""More channels than a network reduces a layer to."""

_short = reprlib.Repr()
_short.maxlevel, _short.maxtuple, _short.maxlist, _short.maxdict = 3, 12, 12, 8
_short.maxstring = _short.maxother = _short.maxlong = 80


@dataclass(frozen=True)
class Rule:
    """What a value has to satisfy beyond its type, and how an error says so, after "name=value".

    kind: the type of a value that comes without an annotation.
    """

    holds: Callable[[Any], bool]
    says: str
    kind: Any = Any


def one_of(values: Sequence[str | int | None]) -> Rule:
    """One of a few names or numbers."""
    choices = tuple(values)
    return Rule(lambda value: value in choices, f"is unknown; choose one of {', '.join(map(str, choices))}")


def whole(least: int, most: int = LARGEST) -> Rule:
    """A whole number from `least` to `most`, which is more than any run could use: a slip of the finger is found."""
    return Rule(lambda value: least <= value <= most, f"must be a whole number of {least} or more, at most {most}", int)


SEED = Rule(lambda value: -(2**63) <= value < 2**63, "must be a whole number of at most 63 bits", int)
"""A seed: what a generator of PyTorch takes."""


def above(least: float, *, included: bool = False) -> Rule:
    """A finite number above `least`, or from `least` on where it is `included`."""
    says = f"must be a finite number {f'of {least:g} or more' if included else f'above {least:g}'}"
    return Rule(lambda value: value >= least if included else value > least, says, float)


def between(least: float, most: float, *, open_below: bool = False, open_above: bool = False) -> Rule:
    """A number from `least` to `most`; `open_below` leaves `least` out, `open_above` leaves out `most`.

    >>> between(0, 1, open_below=True).says
    'must lie above 0 and at most at 1'
    """
    says = f"must lie between {least:g} and {most:g}"
    if open_below or open_above:
        lowest, highest = "above" if open_below else "at least at", "below" if open_above else "at most at"
        says = f"must lie {lowest} {least:g} and {highest} {most:g}"

    def holds(value: float) -> bool:
        return least <= value <= most and not (open_below and value == least) and not (open_above and value == most)

    return Rule(holds, says, float)


def rising(*, zero: bool = False) -> Rule:
    """Two shares, the smallest and the largest: above 0, or from 0 on where `zero` is True, up to 1."""
    first = "0 <= smallest" if zero else "0 < smallest"
    return Rule(
        lambda pair: (pair[0] >= 0 if zero else pair[0] > 0) and pair[0] <= pair[1] <= 1,
        f"must satisfy {first} <= largest <= 1",
        tuple[float, float],
    )


def check_fields(configuration: Any, **rules: Rule) -> None:
    """Hold every field of a frozen dataclass against its annotation, and against its rule where `rules` has one.

    For `__post_init__`. A bool is no number and a number no bool; a whole number will do for a float, which must be finite; a
    list will do for a tuple, and becomes one, so that what was written as JSON and read again is equal; NumPy's numbers become
    Python's. Rules do not apply to None, where the annotation admits it.

    Raises ValueError naming the field, its value and what it must be.
    """
    annotations = typing.get_type_hints(type(configuration))
    for entry in dataclasses.fields(configuration):
        value = getattr(configuration, entry.name)
        fitting = _held(entry.name, value, annotations[entry.name], rules.get(entry.name))
        if fitting is not value:
            object.__setattr__(configuration, entry.name, fitting)


def check_value(name: str, value: Any, rule: Rule) -> None:
    """Hold the argument `name` of a function against `rule`, as `check_fields` holds a field.

    Raises ValueError naming the argument, its value and what it must be.
    """
    _held(name, value, rule.kind, rule)


def _held(name: str, value: Any, annotation: Any, rule: Rule | None) -> Any:
    """`value`, or what it becomes; ValueError where it does not fit the annotation, or breaks the rule."""
    try:
        fitting = _fit(value, annotation)
        good = rule is None or (fitting is None and annotation is not Any) or rule.holds(fitting)
    except _Misfit:
        good = False
    if not good:
        says = f"must be {_words(annotation)}" if rule is None else rule.says
        none = ", or None" if types.NoneType in typing.get_args(annotation) and "None" not in says else ""
        raise ValueError(f"{name}={shown(tuple(value) if isinstance(value, list) else value)} {says}{none}")
    return fitting


class _Misfit(Exception):
    """A value is not what its annotation says."""


def _fit(value: Any, annotation: Any) -> Any:
    """`value`, or what it becomes as a field of that annotation; `_Misfit` where it is something else."""
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        for member in inside:
            try:
                return _fit(value, member)
            except _Misfit:
                continue
        raise _Misfit
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise _Misfit
        kinds = inside[:1] * len(value) if inside[-1] is Ellipsis else inside
        if len(kinds) != len(value):
            raise _Misfit
        fitting = tuple(_fit(item, kind) for item, kind in zip(value, kinds, strict=True))
        return value if isinstance(value, tuple) and all(a is b for a, b in zip(value, fitting, strict=True)) else fitting
    if annotation in (int, float):
        return _number(value, annotation)
    if not isinstance(value, origin or annotation):
        raise _Misfit
    return value


def _number(value: Any, kind: type) -> int | float:
    if isinstance(value, bool) or not isinstance(value, Integral if kind is int else Real):
        raise _Misfit
    number = int(value) if isinstance(value, Integral) else float(value)
    try:
        finite = math.isfinite(number)
    except OverflowError:  # a whole number that no float can hold
        finite = False
    if kind is float and not finite:
        raise _Misfit
    return number


_WORDS = {
    bool: "True or False",
    int: "a whole number",
    float: "a finite number",
    str: "a text",
    dict: "names and values",
    types.NoneType: "None",
}


def _words(annotation: Any) -> str:
    """An annotation in plain English."""
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_words(member) for member in inside if member is not types.NoneType)
    if origin is tuple and inside[-1] is Ellipsis:
        return f"a list, each item of it {_words(inside[0])}"
    if origin is tuple:
        return f"a list of {len(inside)}: {', '.join(map(_words, inside))}"
    return _WORDS.get(origin or annotation) or f"of type {getattr(annotation, '__name__', annotation)}"


def shown(value: Any) -> str:
    """`value` for an error message: its repr, cut where it is long or deep.

    >>> shown([[[[0.5]]], *range(1000)])
    '[[[[...]]], 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ...]'
    """
    try:
        return _short.repr(value)
    except Exception:  # a repr may do anything; so may a whole number of ten thousand digits
        return f"<{type(value).__name__}>"


def check_names(kind: type, values: Any) -> dict[str, Any]:
    """`values` as a dict that the dataclass `kind` can be made of.

    Raises ValueError when it is no mapping, or has a name that is no field of `kind`; the message lists the fields.
    """
    if not isinstance(values, Mapping):
        raise ValueError(
            f"{kind.__name__} is read from names and values, not from {shown(values)}; give a dict, or a file that holds one"
        )
    known = [entry.name for entry in dataclasses.fields(kind)]
    for name in values:
        if name not in known:
            raise ValueError(f"{kind.__name__} has no parameter {shown(name)}; choose from {', '.join(known)}")
    return dict(values)


def changes(configuration: Any) -> dict[str, Any]:
    """The fields of a frozen dataclass that differ from their defaults, as plain values, ready for JSON.

    It is how a run recognises its configuration: a field that is added later, with a default, changes no run that was made
    before.
    """
    found: dict[str, Any] = {}
    for entry in dataclasses.fields(configuration):
        value = getattr(configuration, entry.name)
        default = entry.default if entry.default_factory is dataclasses.MISSING else entry.default_factory()
        if value != default:
            found[entry.name] = changes(value) if dataclasses.is_dataclass(value) else value
    return found


def check_finite(tensors: Mapping[str, Tensor], what: str) -> None:
    """Refuse weights that hold NaN or infinity: every number that came out of them would be noise, or NaN.

    tensors: such as a module's `state_dict()`; `what` says whose they are. Raises ValueError naming the first bad one.
    """
    for name, value in tensors.items():
        if (value.is_floating_point() or value.is_complex()) and not value.isfinite().all():
            raise ValueError(f"weight {name!r} of {what} holds NaN or infinity; load its weights again")
