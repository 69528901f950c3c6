"""The data sets of the field on this machine: what is there, what is missing, where it is to be had and under which terms.

Nothing is downloaded unless it is asked for, and then by torchvision, which has the addresses of two of them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torchvision

from maskerlib.data.registry import source_named
from maskerlib.data.sets.indexed import Indexed
from maskerlib.running.checks import check_value, one_of

__all__ = ["OFFERS", "Offer", "download", "look_at"]


@dataclass(frozen=True)
class Offer:
    """A data set, in the layout of the reader of this name.

    says: what it is, with its size.  terms: of use.  address: where it is to be had.
    parts: {name: options of the reader}, what it consists of.
    download: gets it below a root; None where one has to register or to take it by hand.
    """

    says: str
    terms: str
    address: str
    parts: Mapping[str, Mapping[str, Any]]
    download: Callable[[Path], None] | None = None


def _pets(root: Path) -> None:
    for split in ("trainval", "test"):
        torchvision.datasets.OxfordIIITPet(root, split=split, target_types="segmentation", download=True)


def _voc(root: Path) -> None:
    for year, split in (("2012", "trainval"), ("2007", "trainval"), ("2007", "test")):
        torchvision.datasets.VOCDetection(root, year=year, image_set=split, download=True)


def _splits(*names: str, **options: Any) -> dict[str, dict[str, Any]]:
    return {name: {"split": name, **options} for name in names}


_IMAGENET = "for research and teaching that is not commercial, after registration"
_AT_IMAGENET = "https://image-net.org/download.php (ILSVRC2012; boxes are a separate archive)"

OFFERS: Mapping[str, Offer] = {
    "pets": Offer(
        "Oxford-IIIT Pet, 37 breeds with trimaps, 0.8 GB",
        "CC BY-SA 4.0; the photographs are their owners'",
        "https://www.robots.ox.ac.uk/~vgg/data/pets/",
        _splits("trainval", "test"),
        _pets,
    ),
    "voc": Offer(
        "PASCAL VOC, 20 classes with boxes and masks, 2012 and 2007, about 3 GB",
        "the terms of Flickr, whose photographs they are",
        "http://host.robots.ox.ac.uk/pascal/VOC/",
        {
            **{f"2012 {name}": {"year": "2012", **options} for name, options in _splits("train", "val").items()},
            **{f"2012 {name}, masks": {"year": "2012", "masks": True, **more} for name, more in _splits("train", "val").items()},
            **{f"2007 {name}": {"year": "2007", **options} for name, options in _splits("trainval", "test").items()},
        },
        _voc,
    ),
    "cub": Offer(
        "CUB-200-2011, 200 birds with boxes, 1.1 GB, and masks, 40 MB",
        "for research and teaching that is not commercial; the photographs are their owners'",
        "https://www.vision.caltech.edu/datasets/cub_200_2011/",
        _splits("train", "test"),
    ),
    "imagenet": Offer("ImageNet, a folder a class, 150 GB", _IMAGENET, _AT_IMAGENET, _splits("train", "val")),
    "imagenet-kaggle": Offer(
        "ImageNet as Kaggle has it, 160 GB",
        f"{_IMAGENET} and under the rules of the competition",
        "https://www.kaggle.com/c/imagenet-object-localization-challenge",
        _splits("train", "val"),
    ),
    "wsol": Offer(
        "wsolevaluation's lists for ILSVRC, CUB and OpenImages30k, and the images of these",
        "the lists MIT; the images of OpenImages CC BY 2.0, the others as above",
        "https://github.com/clovaai/wsolevaluation",
        {
            f"{dataset} {split}": {"dataset": dataset, "split": split}
            for dataset in ("ILSVRC", "CUB", "OpenImages")
            for split in ("train", "val", "test")
        },
    ),
}
"""{name: offer} of every reader of `maskerlib.data.sets`."""


def look_at(name: str, root: Path, *, every: bool = False) -> Iterator[tuple[str, bool]]:
    """What `root` holds of a data set, a line a part, and whether the part is there.

    every: read each file, not the first and the last alone, and say which cannot be read.

    Raises ValueError for another name than those of `OFFERS`.
    """
    check_value("name", name, one_of(tuple(OFFERS)))
    for part, options in OFFERS[name].parts.items():
        try:
            source = source_named(f"{name}:{root}", missing="skip", on_corrupt="skip" if every else "raise", **options)
            assert isinstance(source, Indexed)
            yield _line(part, source, every)
        except (FileNotFoundError, ValueError) as error:
            yield f"{part}: {' '.join(str(error).split())}", False


def _line(part: str, source: Indexed, every: bool) -> tuple[str, bool]:
    numbers = range(len(source)) if every else (0, len(source) - 1)
    boxes = masks = 0
    for number in numbers:
        sample = source.whole(number)
        boxes, masks = boxes + len(sample.boxes), masks + (sample.mask is not None)
    known = [words for words, count in (("boxes", boxes), ("masks", masks)) if count]
    line = f"{part}: {len(source):,} images, {len(source.class_names):,} classes, {' and '.join(known) or 'labels alone'}"
    if not source.skipped:
        return line, True
    few = ", ".join(map(str, source.skipped_files[:3]))
    return f"{line}; {source.skipped} cannot be read: {few}{' ...' if source.skipped > 3 else ''}", False


def download(name: str, root: Path) -> None:
    """Get a data set below `root`, which is made where it is not there.

    Raises ValueError, with the address and the terms, for one that has to be taken by hand, and for another name than those of
    `OFFERS`; OSError or RuntimeError where the network or the disk fails.
    """
    check_value("name", name, one_of(tuple(OFFERS)))
    offer = OFFERS[name]
    if offer.download is None:
        raise ValueError(f"{name} has to be taken by hand, from {offer.address}; its terms: {offer.terms}")
    root.mkdir(parents=True, exist_ok=True)
    offer.download(root)
