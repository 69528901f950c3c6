"""Which code a result comes from: a hash of the modules that can change a number of a run.

Comments, docstrings and layout are not part of it, so that a clearer sentence does not make a finished grid worthless.
"""

import ast
import functools
import hashlib
from importlib.resources import files

__all__ = ["code_hash", "modules_behind"]

START = "experiments.run"

_NO_NUMBERS = {"files", "provenance"}
"""Modules that carry what was computed elsewhere."""


def modules_behind(start: str = START) -> dict[str, ast.Module]:
    """{name within maskerlib: parsed source} of `start` and every module that it imports, directly or not; sorted by name."""
    found: dict[str, ast.Module] = {}
    waiting = [start]
    while waiting:
        name = waiting.pop()
        path = files("maskerlib").joinpath(*name.split(".")[:-1], f"{name.split('.')[-1]}.py")
        if name in found or name in _NO_NUMBERS or not path.is_file():
            continue
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(found[name]):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "maskerlib":
                inside = node.module.removeprefix("maskerlib").lstrip(".")
                waiting += [inside] if inside else [alias.name for alias in node.names]
    return dict(sorted(found.items()))


@functools.cache
def code_hash() -> str:
    """Twelve hex digits that change when the code of a run does."""
    digest = hashlib.sha256()
    for name, tree in modules_behind().items():
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list) and isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                node.body = [part for part in body if not _is_text(part)] or [ast.Pass()]
        digest.update(f"{name}\0{ast.dump(tree)}\0".encode())
    return digest.hexdigest()[:12]


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
