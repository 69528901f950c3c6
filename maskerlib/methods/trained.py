"""A trained masker by the name of its folder. What `train_masker` returns is a method itself."""

from maskerlib.masker.training import load_trained
from maskerlib.methods.protocol import MethodEntry

__all__ = ["ENTRY"]

ENTRY = MethodEntry("masker:FOLDER", "a masker that train_masker left in a folder", load_trained, kind="trained")
