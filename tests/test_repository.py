"""The repository agrees with itself: installation, README, how modules and notebooks are written."""

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DEPENDENCIES = [
    Requirement(line)
    for line in PROJECT["dependencies"]
    + [line for extra in PROJECT["optional-dependencies"].values() for line in extra]
]
MODULES = sorted((ROOT / "maskerlib").rglob("*.py"))
NOTEBOOKS = sorted(
    path
    for path in (ROOT / "notebooks").rglob("*.ipynb")
    if not path.parent.name.startswith(".") and not re.search(r"\.(failed|partial-)", path.name)
)
LONGEST_MODULE = 300  # lines


def text(name: str | Path) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def pins() -> list[Requirement]:
    lines = (line.split("#")[0].strip() for line in text("constraints.txt").splitlines())
    return [Requirement(line) for line in lines if line]


def tracked() -> list[Path]:
    """The files of the repository: what git has or would take; without git, all but known leftovers."""
    git = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    if (ROOT / ".git").exists() and shutil.which("git"):
        listed = subprocess.run(git, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
        return [ROOT / name for name in listed if name and (ROOT / name).is_file()]
    skipped = {".venv", ".git", "runs", "__pycache__", ".pytest_cache", ".ruff_cache", ".hypothesis"}
    return [path for path in ROOT.rglob("*") if path.is_file() and not skipped & set(path.parts)]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# --- what installs --------------------------------------------------------------------------------


def test_conda_installs_this_project_and_pins_nothing_beside_it():
    environment = yaml.safe_load(text("environment.yml"))
    assert environment["name"] == PROJECT["name"]
    assert environment["channels"] == ["conda-forge"]
    *conda, pip = environment["dependencies"]
    assert pip == {"pip": ["-c constraints.txt", "-e .[test,experiments]"]}
    python = [item.partition("=") for item in conda if item != "pip"]
    assert [name for name, _, _ in python] == ["python"]
    assert Version(python[0][2]) in SpecifierSet(PROJECT["requires-python"])


@pytest.mark.parametrize("dependency", DEPENDENCIES, ids=str)
def test_the_tested_version_of_each_dependency_is_within_its_bound(dependency):
    own = [pin for pin in pins() if canonicalize_name(pin.name) == canonicalize_name(dependency.name)]
    assert own, f"constraints.txt has no line for {dependency.name}"
    assert dependency.specifier, "pyproject.toml needs a lower bound"
    for pin in own:
        (specifier,) = pin.specifier
        assert specifier.operator == "==" and specifier.version in dependency.specifier


def test_constraints_are_free_of_platforms():
    for pin in pins():
        assert "+" not in str(pin.specifier), f"{pin}: a local version exists on one platform only"
        assert not re.match(r"nvidia|cuda|triton", pin.name), f"{pin}: torch brings its own"
    once = [(canonicalize_name(pin.name), str(pin.marker)) for pin in pins()]
    assert len(once) == len(set(once))


def test_each_platform_gets_one_torch_and_the_torchvision_that_belongs_to_it():
    for platform, machine in [
        ("linux", "x86_64"),
        ("linux", "aarch64"),
        ("darwin", "arm64"),
        ("win32", "AMD64"),
    ]:
        where = {"sys_platform": platform, "platform_machine": machine}
        here = {
            name: [
                pin for pin in pins() if pin.name == name and (not pin.marker or pin.marker.evaluate(where))
            ]
            for name in ("torch", "torchvision")
        }
        ((torch,), (vision,)) = (
            [Version(next(iter(pin.specifier)).version) for pin in here[name]] for name in here
        )
        assert (torch.major, vision.major) == (2, 0) and vision.minor == torch.minor + 15


@pytest.mark.skipif(
    sys.platform != "linux" or sys.version_info[:2] != (3, 11), reason="other platforms need other packages"
)
def test_constraints_cover_everything_that_is_installed_with_the_project():
    pinned = {canonicalize_name(pin.name) for pin in pins()}
    optional = {Requirement(line).name for line in PROJECT["optional-dependencies"]["browser"]}
    todo = [(d.name, frozenset(d.extras)) for d in DEPENDENCIES if d.name not in optional]
    seen = set(todo)
    while todo:
        name, extras = todo.pop()
        if re.match(r"nvidia|cuda|triton", name):
            continue
        assert canonicalize_name(name) in pinned, f"constraints.txt has no line for {name}"
        for line in importlib.metadata.requires(name) or []:
            needed = Requirement(line)
            item = (needed.name, frozenset(needed.extras))
            wanted = needed.marker is None or any(
                needed.marker.evaluate({"extra": e}) for e in extras or {""}
            )
            if wanted and item not in seen:
                seen.add(item)
                todo.append(item)


@pytest.mark.parametrize("folder", ["maskerlib", "tests", "benchmarks"])
def test_every_import_is_declared(folder):
    extras = {canonicalize_name(d.name) for d in DEPENDENCIES}
    own = (
        extras
        if folder == "tests"
        else {canonicalize_name(Requirement(d).name) for d in PROJECT["dependencies"]}
    )
    local = {
        "maskerlib",
        "tests",
        "benchmarks",
        "conftest",
        *(path.stem for path in (ROOT / folder).glob("*.py")),
    }
    packages = importlib.metadata.packages_distributions()
    own |= {"pyzmq"} if "jupyter-client" in own else set()  # jupyter_client is an interface to it
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                tops = {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                tops = {(node.module or "").split(".")[0]}
            else:
                continue
            for top in tops - local - set(sys.stdlib_module_names):
                names = {canonicalize_name(name) for name in packages.get(top, [top])}
                assert names & own, f"{relative(path)} imports {top}, which pyproject.toml does not declare"


# --- what the README promises ---------------------------------------------------------------------


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", text("Makefile"), flags=re.M))


def test_continuous_integration_runs_the_readmes_test_command():
    assert "make test" in re.findall(r"^(?:exec )?(make test)\b", text(".ci/run"), flags=re.M)
    assert re.search(r"^make test$", text("README.md"), flags=re.M)
    assert os.access(ROOT / ".ci" / "run", os.X_OK) or os.name == "nt"


def test_every_target_that_the_readme_names_exists_and_help_explains_all():
    named = set(re.findall(r"\bmake ([a-z-]+)\b", "\n".join(code("README.md"))))
    assert named and named <= targets()
    assert {"run", "test", "bench", "help"} <= targets()
    for target in targets():
        assert re.search(rf"^{target}:.*## \S", text("Makefile"), flags=re.M), f"make help omits {target}"


def code(name: str) -> list[str]:
    """The code spans and blocks of a Markdown file."""
    return [
        block or span for block, span in re.findall(r"```\w*\n(.*?)```|`([^`\n]+)`", text(name), flags=re.S)
    ]


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
@pytest.mark.parametrize("target", sorted(targets() - {"help"}))
def test_every_target_is_a_recipe_that_make_can_read(target):
    dry = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
    assert dry.returncode == 0 and dry.stdout.strip(), dry.stderr


def test_every_file_that_the_makefile_runs_exists():
    for name in re.findall(r"(?:notebooks|benchmarks)/\w+\.(?:py|ipynb)", text("Makefile")):
        if not name.startswith("runs/"):
            assert (ROOT / name).is_file(), f"the Makefile runs {name}, which does not exist"


@pytest.mark.parametrize("path", [path for path in tracked() if path.suffix == ".md"], ids=relative)
def test_every_relative_link_leads_somewhere(path):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:", target):
            assert (path.parent / target).exists(), (
                f"{relative(path)} links to {target}, which does not exist"
            )


def test_the_badges_open_a_notebook_and_find_an_environment():
    badges = re.findall(r"^\[!\[[^\]]+\]\([^)]+\)\]\(([^)]+)\)$", text("README.md"), flags=re.M)
    assert len(badges) == 2
    for badge in badges:
        opened = re.fullmatch(
            r"https://(?:colab\.research\.google\.com/github/[\w-]+/[\w-]+/blob/main/"
            r"|mybinder\.org/v2/gh/[\w-]+/[\w-]+/main\?urlpath=lab/tree/)(notebooks/\w+\.ipynb)",
            badge,
        )
        assert opened and (ROOT / opened[1]).is_file(), badge
    assert (ROOT / "environment.yml").is_file() and not (ROOT / "binder").exists(), "Binder would look there first"


# --- how files are written ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        p
        for p in tracked()
        if p.suffix in {".py", ".md", ".toml", ".txt", ".yml", ".yaml", ".ipynb", ".json", ".csv", ""}
    ],
    ids=relative,
)
def test_no_file_names_a_place_on_one_machine_or_a_registry(path):
    content = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        content = re.sub(r'"image/[a-z+]+": (?:"[^"]*"|\[[^\]]*\])', "", content)
    place = re.search(
        r"(?<![\w.}/])/(?:home|Users|root|tmp|work|mnt|var|private|opt)/\w+|\b[A-Z]:\\+Users", content
    )
    assert place is None, f"{relative(path)} holds the absolute path {place.group()}"
    host = re.search(r"pypi\.org|pythonhosted\.org|npmjs\.org|download\.pytorch\.org|anaconda\.org", content)
    assert host is None, f"{relative(path)} names the registry {host.group()}"


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_every_module_is_short_documented_and_says_what_is_public(path):
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    assert len(source.splitlines()) <= LONGEST_MODULE, "look for the second idea in it"
    assert ast.get_docstring(tree)
    defined = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assigned = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    assert "__all__" in assigned
    public = ast.literal_eval(assigned["__all__"])
    imported = {
        a.asname or a.name for node in tree.body if isinstance(node, ast.ImportFrom) for a in node.names
    }
    for name in public:
        known = name in defined or name in assigned or name in imported
        assert known, f"__all__ names {name}, which the module does not define"
    for name, node in defined.items():
        assert name.startswith("_") or ast.get_docstring(node), f"{name} has no docstring"


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_only_a_command_line_prints(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    mains = {node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main"}
    allowed = {id(call) for main in mains for call in ast.walk(main)}
    for node in ast.walk(tree):
        prints = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        assert not prints or id(node) in allowed, (
            f"line {node.lineno} prints; return it, or let the caller log it"
        )


@pytest.mark.parametrize("package", ["maskerlib", "maskerlib/course", "maskerlib/experiments"])
def test_a_packages_docstring_maps_every_module(package):
    docstring = ast.get_docstring(ast.parse(text(f"{package}/__init__.py")))
    mapped = re.findall(r"^ {4}(\w+) {2,}\S", docstring, flags=re.M)
    inside = {path.stem for path in (ROOT / package).glob("*.py")} - {"__init__"}
    inside |= {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}
    assert sorted(mapped) == sorted(name for name in inside if not name.startswith("exercises_"))


# --- notebooks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", NOTEBOOKS, ids=relative)
def test_a_notebook_is_committed_as_it_ran(path):
    cells = nbformat.read(path, as_version=4).cells
    runnable = [cell for cell in cells if cell.cell_type == "code" and cell.source.strip()]
    assert [cell.execution_count for cell in runnable] == list(range(1, len(runnable) + 1)), (
        "run all, top to bottom"
    )
    outputs = [output for cell in runnable for output in cell.outputs]
    assert outputs, "it has no outputs; run it and save"
    assert not [output for output in outputs if output.output_type == "error"]
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in cells) == 1
    assert not [cell for cell in cells if "injected-parameters" in cell.metadata.get("tags", [])]
    for cell in runnable:
        assert not cell.source.rstrip().endswith(";"), f"a trailing semicolon: {cell.source.splitlines()[-1]}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=relative)
def test_a_notebooks_parameters_are_literals(path):
    from maskerlib.notebooks.parameters import read_parameters

    assert read_parameters(path)
