"""The classification networks of torchvision and timm as classifiers: random weights, published ones, or a file of one's own.

Normalisation, input size and class names are those that the library publishes with the weights; the layers are those of
`maskerlib.candidates.suggest_layers`. timm is an extra: `pip install 'maskerlib[timm]'`.
"""

import difflib
import importlib
import os
from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType
from typing import Any

import torch
import torchvision
from torch import nn

from maskerlib.candidates import suggest_layers
from maskerlib.classifiers import Classifier
from maskerlib.files import load_checkpoint
from maskerlib.samples import as_size

__all__ = ["from_timm", "from_torchvision", "imagenet_class_names", "load_weights"]


def imagenet_class_names() -> tuple[str, ...]:
    """The 1000 class names of ImageNet, in the order of the logits, as torchvision ships them."""
    return tuple(torchvision.models.ResNet50_Weights.IMAGENET1K_V1.meta["categories"])


def load_weights(network: nn.Module, path: str | os.PathLike[str]) -> None:
    """Load a state dict, weights only. Raises FileNotFoundError, or ValueError naming what does not fit."""
    if os.fspath(path).endswith(".safetensors"):
        reader = _optional("safetensors.torch")
        try:
            state = reader.load_file(os.fspath(path))
        except Exception as error:  # its own kind for a damaged file
            raise ValueError(f"{path} is not a readable checkpoint ({error}); copy it again") from None
    else:
        state = load_checkpoint(path)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        lines = str(error).splitlines()
        raise ValueError(f"{path} does not fit {type(network).__name__}: {lines[-1].strip()[:200]}") from None


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
        raise ValueError(f"torchvision has no classification network {name!r}; {_choice(name, known)}")
    sets = torchvision.models.get_model_weights(name).__members__
    chosen = sets.get(os.fspath(weights)) if weights is not None else None
    published = chosen or sets["DEFAULT"]
    own = published.meta["categories"] if chosen else imagenet_class_names()
    names = _names(class_names, own, len(own), weights if chosen else None)
    if chosen is None:
        _check_file(weights, " or ".join(sets))
        left_open = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}  # torchvision warns without it
        options = {"num_classes": len(names), **left_open, **options}
    make = partial(torchvision.models.get_model, name, weights=chosen, **options)
    network = _made(make, seed, weights if chosen else None, f"torchvision's {name}")
    if weights is not None and chosen is None:
        load_weights(network, weights)
    preset = published.transforms()
    side = getattr(network, "image_size", preset.crop_size[0])  # a vision transformer takes one size alone
    return _classifier(network, name, weights, layers, mean=preset.mean, std=preset.std, class_names=names, size=(side, side))


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
            such as "fb_in1k" (downloaded by timm); or the path of a state dict (.pth or .safetensors).
        class_names: one name a class; None means those of the data set that the network was published for.
        layers: names; None means `suggest_layers`.
        options: passed to `timm.create_model`, such as `img_size=112`.

    Raises ImportError where timm is missing, and else as `from_torchvision`; ValueError for a network without classes, too.
    """
    timm = _optional("timm")
    architecture, _, tag = name.partition(".")
    known = timm.list_models()
    if architecture not in known:
        raise ValueError(f"timm has no network {architecture!r}; {_choice(architecture, known)}")
    tags = [each.partition(".")[2] for each in timm.list_models(f"{architecture}.*", pretrained=True)]
    if tag and tag not in tags:
        raise ValueError(f"timm has no weights {tag!r} of {architecture!r}; {_choice(tag, tags)}")
    chosen = None
    if weights is not None and (weights == "pretrained" or weights in tags):
        chosen = tag if weights == "pretrained" else str(weights)
    else:
        _check_file(weights, " or ".join(["pretrained", *tags]))
    full = ".".join(part for part in (architecture, chosen or tag) if part)
    published = timm.get_pretrained_cfg(full)
    count = published.num_classes if published is not None else 1000
    names = _names(class_names, _timm_class_names(timm, count), count, weights if chosen is not None else None)
    if not (count or names):
        raise ValueError(
            f"{name} has no classes, it returns features; give class_names=[...] for a head, whose weights are random or your own"
        )
    if chosen is None:
        options = {"num_classes": len(names) or count, **options}
    make = partial(timm.create_model, full, pretrained=chosen is not None, **options)
    network = _made(make, seed, weights if chosen is not None else None, f"timm's {full}")
    if weights is not None and chosen is None:
        load_weights(network, weights)
    data = timm.data.resolve_model_data_config(network)
    size = as_size(options.get("img_size", data["input_size"][1:]))
    channels = options.get("in_chans", data["input_size"][0])
    mean, std = (each if len(each) == channels else (sum(each) / len(each),) * channels for each in (data["mean"], data["std"]))
    return _classifier(network, name, weights, layers, mean=mean, std=std, class_names=names, size=size)


def _timm_class_names(timm: ModuleType, count: int) -> tuple[str, ...]:
    """The names of a set of `count` classes, as far as timm knows it: ImageNet in its several sizes."""
    if count == 1000:
        return imagenet_class_names()
    subset = timm.data.infer_imagenet_subset({"num_classes": count})
    names = timm.data.ImageNetInfo(subset).label_descriptions() if subset else ()
    return tuple(names) if len(names) == count else ()


def _optional(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{module.partition('.')[0]} is not installed ({error}); pip install 'maskerlib[timm]'") from None


def _choice(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
    return f"did you mean {', '.join(near)}?" if near else f"choose one of {', '.join(known[:40])}"


def _names(given: Sequence[str] | None, own: Sequence[str], count: int, downloaded: object) -> tuple[str, ...]:
    """The names of the classes; downloaded weights have `count` of them."""
    names = tuple(own if given is None else given)
    if downloaded is not None and names and len(names) != count:
        raise ValueError(
            f"{len(names)} class names, but the weights {downloaded} have {count} classes; leave class_names out, or give "
            "weights for these classes"
        )
    return names


def _check_file(weights: str | os.PathLike[str] | None, sets: str) -> None:
    if weights is not None and not os.path.exists(weights):
        raise FileNotFoundError(f"no weights at {weights}; give the path of a state dict or {sets}")


def _made(make: Callable[[], nn.Module], seed: int, downloaded: object, name: str) -> nn.Module:
    """The network, its random weights from `seed`. Raises OSError where weights were to be downloaded and could not be."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if downloaded is None:
            return make()
        try:
            return make()
        except Exception as error:  # urllib, hashes, the hub of timm: each has kinds of its own
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise OSError(
                f"the weights {downloaded} of {name} could not be downloaded ({reason}); download them elsewhere and give the "
                "path of the state dict as weights"
            ) from None


def _classifier(
    network: nn.Module,
    name: str,
    weights: str | os.PathLike[str] | None,
    layers: Sequence[str] | None,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    class_names: Sequence[str],
    size: tuple[int, int],
) -> Classifier:
    origin = "random weights" if weights is None else os.path.basename(weights)
    return Classifier(
        network,
        suggest_layers(network, size, channels=len(mean)) if layers is None else layers,
        mean=mean,
        std=std,
        class_names=class_names,
        input_size=size,
        name=f"{name} ({origin})",
    ).eval()
