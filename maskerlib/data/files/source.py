"""Sources whose images are files: fitted to one size for a batch, cropped out of each file's own pixels for training."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from maskerlib.data.augment import Crops
from maskerlib.data.files.framing import cut, fit, mirror
from maskerlib.data.files.images import Enough, as_float
from maskerlib.data.indices import as_indices, check_index
from maskerlib.data.samples import Batch, Sample, Source, collate

__all__ = ["FileSource"]


class FileSource(Source):
    """What sources of files share. Subclasses give `__len__`, `stored`, and the attributes of every `Source`.

    A crop is cut before anything is scaled, so that 8 % of a photograph of 4,000 pixels is a sharp image of 224. As in the
    study its area is a share of the whole file's, its aspect one of the file's pixels, its place uniform. A JPEG of many
    more pixels than are wanted is decoded to fewer; one with a mask is not, so that both keep their pixels.
    """

    own_crops = True

    def stored(self, index: int, enough: Enough | None = None) -> Sample:
        """The sample as its file has it, upright. Its image is float32 in [0, 1], or uint8 in 0 to 255.

        enough: an image of fewer pixels will do (`maskerlib.data.files.images.read_stored`), with boxes in these, where it has no
            mask.
        """
        raise NotImplementedError

    def whole(self, index: int) -> Sample:
        """The sample at the file's own size, upright."""
        sample = self.stored(index)
        return replace(sample, image=as_float(sample.image).contiguous())

    def __getitem__(self, index: int) -> Sample:
        return _fitted(self.stored(check_index(index, len(self)), _twice(self.size)), self.size)

    def cropped(self, indices: Sequence[int] | Tensor, crops: Crops) -> Batch:
        there = as_indices(indices, len(self))
        if len(crops) != len(there):
            raise ValueError(f"{len(crops)} crops for {len(there)} images: draw as many as there are images")
        return collate([self._crop(index, crops, at) for at, index in enumerate(there)])

    def _crop(self, index: int, crops: Crops, at: int) -> Sample:
        enough = _twice(self.size)

        def has_enough(height: int, width: int) -> bool:
            if not enough(height, width):  # nor has a part of it
                return False
            x0, y0, x1, y1 = crops.window(at, height, width) or (0, 0, width, height)
            return enough(y1 - y0, x1 - x0)

        sample = self.stored(index, has_enough)
        flip = bool(crops.flip[at])
        window = crops.window(at, *sample.image.shape[1:])
        regions = _regions(sample)
        if window is None:
            parts = fit(sample.image, self.size, boxes=sample.boxes, mask=regions)
            return _with(sample, *(mirror(*parts) if flip else parts))
        return _with(sample, *cut(sample.image, window, self.size, flip=flip, boxes=sample.boxes, mask=regions))


def _twice(size: tuple[int, int]) -> Enough:
    """Twice the pixels that are wanted along each side: scaled down from there, an image is as good as from all."""
    return lambda height, width: height >= 2 * size[0] and width >= 2 * size[1]


def _fitted(sample: Sample, size: tuple[int, int]) -> Sample:
    return _with(sample, *fit(sample.image, size, boxes=sample.boxes, mask=_regions(sample)))


def _regions(sample: Sample) -> Tensor | None:
    """The object, and what to ignore where that is known, (1 or 2, H, W) bool; None without a mask."""
    if sample.mask is None:
        return None
    return torch.stack([sample.mask] if sample.ignore is None else [sample.mask, sample.ignore])


def _with(sample: Sample, image: Tensor, boxes: Tensor, regions: Tensor | None) -> Sample:
    """The sample in another frame."""
    mask = None if regions is None else regions[0]
    ignore = None if regions is None or sample.ignore is None else regions[1]
    return replace(sample, image=image, boxes=boxes, mask=mask, ignore=ignore)
