"""What a module of this room says of the classifier that it offers by name."""

from collections.abc import Callable
from dataclasses import dataclass

from maskerlib.classifiers.classifier import Classifier
from maskerlib.running.registry import Entry

__all__ = ["ClassifierEntry"]


@dataclass(frozen=True)
class ClassifierEntry(Entry):
    """A classifier, or a family of them such as "torchvision:NAME", that can be asked for by name.

    name, says: as of every `maskerlib.running.registry.Entry`.
    make: `make(*told, weights=, class_names=, layers=, seed=)` gives the classifier in eval mode, as
        `maskerlib.classifiers.registry.classifier_named` says. Layers that are known to be good stand for `layers=None`.
    example: what the smallest of a family that is worth trying is told: "resnet18".
    """

    make: Callable[..., Classifier]
    example: str = ""

    @property
    def sample(self) -> str:
        """A name that can be asked for: its own, or that of the example of a family.

        >>> ClassifierEntry("torchvision:NAME", "any network of torchvision", make=print, example="resnet18").sample
        'torchvision:resnet18'
        """
        head, colon, _ = self.name.partition(":")
        return f"{head}{colon}{self.example}"
