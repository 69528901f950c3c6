"""What the values of a data set's mask files mean: object, background, or neither."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from maskerlib.data.files.images import open_image

__all__ = ["MaskRule"]


@dataclass(frozen=True)
class MaskRule:
    """How the masks of a record are read. As it is, what is above half of white is object.

    object: the values that are object, where the files hold labels.
    first_class: the value of class 0, where each class has a value of its own: those of the record's class are object.
    ignore: the values that are neither object nor background, in files that hold labels.
    resized: masks may have another size than their image, and are brought to it by the nearest pixel.
    """

    object: tuple[int, ...] = ()
    first_class: int | None = None
    ignore: tuple[int, ...] = ()
    resized: bool = False

    def read(
        self, masks: tuple[Path, ...], ignores: tuple[Path, ...], label: int, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor | None]:
        """The object and what to ignore of an image of `size` (H, W): each (H, W) bool, the latter None where nothing is.

        What one file calls object and another ignores is object.

        Raises ValueError for a file that cannot be read, is no grey or palette image, or has another size than its image.
        """
        labelled = bool(self.object) or self.first_class is not None
        wanted = self.object if self.first_class is None else (self.first_class + label,)
        shown, ignored = np.zeros(size, bool), np.zeros(size, bool)
        for path in masks:
            values = self._values(path, size, labelled)
            shown |= np.isin(values, wanted) if labelled else values > 127
            ignored |= np.isin(values, self.ignore) if labelled else False
        for path in ignores:
            ignored |= self._values(path, size, False) > 127
        ignored &= ~shown
        return torch.from_numpy(shown), torch.from_numpy(ignored) if ignored.any() else None

    def _values(self, path: Path, size: tuple[int, int], labelled: bool) -> np.ndarray:
        """(H, W) uint8: the indices of a palette, or grey values, 0 to 255."""
        with open_image(path) as image:
            if labelled and image.mode not in ("P", "L", "1"):
                raise ValueError(f"{path}: an image of kind {image.mode}, expected labels, in grey or with a palette")
            grey = image if labelled else image.convert("L")
            if grey.size != size[::-1]:
                if not self.resized:
                    found = f"{grey.width}x{grey.height}"
                    raise ValueError(f"{path}: {found} pixels, but its image has {size[1]}x{size[0]}; replace the file")
                grey = grey.resize(size[::-1], Image.Resampling.NEAREST)
            return np.asarray(grey, dtype=np.uint8)
