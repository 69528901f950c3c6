"""Photographs come by name without a network, and by path or folder."""

import socket

import pytest
import torch
from PIL import Image

from maskerlib.data.photos import PHOTOGRAPHS, Photos
from maskerlib.data.samples import batches


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a photograph was sought on the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def picture(path, value=128):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), (value, 0, 0)).save(path)
    return path


def test_the_default_six():
    photos = Photos(size=64)
    assert photos.names == ["camera", "chelsea", "coffee", "motorcycle", "rocket", "astronaut"]
    assert photos.size == (64, 64) and photos.class_names == () and photos.labels.tolist() == [-1] * 6
    (batch,) = batches(photos, 6)
    assert batch.images.shape == (6, 3, 64, 64) and batch.labels.tolist() == [-1] * 6 and batch.masks is None
    assert all(boxes.shape == (0, 4) for boxes in batch.boxes)
    camera, coffee = photos[0].image, photos[2].image
    assert torch.equal(camera[0], camera[2]) and not torch.equal(coffee[0], coffee[2])
    assert all(photo.image.std() > 0.1 for photo in photos)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_each_photograph_is_in_the_package(name):
    (photo,) = Photos(name, size=(48, 32))
    assert photo.name == name and photo.image.shape == (3, 48, 32) and photo.image.std() > 0.01


def test_paths_and_folders_in_the_order_given(tmp_path):
    for name in ("pictures/b b.PNG", "pictures/á.jpg", "alone.png"):
        picture(tmp_path / name)
    (tmp_path / "pictures" / ".DS_Store").write_bytes(b"x")
    photos = Photos([tmp_path / "alone.png", str(tmp_path / "pictures"), "coffee"], size=20)
    assert photos.names == ["alone", "b b", "á", "coffee"]
    assert photos[-1].name == "coffee" and photos[0].label is None
    assert photos[0].image[0, 5, 5] == pytest.approx(128 / 255)
    with pytest.raises(IndexError, match="index 4"):
        photos[4]


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="'cofee'.*astronaut.*coffee.*rocket"):
        Photos("cofee")


def test_bad_paths(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.jpg"):
        Photos(tmp_path / "nowhere.jpg")
    with pytest.raises(FileNotFoundError, match="nowhere.jpg"):
        Photos("nowhere.jpg")
    with pytest.raises(ValueError, match="a folder without files"):
        Photos(tmp_path)
    with pytest.raises(ValueError, match="0 photographs"):
        Photos([])


def test_a_truncated_photograph_is_named_at_once(tmp_path):
    picture(tmp_path / "a.png")
    broken = picture(tmp_path / "b.png")
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"b\.png: "):
        Photos(tmp_path)


def test_what_is_no_image_is_left_out_by_name(tmp_path):
    picture(tmp_path / "a.png")
    picture(tmp_path / "more" / "b.png")
    (tmp_path / "readme.txt").write_text("hello")
    (tmp_path / ".DS_Store").write_bytes(b"x")
    photos = Photos(tmp_path, 8)
    assert photos.names == ["a"] and {path.name for path in photos.left_out} == {"more", "readme.txt", ".DS_Store"}
    assert repr(photos) == "Photos(1 photographs, 3 left out)"
    with pytest.raises(ValueError, match=r"readme\.txt: not an image"):
        Photos(tmp_path / "readme.txt")  # asked for by name


def test_a_folder_of_other_files(tmp_path):
    (tmp_path / "readme.txt").write_text("hello")
    with pytest.raises(ValueError, match=r"a folder without images, though with readme\.txt; give one that holds images"):
        Photos(tmp_path)


def test_a_photograph_may_come_twice(tmp_path):
    path = picture(tmp_path / "a.png")
    photos = Photos([path, path, tmp_path], 8)
    assert photos.names == ["a", "a", "a"] and len(photos.batch(range(3))) == 3


@pytest.mark.parametrize("bad", [5, [5], [None], 1.5])
def test_what_is_no_name_or_path(bad):
    with pytest.raises(ValueError, match="expected the name of a photograph, or the path of an image or a folder"):
        Photos(bad)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels(tmp_path, channels):
    photos = Photos([picture(tmp_path / "a.png"), "coffee"], 16, channels=channels)
    assert photos.channels == channels and photos.batch([0, 1]).images.shape == (2, channels, 16, 16)
    with pytest.raises(ValueError, match="channels=2"):
        Photos("coffee", channels=2)


def test_a_size_that_is_none():
    with pytest.raises(ValueError, match="size=0"):
        Photos("coffee", 0)
