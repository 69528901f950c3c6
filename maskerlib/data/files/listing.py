"""What lies in a folder: images, folders, and what is left out because it is neither.

Every file is one of the three, so that nothing disappears without a word; what decides is the name alone. A file whose
name says image is taken for one, and whoever reads it says so if it is not.
"""

from dataclasses import dataclass
from pathlib import Path
from unicodedata import category

from PIL import Image

__all__ = ["Listing", "is_image_name", "list_folder"]

_LEFT_BEHIND = {"thumbs.db", "desktop.ini", "__macosx"}  # by file managers; their others begin with a dot
_NO_PICTURES = {"BUFR", "GRIB", "HDF5", "MPEG"}  # kinds whose files Pillow recognises and cannot decode
_NOT_PILLOWS = {".arw", ".avif", ".cr2", ".cr3", ".dng", ".heic", ".heif", ".jxl", ".nef", ".svg"}


@dataclass(frozen=True)
class Listing:
    """The content of a folder, each sorted by name: images, folders, and what is neither or was left by a file manager."""

    images: tuple[Path, ...]
    folders: tuple[Path, ...]
    left_out: tuple[Path, ...]


def is_image_name(path: Path) -> bool:
    """Whether the suffix is one of an image: of those that Pillow reads, or of a kind that it does not."""
    suffix = path.suffix.lower()
    return suffix in _NOT_PILLOWS or (
        (kind := Image.registered_extensions().get(suffix)) in Image.OPEN and kind not in _NO_PICTURES
    )


def list_folder(folder: Path) -> Listing:
    """What lies directly in `folder`. Hidden files and folders, and those of file managers, are left out.

    ValueError for the name of an image or a folder that holds a backslash, a line break or another control character (no
    table could name it), and for a link to nothing (unless its name is an image's: then reading it fails).
    """
    images, folders, left_out = [], [], []
    for path in sorted(folder.iterdir()):
        if path.name[0] == "." or path.name.lower() in _LEFT_BEHIND:
            left_out.append(path)
        elif path.is_dir():
            folders.append(_named(path))
        elif is_image_name(path):
            images.append(_named(path))
        elif path.is_symlink() and not path.exists():
            raise ValueError(f"{path}: a link to {path.readlink()}, which is not there; mend or remove it")
        else:
            left_out.append(path)
    return Listing(tuple(images), tuple(folders), tuple(left_out))


def _named(path: Path) -> Path:
    if "\\" in path.name or any(category(sign) in ("Cc", "Cs", "Zl", "Zp") for sign in path.name):
        name = path.name.encode("unicode_escape", "surrogatepass").decode()
        raise ValueError(f"{path.parent}: the name '{name}' holds a backslash or a control character; rename it")
    return path
