"""Several processes on one run, started by torchrun with gloo: all that they may change is rounding."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import distributed_run
import pytest
import torch

from maskerlib.data.augment import draw_crops
from maskerlib.running.distributed import add_up, agreed, anyone, first, gathered, rank, share, summed, together, world
from maskerlib.running.files import load_checkpoint
from maskerlib.running.seeds import for_each, part_of_batch

SCRIPT = Path(distributed_run.__file__)
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="torchrun needs libuv there, which wheels lack")


def torchrun(processes: int, job: str, folder: Path) -> subprocess.CompletedProcess:
    """The job on so many processes; it may take two minutes on a busy machine, and hangs no longer than that."""
    here = os.pathsep.join([str(SCRIPT.parent), str(SCRIPT.parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), str(SCRIPT), job, str(folder)]
    environment = {**os.environ, "PYTHONPATH": here, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


def flat(content: object, where: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor and list of numbers in a nested result, by its path."""
    if isinstance(content, torch.Tensor):
        yield where, content.double()
    elif isinstance(content, dict):
        for name, part in content.items():
            yield from flat(part, f"{where}/{name}")
    elif isinstance(content, list) and content and isinstance(content[0], float):
        yield where, torch.tensor(content, dtype=torch.float64)
    elif isinstance(content, list):
        for number, part in enumerate(content):
            yield from flat(part, f"{where}/{number}")
    else:
        raise AssertionError(f"{where}: {content!r}")


def furthest(found: object, expected: object) -> tuple[float, str]:
    """How far two results are apart, relative to the second, and where."""
    ours, theirs = dict(flat(found)), dict(flat(expected))
    assert ours.keys() == theirs.keys() and ours
    apart = ((float((ours[name] - value).norm() / value.norm().clamp(min=1e-12)), name) for name, value in theirs.items())
    return max(apart)


@pytest.fixture(scope="module")
def alone() -> dict:
    """What one process makes of everything: a plain run, and `nn.BatchNorm2d`."""
    return distributed_run.everything()


@pytest.fixture(scope="module", params=[2, 4])
def several(request, tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("several")
    done = torchrun(request.param, "everything", folder)
    assert done.returncode == 0, done.stderr
    return load_checkpoint(folder / "found.pt")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*distributed_run.RUNS, *distributed_run.OTHERS])
def test_the_number_of_processes_changes_nothing_but_rounding(name, alone, several):
    distance, where = furthest(several[name], alone[name])
    assert distance < 1e-5, where


@pytest.mark.slow
def test_runs_that_differ_would_be_seen(alone):
    start = distributed_run.tiny_classifier().state_dict()
    assert furthest(alone["CA"]["classifier"], start)[0] > 1e-3
    assert furthest(alone["CA"]["masker"], alone["FIX"]["masker"])[0] > 1e-3


@pytest.mark.slow
def test_batch_norm_is_that_of_the_whole_batch(alone, several):
    """Values, gradients, running statistics; one process has `nn.BatchNorm2d` itself. The shares are 4 and 3, or 2, 2, 2, 1."""
    distance, where = furthest(several["batch norm"], alone["batch norm"])
    assert distance < 1e-9, where


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 13, 24])
def test_a_table_is_that_of_one_process_to_the_last_digit(alone, several, count):
    """Batches of 4: one of 3, where all processes but the first have none; 4, the last of one image; 6."""
    assert several["tables"][f"{count} images"] == alone["tables"][f"{count} images"]
    table, attributes, rows = alone["tables"][f"{count} images"]
    assert json.loads(attributes)["images"] == count and len(rows.splitlines()) == 4 * count + 1
    assert json.loads(table)["F1"]["truth"] > json.loads(table)["F1"]["channel"] > 0


@pytest.mark.slow
def test_a_run_that_dies_on_four_processes_goes_on_with_two(alone, tmp_path):
    died = torchrun(4, "die", tmp_path)
    assert died.returncode != 0 and "SIGKILL" in died.stderr
    assert load_checkpoint(tmp_path / "checkpoint.pt")["step"] == 10
    done = torchrun(2, "train", tmp_path)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.glob("checkpoint*"))
    distance, where = furthest(distributed_run.outcome(distributed_run.train("CA", tmp_path)), alone["CA"])
    assert distance < 1e-5, where


@pytest.mark.slow
def test_the_other_trainings_go_on_with_another_number(alone, tmp_path):
    stopped = torchrun(4, "stop others", tmp_path)
    assert stopped.returncode == 0, stopped.stderr
    assert {load_checkpoint(tmp_path / name / "checkpoint.pt")["step"] for name in distributed_run.OTHERS} == {7}
    done = torchrun(2, "train others", tmp_path)
    assert done.returncode == 0, done.stderr
    for name in distributed_run.OTHERS:
        distance, where = furthest(distributed_run.train_other(name, tmp_path / name), alone[name])
        assert distance < 1e-5, (name, where)


@pytest.mark.slow
def test_a_process_that_fails_ends_the_others(tmp_path):
    done = torchrun(2, "raise", tmp_path)
    assert done.returncode != 0
    assert "ValueError: this process has had enough" in done.stderr
    assert "process 0 of 2: another process of this run has stopped" in done.stderr or "SIGTERM" in done.stderr
    assert load_checkpoint(tmp_path / "checkpoint.pt")["step"] == 10


@pytest.mark.slow
def test_more_processes_than_images_a_batch_are_refused(tmp_path):
    done = torchrun(2, "too many", tmp_path)
    assert done.returncode != 0
    assert "ValueError: batch_size=1 for 2 processes: each of them takes one image of a batch at the least" in done.stderr


def test_one_process_is_none(monkeypatch):
    tensor = torch.ones(2)
    add_up([tensor])
    agreed(3, "anything", "nothing to mend")
    assert (world(), rank(), first(), anyone(False), anyone(True), gathered("x")) == (1, 0, True, False, True, ["x"])
    assert summed(tensor) is tensor and torch.equal(tensor, torch.ones(2)) and list(range(4)[share()]) == [0, 1, 2, 3]
    with together("cpu") as device:
        assert device == torch.device("cpu") and world() == 1


class TestWhatAnImageMeetsFollowsFromItsPosition:
    @pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
    @pytest.mark.parametrize("draw", [torch.rand_like, torch.randn_like])
    @pytest.mark.parametrize("count", [1, 5])
    def test_draws(self, draw, layout, count):
        images = torch.zeros(count, 3, 4, 5).contiguous(memory_format=layout)

        def drawn(rows: slice) -> torch.Tensor:
            torch.manual_seed(7)
            with part_of_batch(rows, count):
                return for_each(draw, images[rows].contiguous(memory_format=layout))

        torch.manual_seed(7)
        whole = draw(images)
        assert torch.equal(drawn(slice(None)), whole)
        for processes in range(1, count + 1):
            for mine in range(processes):
                assert torch.equal(drawn(slice(mine, None, processes)), whole[mine::processes])

    def test_crops(self):
        crops = draw_crops(5, torch.Generator().manual_seed(0))
        part = crops.part(slice(1, None, 2))
        assert len(part) == 2 and part.scale == crops.scale
        assert [part.window(at, 40, 30) for at in range(2)] == [crops.window(at, 40, 30) for at in (1, 3)]
