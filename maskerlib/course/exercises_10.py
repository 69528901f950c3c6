"""The checkers of notebook 10, infilling. Each takes an answer; None when it is right, else one hint."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskerlib.course.grading import same
from maskerlib.masking.infills import blur, fill, mean_colour, noise
from maskerlib.masking.masks import masked_in, masked_out

__all__ = ["exercise_1", "exercise_2", "exercise_3", "exercise_4"]

_MEAN = torch.tensor([0.2, 0.5, 0.8]).view(1, 3, 1, 1)


def _random(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def exercise_1(answer: Any) -> str | None:
    """The two views of an image: (images, mask, filling) -> (masked-in, masked-out)."""
    if not callable(answer):
        return "a function is asked for, that takes images, mask and filling and returns the two views"
    images, mask = _random(0, 2, 3, 6, 7), _random(1, 2, 1, 6, 7)
    for filling in (_random(2, 2, 3, 6, 7), _MEAN):
        right = masked_in(images, mask, filling), masked_out(images, mask, filling)
        given = answer(images.clone(), mask.clone(), filling.clone())
        if not isinstance(given, tuple | list) or len(given) != 2:
            return "two tensors are asked for: first the masked-in view, then the masked-out one"
        if all(same(view, expected) for view, expected in zip(given, right, strict=True)):
            continue
        if all(same(view, expected) for view, expected in zip(given, right[::-1], strict=True)):
            return "the other way round: the mask is high where the image is kept masked-in"
        if same(given[0], images * mask) or same(given[1], images * (1 - mask)):
            return "what the mask hides is black here: the filling should stand there"
        if same(given[0], images * mask + filling) or same(given[1], images * (1 - mask) + filling):
            return "the filling shines through everywhere: it, too, has a weight at each pixel"
        hard = (mask > 0.5).float()
        if same(given[0], masked_in(images, hard, filling)) or same(given[1], masked_out(images, hard, filling)):
            return "a mask of 0.7 is not one of 1: nothing is rounded"
        return "not yet: at each pixel the two weights, of image and filling, add up to 1"
    return None


def exercise_2(answer: Any) -> str | None:
    """The gradient of the sum of a view's values with respect to the mask: (images, filling, side) -> (B, 1, H, W)."""
    if not callable(answer):
        return 'a function is asked for, that takes images, filling and side, which is "in" or "out"'
    images = _random(0, 2, 3, 6, 7)
    for filling in (_random(2, 2, 3, 6, 7), _MEAN):
        for side in ("out", "in"):
            apart = (images - filling) * (1 if side == "in" else -1)
            right = apart.sum(dim=1, keepdim=True)
            given = answer(images.clone(), filling.clone(), side)
            if same(given, right):
                continue
            if not isinstance(given, Tensor):
                return f"side {side!r}: a tensor is asked for"
            if same(given, -right):
                return (
                    f"side {side!r}: raise the mask at one pixel. Does the view move towards the image or away from it?"
                )
            if same(given, apart) or same(given, apart.mean(dim=1, keepdim=True)) or same(given, apart.sum(dim=1)):
                return f"side {side!r}: one mask value moves three colours at once; one number for each pixel, (B, 1, H, W)"
            if given.shape != right.shape:
                return f"side {side!r}: {tuple(given.shape)} came back, where the mask is {tuple(right.shape)}"
            return f"side {side!r}: not yet. Write the view out for one pixel and one colour, and differentiate it by the mask"
    return None


def _visible_colour(images: Tensor, mean: Tensor, hole: Tensor) -> Tensor:
    """The mean colour of what is visible of each image, (B, 3, 1, 1); `mean` where nothing is."""
    seen = (1 - hole).sum(dim=(2, 3), keepdim=True)
    colour = (images * (1 - hole)).sum(dim=(2, 3), keepdim=True) / seen.clamp(min=1e-9)
    return torch.where(seen > 0, colour, mean)


def exercise_3(answer: Any) -> str | None:
    """An infill that shows each image's mean colour over what is visible: (images, mean) -> function of the hole -> filling."""
    if not callable(answer):
        return "an infill is asked for: a function of images and mean"
    images = _random(0, 3, 3, 6, 7)
    hard = torch.zeros(3, 1, 6, 7)
    hard[0, :, :3], hard[1, :, :, 2:], hard[2, :, 1, 1] = 1, 1, 1
    for case, hole in (
        ("a hard hole", hard),
        ("a soft hole", _random(1, 3, 1, 6, 7)),
        ("all hidden", torch.ones_like(hard)),
    ):
        filling = answer(images.clone(), _MEAN.clone())
        if not callable(filling):
            return "what is visible depends on the hole, which is not known yet: return a function of the hole"
        given = filling(hole.clone())
        if not isinstance(given, Tensor):
            return f"{case}: the function of the hole should return a tensor"
        try:
            given = given.expand_as(images)
        except RuntimeError:
            return f"{case}: {tuple(given.shape)} came back; one colour for each image is (B, 3, 1, 1)"
        if same(given, _visible_colour(images, _MEAN, hole).expand_as(images), 1e-4):
            continue
        if not given.isfinite().all():
            return f"{case}: where nothing is visible, there is nothing to take a mean of; fall back on the data set's"
        whole = images.mean(dim=(2, 3), keepdim=True)
        if same(given, whole.expand_as(images), 1e-4):
            return f"{case}: the mean of the whole image knows what is hidden"
        if same(given, _visible_colour(images, _MEAN, 1 - hole).expand_as(images), 1e-4):
            return f"{case}: this is the colour of what is hidden"
        if same(given, (images * (1 - hole)).mean(dim=(2, 3), keepdim=True).expand_as(images), 1e-4):
            return f"{case}: too dark. Over how many pixels is this a mean?"
        if hole is not hard and same(
            given, _visible_colour(images, _MEAN, (hole > 0.5).float()).expand_as(images), 1e-4
        ):
            return f"{case}: a pixel that is hidden by 0.7 is still visible by 0.3"
        if (given - given[:1]).abs().max() < 1e-6 and hole is hard:
            return f"{case}: each image has a colour of its own"
        return f"{case}: not yet. Weigh each pixel by how visible it is"
    return None


def _whole_colour(images: Tensor, mean: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda hole: images.mean(dim=(2, 3), keepdim=True).expand_as(images)


def _honest(images: Tensor, mean: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda hole: _visible_colour(images, mean, hole).expand_as(images)


def _patched(images: Tensor, mean: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda hole: torch.where(hole > 0.5, mean, fill(blur()(images, mean), hole))


def exercise_4(answer: Any) -> str | None:
    """Does an infill look at what it should hide: (infill, images, mean, hole) -> True or False."""
    if not callable(answer):
        return "a function is asked for, that takes infill, images, mean and hole and returns True or False"
    images, hole = _random(0, 2, 3, 16, 16), torch.zeros(2, 1, 16, 16)
    hole[:, :, 4:12, 5:11] = 1
    for name, infill, peeks, hint in (
        ("the mean colour", mean_colour, False, "it never looks at the image"),
        ("blur", blur(), True, "a blur of the hole's content is still made of it"),
        ("noise", noise(), False, "it differs from call to call by itself; how do you make two calls draw the same?"),
        (
            "the colour of what is visible",
            _honest,
            False,
            "it may use what is visible; change what is hidden, and nothing else",
        ),
        (
            "the whole image's mean colour",
            _whole_colour,
            True,
            "it is a function of the hole, and knows the hidden pixels",
        ),
        (
            "an infill that is the mean colour in the hole, and a blur outside of it",
            _patched,
            False,
            "only what it shows in the hole counts",
        ),
    ):
        given = answer(infill, images.clone(), _MEAN.clone(), hole.clone())
        if isinstance(given, Tensor) and given.numel() == 1:
            given = given.item()
        if not isinstance(given, bool | np.bool_):
            return f"{name}: True or False is asked for, not {type(given).__name__}"
        if bool(given) != peeks:
            return f"{name}: {hint}"
    return None
