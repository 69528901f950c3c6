"""The scene classifier and the FIX and CA maskers of the quickstart, trained and ready: what the later notebooks look at.

The weights are those that `make run` leaves in `runs/` with seed 0; `make weights` packs them anew. They are small enough
to travel with the package, so that a lesson on metrics does not begin with ten minutes of training.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path

import torch

from maskerlib.classifiers.scene_resnet import packed_classifier, scene_classifier
from maskerlib.masker.trained import Trained, load_trained
from maskerlib.running.checks import check_value, one_of
from maskerlib.running.files import atomic_path, make_folder, write_json
from maskerlib.running.provenance import provenance

__all__ = ["main", "scene_masker"]

_LEFT = ("masker.pt", "config.json", "history.json")
_FILES = {"FIX": _LEFT, "CA": (*_LEFT, "classifier.pt")}


def scene_masker(mode: str, device: torch.device | str = "cpu") -> Trained:
    """The masker of the quickstart that was trained with `mode` "FIX" or "CA", with the classifier that it reads.

    Raises ValueError for another mode.
    """
    check_value("mode", mode, one_of(tuple(_FILES)))
    with as_file(files("maskerlib") / "weights") as folder:
        return load_trained(folder / mode, scene_classifier(device))


def main(arguments: Sequence[str] | None = None) -> int:
    """Pack a finished quickstart into the package. Returns 0, or 1 when something of it is missing or does not fit."""
    parser = argparse.ArgumentParser("python -m maskerlib.masker.pretrained", description="Pack the weights of the quickstart.")
    parser.add_argument("classifier", type=Path, help="folder of the trained classifier")
    parser.add_argument("maskers", type=Path, help="folder that holds FIX/ and CA/")
    parser.add_argument("--into", type=Path, default=Path(__file__).parents[1] / "weights", help="(%(default)s)")
    options = parser.parse_args(arguments)
    try:
        classifier = packed_classifier(options.classifier / "classifier.pt")
        runs = {mode: load_trained(options.maskers / mode, classifier) for mode in _FILES}
    except (OSError, ValueError) as error:
        print(f"error: {error}; `make run` trains what is packed here", file=sys.stderr)
        return 1
    sources = {"classifier.pt": options.classifier / "classifier.pt"}
    sources |= {f"{mode}/{name}": options.maskers / mode / name for mode, names in _FILES.items() for name in names}
    for name, source in sources.items():
        make_folder((options.into / name).parent)
        with atomic_path(options.into / name) as partial:
            shutil.copyfile(source, partial)
    seeds = [run.config.seed for run in runs.values()]
    record = provenance(seeds=seeds, classifier=classifier, command="make run && make weights")
    write_json(options.into / "provenance.json", record)
    print(f"packed {len(sources)} files into {options.into}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
