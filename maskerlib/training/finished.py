"""What a training leaves in its folder once it is over, so that the same run is loaded the next time and not repeated."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from maskerlib.running.checks import changes
from maskerlib.running.files import is_there, load_checkpoint, read_json, save_checkpoint, write_json
from maskerlib.running.provenance import Identified, provenance
from maskerlib.training.checkpoint import History, clear_checkpoint

__all__ = ["load_finished", "read_history", "save_finished"]


def load_finished(
    folder: Path, name: str, run: str, read: Callable[[Any], Any] | None = None
) -> dict[str, Any] | None:
    """The content that `save_finished` saved for `run` (a string that says all that decides it); None if there is none yet.

    read: makes a configuration of a dict. Where it is given, `run` is the JSON of a list that begins with the changes of one
        (`maskerlib.running.checks.changes`), and a folder of a version that wrote its configuration otherwise is known again.

    Raises ValueError for a folder that holds another run, or a file that is damaged.
    """
    if not is_there(folder / f"{name}.pt"):
        return None
    saved = load_checkpoint(folder / f"{name}.pt")
    if saved.get("run") != run and not (read and _same(saved.get("run"), run, read)):
        raise ValueError(
            f"{folder} holds a finished {name} of another run (its configuration, classifier or data differ); use another "
            "folder, or delete it to train anew"
        )
    if not isinstance(saved.get("weights"), Mapping):
        raise ValueError(f"{folder / f'{name}.pt'} holds no weights; delete it to start afresh, or copy it again")
    clear_checkpoint(folder)  # still there after a kill between the two last lines of `save_finished`
    return saved


def _same(saved: Any, run: str, read: Callable[[Any], Any]) -> bool:
    """Whether both are the same but for how the configuration is written."""
    try:
        before, *others = json.loads(saved)
        now, *rest = json.loads(run)
        return bool(others == rest and json.loads(json.dumps(changes(read(before)))) == now)
    except (TypeError, ValueError):
        return False


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
