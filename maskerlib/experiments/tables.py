"""Reading the tables that are committed, or making them anew from runs of one's own.

    results = read_results("layers")
    results.value("top 2", "CA", "LE")              mean, low, high
    results.difference("top 5", "CA", "LE")         from the baseline, seed by seed
    results.against("top 1").difference("top 5", "CA", "LE")    from another one
    results = rerun(load_table("experiments/layers.yaml"), runs, into)
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from maskerlib.experiments.committed import STATES, state
from maskerlib.experiments.grid import NOTEBOOK, Table
from maskerlib.experiments.results import make_table, missing_runs, paired
from maskerlib.notebooks.runner import project_root, run_notebook
from maskerlib.running.checks import check_value, one_of
from maskerlib.running.files import read_json

__all__ = ["STATES", "Results", "read_results", "rerun", "state", "verdict"]


@dataclass(frozen=True)
class Results:
    """One table, as `maskerlib.experiments.results` writes it.

    summary, paired, seeds: the three CSV files.
    maps: {(setting, mode): (h, 8 w) uint8}, masks of the first eight validation scenes of the first seed, side by side.
    record: the JSON file: question, baseline, rows with their parameters, command, version, environments.
    """

    summary: pd.DataFrame
    paired: pd.DataFrame
    seeds: pd.DataFrame
    maps: Mapping[tuple[str, str], np.ndarray]
    record: Mapping[str, Any]

    @property
    def settings(self) -> list[str]:
        """The names of the settings, in the order of the table."""
        return list(dict.fromkeys(self.summary["setting"]))

    def value(self, setting: str, mode: str, metric: str) -> tuple[float, float, float]:
        """Mean over the seeds and the ends of its 95 % interval. Raises KeyError for what the table does not hold."""
        return _found(self.summary, setting, mode, metric)

    def difference(self, setting: str, mode: str, metric: str) -> tuple[float, float, float]:
        """Mean of setting - baseline over the seeds and the ends of its 95 % interval. Raises KeyError as `value` does."""
        return _found(self.paired, setting, mode, metric)

    def against(self, baseline: str) -> "Results":
        """The same runs, with differences from the setting `baseline`, over the seeds that both have.

        A row that was measured on some classes only can be compared with one of the same classes, and with no other: for the
        table's own baseline the committed differences take them from all classes' runs, here a value is taken as it is.
        Raises KeyError for a setting that the table does not hold.
        """
        if baseline not in self.settings:
            raise KeyError(f"no setting {baseline!r}; the settings are {', '.join(self.settings)}")
        record = {**self.record, "baseline": baseline}
        return dataclasses.replace(self, paired=paired(self.seeds, baseline), record=record)

    def table(self, metrics: list[str], *, digits: int = 3) -> pd.DataFrame:
        """Settings by modes, and for each metric the mean and its interval as text: "0.067 [0.061, 0.073]"."""
        rows = self.summary[self.summary["metric"].isin(metrics)].copy()
        rows["text"] = [
            f"{row.mean_:.{digits}f} [{row.low:.{digits}f}, {row.high:.{digits}f}]"
            for row in rows.rename(columns={"mean": "mean_"}).itertuples()
        ]
        wide = rows.pivot(index=["setting", "mode"], columns="metric", values="text")
        order = rows[["setting", "mode"]].drop_duplicates().itertuples(index=False, name=None)
        return wide.loc[list(order), metrics]


def _found(frame: pd.DataFrame, setting: str, mode: str, metric: str) -> tuple[float, float, float]:
    row = frame[(frame["setting"] == setting) & (frame["mode"] == mode) & (frame["metric"] == metric)]
    if len(row) != 1:
        known = ", ".join(dict.fromkeys(frame["setting"]))
        raise KeyError(f"no {metric} of {setting!r}, {mode}; the settings are {known}")
    return tuple(row[["mean", "low", "high"]].iloc[0].astype(float))


def read_results(name: str, folder: str | Path | None = None) -> Results:
    """A table from `folder`, by default figures/tables of this repository.

    Raises FileNotFoundError, naming the command that makes it, or ValueError for a damaged file.
    """
    folder = Path(folder) if folder is not None else project_root() / "figures" / "tables"
    if not (folder / f"{name}.csv").is_file():
        raise FileNotFoundError(f"no table {name} in {folder}; `make experiments TABLE={name}` makes it")
    record = read_json(folder / f"{name}.json")
    summary, pairs, seeds = (pd.read_csv(folder / f"{name}{suffix}.csv") for suffix in ("", "_paired", "_seeds"))
    sheet = np.asarray(Image.open(folder / f"{name}_maps.png"))
    strips = np.split(sheet, len(record["maps"]))
    maps = {(entry["setting"], entry["mode"]): strip for entry, strip in zip(record["maps"], strips, strict=True)}
    return Results(summary, pairs, seeds, maps, record)


def rerun(table: Table, runs: Path, into: Path, *, device: str = "", timeout: float | None = None) -> Results:
    """Make the runs of a table that neither `runs` nor `into` knows, one by one, then its files in `into`, and read them.

    Every run is `notebooks/experiment.ipynb`, executed by papermill, as in `make experiments`, which does several at a time.
    """
    for address, run in missing_runs(table, runs, into).items():
        values = run.setting.changes() | {"folder": str(runs / address), "profile": "default", "device": device}
        run_notebook(project_root() / NOTEBOOK, runs / address / "run.ipynb", values, timeout)
    make_table(table, runs, into)
    return read_results(table.name, into)


def verdict(difference: tuple[float, float, float], *, better: str) -> str:
    """What an interval (mean, low, high) of a difference says: "better", "worse" or "undecided"; `better` is "lower" or "higher".

    Raises ValueError for another direction.

    >>> verdict((-0.03, -0.05, -0.01), better="lower"), verdict((0.02, -0.01, 0.05), better="lower")
    ('better', 'undecided')
    """
    check_value("better", better, one_of(("lower", "higher")))
    _, low, high = difference
    if low <= 0 <= high:
        return "undecided"
    return "better" if (high < 0) == (better == "lower") else "worse"
