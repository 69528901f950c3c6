"""Methods by name. A new one is a module with an `ENTRY`, and its line here.

It is then listed by `maskerlib explain --list`, drawn by `maskerlib explain --method`, and held to the contract of all methods
by `tests/test_methods.py`.

>>> METHODS["integrated-gradients"].cost(), METHODS.find("masker:runs/mine")[1]
((51, 50), ('runs/mine',))
"""

import inspect
from collections.abc import Iterable
from typing import Any

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.doors import Method
from maskerlib.methods.entry import MethodEntry
from maskerlib.running.registry import Registry

__all__ = ["METHODS", "method_named", "method_options", "read_options", "table"]

_OFFERED = ("classifier", "seed", "progress")

METHODS = Registry(
    "method",
    MethodEntry,
    "maskerlib.methods",
    [
        "optimise",
        "meaningful",
        "extremal",
        "fido",
        "fido_sdr",
        "trained",
        "gradient",
        "smooth_grad",
        "input_x_gradient",
        "gradient_shap",
        "guided_backprop",
        "integrated_gradients",
        "deep_lift",
        "lrp",
        "grad_cam",
        "grad_cam_plus_plus",
        "layer_cam",
        "score_cam",
        "opti_cam",
        "rise",
        "prediction_difference",
        "occlusion",
        "lime",
        "kernel_shap",
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
        options: of its factory, such as `samples=50` of "smooth-grad"; `method_options` has all of them.

    Raises ValueError for an unknown name or option, with those that there are, and a masker without a folder; for a folder as
    `maskerlib.masker.trained.load_trained` does.
    """
    offered = dict(zip(_OFFERED, (classifier, seed, progress), strict=True))
    method: Method = METHODS.made(name, options, offered)
    return method


def method_options(name: str) -> dict[str, inspect.Parameter]:
    """The options of a method, {name: parameter}, each with its type and its default; what `method_named` itself gives is none.

    Raises ValueError as `method_named` does for a name.

    >>> {name: option.default for name, option in method_options("gradient").items()}
    {'channels': 'sum', 'clip': 0.99, 'sign': 'absolute'}
    """
    return METHODS.options(name, _OFFERED)


def read_options(name: str, texts: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Options of a method from (option, text) of a command line, each read as the method declares it.

    Raises ValueError as `method_named` does for a name, for an option that the method does not have (with those that there are)
    or that is given twice, and for a text that is no value of the option's type.

    >>> read_options("rise", [("masks", "500"), ("centred", "true")])
    {'masks': 500, 'centred': True}
    """
    return METHODS.read(name, texts, _OFFERED)


def table() -> list[str]:
    """All methods as a table in Markdown, a line each; its columns are those of `MethodEntry`.

    "signed" and "seed" are marked where the method has signs, and where its map depends on the seed; "forward" and "backward"
    count the images that the classifier sees, and the gradients that pass through it, for each image of 224 pixels a side.

    >>> print(table()[0])
    | name                 | kind           | signed | seed | forward | backward | what it is |
    """
    rows: list[tuple[str, ...]] = [("name", "kind", "signed", "seed", "forward", "backward", "what it is")]
    for name, entry in METHODS.items():
        marks = ("yes" if mark else "" for mark in (entry.signed, entry.stochastic))
        rows.append((name, entry.kind, *marks, *map(str, entry.cost()), entry.says))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1] + [0]
    lines = [" | ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]
    rule = " | ".join("-" * (width or 3) for width in widths)
    return [f"| {line} |" for line in (lines[0], rule, *lines[1:])]
