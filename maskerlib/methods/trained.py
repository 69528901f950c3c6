"""A trained masker (equation 2), by its folder: m = M(activations of x), one look of the classifier and no gradient.

What `train_masker` returns is a method itself.
"""

from maskerlib.masker.trained import load_trained
from maskerlib.methods.entry import MethodEntry

__all__ = ["ENTRY"]

ENTRY = MethodEntry("masker:FOLDER", "the masker that train_masker left there", load_trained, kind="trained")
