"""The same tables on other data: a folder with a `config.yaml` says which, and what is other than on the scenes.

    tables: [layers, infilling]       # of the folder around it, experiments/; all unless given
    seeds: [0, 1, 2]                  # in place of those of the tables; theirs unless given
    shared:                           # parameters of every row, in place of what its table shares; those of the row itself stay
      {data: pets, root: data/pets, classifier: "torchvision:resnet50"}

Further tables may lie in the folder itself. The runs live with all others, where an address is another run; the files of the
tables are in a folder of their own, figures/tables/NAME, NAME being that of the folder.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from maskerlib.experiments.grid import Table, check_runs, check_settings, load_table, load_tables, parameters_of

__all__ = ["CONFIG", "load_config", "tables_of"]

CONFIG = "config.yaml"
"""The name of the file."""

_KEYS = {"tables", "seeds", "shared"}


def load_config(folder: str | Path) -> dict[str, Table]:
    """Every table of a folder with a `config.yaml`, by name.

    Raises FileNotFoundError for a folder without one, ValueError, naming the file, for a key that is unknown, a table that there
    is not, or a setting that cannot run: tables that need scenes, such as those with `level`, have no place here.
    """
    folder = Path(folder)
    path = folder / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"no {CONFIG} in {folder}; it says which tables are made, and with which parameters")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(content, Mapping) or set(content) - _KEYS:
        raise ValueError(f"{path}: expected the keys {', '.join(sorted(_KEYS))}, got {content!r:.80}")
    shared = parameters_of(f"{path}, shared", content.get("shared"))
    around = {each.stem: each for each in sorted(folder.parent.glob("*.yaml"))}
    names = content.get("tables", list(around))
    if not isinstance(names, list) or set(names) - set(around):
        raise ValueError(f"{path}: tables is {names!r:.80}, expected some of {', '.join(around)}")
    own = [each for each in sorted(folder.glob("*.yaml")) if each != path]
    tables = {each.name: each for each in map(load_table, [*(around[name] for name in names), *own])}
    return {name: _changed(path, table, shared, content.get("seeds")) for name, table in tables.items()}


def _changed(path: Path, table: Table, shared: Mapping[str, Any], seeds: list[int] | None) -> Table:
    """A table with the parameters and the seeds of the configuration."""
    rows = table.rows
    if seeds is not None:
        check_runs(str(path), ["FIX"], seeds)
        rows = tuple(dataclasses.replace(row, seeds=tuple(seeds)) for row in rows)
    changed = dataclasses.replace(table, rows=rows, shared={**table.shared, **shared})
    check_settings(path, changed)
    return changed


def tables_of(root: Path, config: str | Path | None = None) -> tuple[dict[str, Table], Path]:
    """The tables of experiments/ in the repository at `root`, or of a configuration, and the folder of their files."""
    made = root / "figures" / "tables"
    if config is None:
        return load_tables(root / "experiments"), made
    return load_config(config), made / Path(config).resolve().name
