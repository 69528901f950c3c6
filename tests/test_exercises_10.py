"""The checkers of notebook 10: they tell right from wrong, and their hints do not give the answer away."""

import pytest
import torch
from answers import refused

from maskerlib.course.exercises_10 import exercise_1, exercise_2, exercise_3, exercise_4
from maskerlib.masking.infills import fill
from maskerlib.masking.masks import masked_in, masked_out


@pytest.mark.parametrize("checker", [exercise_1, exercise_2, exercise_3, exercise_4])
def test_something_that_cannot_be_called_is_refused(checker):
    refused(checker, 3, "asked for")


class TestViews:
    def test_right(self):
        assert exercise_1(lambda x, m, z: (x * m + z * (1 - m), x * (1 - m) + z * m)) is None
        assert exercise_1(lambda x, m, z: [torch.lerp(z.expand_as(x), x, m), torch.lerp(x, z.expand_as(x), m)]) is None

    @pytest.mark.parametrize(
        "answer, part",
        [
            (lambda x, m, z: (masked_out(x, m, z), masked_in(x, m, z)), "other way round"),
            (lambda x, m, z: (x * m, x * (1 - m)), "is black"),
            (lambda x, m, z: (x * m + z, x * (1 - m) + z), "shines through"),
            (lambda x, m, z: (masked_in(x, m.round(), z), masked_out(x, m.round(), z)), "nothing is rounded"),
            (lambda x, m, z: x * m + z * (1 - m), "two tensors"),
            (lambda x, m, z: (x + z, x - z), "add up to 1"),
        ],
    )
    def test_wrong(self, answer, part):
        refused(exercise_1, answer, part)


def by_autograd(x, z, side):
    mask = torch.full((len(x), 1, *x.shape[-2:]), 0.3, requires_grad=True)
    view = {"in": masked_in, "out": masked_out}[side](x, mask, z)
    return torch.autograd.grad(view.sum(), mask)[0]


class TestGradient:
    def test_right(self):
        assert exercise_2(by_autograd) is None
        assert exercise_2(lambda x, z, side: ((x - z) if side == "in" else (z - x)).sum(dim=1, keepdim=True)) is None

    @pytest.mark.parametrize(
        "answer, part",
        [
            (lambda x, z, side: -by_autograd(x, z, side), "towards the image or away"),
            (lambda x, z, side: by_autograd(x, z, "out"), "side 'in'"),
            (lambda x, z, side: x - z if side == "in" else z - x, "three colours at once"),
            (lambda x, z, side: by_autograd(x, z, side) / 3, "three colours at once"),
            (lambda x, z, side: by_autograd(x, z, side)[:, 0], "three colours at once"),
            (lambda x, z, side: by_autograd(x, z, side).mean(), "where the mask is"),
            (lambda x, z, side: (x * z).sum(dim=1, keepdim=True), "differentiate"),
            (lambda x, z, side: 0, "a tensor"),
        ],
    )
    def test_wrong(self, answer, part):
        refused(exercise_2, answer, part)


def average(images, weights):
    return (images * weights).sum(dim=(2, 3), keepdim=True) / weights.sum(dim=(2, 3), keepdim=True)


def visible_colour(images, mean):
    return lambda hole: torch.where(
        hole.mean(dim=(2, 3), keepdim=True) < 1, average(images, 1 - hole).nan_to_num(), mean
    )


def one_at_a_time(images, mean):
    def of(hole):
        colours = []
        for image, hidden in zip(images, hole, strict=True):
            seen = 1 - hidden[0]
            flat = (image * seen).flatten(1).sum(dim=1) / seen.sum() if seen.sum() > 0 else mean.flatten()
            colours.append(flat[:, None, None].expand_as(image))
        return torch.stack(colours)

    return of


class TestVisibleColour:
    def test_right(self):
        assert exercise_3(visible_colour) is None
        assert exercise_3(one_at_a_time) is None

    @pytest.mark.parametrize(
        "answer, part",
        [
            (lambda x, mean: x.mean(dim=(2, 3), keepdim=True), "not known yet"),
            (lambda x, mean: lambda hole: x.mean(dim=(2, 3), keepdim=True), "knows what is hidden"),
            (lambda x, mean: lambda hole: average(x, hole), "what is hidden"),
            (lambda x, mean: lambda hole: (x * (1 - hole)).mean(dim=(2, 3), keepdim=True), "too dark"),
            (lambda x, mean: lambda hole: average(x, (hole <= 0.5).float()).nan_to_num(), "still visible"),
            (lambda x, mean: lambda hole: average(x, 1 - hole), "nothing is visible"),
            (lambda x, mean: lambda hole: average(x, 1 - hole).mean(dim=0, keepdim=True), "of its own"),
            (lambda x, mean: lambda hole: x[:, :, :2], "came back"),
            (lambda x, mean: lambda hole: x, "how visible"),
            (lambda x, mean: lambda hole: 0.5, "return a tensor"),
        ],
    )
    def test_wrong(self, answer, part):
        refused(exercise_3, answer, part)


def shown(infill, images, mean, hole):
    torch.manual_seed(0)
    return masked_out(images, hole, fill(infill(images, mean), hole))


def peeks(infill, images, mean, hole):
    other = torch.where(hole > 0, 1 - images, images)
    apart = shown(infill, images, mean, hole) - shown(infill, other, mean, hole)
    return bool((apart * hole).abs().max() > 1e-5)


def peeks_by_gradient(infill, images, mean, hole):
    images = images.requires_grad_()
    filling = infill(images, mean)
    filling = filling if isinstance(filling, torch.Tensor) else filling(hole)
    there = (filling * hole).sum()
    if not there.requires_grad:
        return torch.tensor(False)
    (gradient,) = torch.autograd.grad(there, images)
    return (gradient * hole).abs().max() > 1e-6


class TestPeeking:
    def test_right(self):
        assert exercise_4(peeks) is None
        assert exercise_4(peeks_by_gradient) is None

    def test_wrong(self):
        def unseeded(infill, images, mean, hole):
            other = torch.where(hole > 0, 1 - images, images)
            one, two = (fill(infill(x, mean), hole) for x in (images, other))
            return bool(((one - two) * hole).abs().max() > 1e-5)

        def changes_everything(infill, images, mean, hole):
            apart = shown(infill, images, mean, hole) - shown(infill, 1 - images, mean, hole)
            return bool((apart * hole).abs().max() > 1e-5)

        def compares_everywhere(infill, images, mean, hole):
            fillings = []
            for x in (images, torch.where(hole > 0, 0.0, images)):
                torch.manual_seed(0)
                fillings.append(fill(infill(x, mean), hole))
            return not torch.allclose(*fillings, atol=1e-5)

        def asks_pictures_only(infill, images, mean, hole):
            return isinstance(infill(images, mean), torch.Tensor) and peeks(infill, images, mean, hole)

        refused(exercise_4, lambda *given: False, "blur")
        refused(exercise_4, lambda *given: True, "never looks")
        refused(exercise_4, asks_pictures_only, "function of the hole")
        refused(exercise_4, unseeded, "call to call")
        refused(exercise_4, changes_everything, "nothing else")
        refused(exercise_4, lambda *given: "yes", "True or False")
        refused(exercise_4, lambda *given: 0.0, "True or False")
        refused(exercise_4, compares_everywhere, "in the hole counts")
