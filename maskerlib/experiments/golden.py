"""Golden runs: tiny trainings whose outcome is committed, so that code may be moved and renamed without making a table anew.

A committed table says which `VERSION` of the training's numbers it comes from, and so does the address of a run. The version
stays as long as every golden run comes out as `experiments/golden.json` has it, whatever became of the code in between: a test
runs them. Where one does not, the training has changed: raise `VERSION`, write the file anew
(`python -m maskerlib.experiments golden --write`), and `make plan` names the tables that are then of another version.

A training is a chaotic thing, and another processor rounds otherwise. What is kept is therefore a summary of how the weights
moved and a few metrics, compared within `TOLERANCE`: more than rounding moves them in six steps, less than another rule does.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.scene_resnet import scene_classifier, scene_resnet
from maskerlib.data.samples import Source
from maskerlib.data.scenes.source import Scenes
from maskerlib.experiments.choices import INPAINTER
from maskerlib.experiments.measuring import draw, measure
from maskerlib.experiments.run import Shuffled, sources
from maskerlib.experiments.settings import Setting
from maskerlib.experiments.version import VERSION
from maskerlib.masker.training import train_masker
from maskerlib.masking.inpainting import Inpainter, InpainterConfig, train_inpainter
from maskerlib.running.files import read_json, write_json
from maskerlib.running.seeds import stream
from maskerlib.training.classifier import ClassifierConfig, train_classifier

__all__ = ["GOLDEN", "METRICS", "SAME", "TOLERANCE", "compare", "differences", "golden_run", "keep"]

SAME = "every golden run came out as it is kept: the version stays"

TOLERANCE = 0.02
"""Largest difference of a metric (relative to it where it is above 1), of the length of a way (relative), of its direction."""

METRICS = ("F1", "PxAP", "SM", "mean", "TV", "entropy", "entropy after")
"""Those that do not jump when a mask moves a little."""

_TINY = {"train_images": 64, "val_images": 16, "steps": 6, "batch_size": 8, "warmup": 0.5, "pool_every": 2, "precision": "fp32"}
_FAST = {"mode": "CA", "classifier_lr": 4e-3}  # so that members of the pool differ from each other

GOLDEN: Mapping[str, Mapping[str, Any]] = {
    "FIX": {},
    "FIX, both steps of the schedule": {"schedule": "steps", "warmup": 0.0, "seed": 1},
    "FIX, crops": {"smallest_crop": 0.5},
    "FIX, all layers": {"layers": ("stem", "stage1", "stage2", "stage3", "stage4")},
    "FIX, few of each": {"per_class": 2, "passes": 1.5},
    "FIX, half of the classes": {"class_share": 0.5},
    "FIX, MaxClass alone": {"masked_out": None},
    "FIX, MinClass alone": {"masked_in": None, "masked_out": "min_class"},
    "FIX, MinEnt and forward KL": {"masked_in": "min_ent", "masked_out": "forward_kl", "weight_in": 2.0},
    "FIX, backward KL": {"masked_out": "backward_kl", "size_in": 0.5, "tv": 0.01},
    "FIX, blur": {"infill": "blur"},
    "FIX, noise, masked-out": {"infill": "noise", "infill_sides": "out"},
    "FIX, opencv, masked-in": {"infill": "opencv", "infill_sides": "in"},
    "FIX, inpainter": {"infill": INPAINTER},
    "FIX, soft coins": {"mask": "gumbel", "temperature": 1.0},
    "FIX, hard coins": {"mask": "gumbel_hard", "temperature": 0.5},
    "FIX, asked for a size": {"condition": "size", "condition_at": "head", "budget": 10.0, "size_in": 0.0, "size_out": 0.0},
    "FIX, asked for a size at the layers": {"condition": "size", "budget": 10.0, "size_in": 0.0, "size_out": 0.0},
    "FIX, told the class": {"condition": "class", "condition_at": "head"},
    "FIX, told the class at the layers": {"condition": "class"},
    "FIX, shuffled labels": {"classifier": "shuffled"},
    "CA": _FAST,
    "CA, no pool": {**_FAST, "prob_historic": 0.0},
    "CA, a pool of one that judges always": {**_FAST, "prob_historic": 1.0, "pool_size": 1},
    "CA, released pool": {**_FAST, "released_pool": True, "masked_out": "min_class"},
    "CA, two steps a batch, first snapshot later": {**_FAST, "classifier_steps": 2, "first_snapshot": 1},
    "CA, hard coins, blur": {**_FAST, "mask": "gumbel_hard", "temperature": 1.0, "infill": "blur"},
}
"""One a branch of the training: {name: what differs from the smallest run}."""


def golden_run(changes: Mapping[str, Any], cache: Path) -> dict[str, Any]:
    """Train and measure one of `GOLDEN`: {"metrics": {name: value}, "moves": {part: its summary}}, ready for JSON.

    `cache` is a folder for scenes. Takes a second or two; run it with one thread, as the tables are.
    """
    setting = Setting(**{**_TINY, **changes})
    train, val = sources(setting, cache)
    config = setting.config()
    moves: dict[str, list[float]] = {}
    classifier = scene_classifier()
    if setting.classifier == "shuffled":
        start = scene_resnet(train.class_names)
        classifier = _shuffled(start, cache)
        moves["classifier on shuffled labels"] = summary(start, classifier)
    infill = None
    if setting.infill == INPAINTER:
        infill = _inpainter(classifier, cache)
    trained = train_masker(classifier, train, config, infill=infill, progress=False)
    moves["masker"] = summary(config.new_masker(classifier), trained.masker)
    if setting.mode == "CA":
        moves["classifier"] = summary(classifier, trained.classifier)
    measured = measure(setting, draw(setting, trained, classifier, val), classifier)
    metrics = {name: next(iter(measured.values()))["metrics"][name] for name in METRICS}
    if infill is not None:
        metrics["inpainter"] = _error(infill, classifier, val)
    return {"metrics": {name: round(value, 5) for name, value in metrics.items()}, "moves": moves}


def summary(before: nn.Module, after: nn.Module) -> list[float]:
    """How the weights of a network moved, in four numbers: the length of the way, and its direction along three random ones.

    They follow any change of a rule. They depend on the order of the weights, but not on their names.
    """
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    way = torch.cat([(new.detach().double() - old.detach().double()).flatten() for old, new in pairs])
    directions = torch.randn(3, len(way), generator=stream(0, "golden", len(way)), dtype=torch.float64)
    return [round(number, 6) for number in [float(way.norm()), *(directions @ way / way.norm()).tolist()]]


def differences(found: Mapping[str, Any], kept: Mapping[str, Any]) -> list[str]:
    """What differs between two results of `golden_run` by more than `TOLERANCE`, in words; empty where nothing does."""
    words = []
    for name, value in kept["metrics"].items():
        if not abs(found["metrics"][name] - value) <= TOLERANCE * max(1.0, abs(value)):
            words.append(f"{name} is {found['metrics'][name]}, was {value}")
    for part, numbers in kept["moves"].items():
        new = found["moves"].get(part, [float("nan")] * len(numbers))
        length = abs(new[0] / numbers[0] - 1)
        if not max(length, *(abs(a - b) for a, b in zip(new[1:], numbers[1:], strict=True))) <= TOLERANCE:
            words.append(f"the weights of the {part} moved by {new}, before by {numbers}")
    return words


def kept(root: Path) -> dict[str, Any]:
    """experiments/golden.json of the repository at `root`: {"version": number, "runs": {name: what `golden_run` returned}}."""
    record: dict[str, Any] = read_json(root / "experiments" / "golden.json")
    return record


def compare(root: Path) -> list[str]:
    """Train every golden run: a line each for what differs from what is kept, and what to do; `[SAME]` where nothing does."""
    known = kept(root)["runs"]
    lines = []
    for name, changes in GOLDEN.items():
        found = golden_run(changes, root / "runs" / "cache")
        words = differences(found, known[name]) if name in known else ["it is not kept yet"]
        lines += [f"{name}: {word}" for word in words]
    advice = f"raise VERSION in maskerlib/experiments/version.py (it is {VERSION}), then golden --write"
    return [*lines, advice] if lines else [SAME]


def keep(root: Path) -> list[str]:
    """Train every golden run and keep what comes out; the path, in words."""
    found = {name: golden_run(changes, root / "runs" / "cache") for name, changes in GOLDEN.items()}
    path = root / "experiments" / "golden.json"
    write_json(path, {"version": VERSION, "command": "python -m maskerlib.experiments golden --write", "runs": found})
    return [f"kept {len(found)} runs in {path.relative_to(root)}"]


def _shuffled(start: Classifier, cache: Path) -> Classifier:
    scenes = Shuffled(Scenes("train", count=64, cache=cache / "scenes"))
    config = ClassifierConfig(passes=1.0, batch_size=16, lr=0.01, precision="fp32")
    return train_classifier(start, scenes, config, progress=False)


def _error(inpainter: Inpainter, classifier: Classifier, val: Source) -> float:
    """How far the inpainter's guess is from the middle of the images, in units of images in [0, 1]."""
    images = val.batch(range(len(val))).images
    hole = torch.zeros_like(images[:, :1])
    hole[:, :, 30:66, 30:66] = 1
    return float(((inpainter.paint(images, hole, classifier.mean) - images).abs() * hole).sum() / hole.sum() / 3)


def _inpainter(classifier: Classifier, cache: Path) -> Inpainter:
    config = InpainterConfig(steps=4, batch_size=8, width=4, lr=3e-4)
    return train_inpainter(Scenes("train", count=64, cache=cache / "scenes"), classifier.mean, config, progress=False)
