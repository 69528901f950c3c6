"""The command line of the grid: what is left to do, and a table from its finished runs.

python -m maskerlib.experiments plan            every table: runs, finished runs, expected time, what is committed
python -m maskerlib.experiments plan layers     one table, row by row, with the command of each run that is left
python -m maskerlib.experiments shared NAME     make a part that runs share: scenes, inpainter or shuffled
python -m maskerlib.experiments table layers    write figures/tables/layers*.csv from the finished runs; --partial of whole rows
python -m maskerlib.experiments choose          which options are taken of method_options, and where methods.yaml has others
python -m maskerlib.experiments claims          write figures/tables/claims.csv from the tables
python -m maskerlib.experiments figures         draw the figure of every table there is, and of the claims
python -m maskerlib.experiments parameters      what the notebook's cell has otherwise than `Setting`; --write mends it
python -m maskerlib.experiments golden          train the golden runs and say what differs; --write keeps them as they are now
python -m maskerlib.experiments plan --config experiments/imagenet     the same of tables on other data; also table, figures
python -m maskerlib.experiments pack layers     its finished runs in one file, for another machine; unpack puts them there
python -m maskerlib.experiments carry layers    give a table its new addresses, once two of its runs gave the same digits
"""

import argparse
import json
import math
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from maskerlib.experiments import golden
from maskerlib.experiments import run as parts
from maskerlib.experiments.cell import differing, write_cell
from maskerlib.experiments.choices import COST, INPAINTER, SCENES
from maskerlib.experiments.choosing import METHODS_TABLE, OPTIONS_TABLE, choose, differing_rows
from maskerlib.experiments.claim_figures import claims_figure
from maskerlib.experiments.claims import make_claims, read_claims
from maskerlib.experiments.committed import carry_over
from maskerlib.experiments.configs import tables_of
from maskerlib.experiments.figures import draw_all
from maskerlib.experiments.grid import NOTEBOOK, Run, Table, unique
from maskerlib.experiments.named import cost_of
from maskerlib.experiments.packing import pack, unpack
from maskerlib.experiments.results import MissingRuns, finished_part, make_table, missing_runs, runs_folder
from maskerlib.experiments.settings import Setting
from maskerlib.experiments.tables import read_results, state
from maskerlib.metrics.registry import ON_REQUEST
from maskerlib.notebooks.runner import project_root
from maskerlib.plots import save_figure
from maskerlib.running.devices import device_named
from maskerlib.running.files import read_json

__all__ = ["expected_seconds", "main"]

SHARED: Mapping[str, Mapping[str, Any]] = {
    "scenes": {},
    "inpainter": {"infill": INPAINTER},
    "shuffled": {"classifier": "shuffled"},
}
"""What runs share, and the parameter that asks for it."""

# Seconds of one core: kernel and measuring; the default training; one pass of a scene through the classifier.
_START, _TRAINING, _PASS = 26.0, {"FIX": 37.0, "CA": 61.0}, 0.0017


def expected_seconds(runs: Sequence[Run], folder: Path) -> dict[str, float]:
    """{address: seconds of one core that the run should take}, from finished ones that do as much.

    Where there are none: what the committed tables took, on one core of a server, or what the method's passes should take.
    """
    took: dict[tuple[object, ...], list[float]] = {}
    for address, run in unique(runs).items():
        path = folder / address / "metrics.json"
        if path.is_file():
            took.setdefault(_effort(run.setting), []).append(read_json(path)["seconds"])
    return {
        address: statistics.median(took.get(_effort(run.setting), [_guess(run.setting)]))
        for address, run in unique(runs).items()
    }


def _effort(setting: Setting) -> tuple[object, ...]:
    """What the seconds of a run depend on: those that have it in common take as long."""
    images = setting.data, setting.classifier, setting.image_size, setting.val_images
    if setting.training() is None:
        return *images, setting.method, json.dumps(setting.options, sort_keys=True)
    if setting.passes:
        return *images, setting.method, setting.mode, setting.passes, setting.train_images
    return *images, setting.method, setting.mode, setting.steps * setting.batch_size


def _guess(setting: Setting) -> float:
    if setting.data != SCENES:
        return math.nan  # as long as nobody has run it
    assert setting.val_images is not None
    metrics = [name.split(", ")[0] for name in setting.also or () if name != COST]
    passes = sum(int(ON_REQUEST[name].rests_on["passes"]) for name in metrics)
    training = 0.0 if setting.training() is None else _TRAINING[setting.mode] * _seen(setting) / _seen(Setting())
    forward, backward = cost_of(setting.method, setting.options, (96, 96))
    return _START + training + _PASS * setting.val_images * (forward + 2 * backward + passes)


def _seen(setting: Setting) -> float:
    """Scenes that a masker sees in training, each as often as it does."""
    return setting.passes * (setting.train_images or 0) if setting.passes else setting.steps * setting.batch_size


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0; 1 when a table misses runs, or a golden run, the cell or an option differs; 2 for bad arguments or bad files."""
    parser = argparse.ArgumentParser("python -m maskerlib.experiments", description="The grid of runs.")
    commands = parser.add_subparsers(dest="command", required=True)
    plan = commands.add_parser("plan", help="what is left to do, and how long it should take")
    plan.add_argument("tables", nargs="*", help="the tables; all unless given")
    plan.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="runs at a time (%(default)s)")
    shared = commands.add_parser("shared", help="make a part that runs share")
    shared.add_argument("part", choices=SHARED)
    table = commands.add_parser("table", help="write a table from its finished runs")
    table.add_argument("tables", nargs="+", help="the tables")
    table.add_argument("--partial", action="store_true", help="leave out rows that have a run to be made yet")
    commands.add_parser("choose", help="say which options of each method are the best, and whether the table of methods has them")
    commands.add_parser("claims", help="hold the study's claims against the tables")
    figures = commands.add_parser("figures", help="draw the figures of all tables there are, and of the claims")
    parameters = commands.add_parser("parameters", help="hold the notebook's parameters cell against Setting")
    parameters.add_argument("--write", action="store_true", help="write it anew")
    golden_runs = commands.add_parser("golden", help="train the golden runs and compare them with what is kept")
    golden_runs.add_argument("--write", action="store_true", help="keep what comes out")
    carry = commands.add_parser("carry", help="give a table its new addresses, once two of its runs gave the same digits")
    carry.add_argument("tables", nargs="+", help="the tables")
    for name, says in (("pack", "put a table's finished runs into one file"), ("unpack", "take runs out of such a file")):
        commands.add_parser(name, help=says).add_argument("table", help="the table")
    for command in (plan, table, figures):
        command.add_argument("--config", type=Path, help="a folder with a config.yaml, such as experiments/imagenet")
    options = parser.parse_args(arguments)
    root = project_root()
    folder = runs_folder(root)
    try:
        if options.command == "shared":
            _make_shared(options.part, root / "runs" / "cache")
            return 0
        if options.command == "parameters":
            lines = differing(root / NOTEBOOK)
            if options.write:
                write_cell(root / NOTEBOOK)
            print("\n".join(lines) or f"the parameters of {NOTEBOOK} are those of Setting")
            return 1 if lines and not options.write else 0
        if options.command == "golden":
            words = golden.keep(root) if options.write else golden.compare(root)
            print("\n".join(words))
            return 0 if options.write or words == [golden.SAME] else 1
        known, tables = tables_of(root, getattr(options, "config", None))
        if options.command == "choose":
            for name in (OPTIONS_TABLE, METHODS_TABLE):
                if name not in known:
                    parser.error(f"there is no experiments/{name}.yaml; it is written down in experiments/planned")
            chosen_options = choose(known[OPTIONS_TABLE], read_results(OPTIONS_TABLE, tables))
            print("\n".join(row.name for row in chosen_options.values()))
            lines = list(differing_rows(chosen_options, known[METHODS_TABLE]))
            print("\n".join(lines) or f"{METHODS_TABLE} has them")
            return 1 if lines else 0
        if options.command == "claims":
            print("\n".join(str(path.relative_to(root)) for path in make_claims(tables)))
            return 0
        if options.command == "figures":
            made = [name for name in known if (tables / f"{name}.csv").is_file()]
            drawn = draw_all(tables, root / "figures" if options.config is None else tables, made)
            if (tables / "claims.csv").is_file():
                drawn.append(root / "figures" / f"{read_json(tables / 'claims.json')['notebook']}.png")
                save_figure(claims_figure(read_claims(tables)), drawn[-1], colours=128)
            print("\n".join(str(path.relative_to(root)) for path in drawn))
            return 0
        asked = options.tables if "tables" in options else [options.table]
        if unknown := [name for name in asked if name not in known]:
            parser.error(f"there is no table {unknown[0]!r}; choose from {', '.join(known)}")
        if options.command in ("pack", "unpack"):
            path = tables / f"{options.table}_runs.zip"
            packs = options.command == "pack"
            count = pack(known[options.table], folder, path) if packs else unpack(path, folder)
            print(f"{count} runs {'to' if packs else 'from'} {path.relative_to(root)}")
            return 0
        chosen = [known[name] for name in options.tables or known]
        if options.command == "table":
            for each in chosen:
                part = finished_part(each, folder, tables) if options.partial else each
                if len(part.rows) < len(each.rows):
                    print(f"{each.name}: {len(part.rows)} of {len(each.rows)} rows are finished", file=sys.stderr)
                for path in make_table(part, folder, tables):
                    print(path.relative_to(root))
            return 0
        if options.command == "carry":
            for each in chosen:
                print("\n".join(f"{each.name}, {line}" for line in carry_over(each, folder, tables)))
            return 0
        print("\n".join(_plan(chosen, folder, tables, options.cores, rows=bool(options.tables))))
    except MissingRuns as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _plan(tables: Sequence[Table], folder: Path, made: Path, cores: int, *, rows: bool) -> list[str]:
    seconds = expected_seconds([run for table in tables for run in table.runs()], folder)
    lines = [f"{'table':24s} {'runs':>5s} {'done':>5s} {'left':>5s}   {f'on {cores} cores':>10s}   in figures/tables"]
    total: dict[str, Run] = {}
    for table in tables:
        runs = unique(list(table.runs()))
        left = missing_runs(table, folder, made)
        total |= left
        line = _line(table.name, len(runs), len(left), sum(seconds[address] for address in left) / cores)
        lines.append(f"{line}   {state(table, made)}")
        if rows:
            lines += [f"  {run.row}, {run.mode}, seed {run.seed}:  {run.command()}" for run in left.values()]
    if len(tables) > 1:
        every = unique([run for table in tables for run in table.runs()])
        lines.append(_line("all, each run once", len(every), len(total), sum(seconds[a] for a in total) / cores))
    return lines


def _line(name: str, runs: int, left: int, seconds: float) -> str:
    expected = "unknown" if math.isnan(seconds) else f"{seconds / 60:.0f} min"
    return f"{name:24s} {runs:5d} {runs - left:5d} {left:5d}   {expected:>10s}"


def _make_shared(part: str, cache: Path) -> None:
    """What `maskerlib.experiments.run` would make for the first run that needs it."""
    setting = Setting(**SHARED[part])
    device = device_named("auto")
    parts.sources(setting, cache)
    classifier = parts.shared_classifier(setting, cache, device)
    parts.shared_infill(setting, cache, classifier)


if __name__ == "__main__":
    sys.exit(main())
