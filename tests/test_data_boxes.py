"""The box around a mask, which scenes, mask files and planted marks all take."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from maskerlib.data.boxes import component_boxes, mask_box


def test_the_box_of_a_mask_is_half_open():
    mask = torch.zeros(6, 8, dtype=torch.bool)
    mask[2:4, 5] = True
    assert mask_box(mask).tolist() == [[5, 2, 6, 4]] and mask_box(mask).dtype == torch.float32
    assert mask_box(torch.ones(6, 8, dtype=torch.bool)).tolist() == [[0, 0, 8, 6]]


def test_an_empty_mask_has_no_box():
    assert mask_box(torch.zeros(6, 8, dtype=torch.bool)).shape == (0, 4)


@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 1000))
def test_it_holds_every_pixel_and_touches_four(height, width, seed):
    mask = torch.rand(height, width, generator=torch.Generator().manual_seed(seed)) < 0.2
    found = mask_box(mask)
    assert len(found) == int(mask.any())
    for x0, y0, x1, y1 in found.int().tolist():
        inside = mask[y0:y1, x0:x1]
        assert inside.sum() == mask.sum()
        assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()
        assert torch.equal(component_boxes(mask[None, None]), found)
