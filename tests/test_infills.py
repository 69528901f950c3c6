"""Infills: what stands where an image is hidden, and that nothing hidden comes through."""

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import Squares, tiny_classifier
from torch import Tensor, nn

from maskerlib.experiments.settings import Setting
from maskerlib.masker.config import MaskerConfig
from maskerlib.masker.training import train_masker
from maskerlib.masking.infills import INFILLS, as_infill, blur, external, fill, local_mean, mean_colour, noise, opencv
from maskerlib.masking.masks import masked_in, masked_out
from maskerlib.methods.optimise import optimise_mask

MEAN = torch.tensor([0.2, 0.5, 0.8]).view(1, 3, 1, 1)
METHODS = ["telea", "navier_stokes"]
seeds = st.integers(0, 10_000)


def random(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def hole_at(rows: slice, columns: slice, *, size: tuple[int, int] = (16, 20), count: int = 1) -> Tensor:
    hole = torch.zeros(count, 1, *size)
    hole[:, :, rows, columns] = 1
    return hole


def bytes_of(images: Tensor) -> Tensor:
    """Images of whole bytes: what a picture of 8 bits can hold."""
    return (255 * images).round() / 255


class TestFill:
    def test_a_tensor_is_what_it_is_wherever_the_hole(self):
        images = random(0, 2, 3, 4, 5)
        for filling in (images, MEAN):
            assert torch.equal(fill(filling, torch.rand(2, 1, 4, 5)), filling)

    def test_a_function_is_asked_with_the_hole(self):
        hole = random(1, 2, 1, 4, 5)
        torch.testing.assert_close(fill(lambda where: 2 * where + MEAN, hole), 2 * hole + MEAN)

    def test_no_gradient_flows_through_it(self):
        """The gradient of the mask is that of a blend with a constant, though the filling is made of the mask."""
        weight = torch.tensor(3.0, requires_grad=True)
        images, mask = random(0, 2, 3, 4, 5), random(1, 2, 1, 4, 5).requires_grad_()
        for view, hole in ((masked_in, 1 - mask), (masked_out, mask)):
            filled = fill(lambda where: (weight * where).expand(-1, 3, -1, -1), hole)
            assert not filled.requires_grad
            (exact,) = torch.autograd.grad(view(images, mask, filled).sum(), mask)
            sign = 1 if view is masked_in else -1
            torch.testing.assert_close(exact, sign * (images - 3 * hole.detach()).sum(dim=1, keepdim=True))
        assert weight.grad is None


def test_the_mean_colour_is_the_mean():
    assert mean_colour(random(0, 2, 3, 4, 5), MEAN) is MEAN


class TestBlur:
    @pytest.mark.parametrize("shape, sigma", [((40, 50), 4.0), ((33, 20), 6.0), ((5, 90), 20.0)])
    def test_agrees_with_scipy_at_the_scaled_sigma(self, shape, sigma):
        images = random(0, 2, 3, *shape)
        scaled = sigma * min(shape) / 100
        expected = [
            scipy.ndimage.gaussian_filter(x.numpy(), scaled, mode="mirror", truncate=3) for x in images.flatten(0, 1)
        ]
        blurred = blur(sigma, at=100)(images, torch.zeros(1, 3, 1, 1))
        torch.testing.assert_close(blurred.flatten(0, 1), torch.from_numpy(np.stack(expected)), rtol=0, atol=1e-5)

    def test_looks_alike_at_every_size(self):
        small = random(0, 1, 3, 14, 14)
        one, other = (blur()(nn.functional.interpolate(small, size=(size, size)), torch.zeros(1)) for size in (56, 112))
        there = nn.functional.avg_pool2d(other, 2)
        torch.testing.assert_close(one, there, rtol=0, atol=0.02)  # borders are mirrored at pixels
        assert (one - nn.functional.interpolate(small, size=(56, 56))).abs().max() > 0.2

    @pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 3)])
    def test_tiny_images(self, shape):
        images = torch.full((1, 3, *shape), 0.3)
        torch.testing.assert_close(blur(200.0)(images, torch.zeros(1)), images)

    def test_mixed_precision_leaves_it_alone(self):
        images = torch.rand(4, 3, 96, 96).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = blur()(images, torch.zeros(1))
        assert mixed.dtype == torch.float32 and torch.equal(mixed, blur()(images, torch.zeros(1)))

    @pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan"), float("inf")])
    def test_other_sigmas_are_refused(self, sigma):
        with pytest.raises(ValueError, match=f"sigma={sigma} must be a finite number above 0"):
            blur(sigma)


class TestNoise:
    def test_follows_the_global_seed_and_is_drawn_anew(self):
        images, infill = random(0, 2, 3, 8, 8), noise()
        torch.manual_seed(3)
        first, second = infill(images, MEAN), infill(images, MEAN)
        torch.manual_seed(3)
        assert torch.equal(infill(images, MEAN), first) and not torch.equal(first, second)

    def test_lies_around_the_mean_colour_whatever_the_images(self):
        images = torch.zeros(4, 3, 64, 64)
        torch.manual_seed(0)
        drawn = noise(0.05)(images, MEAN)  # four deviations from either end: hardly anything is cut
        torch.testing.assert_close(drawn.mean(dim=(0, 2, 3)), MEAN.flatten(), rtol=0, atol=0.003)
        torch.testing.assert_close(drawn.std(dim=(0, 2, 3)), torch.full((3,), 0.05), rtol=0.05, atol=0)
        torch.manual_seed(0)
        assert torch.equal(noise(0.05)(torch.ones_like(images), MEAN), drawn)
        apart = (drawn - MEAN).view(12, -1)
        assert (apart @ apart.T / (0.05**2 * 4096) - torch.eye(12)).abs().max() < 0.1  # no two channels or images alike

    @settings(max_examples=20)
    @given(seeds, st.floats(0.01, 100))
    def test_is_a_picture_however_strong(self, seed, sigma):
        torch.manual_seed(seed)
        drawn = noise(sigma)(torch.zeros(2, 3, 4, 5), MEAN)
        assert drawn.shape == (2, 3, 4, 5) and drawn.min() >= 0 and drawn.max() <= 1

    def test_on_the_device(self, device):
        drawn = noise()(torch.zeros(1, 3, 4, 4, device=device), MEAN.to(device))
        assert drawn.device.type == device.type and drawn.std() > 0

    @pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan"), float("inf")])
    def test_other_sigmas_are_refused(self, sigma):
        with pytest.raises(ValueError, match=f"sigma={sigma} must be a finite number above 0"):
            noise(sigma)


class TestLocalMean:
    def test_is_the_mean_of_what_is_kept_around_each_pixel(self):
        """A loop over the pixels, with holes that are half open here and there."""
        images, hole = random(0, 2, 3, 9, 12), random(1, 2, 1, 9, 12).round(decimals=1)
        found = fill(local_mean(5, at=9)(images, MEAN), hole)
        for y, x in [(0, 0), (0, 7), (4, 5), (8, 11), (3, 0)]:
            rows, columns = slice(max(y - 2, 0), y + 3), slice(max(x - 2, 0), x + 3)
            kept = 1 - hole[:, :, rows, columns]
            expected = (kept * images[:, :, rows, columns]).sum(dim=(2, 3)) / kept.sum(dim=(2, 3))
            torch.testing.assert_close(found[:, :, y, x], expected)

    def test_what_is_hidden_does_not_count(self):
        images, hole = random(0, 1, 3, 16, 20), hole_at(slice(5, 11), slice(6, 14))
        shown = fill(local_mean(7, at=16)(images, MEAN), hole)
        changed = torch.where(hole.bool(), random(2, 1, 3, 16, 20), images)
        torch.testing.assert_close(fill(local_mean(7, at=16)(changed, MEAN), hole), shown)

    def test_far_from_anything_kept_it_is_the_mean_colour(self):
        images, hole = random(0, 1, 3, 16, 20), hole_at(slice(0, 16), slice(0, 12))
        found = fill(local_mean(5, at=16)(images, MEAN), hole)
        torch.testing.assert_close(found[..., :10], MEAN.expand(1, 3, 16, 10))
        assert not torch.allclose(found[..., 10:12], MEAN.expand(1, 3, 16, 2))

    def test_the_square_grows_with_the_image(self):
        small, hole = random(0, 1, 3, 28, 28), hole_at(slice(8, 20), slice(8, 20), size=(28, 28))
        large, wide = (nn.functional.interpolate(part, scale_factor=3) for part in (small, hole))
        one, other = fill(local_mean(40)(small, MEAN), hole), fill(local_mean(40)(large, MEAN), wide)
        there = nn.functional.avg_pool2d(other, 3)
        assert ((one - there).abs() * hole).mean() < 0.01

    @pytest.mark.parametrize("side", [0.0, -1.0, float("nan")])
    def test_other_sides_are_refused(self, side):
        with pytest.raises(ValueError, match=f"side={side} must be a finite number above 0"):
            local_mean(side)


def test_an_infill_is_itself_or_the_one_of_that_name():
    assert as_infill("mean") is mean_colour and as_infill(mean_colour) is mean_colour
    with pytest.raises(ValueError, match="infill='grey' is unknown; choose mean, blur, noise, local_mean, opencv or give"):
        as_infill("grey")


class TestExternal:
    def test_the_inpainter_sees_pictures_with_the_mean_colour_in_their_holes(self):
        images = bytes_of(random(0, 2, 3, 5, 7))
        hole = torch.zeros(2, 1, 5, 7)
        hole[0, 0, 1:3, 2:6], hole[1, 0, 4, 0] = 1, 1
        seen = []

        def inpaint(picture: np.ndarray, where: np.ndarray) -> np.ndarray:
            seen.append((picture.copy(), where.copy()))
            return picture

        external(inpaint)(images, MEAN)(hole)
        assert len(seen) == 2
        for (picture, where), image, one in zip(seen, images, hole, strict=True):
            assert picture.dtype == np.uint8 and picture.shape == (5, 7, 3) and where.dtype == bool
            np.testing.assert_array_equal(where, one[0].numpy() == 1)
            np.testing.assert_array_equal(picture[where], np.tile([51, 128, 204], (where.sum(), 1)))
            np.testing.assert_array_equal(picture[~where], (255 * image.permute(1, 2, 0)).round().byte().numpy()[~where])

    def test_what_it_returns_is_the_filling(self, device):
        images = random(0, 2, 3, 5, 7).to(device)
        values = iter([51, 255])

        def inpaint(picture: np.ndarray, where: np.ndarray) -> np.ndarray:
            result = np.zeros_like(picture)
            result[1, 2] = next(values), 0, 102
            return result

        filled = external(inpaint)(images, MEAN.to(device))(torch.ones(2, 1, 5, 7, device=device))
        assert filled.device.type == device.type and filled.dtype == torch.float32 and filled.shape == images.shape
        expected = torch.zeros(2, 3, 5, 7)
        expected[:, :, 1, 2] = torch.tensor([[0.2, 0, 0.4], [1, 0, 0.4]])
        torch.testing.assert_close(filled.cpu(), expected)

    def test_outside_nothing_changes_but_the_rounding_to_bytes(self):
        images, hole = random(0, 1, 3, 16, 20), hole_at(slice(4, 9), slice(3, 12))
        filled = external(lambda picture, where: np.where(where[..., None], np.uint8(255), picture))(images, MEAN)(hole)
        inside = hole.bool().expand_as(images)
        assert (filled[inside] == 1).all()
        torch.testing.assert_close(filled[~inside], images[~inside], rtol=0, atol=0.501 / 255)
        assert torch.equal(filled[~inside], bytes_of(images)[~inside])

    @pytest.mark.parametrize(
        "options, expected",
        [({}, [False, False, True, True, True]), ({"above": 0.5}, [False] * 4 + [True]), ({"above": 0}, [False] + [True] * 4)],
    )
    def test_what_counts_as_hidden(self, options, expected):
        hole = torch.tensor([0.0, 0.1, 0.11, 0.5, 1.0]).view(1, 1, 1, 5)
        seen = []
        external(lambda picture, where: seen.append(where) or picture, **options)(random(0, 1, 3, 1, 5), MEAN)(hole)
        assert seen[0].tolist() == [expected]

    def test_a_mask_that_hides_a_third_has_a_gradient(self):
        images, mask = random(0, 1, 3, 4, 5), torch.full((1, 1, 4, 5), 0.34, requires_grad=True)
        filling = fill(opencv()(images, MEAN), mask)
        masked_out(images, mask, filling).square().sum().backward()
        assert (mask.grad != 0).all()

    @pytest.mark.parametrize("above", [-0.1, 1, float("nan")])
    def test_other_levels_are_refused(self, above):
        with pytest.raises(ValueError, match=f"above={above} must lie at least at 0 and below 1"):
            external(lambda picture, where: picture, above=above)

    @settings(max_examples=20)
    @given(seeds)
    def test_nothing_in_the_hole_comes_through(self, seed):
        images, hole = random(seed, 2, 3, 6, 7), (random(seed + 1, 2, 1, 6, 7) > 0.5).float()
        other = torch.where(hole.bool(), random(seed + 2, 2, 3, 6, 7), images)
        infill = external(lambda picture, where: 255 - picture)
        assert torch.equal(infill(images, MEAN)(hole), infill(other, MEAN)(hole))

    def test_mirrored_and_read_only_pictures_are_pictures(self):
        """What [..., ::-1] (RGB for BGR) and np.asarray of a PIL image give."""
        images, hole = bytes_of(random(0, 1, 3, 4, 5)), torch.zeros(1, 1, 4, 5)

        def read_only(picture: np.ndarray, where: np.ndarray) -> np.ndarray:
            result = picture.copy()
            result.flags.writeable = False
            return result

        assert torch.equal(external(lambda picture, where: picture[..., ::-1])(images, MEAN)(hole), images.flip(1))
        assert torch.equal(external(read_only)(images, MEAN)(hole), images)

    @pytest.mark.parametrize(
        "result, got",
        [
            (np.zeros((4, 5, 3), np.float32), r"\(4, 5, 3\) of float32"),
            (np.zeros((5, 4, 3), np.uint8), r"\(5, 4, 3\) of uint8"),
            (np.zeros((4, 5), np.uint8), r"\(4, 5\) of uint8"),
            (np.zeros((1, 4, 5, 3), np.uint8), r"\(1, 4, 5, 3\) of uint8"),
            (torch.zeros(4, 5, 3, dtype=torch.uint8), r".*\[4, 5, 3\].* of torch.uint8"),
            ([[0]], "list of no type"),
            (None, "NoneType of no type"),
        ],
    )
    def test_another_result_is_named(self, result, got):
        filling = external(lambda picture, where: result)(random(0, 1, 3, 4, 5), MEAN)
        with pytest.raises(ValueError, match=rf"the inpainter returned {got}, expected \(4, 5, 3\) of uint8"):
            filling(torch.ones(1, 1, 4, 5))


class TestOpencv:
    @pytest.mark.parametrize("method", METHODS)
    def test_a_constant_image_comes_back(self, method, device):
        images = torch.tensor([0.6, 0.2, 1.0], device=device).view(1, 3, 1, 1).repeat(2, 1, 16, 20)
        hole = hole_at(slice(4, 10), slice(5, 13), count=2).to(device)
        filled = fill(opencv(method)(images, MEAN.to(device)), hole)
        tolerance = 0 if method == "navier_stokes" else 2 / 255  # Telea's weighted means are rounded down
        assert filled.device.type == device.type
        torch.testing.assert_close(filled, images, rtol=0, atol=tolerance + 1e-6)
        assert (images - MEAN.to(device)).abs().amax(dim=(0, 2, 3)).min() > 0.15  # so the mean colour would be seen

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("axis", [2, 3])
    def test_a_ramp_is_continued_through_the_hole(self, method, axis):
        steps = torch.linspace(0.1, 0.9, 24).view(*(24 if each == axis else 1 for each in range(4)))
        images = steps.expand(1, 3, 24, 24)
        hole = hole_at(slice(9, 14), slice(8, 14), size=(24, 24))
        filled = fill(opencv(method)(images, MEAN), hole)
        inside = hole.bool().expand_as(images)
        assert (filled - images)[inside].abs().mean() < 0.05 < (MEAN - images)[inside].abs().mean()
        profile = filled[0, 0, 8:15, 7:15].mean(dim=3 - axis)
        assert profile[-1] - profile[0] > 0.15 and (profile.diff() > -2 / 255).all()

    @pytest.mark.parametrize("method", METHODS)
    def test_nothing_in_the_hole_comes_through(self, method):
        images, hole = random(0, 2, 3, 16, 20), hole_at(slice(3, 9), slice(6, 15), count=2)
        other = torch.where(hole.bool(), 1 - images, images)
        one, same = (fill(opencv(method)(each, MEAN), hole) for each in (images, other))
        assert torch.equal(one, same)
        outside = ~hole.bool().expand_as(images)
        assert torch.equal(one[outside], bytes_of(images)[outside])
        elsewhere = fill(opencv(method)(1 - images, MEAN), hole)
        assert not torch.equal(one[~outside], elsewhere[~outside])

    @pytest.mark.parametrize("method", METHODS)
    def test_no_hole_and_nothing_else_than_a_hole(self, method):
        images = random(0, 1, 3, 16, 20)
        filling = opencv(method)(images, MEAN)
        torch.testing.assert_close(fill(filling, torch.zeros(1, 1, 16, 20)), bytes_of(images), rtol=0, atol=1e-6)
        blank = fill(filling, torch.ones(1, 1, 16, 20))  # nothing to go by
        assert torch.equal(blank, fill(opencv(method)(1 - images, MEAN), torch.ones(1, 1, 16, 20)))
        torch.testing.assert_close(blank, MEAN.expand_as(blank), rtol=0, atol=0.501 / 255)

    def test_methods_and_radii_differ(self):
        images, hole = random(0, 1, 3, 16, 20), hole_at(slice(3, 9), slice(6, 15))
        first, second = (fill(opencv(method)(images, MEAN), hole) for method in METHODS)
        wide = fill(opencv("telea", radius=6.0)(images, MEAN), hole)
        assert not torch.equal(first, second) and not torch.equal(first, wide)

    def test_another_method_is_named(self):
        with pytest.raises(ValueError, match="method='ns' is unknown; choose one of telea, navier_stokes"):
            opencv("ns")


@pytest.mark.parametrize("name", INFILLS)
class TestEveryInfill:
    """What an entry of `INFILLS` promises, whatever it shows."""

    def filled(self, name: str, images: Tensor, hole: Tensor) -> Tensor:
        torch.manual_seed(5)
        return fill(INFILLS[name]()(images, MEAN.to(images)), hole)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_a_batch_is_hidden_by_pictures_of_its_kind(self, name, dtype, device):
        dtype = torch.float32 if device.type == "mps" else dtype
        images = random(0, 2, 3, 17, 23).to(device, dtype)
        hole = hole_at(slice(2, 12), slice(4, 20), size=(17, 23), count=2).to(device, dtype)
        filled = self.filled(name, images, hole)
        assert filled.shape in (images.shape, MEAN.shape) and filled.dtype == dtype and filled.device == images.device
        assert filled.min() >= 0 and filled.max() <= 1
        inside = hole.bool().expand_as(images)
        assert (masked_out(images, hole, filled) - images)[inside].abs().mean() > 0.05

    def test_no_gradient_flows_through_it(self, name):
        images = random(0, 1, 3, 12, 12).requires_grad_()
        assert not self.filled(name, images, random(1, 1, 1, 12, 12).requires_grad_()).requires_grad

    def test_the_seed_decides_and_the_images_are_left_alone(self, name):
        images, hole = random(0, 2, 3, 12, 15), random(1, 2, 1, 12, 15)
        before = images.clone()
        assert torch.equal(self.filled(name, images, hole), self.filled(name, images, hole))
        assert torch.equal(images, before)

    def test_a_strip_and_a_single_pixel(self, name):
        for shape in ((1, 1), (3, 40)):
            assert self.filled(name, random(0, 1, 3, *shape), torch.ones(1, 1, *shape)).isfinite().all()


def test_the_names_that_committed_runs_go_by():
    assert {"mean", "blur", "noise", "local_mean", "opencv"} <= set(INFILLS)


def test_an_infill_more_is_one_line_and_known_to_all(monkeypatch):
    """What stands in `INFILLS` can be trained with, optimised with, and named in a table, without another edit."""
    asked = []

    def dark(images: Tensor, mean: Tensor) -> Tensor:
        asked.append(len(images))
        return torch.zeros_like(images)

    monkeypatch.setitem(INFILLS, "dark", lambda: dark)
    config = MaskerConfig(infill="dark", steps=1, batch_size=2, width=2, precision="fp32")
    assert MaskerConfig.from_json(config.to_json()) == config and Setting(infill="dark").config().infill == "dark"
    assert Setting(infill="dark").address() != Setting().address()
    train_masker(tiny_classifier(), Squares(4), config, progress=False)
    optimise_mask(tiny_classifier(), Squares(3).images, infill="dark", steps=1)
    assert asked == [2, 3]
