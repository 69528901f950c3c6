"""The parameters cell of the notebook that runs a setting, written from `Setting`: papermill reads literals, and no class."""

import dataclasses
import difflib
import json
import re
import types
import typing
from pathlib import Path
from typing import Any

from maskerlib.experiments.settings import BESIDE, Setting
from maskerlib.running.files import atomic_path, read_json

__all__ = ["differing", "parameters_cell", "write_cell"]


_NAME_AND_COMMENT = re.compile(r"(\w+)\b.*?(?:  # type: \S+)?(  # (?!type: ).*)?")
"""A line of the cell: its name, and what its comment says but the type."""


def parameters_cell(source: str) -> str:
    """The cell `source` with the names, types and defaults of `Setting`, in its order.

    Blank lines and comments stay with their names, and the notebook's own names, `BESIDE`, as they are. A new parameter comes
    after the one that is before it in `Setting`; what is none any more goes.
    """
    kept: dict[str, tuple[str, str]] = {}
    own, gap = [], ""
    for line in source.splitlines():
        if not line.strip():
            gap = "\n"
            continue
        name, comment = _NAME_AND_COMMENT.fullmatch(line).groups(default="")  # type: ignore[union-attr]  # all lines assign
        kept[name] = gap, comment
        own += [gap + line] if name in BESIDE else []
        gap = ""
    hints = typing.get_type_hints(Setting)
    lines = []
    for field in dataclasses.fields(Setting):
        gap, comment = kept.get(field.name, ("", ""))
        kind, value = _type(hints[field.name]), _literal(field.default)
        typed = f"{field.name} = {value}  # type: {kind}" if "|" in kind else f"{field.name}: {kind} = {value}"
        lines.append(f"{gap}{typed}{comment}")
    return "\n".join(lines + own)


def differing(notebook: Path) -> list[str]:
    """The lines of the notebook's cell that are not those of `Setting`, marked "-", and those that should be there, "+"."""
    cell = _tagged(read_json(notebook))
    source = "".join(cell["source"])
    changes = difflib.ndiff(source.splitlines(), parameters_cell(source).splitlines())
    return [line for line in changes if line.startswith(("- ", "+ "))]


def write_cell(notebook: Path) -> None:
    """Write the cell anew, and leave all else of the notebook as it is."""
    content = read_json(notebook)
    cell = _tagged(content)
    cell["source"] = parameters_cell("".join(cell["source"])).splitlines(keepends=True)
    with atomic_path(notebook) as partial:
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _tagged(notebook: dict[str, Any]) -> dict[str, Any]:
    (cell,) = [cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", [])]
    return typing.cast(dict[str, Any], cell)


def _type(annotation: Any) -> str:
    """An annotation as a cell spells it: papermill knows lists, and no tuples.

    A union it reads in a type comment alone, and calls a parameter whose annotation has one unknown.
    """
    if isinstance(annotation, types.UnionType):
        return "|".join(map(_type, typing.get_args(annotation)))
    if annotation is types.NoneType:
        return "None"
    return "list" if typing.get_origin(annotation) is tuple else str(annotation.__name__)


def _literal(value: Any) -> str:
    return json.dumps(value) if isinstance(value, str) else repr(value)
