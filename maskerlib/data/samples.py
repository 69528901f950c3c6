"""The one form that every data source takes: samples, batches, sources.

Scenes, photographs and a folder of the user's own all yield the same `Sample`, so nothing downstream asks
where an image came from. What a source does not know it says plainly: no label is `None` in a sample and -1
in a batch, no box is an empty (0, 4) tensor, no pixel mask is `None`.

Images are float32 in [0, 1], RGB unless a source says otherwise. Boxes are x0, y0, x1, y1 in pixels and
half-open: x1 and y1 are the first column and row outside, so that a box is x1 - x0 wide and never one pixel short.
"""

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from maskerlib.data.augment import Crops, apply_crops
from maskerlib.data.indices import as_indices, as_size, check_index
from maskerlib.data.loading import InBatches, loading, moved
from maskerlib.running.checks import check_value, whole

__all__ = ["Batch", "Relabelled", "Sample", "Source", "Subset", "batches", "check_image", "collate"]


@dataclass(frozen=True)
class Sample:
    """One image and what is known about it.

    image: (C, H, W) float32 in [0, 1]; C is 3 (RGB), 1 (grey) or 4 (RGB and opacity).
    label: class index, or None.
    boxes: (K, 4) float32, pixels, half-open, K >= 0.
    mask: (H, W) bool, True on the object, or None.
    name: says where it came from, in captions and error messages.
    ignore: (H, W) bool, True where nobody says whether the object is there, or None: a trimap's border, say.
    """

    image: Tensor
    label: int | None
    boxes: Tensor
    mask: Tensor | None
    name: str
    ignore: Tensor | None = None


@dataclass(frozen=True)
class Batch:
    """B samples of one size.

    images: (B, C, H, W) float32 in [0, 1].
    labels: (B,) int64, -1 where unknown.
    boxes: B tensors (K_i, 4) float32.
    masks: (B, H, W) bool, or None as soon as one sample has none.
    names: B strings.
    ignores: (B, H, W) bool, True where pixels do not count against the masks, or None where all do.
    """

    images: Tensor
    labels: Tensor
    boxes: tuple[Tensor, ...]
    masks: Tensor | None
    names: tuple[str, ...]
    ignores: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getstate__(self) -> dict[str, Any]:
        """All boxes in one tensor: what a loader worker hands over costs a file descriptor for each that it has."""
        joined = torch.cat(self.boxes) if self.boxes else None
        return vars(self) | {"boxes": (joined, [len(boxes) for boxes in self.boxes])}

    def __setstate__(self, state: dict[str, Any]) -> None:
        joined, counts = state["boxes"]
        boxes = () if joined is None else tuple(joined.split(counts))
        vars(self).update(state | {"boxes": boxes})

    def to(self, device: torch.device | str) -> Self:
        """The same batch with every tensor on `device` (`maskerlib.data.loading.moved`)."""
        return self._with(lambda tensor: moved(tensor, device))

    def pin_memory(self) -> Self:
        """The same batch in pinned memory, from which a GPU copies by itself."""
        return self._with(Tensor.pin_memory)

    def _with(self, change: Callable[[Tensor], Tensor]) -> Self:
        return replace(
            self,
            images=change(self.images),
            labels=change(self.labels),
            boxes=tuple(change(boxes) for boxes in self.boxes),
            masks=None if self.masks is None else change(self.masks),
            ignores=None if self.ignores is None else change(self.ignores),
        )


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples into a `Batch`.

    Raises ValueError when there are none, when their images differ in size, and for what is no sample: a tuple, an image that is
    no tensor (C, H, W), a label that is no whole number.
    """
    if not samples:
        raise ValueError("a batch of 0 samples: expected at least 1; give collate() one sample or more")
    labels = [_label(sample) for sample in samples]
    first = samples[0].image.shape
    for sample in samples:
        if sample.image.shape != first:
            raise ValueError(
                f"{sample.name}: image of shape {tuple(sample.image.shape)} after one of {tuple(first)}: "
                "give the source one size, or batch images of one size only"
            )
    masks = [sample.mask for sample in samples if sample.mask is not None]
    stack = default_collate  # as torch.stack, but that a loader worker stacks into memory that it shares
    ignores = [torch.zeros(first[1:], dtype=torch.bool) if sample.ignore is None else sample.ignore for sample in samples]
    return Batch(
        images=stack([sample.image for sample in samples]),
        labels=torch.tensor(labels, dtype=torch.int64),
        boxes=tuple(sample.boxes for sample in samples),
        masks=stack(masks) if len(masks) == len(samples) else None,
        names=tuple(sample.name for sample in samples),
        ignores=stack(ignores) if any(sample.ignore is not None for sample in samples) else None,
    )


_CHANNELS = (1, 3, 4)


def check_image(image: Any, name: str) -> None:
    """Raises ValueError, beginning with the image's name, for what is no tensor (C, H, W), as where the channels come last."""
    if not isinstance(image, Tensor) or image.dim() != 3:
        found = f"a tensor {tuple(image.shape)}" if isinstance(image, Tensor) else f"a {type(image).__name__}"
        raise ValueError(f"{name}: its image is {found}, expected a float tensor (C, H, W) in [0, 1]")
    if image.shape[0] > max(_CHANNELS) and image.shape[2] in _CHANNELS:
        mend = "the channels come first, image.permute(2, 0, 1)"
        raise ValueError(f"{name}: image of shape {tuple(image.shape)}, expected (C, H, W); {mend}")


def _label(sample: Any) -> int:
    """The label of a sample, -1 where it is unknown, once the sample is one."""
    if not isinstance(sample, Sample):
        mend = "make it Sample(image, label, torch.zeros(0, 4), None, name), or use torchvision_source for such a data set"
        raise ValueError(f"an item of the source is a {type(sample).__name__}, expected a maskerlib.data.samples.Sample; {mend}")
    check_image(sample.image, sample.name)
    if sample.label is None:
        return -1
    try:
        return operator.index(sample.label)
    except TypeError:
        mend = "give the index of its class, or None where it is unknown"
        raise ValueError(f"{sample.name}: label={sample.label!r} is no whole number; {mend}") from None


class Source(Dataset[Sample]):
    """A finite, ordered collection of samples of one size.

    Subclasses give `__len__`, `__getitem__` and three attributes:

    class_names: the name of each label; empty when the source is unlabelled.
    labels: (N,) int64, -1 where unknown; known without reading an image.
    size: (H, W) of every image.

    own_crops says whether `cropped` cuts from something better than the images of `batch`.
    """

    class_names: tuple[str, ...] = ()
    labels: Tensor
    size: tuple[int, int]
    own_crops: bool = False

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, index: int) -> Sample:
        raise NotImplementedError

    def name(self, index: int) -> str:
        """What a sample is called in errors, without reading it."""
        return f"image {index}"

    def batch(self, indices: Sequence[int] | Tensor) -> Batch:
        """The samples at `indices`, in that order. A source that has a faster way overrides this one.

        IndexError for an index that is outside, TypeError for indices that are no whole numbers, ValueError for none.
        """
        return collate([self[index] for index in as_indices(indices, len(self))])

    def cropped(self, indices: Sequence[int] | Tensor, crops: Crops) -> Batch:
        """The samples at `indices`, the first with the first of `crops`, and so on; ValueError when the numbers differ.

        Here the crops are cut from the images of `batch`, and what is where in them is unknown: no boxes, no masks. A
        source of files (own_crops) cuts them from each file's own pixels, and carries boxes and masks along.
        """
        batch = self.batch(indices)
        nowhere = tuple(boxes.new_zeros(0, 4) for boxes in batch.boxes)
        return replace(batch, images=apply_crops(batch.images, crops), boxes=nowhere, masks=None, ignores=None)


class Subset(Source):
    """Some samples of another source, in the order given, such as a few of each class.

    An index may come more than once. IndexError for one that is outside the source.
    """

    def __init__(self, source: Source, indices: Sequence[int] | Tensor):
        self.source = source
        self.indices = as_indices(indices, len(source))
        self.class_names = source.class_names
        self.labels = source.labels[self.indices]
        self.size = as_size(source.size)
        self.own_crops = source.own_crops

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        return self.source[self.indices[check_index(index, len(self))]]

    def name(self, index: int) -> str:
        return self.source.name(self.indices[index])

    def batch(self, indices: Sequence[int] | Tensor) -> Batch:
        return self.source.batch(self._there(indices))

    def cropped(self, indices: Sequence[int] | Tensor, crops: Crops) -> Batch:
        return self.source.cropped(self._there(indices), crops)

    def _there(self, indices: Sequence[int] | Tensor) -> list[int]:
        return [self.indices[index] for index in as_indices(indices, len(self))]


class Relabelled(Source):
    """The samples of another source under other labels, such as those of a classifier's numbering.

    labels: (N,) integers, -1 where unknown.
    class_names: what the labels mean; empty when they have no names.

    ValueError when there is not one label for each sample, or when one is no whole number, is below -1 or has no name.
    """

    def __init__(self, source: Source, labels: Tensor | Sequence[int], class_names: Sequence[str] = ()):
        labels = torch.as_tensor(labels)
        if labels.shape != (len(source),):
            raise ValueError(
                f"labels of shape {tuple(labels.shape)} for a source of {len(source)} samples: give one for each"
            )
        if len(labels) and (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool):
            raise ValueError(f"labels are {labels.dtype}: expected whole numbers, -1 where unknown")
        if isinstance(class_names, str):
            raise ValueError(f"class_names={class_names!r} is one string: give a sequence of names")
        self.class_names = tuple(class_names)
        self.labels = labels.detach().cpu().to(torch.int64, copy=True)
        most = len(self.class_names) - 1 if self.class_names else torch.iinfo(torch.int64).max
        bad = ((self.labels < -1) | (self.labels > most)).nonzero().flatten()
        if len(bad):
            valid = f"-1 to {most}, as there are {most + 1} class_names" if self.class_names else "-1 or more"
            raise ValueError(f"label {int(self.labels[bad[0]])} of sample {int(bad[0])}: expected {valid}")
        self.source = source
        self.size = as_size(source.size)
        self.own_crops = source.own_crops

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Sample:
        label = int(self.labels[check_index(index, len(self))])
        return replace(self.source[index], label=None if label < 0 else label)

    def name(self, index: int) -> str:
        return self.source.name(index)

    def batch(self, indices: Sequence[int] | Tensor) -> Batch:
        there = as_indices(indices, len(self))
        return replace(self.source.batch(there), labels=self.labels[there])

    def cropped(self, indices: Sequence[int] | Tensor, crops: Crops) -> Batch:
        there = as_indices(indices, len(self))
        return replace(self.source.cropped(there, crops), labels=self.labels[there])


def batches(
    source: Source, batch_size: int, *, workers: int = 0, device: torch.device | None = None, part: slice = slice(None)
) -> Iterator[Batch]:
    """Every sample once and in order, `batch_size` at a time; the last batch may be smaller.

    workers: loader processes, 0 for this one.  device: where the batches go next.  part: which of them, all by default.

    ValueError when batch_size < 1 or workers < 0; later, what `maskerlib.data.loading.loading` raises.
    """
    check_value("batch_size", batch_size, whole(1))
    check_value("workers", workers, whole(0))
    return _loaded(InBatches(source, batch_size), workers, device, part)


def _loaded(batched: InBatches, workers: int, device: torch.device | None, part: slice) -> Iterator[Batch]:
    with loading(batched, range(len(batched))[part], workers=workers, device=device) as found:
        yield from found
