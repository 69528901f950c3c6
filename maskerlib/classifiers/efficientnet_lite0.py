"""EfficientNet-Lite0 by name: the classifier of photographs that is asked where no other is named."""

import os
from collections.abc import Sequence

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.efficientnet_lite import efficientnet_lite, entry_of

__all__ = ["ENTRY", "efficientnet_lite0"]


def efficientnet_lite0(
    *, weights: str | os.PathLike[str] | None = None, class_names: Sequence[str] | None = None
) -> Classifier:
    """EfficientNet-Lite0 for 224x224 input; `maskerlib.classifiers.efficientnet_lite.efficientnet_lite` says the rest."""
    return efficientnet_lite(0, weights=weights, class_names=class_names)


ENTRY = entry_of(0)
