"""A mask file is read as meant or refused: two values pass, label images, trimaps and pictures say what is missing."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter

from maskerlib.data.files.masks import NotTwoValued, check_values, read_mask

GREY = np.array([[0, 51, 102], [153, 204, 255]], np.uint8)  # 2 rows, 3 columns: no symmetry
COLOUR = np.stack([GREY, 255 - GREY, GREY // 3], axis=2)


def saved(tmp_path, image: Image.Image | np.ndarray, suffix: str = ".png", **options):
    path = tmp_path / f"mask{suffix}"
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(path, **options)
    return path


def blocks(*values: float, kind=np.uint8, side: int = 6) -> np.ndarray:
    """A row of squares, one of each value."""
    return np.repeat(np.tile(np.array(values, kind), (side, 1)), side, axis=1)


def disc(side: int = 60) -> Image.Image:
    image = Image.new("L", (side, side))
    ImageDraw.Draw(image).ellipse((side // 4, side // 4, 3 * side // 4, 3 * side // 4), fill=255)
    return image


def refused(path, message: str, **options):
    with pytest.raises(NotTwoValued, match=message) as found:
        read_mask(path, **options)
    assert path.name in str(found.value) and "\n" not in str(found.value)


@pytest.mark.parametrize("top", [1, 255, 65535])
def test_masks_of_any_scale(tmp_path, top):
    pattern = np.array([[0, 1, 1], [0, 0, 1]], bool)
    pixels = pattern.astype(np.uint16 if top > 255 else np.uint8) * top
    assert torch.equal(read_mask(saved(tmp_path, Image.fromarray(pixels))), torch.from_numpy(pattern))


def test_masks_of_every_kind(tmp_path):
    pattern = np.array([[0, 1, 2], [0, 0, 1]], np.uint8)
    palette = Image.fromarray((pattern > 0).astype(np.uint8)).convert("P")
    palette.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    cutout = Image.fromarray(np.dstack([COLOUR, (pattern > 0) * np.uint8(255)]))
    opaque = Image.fromarray(np.dstack([(pattern > 0) * np.uint8(255)] * 3 + [np.full_like(pattern, 255)]))
    for image in (palette, cutout, opaque, Image.fromarray(pattern > 0)):
        assert torch.equal(read_mask(saved(tmp_path, image)), torch.from_numpy(pattern > 0))
    soft = np.array([[0, 127, 128, 255]], np.uint8)
    assert read_mask(saved(tmp_path, Image.fromarray(soft))).tolist() == [[False, False, True, True]]
    assert not read_mask(saved(tmp_path, Image.fromarray(0 * GREY))).any()


# Soft edges are those of a mask


@pytest.mark.parametrize("blur", [0.5, 1, 4, 8])
def test_a_blurred_edge_is_cut_at_half(tmp_path, blur):
    soft = disc(120).filter(ImageFilter.GaussianBlur(blur))
    assert len(np.unique(soft)) > 20
    assert torch.equal(read_mask(saved(tmp_path, soft)), torch.from_numpy(np.asarray(soft) > 127.5))


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_a_supersampled_edge_has_few_values_and_passes(tmp_path, factor):
    soft = disc(60 * factor).resize((60, 60), Image.Resampling.BOX)
    values = len(np.unique(soft))
    assert 3 <= values <= 20
    assert torch.equal(read_mask(saved(tmp_path, soft)), torch.from_numpy(np.asarray(soft) > 127.5))


def test_a_lossy_mask_passes(tmp_path):
    mask = read_mask(saved(tmp_path, disc(), ".jpg", quality=75))
    assert (mask ^ torch.from_numpy(np.asarray(disc()) > 0)).float().mean() < 0.01


def test_plateaus_that_compression_leaves_beside_the_ends_pass(tmp_path):
    mask = read_mask(saved(tmp_path, blocks(0, 1, 254, 255)))
    assert torch.equal(mask, torch.from_numpy(blocks(0, 1, 254, 255) > 127))


def test_soft_masks_of_floats_and_deep_grey(tmp_path):
    edge = np.array([[0, 0.2, 0.7, 1]])
    assert read_mask(saved(tmp_path, np.float32(edge), ".tiff")).tolist() == [[False, False, True, True]]
    assert read_mask(saved(tmp_path, np.uint16(edge * 65535))).tolist() == [[False, False, True, True]]


# Label images, trimaps and pictures are not


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (blocks(1, 2), "no background of 0 among its values 1, 2"),
        (blocks(1, 2, 3), "no background of 0 among its values 1, 2, 3"),
        (blocks(0, 1, 2), "the labels 0, 1, 2"),
        (np.uint8([[0, 1, 2]]), "the labels 0, 1, 2"),
        (blocks(0, 1, 255), "the labels 0, 1, 255"),
        (np.uint8([[0, 1, 255]]), "the labels 0, 1, 255"),
        (blocks(0, 7, 15, 255), "the labels 0, 7, 15, 255"),
        (blocks(0, 128, 255), "the labels 0, 128, 255"),
        (blocks(0, 85, 170, 255), "the labels 0, 85, 170, 255"),
        (blocks(0, 1, 2, kind=np.uint16), "the labels 0, 1, 2"),
        (blocks(0, 1, 2, kind=np.int32), "the labels 0, 1, 2"),
        (blocks(*range(10)), r"the labels 0, 1, 2, 3, 4, 5 \.\.\. 9"),
        (blocks(*range(30)), r"30 labels, 0, 1, 2"),
        (blocks(*range(0, 250, 8)), "32 labels"),
        (blocks(2), "the one value 2"),
        (np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8), "a picture rather than a mask"),
        (blocks(3, 255), "no background of 0"),
    ],
)
def test_what_is_no_two_valued_mask_is_refused_with_the_mend(tmp_path, pixels, message):
    suffix = ".tiff" if pixels.dtype == np.int32 else ".png"
    refused(saved(tmp_path, pixels, suffix), message + r".*; expected 0 and one other value\. .*object=\(1,\)")


@pytest.mark.parametrize("bad", [np.nan, -1.0])
def test_values_that_are_none_are_refused(tmp_path, bad):
    refused(saved(tmp_path, np.float32([[0, 1, bad]]), ".tiff"), "values from")


def test_a_palette_of_several_indices_is_refused(tmp_path):
    image = Image.fromarray(blocks(0, 1, 2)).convert("P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    refused(saved(tmp_path, image), "the labels 0, 1, 2")


def test_a_photograph_is_refused(tmp_path):
    ramp = np.tile(np.arange(256, dtype=np.uint8), (60, 1))
    refused(saved(tmp_path, np.dstack([ramp, ramp[:, ::-1], ramp])), "a picture|no background|labels")


@pytest.mark.parametrize("palette", [[255, 255, 255, 0, 0, 0], [255, 0, 0, 0, 0, 0]])
def test_a_palette_that_begins_with_the_object_is_not_read_upside_down(tmp_path, palette):
    image = Image.fromarray(np.uint8([[1, 0, 1]])).convert("P")
    image.putpalette(palette)
    assert read_mask(saved(tmp_path, image)).tolist() == [[False, True, False]]


def test_a_white_background_of_a_coloured_object_is_index_0(tmp_path):
    image = Image.fromarray(np.uint8([[1, 0, 1]])).convert("P")
    image.putpalette([255, 255, 255, 255, 0, 0])
    assert read_mask(saved(tmp_path, image)).tolist() == [[True, False, True]]


@pytest.mark.parametrize("value", [1, 255])
def test_a_mask_that_is_all_object(tmp_path, value):
    assert read_mask(saved(tmp_path, blocks(value))).all()


# What is object can be said


def test_a_trimap_is_read_as_told(tmp_path):
    """1 object, 2 background, 3 border, as in Oxford-IIIT Pet."""
    path = saved(tmp_path, np.uint8([[2, 3, 1, 1], [2, 2, 3, 1]]))
    assert read_mask(path, object=(1,)).tolist() == [[False, False, True, True], [False, False, False, True]]
    assert read_mask(path, object=[1, 3]).tolist() == [[False, True, True, True], [False, False, True, True]]
    assert torch.equal(read_mask(path, object={1, 3}, ignore=(3,)), read_mask(path, object=(1,)))
    assert not read_mask(path, object=(9,)).any()


def test_a_void_is_neither(tmp_path):
    path = saved(tmp_path, np.uint8([[0, 255, 1, 1, 255, 0]]))
    assert read_mask(path, ignore=(255,)).tolist() == [[False, False, True, True, False, False]]
    assert not read_mask(saved(tmp_path, np.uint8([[0, 255]])), ignore=(255,)).any()
    assert not read_mask(saved(tmp_path, np.uint8([[255, 255]])), ignore=(255,)).any()
    refused(saved(tmp_path, blocks(0, 1, 2, 255)), "the labels 0, 1, 2;", ignore=(255,))


def test_indices_of_a_palette_can_be_named_whatever_their_colours(tmp_path):
    image = Image.fromarray(np.uint8([[0, 1, 2]])).convert("P")
    for palette in ([0, 0, 0, 128, 0, 0, 0, 128, 0], [255, 255, 255, 9, 9, 9, 0, 0, 0]):
        image.putpalette(palette)
        assert read_mask(saved(tmp_path, image), object=(2,)).tolist() == [[False, False, True]]


def test_deep_labels_and_one_bit_can_be_named(tmp_path):
    assert read_mask(saved(tmp_path, np.uint16([[0, 1000, 2000]])), object=(1000,)).tolist() == [[False, True, False]]
    assert read_mask(saved(tmp_path, np.array([[False, True]])), object=(1,)).tolist() == [[False, True]]


def test_colours_have_no_values_to_name(tmp_path):
    refused(saved(tmp_path, COLOUR), "in colour or transparent; object= and ignore= need a grey", object=(1,))
    clear = np.dstack([COLOUR, 255 * (GREY > 100).astype(np.uint8)])
    refused(saved(tmp_path, clear), "in colour or transparent", ignore=(1,))


@pytest.mark.parametrize("bad", [0, 1, "1", (True,), ("1",), (float("nan"),), (None,)])
def test_values_are_a_collection_of_numbers(tmp_path, bad):
    with pytest.raises(ValueError, match=r"object=.*: expected a collection of values, such as \(1,\)"):
        read_mask(saved(tmp_path, blocks(0, 1)), object=bad)
    with pytest.raises(ValueError, match="ignore=None"):
        read_mask(saved(tmp_path, blocks(0, 1)), ignore=None)
    assert check_values("object", np.array([1, 3])) == (1, 3) and check_values("object", range(2)) == (0, 1)


def test_a_damaged_file_is_not_called_a_label_image(tmp_path):
    path = saved(tmp_path, disc())
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ValueError, match="replace or remove it") as found:
        read_mask(path)
    assert not isinstance(found.value, NotTwoValued)
