"""Image files of every common kind, read into one form.

Files go wrong in dull ways: a 16-bit scan that turns white, a CMYK print that turns negative, a telephone's
photograph that lies on its side, a download that stopped half-way. Each is settled here, once.
"""

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

__all__ = [
    "Enough",
    "Held",
    "Stored",
    "as_float",
    "check_channels",
    "held_in",
    "open_image",
    "read_image",
    "read_stored",
    "stored_size",
]

Enough = Callable[[int, int], bool]
"""(height, width) of an image -> whether that many pixels are enough for what is wanted of it."""

_ORIENTATION = 0x0112  # of EXIF; from 5 on height and width are exchanged

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, Pillow's own weights


@dataclass(frozen=True)
class Held:
    """The bytes of an image file that is no file of its own, and what it is called in errors."""

    name: str
    content: bytes

    def __str__(self) -> str:
        return self.name


def held_in(path: Path, part: tuple[int, int], name: str) -> Held:
    """An image that lies within another file, such as an archive.

    part: where it begins, and of how many bytes it is.

    Raises FileNotFoundError for a missing file, ValueError for one that ends before the image does.
    """
    begin, size = part
    try:
        with path.open("rb") as file:
            file.seek(begin)
            content = file.read(size)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file, though {name} should be in it; check the path") from None
    if len(content) != size:
        raise ValueError(f"{name}: its archive ends within it; replace {path}")
    return Held(name, content)


def read_image(path: str | Path | Held, channels: int = 3) -> Tensor:
    """Read an image file as (channels, H, W) float32 in [0, 1], upright.

    channels: 3 for RGB; 1 for grey (BT.601 luma of colours); 4 for RGB and opacity.

    Grey, palette, 1-bit and CMYK images become RGB; 16-bit and 32-bit grey is scaled by 65535 and keeps its precision;
    transparent pixels are laid over white, save with four channels; the EXIF orientation is applied; of an animation the
    first frame is read; colour profiles are ignored. Floating-point images must lie in [0, 1].

    FileNotFoundError when there is no such file; ValueError, naming it, when it is no regular file, is not an image, is
    truncated, has more pixels than `PIL.Image.MAX_IMAGE_PIXELS`, or holds values that do not say how they map to [0, 1].
    """
    return as_float(read_stored(path, channels).pixels).contiguous()


@dataclass(frozen=True)
class Stored:
    """An image in the form in which its file has it.

    pixels: (channels, H, W), uint8 in 0 to 255 where the file has 8 bit, else float32 in [0, 1]; channels innermost in memory.
    size: (H, W) of the whole file, upright; there are fewer pixels where fewer were enough.
    """

    pixels: Tensor
    size: tuple[int, int]

    def boxes(self, boxes: Tensor) -> Tensor:
        """Boxes (K, 4) of the whole file in these pixels."""
        down, across = self.pixels.shape[1] / self.size[0], self.pixels.shape[2] / self.size[1]
        return boxes if down == across == 1 else boxes * boxes.new_tensor([across, down, across, down])


def read_stored(path: str | Path | Held, channels: int = 3, enough: Enough | None = None) -> Stored:
    """As `read_image`, but left in 8 bit where the file has no more: to cut a part out first takes a fraction of the time.

    enough: where it is given, a JPEG file is decoded to 1/8, 1/4 or 1/2 of its sides, as long as that is enough.
    """
    check_channels(channels)
    with _opened(path, enough) as (image, size):
        pixels = _pixels(image, channels)
    return Stored(torch.from_numpy(np.array(pixels, order="C")).permute(2, 0, 1), size)  # a copy: Pillow's own is read-only


def as_float(image: Tensor) -> Tensor:
    """An image (C, H, W) of `read_stored` as float32 in [0, 1]; one that is float already is itself."""
    return image.float().div_(255) if image.dtype == torch.uint8 else image


def check_channels(channels: int) -> int:
    """`channels` of an image: 1 (grey), 3 (RGB) or 4 (RGB and opacity). ValueError for any other."""
    if isinstance(channels, bool) or channels not in (1, 3, 4):
        raise ValueError(f"channels={channels!r}: expected 1 (grey), 3 (RGB) or 4 (RGB and opacity)")
    return channels


def stored_size(path: str | Path) -> tuple[int, int]:
    """(height, width) of the pixels as they are stored, before the EXIF orientation turns them upright."""
    with Image.open(path) as file:
        return file.height, file.width


@contextmanager
def open_image(path: str | Path | Held) -> Iterator[Image.Image]:
    """The decoded, upright image; whatever Pillow says of a bad file becomes one error that names it.

    Errors as for `read_image`. Pipes and devices are not opened: reading one may never end.
    """
    with _opened(path, None) as (image, _):
        yield image


@contextmanager
def _opened(path: str | Path | Held, enough: Enough | None) -> Iterator[tuple[Image.Image, tuple[int, int]]]:
    """The image, and (H, W) of the whole file, upright; see `read_stored`."""
    readable: Path | io.BytesIO
    if isinstance(path, Held):
        readable = io.BytesIO(path.content)
    else:
        readable = path = _file(Path(path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(readable) as file:
                size, times = (file.height, file.width), 1
                if enough is not None and file.format == "JPEG":
                    turned = file.getexif().get(_ORIENTATION, 1) >= 5
                    size = size[::-1] if turned else size
                    times = next((each for each in (8, 4, 2) if enough(*(-(-side // each) for side in size))), 1)
                    if times > 1:
                        file.draft(None, (-(-file.width // times), -(-file.height // times)))
                file.load()
                upright = file if file.getexif().get(_ORIENTATION, 1) == 1 else ImageOps.exif_transpose(file)
        yield upright, size if times > 1 else (upright.height, upright.width)
    except (PermissionError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise ValueError(f"{path}: not an image, or of an unknown kind; replace or remove it") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise ValueError(
            f"{path}: more than {Image.MAX_IMAGE_PIXELS:,} pixels; shrink or remove it, or raise PIL.Image.MAX_IMAGE_PIXELS"
        ) from None
    except Exception as error:  # damaged files raise nearly anything: OSError, SyntaxError, struct.error
        raise ValueError(f"{path}: unreadable as an image ({error}); replace or remove it") from error


def _file(path: Path) -> Path:
    if not path.exists():
        if path.is_symlink():
            raise ValueError(f"{path}: a link to {path.readlink()}, which is not there; mend or remove it")
        raise FileNotFoundError(f"{path}: no such image file; check the path")
    if path.is_dir():
        raise ValueError(f"{path}: expected an image file, this is a folder; give the path of one image")
    if not path.is_file():
        raise ValueError(f"{path}: expected an image file, this is a pipe or a device; remove it")
    return path


def _pixels(image: Image.Image, channels: int) -> np.ndarray:
    """(H, W, channels) of an image in any of Pillow's modes: uint8 where it has no more than 8 bit, else float32 in [0, 1]."""
    if image.mode[0] in "IF":  # one channel of 16-bit, 32-bit or floating-point values
        return _in_channels(_deep(image)[..., None], channels)
    if image.has_transparency_data:
        if channels == 4:
            return np.asarray(image.convert("RGBA"))
        pixels = _scaled(image, "RGBA")
        colour, alpha = pixels[..., :3], pixels[..., 3:]
        return _in_channels(colour * alpha + (1 - alpha), channels)
    if channels == 1 and image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))[..., None]
    if channels == 3:
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    return _in_channels(_scaled(image, "RGB"), channels)


def _deep(image: Image.Image) -> np.ndarray:
    """(H, W) float32 in [0, 1] of deep grey; ValueError for values outside the kind's range."""
    grey = np.asarray(image).astype(np.float32)
    top = 1.0 if image.mode == "F" else 65535.0
    if not (grey.min() >= 0 and grey.max() <= top):  # also False for NaN
        raise ValueError(f"its values go from {grey.min():g} to {grey.max():g}, expected 0 to {top:g}")
    return grey / top


def _scaled(image: Image.Image, mode: str) -> np.ndarray:
    pixels = np.asarray(image.convert(mode), dtype=np.float32)
    pixels /= 255  # in place: an image may fill much of the memory
    return pixels


def _in_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Opaque pixels (H, W, 1 or 3) in 1, 3 or 4 channels."""
    if channels == 1:
        return pixels if pixels.shape[2] == 1 else np.minimum(pixels @ _LUMA, 1)[..., None]
    colour = pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)
    return colour if channels == 3 else np.concatenate([colour, np.ones_like(colour[..., :1])], axis=2)
