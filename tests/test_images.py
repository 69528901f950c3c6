"""Every common kind of image file reads as the same picture; every broken one names itself; boxes follow."""

import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from maskerlib.images import fit, list_files, mask_box, read_image, read_mask

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


@pytest.mark.parametrize("top", [1, 255, 65535])
def test_masks_of_any_scale(tmp_path, top):
    pattern = np.array([[0, 1, 1], [0, 0, 1]], bool)
    pixels = pattern.astype(np.uint16 if top > 255 else np.uint8) * top
    assert torch.equal(read_mask(saved(tmp_path, Image.fromarray(pixels))), torch.from_numpy(pattern))


def test_masks_of_every_kind(tmp_path):
    pattern = np.array([[0, 1, 2], [0, 0, 1]], np.uint8)
    palette = Image.fromarray(pattern).convert("P")
    palette.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    cutout = Image.fromarray(np.dstack([COLOUR, (pattern > 0) * np.uint8(255)]))
    opaque = Image.fromarray(np.dstack([(pattern > 0) * np.uint8(255)] * 3 + [np.full_like(pattern, 255)]))
    for image in (palette, cutout, opaque, Image.fromarray(pattern > 0)):
        assert torch.equal(read_mask(saved(tmp_path, image)), torch.from_numpy(pattern > 0))
    soft = np.array([[0, 127, 128, 255]], np.uint8)
    assert read_mask(saved(tmp_path, Image.fromarray(soft))).tolist() == [[False, False, True, True]]
    assert not read_mask(saved(tmp_path, Image.fromarray(0 * GREY))).any()


def test_listing_leaves_out_what_file_managers_add(tmp_path):
    for name in ("b.png", "A.PNG", ".DS_Store", "Thumbs.db"):
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    assert [path.name for path in list_files(tmp_path)] == ["A.PNG", "b.png"]


def test_mask_box_is_half_open():
    mask = torch.zeros(6, 8, dtype=torch.bool)
    assert mask_box(mask).shape == (0, 4)
    mask[2:4, 5] = True
    assert mask_box(mask).tolist() == [[5, 2, 6, 4]]
    assert mask_box(torch.ones(6, 8, dtype=torch.bool)).tolist() == [[0, 0, 8, 6]]


def test_fit_to_its_own_size_changes_nothing():
    image, mask = torch.rand(3, 6, 8), torch.rand(6, 8) > 0.5
    boxes = torch.tensor([[0.0, 0.0, 8.0, 6.0], [1.0, 2.0, 3.0, 4.0]])
    fitted = fit(image, (6, 8), boxes=boxes, mask=mask)
    assert all(torch.equal(after, before) for after, before in zip(fitted, (image, boxes, mask), strict=True))


def test_fit_by_hand():
    """8 high, 16 wide, to 4x4: halved to 4x8, then 2 columns fall off on either side."""
    image = torch.zeros(3, 8, 16)
    image[:, :, 4:8] = 1
    boxes = torch.tensor([[4.0, 0, 8, 8], [0, 2, 6, 6], [0, 0, 4, 8], [10, 4, 16, 8]])
    fitted, moved, mask = fit(image, 4, boxes=boxes, mask=image[0] > 0)
    assert moved.tolist() == [[0, 0, 2, 4], [0, 1, 1, 3], [3, 2, 4, 4]]  # the third lay outside the crop
    assert mask.tolist() == [[True, True, False, False]] * 4
    assert fitted.shape == (3, 4, 4)
    assert fitted[0, 1].tolist() == [
        0.875,
        0.875,
        0.125,
        0,
    ]  # antialiasing weighs 4 columns by 1, 3, 3, 1 eighths


def test_fit_without_boxes_or_mask():
    fitted, boxes, mask = fit(torch.rand(3, 5, 9), (7, 3))
    assert fitted.shape == (3, 7, 3) and boxes.shape == (0, 4) and mask is None
    assert 0 <= fitted.min() and fitted.max() <= 1
    with pytest.raises(ValueError, match="size=0"):
        fit(torch.rand(3, 5, 9), 0)


@given(st.integers(20, 80), st.integers(20, 80), st.integers(8, 60), st.data())
def test_fit_moves_boxes_and_masks_alike(height, width, size, data):
    x0, y0 = data.draw(st.integers(0, width - 8)), data.draw(st.integers(0, height - 8))
    x1, y1 = data.draw(st.integers(x0 + 8, width)), data.draw(st.integers(y0 + 8, height))
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[y0:y1, x0:x1] = True
    box = torch.tensor([[x0, y0, x1, y1]], dtype=torch.float32)
    _, boxes, fitted = fit(torch.zeros(3, height, width), size, boxes=box, mask=mask)
    assert fitted.shape == (size, size)
    for found in mask_box(fitted):
        assert (boxes[0] - found).abs().max() <= 1
    if len(boxes):
        assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= size).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
