"""The loop: order of the images, checkpoints, and runs that must stop."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import Squares, tiny_classifier
from torch import nn

from maskerlib.files import load_checkpoint
from maskerlib.loop import (
    Diverged,
    Plan,
    check_start,
    clear_checkpoint,
    learning_rate_factor,
    run_steps,
    source_identity,
    steps_for,
)
from maskerlib.samples import Subset


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

    def test_a_folder_that_cannot_be_written_to_is_named_before_the_first_step(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(ValueError, match="cannot be written to"):
            seen(Plan(2, 2), Squares(4), folder=tmp_path / "file" / "run")

    def test_the_global_generator_is_left_alone(self):
        before = torch.random.get_rng_state()
        part = Counting()
        run_steps(Plan(2, 2), Squares(4), part.step, {"x": part}, identity="x", progress=False)
        assert torch.equal(torch.random.get_rng_state(), before)


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
        with pytest.raises(Diverged, match=r"step [01]: image square 2 holds NaN or infinity"):
            seen(Plan(4, 2), source)

    def test_an_empty_source_is_refused(self):
        for call in (lambda source: seen(Plan(2, 2), source), source_identity):
            with pytest.raises(ValueError, match="holds? no images; give"):
                call(Subset(Squares(3), []))


class TestCheckStart:
    def test_labels(self):
        source = Squares(6)
        source.labels[4] = 4
        with pytest.raises(
            ValueError, match="label 4 of image 4 is none of the 4 classes of tiny; labels go from -1 to 3"
        ):
            check_start(tiny_classifier(), source, unlabelled=True)
        source.labels[4] = -1
        check_start(tiny_classifier(), source, unlabelled=True)
        with pytest.raises(
            ValueError, match="label -1 of image 4 is none of the 4 classes of tiny; labels go from 0 to 3"
        ):
            check_start(tiny_classifier(), source, unlabelled=False)

    def test_other_class_names(self):
        source = Squares(6)
        source.class_names = ("red", "green", "white", "blue")
        with pytest.raises(ValueError, match="tiny has 4 classes, the source has 4 or other names"):
            check_start(tiny_classifier(), source, unlabelled=True)
        source.class_names = list(tiny_classifier().class_names)
        check_start(tiny_classifier(), source, unlabelled=True)

    def test_weights(self):
        classifier = tiny_classifier()
        classifier.network.stage[1].running_var[2] = math.nan
        with pytest.raises(ValueError, match=r"weight 'network\.stage\.1\.running_var' of tiny holds NaN or infinity"):
            check_start(classifier, Squares(4), unlabelled=True)


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
