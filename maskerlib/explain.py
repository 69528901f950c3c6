"""One photograph explained: a map of any method, and what the classifier says of what the map keeps and of what it leaves.

    classifier = classifier_named("efficientnet-lite0")
    picture = explanation_picture(explain(read_photo("chelsea"), classifier, method_named("optimise", classifier)))

`python -m maskerlib explain` does this for files and folders.
"""

import itertools
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from maskerlib import plots
from maskerlib.classifiers.classifier import Classifier, frozen
from maskerlib.classifiers.doors import Method, as_targets, check_classifier, check_images
from maskerlib.data.files.framing import fit
from maskerlib.data.files.images import read_image
from maskerlib.data.files.listing import is_image_name
from maskerlib.data.photos import PHOTOGRAPHS, Photos
from maskerlib.data.samples import check_image
from maskerlib.masking.masks import area, masked_in, masked_out
from maskerlib.methods.asking import ask, explained_by

__all__ = [
    "Explanation",
    "check_outputs",
    "explain",
    "explanation_picture",
    "find_photos",
    "output_paths",
    "path_status",
    "read_photo",
]


@dataclass(frozen=True)
class Explanation:
    """What `explain` found of one photograph.

    photo: (channels, H, W) in [0, 1], as it was given.  size: (h, w) at which the classifier saw it.
    saliency: (1, h, w) in [0, 1].
    target, class_name: the class that is explained.
    whole, kept, left: the probability of that class in the photograph, masked-in and masked-out.
    mean: (1, channels, 1, 1), the colour that hides.
    """

    photo: Tensor
    saliency: Tensor
    target: int
    class_name: str
    whole: float
    kept: float
    left: float
    mean: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) of the map."""
        return self.saliency.shape[-2], self.saliency.shape[-1]


def find_photos(given: Iterable[str | Path]) -> tuple[list[str | Path], int]:
    """The photographs meant by paths of images and folders and names of `maskerlib.data.photos.PHOTOGRAPHS`, in order.

    Returns them, and how many files and folders inside the folders given were left out, as they are no images by their names.
    No file is read, and none is refused for its name. Raises FileNotFoundError for what is neither a path nor a name, ValueError
    for an empty name, for what cannot be a path and where no photograph is left.
    """
    found: list[str | Path] = []
    left_out = 0
    for item in given:
        if isinstance(item, str) and not item.strip():
            raise ValueError(f"{item!r} names no photograph; give the path of an image or a folder ('.' is the current one)")
        path = Path(item)
        there = path_status(path)
        if there is not None and stat.S_ISDIR(there.st_mode):
            listed = sorted(path.iterdir())
            images = [each for each in listed if each.name[0] != "." and is_image_name(each) and not each.is_dir()]
            found += images
            left_out += len(listed) - len(images)
        elif there is not None or os.path.islink(path):
            found.append(path)
        elif item in PHOTOGRAPHS:
            found.append(item)
        else:
            raise FileNotFoundError(f"{item}: no such image or folder; give a path, or one of {', '.join(PHOTOGRAPHS)}")
    if not found:
        raise ValueError("0 photographs in what was given; give the path of an image, or of a folder that holds images")
    return found, left_out


def read_photo(item: str | Path, channels: int = 3) -> Tensor:
    """One of what `find_photos` found, (channels, H, W) float32 in [0, 1].

    Errors as for `maskerlib.data.files.images.read_image`.
    """
    if isinstance(item, str) and item in PHOTOGRAPHS:
        return Photos(item, channels=channels).whole(0).image
    return read_image(item, channels)


def output_paths(photos: Iterable[str | Path], folder: str | Path, suffix: str = ".png") -> list[Path]:
    """Where the picture of each goes: its name with `suffix`, in `folder`; equal names get a number: cat.png, cat-2.png."""
    taken: set[str] = set()
    paths = []
    for photo in photos:
        stem = Path(photo).stem
        names = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
        name = next(name for name in names if name.casefold() not in taken)
        taken.add(name.casefold())
        paths.append(Path(folder) / f"{name}{suffix}")
    return paths


def check_outputs(photos: Iterable[str | Path], paths: Iterable[str | Path], *, replace: bool = False) -> None:
    """Refuse to write over a photograph that is to be read, and over any other file unless `replace`.

    photos: what `find_photos` found; two paths of one file, by a link or another spelling, are the same.

    Raises ValueError with the first such path, how many more there are, and the mend; and for what cannot be a path.
    """
    read = {(there.st_dev, there.st_ino) for photo in photos if os.path.exists(photo) for there in [os.stat(photo)]}
    existing = {path: there for path in paths if (there := path_status(path)) is not None}
    own = [path for path, there in existing.items() if (there.st_dev, there.st_ino) in read]
    for refused, reason in (
        (own, "is a photograph to be explained, and would be replaced; give another --output"),
        ([] if replace else list(existing), "exists; give another --output, or --force to replace it"),
    ):
        if refused:
            more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
            raise ValueError(f"{refused[0]}{more} {reason}")


def path_status(path: str | Path) -> os.stat_result | None:
    """What the system says of a path, None where nothing is; ValueError for what it cannot look up (too long, a null byte)."""
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{path} cannot be looked up ({reason}); give another path") from None


def explain(
    photo: Tensor,
    classifier: Classifier,
    method: Method,
    target: int | str | None = None,
    size: int | tuple[int, int] | None = None,
    *,
    checked: bool = False,
) -> Explanation:
    """Ask a method about one photograph, and the classifier about what its map keeps and leaves.

    A masker that carries a classifier is asked about that one. What is hidden is painted with `classifier.mean`.

    Args:
        photo: (channels, H, W) in [0, 1], of any size; scaled to cover `size` and cropped at the centre.
        target: the class to explain, by number or name; None is the one that the classifier predicts.
        size: pixels per side, or (height, width); None is the classifier's `input_size`.

        checked: the classifier was looked at before (`maskerlib.classifiers.doors.check_classifier`), which takes longer than
            many a map.

    Raises ValueError for a photo that is no tensor or has its channels last, as `maskerlib.classifiers.doors` does for images,
    targets and classifiers, and as
    `maskerlib.methods.asking.ask` for what methods return.
    """
    check_image(photo, "photo")
    classifier = explained_by(method, classifier)
    image = fit(photo, classifier.input_size if size is None else size)[0]
    images = check_images(image[None], classifier).to(classifier.mean.device)
    if not checked:
        check_classifier(classifier)
    with frozen(classifier), torch.no_grad():
        targets = as_targets(target, classifier(images), classifier)
    saliency = ask("method", method, images, targets, classifier, "fp32")
    with frozen(classifier), torch.no_grad():
        views = (images, masked_in(images, saliency, classifier.mean), masked_out(images, saliency, classifier.mean))
        whole, kept, left = (float(classifier.log_probability(classifier(view), targets).exp()) for view in views)
    number = int(targets[0])
    name = classifier.class_name(number)
    return Explanation(photo, saliency[0].cpu(), number, name, whole, kept, left, classifier.mean.cpu())


def explanation_picture(found: Explanation, footer: str = "", *, pixels: int = 448) -> Figure:
    """The photograph, its map, and both views, with the probability of the class under each.

    The views are drawn from the photograph itself, at `pixels` along the shorter side, where that is more than the classifier
    saw; the probabilities are those of what it saw.
    """
    short = min(found.size)
    scale = max(1.0, min(pixels, *found.photo.shape[1:]) / short)
    size = (round(found.size[0] * scale), round(found.size[1] * scale))
    image = fit(found.photo, size)[0][None]
    saliency = F.interpolate(found.saliency[None], size, mode="bilinear", align_corners=False)
    mean = found.mean.to(image)
    return plots.explanation(
        image[0],
        masked_in(image, saliency, mean)[0],
        masked_out(image, saliency, mean)[0],
        saliency[0],
        class_name=found.class_name,
        probabilities=(found.whole, found.kept, found.left),
        share=float(area(found.saliency[None])),
        footer=footer,
    )
