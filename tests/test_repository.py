"""The repository agrees with itself: installation, README, how modules and notebooks are written."""

import ast
import functools
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
EXTRAS = PROJECT["optional-dependencies"]
DEPENDENCIES = [
    requirement
    for requirement in map(Requirement, sum(EXTRAS.values(), PROJECT["dependencies"]))
    if requirement.name != PROJECT["name"]  # an extra may take in another one
]
NEEDS = {"notebooks": "notebooks", "course": "notebooks", "experiments": "experiments"}
"""The rooms that need an extra; all others do with what `pip install maskerlib` brings."""
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


ALL = "notebooks,experiments,test"
"""The extras that `make run` and `make test` need."""


def test_make_installs_what_its_commands_need_and_the_readme_says_the_same():
    for name in ("Makefile", "README.md", "constraints.txt"):
        assert f"'.[{ALL}]'" in text(name), name


def test_conda_installs_this_project_and_pins_nothing_beside_it():
    environment = yaml.safe_load(text("environment.yml"))
    assert environment["name"] == PROJECT["name"]
    assert environment["channels"] == ["conda-forge"]
    *conda, pip = environment["dependencies"]
    assert pip == {"pip": ["-c constraints.txt", f"-e .[{ALL}]"]}
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
    for name in brought(*(extra for extra in EXTRAS if extra != "browser")):
        assert name in pinned or re.match(r"nvidia|cuda|triton", name), f"constraints.txt has no line for {name}"


def brought(*extras: str) -> set[str]:
    """The distributions that `pip install maskerlib[...]` brings, with all that those need, by their canonical names."""
    todo = [(name, frozenset()) for name in sorted(declared(*extras))]
    seen = set(todo)
    while todo:
        name, wanted = todo.pop()
        for needed in map(Requirement, importlib.metadata.requires(name) or []):
            item = (canonicalize_name(needed.name), frozenset(needed.extras))
            used = needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in wanted or {""})
            if used and item not in seen:
                seen.add(item)
                todo.append(item)
    return {name for name, _ in seen}


def declared(*extras: str) -> set[str]:
    """The distributions that `pip install maskerlib[...]` asks for, by their canonical names."""
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in EXTRAS[extra])]
    found = [Requirement(line) for line in lines]
    inner = {extra for each in found if each.name == PROJECT["name"] for extra in each.extras}
    named = {canonicalize_name(each.name) for each in found} - {PROJECT["name"]}
    return named | (declared(*inner) if inner else set())


def imports(path: Path) -> set[str]:
    """The top packages that a file imports, anywhere in it, beside its own and Python's."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    return {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {PROJECT["name"]}


installed = functools.cache(importlib.metadata.packages_distributions)  # reads every package's list of files


def distributions(package: str) -> set[str]:
    """The distributions that an importable package comes from, by their canonical names."""
    return {canonicalize_name(name) for name in installed().get(package, [package])}


@pytest.mark.parametrize("path", [*MODULES, *sorted((ROOT / "benchmarks").glob("*.py"))], ids=relative)
def test_every_import_is_declared_for_its_room(path):
    room, _, _ = path.relative_to(ROOT / path.relative_to(ROOT).parts[0]).as_posix().partition("/")
    own = declared(*EXTRAS) if path.parent.name == "benchmarks" else declared(*([NEEDS[room]] if room in NEEDS else []))
    for package in imports(path) - {beside.stem for beside in path.parent.glob("*.py")}:
        assert distributions(package) & own, f"{package} is not among what pyproject.toml declares for it"


def test_every_import_of_the_tests_is_declared():
    local = {path.stem for folder in ("tests", "benchmarks") for path in (ROOT / folder).glob("*.py")}
    for path in (ROOT / "tests").rglob("*.py"):
        for package in imports(path) - local:
            known = distributions(package) & declared(*EXTRAS)
            assert known, f"{relative(path)} imports {package}, which no extra declares"


def test_a_room_without_an_extra_uses_all_that_the_core_brings():
    """What nothing imports, and nothing reads the files of, need not be installed by everybody."""
    rooms = [path for path in MODULES if path.relative_to(ROOT / "maskerlib").parts[0] not in NEEDS]
    used = {package for path in rooms for package in imports(path)}
    used |= {package for path in rooms for package in re.findall(r'\bfiles\("(\w+)"\)', text(path))}
    unused = declared() - {name for package in used for name in distributions(package)}
    assert not unused, f"no room of the core imports {', '.join(sorted(unused))}"


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def bare() -> str:
    """A statement after which nothing can be imported but what `pip install maskerlib` brings."""
    ours = brought() | {PROJECT["name"]}
    gone = {package for package in installed() if not distributions(package) & ours}
    return f"import sys; sys.modules.update(dict.fromkeys({sorted(gone)!r}))"


def test_the_core_can_be_imported_without_any_extra(bare):
    modules = [path.relative_to(ROOT).with_suffix("") for path in MODULES]
    names = [".".join(path.parts).removesuffix(".__init__") for path in modules if path.parts[1] not in NEEDS]
    done = run(f"{bare}; import importlib; [importlib.import_module(name) for name in {names!r}]")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("room", NEEDS)
def test_a_room_whose_extra_is_not_installed_names_it(room, bare):
    done = run(f"{bare}; import maskerlib.{room}")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert re.fullmatch(rf"ImportError: \w+ is not installed; pip install 'maskerlib\[{NEEDS[room]}\]'", last), last


@pytest.mark.parametrize("room", ["notebooks", "experiments"])
def test_a_command_whose_extra_is_not_installed_is_one_line(room, bare):
    """As `python -m maskerlib.notebooks x.ipynb`: the room is looked for while `sys.argv` begins with "-m"."""
    started = f"import runpy; sys.argv = ['-m', 'x.ipynb']; runpy.run_module('maskerlib.{room}', run_name='__main__')"
    done = run(f"{bare}; {started}")
    assert done.returncode == 2 and not done.stdout
    assert re.fullmatch(rf"error: \w+ is not installed; pip install 'maskerlib\[{NEEDS[room]}\]'\n", done.stderr), done.stderr


def test_python_says_m_while_it_looks_for_the_module_to_run(tmp_path):
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "__init__.py").write_text("import sys; print(sys.argv)")
    (tmp_path / "room" / "__main__.py").write_text("")
    done = subprocess.run([sys.executable, "-m", "room", "x"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "['-m', 'x']\n"


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


def test_the_readme_has_the_table_of_methods():
    from maskerlib.methods.registry import table

    assert "\n".join(table()) in text("README.md")


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
    if path.with_suffix(".pyi").exists():
        return  # the stub says what is public, and tests/test_rooms.py reads it
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
