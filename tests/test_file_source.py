"""Crops come from a file's own pixels: sharp where a crop of the fitted image is blurred, with boxes and masks in place."""

import numpy as np
import pytest
import torch
from PIL import Image
from test_augment import one_crop

from maskerlib.data.augment import Crops, draw_crops
from maskerlib.data.files.framing import fit
from maskerlib.data.files.images import read_image
from maskerlib.data.files.source import FileSource
from maskerlib.data.folder import Folder
from maskerlib.data.photos import Photos
from maskerlib.data.samples import Subset
from maskerlib.running.seeds import stream


@pytest.fixture
def root(tmp_path):
    """One cat 120 wide and 80 high with a mask and a dog without, both full of detail of one pixel."""
    draws = np.random.default_rng(0)
    for name, sides in (("cat/a", (80, 120)), ("dog/b", (60, 60))):
        path = tmp_path / "images" / f"{name}.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(draws.integers(0, 256, (*sides, 3), np.uint8)).save(path)
    mask = np.zeros((80, 120), np.uint8)
    mask[20:40, 40:60] = 255
    (tmp_path / "masks" / "cat").mkdir(parents=True)
    Image.fromarray(mask).save(tmp_path / "masks" / "cat" / "a.png")
    return tmp_path


def test_a_crop_is_pixels_of_the_file(root):
    """A twelfth of the cat at the aspect of 2 is 40 x 20 pixels: with that size nothing is resampled."""
    folder = Folder(root, (20, 40))
    crop = one_crop(share=800 / 9600, aspect=2, across=30.5 / 81, down=10.5 / 61, scale=(0.05, 0.2))
    batch = folder.cropped([0], crop)
    assert torch.equal(batch.images[0], read_image(root / "images" / "cat" / "a.png")[:, 10:30, 30:70])
    assert batch.boxes[0].tolist() == [[10, 10, 30, 20]]
    assert batch.masks[0].nonzero().min(0).values.tolist() == [10, 10] and batch.masks.sum() == 200
    assert batch.labels.tolist() == [0] and batch.names == ("cat/a.png",)


def test_a_flip_takes_everything_along(root):
    folder = Folder(root, (20, 40))
    straight, turned = (
        folder.cropped([0], one_crop(share=0.2, aspect=1.5, across=0.3, down=0.2, flip=flip)) for flip in (False, True)
    )
    assert torch.equal(turned.images, straight.images.flip(-1)) and torch.equal(turned.masks, straight.masks.flip(-1))
    x0, y0, x1, y1 = straight.boxes[0][0].tolist()
    assert turned.boxes[0][0].tolist() == pytest.approx([40 - x1, y0, 40 - x0, y1])


def test_a_small_crop_is_sharper_than_one_of_the_fitted_image(root):
    crops = draw_crops(1, stream(0), scale=(0.08, 0.08), ratio=1)
    folder = Folder(root, 24)
    own, blurred = folder.cropped([1], crops).images, super(FileSource, folder).cropped([1], crops).images
    assert own.shape == blurred.shape == (1, 3, 24, 24)
    assert own.diff(dim=3).abs().mean() > 3 * blurred.diff(dim=3).abs().mean()


def test_a_scale_of_one_leaves_only_the_flip(root):
    folder, crops = Folder(root, 24), draw_crops(8, stream(0), scale=(1, 1))
    batch = folder.cropped([0, 1] * 4, crops)
    assert 0 < crops.flip.sum() < 8
    for at, flip in enumerate(crops.flip):
        fitted = folder[at % 2]
        assert torch.equal(batch.images[at], fitted.image.flip(-1) if flip else fitted.image)


def test_the_same_crops_give_the_same_batch_and_subsets_agree(root):
    folder, crops = Folder(root, 16), draw_crops(3, stream(0, "augment", 5))
    one, again = (folder.cropped([1, 0, 1], crops) for _ in range(2))
    assert torch.equal(one.images, again.images) and torch.equal(one.boxes[1], again.boxes[1])
    few = Subset(folder, [1, 0])
    assert few.own_crops and torch.equal(few.cropped([0, 1, 0], crops).images, one.images)
    assert not torch.equal(folder.cropped([1, 0, 1], draw_crops(3, stream(0, "augment", 6))).images, one.images)
    with pytest.raises(ValueError, match="3 crops for 2 images"):
        folder.cropped([0, 1], crops)
    with pytest.raises(IndexError, match="index 2 of a source of 2"):
        folder.cropped([0, 1, 2], crops)


def test_boxes_and_masks_stay_together_in_any_crop(root):
    crops = draw_crops(60, stream(1), scale=(0.1, 1))
    batch = Subset(Folder(root, 32), [0]).cropped([0] * 60, crops)
    seen = 0
    for boxes, mask in zip(batch.boxes, batch.masks, strict=True):
        if mask.any():
            rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
            tight = torch.tensor([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
            assert (boxes[0] - tight).abs().max() <= 1
            seen += 1
        else:
            assert not len(boxes) or (boxes[0, 2:] - boxes[0, :2]).min() <= 1
    assert 20 < seen < 60


def test_photographs_are_cropped_too(root):
    photos = Photos(root / "images" / "cat" / "a.png", 12)
    batch = photos.cropped([0, 0], draw_crops(2, stream(0), scale=(0.1, 0.3)))
    assert batch.images.shape == (2, 3, 12, 12) and batch.masks is None and batch.labels.tolist() == [-1, -1]
    assert photos.own_crops and not torch.equal(batch.images[0], batch.images[1])
    torch.testing.assert_close(photos[0].image, fit(photos.whole(0).image, 12)[0], rtol=0, atol=0)


def test_a_crop_of_a_line_of_pixels(tmp_path):
    Image.new("L", (3000, 1), 128).save(tmp_path / "line.png")
    crops = Crops((0.08, 1), *(torch.tensor([0.5]) for _ in range(4)), torch.tensor([False]))
    assert Photos(tmp_path / "line.png", 30).cropped([0], crops).images.shape == (1, 3, 30, 30)
