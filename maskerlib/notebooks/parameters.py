"""The parameters of a notebook: the literals of its one cell tagged `parameters`, with their names and types.

papermill replaces them by name, and only warns when there is no such name. Here every name and value is
checked before anything runs.
"""

import ast
import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskerlib.running.literals import LITERALS, as_kind, literal, read_as

__all__ = ["Parameter", "check_parameters", "parse_parameters", "read_as", "read_parameters"]


@dataclass(frozen=True)
class Parameter:
    """One assignment of a `parameters` cell: its name, its default, and the literal types that it takes."""

    name: str
    default: Any
    types: tuple[str, ...]

    def check(self, value: Any) -> Any:
        """Return `value` as this parameter takes it: an int as a float, a path as a string, where only those fit.

        >>> Parameter("steps", 300.0, ("float",)).check(20)
        20.0

        Raises ValueError naming the value and the types.
        """
        value = os.fspath(value) if isinstance(value, os.PathLike) else value
        try:
            return as_kind(value, self.types)
        except ValueError:
            wanted, default = " or ".join(self.types), repr(self.default)
            raise ValueError(f"parameter {self.name!r} takes {wanted}, got {value!r}; its default is {default}") from None

    def parse(self, text: str) -> Any:
        """Read `text`, from a command line, as a literal of this parameter's types, else as a string if it takes one.

        Raises ValueError naming the text and the types.

        >>> Parameter("layers", [], ("list", "None")).parse('["stage3", "stage4"]')
        ['stage3', 'stage4']
        """
        if self.types == ("str",):
            return text
        try:
            return self.check(literal(text))
        except ValueError:
            return self.check(text)


def read_parameters(notebook: str | os.PathLike[str]) -> dict[str, Parameter]:
    """Read the cell tagged `parameters`: name -> Parameter, in the order of the cell; empty without such a cell.

    The types of a parameter are those of its annotation (`limit: int | None = None`) or of its type comment
    (`limit = None  # type: int|None`, which papermill's own command line reads as well, as it does not the other), else that of
    its default; `None` without either takes every literal.

    Raises FileNotFoundError, or ValueError when the file is no notebook, has several such cells, or the cell
    holds anything but assignments of literals.
    """
    import nbformat  # takes seconds

    path = Path(notebook)
    if not path.is_file():
        raise FileNotFoundError(f"no notebook at {path}; give the path of an .ipynb file")
    try:
        cells = nbformat.read(path, as_version=4).cells
    except Exception as error:  # nbformat raises many kinds here: JSON, validation, decoding
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise ValueError(f"{path} is not a notebook ({reason}); give the path of an .ipynb file") from None
    tagged = [cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) > 1:
        raise ValueError(f"{path} has {len(tagged)} cells tagged 'parameters', expected one; join them")
    try:
        statements = _statements(tagged[0] if tagged else "")
    except SyntaxError as error:
        raise ValueError(f"{path}, parameters cell, line {error.lineno}: {error.msg}; mend it") from None
    parameters = {}
    for node in statements:
        try:
            parameter = _parameter(node)
        except (AttributeError, TypeError, ValueError):
            line = ast.unparse(node).splitlines()[0][:80]
            wrong = f"{line!r} does not assign a literal to a name"
            raise ValueError(f"{path}, parameters cell: {wrong}; move it to the next cell") from None
        parameters[parameter.name] = parameter
    return parameters


def _statements(source: str) -> list[ast.stmt]:
    try:
        return ast.parse(source, type_comments=True).body
    except SyntaxError:  # also for a comment that begins as one of a type does, where none can be
        return ast.parse(source).body


def _parameter(node: Any) -> Parameter:
    """The parameter that a statement defines; AttributeError, TypeError or ValueError if it defines none."""
    if isinstance(node, ast.AnnAssign):
        target, types = node.target, _annotated(node.annotation)
    else:
        (target,), types = node.targets, _commented(node.type_comment)
    if not isinstance(target, ast.Name):
        raise TypeError(f"{ast.unparse(target)} is no name")
    default = ast.literal_eval(node.value)
    if not types:
        types = LITERALS if default is None else (type(default).__name__,)
    return Parameter(target.id, default, types)


def _annotated(annotation: ast.expr) -> tuple[str, ...]:
    """The literal types in an annotation such as `float | None` or `list[int]`."""
    if isinstance(annotation, ast.BinOp):
        return _annotated(annotation.left) + _annotated(annotation.right)
    if isinstance(annotation, ast.Subscript):
        return _annotated(annotation.value)
    name = ast.unparse(annotation)
    return (name,) if name in LITERALS else ()


def _commented(comment: str | None) -> tuple[str, ...]:
    """The literal types in a type comment such as `str|None  # what it is`: as for papermill, it ends at the first blank."""
    words = (comment or "").split()
    try:
        return _annotated(ast.parse(words[0], mode="eval").body) if words else ()
    except SyntaxError:
        return ()


def check_parameters(notebook: str | os.PathLike[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Check values against the `parameters` cell of `notebook`, and return them as the cell takes them.

    Raises ValueError for a name that the cell does not define (with the nearest one, and all of them), for a
    value of another type than the parameter's, and what `read_parameters` raises.
    """
    known = read_parameters(notebook)
    return {name: _find(notebook, known, name).check(value) for name, value in given.items()}


def parse_parameters(notebook: str | os.PathLike[str], given: Mapping[str, str]) -> dict[str, Any]:
    """`check_parameters` for values that are still text."""
    known = read_parameters(notebook)
    return {name: _find(notebook, known, name).parse(text) for name, text in given.items()}


def _find(notebook: str | os.PathLike[str], known: Mapping[str, Parameter], name: str) -> Parameter:
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(f"{notebook} has no parameter {name!r}; {hint}it has: {', '.join(known) or 'none'}")
