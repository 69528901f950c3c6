"""Image files of every common kind, read into one form; and the resize that carries boxes and masks along.

Files go wrong in dull ways: a 16-bit scan that turns white, a CMYK print that turns negative, a telephone's
photograph that lies on its side, a download that stopped half-way. Each is settled here, once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

__all__ = ["fit", "list_files", "mask_box", "read_image", "read_mask"]


def read_image(path: str | Path) -> Tensor:
    """Read an image file as (3, H, W) float32 RGB in [0, 1], upright.

    Grey, palette, 1-bit and CMYK images become RGB; 16-bit grey is scaled by 65535; transparent pixels are
    laid over white; the EXIF orientation is applied; of an animation the first frame is read; colour profiles
    are ignored. Floating-point images must lie in [0, 1].

    FileNotFoundError when there is no such file; ValueError, naming it, when it is not an image, is
    truncated, or holds values that do not say how they map to [0, 1].
    """
    with _opened(path) as image:
        pixels = _rgb(image)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def read_mask(path: str | Path) -> Tensor:
    """Read a mask file as (H, W) bool, upright: True where the value is above half of the file's largest.

    So 0 and 1, 0 and 255, and soft edges all read as meant. In a palette image every index but 0 is object;
    in an image with a transparent part the opaque part is. Errors as for `read_image`.
    """
    with _opened(path) as image:
        if image.mode == "P":
            return torch.from_numpy(np.asarray(image) > 0)
        if image.has_transparency_data and image.mode[:4] != "I;16":
            alpha = np.asarray(image.convert("RGBA").getchannel("A"))
            if alpha.min() < 255:
                return torch.from_numpy(alpha >= 128)
        grey = image if image.mode[0] in "IF" else image.convert("RGB").convert("L")
        values = np.asarray(grey).astype(np.float32)
    return torch.from_numpy((values > values.max() / 2) & (values > 0))


@contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    """The decoded, upright image; whatever Pillow says of a bad file becomes one error that names it."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such image file; check the path")
    if path.is_dir():
        raise ValueError(f"{path}: expected an image file, this is a folder; give the path of one image")
    try:
        with Image.open(path) as file:
            file.load()
            yield ImageOps.exif_transpose(file)
    except (PermissionError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise ValueError(f"{path}: not an image, or of an unknown kind; replace or remove it") from None
    except Exception as error:  # damaged files raise nearly anything: OSError, SyntaxError, struct.error
        raise ValueError(f"{path}: unreadable as an image ({error}); replace or remove it") from error


def _rgb(image: Image.Image) -> np.ndarray:
    """(H, W, 3) float32 in [0, 1] of an image in any of Pillow's modes."""
    if image.mode[0] in "IF":  # one channel of 16-bit, 32-bit or floating-point values
        grey = np.asarray(image).astype(np.float32)
        top = 1.0 if image.mode == "F" else 65535.0
        if not (grey.min() >= 0 and grey.max() <= top):  # also False for NaN
            raise ValueError(f"its values go from {grey.min():g} to {grey.max():g}, expected 0 to {top:g}")
        return np.repeat(grey[..., None] / top, 3, axis=2)
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB"), dtype=np.float32) / 255
    rgba = np.asarray(image.convert("RGBA"), dtype=np.float32) / 255
    colour, alpha = rgba[..., :3], rgba[..., 3:]
    return colour * alpha + (1 - alpha)


def list_files(folder: Path) -> list[Path]:
    """The files directly inside `folder`, sorted by name, save hidden ones and file managers' own."""
    left_behind = {"thumbs.db", "desktop.ini"}
    visible = (path for path in folder.iterdir() if path.is_file() and path.name[0] != ".")
    return sorted(path for path in visible if path.name.lower() not in left_behind)


def mask_box(mask: Tensor) -> Tensor:
    """The tightest box around the True pixels of an (H, W) mask: (1, 4) float32, half-open, or (0, 4)."""
    rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
    if len(rows) == 0:
        return torch.zeros(0, 4)
    return torch.tensor([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], dtype=torch.float32)


def fit(
    image: Tensor, size: int | tuple[int, int], *, boxes: Tensor | None = None, mask: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Scale an image until it just covers `size`, crop the centre, and take its boxes and mask along.

    image: (3, H, W) in [0, 1]; size: pixels per side, or (height, width); boxes: (K, 4); mask: (H, W) bool.
    Returns the three at the new size. Scaling is bilinear and antialiased. Boxes are clipped to the crop, and
    dropped when nothing of them is left in it. (Ground-truth areas must be those inside the crop; the
    released code of the paper takes them before it.)
    """
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1:
        raise ValueError(f"size={size}: expected 1 pixel or more per side")
    scale = max(height / image.shape[1], width / image.shape[2])
    scaled = (max(height, round(image.shape[1] * scale)), max(width, round(image.shape[2] * scale)))
    top, left = (scaled[0] - height) // 2, (scaled[1] - width) // 2

    def cover(planes: Tensor) -> Tensor:
        if planes.shape[1:] != scaled:
            planes = F.interpolate(planes[None], scaled, mode="bilinear", antialias=True)[0]
        return planes[:, top : top + height, left : left + width].clamp(0, 1).contiguous()

    boxes = torch.zeros(0, 4) if boxes is None else boxes
    stretch = boxes.new_tensor([scaled[1] / image.shape[2], scaled[0] / image.shape[1]] * 2)
    boxes = boxes * stretch - boxes.new_tensor([left, top, left, top])
    boxes = boxes.clamp(boxes.new_zeros(4), boxes.new_tensor([width, height, width, height]))
    boxes = boxes[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]
    return cover(image), boxes, None if mask is None else cover(mask[None].float())[0] >= 0.5
