"""Samples, batches and sources: what is known is kept, what is unknown is said plainly, order is kept."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskerlib.data.augment import apply_crops, draw_crops
from maskerlib.data.indices import as_indices, as_size
from maskerlib.data.samples import Relabelled, Sample, Source, Subset, batches, collate
from maskerlib.running.seeds import stream


def sample(
    value: float = 0.0, *, label: int | None = 1, boxes: int = 1, mask: bool = True, side: int = 4
) -> Sample:
    corners = torch.tensor([[0.0, 0.0, 2.0, 2.0]]).repeat(boxes, 1)
    pixels = torch.full((side, side), True) if mask else None
    return Sample(torch.full((3, side, side), value), label, corners, pixels, f"sample {value}")


class Numbers(Source):
    """Image i is filled with i / 100 and labelled i."""

    class_names = ("a",)
    size = (4, 4)

    def __init__(self, count: int):
        self.labels = torch.arange(count)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Sample:
        return sample(index / 100, label=int(self.labels[index]))


def test_collate_stacks_every_field():
    batch = collate([sample(0.25, label=3, boxes=2), sample(0.5, label=None, boxes=0)])
    assert len(batch) == 2
    assert batch.images.shape == (2, 3, 4, 4) and batch.images.dtype == torch.float32
    assert batch.images[:, 0, 0, 0].tolist() == [0.25, 0.5]
    assert batch.labels.tolist() == [3, -1] and batch.labels.dtype == torch.int64
    assert [boxes.shape for boxes in batch.boxes] == [(2, 4), (0, 4)]
    assert batch.masks.shape == (2, 4, 4) and batch.masks.dtype == torch.bool
    assert batch.names == ("sample 0.25", "sample 0.5")


def test_one_missing_mask_means_no_masks():
    assert collate([sample(), sample(mask=False)]).masks is None


def test_collate_refuses_nothing_and_mixed_sizes():
    with pytest.raises(ValueError, match="0 samples"):
        collate([])
    with pytest.raises(ValueError, match=r"sample 0.5.*\(3, 5, 5\).*\(3, 4, 4\)"):
        collate([sample(), sample(0.5, side=5)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": 1.7}, r"^sample 0.0: label=1.7 is no whole number; give the index of its class, or None"),
        ({"label": "cat"}, r"^sample 0.0: label='cat' is no whole number"),
        ({"image": torch.zeros(32, 24, 3)}, r"image of shape \(32, 24, 3\), expected \(C, H, W\); .* image.permute\(2, 0, 1\)$"),
        ({"image": torch.zeros(8, 8, 1)}, r"image of shape \(8, 8, 1\), expected"),
        ({"image": torch.zeros(8, 8)}, r"its image is a tensor \(8, 8\), expected a float tensor \(C, H, W\)"),
        ({"image": np.zeros((3, 8, 8))}, "its image is a ndarray, expected a float tensor"),
    ],
)
def test_a_sample_that_is_none_is_named_with_the_mend(change, message):
    with pytest.raises(ValueError, match=message):
        collate([replace(sample(), **change)])


@pytest.mark.parametrize("label", [np.int64(2), torch.tensor(2), 2])
def test_a_label_is_any_whole_number(label):
    assert collate([replace(sample(), label=label)]).labels.tolist() == [2]


@pytest.mark.parametrize("image", [torch.zeros(3, 8, 3), torch.zeros(4, 4, 4), torch.zeros(1, 8, 3)])
def test_a_narrow_image_is_no_mistake(image):
    assert collate([replace(sample(), image=image)]).images.shape[1:] == image.shape


def test_pairs_are_no_samples():
    class Pairs(Numbers):
        def __getitem__(self, index: int):
            return torch.zeros(3, 4, 4), index

    with pytest.raises(ValueError, match=r"^an item of the source is a tuple, expected a .*Sample; make it Sample\(image, label"):
        Pairs(3).batch([0, 1])


def test_batch_moves_whole(device):
    moved = collate([sample(boxes=2)]).to(device)
    tensors = [moved.images, moved.labels, moved.masks, *moved.boxes]
    assert all(tensor.device.type == device.type for tensor in tensors)
    assert collate([sample(mask=False)]).to(device).masks is None


@given(count=st.integers(0, 25), batch_size=st.integers(1, 9))
def test_batches_bring_every_sample_once_in_order(count, batch_size):
    found = list(batches(Numbers(count), batch_size))
    assert [label for batch in found for label in batch.labels.tolist()] == list(range(count))
    assert all(len(batch) == batch_size for batch in found[:-1])


def test_batches_with_workers_are_the_same():
    alone, helped = (list(batches(Numbers(7), 3, workers=workers)) for workers in (0, 2))
    assert [batch.names for batch in alone] == [batch.names for batch in helped]
    assert all(torch.equal(a.images, b.images) for a, b in zip(alone, helped, strict=True))


@pytest.mark.parametrize("counts", [(2, 0, 1), (0, 0), (3,)])
def test_a_batch_is_handed_over_with_its_boxes_in_one_tensor(counts):
    """A worker sends each tensor through a file descriptor of its own, and a process has few of these."""
    batch = collate([sample(0.1 * at, boxes=count) for at, count in enumerate(counts)])
    tensors = [value for value in batch.__getstate__().values() if isinstance(value, torch.Tensor)]
    again = pickle.loads(pickle.dumps(batch))
    assert len(tensors) == 3 and isinstance(again.boxes, tuple)
    assert [each.shape for each in again.boxes] == [(count, 4) for count in counts]
    assert all(torch.equal(one, other) for one, other in zip(batch.boxes, again.boxes, strict=True))
    assert torch.equal(again.images, batch.images) and torch.equal(again.masks, batch.masks)
    assert again.names == batch.names and again.ignores is None and torch.equal(again.labels, batch.labels)


def test_batches_refuse_bad_numbers():
    with pytest.raises(ValueError, match="batch_size=0"):
        batches(Numbers(3), 0)
    with pytest.raises(ValueError, match="workers=-1"):
        batches(Numbers(3), 1, workers=-1)


def test_a_source_batches_any_indices():
    assert Numbers(9).batch([4, 0, 4]).labels.tolist() == [4, 0, 4]
    assert Numbers(9).batch(torch.tensor([8, 1])).labels.tolist() == [8, 1]


def test_subset_keeps_order_and_repeats():
    few = Subset(Numbers(9), [5, 2, 2, -1])
    assert len(few) == 4 and few.size == (4, 4) and few.class_names == ("a",)
    assert few.labels.tolist() == [5, 2, 2, 8]
    assert few.batch(range(4)).labels.tolist() == [5, 2, 2, 8]
    assert [item.label for item in few] == [5, 2, 2, 8]
    assert Subset(few, [3, 0]).batch([0, 1]).labels.tolist() == [8, 5]


def test_subset_refuses_an_index_outside():
    with pytest.raises(IndexError, match="index 9 of a source of 9 samples"):
        Subset(Numbers(9), [0, 9])
    with pytest.raises(IndexError, match="index 2 of a source of 2"):
        Subset(Numbers(9), [0, 1])[2]


# What may be asked for


@pytest.mark.parametrize("indices", [[6], range(7), torch.tensor([0, -7])])
def test_a_batch_of_more_than_there_is_says_how_many_there_are(indices):
    for source in (Numbers(6), Subset(Numbers(9), range(6)), Relabelled(Numbers(6), [0] * 6)):
        with pytest.raises(IndexError, match=r"index (6|-7) of a source of 6 samples: expected -6 to 5"):
            source.batch(indices)


def test_an_empty_source_says_so():
    with pytest.raises(IndexError, match="index 0 of a source of 0 samples: it holds none"):
        Numbers(0).batch([0])
    with pytest.raises(ValueError, match="a batch of 0 samples"):
        Numbers(3).batch([])


@pytest.mark.parametrize("indices", [5, [1.0], torch.tensor([0.0, 1.0]), [True, False], torch.ones(9) > 0, "12", None])
def test_indices_are_whole_numbers(indices):
    for source in (Numbers(9), Subset(Numbers(9), range(9)), Relabelled(Numbers(9), [0] * 9)):
        with pytest.raises(TypeError, match=r"expected a sequence of whole numbers, such as range\(6\).*nonzero"):
            source.batch(indices)


def test_indices_of_every_kind_count_from_the_front():
    for indices in ([0, -1], (0, 8), range(0, 9, 8), torch.tensor([0, -1]), np.array([0, 8])):
        assert as_indices(indices, 9) == [0, 8]


def test_sizes():
    assert as_size(3) == as_size((3, 3)) == as_size([3, np.int64(3)]) == (3, 3) and as_size((3, 4)) == (3, 4)
    for bad in (0, (3, 0), (3,), 2.0, "33", True, None):
        with pytest.raises(ValueError, match="expected pixels per side, 1 or more, or "):
            as_size(bad)


# Crops


def test_crops_of_a_plain_source_are_cut_from_its_images():
    source, crops = Numbers(9), draw_crops(3, stream(0))
    batch = source.cropped([4, 0, 4], crops)
    assert torch.equal(batch.images, apply_crops(source.batch([4, 0, 4]).images, crops))
    assert batch.labels.tolist() == [4, 0, 4] and batch.names == source.batch([4, 0, 4]).names
    assert batch.masks is None and [boxes.shape for boxes in batch.boxes] == [(0, 4)] * 3
    assert not Source.own_crops
    with pytest.raises(ValueError, match="3 crops for 2 images"):
        source.cropped([4, 0], crops)


class OwnCrops(Numbers):
    """Says what it was asked for."""

    own_crops = True

    def cropped(self, indices, crops):
        return collate([sample(index / 100, label=int(flip)) for index, flip in zip(indices, crops.flip, strict=True)])


def test_views_forward_crops():
    crops = draw_crops(3, stream(0))
    few = Subset(OwnCrops(9), [5, 2, 7])
    assert few.own_crops and not Subset(Numbers(3), [0]).own_crops
    asked = few.cropped([2, 0, -2], crops)
    assert asked.names == ("sample 0.07", "sample 0.05", "sample 0.02")
    assert asked.labels.tolist() == crops.flip.long().tolist()
    other = Relabelled(few, [10, 11, 12])
    assert other.own_crops and other.cropped([2, 0, -2], crops).names == asked.names
    assert other.cropped([2, 0, -2], crops).labels.tolist() == [12, 10, 11]
    with pytest.raises(IndexError, match="index 3 of a source of 3"):
        few.cropped([3], crops)


# Other labels


def test_other_labels_on_the_same_samples():
    source = Relabelled(Numbers(4), [2, -1, 0, 2], ("x", "y", "z"))
    assert len(source) == 4 and source.size == (4, 4) and source.class_names == ("x", "y", "z")
    assert source.labels.tolist() == [2, -1, 0, 2] and source.labels.dtype == torch.int64
    assert [item.label for item in source] == [2, None, 0, 2]
    batch = source.batch([3, 1, -2])
    assert batch.labels.tolist() == [2, -1, 0] and batch.names == ("sample 0.03", "sample 0.01", "sample 0.02")
    assert torch.equal(batch.images, Numbers(4).batch([3, 1, 2]).images) and batch.masks is not None
    assert Subset(source, [3, 1]).labels.tolist() == [2, -1]
    assert Relabelled(Numbers(2), torch.tensor([7, 9])).labels.tolist() == [7, 9]


def test_other_labels_are_a_copy():
    labels = torch.tensor([1, 0])
    source = Relabelled(Numbers(2), labels)
    labels[0] = 5
    assert source.labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ([0, 1], (), r"labels of shape \(2,\) for a source of 3 samples: give one for each"),
        (torch.zeros(3, 1, dtype=torch.int64), (), r"labels of shape \(3, 1\)"),
        ([0.0, 1.0, 2.0], (), "labels are torch.float32: expected whole numbers"),
        ([True, False, True], (), "labels are torch.bool"),
        ([0, 1, 2], ("a", "b"), "label 2 of sample 2: expected -1 to 1, as there are 2 class_names"),
        ([0, -2, 2], (), "label -2 of sample 1: expected -1 or more"),
        ([0, 0, 0], "ab", "class_names='ab' is one string"),
    ],
)
def test_labels_that_do_not_suit_are_named(labels, names, message):
    with pytest.raises(ValueError, match=message):
        Relabelled(Numbers(3), labels, names)
