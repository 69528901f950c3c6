"""The figures of the objectives: what is drawn, against geometry and gradients worked out by hand."""

import math

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from matplotlib.quiver import Quiver

from maskerlib.course import objective_figures as draw
from maskerlib.masking.terms import MASKED_IN, MASKED_OUT

IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
BOXES = [torch.tensor([[1.0, 2.0, 5.0, 6.0]]), torch.tensor([[0.0, 0.0, 8.0, 8.0]])]


@pytest.fixture(autouse=True)
def nothing_stays_open():
    yield
    assert not plt.get_fignums(), "a figure that stays open is shown twice in a notebook"


def of_first(term):
    return lambda logits: term(logits, torch.zeros(len(logits), dtype=torch.long), torch.ones(len(logits)))


def titles(figure) -> list[str]:
    return [axis.get_title() for axis in figure.axes]


def test_corners_are_sure_and_the_centre_is_undecided():
    corners = draw.to_plane(torch.eye(3))
    torch.testing.assert_close(corners, torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, math.sqrt(0.75)]]))
    torch.testing.assert_close(draw.to_plane(torch.full((3,), 1 / 3)), corners.mean(dim=0))


def test_the_grid_covers_the_triangle_and_keeps_its_margin():
    grid = draw.simplex_grid(4)
    assert grid.shape == (15, 3) and len({tuple(row) for row in grid.tolist()}) == 15
    torch.testing.assert_close(grid.sum(dim=1), torch.ones(15).double())
    assert grid.min() == 0 and grid.max() == 1
    assert draw.simplex_grid(4, 0.1).min() == pytest.approx(0.1)


def test_descent_of_cross_entropy_goes_to_its_class():
    p = torch.tensor([[0.2, 0.4, 0.4], [0.7, 0.2, 0.1]])
    direction, length = draw.descent(of_first(MASKED_IN["max_class"]), p)
    torch.testing.assert_close(length[1], torch.tensor(math.sqrt(0.3**2 + 0.2**2 + 0.1**2)).double())
    to_corner = -draw.to_plane(p[0])  # by symmetry the first point moves straight to y, which lies at the origin
    torch.testing.assert_close(direction[0], (to_corner / to_corner.norm()).double(), rtol=0, atol=1e-6)


def test_descent_agrees_with_a_small_step_of_the_logits():
    p = draw.simplex_grid(6, 0.05)
    for name, term in MASKED_OUT.items():
        loss = of_first(term)
        logits = p.log().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(logits).sum(), logits)
        moved = draw.to_plane((logits - 1e-5 * gradient).softmax(dim=1) - p).detach()
        direction, length = draw.descent(loss, p)
        torch.testing.assert_close(length, gradient.norm(dim=1))
        moving = length > 1e-3
        assert moving.sum() >= len(p) - 1, name
        expected = moved[moving] / moved[moving].norm(dim=1, keepdim=True)
        torch.testing.assert_close(direction[moving], expected, rtol=0, atol=1e-3)


def test_descent_rests_where_the_gradient_is_zero():
    direction, length = draw.descent(of_first(MASKED_OUT["max_ent"]), torch.full((1, 3), 1 / 3))
    assert direction.tolist() == [[0.0, 0.0]] and length.item() < 1e-6


def test_triangles_carry_names_and_arrows_as_long_as_the_gradient():
    loss = of_first(MASKED_OUT["min_class"])
    figure = draw.simplex_figure({"MinClass (O)": loss, "MaxEnt (O)": of_first(MASKED_OUT["max_ent"])})
    assert titles(figure) == ["MinClass (O)", "MaxEnt (O)"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["y", "b", "c"]
    (arrows,) = [part for part in figure.axes[0].collections if isinstance(part, Quiver)]
    (x, y), drawn = arrows.XY.T, torch.tensor(arrows.U) ** 2 + torch.tensor(arrows.V) ** 2
    longest = int(drawn.argmax())
    p_y = 1 - x[longest] - y[longest] / math.sqrt(3)
    assert p_y == pytest.approx(0.05, abs=0.01), "MinClass pulls hardest where y is ruled out"


def test_paths_lie_where_the_predictions_are():
    path = torch.tensor([[1.0, 0, 0], [1 / 3, 1 / 3, 1 / 3]])
    figure = draw.path_figure({"one": path}, {"one": [2.0, 0.5]})
    (line,) = [line for line in figure.axes[0].get_lines() if line.get_label() == "one"]
    torch.testing.assert_close(torch.tensor(line.get_xydata()).float(), draw.to_plane(path))
    assert list(figure.axes[1].get_lines()[0].get_ydata()) == [2.0, 0.5]


def test_cells_share_no_scale_and_have_zero_in_the_middle():
    step = torch.zeros(2, 1, 4, 4)
    step[0, 0, 0, 0], step[0, 0, 1, 1] = 0.5, -2.0
    figure = draw.cells_figure(IMAGES, BOXES, {"loss": step, "other": 3 * step}, ["cat", "dog"])
    assert titles(figure) == ["cat", "loss\n± 2", "other\n± 6", "dog", "± 0", "± 0"]
    image = figure.axes[1].images[0]
    assert image.get_clim() == (-2, 2) and image.get_array()[1, 1] == -2
    red, blue = image.cmap(image.norm(1.0)), image.cmap(image.norm(-1.0))
    assert red[0] > red[2] and blue[2] > blue[0], "raised cells are red, lowered ones blue"
    assert figure.axes[4].images[0].get_clim() == (-1, 1)
    assert len(figure.axes[0].patches) == 1


def test_the_lowest_point_is_marked_and_a_jump_is_not_joined():
    u = torch.linspace(0, 1, 101)
    panels = {"plain": {"λ = 1": (u - 0.3) ** 2}, "jump": {"λ = 1": (u - 0.3) ** 2 - 5.0 * (u >= 0.6)}}
    figure = draw.size_figure(u, panels, 0.6)
    assert titles(figure) == ["plain", "jump"]
    for axis, best, gaps in zip(figure.axes, (0.3, 0.6), (0, 1), strict=True):
        threshold, line, dot = axis.get_lines()
        assert list(threshold.get_xdata()) == [0.6, 0.6]
        assert dot.get_xdata()[0] == pytest.approx(best, abs=1e-6)
        assert int(torch.tensor(line.get_ydata()).isnan().sum()) == gaps


def optimum():
    weights = torch.tensor([1.0, 2.0, 3.0])
    lines = {"bracket": torch.tensor([0.3, 0.2, 0.2]), "price": torch.tensor([0.3, 0.2, 0.0])}
    return weights, lines, {"price": (weights[:2], torch.tensor([0.31, 0.19]))}, 0.2


def test_dots_have_the_colour_of_their_line():
    (axis,) = draw.optimum_figure(*optimum()).axes
    smallest, bracket, price, dots = axis.get_lines()
    assert list(smallest.get_ydata()) == [0.2, 0.2]
    assert torch.tensor(price.get_ydata()).tolist() == pytest.approx([0.3, 0.2, 0.0])
    assert dots.get_color() == price.get_color() != bracket.get_color()
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["bracket", "price"]


def test_a_landscape_is_marked_where_it_is_lowest():
    frame = pd.DataFrame([[3.0, 1.0, 2.0], [9.0, 0.5, 8.0]], index=[0.5, 1.0], columns=[-2, 0, 2])
    figure = draw.landscape_figure({"one": frame, "two": -frame, "three": frame, "four": frame})
    assert [axis.get_title() for axis in figure.axes if axis.axison] == ["one", "two", "three", "four"]
    for axis, lowest in zip(figure.axes, [(1, 1), (0, 1)], strict=False):
        (dot,) = axis.get_lines()
        assert (dot.get_xdata()[0], dot.get_ydata()[0]) == lowest
    (image,) = figure.axes[0].images
    assert image.get_clim() == (0.5, 2.5) and image.origin == "lower"
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["0.5", "1.0"]


def test_the_summary_has_every_part():
    losses = {name: of_first(term) for name, term in MASKED_IN.items()}
    maps = {"one": torch.ones(2, 1, 8, 8), "two": torch.zeros(2, 1, 8, 8)}
    figure = draw.summary_figure(losses, optimum(), IMAGES, BOXES, maps)
    assert titles(figure)[:3] == ["max_class", "min_ent", "area of the best mask (toy)"]
    assert titles(figure)[3:] == ["scene", "one", "two", "", "", ""]
    assert figure.axes[4].images[0].get_array().min() == 1
