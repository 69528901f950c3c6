"""Samples, batches and sources: what is known is kept, what is unknown is said plainly, order is kept."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskerlib.samples import Sample, Source, Subset, batches, collate


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
