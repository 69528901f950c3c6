"""The networks of timm as classifiers. timm is an extra: `pip install 'maskerlib[timm]'`."""

import os
from collections.abc import Sequence
from functools import partial
from types import ModuleType
from typing import Any

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.entry import ClassifierEntry
from maskerlib.classifiers.libraries import as_classifier, check_path, imagenet_class_names, made, names_for, near_ones
from maskerlib.classifiers.weights import load_weights
from maskerlib.data.indices import as_size
from maskerlib.running.extras import optional_module

__all__ = ["ENTRY", "from_timm"]


def from_timm(
    name: str,
    *,
    weights: str | os.PathLike[str] | None = None,
    class_names: Sequence[str] | None = None,
    layers: Sequence[str] | None = None,
    seed: int = 0,
    **options: Any,
) -> Classifier:
    """Any network of timm ("vit_tiny_patch16_224", "convnextv2_atto.fcmae_ft_in1k", ...), in eval mode.

    Args:
        name: of the architecture, with the name of a weight set behind a dot or without; as in `timm.list_models()`.
        weights: None for random weights from `seed`; "pretrained" for those that the name means, or the name of a weight set
            such as "fb_in1k" (downloaded by timm); or the path of a state dict (.pth or .safetensors) or of a `classifier.pt`.
        class_names: one name a class; None means those of the data set that the network was published for.
        layers: names; None means `suggest_layers`.
        options: passed to `timm.create_model`, such as `img_size=112`.

    Raises ImportError where timm is missing, and else as `from_torchvision`; ValueError for a network without classes, too.
    """
    timm = optional_module("timm", "timm")
    architecture, _, tag = name.partition(".")
    known = timm.list_models()
    if architecture not in known:
        raise ValueError(f"timm has no network {architecture!r}; {near_ones(architecture, known)}")
    tags = [each.partition(".")[2] for each in timm.list_models(f"{architecture}.*", pretrained=True)]
    if tag and tag not in tags:
        raise ValueError(f"timm has no weights {tag!r} of {architecture!r}; {near_ones(tag, tags)}")
    chosen = None
    if weights is not None and (weights == "pretrained" or weights in tags):
        chosen = tag if weights == "pretrained" else str(weights)
    else:
        check_path(weights, " or ".join(["pretrained", *tags]))
    full = ".".join(part for part in (architecture, chosen or tag) if part)
    published = timm.get_pretrained_cfg(full)
    count = published.num_classes if published is not None else 1000
    names = names_for(class_names, _timm_class_names(timm, count), count, weights if chosen is not None else None)
    if not (count or names):
        raise ValueError(
            f"{name} has no classes, it returns features; give class_names=[...] for a head, whose weights are random or your own"
        )
    if chosen is None:
        options = {"num_classes": len(names) or count, **options}
    make = partial(timm.create_model, full, pretrained=chosen is not None, **options)
    network = made(make, seed, weights if chosen is not None else None, f"timm's {full}")
    data = timm.data.resolve_model_data_config(network)
    size = as_size(options.get("img_size", data["input_size"][1:]))
    channels = options.get("in_chans", data["input_size"][0])
    mean, std = (each if len(each) == channels else (sum(each) / len(each),) * channels for each in (data["mean"], data["std"]))
    classifier = as_classifier(network, name, weights, layers, mean=mean, std=std, class_names=names, size=size)
    if weights is not None and chosen is None:
        load_weights(classifier, weights)
    return classifier


def _timm_class_names(timm: ModuleType, count: int) -> tuple[str, ...]:
    """The names of a set of `count` classes, as far as timm knows it: ImageNet in its several sizes."""
    if count == 1000:
        return imagenet_class_names()
    subset = timm.data.infer_imagenet_subset({"num_classes": count})
    names = timm.data.ImageNetInfo(subset).label_descriptions() if subset else ()
    return tuple(names) if len(names) == count else ()


_SAYS = "any network of timm, such as timm:vit_tiny_patch16_224; needs pip install 'maskerlib[timm]'"
ENTRY = ClassifierEntry("timm:NAME", _SAYS, from_timm, example="vit_tiny_patch16_224")
