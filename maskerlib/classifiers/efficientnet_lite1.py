"""EfficientNet-Lite1 by name (`maskerlib.classifiers.efficientnet_lite`)."""

from maskerlib.classifiers.efficientnet_lite import entry_of

__all__ = ["ENTRY"]

ENTRY = entry_of(1)
