"""Methods by name. A new one is a module with an `ENTRY`, and its line here."""

import inspect
from typing import Any

from maskerlib.classifiers.classifier import Classifier
from maskerlib.methods.protocol import Method, MethodEntry
from maskerlib.running.registry import Registry

__all__ = ["METHODS", "method_named"]

METHODS: Registry[MethodEntry] = Registry(
    "method",
    "maskerlib.methods",
    [
        "optimise",
        "trained",
        "gradient",
        "smooth_grad",
        "guided_backprop",
        "integrated_gradients",
        "grad_cam",
        "centre_box",
        "random_map",
    ],
)
"""Every method that can be asked for by name."""


def method_named(name: str, classifier: Classifier, *, seed: int = 0, progress: bool = False, **options: Any) -> Method:
    """The method called `name`: one of `METHODS`, or "masker:FOLDER" for what `train_masker` left in a folder.

    Args:
        classifier: the one that is to be explained; a trained masker reads it.
        seed: of what the method draws at random, where it does.
        progress: show a bar, where it takes long.
        options: of its factory, such as `samples=50` of "smooth-grad".

    Raises ValueError for an unknown name or option, with those that there are, and a masker without a folder; for a folder as
    `maskerlib.masker.training.load_trained` does.
    """
    entry, told = METHODS.find(name)
    parameters = inspect.signature(entry.make).parameters.values()
    known = [each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    for option in options:
        if option not in known[len(told) :] or option == "classifier":
            takes = ", ".join(each for each in known[len(told) :] if each != "classifier") or "none"
            raise ValueError(f"method {name!r} has no option {option!r}; its options are {takes}")
    offered = {"classifier": classifier, "seed": seed, "progress": progress}
    method: Method = entry.make(*told, **{key: value for key, value in offered.items() if key in known}, **options)
    return method
