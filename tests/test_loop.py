"""The loop: order of the images, checkpoints, and runs that must stop."""

import functools
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import Squares
from torch import nn

from maskerlib.data.augment import Crops
from maskerlib.data.samples import Batch, Subset
from maskerlib.running.files import load_checkpoint, save_checkpoint
from maskerlib.running.progress import VARIABLE, read_progress
from maskerlib.training.checkpoint import clear_checkpoint
from maskerlib.training.loop import (
    Diverged,
    Interrupted,
    Plan,
    learning_rate_factor,
    run_steps,
    source_identity,
    steps_for,
)


def seen(plan: Plan, source: Squares, **options) -> list[list[str]]:
    """The names of the images of each step."""
    names = []

    def step(number, batch):
        assert number == len(names) and len(batch) == plan.batch_size
        names.append(list(batch.names))
        return {"loss": 0.0}

    run_steps(plan, source, step, {}, identity="x", progress=False, **options)
    return names


class Counting(nn.Module):
    """A state that tells how often it was stepped, and with which random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("trace", torch.zeros(100))

    def step(self, number, batch):
        self.trace[number] = torch.rand(()) + batch.images.sum()
        return {"loss": float(self.trace[number]), "number": float(number)}


class Stop(Exception):
    pass


class Cropped(Squares):
    """A source whose crops are its images, darker by the share that the crop would have had."""

    def cropped(self, indices, crops):
        batch = self.batch(indices)
        return Batch(batch.images * crops.share.view(-1, 1, 1, 1), batch.labels, batch.boxes, batch.masks, batch.names)


def crops_of_step(count: int, step: int) -> Crops:
    half = torch.full((count,), 0.5)
    return Crops((0.1, 1.0), half / (1 + step), half, half, half, half < 0)


class TestOrder:
    @settings(max_examples=15)
    @given(st.integers(1, 9), st.integers(1, 20), st.integers(1, 8))
    def test_each_image_comes_once_a_pass_also_where_batches_span_passes(self, count, batch_size, steps):
        names = sum(seen(Plan(steps, batch_size), Squares(count)), [])
        assert len(names) == steps * batch_size
        for start in range(0, len(names), count):
            one_pass = names[start : start + count]
            assert len(set(one_pass)) == len(one_pass)

    def test_passes_and_seeds_differ(self):
        passes = seen(Plan(3, 12), Squares(12))
        assert Counter(map(tuple, passes)) == {tuple(names): 1 for names in passes}
        assert seen(Plan(3, 12), Squares(12)) == passes
        assert seen(Plan(3, 12, seed=1), Squares(12)) != passes

    def test_workers_change_nothing(self):
        assert seen(Plan(5, 4, workers=1), Squares(6)) == seen(Plan(5, 4), Squares(6))

    @pytest.mark.parametrize("workers", [0, 1])
    def test_crops_follow_the_step_and_come_from_the_source(self, workers):
        def batches(**options) -> list[torch.Tensor]:
            found = []

            def step(number, batch):
                found.append(batch.images)
                return {"loss": 0.0}

            run_steps(Plan(3, 4, workers=workers), Cropped(6), step, {}, identity="x", progress=False, **options)
            return found

        plain, cropped = batches(), batches(crops=functools.partial(crops_of_step, 4))
        darker = [batch * (0.5 / (1 + step)) for step, batch in enumerate(plain)]
        assert all(map(torch.equal, cropped, darker)) and len(cropped) == len(darker)


class TestCheckpoint:
    def test_an_interrupted_run_goes_on_where_it_was_saved(self, tmp_path):
        plan, source = Plan(11, 3, checkpoint_every=4), Squares(7)
        whole = Counting()
        expected = run_steps(plan, source, whole.step, {"x": whole}, identity="x", progress=False)
        steps = []
        for stop in (6, 10, None):
            part = Counting()

            def step(number, batch, part=part, stop=stop):
                if number == stop:
                    raise Stop
                steps.append(number)
                return part.step(number, batch)

            try:
                history = run_steps(plan, source, step, {"x": part}, identity="x", folder=tmp_path, progress=False)
            except Stop:
                assert stop is not None
        assert steps == [0, 1, 2, 3, 4, 5, 4, 5, 6, 7, 8, 9, 8, 9, 10]
        assert history == expected and torch.equal(part.trace, whole.trace)
        again = Counting()
        run_steps(plan, source, step, {"x": again}, identity="x", folder=tmp_path, progress=False)
        assert len(steps) == 15 and torch.equal(again.trace, whole.trace)  # finished: nothing is repeated
        clear_checkpoint(tmp_path)
        clear_checkpoint(tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_leftovers_of_killed_processes_are_removed(self, tmp_path):
        (tmp_path / "checkpoint.partial-1-2.pt").touch()
        part = Counting()
        run_steps(Plan(2, 2), Squares(4), part.step, {"x": part}, identity="x", folder=tmp_path, progress=False)
        assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
        assert load_checkpoint(tmp_path / "checkpoint.pt")["step"] == 2

    def test_that_of_another_run_is_refused(self, tmp_path):
        part = Counting()
        run_steps(Plan(2, 2), Squares(4), part.step, {"x": part}, identity="x", folder=tmp_path, progress=False)
        before = (tmp_path / "checkpoint.pt").read_bytes()
        with pytest.raises(ValueError, match=r"checkpoint\.pt belongs to a run with another configuration"):
            run_steps(Plan(2, 2), Squares(4), part.step, {"x": part}, identity="y", folder=tmp_path, progress=False)
        assert (tmp_path / "checkpoint.pt").read_bytes() == before

    def test_a_truncated_one_is_named(self, tmp_path):
        part = Counting()
        run_steps(Plan(2, 2), Squares(4), part.step, {"x": part}, identity="x", folder=tmp_path, progress=False)
        content = (tmp_path / "checkpoint.pt").read_bytes()
        (tmp_path / "checkpoint.pt").write_bytes(content[: len(content) // 2])
        with pytest.raises(
            ValueError, match=r"checkpoint\.pt is not a readable checkpoint .*delete it to start afresh"
        ):
            run_steps(Plan(2, 2), Squares(4), part.step, {"x": part}, identity="x", folder=tmp_path, progress=False)

    @pytest.mark.parametrize(
        "change",
        [
            {"state": None},
            {"state": {}},
            {"state": []},
            {"state": {"x": {}}},
            {"state": {"x": {"trace": torch.zeros(7)}}},
            {"state": {"x": {"trace": "a"}}},
            {"state": {"x": 3}},
            {"step": None},
            {"step": "2"},
            {"step": -1},
            {"step": 3},
            {"step": True},
            {"history": None},
            {"history": [1]},
            {"history": {"loss": [1.0, 2.0, 3.0]}},
            {"history": {"loss": [[]]}},
            {"history": {"loss": 3}},
        ],
    )
    def test_one_that_holds_no_state_of_this_run_is_named(self, tmp_path, change):
        part = Counting()
        run_steps(Plan(2, 2), Squares(4), part.step, {"x": part}, identity="x", folder=tmp_path, progress=False)
        path = tmp_path / "checkpoint.pt"
        content = load_checkpoint(path)
        for changed in ({**content, **change}, {name: value for name, value in content.items() if name not in change}):
            save_checkpoint(path, changed)
            message = r"checkpoint\.pt does not hold the state of this run \(.*\); delete it to start afresh"
            with pytest.raises(ValueError, match=message) as caught:
                run_steps(Plan(2, 2), Squares(4), part.step, {"x": part}, identity="x", folder=tmp_path, progress=False)
            assert "\n" not in str(caught.value)

    def test_a_folder_that_cannot_be_written_to_is_named_before_the_first_step(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(ValueError, match="cannot be written to"):
            seen(Plan(2, 2), Squares(4), folder=tmp_path / "file" / "run")

    def test_the_global_generator_is_left_alone(self):
        before = torch.random.get_rng_state()
        part = Counting()
        run_steps(Plan(2, 2), Squares(4), part.step, {"x": part}, identity="x", progress=False)
        assert torch.equal(torch.random.get_rng_state(), before)


TRAINS = """
import sys, time
from pathlib import Path
from tiny import Squares
from maskerlib.training.loop import Plan, run_steps
class Slow(Squares):
    def batch(self, indices):
        time.sleep({pause})
        return super().batch(indices)
def step(number, batch):
    if number == 3:
        print("at step 3", flush=True)
        {in_step}
    return {{"loss": 0.0}}
plan = Plan(20, 2, checkpoint_every=10, workers={workers})
run_steps(plan, Slow(4), step, {{}}, identity="x", folder=Path(sys.argv[1]), progress=False)
"""


def training(folder: Path, in_step: str, *, workers: int = 0, pause: float = 0.0) -> subprocess.Popen:
    """A process in the fourth step of a training into `folder`."""
    program = [sys.executable, "-c", TRAINS.format(in_step=in_step, workers=workers, pause=pause), str(folder)]
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)])}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen(program, **pipes, text=True, env=environment)
    assert process.stdout.readline() == "at step 3\n"
    return process


class TestTwoAtOnce:
    def go_on(self, folder: Path) -> None:
        plan = Plan(20, 2, checkpoint_every=10)
        run_steps(plan, Squares(4), lambda *_: {"loss": 0.0}, {}, identity="x", folder=folder, progress=False)

    def test_the_second_is_refused_and_the_first_loses_nothing(self, tmp_path):
        first = training(tmp_path, "input()")
        with pytest.raises(ValueError, match=rf"is in use by process {first.pid} on .*; wait until it ends, or give another"):
            self.go_on(tmp_path)
        assert first.communicate("go on\n")[1] == "" and first.returncode == 0
        assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
        assert load_checkpoint(tmp_path / "checkpoint.pt")["step"] == 20

    def test_a_folder_whose_training_was_killed_is_free(self, tmp_path):
        first = training(tmp_path, "input()", workers=1)
        first.kill()
        first.wait()  # its worker may live for some seconds
        self.go_on(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
        for pipe in (first.stdin, first.stdout, first.stderr):
            pipe.close()


class TestInterruption:
    def interrupted(self, number, batch, part, at):
        if number == at:
            signal.raise_signal(signal.SIGINT)
        return part.step(number, batch)

    def test_the_step_ends_is_saved_and_the_run_goes_on_from_there(self, tmp_path):
        plan, source = Plan(11, 3, checkpoint_every=4), Squares(7)
        whole, part, rest = Counting(), Counting(), Counting()
        options = {"identity": "x", "progress": False, "description": "masker (FIX)"}
        expected = run_steps(plan, source, whole.step, {"x": whole}, **options)
        step = functools.partial(self.interrupted, part=part, at=5)
        message = r"^masker \(FIX\) stopped at step 6 of 11; run the same call again and it goes on from there$"
        with pytest.raises(Interrupted, match=message) as caught:
            run_steps(plan, source, step, {"x": part}, folder=tmp_path, **options)
        assert isinstance(caught.value, KeyboardInterrupt) and caught.value.__suppress_context__
        assert load_checkpoint(tmp_path / "checkpoint.pt")["step"] == 6
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        steps = []

        def counted(number, batch):
            steps.append(number)
            return rest.step(number, batch)

        history = run_steps(plan, source, counted, {"x": rest}, folder=tmp_path, **options)
        assert steps == [6, 7, 8, 9, 10] and history == expected and torch.equal(rest.trace, whole.trace)

    def test_a_second_stops_within_the_step_and_keeps_the_last_checkpoint(self, tmp_path):
        part = Counting()

        def step(number, batch):
            if number == 5:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)
            return part.step(number, batch)

        with pytest.raises(Interrupted, match="stopped at step 5 of 11; run the same call again and it goes on from step 4"):
            run_steps(
                Plan(11, 3, checkpoint_every=4), Squares(7), step, {"x": part}, identity="x", folder=tmp_path, progress=False
            )
        assert load_checkpoint(tmp_path / "checkpoint.pt")["step"] == 4

    def test_without_a_folder_it_says_what_one_is_good_for(self):
        step = functools.partial(self.interrupted, part=Counting(), at=0)
        with pytest.raises(Interrupted, match="training stopped at step 1 of 3; nothing is kept without a folder; with one"):
            run_steps(Plan(3, 2), Squares(4), step, {}, identity="x", progress=False)

    def test_in_the_last_step_it_is_not_swallowed(self, tmp_path):
        step = functools.partial(self.interrupted, part=Counting(), at=2)
        with pytest.raises(Interrupted, match="stopped at step 3 of 3"):
            run_steps(Plan(3, 2), Squares(4), step, {}, identity="x", folder=tmp_path, progress=False)

    @pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C cannot be sent to one process there")
    @pytest.mark.parametrize("options", [{"in_step": "time.sleep(2)"}, {"in_step": "pass", "workers": 2, "pause": 1.0}])
    def test_ctrl_c_in_a_terminal_reaches_the_workers_too(self, tmp_path, options):
        """In a step, and while a worker is at a batch: both come to their end, and there is nothing else to be read."""
        process = training(tmp_path, **options)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        found = [int(child) for child in children.read_text().split()] if children.exists() else []
        for pid in (*found, *found, process.pid):  # a worker that was forked has inherited how a first one is taken
            os.kill(pid, signal.SIGINT)
            time.sleep(0.05)
        _, errors = process.communicate(timeout=60)
        done = load_checkpoint(tmp_path / "checkpoint.pt")["step"]
        assert done in (4, 5) and errors.count("Traceback") == 1
        message = f"Interrupted: training stopped at step {done} of 20; run the same call again and it goes on from there"
        assert errors.splitlines()[-1].endswith(message)


def test_progress_is_reported_where_a_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "progress.json"))
    found = []

    def step(number, batch):
        os.utime(tmp_path / "progress.json", (0, 0))  # long ago, so that the next report is due
        found.append(read_progress(tmp_path / "progress.json"))
        time.sleep(0.01)
        return {"loss": 0.5 + number}

    run_steps(Plan(3, 2), Squares(4), step, {}, identity="x", progress=False, description="masker (CA)")
    found.append(read_progress(tmp_path / "progress.json"))
    assert [(said.description, said.step, said.steps) for said in found] == [("masker (CA)", done, 3) for done in range(4)]
    assert found[0].numbers == {} and found[3].numbers == {"loss": 2.5} and found[3].seconds_left == 0
    assert found[0].seconds_left is None and 0.01 < found[1].seconds_left


class TestStops:
    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_a_number_that_is_not_finite_is_named_with_its_step(self, value, tmp_path):
        part = Counting()

        def step(number, batch):
            return {**part.step(number, batch), "size_in": value if number == 3 else 0.0}

        with pytest.raises(Diverged, match=rf"step 3: size_in is {value}; lower the learning rate"):
            run_steps(
                Plan(9, 2, checkpoint_every=1),
                Squares(4),
                step,
                {"x": part},
                identity="x",
                folder=tmp_path,
                progress=False,
            )
        assert load_checkpoint(tmp_path / "checkpoint.pt")["step"] == 3  # the last state that was finite

    @pytest.mark.parametrize("value", [math.nan, -math.inf])
    def test_an_image_that_is_not_finite_is_named_with_its_step(self, value):
        source = Squares(4)
        source.images[2, 1, 3, 3] = value
        with pytest.raises(Diverged, match=r"step [01]: square 2 holds NaN or infinity"):
            seen(Plan(4, 2), source)

    def test_an_empty_source_is_refused(self):
        for call in (lambda source: seen(Plan(2, 2), source), source_identity):
            with pytest.raises(ValueError, match="holds? no images; give"):
                call(Subset(Squares(3), []))


def test_source_identity_tells_data_apart():
    relabelled = Squares(8)
    relabelled.labels[5] = 0
    sources = [Squares(8), Squares(9), Squares(8, seed=1), relabelled, Subset(Squares(8), range(8))]
    identities = [source_identity(source) for source in sources]
    assert all(a != b for i, a in enumerate(identities) for b in identities[:i])
    assert source_identity(Squares(8)) == identities[0]


class TestSchedule:
    @pytest.mark.parametrize(
        "steps, factors",
        [
            (1, [1]),
            (2, [1, 0.1]),
            (3, [1, 0.1, 0.01]),
            (4, [1, 1, 0.1, 0.01]),
            (6, [1, 1, 0.1, 0.1, 0.01, 0.01]),
        ],
    )
    def test_decay(self, steps, factors):
        assert [learning_rate_factor(step, steps, "steps") for step in range(steps)] == pytest.approx(factors)

    def test_a_cosine_falls_from_one_to_nearly_nothing(self):
        factors = [learning_rate_factor(step, 4, "cosine") for step in range(4)]
        assert factors == pytest.approx([1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5])

    def test_another_schedule_is_named(self):
        with pytest.raises(ValueError, match="schedule='linear' is unknown; choose one of steps, cosine"):
            learning_rate_factor(0, 4, "linear")

    def test_steps(self):
        assert [steps_for(*case) for case in ((12, 100, 72), (1, 72, 72), (0.001, 10, 72), (2, 73, 72))] == [
            17,
            1,
            1,
            3,
        ]

    @pytest.mark.parametrize("name, value", [("steps", 0), ("batch_size", 0), ("checkpoint_every", 0), ("workers", -1)])
    def test_bad_plans_are_named(self, name, value):
        with pytest.raises(ValueError, match=f"{name}={value} must be"):
            Plan(**{"steps": 1, "batch_size": 1, name: value})
