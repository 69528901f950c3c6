"""The component tree against labelling every threshold set anew."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from oracles import box_of, flood_fill

from maskerlib.metrics.components import component_tree


def listed(levels: np.ndarray, top: int) -> list[tuple]:
    """(image, k, area, first, box) of every component of every {levels >= k}, from the tree."""
    tree = component_tree(levels)
    return sorted(
        (int(image), k, int(area), int(first), *map(int, box))
        for image, low, high, area, first, box in zip(*tree, strict=True)
        for k in range(low, high + 1)
        if k <= top
    )


def labelled(levels: np.ndarray, top: int) -> list[tuple]:
    """The same by flood fill."""
    width = levels.shape[2]
    found = []
    for image, plane in enumerate(levels):
        for k in range(1, top + 1):
            found += [
                (image, k, len(part), min(y * width + x for y, x in part), *box_of(part))
                for part in flood_fill((plane >= k).tolist())
            ]
    return sorted(found)


@given(
    hnp.arrays(
        np.uint8,
        st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 7)),
        elements=st.integers(0, 5),
    )
)
def test_tree_lists_the_components_of_every_threshold_set(levels):
    assert listed(levels, 5) == labelled(levels, 5)


def test_tree_of_a_larger_noisy_and_a_larger_smooth_map():
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 30, (40, 40))
    y, x = np.mgrid[:40, :40]
    smooth = (15 + 10 * np.sin(x / 4) + 5 * np.cos(y / 3)).astype(int)
    levels = np.stack([noise, smooth])
    assert listed(levels, 30) == labelled(levels, 30)


def test_by_hand_two_peaks_joined_by_a_pass():
    """Level 3 and level 2 peaks, a pass of level 1: two components down to level 2, one at level 1."""
    tree = component_tree(np.array([[[3, 1, 2]]]))
    rows = sorted(
        zip(tree.low.tolist(), tree.high.tolist(), tree.area.tolist(), tree.boxes.tolist(), strict=True)
    )
    assert rows == [(1, 1, 3, [0, 0, 3, 1]), (2, 2, 1, [2, 0, 3, 1]), (2, 3, 1, [0, 0, 1, 1])]


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 5, 1), (2, 1, 5), (3, 4, 4)])
def test_empty_maps_have_no_components_and_full_ones_one(shape):
    assert len(component_tree(np.zeros(shape, np.uint8)).image) == 0
    full = component_tree(np.full(shape, 7, np.uint8))
    assert full.image.tolist() == list(range(shape[0]))
    assert set(full.low) == {1} and set(full.high) == {7}
    assert full.boxes.tolist() == [[0, 0, shape[2], shape[1]]] * shape[0]
