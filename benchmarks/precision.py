"""What bfloat16 costs in quality: LE of maskers trained in bf16 and in fp32, seed by seed, on scenes.

Both runs of a seed start from the same weights and see the same crops in the same order. bf16 is good enough
when the difference it makes is within what another seed makes: when the mean difference is at most the
standard deviation over the fp32 seeds.
"""

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from timing import arguments

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.scene_resnet import scene_resnet
from maskerlib.data.samples import Subset
from maskerlib.data.scenes.source import Scenes
from maskerlib.masker.config import MaskerConfig
from maskerlib.masker.training import train_masker
from maskerlib.metrics.evaluation import evaluate
from maskerlib.running.files import load_checkpoint, write_json
from maskerlib.running.precision import resolve_precision
from maskerlib.running.provenance import provenance
from maskerlib.training.classifier import train_classifier


def scene_classifier(path: Path | None, train: Scenes, device: torch.device) -> Classifier:
    """The scene classifier whose weights are at `path`, or a new one that is kept beside the results."""
    classifier = scene_resnet(train.class_names).to(device)
    if path is None:
        return train_classifier(classifier, train, folder=Path("runs/bench/scene-classifier"))
    classifier.load_state_dict(load_checkpoint(path)["weights"])
    return classifier.eval().requires_grad_(False)


def scores(
    options: Any, mode: str, device: torch.device
) -> tuple[dict[str, dict[str, list[float]]], Classifier]:
    """{precision: {"LE" and "PxAP": one number a seed}} on validation scenes; the classifier explained."""
    train, scenes = Scenes("train", cache=options.cache), Scenes("val", cache=options.cache)
    classifier = scene_classifier(options.classifier, train, device)
    held_out = Subset(scenes, range(min(options.images, len(scenes))))
    found: dict[str, dict[str, list[float]]] = {name: {"LE": [], "PxAP": []} for name in ("bf16", "fp32")}
    for seed in options.seeds:
        for precision, values in found.items():
            config = MaskerConfig.final(
                mode,
                steps=options.steps,
                batch_size=options.batch,
                crop_scale=(1.0, 1.0),  # scenes hold small objects; a crop could miss them
                seed=seed,
                precision=precision,
            )
            trained = train_masker(classifier, train, config)
            table = evaluate({"masker": trained}, held_out, classifier, precision=precision)
            for metric, numbers in values.items():
                numbers.append(float(table.loc["masker", metric]))
            print(
                f"  {mode}, seed {seed}, {precision}: LE {values['LE'][-1]:.3f}, "
                f"PxAP {values['PxAP'][-1]:.3f}",
                flush=True,
            )
    return found, classifier


def compare(bf16: Sequence[float], fp32: Sequence[float]) -> dict[str, Any]:
    """bf16 - fp32 by seed, its mean, the standard deviation over the fp32 seeds, and whether that is more."""
    differences = [low - high for low, high in zip(bf16, fp32, strict=True)]
    mean, spread = statistics.mean(differences), statistics.stdev(fp32)
    return {
        "difference": differences,
        "mean difference": mean,
        "seed spread": spread,
        "within": abs(mean) <= spread,
    }


def main(argv: list[str] | None = None) -> None:
    """Measure, print, write."""
    parser = arguments(__doc__.splitlines()[0], "runs/bench/precision.json")
    parser.add_argument(
        "--precision", default="auto", choices=("auto", "bf16"), help="bf16 also where it is emulated"
    )
    parser.add_argument("--modes", nargs="+", default=["FIX", "CA"], choices=("FIX", "CA"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="two or more")
    parser.add_argument("--steps", type=int, default=200, help="training steps of a masker")
    parser.add_argument("--batch", type=int, default=48, help="images a step")
    parser.add_argument("--images", type=int, default=1000, help="validation scenes to evaluate on")
    parser.add_argument(
        "--classifier", type=Path, help="weights of a scene ResNet; without it one is trained and kept"
    )
    parser.add_argument("--cache", default="runs/cache/scenes", help="where rendered scenes are kept")
    options = parser.parse_args(argv)
    if len(options.seeds) < 2:
        parser.error(f"seeds {options.seeds}: a spread needs two or more")
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    if resolve_precision(options.precision, device) != "bf16":
        sys.exit(
            f"{options.device} has no bfloat16 units, so runs there use fp32 and there is nothing to "
            "compare; --precision bf16 emulates them, about ten times slower"
        )

    print(f"LE after {options.steps} steps of {options.batch} scenes, bf16 against fp32, on {options.device}")
    result: dict[str, Any] = {}
    for mode in options.modes:
        found, classifier = scores(options, mode, device)
        result[mode] = dict(found)
        for metric in ("LE", "PxAP"):
            result[mode][metric] = compare(found["bf16"][metric], found["fp32"][metric])
        verdict = result[mode]["LE"]
        print(
            f"  {mode}: bf16 changes LE by {verdict['mean difference']:+.4f} on average, another seed by "
            f"{verdict['seed spread']:.4f}: {'within' if verdict['within'] else 'NOT within'} the spread"
        )
    result |= {
        "settings": {
            name: value for name, value in vars(options).items() if name not in ("out", "cache", "classifier")
        },
        "provenance": provenance(seeds=options.seeds, classifier=classifier),
    }
    write_json(options.out, result)
    print(f"  written to {options.out}")


if __name__ == "__main__":
    main()
