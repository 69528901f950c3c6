"""What a run leaves behind on its way: a checkpoint, replaced as a whole, and what never changes again, each piece once.

A pool of earlier classifiers is most of the state of a run and hardly any of its change. Its members therefore lie in files
beside the checkpoint, `checkpoint-pool-100.pt` and so on, and the checkpoint names them. A piece is there before the checkpoint
that names it, and goes after the last that does, so that a kill at any moment leaves a checkpoint with all its pieces.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from maskerlib.running.files import load_checkpoint, save_checkpoint

__all__ = ["Checkpoint", "History", "InPieces", "Stateful", "clear_checkpoint"]

History = dict[str, list[float]]
Pieces = Mapping[str, Mapping[str, Tensor]]


class Stateful(Protocol):
    """What learns: modules, optimisers, the pool."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any: ...


@runtime_checkable
class InPieces(Protocol):
    """What consists of pieces that stay as they are once they are there: each is written once."""

    def pieces(self) -> Pieces:
        """Tensors by the name of their piece, which is part of a file's name."""

    def load_pieces(self, pieces: Pieces) -> None:
        """Take over what `pieces` returned."""


class Checkpoint:
    """The checkpoint of the run `identity` in `folder`."""

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder, self.identity = folder, identity
        self._written: set[str] = set()

    def save(self, state: Mapping[str, Stateful], step: int, history: History) -> None:
        """Save the state after `step` steps. Raises `maskerlib.running.files.CannotWrite`."""
        content, named = {}, set()
        for name, part in state.items():
            if not isinstance(part, InPieces):
                content[name] = part.state_dict()
                continue
            pieces = part.pieces()
            content[name] = {"pieces": list(pieces)}
            for piece, tensors in pieces.items():
                path = self._piece(name, piece)
                named.add(path.name)
                if path.name not in self._written:
                    save_checkpoint(path, {"identity": self.identity, "tensors": dict(tensors)})
                    self._written.add(path.name)
        record = {"identity": self.identity, "step": step, "history": history, "state": content}
        save_checkpoint(_checkpoint(self.folder), record)
        self._written &= named
        for path in _pieces(self.folder):
            if path.name not in named:
                path.unlink(missing_ok=True)

    def restore(self, state: Mapping[str, Stateful], steps: int) -> tuple[int, History]:
        """The step to go on from and the history up to it, 0 and none without a checkpoint; `state` is loaded with the rest.

        Raises ValueError for a checkpoint that is damaged, of another run, or lacks a piece.
        """
        path = _checkpoint(self.folder)
        if not path.exists():
            return 0, {}
        saved = load_checkpoint(path)
        if saved.get("identity") != self.identity:
            raise ValueError(
                f"{path} belongs to a run with another configuration, classifier or data, or of another version; use another "
                "folder or delete it"
            )
        try:
            done = saved["step"]
            history = {str(name): [float(value) for value in values] for name, values in saved["history"].items()}
            if type(done) is not int or not 0 < done <= steps or any(len(values) > done for values in history.values()):
                raise ValueError(f"step {done!r} of {steps}")
            for name, part in state.items():
                content = saved["state"][name]
                if isinstance(part, InPieces) and "pieces" in content:
                    part.load_pieces({piece: self._read(name, piece) for piece in content["pieces"]})
                else:  # of a version that kept all in one file as well
                    part.load_state_dict(content)
        except Exception as error:  # of as many kinds as there are ways to be no state of this network
            reason = " ".join(str(error).split())[:120]
            raise ValueError(
                f"{path} does not hold the state of this run ({type(error).__name__}: {reason}); delete it to start afresh"
            ) from None
        return done, history

    def _piece(self, name: str, piece: str) -> Path:
        return self.folder / f"checkpoint-{name}-{piece}.pt"

    def _read(self, name: str, piece: str) -> dict[str, Tensor]:
        path = self._piece(name, piece)
        saved = load_checkpoint(path)
        if saved.get("identity") != self.identity:
            raise ValueError(f"{path.name} belongs to another run")
        self._written.add(path.name)
        return dict(saved["tensors"])


def clear_checkpoint(folder: Path) -> None:
    """Remove the checkpoint, with all its pieces, of a run whose result has been saved."""
    _checkpoint(folder).unlink(missing_ok=True)
    for path in _pieces(folder):
        path.unlink(missing_ok=True)


def _checkpoint(folder: Path) -> Path:
    return folder / "checkpoint.pt"


def _pieces(folder: Path) -> list[Path]:
    return list(folder.glob("checkpoint-*.pt"))
