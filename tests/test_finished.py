"""What a finished training leaves is loaded once it is whole, and refused by name otherwise."""

import pytest
import torch
from torch import nn

from maskerlib.classifiers.weights import restore_weights
from maskerlib.running.files import save_checkpoint
from maskerlib.training.finished import load_finished, save_finished


def test_round_trip(tmp_path):
    weights = nn.Linear(2, 3).state_dict()
    assert load_finished(tmp_path, "net", "run") is None
    (tmp_path / "checkpoint.pt").touch()
    save_finished(tmp_path, "net", "run", {"weights": weights}, history={"loss": [1.0]}, seed=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.json", "net.pt", "provenance.json"]
    (tmp_path / "checkpoint.pt").touch()  # a kill right before it was removed
    saved = load_finished(tmp_path, "net", "run")
    assert not (tmp_path / "checkpoint.pt").exists()
    other = nn.Linear(2, 3)
    restore_weights(other, saved, tmp_path / "net.pt")
    assert all(torch.equal(value, weights[name]) for name, value in other.state_dict().items())


def test_that_of_another_run_is_refused(tmp_path):
    save_checkpoint(tmp_path / "net.pt", {"run": "other", "weights": {}})
    with pytest.raises(ValueError, match="holds a finished net of another run .*; use another folder, or delete it"):
        load_finished(tmp_path, "net", "run")
    assert (tmp_path / "net.pt").exists()


@pytest.mark.parametrize("content", [{}, {"weights": None}, {"weights": [1]}])
def test_one_without_weights_is_named(tmp_path, content):
    save_checkpoint(tmp_path / "net.pt", {"run": "run", **content})
    with pytest.raises(ValueError, match=r"net\.pt holds no weights; delete it to start afresh, or copy it again"):
        load_finished(tmp_path, "net", "run")
