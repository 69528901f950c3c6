"""The command line of training a classifier: one for your classes, whose masks can then be trained and measured.

maskerlib train torchvision:resnet18 --data folder:my_images --folder runs/mine
maskerlib train torchvision:resnet18 --weights IMAGENET1K_V1 --data pets:data --folder runs/pets --lr 0.01

`runs/pets/classifier.pt` is then what `--weights` of `maskerlib explain`, and `weights` of an experiment, ask for. A run that was
killed goes on when the same command is given again; a finished one is only measured.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maskerlib.classifiers.classifier import Classifier
    from maskerlib.data.samples import Source
    from maskerlib.training.classifier import ClassifierConfig

__all__ = ["main", "parser"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0; 1 where a number stops being finite, 2 for bad arguments or data, 130 after Ctrl-C."""
    options = parser().parse_args(arguments)
    from maskerlib.running.files import write_json  # all of this takes seconds
    from maskerlib.training.classifier import accuracy, train_classifier
    from maskerlib.training.loop import Diverged

    try:
        classifier, config, train, val = _prepared(options)
        trained = train_classifier(classifier, train, config, folder=options.folder, workers=options.workers)
        right = accuracy(trained, val, precision=options.precision)
        write_json(options.folder / "metrics.json", {"accuracy": right, "images": len(val)})
    except Diverged as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"interrupted; the same command goes on from the last checkpoint in {options.folder}", file=sys.stderr)
        return 130
    print(f"{options.folder / 'classifier.pt'}: {right:.1%} of {len(val)} images right, {len(classifier.class_names)} classes")
    return 0


def _prepared(options: argparse.Namespace) -> "tuple[Classifier, ClassifierConfig, Source, Source]":
    """Classifier, configuration, and the images to train on and to measure on."""
    from maskerlib.classifiers.heads import for_classes
    from maskerlib.classifiers.registry import classifier_named
    from maskerlib.data.registry import SOURCES, split_named
    from maskerlib.running.devices import device_named
    from maskerlib.training.classifier import ClassifierConfig

    device = device_named(options.device)
    classifier = classifier_named(options.classifier, weights=options.weights, seed=options.seed)
    height, width = classifier.input_size
    size = options.size or (height if height == width else (height, width))
    train = split_named(options.data, "train", size=size, **SOURCES.read(options.data, options.train_option))
    val = split_named(options.data, "val", size=size, **SOURCES.read(options.data, options.val_option))
    if train.class_names and tuple(train.class_names) != classifier.class_names:
        classifier = for_classes(classifier, train.class_names, seed=options.seed)
    given = {name: getattr(options, name) for name in ("passes", "batch_size", "lr", "small", "seed", "precision")}
    crops = (options.smallest_crop, 1.0)
    return classifier.to(device), ClassifierConfig(**given, crop_scale=crops), train, val


def parser(**options: Any) -> argparse.ArgumentParser:
    """What reads the arguments of `main`; options as for `argparse.ArgumentParser`."""
    says = "Trains a classifier for the classes of a data set, and says how many images it gets right that it has not seen."
    parser = argparse.ArgumentParser("maskerlib train", description=says, **options)
    parser.add_argument("classifier", help="which network, such as torchvision:resnet18; see maskerlib explain --list")
    parser.add_argument("--weights", help="to begin with: a path, or the name of a weight set to download (random)")
    parser.add_argument("--data", required=True, help="scenes, folder:PATH, pets:PATH, ...; see maskerlib explain --list")
    pair: dict[str, Any] = {"nargs": 2, "action": "append", "default": [], "metavar": ("NAME", "VALUE")}
    parser.add_argument("--train-option", **pair, help="of the data to train on, such as `--train-option split train`")
    parser.add_argument("--val-option", **pair, help="of the data to measure on")
    parser.add_argument("--folder", type=Path, required=True, help="where classifier.pt is left")
    parser.add_argument("--size", type=int, help="pixels per side (those of the classifier)")
    parser.add_argument("--passes", type=float, default=7.5, help="over the images (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=64, help="images a step (%(default)s)")
    parser.add_argument("--lr", type=float, default=0.08, help="largest learning rate (%(default)s)")
    parser.add_argument("--small", type=float, default=0.55, help="share of the steps with smaller images (%(default)s)")
    parser.add_argument("--smallest-crop", type=float, default=0.25, help="smallest area of the random crops (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of order, crops and random weights (%(default)s)")
    parser.add_argument("--precision", default="auto", help="auto, bf16 or fp32 (%(default)s)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps; auto takes a GPU where there is one")
    parser.add_argument("--workers", type=int, default=0, help="processes that load images (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
