"""A box in the middle of the image, whatever the image: it measures how centred the objects are."""

import math

from torch import Tensor

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.doors import Method, Targets, check_images
from maskerlib.methods.entry import MethodEntry
from maskerlib.running.checks import between, check_value

__all__ = ["ENTRY", "centre_box"]


def centre_box(area: float = 0.5) -> Method:
    """1 inside a box in the middle of the image, 0 outside: it measures how centred the objects are.

    area: share of the image that the box covers, in (0, 1]; each side is the image's times the square root of
        it, rounded to pixels. One half is what the release of Phang et al. takes: 158 of 224 pixels a side.
    """
    check_value("area", area, between(0, 1, open_below=True))

    def method(images: Tensor, targets: Targets, classifier: Classifier) -> Tensor:
        check_images(images, classifier)
        saliency = images.new_zeros(len(images), 1, *images.shape[-2:])
        spans = []
        for length in images.shape[-2:]:
            side = max(round(length * math.sqrt(area)), 1)
            begin = (length - side) // 2
            spans.append(slice(begin, begin + side))
        saliency[:, :, spans[0], spans[1]] = 1
        return saliency

    return method


ENTRY = MethodEntry("centre-box", "a box in the middle, whatever the photo", centre_box, kind="baseline", forward=0)
