"""A run of the training of a module is loaded where it is finished, and else carried out and kept."""

import json
from dataclasses import dataclass

import pytest
import torch
from tiny import Squares
from torch import nn

from maskerlib.running.files import load_checkpoint, read_json, save_checkpoint
from maskerlib.training import run
from maskerlib.training.loop import Plan
from maskerlib.training.run import TrainingRun

FILES = ["history.json", "net.pt", "provenance.json"]


class Learner(nn.Linear):
    """Its weight grows by 1 with each step; it counts its steps."""

    def __init__(self):
        super().__init__(1, 1, bias=False)
        nn.init.zeros_(self.weight)
        self.taken = []

    def step(self, number, batch):
        self.taken.append(number)
        self.weight.data += 1
        return {"weight": self.weight.item()}


@dataclass(frozen=True)
class Settings:
    name: str = "default"
    added_later: int = 0


def train(folder, *decides, steps=3, settings=Settings()) -> tuple[Learner, TrainingRun]:
    learner = Learner().train()
    one = TrainingRun("net", folder, settings, *decides)
    if not one.load(learner):
        one.train(learner, Plan(steps, 2, seed=5, checkpoint_every=1), Squares(), learner.step, {}, progress=False)
    return learner, one


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_trained_once_and_loaded_after_that(tmp_path, kind):
    first, one = train(kind(tmp_path), "a", 1)
    second, _ = train(kind(tmp_path), "a", 1)
    assert first.taken == [0, 1, 2] and second.taken == []
    for each in (first, second):
        assert float(each.weight) == 3 and not each.training and not each.weight.requires_grad
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    assert read_json(tmp_path / "history.json") == {"weight": [1, 2, 3]}
    assert read_json(tmp_path / "provenance.json")["seeds"] == [5]
    assert load_checkpoint(tmp_path / "net.pt")["run"] == one.identity == json.dumps([{}, "a", 1])


def test_nothing_is_kept_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert train(None, "a")[0].taken == [0, 1, 2]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("written", "known"), [({"name": "mine"}, True), ({"name": "other"}, False), ({"gone": 1}, False)])
def test_a_run_is_known_again_however_its_configuration_was_written(tmp_path, written, known):
    """As an earlier version writes it, say: before there was a field, or in full."""
    mine = Settings("mine")
    train(tmp_path, "a", settings=mine)
    for before in (written, {**written, "added_later": 0}):
        content = load_checkpoint(tmp_path / "net.pt")
        save_checkpoint(tmp_path / "net.pt", {**content, "run": json.dumps([before, "a"])})
        if known:
            assert train(tmp_path, "a", settings=mine)[0].taken == []
        else:
            with pytest.raises(ValueError, match="holds a finished net of another run"):
                train(tmp_path, "a", settings=mine)


def test_another_run_is_refused_and_left_alone(tmp_path):
    train(tmp_path, "a")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="holds a finished net of another run"):
        train(tmp_path, "b")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_steps_that_were_taken_are_not_taken_again(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "save_finished", lambda *arguments, **more: None)
    train(tmp_path, "a", steps=3)  # leaves the last checkpoint and no result, as a kill would
    monkeypatch.undo()
    learner, _ = train(tmp_path, "a", steps=5)
    assert learner.taken == [3, 4] and float(learner.weight) == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES


def test_what_else_changes_is_restored_too(tmp_path, monkeypatch):
    def once(steps: int) -> torch.optim.Optimizer:
        learner = Learner()
        sgd = torch.optim.SGD(learner.parameters(), lr=1.0, momentum=0.5)

        def step(number, batch):
            learner.weight.grad = torch.ones_like(learner.weight)
            sgd.step()
            return {}

        one = TrainingRun("net", tmp_path, Settings(), "a")
        one.train(learner, Plan(steps, 2, checkpoint_every=1), Squares(), step, {"sgd": sgd}, progress=False)
        return sgd

    monkeypatch.setattr(run, "save_finished", lambda *arguments, **more: None)
    once(2)
    momentum = once(3).state_dict()["state"][0]["momentum_buffer"]
    assert float(momentum) == 1.75  # 1, then 0.5 * 1 + 1, then 0.5 * 1.5 + 1
