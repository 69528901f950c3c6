"""The graph of runs, really run: killed, taken up again, and left alone once it is done."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

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
    kept = {address: (tmp_path / "runs" / "experiments" / address / "metrics.json").stat().st_mtime_ns for address in before}

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


def test_the_claims_wait_for_their_tables():
    pytest.importorskip("snakemake")
    dry = snakemake(ROOT, "--dry-run", "figures/tables/claims.csv", "--forcerun", "claims")
    output, _ = dry.communicate(timeout=120)
    assert dry.returncode == 0, output
    jobs = dict(line.split() for line in output.splitlines() if len(line.split()) == 2 and line.split()[1].isdigit())
    assert jobs["claims"] == "1" and set(jobs) <= {"claims", "table", "run", "part", "total"}


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
