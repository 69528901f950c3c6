"""Values read from text, as the parameter that they are for is annotated: on a command line, or from papermill's."""

import ast
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["LITERALS", "as_kind", "literal", "read_as"]

LITERALS = ("bool", "int", "float", "str", "list", "tuple", "dict", "None")
"""What the kinds of literal are called here."""

_EXAMPLES = {
    "bool": "True or False",
    "int": "a whole number such as 3",
    "float": "a number such as 0.5",
    "list": """a list such as '["stage3", "stage4"]'""",
    "tuple": """a list such as '["stage3", "stage4"]'""",
    "dict": """a dict such as '{"name": 1}'""",
}
_SPELLINGS = {"true": "True", "false": "False", "null": "None"}  # of JSON and YAML
_KINDS = {types.NoneType: "None", Sequence: "list", Mapping: "dict"}


def literal(text: str) -> Any:
    """The Python literal that `text` spells, in the spelling of JSON as well. Raises ValueError where it spells none."""
    try:
        return ast.literal_eval(_SPELLINGS.get(text, text))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        raise ValueError(f"{text!r} is no literal") from None


def as_kind(value: Any, kinds: Sequence[str]) -> Any:
    """`value` as one of these kinds of literal: an int as a float, a list as a tuple, where only those fit.

    >>> as_kind(20, ("float", "None"))
    20.0

    Raises ValueError where it is of none of them.
    """
    kind = "None" if value is None else type(value).__name__
    if kind in kinds:
        return value
    if kind == "int" and "float" in kinds:
        return float(value)
    if kind == "list" and "tuple" in kinds:
        return tuple(value)
    if kind == "tuple" and "list" in kinds:
        return list(value)
    raise ValueError(f"{value!r} is of type {kind}, expected {' or '.join(kinds)}")


def read_as(annotation: Any, value: Any, name: str) -> Any:
    """`value` of a parameter whose type is `annotation` (`int`, `float | None`, `tuple[str, ...]`), read from text if need be.

    papermill's own command line knows numbers, True, False and None, and passes all else as text: `-p layers '["stage4"]'` is
    the text of a list, and "false" is a text as well, which Python takes for true. Where the annotation takes no text, a text is
    read as a literal; every other value is returned as it is, for its owner to check.

    Raises ValueError, naming the parameter, what it takes and the text, for a text that is no literal of those types. What no
    literal spells, such as a function, comes from Python alone.

    >>> read_as(tuple[str, ...], '["stage4"]', "layers"), read_as(bool, "false", "rerun")
    (('stage4',), False)
    """
    union = isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union
    wanted = tuple(_kind(member) for member in (typing.get_args(annotation) if union else (annotation,)))
    if not isinstance(value, str) or "str" in wanted:
        return value
    try:
        return as_kind(literal(value), wanted)
    except ValueError:
        takes = " or ".join(wanted)
        examples = [_EXAMPLES[kind] for kind in wanted if kind in _EXAMPLES] or ["it from Python"]
        raise ValueError(f"{name}={value!r} is a text, and {name} takes {takes}; give {examples[0]}") from None


def _kind(annotation: Any) -> str:
    """What a literal of one type is called here: `tuple[str, ...]` is a "tuple"."""
    kind = typing.get_origin(annotation) or annotation
    return _KINDS.get(kind) or str(kind.__name__)
