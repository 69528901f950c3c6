"""A folder of the user's own images, checked from end to end before it is used.

    root/
        images/cat/tabby 1.jpg      one folder per class; any image format
        images/dog/rex.PNG
        masks/cat/tabby 1.png       optional: same class, same name, .png, same size as the image
        boxes.csv                   optional: file,x0,y0,x1,y1

The classes may also lie directly in the root, as torchvision's ImageFolder has them (`maskerlib.data.files.layout`). In
boxes.csv, `file` is the path below images/ (`cat/tabby 1.jpg`). Boxes are in pixels of the upright image and half-open: x1
and y1 are the first column and row outside. An image with several boxes has several rows; further columns are ignored
(`maskerlib.data.files.box_table`). An image that has a mask but no row gets the box around its mask.
"""

from collections.abc import Collection
from pathlib import Path
from unicodedata import normalize

import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from maskerlib.data.boxes import mask_box
from maskerlib.data.entry import SourceEntry
from maskerlib.data.files.box_table import BoxTable, Extent, read_boxes
from maskerlib.data.files.images import Enough, check_channels, read_image, read_stored, stored_size
from maskerlib.data.files.layout import read_layout
from maskerlib.data.files.masks import NotTwoValued, check_values, read_mask
from maskerlib.data.files.source import FileSource
from maskerlib.data.indices import as_size
from maskerlib.data.samples import Sample
from maskerlib.running.checks import check_value, one_of

__all__ = ["ENTRY", "Folder"]


class Folder(FileSource):
    """Labelled images in one folder per class, with optional masks and boxes, laid out as shown above.

    size: pixels per side, or (height, width). Images are scaled to cover it and cropped at the centre, with
        their boxes and masks, so that a sample whose object lay at the very edge may be left without a box.
    channels: 3 for RGB, 1 for grey, 4 for RGB and opacity.
    mask_object, mask_ignore: the values of the mask files that are object, and those that are neither, for label images
        and trimaps (see `maskerlib.data.files.masks.read_mask`). Ignored pixels are in no mask and in `Sample.ignore`.
    on_corrupt: "raise", or "skip" to leave out images that are unreadable or whose mask is.
    progress: show a bar while the files are checked.

    Attributes beside those of every `Source`: skipped, how many images were left out; skipped_files, which; left_out, the
    files and folders that are no images by their names, such as readme.txt; clipped, how many boxes reached outside their
    image and were clipped to it.

    Everything is checked at the start. FileNotFoundError when the root or its images folder is missing;
    ValueError, naming the file, the row or the class, for whatever else is wrong: an unreadable image, a
    class without images, a mask that is empty, of another size, without an image or with more than two values, a box that
    is not four numbers, is empty, lies outside or belongs to no image.
    """

    def __init__(
        self,
        root: str | Path,
        size: int | tuple[int, int] = 224,
        *,
        channels: int = 3,
        mask_object: Collection[float] | None = None,
        mask_ignore: Collection[float] = (),
        on_corrupt: str = "raise",
        progress: bool = False,
    ):
        check_value("on_corrupt", on_corrupt, one_of(("raise", "skip")))
        self.root = Path(root)
        self.size = as_size(size)
        self.channels = check_channels(channels)
        self.mask_object = None if mask_object is None else check_values("mask_object", mask_object)
        self.mask_ignore = check_values("mask_ignore", mask_ignore)
        layout = read_layout(self.root)
        self._base = layout.base
        self.class_names = tuple(layout.images)
        self.left_out = layout.left_out
        self.skipped_files: tuple[Path, ...] = ()
        self._files: list[tuple[Path, int, Path | None]] = []
        extents: dict[str, Extent] = {}

        listed = [(path, label) for label, name in enumerate(self.class_names) for path in layout.images[name]]
        for path, label in tqdm(listed, desc="checking images", leave=False, disable=not progress):
            mask = layout.masks.get(path)
            try:
                height, width = read_image(path, channels).shape[1:]
                mask_image = None if mask is None else self._mask(mask)
            except NotTwoValued:
                raise
            except ValueError:
                if on_corrupt == "raise":
                    raise
                self.skipped_files += (path,)
                continue
            if mask is not None and mask_image is not None:
                self._check_mask(mask, mask_image, height, width)
            extents[self._key(path)] = Extent(height, width, stored_size(path) != (height, width))
            self._files.append((path, label, mask))

        left = {label for _, label, _ in self._files}
        for label, name in enumerate(self.class_names):
            if label not in left:
                raise ValueError(f"{layout.base / name}: a class of unreadable images only; replace them")
        skipped = frozenset(map(self._key, self.skipped_files))
        table = BoxTable({}) if layout.boxes is None else read_boxes(layout.boxes, extents, skipped)
        self._boxes, self.clipped = table.boxes, table.clipped
        self.skipped = len(self.skipped_files)
        self.labels = torch.tensor([label for _, label, _ in self._files], dtype=torch.int64)

    def __len__(self) -> int:
        return len(self._files)

    def __repr__(self) -> str:
        images = f"{len(self)} images of {len(self.class_names)} classes"
        return f"Folder({str(self.root)!r}: {images}, {self.skipped} skipped, {len(self.left_out)} left out)"

    def name(self, index: int) -> str:
        return str(self._files[index][0])

    def stored(self, index: int, enough: Enough | None = None) -> Sample:
        path, label, mask_path = self._files[index]
        name = self._key(path)
        mask = None if mask_path is None else self._mask(mask_path)
        ignore = read_mask(mask_path, object=self.mask_ignore) if mask_path and self.mask_ignore else None
        image = read_stored(path, self.channels, enough if mask is None else None)
        boxes = self._boxes.get(name)
        if boxes is None:
            boxes = torch.zeros(0, 4) if mask is None else mask_box(mask)
        return Sample(image.pixels, label, image.boxes(boxes), mask, name, ignore)

    def _mask(self, path: Path) -> Tensor:
        return read_mask(path, object=self.mask_object, ignore=self.mask_ignore)

    def _key(self, path: Path) -> str:
        """The path below the classes' folder, as boxes.csv has it; NFC, since file systems store accents differently."""
        return normalize("NFC", path.relative_to(self._base).as_posix())

    def _check_mask(self, path: Path, mask: Tensor, height: int, width: int) -> None:
        if mask.shape != (height, width):
            size = f"{mask.shape[1]}x{mask.shape[0]}"
            raise ValueError(
                f"{path}: {size} pixels, but its image has {width}x{height} upright; redraw it at that size"
            )
        if not mask.any():
            of = "" if self.mask_object is None else f", none of its values is one of mask_object={self.mask_object}"
            raise ValueError(f"{path}: an empty mask{of}; mark the object, or remove the file if there is none")


def _example(folder: Path) -> Folder:
    """A cat with a mask and a dog with a box, each a square of one colour."""
    for path, mode, ground, square in (
        ("images/cat/a.png", "RGB", "grey", "orange"),
        ("images/dog/b.png", "RGB", "grey", "brown"),
        ("masks/cat/a.png", "L", "black", "white"),
    ):
        image = Image.new(mode, (40, 32), ground)
        image.paste(square, (8, 8, 24, 28))
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        image.save(folder / path)
    (folder / "boxes.csv").write_text("file,x0,y0,x1,y1\ndog/b.png,8,8,24,28\n", encoding="utf-8")
    return Folder(folder, 32)


ENTRY = SourceEntry("folder:PATH", "your own images, a folder a class, with masks and boxes if any", Folder, _example)
