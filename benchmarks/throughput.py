"""How fast maps are drawn, by a masker and by Grad-CAM, and how fast `evaluate` judges them.

Both draw maps for the same classifier and batch. A masker needs the classifier's activations and one small
network; Grad-CAM needs a forward pass whose graph reaches back to the last stage. The classifier's forward
pass alone is timed beside them: it is what neither can do without. Weights are random, which changes no time.
"""

from typing import Any

import torch
from timing import arguments, interleaved

from maskerlib.classifiers.classifier import frozen
from maskerlib.classifiers.scene_resnet import scene_resnet
from maskerlib.classifiers.torchvision_networks import from_torchvision
from maskerlib.data.samples import Subset, batches
from maskerlib.data.scenes.source import Scenes
from maskerlib.masker.network import masker_for, masker_method
from maskerlib.methods.grad_cam import grad_cam
from maskerlib.metrics.evaluation import evaluate
from maskerlib.running.files import write_json
from maskerlib.running.precision import PRECISIONS, autocast, resolve_precision
from maskerlib.running.provenance import provenance


def maps(options: Any, device: torch.device) -> dict[str, Any]:
    """Maps a second of a masker and of Grad-CAM, and images a second of the classifier alone."""
    classifier = (
        from_torchvision(options.network, seed=options.seed)
        .to(device)
        .to(memory_format=torch.channels_last)
    )
    masker = masker_for(classifier, seed=options.seed).to(device).to(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(options.seed)
    images = torch.rand(options.batch, 3, options.size, options.size, generator=generator)
    images = images.to(device, memory_format=torch.channels_last)
    targets = torch.arange(options.batch, device=device)
    methods = {"masker": masker_method(masker), "Grad-CAM": grad_cam()}

    def draw(name: str) -> None:
        with autocast(options.precision, device):
            methods[name](images, targets, classifier)

    def look() -> None:
        with frozen(classifier), torch.no_grad(), autocast(options.precision, device):
            classifier(images)

    work = {"masker": lambda: draw("masker"), "Grad-CAM": lambda: draw("Grad-CAM"), "classifier alone": look}
    times = interleaved(work, options.rounds, device)
    seconds = {name: time.medians()["wall"] for name, time in times.items()}
    return {
        "a second": {name: options.batch / value for name, value in seconds.items()},
        "ratio": seconds["Grad-CAM"] / seconds["masker"],
    }


def evaluation(options: Any, device: torch.device) -> dict[str, Any]:
    """Scenes a second through `evaluate`, one masker and all metrics, and through the classifier alone."""
    scenes = Scenes("val", cache=options.cache)
    source = Subset(scenes, range(min(options.images, len(scenes))))
    classifier = (
        scene_resnet(scenes.class_names, seed=options.seed).to(device).to(memory_format=torch.channels_last)
    )
    masker = masker_for(classifier, seed=options.seed).to(device).to(memory_format=torch.channels_last)
    methods = {"masker": masker_method(masker)}

    def look() -> None:
        with frozen(classifier), torch.no_grad(), autocast(options.precision, device):
            for batch in batches(source, 64):
                classifier(batch.images.to(device))

    work = {
        "evaluate": lambda: evaluate(methods, source, classifier, precision=options.precision),
        "classifier alone": look,
    }
    times = interleaved(work, options.rounds, device)
    seconds = {name: time.medians()["wall"] for name, time in times.items()}
    return {
        "images a second": {name: len(source) / value for name, value in seconds.items()},
        "ratio": seconds["classifier alone"] / seconds["evaluate"],
    }


def main(argv: list[str] | None = None) -> None:
    """Measure, print, write."""
    parser = arguments(__doc__.splitlines()[0], "runs/bench/throughput.json")
    parser.add_argument("--network", default="resnet50", help="the torchvision ResNet that is explained")
    parser.add_argument("--size", type=int, default=224, help="pixels a side")
    parser.add_argument("--batch", type=int, default=8, help="images a batch")
    parser.add_argument("--images", type=int, default=256, help="validation scenes to evaluate on")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that are timed, after one that is not")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", default="auto", choices=PRECISIONS)
    parser.add_argument("--cache", default="runs/cache/scenes", help="where rendered scenes are kept")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)

    drawn, judged = maps(options, device), evaluation(options, device)
    precision = resolve_precision(options.precision, device)
    result = {
        "maps": drawn,
        "evaluation": judged,
        "precision": precision,
        "settings": {name: value for name, value in vars(options).items() if name not in ("out", "cache")},
        "provenance": provenance(seeds=[options.seed]),
    }
    write_json(options.out, result)
    print(
        f"maps a second, {options.network} at {options.size}, batch {options.batch}, {precision}, "
        f"on {options.device}"
    )
    for name, value in drawn["a second"].items():
        print(f"  {name}: {value:.1f}")
    print(f"  a masker is {drawn['ratio']:.2f} times as fast as Grad-CAM")
    print(f"evaluation of scenes, one method, all metrics, {precision}, on {options.device}")
    for name, value in judged["images a second"].items():
        print(f"  {name}: {value:.0f} images a second")
    print(f"  written to {options.out}")


if __name__ == "__main__":
    main()
