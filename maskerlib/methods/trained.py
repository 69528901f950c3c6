"""A trained masker (equation 2), by its folder: m = M(activations of x), one look of the classifier and no gradient.

The folder may hold any that this library trains: the study's, FIX or CA, CASM or adversarial superpixels (`train_masker` with one
of the presets of `MaskerConfig`), or real-time saliency (`train_real_time`). In the place of a folder stands the name of one that
comes with the package (`maskerlib.masker.collection`). What these functions return is a method itself.
"""

from maskerlib.classifiers.classifier import Classifier
from maskerlib.masker.collection import load_masker, masker_cards
from maskerlib.masker.trained import Trained, load_trained
from maskerlib.methods.entry import MethodEntry
from maskerlib.running.files import is_there

__all__ = ["ENTRY", "trained"]


def trained(which: str, classifier: Classifier) -> Trained:
    """The masker in the folder `which`, or, where there is no such folder, the one of that name.

    Raises FileNotFoundError where there is neither, and ValueError as `maskerlib.masker.trained.load_trained` does.
    """
    if is_there(which):
        return load_trained(which, classifier)
    names = masker_cards()
    if which in names:
        return load_masker(which, classifier)
    raise FileNotFoundError(f"no folder {which}; train a masker there first, or name one that is: {', '.join(names)}")


ENTRY = MethodEntry("masker:FOLDER", "a trained masker, by its folder or its name", trained, kind="trained")
