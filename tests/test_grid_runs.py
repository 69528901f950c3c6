"""The graph of runs, really run: killed, taken up again, and left alone once it is done."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from maskerlib.experiments.grid import load_table
from maskerlib.experiments.results import finished_part, make_table, missing_runs, runs_folder

ROOT = Path(__file__).resolve().parents[1]
TINY = {"train_images": 16, "val_images": 16, "steps": 40, "batch_size": 4, "width": 4, "precision": "fp32"}
TABLE = {
    "table": "tiny",
    "question": "Does it run?",
    "notebook": "99_tiny",
    "seeds": [0, 1],
    "modes": ["FIX"],
    "baseline": "plain",
    "shared": TINY,
    "rows": [{"name": "plain"}],
}


def snakemake(folder: Path, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "experiments" / "Snakefile")]
    command += ["--profile", str(ROOT / "experiments" / "profiles" / "local"), "--directory", str(folder), *more]
    settings = {"MASKERLIB_PROFILE": "default", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command,
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finished(folder: Path) -> set[str]:
    return {path.parent.name for path in (folder / "runs" / "experiments").glob("*/metrics.json")}


def second_has_begun(folder: Path) -> bool:
    """One run is over, its notebook written after its result, and another is under way."""
    runs = folder / "runs" / "experiments"
    return bool(list(runs.glob("*/run.ipynb"))) and len(list(runs.glob("*/log.txt"))) == 2


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="kills a group of processes")
def test_a_grid_survives_a_kill_and_ends_once(tmp_path):
    pytest.importorskip("snakemake")
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "tiny.yaml").write_text(yaml.safe_dump(TABLE))

    first = snakemake(tmp_path, "--cores", "1")
    begun = time.monotonic()
    while not second_has_begun(tmp_path) and first.poll() is None:
        assert time.monotonic() - begun < 300
        time.sleep(0.2)
    time.sleep(1)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    before = finished(tmp_path)
    assert len(before) == 1, "the grid was over before it could be killed"
    kept = {
        address: (tmp_path / "runs" / "experiments" / address / "metrics.json").stat().st_mtime_ns for address in before
    }

    second = snakemake(tmp_path, "--cores", "1")
    output, _ = second.communicate(timeout=300)
    assert second.returncode == 0, output
    assert len(finished(tmp_path)) == 2
    for address, written in kept.items():
        path = tmp_path / "runs" / "experiments" / address / "metrics.json"
        assert path.stat().st_mtime_ns == written, "a finished run was repeated"
    summary = pd.read_csv(tmp_path / "figures" / "tables" / "tiny.csv").set_index(["setting", "mode", "metric"])
    assert summary.loc[("plain", "FIX", "LE"), "seeds"] == 2
    assert json.loads((tmp_path / "figures" / "tables" / "tiny.json").read_text())["runs"] == 2

    third = snakemake(tmp_path)
    output, _ = third.communicate(timeout=120)
    assert third.returncode == 0 and "Nothing to be done" in output


@pytest.mark.slow
def test_a_run_that_fails_says_why_and_the_others_go_on(tmp_path):
    pytest.importorskip("snakemake")
    (tmp_path / "experiments").mkdir()
    broken = {"data": "imagenet", "root": "nowhere", "classifier": "torchvision:resnet18"}
    rows = [{"name": "it's broken", "parameters": broken}, *TABLE["rows"]]
    (tmp_path / "experiments" / "tiny.yaml").write_text(yaml.safe_dump(TABLE | {"seeds": [0], "rows": rows}))
    output, _ = snakemake(tmp_path, "--cores", "1").communicate(timeout=300)
    line = next(line for line in output.splitlines() if line.startswith("it's broken, FIX, seed 0: error: "))
    assert "nowhere/train: no such folder" in line
    log = re.search(r"\(all of it: (runs/experiments/[0-9a-f]{16}/log\.txt)\)$", line)
    assert log and (tmp_path / log[1]).read_text().splitlines()[-1] in line
    assert len(finished(tmp_path)) == 1, "the other run goes on"
    table, into = load_table(tmp_path / "experiments" / "tiny.yaml"), tmp_path / "figures" / "tables"
    part = finished_part(table, runs_folder(tmp_path), into)
    assert [row.name for row in part.rows] == ["plain"] and make_table(part, runs_folder(tmp_path), into)


def test_the_claims_wait_for_their_tables():
    pytest.importorskip("snakemake")
    dry = snakemake(ROOT, "--dry-run", "--config", "table=claims", "--forcerun", "claims")
    output, _ = dry.communicate(timeout=120)
    assert dry.returncode == 0, output
    assert jobs_in(output)["claims"] == "1"


def jobs_in(output: str) -> dict[str, str]:
    """How often each rule is to run, from what a dry run prints."""
    return dict(line.split() for line in output.splitlines() if len(line.split()) == 2 and line.split()[1].isdigit())


def test_the_graph_and_the_plan_agree_on_a_fresh_clone(tmp_path):
    """Files of tables that are current need no run, whatever their times; another row or another version does."""
    pytest.importorskip("snakemake")
    (tmp_path / "experiments").mkdir()
    shutil.copytree(ROOT / "figures" / "tables", tmp_path / "figures" / "tables")
    for path in (ROOT / "experiments").glob("*.yaml"):
        if (ROOT / "figures" / "tables" / f"{path.stem}.csv").is_file():
            shutil.copy(path, tmp_path / "experiments")

    def left(*more: str) -> int:
        output, _ = snakemake(tmp_path, "--dry-run", *more).communicate(timeout=120)
        jobs = jobs_in(output)
        assert "Nothing to be done" in output or jobs, output
        return int(jobs.get("run", 0))

    def planned(name: str) -> int:
        return len(
            missing_runs(
                load_table(tmp_path / "experiments" / f"{name}.yaml"),
                runs_folder(tmp_path),
                tmp_path / "figures" / "tables",
            )
        )

    assert sum(planned(path.stem) for path in (tmp_path / "experiments").glob("*.yaml")) == left() == 0
    assert left("--config", "table=layers", "again=true") == 90
    definition = yaml.safe_load((tmp_path / "experiments" / "layers.yaml").read_text())
    definition["rows"].append({"name": "wide", "parameters": {"width": 128}})
    (tmp_path / "experiments" / "layers.yaml").write_text(yaml.safe_dump(definition))
    assert planned("layers") == left() == left("--config", "table=layers") == 10
    record = json.loads((tmp_path / "figures" / "tables" / "few_shot.json").read_text())
    (tmp_path / "figures" / "tables" / "few_shot.json").write_text(json.dumps(record | {"version": 0}))
    assert planned("few_shot") == left("--config", "table=few_shot") == 60
    output, _ = snakemake(tmp_path, "--dry-run", "--config", "table=layer").communicate(timeout=120)
    assert "there is no table 'layer'; choose from classifier_training" in output


def test_another_executor_reads_the_same_graph(tmp_path):
    pytest.importorskip("snakemake")
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "tiny.yaml").write_text(yaml.safe_dump(TABLE))
    dry = snakemake(tmp_path, "--dry-run", "--quiet", "rules")
    output, _ = dry.communicate(timeout=120)
    assert dry.returncode == 0, output
    files = (ROOT / "experiments" / "profiles").glob("*/config.yaml")
    profiles = {path.parent.name: yaml.safe_load(path.read_text()) for path in files}
    local = profiles.pop("local")
    assert {profile["executor"] for profile in profiles.values()} == {"slurm", "kubernetes"}
    for profile in profiles.values():  # what decides which runs are made is the same everywhere
        for option in ("keep-going", "rerun-incomplete", "rerun-triggers"):
            assert profile[option] == local[option]
