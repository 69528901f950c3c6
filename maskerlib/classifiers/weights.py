"""Weights from files into networks, each refused by name where it does not fit."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.networks import load_state
from maskerlib.running.checks import check_finite
from maskerlib.running.extras import optional_module
from maskerlib.running.files import load_checkpoint

__all__ = ["classes_in", "load_weights", "restore_weights"]


def load_weights(classifier: Classifier, path: str | os.PathLike[str]) -> None:
    """Load the weights in a file, .pt, .pth or .safetensors; never anything that runs code.

    The file holds a state dict of the network, or of a classifier, as a `classifier.pt` that training left.

    Raises FileNotFoundError, or ValueError naming the file where it is damaged or of another network.
    """
    state = _read(path)
    state = state["weights"] if isinstance(state.get("weights"), Mapping) else state
    whole = {"mean", "std"} <= state.keys()
    try:
        (classifier if whole else classifier.network).load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()[:200]
        raise ValueError(f"{path} does not fit {type(classifier.network).__name__}: {reason}") from None


def classes_in(path: str | os.PathLike[str]) -> tuple[str, ...] | None:
    """The class names in the file of a `classifier.pt` that training left; None where it has none, or is no such file.

    Raises ValueError for a damaged file.
    """
    if not os.path.isfile(path):
        return None
    names = _read(path).get("class_names")
    return tuple(map(str, names)) if isinstance(names, list | tuple) and names else None


def _read(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    if not os.fspath(path).endswith(".safetensors"):
        return load_checkpoint(path)
    reader = optional_module("safetensors.torch", "timm")
    try:
        state: dict[str, Any] = reader.load_file(os.fspath(path))
    except Exception as error:  # its own kind for a damaged file
        raise ValueError(f"{path} is not a readable checkpoint ({error}); copy it again") from None
    return state


def restore_weights(module: nn.Module, saved: Mapping[str, Any], path: Path) -> None:
    """Load `saved["weights"]`, read from the file `path`, into `module`.

    Raises ValueError naming the file where they are missing, not finite, or those of another network.
    """
    try:
        check_finite(saved["weights"], str(path))
        load_state(module, saved["weights"])
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ValueError(
            f"{path} does not hold the weights of this network ({type(error).__name__}: {reason}); copy it again, or delete it "
            "to start afresh"
        ) from None
