"""Does a classifier-agnostic masker need labels? Two trainings without, against what they should equal.

    python benchmarks/unlabelled.py            on scenes: CA on the classifier's own predictions against CA on labels, three seeds
    python benchmarks/unlabelled.py --unsure   on scenes of 224 pixels and EfficientNet-Lite0, which has never seen such: is it
                                               still of many minds after it learnt beside the masker?

The labels are what the classifier that was given predicts, once, before it learns. Were they what the *learning* classifier says,
it would drift to one class that is always right, and the masker with it to an empty mask.
"""

import argparse
from pathlib import Path

import torch

from maskerlib.classifiers.doors import decided
from maskerlib.classifiers.efficientnet_lite0 import efficientnet_lite0
from maskerlib.classifiers.scene_resnet import scene_classifier
from maskerlib.data.samples import Relabelled
from maskerlib.data.scenes.source import Scenes
from maskerlib.experiments.run import sources
from maskerlib.experiments.settings import Setting
from maskerlib.masker.config import MaskerConfig
from maskerlib.masker.training import train_masker
from maskerlib.metrics.evaluation import evaluate
from maskerlib.metrics.intervals import t_interval

CACHE = Path("runs/cache")


def scenes(seeds: int, steps: int) -> None:
    """CA with the scene classifier: LE and PxAP on labels, on predictions, and their difference, seed by seed."""
    found: dict[str, list[tuple[float, float]]] = {"labels": [], "predicted": []}
    for seed in range(seeds):
        setting = Setting(mode="CA", seed=seed, steps=steps)
        train, val = sources(setting, CACHE)
        for targets, values in found.items():
            trained = train_masker(scene_classifier(), train, setting.config(), targets=targets, progress=False)
            table = evaluate({targets: trained}, val, scene_classifier())
            values.append((table.loc[targets, "LE"], table.loc[targets, "PxAP"]))
            print(f"seed {seed}, {targets:9s}  LE {values[-1][0]:.4f}  PxAP {values[-1][1]:.4f}", flush=True)
    for column, metric in enumerate(("LE", "PxAP")):
        differences = [a[column] - b[column] for a, b in zip(found["predicted"], found["labels"], strict=True)]
        mean, low, high = t_interval(differences)
        print(f"predicted - labels, {metric}: {mean:+.4f} [{low:+.4f}, {high:+.4f}] over {seeds} seeds")


def unsure(steps: int, images: int, classifier_lr: float) -> None:
    """FIX and CA with EfficientNet-Lite0 on scenes of 224 pixels, whose labels it does not know: classes, area, LE."""
    classifier = efficientnet_lite0()
    counts = {"train": images, "val": 96}
    drawn = (Scenes(split, count=count, size=224, cache=CACHE / "scenes") for split, count in counts.items())
    train, val = (Relabelled(source, torch.full((len(source),), -1), ()) for source in drawn)
    before = decided(val, classifier).labels
    print(f"{len(before.unique())} classes predicted on {len(val)} scenes")
    for mode in ("FIX", "CA"):
        config = MaskerConfig.final(
            mode,
            steps=steps,
            batch_size=16,
            masker_lr=5e-3,
            schedule="cosine",
            warmup=0.1,
            pool_every=8,
            classifier_lr=classifier_lr,
        )
        trained = train_masker(classifier, train, config, progress=False)
        after = decided(val, trained.classifier).labels
        table = evaluate({mode: trained}, val, classifier, targets="predicted")
        same = float((after == before).float().mean())
        loss = trained.history.get("clean", [float("nan")])[-1]
        print(
            f"{mode:3s}  LE {table.loc[mode, 'LE']:.3f}  area {table.loc[mode, 'mean']:.3f}  classes predicted afterwards "
            f"{len(after.unique())}, the same class on {same:.0%}; clean loss {loss:.3f}",
            flush=True,
        )


def main(argv: list[str] | None = None) -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--unsure", action="store_true", help="EfficientNet-Lite0 on scenes of 224 pixels")
    parser.add_argument("--seeds", type=int, default=3, help="of the scenes (%(default)s)")
    parser.add_argument("--steps", type=int, help="of each training (128 on the scenes, 30 for --unsure)")
    parser.add_argument("--classifier-lr", type=float, default=1e-4, help="of CA, for --unsure (%(default)s)")
    parser.add_argument("--images", type=int, default=320, help="to train on, for --unsure (%(default)s)")
    options = parser.parse_args(argv)
    if options.unsure:
        unsure(options.steps or 30, options.images, options.classifier_lr)
    else:
        scenes(options.seeds, options.steps or 128)


if __name__ == "__main__":
    main()
