"""A user's own folder: what is good loads as meant, and whatever is wrong is named before training."""

import unicodedata

import numpy as np
import pytest
import torch
from PIL import Image

from maskerlib.folder import Folder
from maskerlib.samples import batches


def put(path, width=8, height=6, mark=(0, 0, 0, 0), value=255, **options):
    """Save a black image with one rectangle (x0, y0, x1, y1) of `value`."""
    pixels = np.zeros((height, width, 3), np.uint8)
    x0, y0, x1, y1 = mark
    pixels[y0:y1, x0:x1] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def put_mask(path, width=8, height=6, mark=(2, 1, 5, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((height, width), np.uint8)
    pixels[mark[1] : mark[3], mark[0] : mark[2]] = 255
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def root(tmp_path):
    """Two cats and a dog, 8 wide and 6 high."""
    put(tmp_path / "images" / "cat" / "a.png")
    put(tmp_path / "images" / "cat" / "b.png")
    put(tmp_path / "images" / "dog" / "c.png")
    return tmp_path


def write_boxes(root, *rows, header="file,x0,y0,x1,y1", **options):
    (root / "boxes.csv").write_text("\n".join([header, *rows]) + "\n", **({"encoding": "utf-8"} | options))


def refused(root, message, error=ValueError, **options):
    with pytest.raises(error, match=message) as found:
        Folder(root, (6, 8), **options)
    assert "\n" not in str(found.value)


def test_images_alone(root):
    folder = Folder(root, (6, 8))
    assert folder.class_names == ("cat", "dog") and folder.size == (6, 8) and folder.skipped == 0
    assert folder.labels.tolist() == [0, 0, 1]
    assert [sample.name for sample in folder] == ["cat/a.png", "cat/b.png", "dog/c.png"]
    (batch,) = batches(folder, 5)
    assert batch.images.shape == (3, 3, 6, 8) and batch.masks is None
    assert [boxes.shape for boxes in batch.boxes] == [(0, 4)] * 3
    with pytest.raises(IndexError):
        folder[3]


def test_masks_give_boxes(root):
    for name in ("cat/a", "cat/b", "dog/c"):
        put_mask(root / "masks" / f"{name}.png")
    (batch,) = batches(Folder(root, (6, 8)), 3)
    assert batch.masks.shape == (3, 6, 8) and batch.masks[0].sum() == 9
    assert [boxes.tolist() for boxes in batch.boxes] == [[[2, 1, 5, 4]]] * 3


def test_boxes_of_the_file_come_before_those_of_masks(root):
    put_mask(root / "masks" / "cat" / "a.PNG")
    put_mask(root / "masks" / "cat" / "b.png")
    write_boxes(root, "cat/a.png,0,0,8,6", "cat/a.png,1.5,2,3,4", "dog/c.png,7,5,8,6")
    a, b, c = Folder(root, (6, 8))
    assert a.boxes.tolist() == [[0, 0, 8, 6], [1.5, 2, 3, 4]] and a.mask.sum() == 9
    assert b.boxes.tolist() == [[2, 1, 5, 4]]
    assert c.boxes.tolist() == [[7, 5, 8, 6]] and c.mask is None and c.boxes.dtype == torch.float32


def test_everything_is_scaled_and_cropped_together(tmp_path):
    put(tmp_path / "images" / "cat" / "a.png", 16, 8, mark=(4, 0, 8, 8))
    put_mask(tmp_path / "masks" / "cat" / "a.png", 16, 8, mark=(4, 0, 8, 8))
    write_boxes(tmp_path, "cat/a.png,4,0,8,8", "cat/a.png,0,0,3,8")
    (sample,) = Folder(tmp_path, 4)
    assert sample.boxes.tolist() == [[0, 0, 2, 4]]  # the second box lay outside the crop
    assert sample.mask.tolist() == [[True, True, False, False]] * 4
    assert (sample.image[0] > 0.5).tolist() == sample.mask.tolist()


def test_awkward_names(tmp_path):
    """Spaces, accents in either Unicode form, upper case, dots, backslashes, a byte order mark."""
    composed, apart = unicodedata.normalize("NFC", "été"), unicodedata.normalize("NFD", "été")
    put(tmp_path / "images" / "big cat" / f"{apart} 1.v2.JPG")
    put(tmp_path / "images" / "小鸟" / "x y.Png", mark=(0, 0, 4, 6))
    put_mask(tmp_path / "masks" / "小鸟" / "x y.png")
    (tmp_path / "images" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "images" / "小鸟" / "Thumbs.db").write_bytes(b"x")
    row = f"big cat\\{composed} 1.v2.JPG, 1, 2, 3, 4, fine"
    write_boxes(tmp_path, row, header="file,x0, y0 ,x1,y1,note", encoding="utf-8-sig")
    cat, bird = Folder(tmp_path, (6, 8))
    assert cat.boxes.tolist() == [[1, 2, 3, 4]] and cat.name == f"big cat/{composed} 1.v2.JPG"
    assert bird.mask.sum() == 9 and Folder(tmp_path, 6).class_names == ("big cat", "小鸟")


def test_boxes_and_masks_are_those_of_the_upright_image(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side: 8 wide and 6 high becomes 6 wide and 8 high
    put(tmp_path / "images" / "cat" / "a.png", mark=(0, 0, 2, 6), exif=exif)
    put_mask(tmp_path / "masks" / "cat" / "a.png", 6, 8, mark=(0, 0, 6, 2))
    (sample,) = Folder(tmp_path, (8, 6))
    assert sample.boxes.tolist() == [[0, 0, 6, 2]]
    assert torch.equal(sample.image[0] == 1, sample.mask)
    write_boxes(tmp_path, "cat/a.png,0,0,8,6")
    with pytest.raises(ValueError, match="x1 <= 6 and 0 <= y0 < y1 <= 8"):
        Folder(tmp_path)


# What can be wrong with the folder


def test_missing_folders(root, tmp_path):
    refused(tmp_path / "nowhere", "nowhere: no such folder", FileNotFoundError)
    (root / "images").rename(root / "pictures")
    refused(root, "images: no such folder; expected images in", FileNotFoundError)
    (root / "images").mkdir()
    refused(root, "no class folders")


def test_images_in_the_wrong_place(root):
    stray = put(root / "images" / "stray.png")
    refused(root, "stray.png: an image outside a class")
    stray.unlink()
    put(root / "images" / "cat" / "more" / "d.png")
    refused(root, "more: a folder inside a class")


def test_an_empty_class(root):
    (root / "images" / "fox").mkdir()
    refused(root, "fox: a class without images")


def test_a_truncated_image_is_named_or_skipped(root):
    broken = put(root / "images" / "cat" / "b.png", 64, 64, mark=(7, 9, 30, 40))
    broken.write_bytes(broken.read_bytes()[:70])
    refused(root, r"b\.png: ")
    write_boxes(root, "cat/b.png,0,0,5,5", "cat/a.png,0,0,5,5")
    folder = Folder(root, (6, 8), on_corrupt="skip")
    assert folder.skipped == 1 and folder.skipped_files == (broken,)
    assert [sample.name for sample in folder] == ["cat/a.png", "dog/c.png"]
    assert folder.labels.tolist() == [0, 1]


def test_a_text_file_among_the_images_is_not_overlooked(root):
    (root / "images" / "cat" / "notes.txt").write_text("hello")
    refused(root, "notes.txt: not an image")
    assert Folder(root, on_corrupt="skip").skipped == 1


def test_a_class_of_which_nothing_is_left(root):
    (root / "images" / "dog" / "c.png").write_bytes(b"")
    refused(root, "dog: a class of unreadable images only", on_corrupt="skip")


def test_unknown_choice(root):
    refused(root, "on_corrupt='ignore': expected 'raise' or 'skip'", on_corrupt="ignore")


# What can be wrong with masks


def test_a_mask_of_another_size(root):
    put_mask(root / "masks" / "cat" / "a.png", 6, 8)
    refused(root, r"a\.png: 6x8 pixels, but its image has 8x6")


def test_an_empty_mask(root):
    put_mask(root / "masks" / "cat" / "a.png", mark=(0, 0, 0, 0))
    refused(root, r"a\.png: an empty mask")


def test_a_mask_without_an_image(root):
    put_mask(root / "masks" / "dog" / "a.png")
    refused(root, r"a\.png: belongs to 0 images")
    (root / "masks" / "dog" / "a.png").unlink()
    put_mask(root / "masks" / "fox" / "a.png")
    refused(root, r"a\.png: belongs to 0 images")


def test_a_mask_of_two_images(root):
    put(root / "images" / "cat" / "a.jpg")
    assert len(Folder(root)) == 4  # without masks there is no doubt
    put_mask(root / "masks" / "cat" / "a.png")
    refused(root, r"a\.png: belongs to 2 images")


def test_a_mask_that_is_not_png(root):
    put(root / "masks" / "cat" / "a.jpg")
    refused(root, r"a\.jpg: expected a mask in PNG")


def test_a_truncated_mask_is_named_or_its_image_skipped(root):
    mask = put_mask(root / "masks" / "cat" / "a.png", 64, 64)
    mask.write_bytes(mask.read_bytes()[:50])
    refused(root, r"masks.*a\.png")
    folder = Folder(root, on_corrupt="skip")
    assert folder.skipped == 1 and folder.skipped_files[0].name == "a.png" and len(folder) == 2


# What can be wrong with boxes.csv


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("cat/z.png,0,0,1,1", r"boxes\.csv, line 3: no image 'cat/z.png'"),
        (",0,0,1,1", "line 3: no image ''"),
        ("cat/b.png,nan,0,1,1", "line 3: .*is not a box"),
        ("cat/b.png,0,0,inf,1", "line 3: .*is not a box"),
        ("cat/b.png,one,0,1,1", "line 3: .*is not a box"),
        ("cat/b.png,0,0,1", "line 3: .*is not a box"),
        ("cat/b.png,,0,1,1", "line 3: .*is not a box"),
        ("cat/b.png,3,0,3,1", "line 3: box .* x1 and y1 exclusive"),
        ("cat/b.png,0,4,1,2", "line 3: box .* of cat/b.png"),
        ("cat/b.png,0,0,9,1", "x1 <= 8"),
        ("cat/b.png,0,0,1,7", "y1 <= 6"),
        ("cat/b.png,-1,0,1,1", "0 <= x0"),
    ],
)
def test_a_bad_row_is_named(root, row, message):
    write_boxes(root, "cat/a.png,0,0,8,6", row)
    refused(root, message)


def test_missing_columns(root):
    write_boxes(root, "cat/a.png,0,0,8", header="file,x0,y0,x1")
    refused(root, r"boxes\.csv: no column y1; expected the first line file,x0,y0,x1,y1")
    write_boxes(root, "cat/a.png;0;0;8;6", header="file;x0;y0;x1;y1")
    refused(root, "no column file, x0, y0, x1, y1")
    (root / "boxes.csv").write_bytes(b"")
    refused(root, "no column")


def test_another_encoding(root):
    write_boxes(root, "é.png,0,0,1,1", encoding="latin-1")
    refused(root, r"boxes\.csv: not UTF-8")


def test_a_header_alone_is_no_boxes(root):
    write_boxes(root)
    assert all(sample.boxes.shape == (0, 4) for sample in Folder(root))
