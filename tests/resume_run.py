"""The run that `test_resume.py` kills: a classifier, then a FIX and a CA masker, in one process."""

import dataclasses
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from tiny import Squares, tiny_classifier

from maskerlib.masker.config import MaskerConfig
from maskerlib.masker.training import train_masker
from maskerlib.training.classifier import ClassifierConfig, train_classifier

FIX = MaskerConfig(
    steps=24,
    batch_size=6,
    width=8,
    pool_every=3,
    pool_size=4,
    precision="fp32",
    checkpoint_every=3,
    masker_lr=0.01,
)
CA = dataclasses.replace(FIX, mode="CA", steps=36)
STOPPED = 130
"""The exit status after Ctrl-C, as of a shell's own commands."""

CLASSIFIER = ClassifierConfig(passes=5, batch_size=6, lr=0.05, precision="fp32", checkpoint_every=3)


def run(folder: Path, ready: Connection | None = None) -> None:
    """Train all three into subfolders of `folder`; say so on `ready` before the first. Ctrl-C ends it with `STOPPED`."""
    torch.set_num_threads(1)
    try:
        if ready is not None:
            ready.send("ready")
        source = Squares()
        classifier = train_classifier(tiny_classifier(), source, CLASSIFIER, folder=folder / "classifier", progress=False)
        for config in (FIX, CA):
            train_masker(classifier, source, config, folder=folder / config.mode, progress=False)
    except KeyboardInterrupt:
        sys.exit(STOPPED)
