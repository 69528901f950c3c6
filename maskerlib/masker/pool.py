"""The pool of earlier classifiers that judges the masks of a classifier-agnostic run (Zolna et al., 2020)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.networks import load_state, parts
from maskerlib.running.checks import between, check_value, whole
from maskerlib.running.seeds import stream

__all__ = ["ClassifierPool"]


class ClassifierPool:
    """Up to `size` earlier weights of one classifier. Draws and replacements follow from `seed` and the step alone.

    Args:
        classifier: the classifier that keeps training; its architecture is copied once, to be filled with a member.
        every: a snapshot is taken at steps first, first + every, first + 2 every, ...
        size: members at most; beyond it a random member is replaced.
        historic: probability that a member, rather than the current classifier, judges a step's masks.
        seed: of the draws.
        first: the step before which the first snapshot is taken: 0 keeps the initial weights, 1 those after one update, as the
            released code does.

    Raises ValueError unless every >= 1, size >= 1, first >= 0 and 0 <= historic <= 1.
    """

    def __init__(
        self, classifier: Classifier, *, every: int = 100, size: int = 30, historic: float = 0.5, seed: int = 0, first: int = 0
    ) -> None:
        for name, value, rule in (
            ("every", every, whole(1)),
            ("size", size, whole(1)),
            ("first", first, whole(0)),
            ("historic", historic, between(0, 1)),
        ):
            check_value(name, value, rule)
        self.every, self.size, self.historic, self.seed, self.first = every, size, historic, seed, first
        self.members: dict[int, dict[str, Tensor]] = {}
        self.judge = classifier.copied().eval().requires_grad_(False)
        self._loaded: int | None = None

    def remember(self, step: int, classifier: Classifier) -> None:
        """Take the snapshot that is due at `step`, if one is."""
        if step < self.first or (step - self.first) % self.every:
            return
        if len(self.members) >= self.size:
            victim = torch.randint(len(self.members), (1,), generator=stream(self.seed, "pool-replace", step))
            del self.members[sorted(self.members)[int(victim)]]
        self.members[step] = _waiting(parts(classifier.state_dict()))

    def draw(self, step: int) -> Classifier | None:
        """The judge of `step`: a random member in eval mode without gradients, or None for the current classifier."""
        draws = torch.rand(2, generator=stream(self.seed, "pool-draw", step))
        if not self.members or draws[0] >= self.historic:
            return None
        member = sorted(self.members)[int(draws[1] * len(self.members))]
        if member != self._loaded:
            load_state(self.judge, self.members[member])
            self._loaded = member
        return self.judge

    def pieces(self) -> dict[str, dict[str, Tensor]]:
        """The members, which never change, by the step at which they were taken (`maskerlib.training.checkpoint.InPieces`)."""
        return {str(step): member for step, member in self.members.items()}

    def load_pieces(self, pieces: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Restore the members from what `pieces` returned."""
        self.load_state_dict({"members": {int(step): dict(member) for step, member in pieces.items()}})

    def state_dict(self) -> dict[str, Any]:
        """The members, by the step at which they were taken."""
        return {"members": dict(self.members)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the members."""
        pin = self.judge.mean.is_cuda
        self.members = {
            step: {name: value.cpu().pin_memory() if pin else value for name, value in member.items()}
            for step, member in state["members"].items()
        }
        self._loaded = None


def _waiting(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies; of tensors on a GPU in pinned host memory, where they wait to be drawn and take none of the GPU's."""
    values = {name: value.detach() for name, value in tensors.items()}
    return {name: value.cpu().pin_memory() if value.is_cuda else value.clone() for name, value in values.items()}
