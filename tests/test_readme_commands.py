"""Every command in a README is one that works: it is read as its program would read it, up to where the long part begins.

A command that no test here knows how to check fails, so that none is written down unchecked.
"""

import argparse
import importlib
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from papermill.cli import papermill
from tiny import tiny_classifier
from torch.distributed.run import get_args_parser

import maskerlib.__main__ as explaining
from maskerlib.data import obtaining
from maskerlib.experiments import __main__ as experiments
from maskerlib.experiments.settings import Setting
from maskerlib.methods.registry import method_named, read_options
from maskerlib.notebooks import runner as notebooks
from maskerlib.notebooks.parameters import check_parameters

ROOT = Path(__file__).resolve().parents[1]
READMES = sorted(path for path in ROOT.glob("**/README.md") if not set(path.parts) & {".venv", "runs", "build", ".git"})
PYTHONS = {".venv/bin/python", "python", "python3"}
OURS = ("make", ".venv/bin/", "python -m ", "snakemake", "jupyter", "maskerlib ")
STAND_IN = "notebooks/00_quickstart.ipynb"  # for a notebook of the reader's own


class NotRun(ValueError):
    """Here the long part would begin."""


def commands_in(text: str) -> Iterator[str]:
    """The commands of a Markdown text: every line of its sh blocks, and the code spans that begin with a program of ours."""
    for block in re.findall(r"^```(?:sh|bash|console|shell)\n(.*?)^```", text, flags=re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            if shlex.split(line, comments=True):
                yield from re.split(r"\s+&&\s+", line.strip())
    prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    for span in re.findall(r"`([^`]+)`", prose):
        words = " ".join(span.split())
        if words.startswith(OURS) and words != "make" and "..." not in words:
            yield from re.split(r"\s+&&\s+", words)


COMMANDS = sorted({line for path in READMES for line in commands_in(path.read_text(encoding="utf-8"))})


def test_commands_are_found_in_blocks_and_in_spans():
    block = "```sh\nmake run  # words\nsnakemake \\\n  --cores 1\n# words\n```\n\n```python\nx = 1\n```\n"
    text = f"Use `make lab && make test` or `x`.\n\n{block}"
    assert list(commands_in(text)) == ["make run  # words", "snakemake    --cores 1", "make lab", "make test"]
    assert len(COMMANDS) >= 15 and any("papermill" in command for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_read_as_it_is_meant(command, request):
    check(shlex.split(command, comments=True), request)


@pytest.mark.parametrize(
    "command",
    [
        "make absent",
        'make run ARGS="-p image my.jpg"',
        ".venv/bin/python -m maskerlib.notebooks notebooks/00_quickstart.ipynb runs/x.ipynb -p sede 1",
        ".venv/bin/python -m maskerlib.notebooks notebooks/00_quickstart.ipynb runs/x.html",
        ".venv/bin/python -m maskerlib.experiments plann",
        ".venv/bin/python -m maskerlib explain my.jpg --metod grad-cam",
        ".venv/bin/maskerlib explain my.jpg --option stepps 3",
        ".venv/bin/python -m maskerlib.absent",
        ".venv/bin/python benchmarks/cost.py --sise 3",
        ".venv/bin/python benchmarks/absent.py",
        ".venv/bin/papermill notebooks/experiment.ipynb runs/mine.ipynb -p modus CA",
        ".venv/bin/papermill notebooks/experiment.ipynb runs/mine.ipynb -p layers stage4",
        ".venv/bin/papermill notebooks/experiment.ipynb runs/mine.ipynb -p released_pool no",
        "python -m pytest absent",
        "snakemake --snakefile absent --profile experiments/profiles/slurm",
        "rm -rf runs",
    ],
)
def test_a_command_that_does_not_work_is_found(command, request):
    with pytest.raises((AssertionError, SystemExit, ValueError)):
        check(shlex.split(command), request)


@pytest.mark.parametrize(
    ("arguments", "changes"),
    [
        (["mode", "CA", "layers", '["stage4"]', "seed", "1"], {"mode": "CA", "layers": ("stage4",), "seed": 1}),
        (["released_pool", "false"], {}),
        (["mode", "CA", "released_pool", "true"], {"mode": "CA", "released_pool": True}),
        (["per_class", "2", "class_share", "0.5"], {"per_class": 2, "class_share": 0.5}),
        (["layers", "None", "passes", "2"], {"passes": 2.0}),
    ],
)
def test_papermill_s_own_command_line_gives_the_setting_that_is_meant(tmp_path, arguments, changes):
    pairs = [word for name, value in zip(arguments[::2], arguments[1::2], strict=True) for word in ("-p", name, value)]
    assert prepared(["notebooks/experiment.ipynb", "runs/mine.ipynb", *pairs], tmp_path).changes() == changes


# --- how each program reads its words -------------------------------------------------------------


def check(words: list[str], request: pytest.FixtureRequest) -> None:
    """Read a command as its program does. Fails where it could not run, or where nothing here knows its program."""
    monkeypatch = request.getfixturevalue("monkeypatch")
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")  # which our commands set
    program, *rest = words
    if program in PYTHONS and rest[:1] == ["-m"]:
        check_module(rest[1], rest[2:], request)
    elif program in PYTHONS and rest and rest[0].startswith("benchmarks/"):
        check_benchmark(rest[0], rest[1:], monkeypatch)
    elif program in PYTHONS and rest[:1] == ["-c"]:
        compile(rest[1], "README", "exec")
    elif program == "make":
        check_make(rest, request)
    elif program.endswith("papermill"):
        prepared(rest, request.getfixturevalue("tmp_path"))
    elif program == "maskerlib" or program.endswith("/maskerlib"):
        check_module("maskerlib", rest, request)
    elif program == "snakemake":
        options = dict(zip(rest[::2], rest[1::2], strict=True))
        assert options.keys() <= {"--snakefile", "--profile", "--directory"}
        assert Path(options["--snakefile"]).is_file() and (Path(options["--profile"]) / "config.yaml").is_file()
    elif words[:2] == ["jupyter", "lab"]:
        assert all(Path(word).exists() for word in rest[1:])
    elif program == "conda":
        environment = yaml.safe_load(Path("environment.yml").read_text(encoding="utf-8"))
        assert rest in (["env", "create", "-f", "environment.yml"], ["activate", environment["name"]])
    elif words[:2] == ["git", "clone"] or program == "cd":
        assert len(rest) <= 2
    else:
        raise AssertionError(f"nothing in tests/test_readme_commands.py knows how to check {shlex.join(words)}")


def check_make(words: list[str], request: pytest.FixtureRequest) -> None:
    """make reads its own words; the commands of ours that it would run are checked in turn."""
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    dry = subprocess.run(["make", "--dry-run", *words], capture_output=True, text=True)
    assert dry.returncode == 0, dry.stderr
    for line in dry.stdout.replace("\\\n", " ").splitlines():
        if re.match(r"\.venv/bin/python (-m maskerlib|benchmarks/)", line.strip()):
            check(shlex.split(line), request)


def check_module(module: str, words: list[str], request: pytest.FixtureRequest) -> None:
    """`python -m MODULE WORDS`."""
    monkeypatch = request.getfixturevalue("monkeypatch")

    def not_run(*_: object, **__: object) -> None:
        raise NotRun("not run")

    if module == "maskerlib.notebooks":
        own = not Path(words[0]).is_file()
        run_notebook(([STAND_IN] if own else words[:1]) + words[1:], monkeypatch)
    elif module == "maskerlib.experiments":
        monkeypatch.setattr(experiments, "tables_of", not_run)
        monkeypatch.setattr(experiments, "_make_shared", not_run)
        assert experiments.main(words) == 2, "where the tables would be read"
    elif module == "maskerlib" and words[:1] == ["data"]:
        for name in ("look_at", "download"):
            monkeypatch.setattr(f"maskerlib.data.obtaining.{name}", not_run)
        assert explaining.main(words) == (2 if words[1:] else 0), "where a folder would be looked at"
    elif module == "maskerlib" and words[:1] == ["train"]:
        monkeypatch.setattr("maskerlib.training.__main__._prepared", not_run)
        assert explaining.main(words) == 2, "where a classifier would be made"
    elif module == "maskerlib":
        given = explaining._parser().parse_args(words)
        if getattr(given, "option", None):
            method_named(given.method, tiny_classifier(), **read_options(given.method, given.option))
        monkeypatch.setattr(explaining, "_Job", not_run)
        monkeypatch.setattr(obtaining, "download", not_run)
        there = 1 if given.command == "data" and given.name and not given.download else 2  # no data are there
        done = "--list" in words or (given.command == "data" and not given.name)
        assert explaining.main(words) == (0 if done else there), "where photographs would be read"
    elif module == "maskerlib.masker.pretrained":
        assert len(words) == 2
    elif module == "pytest":
        for word in words:
            if word.startswith("-"):
                request.config.getoption(word.split("=")[0])  # a ValueError for one that there is not
            else:
                assert Path(word).exists(), word
    elif module == "torch.distributed.run":
        given = get_args_parser().parse_args(words)
        assert int(given.nproc_per_node) > 1 and given.training_script == "train.py" and not given.training_script_args
    elif module == "venv":
        assert words == [".venv"]
    elif module == "pip":
        project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
        name, _, extras = words[words.index("-e") + 1].partition("[")
        assert name == "." and set(extras.rstrip("]").split(",")) <= set(project["optional-dependencies"])
        assert "-c" not in words or Path(words[words.index("-c") + 1]).is_file()
    else:
        raise AssertionError(f"nothing in tests/test_readme_commands.py knows how to check python -m {module}")


def run_notebook(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m maskerlib.notebooks`, up to where the kernel would start."""

    def checked(path, output, parameters=None, timeout=None, **_: object) -> None:
        check_parameters(path, parameters or {})
        assert str(output).endswith(".ipynb")
        raise notebooks.NotebookError("not run")

    monkeypatch.setattr(notebooks, "run_notebook", checked)
    assert notebooks.main(words) == (0 if "--list" in words else 1), "where the kernel would start"


def check_benchmark(script: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A script of benchmarks/, up to what it measures."""
    assert Path(script).is_file()
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    module = importlib.import_module(Path(script).stem)
    parse_args = argparse.ArgumentParser.parse_args

    def parsed(*arguments: Any) -> None:
        parse_args(*arguments)
        raise NotRun

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parsed)
    with pytest.raises((NotRun, SystemExit)) as stopped:
        module.main(words)
    assert stopped.type is NotRun or stopped.value.code == 0, "it stops where it would measure, or at its help"


def prepared(words: list[str], folder: Path) -> Setting:
    """The setting that papermill's own command line makes of the experiment's notebook, without a kernel.

    The cell of parameters, the one that papermill adds behind it, and the next, which reads them, are executed here.
    """
    assert words[0] == "notebooks/experiment.ipynb", "the only notebook that checks what papermill passes"
    output = folder / "prepared.ipynb"
    papermill([str(ROOT / words[0]), str(output), *words[2:], "--prepare-only", "--no-progress-bar"], standalone_mode=False)
    cells = [cell for cell in nbformat.read(output, as_version=4).cells if cell.cell_type == "code"]
    namespace: dict[str, object] = {}
    for cell in cells[:3]:
        exec(cell.source, namespace)
    return namespace["setting"]
