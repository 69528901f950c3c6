"""Photographs come by name without a network, and by path or folder."""

import socket

import pytest
import torch
from PIL import Image

from maskerlib.photos import PHOTOGRAPHS, Photos
from maskerlib.samples import batches


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
