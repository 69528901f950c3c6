"""Every file of a folder is an image, a folder, or left out; what could disappear is named."""

import os

import pytest

from maskerlib.data.files.listing import is_image_name, list_folder


def names(paths) -> list[str]:
    return [path.name for path in paths]


def test_listing_leaves_out_what_file_managers_add(tmp_path):
    for name in ("b.png", "A.PNG", ".DS_Store", "Thumbs.db", "desktop.ini", "._b.png", "readme.txt", "c.webp", "noext"):
        (tmp_path / name).touch()
    for name in ("folder", "__MACOSX", ".ipynb_checkpoints"):
        (tmp_path / name).mkdir()
    listing = list_folder(tmp_path)
    assert names(listing.images) == ["A.PNG", "b.png", "c.webp"] and names(listing.folders) == ["folder"]
    assert names(listing.left_out) == [
        ".DS_Store", "._b.png", ".ipynb_checkpoints", "Thumbs.db", "__MACOSX", "desktop.ini", "noext", "readme.txt",
    ]  # fmt: skip
    assert sum(map(len, (listing.images, listing.folders, listing.left_out))) == len(os.listdir(tmp_path))


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "png", "tif", "bmp", "gif", "webp", "ppm", "heic", "HEIF", "dng"])
def test_images_by_name(tmp_path, suffix):
    """Kinds that Pillow does not read count: they are pictures, and reading them says what is wrong."""
    assert is_image_name(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize(
    "name", ["a.txt", "a", "a.csv", "a.xml", "a.json", "a.mp4", "a.mpg", "a.h5", "a.npy", "jpg", ".png"]
)
def test_no_images_by_name(tmp_path, name):
    assert not is_image_name(tmp_path / name)


@pytest.mark.skipif(os.name == "nt", reason="no such names on Windows")
@pytest.mark.parametrize("name", ["two\nlines.png", "back\\slash.png", "tab\t.png", "bell\a.jpg", "line\u2028.png"])
def test_names_that_no_table_can_hold_are_refused_in_one_line(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match="holds a backslash or a control character; rename it") as found:
        list_folder(tmp_path)
    assert len(str(found.value).splitlines()) == 1


@pytest.mark.skipif(os.name == "nt", reason="no such names on Windows")
def test_a_folder_s_name_is_checked_and_a_text_file_s_is_not(tmp_path):
    (tmp_path / "two\nlines.txt").touch()
    assert len(list_folder(tmp_path).left_out) == 1
    (tmp_path / "a\\b").mkdir()
    with pytest.raises(ValueError, match=r"the name 'a\\\\b' holds"):
        list_folder(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="no such names on Windows")
def test_names_of_every_script_pass(tmp_path):
    for name in ("été 1.png", "小鸟.png", "می‌خواهم.png", "👩‍🚀.png", 'it\'s, "q".png'):
        (tmp_path / name).touch()
    assert len(list_folder(tmp_path).images) == 5


def test_links(tmp_path):
    (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")
    assert names(list_folder(tmp_path).images) == ["a.png"]  # reading it says that it leads nowhere
    (tmp_path / "cat").symlink_to(tmp_path / "gone")
    with pytest.raises(ValueError, match=r"cat: a link to .*gone, which is not there; mend or remove it"):
        list_folder(tmp_path)
    (tmp_path / "gone").mkdir()
    assert names(list_folder(tmp_path).folders) == ["cat", "gone"]
