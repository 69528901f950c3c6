"""What a training leaves in its folder once it is over, so that the same run is loaded the next time and not repeated."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskerlib.running.files import is_there, load_checkpoint, read_json, save_checkpoint, write_json
from maskerlib.running.provenance import Identified, provenance
from maskerlib.training.loop import History, clear_checkpoint

__all__ = ["load_finished", "read_history", "save_finished"]


def load_finished(folder: Path, name: str, run: str) -> dict[str, Any] | None:
    """The content that `save_finished` saved for `run` (a string that says all that decides it); None if there is none yet.

    Raises ValueError for a folder that holds another run, or a file that is damaged.
    """
    if not is_there(folder / f"{name}.pt"):
        return None
    saved = load_checkpoint(folder / f"{name}.pt")
    if saved.get("run") != run:
        raise ValueError(
            f"{folder} holds a finished {name} of another run (its configuration or data differ); use another folder or delete it"
        )
    if not isinstance(saved.get("weights"), Mapping):
        raise ValueError(f"{folder / f'{name}.pt'} holds no weights; delete it to start afresh, or copy it again")
    clear_checkpoint(folder)  # still there after a kill between the two last lines of `save_finished`
    return saved


def read_history(folder: Path) -> History:
    """The history that a finished training left in `folder`. Raises FileNotFoundError or ValueError naming the file."""
    history = read_json(folder / "history.json")
    if not isinstance(history, dict) or not history or not all(isinstance(values, list) for values in history.values()):
        raise ValueError(f"{folder / 'history.json'} is no history of a training; copy it again, or train anew")
    return history


def save_finished(
    folder: Path,
    name: str,
    run: str,
    content: Mapping[str, Any],
    *,
    history: History,
    seed: int,
    classifier: Identified | None = None,
) -> None:
    """Leave `history.json`, `provenance.json` and `<name>.pt` with `content`; the last is what marks the run as finished.

    The checkpoint is removed after that.
    """
    write_json(folder / "history.json", history)
    write_json(folder / "provenance.json", provenance(seeds=[seed], classifier=classifier))
    save_checkpoint(folder / f"{name}.pt", {"run": run, **content})
    clear_checkpoint(folder)
