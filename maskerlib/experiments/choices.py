"""What the parameters of a run choose among: data, classifiers, what is measured besides."""

from collections.abc import Mapping
from typing import Any

from maskerlib.classifiers.registry import CLASSIFIERS
from maskerlib.data.registry import SOURCES
from maskerlib.data.scenes.source import DEFAULT_COUNTS
from maskerlib.metrics.registry import ON_REQUEST
from maskerlib.running.checks import check_value, one_of, shown, whole

__all__ = [
    "ALSO",
    "APART",
    "COST",
    "FILLS",
    "INPAINTER",
    "MEASURED",
    "MEASURED_ON",
    "SCENES",
    "SHUFFLED",
    "check_data",
]

SCENES = "scenes"
"""The data, and the classifier, that travel with the package."""

SHUFFLED = "shuffled"
"""The classifier of scenes that was trained on shuffled labels."""

INPAINTER = "inpainter"
"""The infill that is trained once for all runs."""

MEASURED_ON = ("val", "train")
"""The validation scenes; or scenes of the training split that no classifier and no masker was trained on, to choose options."""

APART = 1000
"""From how many scenes on two seeds are measured on different ones, where the scenes differ; so many a run may have at most."""

COST = "cost"
"""What a run may also measure: "milliseconds", "forward" and "backward" of an image."""

FILLS = ("mean", "blur", "oracle")
"""What may stand where pixels are removed: an infill by its name, or each scene without its object."""

ALSO = (COST, *ON_REQUEST, *(f"{name}, {fill}" for name in ("insertion", "deletion", "SRG") for fill in FILLS))
"""What a run measures where it is asked to: what a method costs, and metrics that cost passes, also under a fill of `FILLS`."""

MEASURED = (
    *("data", "root", "val_options", "image_size", "level", "val_images", "measured_on", "fresh_scenes", "also", "precision"),
)
"""The parameters that say what is measured, and how, of whichever method."""


def check_data(setting: Mapping[str, Any]) -> None:
    """Raises ValueError, by names and values of a run, for data or a classifier that there are not, or do not go together."""
    data, classifier = setting["data"], setting["classifier"]
    if classifier != SHUFFLED:
        CLASSIFIERS.find(classifier)
    if data == SCENES:
        for name in ("root", "train_options", "val_options", "image_size"):
            if setting[name]:
                mend = "name the data as well, such as data='imagenet'"
                raise ValueError(f"{name}={shown(setting[name])}: scenes have none; {mend}")
        for name in ("train_images", "val_images"):
            check_value(name, setting[name], whole(1))
        if setting["measured_on"] == "train":
            check_value("train_images", setting["train_images"], whole(1, DEFAULT_COUNTS["train"]))
        if setting["fresh_scenes"]:
            check_value("val_images", setting["val_images"], whole(1, APART))
        return
    known = [name.partition(":")[0] for name in SOURCES if name.endswith(":PATH")]
    check_value("data", data, one_of((SCENES, *known)))
    if not setting["root"]:
        raise ValueError(f"root='' for data={data!r}; give the folder of its files")
    if setting["fresh_scenes"] or setting["level"] != "default":
        raise ValueError(f"there are no scenes in data={data!r}; leave out level and fresh_scenes")
    if classifier in (SCENES, SHUFFLED):
        raise ValueError(f"classifier={classifier!r} knows scenes; name one for data={data!r}, such as 'torchvision:resnet50'")
