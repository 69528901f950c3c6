"""Mask files: one object and its background, told apart from label images, trimaps and pictures.

A mask file has two values, zero and another, and perhaps a soft edge between them. A file with other values can be read
once the reader says which of them are object; guessing would read a trimap upside down.
"""

import math
from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from maskerlib.data.files.images import open_image

__all__ = ["NotTwoValued", "check_values", "read_mask"]

_FEW = 20  # values; an image with more of them has soft edges, or is no mask at all
_FULL = (1, 255, 65535)  # what stands for "all of it" in a mask, by the kind of file


class NotTwoValued(ValueError):
    """A readable file that does not say which of its pixels are object."""


def read_mask(path: str | Path, *, object: Collection[float] | None = None, ignore: Collection[float] = ()) -> Tensor:
    """Read a mask file as (H, W) bool, upright: True on the object.

    Without `object` the file must hold one object: zero and another value (0 and 1, 0 and 255, two indices of a palette),
    with soft edges or without; the object is what lies above half of the largest value. In an image with a transparent part
    the opaque part is the object.

    object: the values (of a palette: the indices) that are object, for label images and trimaps: object=(1,) reads a
        trimap whose 2 is background and 3 border; object=(15,) reads one class of many.
    ignore: values that are neither, such as a void of 255. They are left out of the count of values, and never object.

    Errors as for `read_image`; NotTwoValued, a ValueError, when the values leave open what is object: three or more of
    them, none of them zero, or mostly between the two ends, as in a photograph; and when `object` or `ignore` is given for
    a file in colour or with transparency, whose values are no labels.
    """
    if object is not None:
        object = check_values("object", object)
    ignore = check_values("ignore", ignore)
    named = object is not None or bool(ignore)
    with open_image(path) as image:
        values, labels = _values(image, named)
    if named and not labels:
        raise NotTwoValued(f"{path}: in colour or transparent; object= and ignore= need a grey or a palette image")
    if object is not None:
        return torch.from_numpy(np.isin(values, object) & ~np.isin(values, ignore))
    counted = ~np.isin(values, ignore)
    if problem := _problem(values, counted):
        raise NotTwoValued(
            f"{path}: {problem}; expected 0 and one other value. Save it so, or name the values that are object: "
            "read_mask(path, object=(1,)), Folder(root, mask_object=(1,))"
        )
    top = values[counted].max(initial=0)
    return torch.from_numpy((values > top / 2) & counted)


def check_values(name: str, values: Collection[float]) -> tuple[float, ...]:
    """The values of a mask file that are meant. ValueError, calling them `name`, unless they are a collection of numbers."""
    try:
        listed = tuple(values)
        bad = any(isinstance(value, bool | str) or not math.isfinite(value) for value in listed)
    except TypeError:
        bad = True
    if bad:
        raise ValueError(f"{name}={values!r}: expected a collection of values, such as (1,) or (1, 3)")
    return listed


def _values(image: Image.Image, named: bool) -> tuple[np.ndarray, bool]:
    """(H, W) values of a mask image, and whether they are labels: grey values or the indices of a palette.

    A palette of greys, as compression leaves them, is read as it looks unless values are named. So is one whose index 0 is
    not black though another is: black is then the background.
    """
    if image.mode == "P":
        indices, colour = np.asarray(image), np.asarray(image.convert("RGBA"))[..., :3]
        grey, black = (colour == colour[..., :1]).all(), colour.max(axis=2) == 0
        if named or not (grey or (black.any() and not black[indices == 0].all())):
            return indices, True
        return colour[..., 0] if grey else np.asarray(image.convert("RGBA").convert("L")), True
    if image.has_transparency_data and image.mode[:4] != "I;16":
        alpha = np.asarray(image.convert("RGBA").getchannel("A"))
        if alpha.min() < 255:
            return (alpha >= 128).astype(np.uint8), False
    if image.mode[0] in "IF" or image.mode in ("1", "L"):
        return np.asarray(image, dtype=np.uint8 if image.mode == "1" else None), True
    colour = np.asarray(image.convert("RGB"))
    if (colour == colour[..., :1]).all():
        return colour[..., 0], True
    return np.asarray(image.convert("RGB").convert("L")), False


def _problem(values: np.ndarray, counted: np.ndarray) -> str | None:
    """Why `values`, where `counted`, are no two-valued mask; None when they are one."""
    found = np.unique(values[counted])
    if not np.isfinite(found).all() or (len(found) and found[0] < 0):
        return f"values from {found[0]} to {found[-1]}"
    listed = ", ".join(f"{value:g}" for value in found[:6]) + (f" ... {found[-1]:g}" if len(found) > 6 else "")
    if len(found) <= 1:
        return None if not len(found) or found[0] in (0, *_FULL) else f"the one value {listed}"
    if found[0] != 0:
        return f"no background of 0 among its values {listed}"
    if len(found) == 2:
        return None
    top = found[-1]
    middle = counted & (values > 0.05 * top) & (values < 0.95 * top)  # a lossy file has others beside its two
    flat = middle & (ndimage.minimum_filter(values, 3) == values) & (ndimage.maximum_filter(values, 3) == values)
    if len(found) <= _FEW:
        small = np.issubdtype(found.dtype, np.integer) and found[-2] <= _FEW
        return f"the labels {listed}" if top not in _FULL or small or flat.any() else None
    if flat.sum() > middle.sum() / 2:
        return f"{len(found)} labels, {listed}"
    return "a picture rather than a mask, mostly between its ends" if middle.sum() > counted.sum() / 2 else None
