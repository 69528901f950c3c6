"""Sources whose images are files: fitted to one size for a batch, cropped out of each file's own pixels for training."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from maskerlib.data.augment import Crops
from maskerlib.data.files.framing import cut, fit, mirror
from maskerlib.data.indices import as_indices, check_index
from maskerlib.data.samples import Batch, Sample, Source, collate

__all__ = ["FileSource"]


class FileSource(Source):
    """What sources of files share. Subclasses give `__len__`, `whole`, and the attributes of every `Source`.

    A crop is cut before anything is scaled, so that 8 % of a photograph of 4,000 pixels is a sharp image of 224. As in the
    study its area is a share of the whole file's, its aspect one of the file's pixels, its place uniform.
    """

    own_crops = True

    def whole(self, index: int) -> Sample:
        """The sample at the file's own size, upright."""
        raise NotImplementedError

    def __getitem__(self, index: int) -> Sample:
        return _fitted(self.whole(check_index(index, len(self))), self.size)

    def cropped(self, indices: Sequence[int] | Tensor, crops: Crops) -> Batch:
        there = as_indices(indices, len(self))
        if len(crops) != len(there):
            raise ValueError(f"{len(crops)} crops for {len(there)} images: draw as many as there are images")
        return collate([self._crop(self.whole(index), crops, at) for at, index in enumerate(there)])

    def _crop(self, sample: Sample, crops: Crops, at: int) -> Sample:
        flip = bool(crops.flip[at])
        window = crops.window(at, *sample.image.shape[1:])
        regions = _regions(sample)
        if window is None:
            parts = fit(sample.image, self.size, boxes=sample.boxes, mask=regions)
            return _with(sample, *(mirror(*parts) if flip else parts))
        return _with(sample, *cut(sample.image, window, self.size, flip=flip, boxes=sample.boxes, mask=regions))


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
