"""A run that is killed or stopped at any moment and started again ends like one that never was, bit for bit.

MASKERLIB_KILLS sets how often (3 times by default). A kill is SIGKILL, on Windows TerminateProcess; every second time it is
Ctrl-C in its place, except on Windows.
"""

import multiprocessing
import os
import random
import signal
import sys
import time
from multiprocessing.context import BaseContext
from pathlib import Path

import pytest
import resume_run
import torch

from maskerlib.running.files import load_checkpoint, read_json

KILLS = int(os.environ.get("MASKERLIB_KILLS", "3"))


def start(context: BaseContext, folder: Path) -> multiprocessing.Process:
    """A process that has begun to train into `folder`."""
    here, there = context.Pipe(duplex=False)
    with here, there:
        process = context.Process(target=resume_run.run, args=(folder, there), daemon=True)
        process.start()
        assert here.poll(120), "the run did not start"
        assert here.recv() == "ready"
    return process


def outcome(folder: Path) -> dict[str, object]:
    """Every file that a run left, by its path; all but the provenance with its content."""
    content: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".pt":
            content[name] = load_checkpoint(path)
        elif path.is_file():
            content[name] = None if path.name == "provenance.json" else read_json(path)
    return content


def differences(one: object, other: object, where: str = "") -> list[str]:
    """The places at which two nested results are not the same, bit for bit."""
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            return [f"{where}: {sorted(one)} and {sorted(other)}"]
        return [text for key in one for text in differences(one[key], other[key], f"{where}/{key}")]
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return [] if one.dtype == other.dtype and torch.equal(one, other) else [where]
    return [] if one == other else [where]


@pytest.mark.slow
def test_killed_and_resumed_runs_end_bit_for_bit_alike(tmp_path):
    context = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
    if sys.platform != "win32":
        context.set_forkserver_preload(["maskerlib.masker.training"])  # imported once, so that a start takes no time

    process = start(context, tmp_path / "whole")
    began = time.monotonic()
    process.join()
    assert process.exitcode == 0
    duration = time.monotonic() - began
    expected = outcome(tmp_path / "whole")
    assert sorted(expected) == sorted(
        [f"classifier/{name}" for name in ("classifier.pt", "history.json", "provenance.json")]
        + [f"{mode}/{name}" for mode in ("FIX", "CA") for name in ("config.json", "history.json", "masker.pt")]
        + ["FIX/provenance.json", "CA/provenance.json", "CA/classifier.pt"]
    )

    moments = random.Random(0)
    kills = rounds = 0
    while kills < KILLS:
        rounds += 1
        folder = tmp_path / f"killed{rounds}"
        while True:
            process = start(context, folder)
            began = time.monotonic()
            if kills < KILLS:
                process.join(moments.uniform(0, 1.5 * duration / min(KILLS, 8)))
            else:
                process.join()
            ctrl_c = kills % 2 == 1 and sys.platform != "win32"
            if ctrl_c and process.is_alive():
                os.kill(process.pid, signal.SIGINT)
            elif not ctrl_c:
                process.kill()  # does nothing to a process that has ended
            process.join()
            if process.exitcode == 0:  # it ended by itself, before the kill that was due
                duration = min(duration, time.monotonic() - began)  # the first run may have met a busier machine
                break
            killed = 1 if sys.platform == "win32" else -signal.SIGKILL
            assert process.exitcode == (resume_run.STOPPED if ctrl_c else killed)
            kills += 1
        assert differences(outcome(folder), expected) == []


def test_a_different_outcome_would_be_seen():
    same = {"a": torch.tensor([1.0, 2.0]), "b": [1, {"c": 2}]}
    assert differences(same, {"a": same["a"].clone(), "b": [1, {"c": 2}]}) == []
    assert differences(same, {**same, "a": same["a"].nextafter(torch.tensor([1.0, 9.0]))}) == ["/a"]
    assert differences(same, {**same, "b": [1, {"c": 3}]}) == ["/b"]
    assert differences(same, {"a": same["a"]}) != []
