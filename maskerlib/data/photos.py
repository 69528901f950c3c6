"""Photographs without labels: those that come with scikit-image, and any of the reader's own."""

from collections.abc import Iterable, Sequence
from importlib.resources import as_file, files
from pathlib import Path

import torch

from maskerlib.data.entry import SourceEntry
from maskerlib.data.files.images import Enough, check_channels, read_stored
from maskerlib.data.files.listing import list_folder
from maskerlib.data.files.source import FileSource
from maskerlib.data.indices import as_size
from maskerlib.data.samples import Sample

__all__ = ["ENTRY", "PHOTOGRAPHS", "Photos"]

# The photographs inside the scikit-image wheel. Its others, such as `skin` and `lily`, would have to be
# downloaded.
PHOTOGRAPHS = {
    "astronaut": "astronaut.png",
    "brick": "brick.png",
    "camera": "camera.png",
    "cell": "cell.png",
    "chelsea": "chelsea.png",
    "clock": "clock_motion.png",
    "coffee": "coffee.png",
    "coins": "coins.png",
    "grass": "grass.png",
    "gravel": "gravel.png",
    "hubble_deep_field": "hubble_deep_field.jpg",
    "immunohistochemistry": "ihc.png",
    "moon": "moon.png",
    "motorcycle": "motorcycle_left.png",
    "page": "page.png",
    "retina": "retina.jpg",
    "rocket": "rocket.jpg",
    "text": "text.png",
}

DEFAULT = ("camera", "chelsea", "coffee", "motorcycle", "rocket", "astronaut")


class Photos(FileSource):
    """Photographs by name, image files by path, and folders of image files. No labels, boxes or masks.

    names_or_paths: one or several of: a key of `PHOTOGRAPHS`, the path of an image, the path of a folder (its
        images follow by name). Without it, six photographs that show one subject each.
    size: pixels per side, or (height, width). Images are scaled to cover it and cropped at the centre.
    channels: 3 for RGB, 1 for grey, 4 for RGB and opacity.

    Attributes beside those of every `Source`: names; paths, None for a photograph of scikit-image; left_out, the files and
    folders inside the folders given that are no images by their names.

    Every file is read once at the start. FileNotFoundError for a path that is not there; ValueError, naming
    the file or the valid names, for a name that is unknown, a folder without images, or a file that is not a
    whole image.
    """

    def __init__(
        self,
        names_or_paths: Sequence[str | Path] | str | Path | None = None,
        size: int | tuple[int, int] = 224,
        *,
        channels: int = 3,
    ):
        given = DEFAULT if names_or_paths is None else names_or_paths
        self.size = as_size(size)
        self.channels = check_channels(channels)
        self.left_out: tuple[Path, ...] = ()
        self.names: list[str] = []
        self.paths: list[Path | None] = []  # None: a photograph of scikit-image
        for item in given if isinstance(given, Iterable) and not isinstance(given, str) else [given]:
            self._add(item)
        if not self.names:
            raise ValueError("0 photographs: expected a name or path; leave the argument out for the default six")
        self.labels = torch.full((len(self.names),), -1)
        for index in range(len(self)):
            self[index]  # an unreadable file says so now

    def _add(self, item: str | Path) -> None:
        if not isinstance(item, str | Path):
            raise ValueError(f"{item!r}: expected the name of a photograph, or the path of an image or a folder")
        if item in PHOTOGRAPHS:
            self.names.append(str(item))
            self.paths.append(None)
            return
        path = Path(item)
        if not path.exists():
            if isinstance(item, Path) or path.suffix or len(path.parts) > 1:
                raise FileNotFoundError(f"{path}: no such image or folder; check the path")
            known = ", ".join(PHOTOGRAPHS)
            raise ValueError(f"{item!r}: no such photograph or path; the photographs are {known}")
        found: tuple[Path, ...] = (path,)
        if path.is_dir():
            listing = list_folder(path)
            found, others = listing.images, listing.folders + listing.left_out
            if not found and not others:
                raise ValueError(f"{path}: a folder without files; expected images in it")
            if not found:
                raise ValueError(
                    f"{path}: a folder without images, though with {others[0].name}; give one that holds images"
                )
            self.left_out += others
        self.names.extend(file.stem for file in found)
        self.paths.extend(found)

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"Photos({len(self)} photographs, {len(self.left_out)} left out)"

    def name(self, index: int) -> str:
        return str(self.paths[index] or self.names[index])

    def stored(self, index: int, enough: Enough | None = None) -> Sample:
        name, path = self.names[index], self.paths[index]
        if path is None:
            with as_file(files("skimage") / "data" / PHOTOGRAPHS[name]) as packaged:
                image = read_stored(packaged, self.channels, enough)
        else:
            image = read_stored(path, self.channels, enough)
        return Sample(image.pixels, None, torch.zeros(0, 4), None, name)


ENTRY = SourceEntry(
    "photos",
    "photographs without labels: six that come with scikit-image, or names_or_paths=",
    Photos,
    example=lambda folder: Photos(size=32),
)
