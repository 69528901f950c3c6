"""The checkers of notebook 00: the two views, the two questions, and two numbers by hand."""

import math
from typing import Any

import torch

from maskerlib.course.grading import close, same
from maskerlib.masking.objectives import Objective

__all__ = ["exercise_1", "exercise_2", "exercise_3", "exercise_4"]


def exercise_1(answer: Any) -> str | None:
    """(IoU, PxAP) of the 4 x 4 example when its lone 0.6 becomes 1.0."""
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        return "give two numbers, (IoU, PxAP)"
    iou, pxap = answer
    if not close(iou, 2 / 3, 0.01):
        return "the IoU: does the lone pixel belong to the largest piece? Which pixels lie above the new mean?"
    if close(pxap, 0.8, 0.01):
        return "the PxAP: this is the old one. Which pixel is found first now, and is it right?"
    if not close(pxap, 2 / 3, 0.01):
        return "the PxAP: go down from the highest value, and note precision and recall each time a pixel of the object is found"
    return None


def exercise_2(answer: Any) -> str | None:
    """A function (images, masks, hidden) -> the masked-out images."""
    generator = torch.Generator().manual_seed(0)
    images, masks = torch.rand(2, 3, 5, 4, generator=generator), torch.rand(2, 1, 5, 4, generator=generator)
    hidden = torch.tensor([0.2, 0.5, 0.7]).view(1, 3, 1, 1)
    expected = (1 - masks) * images + masks * hidden
    given = answer(images.clone(), masks.clone(), hidden)
    if same(given, masks * images + (1 - masks) * hidden):
        return "this shows what the mask keeps; the masked-out image shows the rest"
    if same(given, (1 - masks) * images):
        return "what is hidden is black here; it should have the colour `hidden`"
    if not same(given, expected):
        return "where the mask is 1 the image should be `hidden`, where it is 0 the image as it was, and blended in between"
    return None


def exercise_3(answer: Any) -> str | None:
    """A function: number of classes -> the lowest value that the masked-out term can reach."""
    for classes in (2, 16, 1000):
        given = answer(classes)
        if close(given, math.log(classes), 1e-3):
            return "that is how undecided a classifier can be; mind the sign of the term"
        if close(given, -math.log2(classes), 1e-3):
            return "the unit is the nat: which logarithm does the entropy use?"
        if not close(given, -math.log(classes), 1e-3):
            return "which prediction over the classes leaves most doubt, and what is its entropy?"
    return None


def exercise_4(answer: Any) -> str | None:
    """A pair of `Objective`s: one that asks for enough, one that asks for everything."""
    if not (isinstance(answer, tuple | list) and len(answer) == 2 and all(isinstance(one, Objective) for one in answer)):
        return "give a pair of maskerlib.masking.objectives.Objective"
    enough, everything = answer
    if enough.masked_in is None and everything.masked_out is None:
        return "the other way round: is a decision that survives through the mask a sign of enough, or of everything?"
    if enough.masked_out is not None or everything.masked_in is not None:
        return "each of the two should ask one question only; set the other side to None"
    return None
