"""The exact infill: behind the object of a scene stands what is there without it. Nothing but a drawn scene has one.

Every other infill is a guess, and what a classifier makes of a hidden object is also what it makes of the guess: grey patches
and blurs are no photographs. `Scenes` knows what it has drawn, and draws a scene again without its object; between the two
there is no difference but the object (a counterfactual, as in FunnyBirds, Hesse et al., 2023, which takes parts away).
"""

import hashlib
from functools import lru_cache

import torch
from torch import Tensor

from maskerlib.data.samples import batches
from maskerlib.data.scenes.source import Scenes

__all__ = ["OracleInfill"]

_KEPT = 256  # drawn scenes that are kept for the next question; a batch is often asked about several times


class OracleInfill:
    """An infill (`maskerlib.masking.infills.Infill`) that shows each of `scenes` without its object, whatever the mask.

    An image is known again by its bytes, so whoever asks need not say which scene it is. Outside the object, soft edge
    included, the two are the same: hiding anything there changes nothing, to the bit. The mean colour is not looked at.

    scenes: whose images it knows; images of a `Subset` of them are known as well.

    ValueError for an image that is none of the scenes as they were drawn: a crop, a photograph, a scene of another split,
    level, size or seed.
    """

    def __init__(self, scenes: Scenes) -> None:
        self.scenes = scenes
        names = (name for batch in batches(scenes, 256) for name in _names(batch.images))
        self._numbers = {name: number for number, name in enumerate(names)}
        self._drawn = lru_cache(maxsize=_KEPT)(lambda number: scenes.erased([number])[0])

    def __call__(self, images: Tensor, mean: Tensor) -> Tensor:
        """The images (B, 3, H, W) without their objects: (B, 3, H, W), on the device and in the kind of the images."""
        numbers = [self._numbers.get(name, -1) for name in _names(images)]
        if -1 in numbers:
            scenes = self.scenes
            raise ValueError(
                f"image {numbers.index(-1)} is none of the {len(scenes)} {scenes.level.name} {scenes.split} scenes of seed "
                f"{scenes.seed} as they were drawn at {scenes.size[0]} pixels, so nobody knows what its object hides; give "
                "whole scenes, or another infill for crops and photographs"
            )
        return torch.stack([self._drawn(number) for number in numbers]).to(images)


def _names(images: Tensor) -> list[bytes]:
    """A hash of the bytes of each image (B, 3, H, W) in [0, 1]."""
    pixels = images.detach().float().mul(255).round().clamp(0, 255).byte().cpu()
    return [hashlib.blake2b(image.contiguous().numpy().tobytes(), digest_size=16).digest() for image in pixels]
