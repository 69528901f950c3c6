"""The classification networks of torchvision as classifiers: random weights, published ones, or a file of one's own."""

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import torchvision

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.libraries import as_classifier, check_path, imagenet_class_names, made, names_for, near_ones
from maskerlib.classifiers.weights import load_weights
from maskerlib.running.registry import Entry

__all__ = ["ENTRY", "from_torchvision", "torchvision_resnet"]


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
            by torchvision); or the path of a state dict, loaded with `weights_only=True`.
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
    if weights is not None and chosen is None:
        load_weights(network, weights)
    preset = published.transforms()
    side = getattr(network, "image_size", preset.crop_size[0])  # a vision transformer takes one size alone
    return as_classifier(network, name, weights, layers, mean=preset.mean, std=preset.std, class_names=names, size=(side, side))


def torchvision_resnet(
    variant: str = "resnet50", *, weights: str | None = None, class_names: Sequence[str] | None = None, seed: int = 0
) -> Classifier:
    """Any torchvision ResNet ("resnet18" ... "wide_resnet101_2", "resnext50_32x4d"), in eval mode.

    Args:
        variant: the name of the function in `torchvision.models`.
        weights: None for random weights from `seed`; the name of a torchvision weight set such as "IMAGENET1K_V2"
            (downloaded by torchvision); or the path of a state dict, loaded with `weights_only=True`.
        class_names: one name a class; None means the 1000 ImageNet classes.

    Raises ValueError for an unknown variant (the message lists them) or a weight file that does not fit.
    """
    known = [name for name in torchvision.models.list_models(module=torchvision.models) if "resne" in name]
    if variant not in known:
        raise ValueError(f"torchvision has no {variant!r}; choose one of {', '.join(known)}")
    layers = ("maxpool", "layer1", "layer2", "layer3", "layer4")
    return from_torchvision(variant, weights=weights, class_names=class_names, layers=layers, seed=seed)


ENTRY = Entry("torchvision:NAME", "any classification network of torchvision, such as torchvision:resnet50", from_torchvision)
