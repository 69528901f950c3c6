"""What the files of a table already know of its runs, so that a row or a seed more does not mean a table from nothing.

`NAME_seeds.csv` holds every value of every run beside the run's address, and `NAME_maps.png` its masks. A run whose address is
still that of a row of the table need not be made again: `committed_runs` gives it in the form of its `metrics.json`.

Addresses change where the version of the training's numbers is counted otherwise than before. `carry_over` then gives the values
their new addresses, but only after some of the runs were made again, in full size, and gave the same digits.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from maskerlib.experiments.grid import Run, Table
from maskerlib.experiments.version import VERSION
from maskerlib.running.files import atomic_path, read_json, write_json

__all__ = ["DIGITS", "STATES", "carry_over", "committed_runs", "row_name", "rows_record", "state"]

DIGITS = "%.6g"
"""How the values of a table are written."""

STATES = ("current", "some rows", "other version", "other rows", "none")
"""What the files of a table can be: made of its rows by training of this version, of some of them so, by training of another
version, of other rows, or not made."""

CHECKED = 2
"""Runs that must have been made again, at the least, before a table is carried over."""


def row_name(row: Any, variant: str) -> str:
    """What a row, measured in one of its ways, is called in the tables."""
    return row.name if len(row.variants) == 1 else f"{row.name}, {variant}"


def rows_record(table: Table) -> dict[str, Any]:
    """What NAME.json says of the rows: {name: label, parameters, modes, seeds}."""
    return {
        row.name: {
            "label": row.label,
            "parameters": {**table.shared, **row.parameters},
            "modes": list(row.modes),
            "seeds": list(row.seeds),
        }
        for row in table.rows
    }


def state(table: Table, folder: Path) -> str:
    """Which of `STATES` the files of `table` in `folder` are in. Raises ValueError for a damaged record."""
    files = [folder / f"{table.name}{end}" for end in (".json", ".csv", "_paired.csv", "_seeds.csv", "_maps.png")]
    if not all(path.is_file() for path in files):
        return "none"
    record = read_json(files[0])
    wanted, made = rows_record(table), record.get("rows")
    if not isinstance(made, dict) or not made.items() <= wanted.items() or record.get("baseline") != table.baseline:
        return "other rows"
    if record.get("version") != VERSION:
        return "other version"
    return "current" if len(made) == len(wanted) else "some rows"


def committed_runs(table: Table, folder: Path) -> dict[str, dict[str, Any]]:
    """{address: the run as its `metrics.json` has it, with "maps", an array (h, w) or None}, of every run that `folder` knows.

    None where the files are not there, or come from another version. None of a table with rows that are measured on some classes
    only: those are compared class by class, and the files hold means. Raises ValueError for a damaged file.
    """
    path = folder / f"{table.name}.json"
    if not path.is_file() or any({"seen", "unseen"} & set(row.variants) for row in table.rows):
        return {}
    record = read_json(path)
    if record.get("version") != VERSION:
        return {}
    values = pd.read_csv(folder / f"{table.name}_seeds.csv")
    groups = {key: group.set_index("metric")["value"] for key, group in values.groupby(["address", "setting", "mode", "seed"])}
    sheet = np.asarray(Image.open(folder / f"{table.name}_maps.png"))
    strips = dict(zip(((e["setting"], e["mode"]) for e in record["maps"]), np.split(sheet, len(record["maps"])), strict=True))
    seconds = 60 * record["core minutes"] / max(record["runs"], 1)
    found: dict[str, dict[str, Any]] = {}
    rows = {row.name: row for row in table.rows}
    for run in table.runs():
        names = [row_name(rows[run.row], variant) for variant in rows[run.row].variants]
        keys = [(run.setting.address(), name, run.mode, run.seed) for name in names]
        if any(key not in groups for key in keys):
            continue
        measured = {
            variant: {"metrics": groups[key].to_dict(), "by_class": {}}
            for variant, key in zip(rows[run.row].variants, keys, strict=True)
        }
        shown = [strips[name, run.mode] for name in names if (name, run.mode) in strips]
        found[run.setting.address()] = {
            "address": run.setting.address(),
            "measured": measured,
            "seconds": seconds,
            "maps": np.concatenate(shown) if len(shown) == len(names) else None,
            "provenance": record["environments"],
        }
    return found


def carry_over(table: Table, runs: Path, folder: Path) -> list[str]:
    """Give the values in `folder` the addresses that their runs have now, in words what was compared.

    Every finished run of the table in `runs` is held against the committed values, digit by digit; NAME.json keeps their list
    under "checked". Raises ValueError where a digit differs, or fewer than two runs were made again; nothing is changed then.
    """
    values = pd.read_csv(folder / f"{table.name}_seeds.csv", dtype={"address": str})
    record = read_json(folder / f"{table.name}.json")
    rows = {row.name: row for row in table.rows}
    addresses: dict[tuple[str, str, int], str] = {}
    checked: list[dict[str, Any]] = []
    for run in table.runs():
        row = rows[run.row]
        addresses |= {(row_name(row, variant), run.mode, run.seed): run.setting.address() for variant in row.variants}
        path = runs / run.setting.address() / "metrics.json"
        if path.is_file() and row_name(row, row.variants[0]) in set(values["setting"]):
            for variant in row.variants:
                _compare(values, row_name(row, variant), run, read_json(path)["measured"][variant]["metrics"])
            checked.append({"row": run.row, "mode": run.mode, "seed": run.seed})
    if len(checked) < CHECKED:
        commands = "\n".join(run.command() for run in [next(r for r in table.runs() if r.mode == mode) for mode in ("FIX", "CA")])
        raise ValueError(f"{len(checked)} runs of {table.name} were made again, expected {CHECKED} or more, such as\n{commands}")
    keys = list(values[["setting", "mode", "seed"]].itertuples(index=False, name=None))
    values["address"] = [addresses.get(key, address) for key, address in zip(keys, values["address"], strict=True)]
    with atomic_path(folder / f"{table.name}_seeds.csv") as partial:
        values.to_csv(partial, index=False, float_format=DIGITS, lineterminator="\n")
    known = set(values["setting"])
    made = tuple(row for row in table.rows if row_name(row, row.variants[0]) in known)
    record |= {"version": VERSION, "rows": rows_record(dataclasses.replace(table, rows=made)), "checked": checked}
    record.pop("code", None)
    write_json(folder / f"{table.name}.json", record)
    return [f"{each['row']}, {each['mode']}, seed {each['seed']}: the same digits" for each in checked]


def _compare(values: pd.DataFrame, setting: str, run: Run, metrics: dict[str, float | None]) -> None:
    own = values[(values["setting"] == setting) & (values["mode"] == run.mode) & (values["seed"] == run.seed)]
    for metric, committed in zip(own["metric"], own["value"], strict=True):
        new = float("nan") if metrics.get(metric) is None else metrics[metric]
        if DIGITS % new != DIGITS % committed:
            raise ValueError(f"{setting}, {run.mode}, seed {run.seed}: {metric} is {new:.6g} now, was {committed:.6g}")
