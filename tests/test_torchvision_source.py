"""Data sets of torchvision as sources."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Subset, TensorDataset
from torchvision.datasets import FakeData, ImageFolder

from maskerlib.data.augment import draw_crops
from maskerlib.data.torchvision_source import FromTorchvision
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
