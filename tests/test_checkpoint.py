"""The pool's members lie beside the checkpoint, each written once; whatever is killed, a checkpoint has all its pieces."""

import dataclasses
import os
from pathlib import Path

import pytest
import torch
from tiny import Squares, tiny_classifier

from maskerlib.masker import training
from maskerlib.masker.config import MaskerConfig
from maskerlib.masker.trained import Trained
from maskerlib.masker.training import train_masker
from maskerlib.running.files import load_checkpoint, save_checkpoint
from maskerlib.training.checkpoint import Checkpoint, clear_checkpoint

CA = MaskerConfig(
    mode="CA",
    steps=30,
    batch_size=4,
    width=8,
    pool_every=1,
    classifier_lr=0.01,
    checkpoint_every=3,
    precision="fp32",
)


class Stop(Exception):
    pass


def train(folder: Path | None = None, config: MaskerConfig = CA) -> Trained:
    return train_masker(tiny_classifier(), Squares(12), config, folder=folder, progress=False)


def stopped(folder: Path, monkeypatch: pytest.MonkeyPatch, *, step: int, config: MaskerConfig = CA) -> None:
    """A run that dies in a step."""
    inner, calls = training.compute_gradients, []

    def failing(*arguments, **options):
        calls.append(None)
        if len(calls) > step:
            raise Stop
        return inner(*arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(training, "compute_gradients", failing)
        train(folder, config)


def outcome(trained: Trained) -> list[torch.Tensor]:
    return [*trained.masker.state_dict().values(), *trained.classifier.state_dict().values()]


def alike(one: Trained, other: Trained) -> bool:
    return all(map(torch.equal, outcome(one), outcome(other))) and one.history == other.history


@pytest.fixture
def written(monkeypatch) -> list[tuple[str, int]]:
    """Every file that is put in its place from here on: its name and its bytes."""
    files, replace = [], os.replace

    def counting(source, target):
        files.append((Path(target).name, Path(source).stat().st_size))
        replace(source, target)

    monkeypatch.setattr(os, "replace", counting)
    return files


def test_thirty_members_are_written_once_beside_ten_checkpoints(tmp_path, written):
    train(tmp_path)
    checkpoints = [size for name, size in written if name == "checkpoint.pt"]
    members = [(name, size) for name, size in written if name.startswith("checkpoint-")]
    assert len(checkpoints) == 10
    assert sorted(name for name, _ in members) == sorted(f"checkpoint-pool-{step}.pt" for step in range(30))
    total = sum(size for name, size in written if name.startswith("checkpoint"))
    assert total <= sum(dict(members).values()) + 10 * max(checkpoints)
    # A checkpoint that held the members would grow by each: by more than its history, which is all that grows.
    history = max(checkpoints) - min(checkpoints)
    assert history < 27 * min(size for _, size in members) / 10
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("checkpoint")) == []


def test_the_checkpoint_names_its_members_and_the_others_go(tmp_path, monkeypatch):
    config = dataclasses.replace(CA, pool_size=4)
    stopped(tmp_path, monkeypatch, step=10, config=config)  # the member of step 10 was taken, and its file is due at 12
    saved = load_checkpoint(tmp_path / "checkpoint.pt")
    assert saved["step"] == 9 and len(saved["state"]["pool"]["pieces"]) == 4 and "8" in saved["state"]["pool"]["pieces"]
    there = sorted(path.name for path in tmp_path.glob("checkpoint-*"))
    assert there == sorted(f"checkpoint-pool-{piece}.pt" for piece in saved["state"]["pool"]["pieces"])
    assert alike(train(tmp_path, config), train(config=config))


def test_a_kill_between_a_member_and_its_checkpoint_changes_nothing(tmp_path, monkeypatch):
    """The checkpoint cannot be written any more; what it would have named lies there already, and is written anew."""
    inner = Checkpoint.save

    def failing(self, state, step, history):
        if step == 6:
            monkeypatch.setattr("maskerlib.training.checkpoint._checkpoint", lambda folder: folder / "no" / "\0")
        inner(self, state, step, history)

    with monkeypatch.context() as patch, pytest.raises(ValueError):
        patch.setattr(Checkpoint, "save", failing)
        train(tmp_path)
    monkeypatch.undo()
    assert (tmp_path / "checkpoint-pool-5.pt").exists() and load_checkpoint(tmp_path / "checkpoint.pt")["step"] == 3
    assert alike(train(tmp_path), train())


def test_a_checkpoint_that_holds_its_members_itself_goes_on(tmp_path, monkeypatch):
    """One of an earlier version."""
    stopped(tmp_path, monkeypatch, step=10)
    saved = load_checkpoint(tmp_path / "checkpoint.pt")
    pieces = saved["state"]["pool"]["pieces"]
    members = {int(piece): load_checkpoint(tmp_path / f"checkpoint-pool-{piece}.pt")["tensors"] for piece in pieces}
    clear_checkpoint(tmp_path)
    saved["state"]["pool"] = {"members": members}
    save_checkpoint(tmp_path / "checkpoint.pt", saved)
    assert alike(train(tmp_path), train())


@pytest.mark.parametrize("damage", ["missing", "another run", "cut short"])
def test_a_member_that_cannot_be_read_is_one_error(tmp_path, monkeypatch, damage):
    stopped(tmp_path, monkeypatch, step=10)
    member = tmp_path / "checkpoint-pool-2.pt"
    if damage == "missing":
        member.unlink()
    elif damage == "another run":
        save_checkpoint(member, {**load_checkpoint(member), "identity": "x"})
    else:
        member.write_bytes(member.read_bytes()[:200])
    message = r"checkpoint\.pt does not hold the state of this run \(\w+: .*checkpoint-pool-2\.pt.*; delete it to start afresh"
    message = message if damage == "another run" else r"checkpoint\.pt does not hold .*; delete it to start afresh"
    with pytest.raises(ValueError, match=message):
        train(tmp_path)
