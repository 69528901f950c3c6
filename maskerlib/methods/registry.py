"""Methods by name. A new one is a module with an `ENTRY`, and its line here.

It is then listed by `maskerlib explain --list`, drawn by `maskerlib explain --method`, and held to the contract of all methods
by `tests/test_methods.py`.

>>> METHODS["integrated-gradients"].cost(), METHODS.find("masker:runs/mine")[1]
((51, 50), ('runs/mine',))
"""

from typing import Any

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.doors import Method
from maskerlib.methods.entry import MethodEntry
from maskerlib.running.registry import Registry

__all__ = ["METHODS", "method_named", "table"]

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
        options: of its factory, such as `samples=50` of "smooth-grad".

    Raises ValueError for an unknown name or option, with those that there are, and a masker without a folder; for a folder as
    `maskerlib.masker.trained.load_trained` does.
    """
    offered = {"classifier": classifier, "seed": seed, "progress": progress}
    method: Method = METHODS.made(name, options, offered)
    return method


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
