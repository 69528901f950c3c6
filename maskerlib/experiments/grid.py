"""The tables of settings, read from `experiments/*.yaml`: one file a question, one row a setting.

    table: layers                      # the name of the file
    question: Which layers does the masker need?
    notebook: 09_ablation_layers
    seeds: [0, 1, 2]
    modes: [FIX, CA]
    baseline: top 2                    # the row that the others are compared with
    shared: {}                         # parameters of every row, but for seed and mode
    rows:
      - name: top 1                    # in the tables
        label: layer 5                 # what the paper calls it
        parameters: {layers: [stage4]}
        variants: [all]                # what is measured, see `maskerlib.experiments.measuring.variants`; [all] unless given
        modes: [FIX]                   # where it makes sense only for one; the table's unless given
    repeated: {hard: {level: hard}}    # each row once more, called "top 1, hard", with these parameters; none unless given

A method that leaves the classifier as it is has the mode FIX.
"""

import dataclasses
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from maskerlib.experiments.settings import Setting
from maskerlib.notebooks.runner import project_root
from maskerlib.running.checks import shown

__all__ = [
    "MODES",
    "NOTEBOOK",
    "Row",
    "Run",
    "Table",
    "check_runs",
    "check_settings",
    "load_table",
    "load_tables",
    "parameters_of",
    "tables_folder",
    "unique",
]

MODES = ("FIX", "CA")

NOTEBOOK = "notebooks/experiment.ipynb"
"""What runs a setting."""

_TABLE_KEYS = {"table", "question", "notebook", "seeds", "modes", "baseline", "shared", "rows", "repeated"}
_ROW_KEYS = {"name", "label", "parameters", "variants", "modes", "seeds"}


@dataclass(frozen=True)
class Run:
    """One run of one row: its mode, its seed, and the setting that they make."""

    row: str
    mode: str
    seed: int
    setting: Setting

    def arguments(self) -> list[str]:
        """What the command line of the notebook is given: -p NAME VALUE for each parameter that is not the default."""
        given: list[str] = []
        for name, value in self.setting.changes().items():
            given += ["-p", name, json.dumps(value) if isinstance(value, tuple) else str(value)]
        return given

    def command(self) -> str:
        """The command that makes this run by hand, from the root of the repository."""
        output = f"runs/experiments/{self.setting.address()}/run.ipynb"
        return shlex.join(["python", "-m", "maskerlib.notebooks", NOTEBOOK, output, *self.arguments()])


@dataclass(frozen=True)
class Row:
    """One setting of a table; see the module."""

    name: str
    label: str
    parameters: Mapping[str, Any]
    variants: tuple[str, ...]
    modes: tuple[str, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Table:
    """One question and its rows; see the module."""

    name: str
    question: str
    notebook: str
    baseline: str
    shared: Mapping[str, Any]
    rows: tuple[Row, ...]

    def runs(self) -> Iterator[Run]:
        """Every run, seed by seed, so that a table that was stopped has whole seeds.

        Equal settings may come twice, to measure other variants.
        """
        seeds = sorted({seed for row in self.rows for seed in row.seeds})
        for seed in seeds:
            for row in self.rows:
                if seed in row.seeds:
                    for mode in row.modes:
                        yield Run(row.name, mode, seed, self.setting(row, mode, seed))

    def run(self, row: str, mode: str, seed: int) -> Run:
        """One run by the name of its row. Raises KeyError, with the runs of that row or the rows, where there is none."""
        for run in self.runs():
            if (run.row, run.mode, run.seed) == (row, mode, seed):
                return run
        rows = {found.name: found for found in self.rows}
        if row not in rows:
            raise KeyError(f"{self.name} has no row {row!r}; the rows are {', '.join(rows)}")
        known = f"{', '.join(rows[row].modes)} with seeds {', '.join(map(str, rows[row].seeds))}"
        raise KeyError(f"{self.name}, row {row!r}, has no run {mode}, seed {seed}; it has {known}")

    def setting(self, row: Row, mode: str, seed: int) -> Setting:
        """The setting of one run."""
        return Setting.read({**self.shared, **row.parameters, "mode": mode, "seed": seed})

    def smoke(self, rows: int = 2) -> "Table":
        """The first `rows` rows with one seed and one mode, at a tiny size."""
        few = tuple(
            dataclasses.replace(row, modes=row.modes[:1], seeds=row.seeds[:1], parameters=_smoke(self, row))
            for row in self.rows[:rows]
        )
        return dataclasses.replace(self, rows=few, shared={}, baseline=few[0].name)


def _smoke(table: Table, row: Row) -> dict[str, Any]:
    setting = table.setting(row, row.modes[0], row.seeds[0]).smoke()
    return {name: value for name, value in setting.changes().items() if name not in ("mode", "seed")}


def tables_folder() -> Path:
    """experiments/ of this repository."""
    return project_root() / "experiments"


def load_tables(folder: Path | None = None) -> dict[str, Table]:
    """Every table of a folder by name, in the order of the names. Raises what `load_table` does."""
    folder = folder or tables_folder()
    return {path.stem: load_table(path) for path in sorted(folder.glob("*.yaml"))}


def load_table(path: str | Path) -> Table:
    """Read one table.

    Raises FileNotFoundError (with the tables there are), and ValueError, naming the file and the row, for a key that is
    unknown, missing or given twice, a setting that cannot run, two rows of one name or of one setting, or a baseline that is
    no row.
    """
    path = Path(path)
    if not path.is_file():
        known = ", ".join(sorted(other.stem for other in path.parent.glob("*.yaml"))) or "none"
        raise FileNotFoundError(f"no table at {path}; the tables there are: {known}")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())[:200]}") from None
    _check_keys(path, content, _TABLE_KEYS, optional={"shared", "repeated"})
    if content["table"] != path.stem:
        raise ValueError(f"{path}: it calls itself {content['table']!r}; the file and its table go by one name")
    check_runs(str(path), content["modes"], content["seeds"])
    shared = parameters_of(f"{path}, shared", content.get("shared"))
    if not isinstance(content["rows"], list):
        raise ValueError(f"{path}: rows is {shown(content['rows'])}, expected a list of rows")
    once = tuple(_row(path, entry, content) for entry in content["rows"])
    repeated = parameters_of(f"{path}, repeated", content.get("repeated"))
    more = {str(name): parameters_of(f"{path}, repeated {name!r}", given) for name, given in repeated.items()}
    rows = once + tuple(_again(row, name, given) for name, given in more.items() for row in once)
    table = Table(content["table"], content["question"], content["notebook"], content["baseline"], shared, rows)
    names = [row.name for row in rows]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{path}: two rows are called {twice.pop()!r}")
    if table.baseline not in names:
        raise ValueError(f"{path}: the baseline {table.baseline!r} is no row; the rows are {', '.join(names)}")
    check_settings(path, table)
    return table


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """PyYAML's safe loader, which by itself keeps the last of two equal keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Raises ConstructorError where a key comes twice."""
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for index, key in enumerate(keys):
            if key in keys[:index]:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is given twice; leave one out", node.start_mark)
        content: dict[Any, Any] = super().construct_mapping(node, deep)
        return content


def parameters_of(where: str, given: Any) -> dict[str, Any]:
    """Names and values of a row or of all. Raises ValueError for seed and mode, and for a number that YAML takes for a text."""
    if not isinstance(given, Mapping | None):
        raise ValueError(f"{where}: the parameters are {shown(given)}, expected names and values")
    for name, value in (given or {}).items():
        if name in ("seed", "mode"):
            raise ValueError(f"{where}: {name!r} is no parameter of a table; write {name}s: [{value}] beside the parameters")
        if isinstance(value, str) and (number := re.fullmatch(r"([-+]?\d+)(\.\d*)?[eE]([-+]?)(\d+)", value)):
            whole, part, sign, power = number.groups()
            mend = f"{whole}{part or '.0'}e{sign or '+'}{power}"
            raise ValueError(f"{where}: {name} is {value}, which YAML reads as a text; write {mend}")
    return dict(given or {})


def check_runs(where: str, modes: Any, seeds: Any) -> None:
    """Raises ValueError for what are no lists of modes and of seeds, each once."""
    if not isinstance(modes, list) or not modes or any(mode not in MODES or modes.count(mode) > 1 for mode in modes):
        raise ValueError(f"{where}: modes is {shown(modes)}; it needs modes among {', '.join(MODES)}, each once, such as [FIX]")
    if not isinstance(seeds, list) or not seeds or any(type(s) is not int or s < 0 or seeds.count(s) > 1 for s in seeds):
        raise ValueError(f"{where}: seeds is {shown(seeds)}; give a list of whole numbers, each once, such as [0, 1, 2]")


def check_settings(path: Path, table: Table) -> None:
    """Raises ValueError for a setting that cannot run, and for two rows that would measure the same of the same run."""
    first: dict[str, str] = {}
    for row in table.rows:
        for mode in row.modes:
            try:
                came_to = table.setting(row, mode, row.seeds[0]).consequences()
            except ValueError as error:
                raise ValueError(f"{path}, row {row.name!r}: {error}") from None
            for seed in row.seeds:
                measured = json.dumps([came_to | {"seed": seed}, sorted(row.variants)], sort_keys=True)
                if (other := first.setdefault(measured, row.name)) != row.name:
                    alike = f"rows {other!r} and {row.name!r} come to the same run ({mode}, seed {seed})"
                    raise ValueError(f"{path}: {alike}; change a parameter that counts there, or leave one of them out")


def _row(path: Path, entry: Any, table: Mapping[str, Any]) -> Row:
    _check_keys(path, entry, _ROW_KEYS, optional={"label", "parameters", "variants", "modes", "seeds"})
    where = f"{path}, row {entry['name']!r}"
    if not isinstance(entry["name"], str):
        raise ValueError(f"{where}: its name is no text; put it in quotes")
    modes, seeds = (entry.get(key, table[key]) for key in ("modes", "seeds"))
    check_runs(where, modes, seeds)
    parameters = parameters_of(where, entry.get("parameters"))
    variants = entry.get("variants", ["all"])
    if not isinstance(variants, list) or not variants:
        raise ValueError(f"{where}: variants is {shown(variants)}, expected a list such as [all]")
    label = entry.get("label", entry["name"])
    return Row(entry["name"], label, parameters, tuple(map(str, variants)), tuple(modes), tuple(seeds))


def _again(row: Row, name: str, parameters: Mapping[str, Any]) -> Row:
    name, label = (f"{text}, {name}" for text in (row.name, row.label))
    return dataclasses.replace(row, name=name, label=label, parameters={**row.parameters, **parameters})


def _check_keys(path: Path, content: Any, known: set[str], optional: set[str]) -> None:
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: expected names and values, got {content!r:.80}")
    for key in content:
        if key not in known:
            raise ValueError(f"{path}: {key!r} is unknown; choose from {', '.join(sorted(known))}")
    for key in sorted(known - optional):
        if key not in content:
            raise ValueError(f"{path}: {key!r} is missing in {str(content.get('name', 'the table'))!r}")


def unique(runs: Sequence[Run]) -> dict[str, Run]:
    """{address: run}, each setting once, in order."""
    found: dict[str, Run] = {}
    for run in runs:
        found.setdefault(run.setting.address(), run)
    return found
