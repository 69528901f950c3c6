"""The setting up that all notebooks share: the profile, the device, and where results go."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from maskerlib.notebooks.runner import SESSION, project_root
from maskerlib.running.files import write_json

__all__ = ["Session", "open_session"]


@dataclass(frozen=True)
class Session:
    """The choices of one run of a notebook.

    profile: "default", or "smoke", which does everything at a tiny size to test the notebook.
    device: where tensors live.
    sizes: the numbers of this profile: how many images, steps, ...
    cache: folder for rendered data and trained classifiers, shared by the notebooks.
    results: folder for what this notebook writes.
    figures: folder for its figures: `figures/` in the default profile, else `results`.
    """

    profile: str
    device: torch.device
    sizes: Mapping[str, Any]
    cache: Path
    results: Path
    figures: Path


def open_session(
    name: str, profile: str = "", device: str = "", *, default: Mapping[str, Any], smoke: Mapping[str, Any]
) -> Session:
    """The session of notebook `name`, from its parameters.

    Args:
        name: the notebook's name; its results go to runs/<name>, or runs/<name>-smoke.
        profile: "default", "smoke", or "" for what the variable MASKERLIB_PROFILE says, else the default.
        device: a torch device such as "cpu" or "cuda", or "" for the best there is.
        default, smoke: the sizes of either profile; the names must agree.

    A runner that has named a file in the variable MASKERLIB_SESSION finds the folders there.

    Raises ValueError for an unknown profile or device, and for sizes that one of the profiles lacks.
    """
    profiles = {"default": dict(default), "smoke": dict(smoke)}
    profile = profile or os.environ.get("MASKERLIB_PROFILE") or "default"
    if profile not in profiles:
        raise ValueError(f"profile {profile!r} is unknown; choose one of {', '.join(profiles)}")
    if odd := default.keys() ^ smoke.keys():
        raise ValueError(f"sizes {', '.join(sorted(odd))} stand in one profile only; give them in both")
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        chosen = torch.device(device or best)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was compiled for the device
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {device!r} cannot be used here ({reason}); {best} can") from None
    root = project_root()
    results = root / "runs" / (name if profile == "default" else f"{name}-{profile}")
    figures = root / "figures" if profile == "default" else results
    if said := os.environ.get(SESSION):
        write_json(said, {"results": results, "figures": figures})
    return Session(profile, chosen, profiles[profile], root / "runs" / "cache", results, figures)
