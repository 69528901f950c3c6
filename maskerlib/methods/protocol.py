"""What a saliency method is: a function of images, classes and a classifier that gives a map of each image."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.doors import Targets
from maskerlib.running.registry import Entry

__all__ = ["KINDS", "Method", "MethodEntry"]

Method = Callable[[Tensor, Targets, Classifier], Tensor]
"""(images (B, channels, H, W) in [0, 1], targets, classifier) -> saliency (B, 1, H, W) in [0, 1], high = salient.

Targets are those of `maskerlib.classifiers.doors.as_targets`: a class for all images or one for each, by number or name; None
means the predicted ones.
"""

KINDS = ("per-image mask", "trained", "gradient", "perturbation", "baseline")
"""How a method comes by its map: by optimising a mask, by a trained network, by derivatives, by trying, or without looking."""


@dataclass(frozen=True)
class MethodEntry(Entry):
    """A method that can be asked for by name; `make(*told, ...)` takes `classifier`, `seed` and `progress` where it needs them.

    kind: one of `KINDS`.
    signed: does it come from numbers that speak for and against the class?
    stochastic: does the map depend on the seed?
    forward, backward: images that the classifier sees, and gradients that pass through it, for each image explained.
    """

    kind: str
    signed: bool = False
    stochastic: bool = False
    forward: int = 1
    backward: int = 0
