"""The classification networks of torchvision as classifiers: random weights, published ones, or a file of one's own."""

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import torchvision

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.entry import ClassifierEntry
from maskerlib.classifiers.libraries import as_classifier, check_path, imagenet_class_names, made, names_for, near_ones
from maskerlib.classifiers.weights import load_weights

__all__ = ["ENTRY", "from_torchvision"]


def from_torchvision(
    name: str,
    *,
    weights: str | os.PathLike[str] | None = None,
    class_names: Sequence[str] | None = None,
    layers: Sequence[str] | None = None,
    seed: int = 0,
    **options: Any,
) -> Classifier:
    """Any classification network of torchvision ("resnet50", "vit_b_16", "swin_t", ...), in eval mode.

    With random weights the head of a torchvision vision transformer is 0, and so are its logits, until it is trained.

    Args:
        name: of the function in `torchvision.models`.
        weights: None for random weights from `seed`; the name of a weight set such as "IMAGENET1K_V2" or "DEFAULT" (downloaded
            by torchvision); or the path of a state dict or of a `classifier.pt`, loaded with `weights_only=True`.
        class_names: one name a class; None means those of the weight set, or the 1000 of ImageNet.
        layers: names; None means `suggest_layers`.
        options: passed to `torchvision.models.get_model`, such as `image_size=112` of a vision transformer.

    Raises ValueError for an unknown name (with near ones), for a weight file that does not fit or class names that a weight
    set does not have; FileNotFoundError for weights that are neither; OSError where they cannot be downloaded.
    """
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise ValueError(f"torchvision has no classification network {name!r}; {near_ones(name, known)}")
    sets = torchvision.models.get_model_weights(name).__members__
    chosen = sets.get(os.fspath(weights)) if weights is not None else None
    published = chosen or sets["DEFAULT"]
    own = published.meta["categories"] if chosen else imagenet_class_names()
    names = names_for(class_names, own, len(own), weights if chosen else None)
    if chosen is None:
        check_path(weights, " or ".join(sets))
        left_open = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}  # torchvision warns without it
        options = {"num_classes": len(names), **left_open, **options}
    make = partial(torchvision.models.get_model, name, weights=chosen, **options)
    network = made(make, seed, weights if chosen else None, f"torchvision's {name}")
    preset = published.transforms()
    side = getattr(network, "image_size", preset.crop_size[0])  # a vision transformer takes one size alone
    told = {"mean": preset.mean, "std": preset.std, "class_names": names, "size": (side, side)}
    classifier = as_classifier(network, name, weights, layers, **told)
    if weights is not None and chosen is None:
        load_weights(classifier, weights)
    return classifier


_SAYS = "any classification network of torchvision, such as torchvision:resnet50"
ENTRY = ClassifierEntry("torchvision:NAME", _SAYS, from_torchvision, example="resnet18")
