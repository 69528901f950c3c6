"""A device by the name that a command line gives it."""

import torch

__all__ = ["device_named"]


def device_named(name: str) -> torch.device:
    """The device called `name`: "cpu", "cuda", "cuda:1", "mps"; "auto" is a GPU of CUDA where there is one, else the CPU.

    Raises ValueError, with those that there are, for one that is not on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=name).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, ValueError):
        there = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        there += ["mps"] if torch.backends.mps.is_available() else []
        raise ValueError(f"--device {name!r} is not on this machine; choose auto, {', '.join(there)}") from None
    return torch.device(name)
