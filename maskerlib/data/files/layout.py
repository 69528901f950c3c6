"""Where a folder of images keeps its classes, masks and boxes; whatever lies in the wrong place is named.

    root/images/<class>/*, root/masks/<class>/*.png, root/boxes.csv
    root/<class>/*, root/masks/<class>/*.png, root/boxes.csv        as torchvision's ImageFolder has it

The second holds when there is no `images`. A folder `masks` holds masks in both, and is never a class: a class of that name
needs the first.
"""

from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

from maskerlib.data.files.listing import Listing, is_image_name, list_folder

__all__ = ["Layout", "read_layout"]


@dataclass(frozen=True)
class Layout:
    """The files of a folder of images.

    base: the folder that holds the classes; names of images are paths below it.
    images: the image files of each class, classes and files by name.
    masks: the mask file of each image that has one.
    boxes: the table of boxes, or None.
    left_out: what lies below the root and is none of these.
    """

    base: Path
    images: dict[str, tuple[Path, ...]]
    masks: dict[Path, Path]
    boxes: Path | None
    left_out: tuple[Path, ...]


def read_layout(root: Path) -> Layout:
    """The layout of `root`. Only names are read.

    FileNotFoundError when the root or its images are missing. ValueError for images outside a class, a class without images
    or with a folder in it, masks that lie outside a class, in a folder of their own or belong to no image or to two, masks
    that are no PNG, a second file of one name, and for `masks` or `boxes.csv` that are of the wrong kind or case.
    """
    if not root.exists():
        raise FileNotFoundError(f"{root}: no such folder; expected images in {root / 'images' / '<class>'}")
    if not root.is_dir():
        raise ValueError(f"{root}: expected a folder, this is a file; give the folder that holds {root.name}")
    inside = list_folder(root)
    images_folder, masks_folder, table = (_own(root, inside, name) for name in ("images", "masks", "boxes.csv"))
    for own in (images_folder, masks_folder):
        if own and not own.is_dir():
            raise ValueError(f"{own}: expected a folder, {own / '<class>'}, this is a file; move it away")
    if table and not table.is_file():
        raise ValueError(f"{table}: expected a file, a table of boxes; move it away")

    base = images_folder or root
    listing = inside if base == root else list_folder(base)
    folders = [folder for folder in listing.folders if base != root or folder != masks_folder]
    if base == root and not any(list_folder(folder).images for folder in folders):
        raise FileNotFoundError(
            f"{root / 'images'}: no such folder; expected images in {root / 'images' / '<class>'} or {root / '<class>'}"
        )
    if listing.images:
        raise ValueError(f"{listing.images[0]}: an image outside a class; move it into {base / '<class>'}")
    if not folders:
        raise ValueError(f"{base}: no class folders; expected {base / '<class>'}")
    left_out = [path for path in inside.left_out if path != table]
    if base != root:
        others = [path for path in inside.folders if path not in (images_folder, masks_folder)]
        left_out += [*inside.images, *others, *listing.left_out]
    images = {}
    for folder in folders:
        images[folder.name], others = _class(folder)
        left_out += others
    masks, others = _masks(masks_folder, images) if masks_folder else ({}, [])
    return Layout(base, images, masks, table, tuple(left_out + others))


def _own(root: Path, inside: Listing, name: str) -> Path | None:
    """The entry of `root` that is called `name`; ValueError when there is only one of other case."""
    entries = {path.name: path for path in (*inside.images, *inside.folders, *inside.left_out)}
    alike = [entry for entry in entries if entry.lower() == name]
    if alike and name not in alike:
        raise ValueError(f"{root / alike[0]}: expected the name {name}, in lower case; rename it")
    return entries.get(name)


def _class(folder: Path) -> tuple[tuple[Path, ...], list[Path]]:
    """The images of a class, and what else its folder holds."""
    listing = list_folder(folder)
    if listing.folders:
        raise ValueError(
            f"{listing.folders[0]}: a folder inside a class; move its images up into {folder}, or, if it is a class itself, "
            f"give {folder} as the root"
        )
    if not listing.images:
        others = [path.name for path in listing.left_out if path.name[0] != "."]
        found = f" ({len(others)} other files, such as {others[0]})" if others else ""
        raise ValueError(f"{folder}: a class without images{found}; add some or remove the folder")
    seen: dict[str, Path] = {}
    for path in listing.images:
        if (twin := seen.setdefault(normalize("NFC", path.name), path)) != path:
            raise ValueError(
                f"{path}: a second file of this name, its accents written otherwise, as {twin.name!a}; rename one"
            )
    return listing.images, list(listing.left_out)


def _masks(root: Path, images: dict[str, tuple[Path, ...]]) -> tuple[dict[Path, Path], list[Path]]:
    """The mask of each image that has one, and what else lies among the masks; every mask belongs to exactly one image."""
    found: dict[Path, Path] = {}
    listing = list_folder(root)
    left_out = list(listing.left_out)
    if listing.images:
        raise ValueError(f"{listing.images[0]}: a mask outside a class; move it into {root / '<class>'}")
    for folder in listing.folders:
        inside = list_folder(folder)
        if inside.folders:
            raise ValueError(f"{inside.folders[0]}: a folder inside a class of masks; move its masks up into {folder}")
        owners: dict[str, list[Path]] = {}
        for image in images.get(folder.name, ()):
            owners.setdefault(normalize("NFC", image.stem), []).append(image)
        for path in sorted(inside.images + inside.left_out):
            own = owners.get(normalize("NFC", path.stem), [])
            if path in inside.left_out and (path.name[0] == "." or not own):
                left_out.append(path)
                continue
            if path.suffix.lower() != ".png":
                raise ValueError(
                    f"{path}: expected a mask in PNG; convert it, a lossy format would blur its edge"
                    if is_image_name(path)
                    else f"{path}: expected a mask in PNG; save it as one, or rename it if it is something else"
                )
            if len(own) != 1:
                raise ValueError(
                    f"{path}: belongs to {len(own)} images, expected 1 called {path.stem}.* in the class {folder.name}; "
                    "rename or remove one"
                )
            if own[0] in found:
                raise ValueError(f"{path}: a second mask of {own[0].name}, beside {found[own[0]].name}; remove one")
            found[own[0]] = path
    return found, left_out
