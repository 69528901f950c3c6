"""Data sets of torchvision as sources."""

import json

import numpy as np
import pytest
import scipy.io
import torch
import torchvision
from PIL import Image
from torch.utils.data import Subset, TensorDataset
from torchvision.datasets import FakeData, ImageFolder

from maskerlib.data.augment import draw_crops
from maskerlib.data.torchvision_source import FromTorchvision, torchvision_source
from maskerlib.running.seeds import stream


class Items:
    """A data set without `targets`, of whatever items."""

    def __init__(self, *items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def picture(mode: str = "RGB", size: tuple[int, int] = (4, 2)) -> Image.Image:
    return Image.new(mode, size, 255 if mode == "L" else (255, 0, 51))


@pytest.fixture
def folder(tmp_path):
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        for number in range(2):
            picture().save(tmp_path / name / f"{number}.png")
    return ImageFolder(tmp_path)


def test_an_image_folder_brings_names_and_labels_and_reads_no_image_for_them(folder, monkeypatch):
    monkeypatch.setattr(type(folder), "__getitem__", lambda *_: pytest.fail("an image was read"))
    source = FromTorchvision(folder, 2)
    assert source.class_names == ("ant", "bee") and source.labels.tolist() == [0, 0, 1, 1] and len(source) == 4


def test_pixels_are_fitted_and_in_0_to_1(folder):
    sample = FromTorchvision(folder, 2)[3]
    assert sample.label == 1 and sample.boxes.shape == (0, 4) and sample.mask is None and sample.name == "item 3"
    torch.testing.assert_close(sample.image, torch.tensor([1.0, 0.0, 0.2])[:, None, None].expand(3, 2, 2))
    assert FromTorchvision(folder, (1, 2))[0].image.shape == (3, 1, 2)


def test_a_subset_keeps_the_order_and_the_names(folder):
    source = FromTorchvision(Subset(Subset(folder, [3, 0, 1]), [2, 0]), 2)
    assert source.labels.tolist() == [0, 1] and source.class_names == ("ant", "bee")


def test_tensors_bytes_grey_and_unknown_labels():
    floats, bytes_ = torch.rand(3, 2, 2), torch.tensor([[[0, 255], [51, 102]]], dtype=torch.uint8)
    source = FromTorchvision(Items((floats, 1), (bytes_, None), (picture("L", (2, 2)), torch.tensor(0))), 2)
    assert source.labels.tolist() == [1, -1, 0] and source.class_names == () and source[1].label is None
    torch.testing.assert_close(source[0].image, floats)
    torch.testing.assert_close(source[1].image, torch.tensor([[0, 1], [0.2, 0.4]]).expand(3, 2, 2))
    assert source[2].image.eq(1).all() and FromTorchvision(Items((picture(), 0)), 2, channels=1)[0].image.shape == (1, 2, 2)
    assert FromTorchvision(TensorDataset(torch.rand(2, 3, 4, 4), torch.tensor([0, 1])), 4).labels.tolist() == [0, 1]


def test_crops_are_cut_from_the_items_own_pixels():
    fine = torch.from_numpy(np.indices((64, 64)).sum(0) % 2).float().expand(3, 64, 64)  # grey where it is shrunk to 4 pixels
    source = FromTorchvision(Items((fine, 0)), 4)
    assert (source[0].image - 0.5).abs().max() < 0.1
    crops = draw_crops(1, stream(0, "crops"), scale=(4 * 4 / 64**2,) * 2, ratio=1.0)
    assert (source.cropped([0], crops).images - 0.5).abs().max() > 0.4


def test_fake_data():
    batch = FromTorchvision(FakeData(3, (3, 10, 12), 5), 8, ["a", "b", "c", "d", "e"]).batch([0, 2])
    assert batch.images.shape == (2, 3, 8, 8) and 0 <= batch.images.min() <= batch.images.max() <= 1


def test_labels_are_those_after_the_target_transform(folder):
    turned = ImageFolder(folder.root, target_transform=lambda label: 1 - label)
    assert FromTorchvision(turned, 2).labels.tolist() == [1, 1, 0, 0] == [turned[index][1] for index in range(4)]


# --- the data sets of torchvision, each in a small tree of its own layout -------------------------


def jpeg(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture().save(path)


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def mat(path, **arrays):
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, arrays)


def pet_tree(root, count):
    base = root / "oxford-iiit-pet"
    rows = ""
    for number in range(count):
        name = f"{'Abyssinian' if number < count // 2 else 'beagle'}_{number}"
        jpeg(base / "images" / f"{name}.jpg")
        (base / "annotations" / "trimaps").mkdir(parents=True, exist_ok=True)
        picture("L").save(base / "annotations" / "trimaps" / f"{name}.png")
        rows += f"{name} {1 if number < count // 2 else 2} {1 if number % 2 else 2} 1\n"  # the kind is no cat's or dog's
    text(base / "annotations" / "trainval.txt", rows)


def flowers_tree(root, count):
    base = root / "flowers-102"
    for number in range(1, count + 1):
        jpeg(base / "jpg" / f"image_{number:05d}.jpg")
    mat(base / "imagelabels.mat", labels=np.arange(count)[None] % 3 + 1)
    mat(base / "setid.mat", trnid=np.arange(1, count + 1)[None], valid=np.array([[1]]), tstid=np.array([[1]]))


def caltech_tree(root, count):
    (root / "caltech101" / "101_ObjectCategories" / "BACKGROUND_Google").mkdir(parents=True)
    for number in range(count):
        name, own = ("Faces", "crab")[number % 2], number // 2 + 1
        jpeg(root / "caltech101" / "101_ObjectCategories" / name / f"image_{own:04d}.jpg")


def street_tree(root, count):
    labels = np.arange(1, count + 1)[:, None] % 10
    mat(root / "train_32x32.mat", X=np.zeros((32, 32, 3, count), np.uint8), y=np.where(labels, labels, 10))


def food_tree(root, count):
    base, kinds = root / "food-101", {"apple_pie": [], "waffles": []}
    for number in range(count):
        kind = ("apple_pie", "waffles")[number % 2]
        kinds[kind].append(f"{kind}/{number}")
        jpeg(base / "images" / kind / f"{number}.jpg")
    text(base / "meta" / "train.json", json.dumps(kinds))


def cars_tree(root, count):
    base, kind = root / "stanford_cars", [("fname", object), ("class", object)]
    for number in range(count):
        jpeg(base / "cars_train" / f"{number:05d}.jpg")
    rows = np.array([(f"{number:05d}.jpg", number % 2 + 1) for number in range(count)], kind)
    mat(base / "devkit" / "cars_train_annos.mat", annotations=rows)
    mat(base / "devkit" / "cars_meta.mat", class_names=np.array(["Audi", "BMW"], object))


TREES = [
    ("OxfordIIITPet", pet_tree, {}, ("Abyssinian", "Beagle")),
    ("Flowers102", flowers_tree, {}, None),
    ("Caltech101", caltech_tree, {}, ("Faces", "crab")),
    ("SVHN", street_tree, {}, ()),
    ("Food101", food_tree, {}, ("apple_pie", "waffles")),
    ("StanfordCars", cars_tree, {}, ("Audi", "BMW")),
]


left_open = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
"""torchvision opens images of Caltech101 and trimaps, and leaves it to the reader of an item to close them."""


@left_open
@pytest.mark.parametrize(("name", "tree", "options", "names"), TREES, ids=[each[0] for each in TREES])
def test_labels_are_read_without_reading_all_images(tmp_path, monkeypatch, name, tree, options, names):
    """The oracle is each item itself. 40 images, of which no more than 14 are read."""
    kind, read = getattr(torchvision.datasets, name), []
    tree(tmp_path, 40)
    monkeypatch.setattr("torchvision.datasets.svhn.check_integrity", lambda *_: True)
    monkeypatch.setattr("torchvision.datasets.flowers102.check_integrity", lambda *_: True)
    item = kind.__getitem__
    monkeypatch.setattr(kind, "__getitem__", lambda self, index: read.append(index) or item(self, index))
    source = torchvision_source(name, 8, root=tmp_path, **options)
    assert len(source) == 40 and len(read) <= 14
    assert source.labels.tolist() == [source.dataset[index][1] for index in range(40)] and source.labels.max() > 0
    assert names is None or source.class_names == names
    assert source[5].image.shape == (3, 8, 8) and source[5].label == source.labels[5]


@left_open
def test_another_target_of_a_data_set_is_not_mistaken_for_its_class(tmp_path):
    pet_tree(tmp_path, 40)
    kinds = torchvision_source("OxfordIIITPet", 8, ["cat", "dog"], root=tmp_path, target_types="binary-category")
    assert kinds.labels.tolist() == [1, 0] * 20
    for types in ("segmentation", ["category", "segmentation"]):
        with pytest.raises(ValueError, match=r"item 0: its label is .*Image.*expected a whole number"):
            torchvision_source("OxfordIIITPet", 8, root=tmp_path, target_types=types)
    first = torchvision_source(
        "OxfordIIITPet", 8, root=tmp_path, target_types=["category", "segmentation"], target_transform=lambda both: both[0]
    )
    assert first.labels.tolist() == [0] * 20 + [1] * 20


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ((picture(), "ant"), "item 0: its label is 'ant', expected a whole number"),
        ((picture(), True), "item 0: its label is True"),
        ((picture(), 2), "label 2 has no name, class_names are 2"),
        ((torch.randn(3, 4, 4), 0), r"item 0: its values go from .*expected \[0, 1\]; leave the normalisation out"),
        ((torch.full((3, 4, 4), torch.nan), 0), "item 0: its values go from nan"),
        ((torch.rand(4, 4), 0), r"item 0: its image is torch.float32 \(4, 4\), expected"),
        ((torch.rand(2, 4, 4), 0), r"item 0: its image is torch.float32 \(2, 4, 4\)"),
        (("a.png", 0), "item 0: its image is str"),
        ((Image.new("I;16", (2, 2)), 0), "item 0: its image is I;16, expected an 8-bit"),
    ],
)
def test_other_items_are_named(item, message):
    with pytest.raises(ValueError, match=message):
        FromTorchvision(Items(item), 2, ["a", "b"])[0]
