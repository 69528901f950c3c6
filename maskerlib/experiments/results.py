"""What comes out of the grid: one `metrics.json` a run, and from all runs of a table its means, intervals and differences.

A table leaves, in `figures/tables/`:

    NAME.csv              setting, mode, metric, mean, low, high, seeds: the mean over the seeds and its 95 % t interval
    NAME_paired.csv       setting, baseline, mode, metric, mean, low, high, seeds: of setting - baseline, seed by seed
    NAME_seeds.csv        setting, mode, metric, seed, value, address: what the two above are computed from
    NAME_maps.png         the masks of the first seed, a row a setting and mode, eight scenes side by side (256 grey values)
    NAME.json             configuration, versions, machines and command, and which row of the picture is which

A row that is measured in several ways (see `maskerlib.experiments.measuring.variants`) has the way behind its name: "10 %,
unseen".
"""

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from maskerlib.classifiers.classifier import Classifier
from maskerlib.experiments.committed import DIGITS, committed_runs, row_name, rows_record, state
from maskerlib.experiments.grid import Row, Run, Table, unique
from maskerlib.experiments.settings import Setting
from maskerlib.experiments.version import VERSION
from maskerlib.metrics.intervals import t_interval
from maskerlib.running.files import atomic_path, read_json, write_json
from maskerlib.running.provenance import provenance

__all__ = [
    "MissingRuns",
    "collect",
    "finished_part",
    "make_table",
    "missing_runs",
    "paired",
    "runs_folder",
    "save_result",
    "summarise",
]

_KEYS = ["setting", "mode", "metric"]


class MissingRuns(RuntimeError):
    """A table was asked for, but some of its runs are not finished."""


def save_result(
    folder: Path, setting: Setting, measured: Mapping[str, Any], before: Classifier, *, seconds: float
) -> None:
    """Write `metrics.json`: the setting, its address and code, everything measured, and where it was.

    `seconds` is what the run took. Where the run was finished before, and this call only loaded it, the longer time stays.
    """
    if (folder / "metrics.json").is_file():
        seconds = max(seconds, read_json(folder / "metrics.json").get("seconds", 0.0))
    write_json(
        folder / "metrics.json",
        {
            "address": setting.address(),
            "setting": dataclasses.asdict(setting),
            "version": VERSION,
            "measured": measured,
            "seconds": round(seconds, 1),
            "cores": os.cpu_count(),
            "provenance": provenance(seeds=[setting.seed], classifier=before),
        },
    )


def runs_folder(root: Path) -> Path:
    """Where runs live in the repository at `root`, each in a folder that goes by its address."""
    return root / "runs" / "experiments"


def missing_runs(table: Table, runs: Path, into: Path) -> dict[str, Run]:
    """{address: run} of the runs that have yet to be made: neither finished in `runs` nor known to the files in `into`."""
    if state(table, into) == "current":
        return {}
    known = committed_runs(table, into)
    every = unique(list(table.runs()))
    return {a: run for a, run in every.items() if a not in known and not (runs / a / "metrics.json").is_file()}


def collect(table: Table, runs: Path, into: Path) -> pd.DataFrame:
    """Every value of every run of a table, as finished in `runs` or known to `into`.

    Columns setting, mode, metric, seed, value, address. Raises MissingRuns when a run is in neither, ValueError for a file that
    is damaged or of another run.
    """
    left = missing_runs(table, runs, into)
    if left:
        raise MissingRuns(
            f"{len(left)} of the runs of {table.name} are not finished; `make experiments TABLE={table.name}` makes them"
        )
    records = []
    for row, run, found in _finished(table, runs, into):
        for variant in row.variants:
            if variant not in found["measured"]:
                known = ", ".join(found["measured"])
                raise ValueError(f"{table.name}, row {row.name!r}: there is no variant {variant!r}; choose from {known}")
            for metric, value in found["measured"][variant]["metrics"].items():
                value = np.nan if value is None else value
                records.append((row_name(row, variant), run.mode, metric, run.seed, value, found["address"]))
    return pd.DataFrame(records, columns=[*_KEYS, "seed", "value", "address"])


def _finished(table: Table, runs: Path, into: Path) -> Iterator[tuple[Row, Run, dict[str, Any]]]:
    rows = {row.name: row for row in table.rows}
    known = committed_runs(table, into)
    for run in table.runs():
        address = run.setting.address()
        path = runs / address / "metrics.json"
        found = read_json(path) if path.is_file() or address not in known else known[address]
        if not isinstance(found, dict) or found.get("address") != run.setting.address():
            raise ValueError(f"{path} is not the result of this run; delete its folder and run it again")
        yield rows[run.row], run, found


def summarise(values: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds with 95 % t intervals: columns setting, mode, metric, mean, low, high, seeds.

    The interval tells how far the mean would move with other seeds (initial weights, order, pool, draws of classes and examples);
    the scenes that are measured on are the same for all, unless the setting asks for fresh ones. With one seed its ends are NaN.
    A metric that is unknown (NaN) for a seed is unknown.
    """
    found = []
    for key, group in values.groupby(_KEYS, sort=False):
        known = group["value"].notna().all()
        mean, low, high = t_interval(group["value"]) if known else (np.nan,) * 3
        ends = (low, high) if np.isfinite([low, high]).all() else (np.nan, np.nan)
        found.append((*key, mean, *ends, len(group)))
    return pd.DataFrame(found, columns=[*_KEYS, "mean", "low", "high", "seeds"])


def paired(
    values: pd.DataFrame, baseline: str, on_classes: Mapping[tuple[str, str], Mapping[int, Mapping[str, float]]] | None = None
) -> pd.DataFrame:
    """Differences from the setting `baseline`, seed by seed, with 95 % t intervals; `values` and columns as in the module.

    Only seeds that both have count. A baseline that exists in one mode only serves both. A setting and mode in `on_classes` is
    compared with the values given there, {seed: {metric: value}}, in the metrics that they have.
    """
    base = values[values["setting"] == baseline]
    on_classes = on_classes or {}
    found = []
    for (setting, mode, metric), group in values.groupby(_KEYS, sort=False):
        if setting == baseline:
            continue
        its_mode = mode if (base["mode"] == mode).any() else base["mode"].iloc[0]
        reference = base[(base["metric"] == metric) & (base["mode"] == its_mode)].set_index("seed")["value"]
        if (setting, mode) in on_classes:
            known = {seed: by[metric] for seed, by in on_classes[setting, mode].items() if metric in by}
            reference = pd.Series(known, dtype=float)
        difference = (group.set_index("seed")["value"] - reference).dropna()
        if len(difference) < 2:
            continue
        mean, low, high = t_interval(difference)
        found.append((setting, baseline, mode, metric, mean, low, high, len(difference)))
    return pd.DataFrame(found, columns=["setting", "baseline", "mode", "metric", "mean", "low", "high", "seeds"])


def _baseline(table: Table) -> str:
    row = next(row for row in table.rows if row.name == table.baseline)
    return row_name(row, row.variants[0])


def _on_the_same_classes(table: Table, runs: Path, into: Path) -> dict[tuple[str, str], dict[int, dict[str, float]]]:
    """{(setting, mode): {seed: {metric: the baseline's mean over the classes that the setting is measured on}}}.

    Of the rows that are measured on some classes only, in the metrics that are known class by class.
    """
    every = list(_finished(table, runs, into))
    base = {
        (run.mode, run.seed): next(iter(found["measured"].values()))["by_class"]
        for row, run, found in every
        if row.name == table.baseline
    }
    matched: dict[tuple[str, str], dict[int, dict[str, float]]] = {}
    for row, run, found in every:
        for variant in row.variants:
            reference = base.get((run.mode, run.seed), {})
            classes = found["measured"][variant]["by_class"].keys()
            if classes and classes < reference.keys():
                means = pd.DataFrame([reference[name] for name in classes]).astype(float).mean()
                matched.setdefault((row_name(row, variant), run.mode), {})[run.seed] = means.to_dict()
    return matched


def finished_part(table: Table, runs: Path, into: Path) -> Table:
    """The table of those rows all of whose runs are finished in `runs`, or known to the files in `into`.

    Raises MissingRuns where the baseline is none of them.
    """
    left = missing_runs(table, runs, into)
    wanting = {run.row for run in table.runs() if run.setting.address() in left}
    rows = tuple(row for row in table.rows if row.name not in wanting)
    if table.baseline in wanting:
        raise MissingRuns(f"{table.name}: the baseline {table.baseline!r} is not finished, with which all else is compared")
    return dataclasses.replace(table, rows=rows)


def make_table(table: Table, runs: Path, into: Path) -> list[Path]:
    """Write everything that a table leaves (see the module) and return the paths. Each file is whole or as it was before.

    Raises MissingRuns while a run is missing; `finished_part` is what can be written before.
    """
    values = collect(table, runs, into)
    pictures, order = _maps(table, runs, into)
    record = _record(table, runs, into, order)
    differences = paired(values, _baseline(table), _on_the_same_classes(table, runs, into))
    frames = {"": summarise(values), "_paired": differences, "_seeds": values}
    written = []
    for suffix, frame in frames.items():
        path = into / f"{table.name}{suffix}.csv"
        with atomic_path(path) as partial:
            frame.to_csv(partial, index=False, float_format=DIGITS, lineterminator="\n")
        written.append(path)
    with atomic_path(into / f"{table.name}_maps.png") as partial:
        Image.fromarray(pictures).save(partial, optimize=True)
    write_json(into / f"{table.name}.json", record)
    return [*written, into / f"{table.name}_maps.png", into / f"{table.name}.json"]


def _maps(table: Table, runs: Path, into: Path) -> tuple[np.ndarray, list[dict[str, str]]]:
    """The masks of the first seed, one strip a setting and mode, and what each strip is."""
    strips, order = [], []
    for row, run, found in _finished(table, runs, into):
        if run.seed != row.seeds[0]:
            continue
        sheet = found["maps"] if "maps" in found else np.asarray(Image.open(runs / found["address"] / "maps.png"))
        if sheet is None:
            raise MissingRuns(f"{table.name}: the masks of {row.name}, {run.mode} are not known; delete the table's files")
        shown = [name for name in found["measured"] if name not in ("seen", "unseen")]
        for name, strip in zip(shown, np.split(sheet, len(shown)), strict=True):
            strips.append(strip)
            setting = row.name if len(shown) == 1 else f"{row.name}, {name}"
            order.append({"setting": setting, "mode": run.mode})
    return np.concatenate(strips), order


def _record(table: Table, runs: Path, into: Path, order: list[dict[str, str]]) -> dict[str, Any]:
    finished = list(_finished(table, runs, into))
    return {
        "table": table.name,
        "question": table.question,
        "notebook": table.notebook,
        "baseline": table.baseline,
        "command": f"make experiments TABLE={table.name}",
        "version": VERSION,
        "runs": len(unique([run for _, run, _ in finished])),
        "core minutes": round(sum({f["address"]: f["seconds"] for _, _, f in finished}.values()) / 60, 1),
        "rows": rows_record(table),
        "maps": order,
        "environments": _environments(found["provenance"] for _, _, found in finished),
        **_checked(into / f"{table.name}.json"),
    }


def _checked(path: Path) -> dict[str, Any]:
    """Which runs were once made again to find the same digits, as the record before this one has it."""
    return {"checked": read_json(path)["checked"]} if path.is_file() and "checked" in read_json(path) else {}


def _environments(records: Iterable[Mapping[str, Any] | list[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Versions and machines, each combination once: what differs only in the command or the seed is one."""
    seen: dict[str, dict[str, Any]] = {}
    for record in (one for each in records for one in (each if isinstance(each, list) else [each])):
        kept = {key: value for key, value in record.items() if key not in ("command", "seeds")}
        seen.setdefault(json.dumps(kept, sort_keys=True), kept)
    return list(seen.values())
