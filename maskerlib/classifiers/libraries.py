"""What the networks of torchvision and of timm have in common on their way to a `Classifier`.

Normalisation, input size and class names are those that the library publishes with the weights; the layers are those of
`maskerlib.classifiers.candidates.suggest_layers`.
"""

import difflib
import os
from collections.abc import Callable, Sequence

import torch
import torchvision
from torch import nn

from maskerlib.classifiers.candidates import suggest_layers
from maskerlib.classifiers.classifier import Classifier

__all__ = ["as_classifier", "check_path", "imagenet_class_names", "made", "names_for", "near_ones"]


def imagenet_class_names() -> tuple[str, ...]:
    """The 1000 class names of ImageNet, in the order of the logits, as torchvision ships them."""
    return tuple(torchvision.models.ResNet50_Weights.IMAGENET1K_V1.meta["categories"])


def near_ones(name: str, known: Sequence[str]) -> str:
    """The end of an error message: names near to `name`, or the first of all.

    >>> near_ones("resnet5", ["resnet50", "vgg11"])
    'did you mean resnet50?'
    """
    near = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
    return f"did you mean {', '.join(near)}?" if near else f"choose one of {', '.join(known[:40])}"


def names_for(given: Sequence[str] | None, own: Sequence[str], count: int, downloaded: object) -> tuple[str, ...]:
    """The names of the classes; downloaded weights have `count` of them."""
    names = tuple(own if given is None else given)
    if downloaded is not None and names and len(names) != count:
        raise ValueError(
            f"{len(names)} class names, but the weights {downloaded} have {count} classes; leave class_names out, or give "
            "weights for these classes"
        )
    return names


def check_path(weights: str | os.PathLike[str] | None, sets: str) -> None:
    """FileNotFoundError for weights that are no file, with the names of the `sets` that there are."""
    if weights is not None and not os.path.exists(weights):
        raise FileNotFoundError(f"no weights at {weights}; give the path of a state dict or {sets}")


def made(make: Callable[[], nn.Module], seed: int, downloaded: object, name: str) -> nn.Module:
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


def as_classifier(
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
    """The network as a classifier in eval mode, whose name says where its weights are from."""
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
