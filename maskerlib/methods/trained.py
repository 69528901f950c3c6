"""A trained masker (equation 2), by its folder: m = M(activations of x), one look of the classifier and no gradient.

The folder may hold any that this library trains: the study's, FIX or CA, CASM or adversarial superpixels (`train_masker` with one
of the presets of `MaskerConfig`), or real-time saliency (`train_real_time`). What these functions return is a method itself.
"""

from maskerlib.masker.trained import load_trained
from maskerlib.methods.entry import MethodEntry

__all__ = ["ENTRY"]

ENTRY = MethodEntry("masker:FOLDER", "what train_masker or train_real_time left there", load_trained, kind="trained")
