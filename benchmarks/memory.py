"""Does memory stay flat over a long training and a long evaluation? Resident memory, step by step, and a figure of it.

Two trainings (FIX, and CA with a pool) on drawn scenes and an evaluation of made-up images, each in a process of its own. The
last tenth of the steps is compared with the tenth after the middle, when caches are warm and the pool is full.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from timing import apart, arguments, resident

from maskerlib.classifiers.scene_resnet import scene_classifier
from maskerlib.data.samples import Batch, Sample, Source
from maskerlib.data.scenes.source import Scenes
from maskerlib.masker.config import MaskerConfig
from maskerlib.masker.pretrained import scene_masker
from maskerlib.masker.training import train_masker
from maskerlib.metrics.evaluation import evaluate
from maskerlib.plots import save_figure
from maskerlib.running.files import write_json
from maskerlib.running.provenance import provenance

__all__ = ["JOBS", "MadeUp", "Watched", "growth", "main"]

JOBS = ("FIX", "CA", "evaluate")

GROWTH = 1.05
"""The most that the last tenth of a job may need of what the tenth after its middle does."""


class MadeUp(Source):
    """`count` images of noise, each with a box and its mask, drawn when they are asked for: no list of them is kept."""

    def __init__(self, count: int, size: int, class_names: tuple[str, ...]) -> None:
        self.count, self.size, self.class_names = count, (size, size), class_names
        self.labels = torch.arange(count) % len(class_names)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        side = self.size[0]
        draws = torch.Generator().manual_seed(index)
        mask = torch.zeros(side, side, dtype=torch.bool)
        mask[side // 4 : side // 2, side // 4 : side // 2] = True
        box = torch.tensor([[side // 4, side // 4, side // 2, side // 2]], dtype=torch.float32)
        return Sample(torch.rand(3, side, side, generator=draws), int(self.labels[index]), box, mask, f"noise {index}")


class Watched(Source):
    """Another source; memory is looked at whenever a batch is asked for, `seen` holds the MB."""

    def __init__(self, source: Source, device: torch.device) -> None:
        self.source, self.device, self.seen = source, device, list[float]()
        self.class_names, self.labels, self.size = source.class_names, source.labels, source.size

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Sample:
        return self.source[index]

    def batch(self, indices: Any) -> Batch:
        self.seen.append(resident(self.device))
        return self.source.batch(indices)


def growth(seen: list[float]) -> float:
    """Median MB in the last tenth / in the tenth after the middle; 1 is flat."""
    tenth, middle = max(1, len(seen) // 10), len(seen) // 2
    return statistics.median(seen[-tenth:]) / statistics.median(seen[middle : middle + tenth])


def watched(job: str, options: argparse.Namespace) -> list[float]:
    """MB at every batch of a job, in this process."""
    device, classifier = torch.device(options.device), scene_classifier(options.device)
    if job == "evaluate":
        source = Watched(MadeUp(options.images, classifier.input_size[0], classifier.class_names), device)
        evaluate({"FIX": scene_masker("FIX", device)}, source, classifier, precision="fp32")
        return source.seen
    pool = {"pool_every": 2, "pool_size": 30}
    config = MaskerConfig(mode=job, steps=options.steps, batch_size=16, width=16, precision="fp32", **pool)
    source = Watched(Scenes("train", count=min(2000, 16 * options.steps), cache=None), device)
    train_masker(classifier, source, config, progress=False)
    return source.seen[-options.steps :]


def picture(seen: dict[str, list[float]]) -> Figure:
    """Memory over the steps, a panel a job."""
    figure = Figure(figsize=(9, 2.8), layout="constrained")
    for axes, (job, values) in zip(figure.subplots(1, len(seen)), seen.items(), strict=True):
        axes.plot(range(1, len(values) + 1), values, color="black", linewidth=1)
        axes.set(title=job, xlabel="batch", ylim=(0, 1.2 * max(values)))
    figure.axes[0].set_ylabel("memory (MB)")
    return figure


def main(argv: list[str] | None = None) -> None:
    """Measure, print, draw, write."""
    parser = arguments(__doc__.splitlines()[0], "runs/bench/memory.json")
    parser.add_argument("--steps", type=int, default=200, help="of each training")
    parser.add_argument("--images", type=int, default=20_000, help="of the evaluation")
    parser.add_argument("--figure", type=Path, help="where the figure goes; beside the JSON file unless given")
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.job:
        print(json.dumps(watched(options.job, options)))
        return
    same = ["--steps", str(options.steps), "--images", str(options.images), "--device", options.device]
    seen = {job: apart(job, __file__, "--job", job, *same) for job in JOBS}
    found = {job: {"growth": growth(values), "MB": [round(value, 1) for value in values]} for job, values in seen.items()}
    settings = {"steps": options.steps, "images": options.images, "device": options.device}
    write_json(options.out, {**found, "limit": GROWTH, "settings": settings, "provenance": provenance(seeds=[0])})
    save_figure(picture(seen), options.figure or options.out.with_suffix(".png"))
    for job, values in seen.items():
        says = "flat" if growth(values) <= GROWTH else "IT GROWS"
        print(f"{job}: {max(values):.0f} MB at the most, the end / the middle {growth(values):.3f}: {says}")
    print(f"  written to {options.out}")


if __name__ == "__main__":
    main()
