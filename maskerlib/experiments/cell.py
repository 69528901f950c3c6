"""The parameters cell of the notebook that runs a setting, written from `Setting`: papermill reads literals, and no class."""

import dataclasses
import difflib
import json
import types
import typing
from pathlib import Path
from typing import Any

from maskerlib.experiments.settings import BESIDE, Setting
from maskerlib.running.files import atomic_path, read_json

__all__ = ["differing", "parameters_cell", "write_cell"]


def parameters_cell(source: str) -> str:
    """The cell `source` with the names, types and defaults of `Setting`, in its order.

    Blank lines and comments stay with their names, and the notebook's own names, `BESIDE`, as they are. A new parameter comes
    after the one that is before it in `Setting`; what is none any more goes.
    """
    kept: dict[str, tuple[str, str]] = {}
    own, gap = [], ""
    for line in source.splitlines():
        name, _, rest = line.partition(": ")
        if not name.strip():
            gap = "\n"
            continue
        kept[name] = gap, "".join(rest.partition("  # ")[1:])
        own += [gap + line] if name in BESIDE else []
        gap = ""
    hints = typing.get_type_hints(Setting)
    lines = []
    for field in dataclasses.fields(Setting):
        gap, comment = kept.get(field.name, ("", ""))
        lines.append(f"{gap}{field.name}: {_type(hints[field.name])} = {_literal(field.default)}{comment}")
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
    """An annotation as a cell spells it: papermill knows lists, and no tuples."""
    if isinstance(annotation, types.UnionType):
        return " | ".join(map(_type, typing.get_args(annotation)))
    if annotation is types.NoneType:
        return "None"
    return "list" if typing.get_origin(annotation) is tuple else str(annotation.__name__)


def _literal(value: Any) -> str:
    return json.dumps(value) if isinstance(value, str) else repr(value)
