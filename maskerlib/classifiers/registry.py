"""Classifiers by name. A new one is a module with an `ENTRY` (`maskerlib.classifiers.entry`), and its line here.

Each gives a `Classifier` whose `layers` are points of rising depth, five where the network has so many resolutions, as in the
paper: the stem and four stages.

    >>> list(CLASSIFIERS)
    ['efficientnet-lite0', 'efficientnet-lite1', 'efficientnet-lite2', 'scenes', 'torchvision:NAME', 'timm:NAME']
"""

import os
from collections.abc import Sequence

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.entry import ClassifierEntry
from maskerlib.classifiers.weights import classes_in
from maskerlib.running.registry import Registry

__all__ = ["CLASSIFIERS", "classifier_named"]

CLASSIFIERS = Registry(
    "classifier",
    ClassifierEntry,
    "maskerlib.classifiers",
    [
        "efficientnet_lite0",
        "efficientnet_lite1",
        "efficientnet_lite2",
        "scene_resnet",
        "torchvision_networks",
        "timm_networks",
    ],
)
"""Every classifier that can be asked for by name; in brief, what comes with the package and two families."""


def classifier_named(
    name: str,
    *,
    weights: str | os.PathLike[str] | None = None,
    class_names: Sequence[str] | None = None,
    layers: Sequence[str] | None = None,
    seed: int = 0,
) -> Classifier:
    """The classifier called `name`, in eval mode, with its layers, its normalisation, its input size and its classes.

    Args:
        name: one of `CLASSIFIERS`: "efficientnet-lite0", "scenes", "torchvision:resnet50", "timm:vit_tiny_patch16_224", ...
        weights: the path of a state dict, or of a `classifier.pt` that training left. For torchvision and timm also the name of
            a weight set, which the library downloads ("DEFAULT" of torchvision, "pretrained" of timm). None: the weights that
            come with the package; of torchvision and timm random ones from `seed`, and the classifier's name says so.
        class_names: one name a class; None means those that belong to the weights, or that stand in their `classifier.pt`.
        layers: names of layers; None means those known to be good, or of `maskerlib.classifiers.candidates.suggest_layers`.

    Raises ValueError for an unknown name, class or file that does not fit; ImportError where timm is missing; FileNotFoundError
    for a path that is not there; OSError where weights cannot be downloaded.
    """
    if class_names is None and weights is not None:
        class_names = classes_in(weights)
    options = {"weights": weights, "class_names": class_names, "layers": layers}
    asked = {key: value for key, value in options.items() if value is not None}
    classifier = CLASSIFIERS.made(name, asked, {"seed": seed})
    if not isinstance(classifier, Classifier):
        raise ValueError(f"classifier {name!r}: its make returned {type(classifier).__name__}, expected a Classifier")
    return classifier
