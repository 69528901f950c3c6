"""FIDO's other game (`maskerlib.methods.fido`): the smallest region whose loss destroys the answer."""

import functools

from maskerlib.methods.entry import MethodEntry
from maskerlib.methods.fido import fido, passes

__all__ = ["ENTRY"]

ENTRY = MethodEntry(
    "fido-sdr",
    "the smallest region that destroys, by random holes",
    functools.partial(fido, game="sdr"),
    kind="per-image mask",
    stochastic=True,
    forward=passes(1),
    backward=passes(0),
    quick={"steps": 4, "samples": 2},
    moderate={"grid": 28, "steps": 40, "samples": 2, "lr": 0.3},
)
