"""A data set of torchvision, or any other that gives (image, label), as a source of this library."""

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Subset

from maskerlib.data.entry import SourceEntry
from maskerlib.data.files.images import Enough, check_channels
from maskerlib.data.files.source import FileSource
from maskerlib.data.indices import as_size, check_index
from maskerlib.data.samples import Sample

__all__ = ["ENTRY", "FromTorchvision", "MapStyle", "torchvision_source"]

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}

# Where data sets keep the labels of all items: a sequence of labels, or one of (file, label).
_LABELS, _PAIRS = ("targets", "_labels", "labels", "y"), ("samples", "_samples")
_COMPARED = 8  # items that labels of another name than `targets` are compared with, spread over all


class MapStyle(Protocol):
    """A data set with a length whose items are (image, label)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Any, Any]: ...


class FromTorchvision(FileSource):
    """The items of a map-style data set, such as `torchvision.datasets.CIFAR10(root)`, fitted to one size; no boxes or masks.

    dataset: each item is (image, label): a PIL image, a uint8 tensor (C, H, W), or a float tensor (C, H, W) in [0, 1]; a whole
        number, -1 or None where it is unknown. Build it without a `transform`, so that crops are cut from the image's own
        pixels; of one that normalises the values would not lie in [0, 1], which is refused.
    size: pixels per side, or (height, width). Images are scaled to cover it and cropped at the centre.
    class_names: one name a class; None means the data set's own `classes` or `categories`, where it has them.
    channels: 3 for RGB, 1 for grey, 4 for RGB and opacity.

    The labels are the data set's `targets`, after its `target_transform` (also through `torch.utils.data.Subset`). Where it has
    none, they are what it keeps under another usual name, once a few items were found to have these labels; else every item is
    read once.

    Raises ValueError, naming the item, for an image or a label of another kind, and for a label without a name.
    """

    def __init__(
        self,
        dataset: MapStyle,
        size: int | tuple[int, int] = 224,
        class_names: Sequence[str] | None = None,
        *,
        channels: int = 3,
    ):
        self.dataset = dataset
        self.size = as_size(size)
        self.channels = check_channels(channels)
        known = _labels(dataset)
        given = (dataset[index][1] for index in range(len(dataset))) if known is None else known
        self.labels = torch.tensor([_label(label, index) for index, label in enumerate(given)], dtype=torch.int64)
        names = class_names
        if names is None:
            names = _inside(dataset, "classes") or _inside(dataset, "categories")
        self.class_names = tuple(map(str, names or ()))
        most = int(self.labels.max()) if len(self.labels) else -1
        if self.class_names and most >= len(self.class_names):
            count = len(self.class_names)
            raise ValueError(f"label {most} has no name, class_names are {count}; give one name a class")

    def __len__(self) -> int:
        return len(self.dataset)

    def stored(self, index: int, enough: Enough | None = None) -> Sample:
        index = check_index(index, len(self))
        label = int(self.labels[index])
        image = _image(self.dataset[index][0], self.channels, index)
        return Sample(image, None if label < 0 else label, torch.zeros(0, 4), None, f"item {index}")


def torchvision_source(
    name: str,
    size: int | tuple[int, int] = 224,
    class_names: Sequence[str] | None = None,
    *,
    root: str | os.PathLike[str] | None = None,
    channels: int = 3,
    **options: Any,
) -> FromTorchvision:
    """A labelled data set of torchvision by the name of its class in `torchvision.datasets`, such as "CIFAR10".

    root: the folder of its files; None for one that has none, such as FakeData.
    options: of the data set itself, such as `train=False` or `split="val"`. Nothing is downloaded, unless `download=True` is
        among them. The rest is as for `FromTorchvision`.

    Raises ValueError for an unknown name (with near ones), for options that the data set does not take, and for items that are
    no image with its class; FileNotFoundError where its files are not in `root`.
    """
    known = torchvision.datasets.__all__
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known[:40]
        raise ValueError(f"torchvision has no data set {name!r}; choose such as {', '.join(near)}")
    given = options if root is None else {"root": os.fspath(root), **options}
    try:
        dataset = getattr(torchvision.datasets, name)(**given)
    except TypeError as error:
        raise ValueError(f"torchvision's {name} cannot be made of {given}: {error}") from None
    except (FileNotFoundError, RuntimeError) as error:  # most say RuntimeError where their files are missing
        reason = " ".join(str(error).split())
        raise FileNotFoundError(f"no files of torchvision's {name} in root={root!r} ({reason})") from None
    return FromTorchvision(dataset, size, class_names, channels=channels)


def _inside(dataset: MapStyle | Dataset[Any], attribute: str) -> Any:
    """An attribute of the data set, or of the one that it is a subset of."""
    return _inside(dataset.dataset, attribute) if isinstance(dataset, Subset) else getattr(dataset, attribute, None)


def _labels(dataset: MapStyle | Dataset[Any]) -> list[Any] | None:
    """The labels that the data set has ready; None where it has none."""
    if isinstance(dataset, Subset):
        whole = _labels(dataset.dataset)
        return None if whole is None else [whole[index] for index in dataset.indices]
    change = getattr(dataset, "target_transform", None)
    for name in _LABELS + _PAIRS:
        held = getattr(dataset, name, None)
        if not isinstance(held, Sequence | Tensor | np.ndarray) or len(held) != len(cast(MapStyle, dataset)):
            continue
        listed = held.tolist() if isinstance(held, Tensor | np.ndarray) else list(held)
        if name in _PAIRS:
            if any(not isinstance(pair, tuple) or len(pair) != 2 for pair in listed):
                continue
            listed = [label for _, label in listed]
        try:
            labels = listed if change is None else [change(label) for label in listed]
        except Exception:  # it is for another target than this one
            continue
        if name == "targets" or _agrees(cast(MapStyle, dataset), labels):
            return labels
    return None


def _agrees(dataset: MapStyle, labels: list[Any]) -> bool:
    """Whether some items have these labels, and not what another option of the data set makes their target."""
    try:
        indices = range(0, len(labels), max(1, len(labels) // _COMPARED))
        return all(_label(dataset[index][1], index) == _label(labels[index], index) for index in indices)
    except ValueError:
        return False


def _label(label: Any, index: int) -> int:
    if label is None:
        return -1
    number = label.item() if isinstance(label, Tensor | np.generic) and label.ndim == 0 else label
    if isinstance(number, bool) or not isinstance(number, int) or number < -1:
        raise ValueError(f"item {index}: its label is {label!r}, expected a whole number from 0, or -1; give target_transform=")
    return number


def _image(image: Any, channels: int, index: int) -> Tensor:
    """(channels, H, W) float32 in [0, 1] of a PIL image or a tensor."""
    if isinstance(image, Image.Image) and image.mode[0] not in "IF":
        pixels = np.asarray(image.convert(_MODES[channels]), dtype=np.float32)
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))) / 255
    if not isinstance(image, Tensor) or image.dim() != 3 or image.shape[0] not in (1, channels):
        found = getattr(image, "mode", type(image).__name__)
        found = f"{image.dtype} {tuple(image.shape)}" if isinstance(image, Tensor) else found
        raise ValueError(f"item {index}: its image is {found}, expected an 8-bit PIL image or a tensor ({channels}, H, W)")
    scaled = image.float() / 255 if image.dtype == torch.uint8 else image.float()
    if not (scaled.min() >= 0 and scaled.max() <= 1):  # also false for NaN
        raise ValueError(
            f"item {index}: its values go from {float(scaled.min()):.3g} to {float(scaled.max()):.3g}, expected [0, 1]; leave "
            "the normalisation out of its transform, the classifier does it"
        )
    return scaled.expand(channels, -1, -1) if image.shape[0] == 1 else scaled


def _example(folder: Path) -> FromTorchvision:
    """The layout of `torchvision.datasets.ImageFolder`: a cat and a dog, each of one colour."""
    for path, colour in (("cat/a.png", "orange"), ("dog/b.png", "brown")):
        (folder / path).parent.mkdir()
        Image.new("RGB", (40, 32), colour).save(folder / path)
    return torchvision_source("ImageFolder", 32, root=folder)


ENTRY = SourceEntry(
    "torchvision:NAME", "a data set of torchvision, such as torchvision:CIFAR10 with root=", torchvision_source, _example
)
