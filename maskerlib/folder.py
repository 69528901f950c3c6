"""A folder of the user's own images, checked from end to end before it is used.

    root/
        images/cat/tabby 1.jpg      one folder per class; any image format
        images/dog/rex.PNG
        masks/cat/tabby 1.png       optional: same class, same name, .png, same size as the image
        boxes.csv                   optional: file,x0,y0,x1,y1

In boxes.csv, `file` is the path below images/ (`cat/tabby 1.jpg`). Boxes are in pixels of the upright image
and half-open: x1 and y1 are the first column and row outside. An image with several boxes has several rows;
further columns are ignored. An image that has a mask but no row gets the box around its mask.
"""

import csv
import math
from collections import defaultdict
from pathlib import Path
from unicodedata import normalize

import torch
from torch import Tensor
from tqdm.auto import tqdm

from maskerlib.images import fit, list_files, mask_box, read_image, read_mask
from maskerlib.samples import Sample, Source, check_index

__all__ = ["Folder"]

COLUMNS = ("file", "x0", "y0", "x1", "y1")


class Folder(Source):
    """Labelled images in one folder per class, with optional masks and boxes, laid out as shown above.

    size: pixels per side, or (height, width). Images are scaled to cover it and cropped at the centre, with
        their boxes and masks, so that a sample whose object lay at the very edge may be left without a box.
    on_corrupt: "raise", or "skip" to leave out images that are unreadable or whose mask is.
    progress: show a bar while the files are checked.

    Attributes beside those of every `Source`: skipped, how many images were left out; skipped_files, which.

    Everything is checked at the start. FileNotFoundError when the root or its images folder is missing;
    ValueError, naming the file, the row or the class, for whatever else is wrong: an unreadable image, a
    class without images, a mask that is empty, of another size or without an image, a box that is not four
    numbers, is empty, reaches outside or belongs to no image.
    """

    def __init__(
        self,
        root: str | Path,
        size: int | tuple[int, int] = 224,
        *,
        on_corrupt: str = "raise",
        progress: bool = False,
    ):
        if on_corrupt not in ("raise", "skip"):
            raise ValueError(f"on_corrupt={on_corrupt!r}: expected 'raise' or 'skip'")
        self.root = Path(root)
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        images = _classes(self.root)
        masks = _masks(self.root, images)
        self.class_names = tuple(images)
        self.skipped_files: tuple[Path, ...] = ()
        self._files: list[tuple[Path, int, Path | None]] = []
        extents: dict[str, tuple[int, int]] = {}

        listed = [(path, label) for label, name in enumerate(self.class_names) for path in images[name]]
        for path, label in tqdm(listed, desc="checking images", leave=False, disable=not progress):
            mask = masks.get((path.parent.name, path.stem))
            try:
                height, width = read_image(path).shape[1:]
                mask_image = None if mask is None else read_mask(mask)
            except ValueError:
                if on_corrupt == "raise":
                    raise
                self.skipped_files += (path,)
                continue
            if mask_image is not None:
                _check_mask(mask, mask_image, height, width)
            extents[self._key(path)] = (height, width)
            self._files.append((path, label, mask))

        left = {label for _, label, _ in self._files}
        for label, name in enumerate(self.class_names):
            if label not in left:
                raise ValueError(f"{images[name][0].parent}: a class of unreadable images only; replace them")
        skipped = {self._key(path) for path in self.skipped_files}
        self._boxes = _boxes(self.root / "boxes.csv", extents, skipped)
        self.skipped = len(self.skipped_files)
        self.labels = torch.tensor([label for _, label, _ in self._files], dtype=torch.int64)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Sample:
        path, label, mask_path = self._files[check_index(index, len(self))]
        mask = None if mask_path is None else read_mask(mask_path)
        boxes = self._boxes.get(self._key(path))
        if boxes is None:
            boxes = torch.zeros(0, 4) if mask is None else mask_box(mask)
        image, boxes, mask = fit(read_image(path), self.size, boxes=boxes, mask=mask)
        return Sample(image, label, boxes, mask, self._key(path))

    def _key(self, path: Path) -> str:
        """The path below images/, as boxes.csv has it; NFC, since file systems store accents differently."""
        return normalize("NFC", path.relative_to(self.root / "images").as_posix())


def _classes(root: Path) -> dict[str, list[Path]]:
    """Each class's image files."""
    for folder in (root, root / "images"):
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{folder}: no such folder; expected images in {root / 'images' / '<class>'}"
            )
    if loose := list_files(root / "images"):
        raise ValueError(f"{loose[0]}: an image outside a class; move it into {root / 'images' / '<class>'}")
    folders = sorted(path for path in (root / "images").iterdir() if path.is_dir() and path.name[0] != ".")
    if not folders:
        raise ValueError(f"{root / 'images'}: no class folders; expected {root / 'images' / '<class>'}")
    for folder in folders:
        if nested := [path for path in folder.iterdir() if path.is_dir() and path.name[0] != "."]:
            raise ValueError(f"{nested[0]}: a folder inside a class; move its images up into {folder}")
        if not list_files(folder):
            raise ValueError(f"{folder}: a class without images; add some or remove the folder")
    return {folder.name: list_files(folder) for folder in folders}


def _masks(root: Path, images: dict[str, list[Path]]) -> dict[tuple[str, str], Path]:
    """The mask file of each (class, stem) that has one; every mask belongs to exactly one image."""
    found: dict[tuple[str, str], Path] = {}
    if not (root / "masks").is_dir():
        return found
    for folder in sorted(
        path for path in (root / "masks").iterdir() if path.is_dir() and path.name[0] != "."
    ):
        for path in list_files(folder):
            if path.suffix.lower() != ".png":
                raise ValueError(
                    f"{path}: expected a mask in PNG; convert it, a lossy format would blur its edge"
                )
            owners = [image.name for image in images.get(folder.name, []) if image.stem == path.stem]
            if len(owners) != 1:
                raise ValueError(
                    f"{path}: belongs to {len(owners)} images, expected 1 called {path.stem}.* in "
                    f"{root / 'images' / folder.name}; rename or remove one"
                )
            found[folder.name, path.stem] = path
    return found


def _check_mask(path: Path, mask: Tensor, height: int, width: int) -> None:
    if mask.shape != (height, width):
        size = f"{mask.shape[1]}x{mask.shape[0]}"
        raise ValueError(
            f"{path}: {size} pixels, but its image has {width}x{height} upright; redraw it at that size"
        )
    if not mask.any():
        raise ValueError(f"{path}: an empty mask; mark the object, or remove the file if there is none")


def _boxes(path: Path, extents: dict[str, tuple[int, int]], skipped: set[str]) -> dict[str, Tensor]:
    """The boxes of each file, (K, 4). extents: (height, width) of every image that was read."""
    rows: defaultdict[str, list[list[float]]] = defaultdict(list)
    if not path.is_file():
        return {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not UTF-8 text; save it as CSV in UTF-8") from None
    reader = csv.DictReader(lines, skipinitialspace=True)
    reader.fieldnames = [column.strip() for column in reader.fieldnames or []]
    if absent := [column for column in COLUMNS if column not in reader.fieldnames]:
        raise ValueError(
            f"{path}: no column {', '.join(absent)}; expected the first line {','.join(COLUMNS)}"
        )
    for row in reader:
        where = f"{path}, line {reader.line_num}"
        name = normalize("NFC", (row["file"] or "").strip().replace("\\", "/"))
        if name in skipped:
            continue
        if name not in extents:
            raise ValueError(
                f"{where}: no image {name!r}; expected a path below images, such as {next(iter(extents))!r}"
            )
        try:
            x0, y0, x1, y1 = box = [float(row[column]) for column in COLUMNS[1:]]
        except (TypeError, ValueError):
            box = [math.nan]
        if not all(map(math.isfinite, box)):
            raise ValueError(
                f"{where}: {[row[column] for column in COLUMNS[1:]]} is not a box; expected four numbers"
            )
        height, width = extents[name]
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            limits = f"0 <= x0 < x1 <= {width} and 0 <= y0 < y1 <= {height}, x1 and y1 exclusive"
            raise ValueError(f"{where}: box {box} of {name}; expected {limits}")
        rows[name].append(box)
    return {name: torch.tensor(boxes, dtype=torch.float32) for name, boxes in rows.items()}
