"""The exact infill: a scene without its object, known again by its bytes, and wrong nowhere else."""

import re

import numpy as np
import pytest
import torch
from scipy import ndimage

from maskerlib.classifiers.scene_resnet import scene_classifier
from maskerlib.data.samples import Subset
from maskerlib.data.scenes import drawing
from maskerlib.data.scenes.drawing import BACKGROUNDS, LEVELS, draw_scene
from maskerlib.data.scenes.source import Scenes
from maskerlib.masking.masks import masked_in, masked_out
from maskerlib.masking.oracle import OracleInfill
from maskerlib.methods.optimise import optimise_mask
from maskerlib.methods.random_map import random_map
from maskerlib.metrics.evaluation import evaluate
from maskerlib.metrics.removal import deletion, insertion

MEAN = torch.full((1, 3, 1, 1), 0.5)


@pytest.fixture(scope="module")
def scenes(cache):
    return Scenes("val", count=64, cache=cache)


def pair(index: int, *, split: str = "val", level: str = "default"):
    """A scene with its object and without, (H, W, 3) int each, and the scene."""
    options = {"split": split, "level": LEVELS[level], "size": 96, "seed": 0}
    scene, erased = draw_scene(index, **options), draw_scene(index, **options, erased=True)
    assert np.array_equal(scene.mask, erased.mask)
    assert (scene.box, scene.label, scene.glyph, scene.unseen) == (
        erased.box,
        erased.label,
        erased.glyph,
        erased.unseen,
    )
    return scene.image.astype(int), erased.image.astype(int), scene


# What is drawn


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_object_alone_on_its_background_leaves_the_background(split):
    """At the easy level nothing else is drawn, so the erased scene is the background, bit for bit."""
    names = BACKGROUNDS["test" if split == "test" else "train"]
    for index in range(16):
        random = np.random.default_rng([0, drawing.SPLITS.index(split), index])
        background = np.asarray(drawing.background(random, names, 96).convert("RGB"))
        assert np.array_equal(pair(index, split=split, level="easy")[1], background)


@pytest.mark.parametrize("level", LEVELS)
def test_the_two_differ_where_the_object_is_painted_and_nowhere_else(level, monkeypatch):
    """The object's own paint says where: without a trace of it the bytes are equal, where it is opaque it is gone."""
    painted: list = []
    original = drawing._Brush.anywhere
    monkeypatch.setattr(drawing._Brush, "anywhere", lambda *given: painted.append(original(*given)) or painted[-1])
    gone = []
    for index in range(32):
        painted.clear()
        image, erased, scene = pair(index, level=level)
        alpha = np.zeros((96, 96), int)
        target = painted[0]  # the object is placed first
        height, width = target.image.size[::-1]
        alpha[target.y : target.y + height, target.x : target.x + width] = np.asarray(target.image.getchannel("A"))
        differs = (image != erased).any(axis=2)
        assert not differs[alpha == 0].any()
        assert not differs[~ndimage.binary_dilation(scene.mask | (alpha >= 128), iterations=4)].any()
        gone.append(differs[scene.mask].mean())
    assert np.mean(gone) > 0.98 and min(gone) > 0.8  # a black outline on a black sky does not show


def test_what_lies_over_the_object_stays(monkeypatch):
    """An occluder covers the same pixels, which are equal where it is opaque; rivals and distractors are drawn as they were."""
    laid: list = []
    original = drawing._Brush.over
    monkeypatch.setattr(drawing._Brush, "over", lambda *given: laid.append(original(*given)) or laid[-1])
    seen = 0
    for index in range(24):
        laid.clear()
        image, erased, _ = pair(index, level="hard")
        if laid and laid[0] is not None:
            occluder, again = laid
            assert (occluder.x, occluder.y) == (again.x, again.y)
            solid = np.zeros((96, 96), bool)
            height, width = occluder.image.size[::-1]
            opaque = np.asarray(occluder.image.getchannel("A")) == 255
            solid[occluder.y : occluder.y + height, occluder.x : occluder.x + width] = opaque
            assert solid.any() and np.array_equal(image[solid], erased[solid])
            seen += 1
    assert seen >= 6


def test_the_source_gives_what_was_drawn(scenes):
    erased = scenes.erased([3, 0, -1, 3])
    assert erased.dtype == torch.float32 and erased.shape == (4, 3, 96, 96) and erased.is_contiguous()
    for image, index in zip(erased, (3, 0, 63, 3), strict=True):
        expected = torch.from_numpy(pair(index)[1]).permute(2, 0, 1).float() / 255
        assert torch.equal(image, expected)
    assert scenes.erased([]).shape == (0, 3, 96, 96)
    with pytest.raises(IndexError, match="index 64 of a source of 64"):
        scenes.erased([64])


# The infill


def test_it_knows_each_scene_in_any_order_and_subset(scenes):
    oracle, order = OracleInfill(scenes), torch.randperm(64)[:40]
    assert torch.equal(oracle(scenes.batch(order).images, MEAN), scenes.erased(order))
    some = Subset(scenes, [5, 9, 5])
    assert torch.equal(oracle(some.batch([0, 1, 2]).images, MEAN), scenes.erased([5, 9, 5]))


def test_it_is_of_the_kind_of_the_images_and_changes_none(scenes, device):
    images = scenes.batch([1, 2]).images.to(device)
    before = images.clone()
    filled = OracleInfill(scenes)(images, MEAN.to(device))
    assert filled.device == images.device and filled.dtype == images.dtype and torch.equal(images, before)
    if device.type != "mps":
        assert OracleInfill(scenes)(images.double(), MEAN.to(device)).dtype == torch.float64


def test_it_is_drawn_once_for_many_questions(scenes, monkeypatch):
    oracle, images, drawn = OracleInfill(scenes), scenes.batch([1, 2, 1]).images, []
    monkeypatch.setattr(scenes, "erased", lambda numbers: drawn.extend(numbers) or torch.zeros(1, 3, 96, 96))
    for _ in range(3):
        oracle(images, MEAN)
    assert drawn == [1, 2]


def strange(scenes, kind):
    whole = scenes.batch([0]).images
    return {
        "crop": lambda: whole[..., 8:, 8:],
        "mirrored": lambda: whole.flip(3),
        "a pixel changed": lambda: torch.where(torch.arange(96) == 5, 1 - whole, whole),
        "another split": lambda: Scenes("test", count=1, cache=None).batch([0]).images,
        "another seed": lambda: Scenes("val", count=1, seed=1, cache=None).batch([0]).images,
        "another level": lambda: Scenes("val", count=1, level="easy", cache=None).batch([0]).images,
        "beyond the count": lambda: Scenes("val", count=65, cache=None).batch([64]).images,
        "grey": lambda: torch.full((1, 3, 96, 96), 0.5),
    }[kind]()


@pytest.mark.parametrize(
    "kind",
    [
        "crop",
        "mirrored",
        "a pixel changed",
        "another split",
        "another seed",
        "another level",
        "beyond the count",
        "grey",
    ],
)
def test_it_refuses_what_it_does_not_know(scenes, kind):
    message = "image 0 is none of the 64 default val scenes of seed 0 as they were drawn at 96 pixels"
    with pytest.raises(ValueError, match=message) as caught:
        OracleInfill(scenes)(strange(scenes, kind), MEAN)
    assert "\n" not in str(caught.value)


def test_the_unknown_image_is_named(scenes):
    images = scenes.batch([0, 1, 2]).images
    images[1] = 0
    with pytest.raises(ValueError, match=re.escape("image 1 is none of the 64")):
        OracleInfill(scenes)(images, MEAN)


# Where infills go


def test_it_blends_as_any_infill(scenes):
    """A mask beside the object hides nothing; the true mask, with its edge, leaves the scene without it."""
    batch = scenes.batch(range(8))
    hidden = OracleInfill(scenes)(batch.images, MEAN)
    around = torch.from_numpy(np.stack([ndimage.binary_dilation(mask, iterations=4) for mask in batch.masks.numpy()]))
    beside, over = (~around)[:, None].float(), around[:, None].float()
    assert torch.equal(masked_out(batch.images, beside, hidden), batch.images)
    torch.testing.assert_close(masked_in(batch.images, beside, hidden), hidden, rtol=0, atol=1e-6)
    torch.testing.assert_close(masked_out(batch.images, over, hidden), hidden, rtol=0, atol=1e-6)


def test_a_mask_is_optimised_against_it(scenes):
    """No pixel beside the object has a gradient but from size and smoothness: the mask stays on the object."""
    batch, classifier = scenes.batch(range(2)), scene_classifier()
    found = optimise_mask(
        classifier, batch.images, batch.labels, infill=OracleInfill(scenes), steps=12, precision="fp32"
    )
    inside = [
        float(mask[0][truth].mean() - mask[0][~truth].mean())
        for mask, truth in zip(found.masks, batch.masks, strict=True)
    ]
    assert min(inside) > 0 and (found.left < found.clean).all()


def test_the_classifier_no_longer_sees_the_class(scenes):
    batch, classifier = scenes.batch(range(64)), scene_classifier()
    with torch.no_grad():
        seen, erased = (
            float((classifier(images).argmax(dim=1) == batch.labels).float().mean())
            for images in (batch.images, scenes.erased(range(64)))
        )
    assert seen > 0.9 and erased < 0.2


def test_insertion_and_deletion_take_it(scenes):
    oracle, some = OracleInfill(scenes), Subset(scenes, range(6))
    metrics = [deletion(oracle, steps=7, name="deletion, oracle"), insertion(oracle, steps=7, name="insertion, oracle")]
    table = evaluate({"random": random_map()}, some, scene_classifier(), truth=True, metrics=metrics)
    assert table.loc["truth", "deletion, oracle"] < table.loc["random", "deletion, oracle"]
    assert table.loc["truth", "insertion, oracle"] > table.loc["random", "insertion, oracle"]
    assert table.attrs["requested"]["deletion, oracle"]["infill"] == "OracleInfill"
