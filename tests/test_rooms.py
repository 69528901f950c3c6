"""The rooms of the package: maps that are whole, imports that go one way, and nothing imported that was not asked for."""

import ast
import importlib
import importlib.util
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import maskerlib

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "maskerlib"
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
"""Every module by its name, and a package by its own: {"maskerlib.data": .../data/__init__.py, ...}."""
PACKAGES = sorted(name for name, path in FILES.items() if path.name == "__init__.py")
ROOMS = [name for name in PACKAGES if name.count(".") == 1]
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}
MOST_MODULES = 60  # that `import maskerlib` may bring along, nearly all of the standard library


def mapped(package: str) -> list[str]:
    """What the docstring of a package lists, in its order."""
    return re.findall(r"^ {4}(\w+) {2,}\S", ast.get_docstring(TREES[package], clean=False), flags=re.M)


def package_of(module: str) -> str:
    return module if module in PACKAGES else module.rpartition(".")[0]


def imported(name: str, tree: ast.Module) -> Iterator[str]:
    """Every module of ours that a module imports, in functions too and through a registry."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package_of(name))
            found = [f"{base}.{alias.name}" if f"{base}.{alias.name}" in FILES else base for alias in node.names]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Registry":
            package = next(given.value for given in node.args if getattr(given, "value", "") in PACKAGES)
            listed = next(given for given in node.args if isinstance(given, ast.List | ast.Tuple))
            found = [f"{package}.{module}" for module in ast.literal_eval(listed)]
        else:
            continue
        yield from (each for each in found if each.split(".")[0] == "maskerlib")


def wrong_ways(package: str) -> set[tuple[str, str]]:
    """Who imports whom against the rule of a package: each part of it imports only parts above it in the package's map.

    A part is a module or a package within; what the map does not list counts as below all that it does.
    """
    order, inside = mapped(package), f"{package}."

    def part(module: str) -> str:
        return module.removeprefix(inside).split(".")[0]

    def place(module: str) -> int:
        return order.index(part(module)) if part(module) in order else len(order)

    within = [name for name in FILES if name.startswith(inside)]
    pairs = {(name, target) for name in within for target in imported(name, TREES[name]) if target.startswith(inside)}
    return {(name, target) for name, target in pairs if part(name) != part(target) and place(target) >= place(name)}


# --- maps and directions --------------------------------------------------------------------------


@pytest.mark.parametrize("package", PACKAGES)
def test_a_packages_docstring_maps_every_module(package):
    inside = {name.removeprefix(f"{package}.") for name in FILES if name.startswith(f"{package}.")}
    parts = {name for name in inside if "." not in name and not name.startswith("exercises_")}
    assert sorted(mapped(package)) == sorted(parts)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_parts_of_a_package_import_only_those_above_them(package):
    wrong = sorted(wrong_ways(package))
    assert not wrong, "\n".join(f"{name} imports {target}, which the map does not list above it" for name, target in wrong)


def test_the_rule_sees_imports_of_every_kind():
    source = '''
import maskerlib.data.boxes as boxes
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from ..metrics import curves
def late():
    from maskerlib import plots
    from .masks import masked_in
METHODS = Registry("method", MethodEntry, "maskerlib.methods", ["gradient", "grad_cam"])
'''
    assert set(imported("maskerlib.masking.terms", ast.parse(source))) == {
        "maskerlib.data.boxes",
        "maskerlib.metrics.curves",
        "maskerlib.plots",
        "maskerlib.masking.masks",
        "maskerlib.methods.grad_cam",
        "maskerlib.methods.gradient",
    }


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_it_is_for_and_what_it_imports(room):
    """Imports `running` and `data`: those and no others. Imports the rooms before it: any of them. Or it imports none."""
    first, *rest = ast.get_docstring(TREES[room], clean=False).partition("\n\n    ")[0].splitlines()
    assert len(first.split()) >= 4
    said = re.search(r"\b[Ii]mports (none|the rooms before it|`[^.]+)\.", " ".join([first, *rest]))
    assert said, "it does not say what it imports"
    name = room.removeprefix("maskerlib.")
    used = {
        target.split(".")[1]
        for module, tree in TREES.items()
        if f"{module}.".startswith(f"{room}.")
        for target in imported(module, tree)
        if "." in target
    } - {name}
    before = mapped("maskerlib")[: mapped("maskerlib").index(name)]
    if said[1] == "the rooms before it":
        assert used <= set(before)
    else:
        assert used == set(re.findall(r"`(\w+)`", said[1])) <= set(before)


# --- names ----------------------------------------------------------------------------------------


def door() -> dict[str, str]:
    """The names at the door, and the module in which each is at home."""
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8")).body
    lines = [node for node in stub if isinstance(node, ast.ImportFrom)]
    return {alias.name: f"maskerlib.{line.module}" for line in lines for alias in line.names}


@pytest.mark.parametrize("name", door())
def test_a_name_at_the_door_is_the_one_of_its_module(name):
    home = importlib.import_module(door()[name])
    assert getattr(maskerlib, name) is getattr(home, name)
    assert name in home.__all__ and inspect.getmodule(getattr(maskerlib, name)).__name__ == home.__name__


def test_the_door_lists_its_names():
    assert sorted(maskerlib.__all__) == sorted(door()) and set(door()) <= set(dir(maskerlib))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = maskerlib.no_such_name


def texts() -> Iterator[tuple[Path, str]]:
    """Code and prose in which modules are named: of the package, the benchmarks, the notebooks, the READMEs."""
    skipped = {".venv", "runs", "build", ".git", ".ipynb_checkpoints", "tests"}
    for suffix in ("py", "md", "ipynb", "yaml"):
        for path in sorted(ROOT.rglob(f"*.{suffix}")):
            if not skipped & set(path.relative_to(ROOT).parts) and not re.search(r"\.(failed|partial-)", path.name):
                text = path.read_text(encoding="utf-8")
                if suffix == "ipynb":
                    text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
                yield path, text


def test_every_dotted_name_leads_somewhere():
    wrong = []
    for path, text in texts():
        for name in set(re.findall(r"(?<![\w./-])maskerlib(?:\.[A-Za-z_]\w*)+(?![\w{])", text)):
            try:
                resolve(name)
            except (ImportError, AttributeError):
                wrong.append(f"{path.relative_to(ROOT)} names {name}")
    for name in re.findall(r"`(\w+(?:\.\w+)+)`", maskerlib.__doc__):
        resolve(f"maskerlib.{name}")
    assert not wrong, "\n".join(wrong)


def resolve(name: str) -> object:
    """The module, or what lies in one, of a dotted name."""
    module = name
    while module not in FILES:
        module = module.rpartition(".")[0]
    found = importlib.import_module(module)
    for part in name.removeprefix(module).split(".")[1:]:
        fields = getattr(found, "__dataclass_fields__", {})
        found = fields[part] if part in fields else getattr(found, part)
    return found


# --- what an import brings ------------------------------------------------------------------------


def brought(statement: str) -> set[str]:
    """The modules that a fresh interpreter has after a statement and had not before."""
    code = f"import sys; before = set(sys.modules); {statement}; print(*sorted(set(sys.modules) - before), sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_the_package_imports_nothing_of_it():
    new = brought("import maskerlib; dir(maskerlib)")
    assert {name for name in new if name.startswith("maskerlib")} == {"maskerlib"}
    others = {name.split(".")[0] for name in new} - set(sys.stdlib_module_names)
    assert others <= {"maskerlib", "lazy_loader"}
    assert len(new) <= MOST_MODULES


@pytest.mark.parametrize(
    ("module", "unneeded"),
    [
        ("maskerlib.methods.optimise", {"captum", "matplotlib", "pandas", "cv2"}),
        ("maskerlib.masker.training", {"captum", "matplotlib", "pandas", "skimage"}),
        ("maskerlib.data.folder", {"captum", "matplotlib", "pandas", "skimage", "torchvision"}),
    ],
)
def test_a_module_brings_only_what_it_needs(module, unneeded):
    assert not unneeded & brought(f"import {module}")
