"""Every common kind of image file reads as the same picture; every broken one names itself."""

import os
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from maskerlib.data.files.images import read_image, stored_size

GREY = np.array([[0, 51, 102], [153, 204, 255]], np.uint8)  # 2 rows, 3 columns: no symmetry
COLOUR = np.stack([GREY, 255 - GREY, GREY // 3], axis=2)


def saved(tmp_path, image: Image.Image, suffix: str = ".png", **options):
    path = tmp_path / f"image{suffix}"
    image.save(path, **options)
    return path


def expected(colour: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(colour.astype(np.float32) / 255).permute(2, 0, 1)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".ppm"])
def test_rgb(tmp_path, suffix):
    image = read_image(saved(tmp_path, Image.fromarray(COLOUR), suffix))
    assert image.shape == (3, 2, 3) and image.dtype == torch.float32 and image.is_contiguous()
    torch.testing.assert_close(image, expected(COLOUR))


def test_grey_and_one_bit(tmp_path):
    grey = read_image(saved(tmp_path, Image.fromarray(GREY)))
    torch.testing.assert_close(grey, expected(GREY[..., None].repeat(3, 2)))
    bits = read_image(saved(tmp_path, Image.fromarray(GREY > 120)))
    torch.testing.assert_close(bits, torch.from_numpy(GREY > 120).float().expand(3, 2, 3))


def test_transparent_pixels_lie_over_white(tmp_path):
    alpha = np.array([[0, 0, 0], [255, 255, 51]], np.uint8)
    image = read_image(saved(tmp_path, Image.fromarray(np.dstack([COLOUR, alpha]))))
    assert (image[:, 0] == 1).all()
    torch.testing.assert_close(image[:, 1, :2], expected(COLOUR)[:, 1, :2])
    torch.testing.assert_close(image[:, 1, 2], expected(COLOUR)[:, 1, 2] * 0.2 + 0.8)
    grey = read_image(saved(tmp_path, Image.fromarray(np.dstack([GREY, alpha]))))
    assert (grey[:, 0] == 1).all() and grey[0, 1, 0] == pytest.approx(153 / 255)


def test_palette_with_and_without_a_transparent_index(tmp_path):
    image = Image.fromarray(np.array([[0, 1, 2], [2, 1, 0]], np.uint8)).convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    opaque = read_image(saved(tmp_path, image))
    assert opaque[:, 0].T.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    holed = read_image(saved(tmp_path, image, transparency=1))
    assert holed[:, 0].T.tolist() == [[1, 0, 0], [1, 1, 1], [0, 0, 1]]
    soft = read_image(saved(tmp_path, image, transparency=bytes([255, 0, 255])))
    assert torch.equal(soft, holed)


@pytest.mark.parametrize(("suffix", "tolerance"), [(".tiff", 0.0), (".jpg", 0.03)])
def test_cmyk_is_not_a_negative(tmp_path, suffix, tolerance):
    options = {"quality": 100} if suffix == ".jpg" else {}
    red = read_image(saved(tmp_path, Image.new("CMYK", (16, 16), (0, 255, 255, 0)), suffix, **options))
    torch.testing.assert_close(red[:, 8, 8], torch.tensor([1.0, 0.0, 0.0]), atol=tolerance, rtol=0)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bit_grey_keeps_its_scale(tmp_path, suffix):
    deep = np.array([[0, 256, 32768], [40000, 65534, 65535]], np.uint16)
    image = read_image(saved(tmp_path, Image.fromarray(deep), suffix))
    torch.testing.assert_close(image, torch.from_numpy(deep.astype(np.float32) / 65535).expand(3, 2, 3))


def test_sixteen_bit_colour_png(tmp_path):
    """Pillow cannot write one, so it is put together by hand: one row of two pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = struct.pack(">x6H", 0, 32768, 65535, 65535, 0, 16384)
    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    path = tmp_path / "deep.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    torch.testing.assert_close(
        read_image(path)[:, 0].T, torch.tensor([[0, 0.5, 1], [1, 0, 0.25]]), atol=1 / 255, rtol=0
    )


def test_integers_and_floats(tmp_path):
    whole = read_image(saved(tmp_path, Image.fromarray(np.array([[0, 65535]], np.int32)), ".tiff"))
    assert whole[0].tolist() == [[0, 1]]
    real = read_image(saved(tmp_path, Image.fromarray(np.array([[0.25, 1.0]], np.float32)), ".tiff"))
    assert real[0].tolist() == [[0.25, 1]]


BAD_VALUES = [np.float32([[0.5, 255.0]]), np.float32([[0.5, np.nan]]), np.int32([[-1, 70000]])]


@pytest.mark.parametrize("bad", BAD_VALUES)
def test_values_of_unknown_scale_are_refused(tmp_path, bad):
    path = saved(tmp_path, Image.fromarray(bad), ".tiff")
    with pytest.raises(ValueError, match=r"image\.tiff.*expected 0 to"):
        read_image(path)


UPRIGHT = {  # EXIF orientation: what the stored pixels must go through
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = read_image(saved(tmp_path, Image.fromarray(COLOUR), exif=exif))
    torch.testing.assert_close(image, expected(UPRIGHT[orientation](COLOUR).copy()))


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("L", (4, 4), value) for value in (255, 0)]
    assert (
        read_image(saved(tmp_path, frames[0], ".gif", save_all=True, append_images=frames[1:])) == 1
    ).all()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".tiff"])
def test_a_truncated_file_names_itself(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    path = saved(tmp_path, Image.fromarray(noise), suffix)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"image\{suffix}: .*replace or remove it") as error:
        read_image(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"not an image at all", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_image_names_itself(tmp_path, content):
    path = tmp_path / "photo.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"photo\.png: .*replace or remove it"):
        read_image(path)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.png: no such image file"):
        read_image(tmp_path / "nowhere.png")
    with pytest.raises(ValueError, match="this is a folder"):
        read_image(tmp_path)


# What could hang or fill the memory


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
@pytest.mark.timeout(20)
def test_a_pipe_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ValueError, match=r"pipe\.png: expected an image file, this is a pipe or a device"):
        read_image(tmp_path / "pipe.png")


def test_a_link_to_nothing_says_where_it_leads(tmp_path):
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(ValueError, match=r"link\.png: a link to .*gone\.png, which is not there; mend or remove it"):
        read_image(tmp_path / "link.png")
    saved(tmp_path, Image.fromarray(COLOUR)).rename(tmp_path / "gone.png")
    torch.testing.assert_close(read_image(tmp_path / "link.png"), expected(COLOUR))


@pytest.mark.parametrize("times", [1, 2])
def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, monkeypatch, times):
    """Pillow warns beyond its limit and raises beyond twice that; here both are one error."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("decoded"))
    path = tmp_path / "bomb.ppm"
    path.write_bytes(b"P6 101 %d 255\n" % (times + 1))
    with pytest.raises(ValueError, match=r"bomb\.ppm: more than 100 pixels; shrink or remove it, or raise PIL"):
        read_image(path)


def test_pixels_up_to_the_limit_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", COLOUR[..., 0].size)
    assert read_image(saved(tmp_path, Image.fromarray(COLOUR))).shape == (3, 2, 3)


# One and four channels


def test_grey_of_colours_is_their_luma(tmp_path):
    path = saved(tmp_path, Image.fromarray(COLOUR))
    red, green, blue = read_image(path)
    grey = read_image(path, 1)
    assert grey.shape == (1, 2, 3) and grey.is_contiguous() and grey.dtype == torch.float32
    torch.testing.assert_close(grey[0], 0.299 * red + 0.587 * green + 0.114 * blue)
    white = read_image(saved(tmp_path, Image.new("RGB", (2, 2), "white")), 1)
    assert white.max() <= 1 and white.min() > 1 - 1e-6


def test_one_channel_keeps_grey_as_it_is(tmp_path):
    assert torch.equal(read_image(saved(tmp_path, Image.fromarray(GREY)), 1), expected(GREY[..., None]))
    bits = read_image(saved(tmp_path, Image.fromarray(GREY > 120)), 1)
    assert torch.equal(bits[0], torch.from_numpy(GREY > 120).float())


@pytest.mark.parametrize("kind", [np.uint16, np.int32])
def test_deep_grey_keeps_its_precision_in_any_number_of_channels(tmp_path, kind):
    deep = np.array([[0, 1, 40000], [40001, 65534, 65535]], kind)
    path = saved(tmp_path, Image.fromarray(deep), ".tiff")
    for channels in (1, 3, 4):
        image = read_image(path, channels)
        assert image.shape == (channels, 2, 3)
        assert np.array_equal(np.rint(image[0].double().numpy() * 65535), deep)
    assert (image[3] == 1).all() and torch.equal(image[0], image[2])


def test_four_channels_keep_colour_and_opacity_apart(tmp_path):
    alpha = np.array([[0, 0, 0], [255, 255, 51]], np.uint8)
    image = read_image(saved(tmp_path, Image.fromarray(np.dstack([COLOUR, alpha]))), 4)
    torch.testing.assert_close(image, expected(np.dstack([COLOUR, alpha])))
    opaque = read_image(saved(tmp_path, Image.fromarray(COLOUR)), 4)
    assert torch.equal(opaque[:3], expected(COLOUR)) and (opaque[3] == 1).all()


def test_one_channel_lays_transparent_pixels_over_white(tmp_path):
    alpha = np.array([[0, 0, 0], [255, 255, 51]], np.uint8)
    grey = read_image(saved(tmp_path, Image.fromarray(np.dstack([GREY, alpha]))), 1)
    torch.testing.assert_close(grey[0], torch.tensor([[1, 1, 1], [0.6, 0.8, 1]]))


@pytest.mark.parametrize("channels", [0, 2, True, "3"])
def test_other_numbers_of_channels_are_refused(tmp_path, channels):
    with pytest.raises(ValueError, match=r"channels=.*: expected 1 \(grey\), 3 \(RGB\) or 4"):
        read_image(saved(tmp_path, Image.fromarray(COLOUR)), channels)


def test_the_stored_size_is_that_before_turning(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path, Image.fromarray(COLOUR), exif=exif)
    assert stored_size(path) == (2, 3) and read_image(path).shape == (3, 3, 2)
