"""A user's own folder: what is good loads as meant, and whatever is wrong is named before training."""

import os
import unicodedata

import numpy as np
import pytest
import torch
from PIL import Image

from maskerlib.data.augment import draw_crops
from maskerlib.data.folder import Folder
from maskerlib.data.samples import batches
from maskerlib.running.seeds import stream


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


def test_what_is_no_image_is_left_out_by_name(root):
    for name in ("images/cat/readme.txt", "images/cat/Thumbs.db", "images/.DS_Store", "images/list.csv", "LICENSE"):
        (root / name).write_text("hello")
    for name in ("images/__MACOSX", "images/dog/.ipynb_checkpoints", "notes"):
        (root / name).mkdir()
    (root / "images" / "__MACOSX" / "._a.png").write_text("hello")
    folder = Folder(root)
    assert len(folder) == 3 and folder.class_names == ("cat", "dog") and folder.skipped == 0
    assert sorted(path.relative_to(root).as_posix() for path in folder.left_out) == [
        "LICENSE",
        "images/.DS_Store",
        "images/__MACOSX",
        "images/cat/Thumbs.db",
        "images/cat/readme.txt",
        "images/dog/.ipynb_checkpoints",
        "images/list.csv",
        "notes",
    ]
    assert repr(folder).endswith("3 images of 2 classes, 0 skipped, 8 left out)")


@pytest.mark.parametrize("name", ["notes.png", "IMG_1.HEIC", "raw.dng"])
def test_what_has_an_image_s_name_and_is_none_is_not_overlooked(root, name):
    (root / "images" / "cat" / name).write_text("hello")
    refused(root, f"{name}: not an image, or of an unknown kind")
    folder = Folder(root, on_corrupt="skip")
    assert folder.skipped == 1 and folder.left_out == ()


def test_a_class_of_other_files_is_named(root):
    (root / "images" / "fox").mkdir()
    (root / "images" / "fox" / "fox.xml").touch()
    refused(root, r"fox: a class without images \(1 other files, such as fox.xml\); add some or remove the folder")


# The layout of ImageFolder


@pytest.fixture
def flat(tmp_path):
    """The same three images without a folder `images`."""
    for name in ("cat/a", "cat/b", "dog/c"):
        put(tmp_path / f"{name}.png")
    return tmp_path


def test_classes_in_the_root(flat):
    folder = Folder(flat, (6, 8))
    assert folder.class_names == ("cat", "dog") and folder.labels.tolist() == [0, 0, 1] and folder.left_out == ()
    assert [sample.name for sample in folder] == ["cat/a.png", "cat/b.png", "dog/c.png"]


def test_masks_and_boxes_beside_the_classes(flat):
    put_mask(flat / "masks" / "cat" / "a.png")
    write_boxes(flat, "dog/c.png,1,2,3,4")
    (flat / "readme.txt").touch()
    folder = Folder(flat, (6, 8))
    assert folder.class_names == ("cat", "dog") and [path.name for path in folder.left_out] == ["readme.txt"]
    assert [sample.boxes.tolist() for sample in folder] == [[[2, 1, 5, 4]], [], [[1, 2, 3, 4]]]
    assert folder[0].mask.sum() == 9 and folder[1].mask is None


def test_a_class_called_masks_needs_a_folder_images(flat):
    put(flat / "masks" / "a.png")
    refused(flat, r"a\.png: a mask outside a class")
    (flat / "images").mkdir()
    for name in ("cat", "dog", "masks"):
        (flat / name).rename(flat / "images" / name)
    assert Folder(flat).class_names == ("cat", "dog", "masks")


def test_images_beside_classes_and_a_level_too_many(flat):
    put(flat / "stray.png")
    refused(flat, r"stray\.png: an image outside a class")
    (flat / "stray.png").unlink()
    put(flat / "cat" / "more" / "d.png")
    refused(flat, "more: a folder inside a class; move its images up into .*cat, or, if it is a class itself, give .*cat as")
    for name in ("train", "val"):
        put(flat / "split" / name / "cat" / "a.png")
    refused(flat / "split", "images: no such folder; expected images in .* or .*<class>", FileNotFoundError)
    assert len(Folder(flat / "split" / "train")) == 1


def test_a_root_that_is_a_file(root):
    refused(root / "images" / "cat" / "a.png", "a.png: expected a folder, this is a file; give the folder that holds a.png")


@pytest.mark.parametrize(("name", "other"), [("images", "Images"), ("masks", "Masks"), ("boxes.csv", "Boxes.CSV")])
def test_names_of_other_case_are_not_overlooked(root, name, other):
    put_mask(root / "masks" / "cat" / "a.png")
    write_boxes(root)
    (root / name).rename(root / other)
    refused(root, f"{other}: expected the name {name}, in lower case; rename it")


# What could disappear, or never end


@pytest.mark.parametrize("name", ["images", "masks"])
def test_a_file_where_a_folder_belongs(root, name):
    if name == "images":
        (root / name).rename(root / "pictures")
    (root / name).write_text("hello")
    refused(root, f"{name}: expected a folder, .*<class>, this is a file")


def test_a_folder_where_the_table_belongs(root):
    (root / "boxes.csv").mkdir()
    refused(root, r"boxes\.csv: expected a file, a table of boxes")


def test_dangling_links(root):
    (root / "images" / "cat" / "z.png").symlink_to(root / "gone.png")
    refused(root, r"z\.png: a link to .*gone\.png, which is not there; mend or remove it")
    folder = Folder(root, on_corrupt="skip")
    assert len(folder) == 3 and [path.name for path in folder.skipped_files] == ["z.png"]
    (root / "images" / "fox").symlink_to(root / "gone")
    refused(root, "fox: a link to .*gone, which is not there", on_corrupt="skip")
    (root / "images" / "fox").unlink()
    for name in ("masks", "boxes.csv"):
        (root / name).symlink_to(root / "gone")
        refused(root, f"{name}: a link to .*gone, which is not there", on_corrupt="skip")
        (root / name).unlink()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
@pytest.mark.timeout(20)
def test_pipes_do_not_hang(root):
    os.mkfifo(root / "images" / "cat" / "pipe.png")
    refused(root, r"pipe\.png: expected an image file, this is a pipe or a device")
    os.mkfifo(root / "images" / "cat" / "pipe")
    folder = Folder(root, on_corrupt="skip")
    assert folder.skipped == 1 and [path.name for path in folder.left_out] == ["pipe"]
    os.mkfifo(root / "boxes.csv")
    refused(root, r"boxes\.csv: expected a file", on_corrupt="skip")


@pytest.mark.skipif(os.name == "nt", reason="no such names on Windows")
@pytest.mark.parametrize("name", ["images/cat/two\nlines.png", "images/cat/back\\slash.png", "images/a\\b/a.png"])
def test_names_that_no_table_can_hold(root, name):
    put(root / name)
    refused(root, "holds a backslash or a control character; rename it")


def test_a_name_twice_in_two_spellings(root):
    for form in ("NFC", "NFD"):
        put(root / "images" / "cat" / unicodedata.normalize(form, "é.png"))
    if len(list((root / "images" / "cat").iterdir())) == 4:  # a file system that keeps both
        refused(root, "a second file of this name, its accents written otherwise")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("sides", [(60_000, 1), (1, 10_000)])
def test_a_line_of_pixels_is_an_image(root, sides):
    Image.new("1", sides, 1).save(root / "images" / "cat" / "line.png")
    assert (Folder(root, 224)[2].image == 1).all()


def test_too_many_pixels_are_refused_or_skipped(root, monkeypatch):
    put(root / "images" / "cat" / "bomb.png", 40, 40)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    refused(root, r"bomb\.png: more than 1,000 pixels")
    folder = Folder(root, on_corrupt="skip")
    assert len(folder) == 3 and [path.name for path in folder.skipped_files] == ["bomb.png"]


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_four_channels(root, channels):
    folder = Folder(root, (6, 8), channels=channels)
    assert folder.channels == channels and folder.batch([0, 2]).images.shape == (2, channels, 6, 8)
    assert folder.cropped([0], draw_crops(1, stream(0))).images.shape == (1, channels, 6, 8)
    refused(root, "channels=2: expected 1", channels=2)


def test_a_class_of_which_nothing_is_left(root):
    (root / "images" / "dog" / "c.png").write_bytes(b"")
    refused(root, "dog: a class of unreadable images only", on_corrupt="skip")


def test_unknown_choice(root):
    refused(root, "on_corrupt='ignore' is unknown; choose one of raise, skip", on_corrupt="ignore")


# What can be wrong with masks


def test_masks_in_the_wrong_place(root):
    stray = put_mask(root / "masks" / "a.png")
    refused(root, r"masks.a\.png: a mask outside a class; move it into .*masks.<class>")
    stray.unlink()
    put_mask(root / "masks" / "cat" / "more" / "a.png")
    refused(root, "more: a folder inside a class of masks")


def test_a_mask_of_another_kind_is_not_overlooked(root):
    put_mask(root / "masks" / "cat" / "b.png")
    (root / "masks" / "cat" / "readme.txt").touch()
    (root / "masks" / "notes.txt").touch()
    assert sorted(path.name for path in Folder(root).left_out) == ["notes.txt", "readme.txt"]
    (root / "masks" / "cat" / "a.npy").touch()
    refused(root, r"a\.npy: expected a mask in PNG; save it as one")


def test_two_masks_of_one_image(root):
    put_mask(root / "masks" / "cat" / "a.png")
    if not (root / "masks" / "cat" / "a.PNG").exists():  # a file system that tells them apart
        put_mask(root / "masks" / "cat" / "a.PNG")
        refused(root, r"a\.png: a second mask of a\.png, beside a\.PNG; remove one")


def test_a_mask_finds_its_image_whatever_way_accents_are_stored(root):
    put(root / "images" / "cat" / unicodedata.normalize("NFD", "é.png"))
    put_mask(root / "masks" / "cat" / unicodedata.normalize("NFC", "é.png"))
    assert sum(sample.mask is not None for sample in Folder(root)) == 1


def test_a_trimap_is_refused_until_its_object_is_named(root):
    pixels = np.full((6, 8), 2, np.uint8)
    pixels[1:5, 1:6], pixels[2:4, 2:5] = 3, 1
    (root / "masks" / "cat").mkdir(parents=True)
    Image.fromarray(pixels).save(root / "masks" / "cat" / "a.png")
    for choice in ("raise", "skip"):
        refused(root, r"a\.png: no background of 0 .*Folder\(root, mask_object=\(1,\)\)", on_corrupt=choice)
    sample = Folder(root, (6, 8), mask_object=(1,))[0]
    assert sample.boxes.tolist() == [[2, 2, 5, 4]] and sample.mask.sum() == 6
    assert Folder(root, (6, 8), mask_object=[1, 3])[0].boxes.tolist() == [[1, 1, 6, 5]] and sample.ignore is None
    open_border = Folder(root, (6, 8), mask_object=(1,), mask_ignore=(3,))
    assert torch.equal(open_border[0].ignore, torch.from_numpy(pixels == 3)) and open_border[0].mask.sum() == 6
    assert open_border.batch([0, 1]).ignores is not None and not open_border.batch([0, 1]).ignores[1].any()
    refused(root, "no background of 0 among its values 1, 2", mask_ignore=(3,))
    refused(root, r"an empty mask, none of its values is one of mask_object=\(7,\)", mask_object=(7,))
    refused(root, r"mask_object=1: expected a collection of values", mask_object=1)


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
        ("cat/b.png,8,0,9,1", "outside it; expected 0 <= x0 < x1 <= 8"),
        ("cat/b.png,0,6,1,7", "0 <= y0 < y1 <= 6"),
        ("cat/b.png,-5,0,-1,1", "0 <= x0"),
        ("cat/b.png,0,0,1,1,5", "line 3: 6 fields where the first line has 5"),
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


# How boxes may be written


@pytest.mark.parametrize("name", ["images/cat/a.png", "./cat/a.png", "Images/Cat/A.PNG", "CAT/a.png", "images\\cat\\a.png"])
def test_an_image_may_be_named_in_several_ways(root, name):
    write_boxes(root, f"{name},1,2,3,4")
    assert Folder(root, (6, 8))[0].boxes.tolist() == [[1, 2, 3, 4]]


def test_the_exact_name_comes_first_and_doubt_is_refused(root):
    if not (root / "images" / "cat" / "A.png").exists():  # a file system that tells them apart
        put(root / "images" / "cat" / "A.png")
        write_boxes(root, "cat/a.png,1,2,3,4", "images/cat/A.png,0,0,2,2")
        boxes = {sample.name: sample.boxes.tolist() for sample in Folder(root, (6, 8))}
        assert boxes["cat/a.png"] == [[1, 2, 3, 4]] and boxes["cat/A.png"] == [[0, 0, 2, 2]]
        write_boxes(root, "Cat/a.png,1,2,3,4")
        refused(root, r"line 2: 'Cat/a.png' is none of \['cat/A.png', 'cat/a.png'\] to the letter")


def test_a_class_called_images_keeps_its_boxes(root):
    put(root / "images" / "images" / "a.png")
    write_boxes(root, "images/a.png,1,2,3,4")
    assert [sample.boxes.tolist() for sample in Folder(root, (6, 8))][-1] == [[1, 2, 3, 4]]


@pytest.mark.parametrize("header", ["filename,xmin,ymin,xmax,ymax", "Filename, XMin,YMin ,XMax,YMax", "file,x0,y0,x1,y1"])
def test_either_header_means_half_open_corners(root, header):
    write_boxes(root, "cat/a.png,1,2,3,4", "dog/c.png,0,0,8,6", header=header)
    a, _, c = Folder(root, (6, 8))
    assert a.boxes.tolist() == [[1, 2, 3, 4]] and c.boxes.tolist() == [[0, 0, 8, 6]]


def test_an_error_speaks_of_the_columns_of_the_file(root):
    write_boxes(root, "cat/a.png,3,2,3,4", header="filename,xmin,ymin,xmax,ymax")
    refused(root, "expected 0 <= xmin < xmax <= 8 and 0 <= ymin < ymax <= 6, xmax and ymax exclusive")
    write_boxes(root, "cat/a.png,3,2,3", header="filename,xmin,ymin,width")
    refused(root, "no column xmax, ymax; expected the first line file,x0,y0,x1,y1 or filename,xmin,ymin,xmax,ymax")


@pytest.mark.parametrize(
    ("header", "column"),
    [
        ("file,x0,y0,x1,y1,x1", "x1"),
        ("file,x0,y0,x1,y1,File", "file"),
        ("file,filename,x0,y0,x1,y1", "filename"),
        ("file,x0,y0,x1,y1,xmin,ymin,xmax,ymax", "xmin"),
    ],
)
def test_a_column_twice_is_refused(root, header, column):
    write_boxes(root, "cat/a.png,1,2,3,4,5,6,7,8", header=header)
    refused(root, f"column {column} says again what another says")


def test_further_columns_may_repeat(root):
    write_boxes(root, "cat/a.png,1,2,3,4,,", header="file,x0,y0,x1,y1,,")
    assert Folder(root, (6, 8))[0].boxes.tolist() == [[1, 2, 3, 4]]
    write_boxes(root, "cat/a.png,1,2,3,4,", header="file,x0,y0,x1,y1")
    assert Folder(root, (6, 8))[0].boxes.tolist() == [[1, 2, 3, 4]]


def test_boxes_that_reach_outside_are_clipped_and_counted(root):
    write_boxes(root, "cat/a.png,-3,1,4,9", "cat/b.png,6,5,8.5,7", "dog/c.png,0,0,8,6")
    folder = Folder(root, (6, 8))
    assert [sample.boxes.tolist() for sample in folder] == [[[0, 1, 4, 6]], [[6, 5, 8, 6]], [[0, 0, 8, 6]]]
    assert folder.clipped == 2


def test_shares_of_the_image_are_no_pixels(root):
    write_boxes(root, "cat/a.png,0.1,0.2,0.5,0.9", "cat/b.png,0,0,1,1", header="file,XMin,YMin,XMax,YMax")
    refused(root, r"boxes\.csv: no number above 1, as in shares of the image; multiply by its width and height in pixels")
    write_boxes(root, "cat/a.png,0,0,1,1")
    assert Folder(root, (6, 8))[0].boxes.tolist() == [[0, 0, 1, 1]]


def test_a_quoted_name_with_a_comma(root):
    put(root / "images" / "cat" / "d, e.png")
    write_boxes(root, '"cat/d, e.png",1,2,3,4')
    assert Folder(root, (6, 8))[2].boxes.tolist() == [[1, 2, 3, 4]]
    write_boxes(root, "cat/d, e.png,1,2,3,4")
    refused(root, "line 2: 6 fields where the first line has 5; .*put names with a comma in quotes")
