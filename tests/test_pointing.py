"""The pointing game: worked by hand on 4 x 4 pixels, its tolerance measured, and what several peaks are worth."""

import math

import pytest
import torch
from tiny import Squares, tiny_classifier
from torch import Tensor

from maskerlib.metrics.evaluation import evaluate
from maskerlib.metrics.pointing import TOLERANCE, pointing, pointing_game


def at(*pixels: tuple[int, int], size: tuple[int, int] = (4, 4)) -> Tensor:
    """(1, 1, H, W): 1 at each row, column, and 0.5 elsewhere."""
    maps = torch.full((1, 1, *size), 0.5)
    for row, column in pixels:
        maps[0, 0, row, column] = 1
    return maps


def corner(size: tuple[int, int] = (4, 4), side: int = 2) -> Tensor:
    truth = torch.zeros(1, 1, *size, dtype=torch.bool)
    truth[..., :side, :side] = True
    return truth


class TestByHand:
    """The object is the 2 x 2 pixels in the upper left of 4 x 4."""

    @pytest.mark.parametrize("row", range(4))
    @pytest.mark.parametrize("column", range(4))
    def test_without_tolerance_a_hit_is_a_pixel_of_the_object(self, row, column):
        assert float(pointing_game(at((row, column)), corner(), 0)) == (row < 2 and column < 2)

    def test_with_it_a_pixel_that_is_less_far_away(self):
        """1.5 pixels: the neighbours, also across a corner, at 1.41."""
        hits = torch.tensor([[float(pointing_game(at((r, c)), corner(), 1.5 / 4)) for c in range(4)] for r in range(4)])
        assert hits.tolist() == [[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]]

    def test_several_peaks_count_by_their_share(self):
        """A constant map is worth the object's share of the image: what a random pixel hits."""
        assert float(pointing_game(at((0, 0), (3, 3)), corner(), 0)) == 0.5
        assert float(pointing_game(torch.ones(1, 1, 4, 4), corner(), 0)) == 0.25
        assert float(pointing_game(torch.zeros(1, 1, 4, 4), corner(), 0)) == 0.25

    def test_an_object_that_is_not_there_is_never_hit(self):
        assert float(pointing_game(at((0, 0)), torch.zeros(1, 1, 4, 4, dtype=torch.bool), 1)) == 0


@pytest.mark.parametrize("size", [(96, 96), (60, 112)])
@pytest.mark.parametrize("tolerance", [0, 0.05, TOLERANCE])
def test_hits_are_those_of_distances_measured_one_by_one(size, tolerance):
    generator = torch.Generator().manual_seed(0)
    truth = torch.zeros(1, 1, *size, dtype=torch.bool)
    truth[..., 20:31, 40:52] = True
    rows, columns = truth[0, 0].nonzero().T
    for _ in range(40):
        row, column = (int(torch.randint(low, high, (), generator=generator)) for low, high in ((5, 50), (25, 60)))
        nearest = min(math.hypot(row - r, column - c) for r, c in zip(rows.tolist(), columns.tolist(), strict=True))
        expected = nearest == 0 or nearest < tolerance * min(size)
        assert bool(pointing_game(at((row, column), size=size), truth, tolerance)) == expected


def test_the_published_tolerance_is_fifteen_pixels_of_224():
    truth = torch.zeros(1, 1, 224, 224, dtype=torch.bool)
    truth[..., 100, 100] = True
    far = [float(pointing_game(at((100, column), size=(224, 224)), truth)) for column in (114, 115)]
    assert far == [1, 0]  # strictly within


def test_as_a_column():
    """Boxes where there are no masks; an image without a box is left out."""
    source = Squares(6)
    maps = torch.zeros(6, 1, 16, 16)
    for index, (top, left) in enumerate(source.corners.tolist()):
        maps[index, 0, top + 2 * (index % 2 == 0), left] = 1
        maps[index, 0, 15 - top, 15 - left] = 0.5
    table = evaluate({"there": maps, "elsewhere": 1 - maps}, source, tiny_classifier(), metrics="pointing")
    assert table.loc["there", "pointing"] == 1 and table.loc["elsewhere", "pointing"] < 1
    assert table.attrs["requested"] == {"pointing": {"tolerance": TOLERANCE, "passes": 0}}


@pytest.mark.parametrize("tolerance", [-0.1, 1.5, float("nan")])
def test_other_tolerances_are_refused(tolerance):
    with pytest.raises(ValueError, match=f"tolerance={tolerance} must lie between 0 and 1"):
        pointing(tolerance)
    with pytest.raises(ValueError, match="tolerance="):
        pointing_game(at((0, 0)), corner(), tolerance)


def test_maps_out_of_range_are_refused():
    with pytest.raises(ValueError, match="expected values in"):
        pointing_game(2 * at((0, 0)), corner())
