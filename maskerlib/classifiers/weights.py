"""Weights from files into networks, each refused by name where it does not fit."""

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from maskerlib.classifiers.networks import load_state
from maskerlib.running.checks import check_finite
from maskerlib.running.files import load_checkpoint

__all__ = ["load_weights", "optional_module", "restore_weights"]


def load_weights(network: nn.Module, path: str | os.PathLike[str]) -> None:
    """Load a state dict, weights only. Raises FileNotFoundError, or ValueError naming what does not fit."""
    if os.fspath(path).endswith(".safetensors"):
        reader = optional_module("safetensors.torch")
        try:
            state = reader.load_file(os.fspath(path))
        except Exception as error:  # its own kind for a damaged file
            raise ValueError(f"{path} is not a readable checkpoint ({error}); copy it again") from None
    else:
        state = load_checkpoint(path)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        lines = str(error).splitlines()
        raise ValueError(f"{path} does not fit {type(network).__name__}: {lines[-1].strip()[:200]}") from None


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


def optional_module(module: str) -> ModuleType:
    """A module of the extra `timm`; ImportError, with the mend, where that is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{module.partition('.')[0]} is not installed ({error}); pip install 'maskerlib[timm]'") from None
