"""The scene classifier and the FIX and CA maskers of the quickstart, trained and ready: what the later notebooks look at.

The weights are those that `make run` leaves in `runs/` with seed 0; `make weights` packs them anew. They are small enough
to travel with the package, so that a lesson on metrics does not begin with ten minutes of training.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from maskerlib.classifiers.scene_resnet import packed_classifier, scene_classifier
from maskerlib.masker.collection import load_masker
from maskerlib.masker.publishing import publish_masker
from maskerlib.masker.trained import Trained, load_trained
from maskerlib.running.checks import check_value, one_of
from maskerlib.running.files import atomic_path, read_json

__all__ = ["main", "scene_masker"]

_MODES = ("FIX", "CA")
_METRICS = ("LE", "OM", "F1", "PxAP", "MaxBoxAcc")


def scene_masker(mode: str, device: torch.device | str = "cpu") -> Trained:
    """The masker of the quickstart that was trained with `mode` "FIX" or "CA", with the classifier that it reads.

    Raises ValueError for another mode.
    """
    check_value("mode", mode, one_of(_MODES))
    return load_masker(f"scenes-{mode}", scene_classifier(device))


def main(arguments: Sequence[str] | None = None) -> int:
    """Pack a finished quickstart into the package. Returns 0, or 1 when something of it is missing or does not fit."""
    parser = argparse.ArgumentParser("python -m maskerlib.masker.pretrained", description="Pack the weights of the quickstart.")
    parser.add_argument("classifier", type=Path, help="folder of the trained classifier")
    parser.add_argument("quickstart", type=Path, help="folder that holds FIX/, CA/ and metrics.json")
    parser.add_argument("--into", type=Path, default=Path(__file__).parents[1] / "weights", help="(%(default)s)")
    options = parser.parse_args(arguments)
    try:
        classifier = packed_classifier(options.classifier / "classifier.pt")
        for mode in _MODES:
            load_trained(options.quickstart / mode, classifier)
        measured = read_json(options.quickstart / "metrics.json")
    except (OSError, ValueError) as error:
        print(f"error: {error}; `make run` trains what is packed here", file=sys.stderr)
        return 1
    for mode in _MODES:
        publish_masker(
            options.quickstart / mode,
            options.into / "maskers.json",
            f"scenes-{mode}",
            classifier,
            known_as="scenes",
            says=f"{mode}, for the drawn scenes of the notebooks",
            data="8,000 drawn scenes, level default, training split",
            command="make run && make weights",
            metrics={name: measured[mode][name] for name in _METRICS},
            measured_on="1,000 drawn scenes, level default, validation split",
        )
    with atomic_path(options.into / "classifier.pt") as partial:
        shutil.copyfile(options.classifier / "classifier.pt", partial)
    print(f"packed the classifier and {len(_MODES)} maskers into {options.into}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
