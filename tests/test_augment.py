"""Random crops and flips, and the streams that they are drawn from."""

import math

import pytest
import torch

from maskerlib.data.augment import Crops, apply_crops, draw_crops, random_crop_flip
from maskerlib.running.precision import autocast, resolve_precision
from maskerlib.running.seeds import stream


def ramps(count: int, height: int = 40, width: int = 60) -> torch.Tensor:
    """Images whose first two channels are the coordinates, 0 to 1, of each pixel's centre."""
    rows = ((torch.arange(height) + 0.5) / height).view(1, 1, -1, 1).expand(count, 1, height, width)
    columns = ((torch.arange(width) + 0.5) / width).view(1, 1, 1, -1).expand(count, 1, height, width)
    return torch.cat([columns, rows, torch.full_like(rows, 0.5)], dim=1)


class TestCropFlip:
    def test_crops_have_the_promised_area_and_shape_and_lie_inside(self):
        crops = random_crop_flip(ramps(400), stream(0, "x"), scale=(0.2, 0.9), ratio=1.5)
        assert crops.shape == (400, 3, 40, 60)
        torch.testing.assert_close(crops[:, 2], torch.full_like(crops[:, 2], 0.5))
        left, right = crops[:, 0, 20, 10], crops[:, 0, 20, -11]
        top, bottom = crops[:, 1, 8, 30], crops[:, 1, -9, 30]
        width, height = (
            (right - left).abs() / (39 / 60),
            (bottom - top).abs() / (23 / 40),
        )  # back from between the centres
        share, shape = width * height, width / height
        assert share.min() > 0.2 - 1e-3 and share.max() < 0.9 + 1e-3
        assert share.min() < 0.23 and share.max() > 0.87
        assert shape.min() > 1 / 1.5 - 1e-2 and shape.max() < 1.5 + 1e-2
        assert shape.min() < 0.75 and shape.max() > 1.33
        assert crops.min() > 0 and crops.max() < 1
        assert (bottom > top).all()  # never upside down
        assert (left > right).float().mean().item() == pytest.approx(0.5, abs=0.08)
        middle = (left + right) / 2
        assert middle.min() < 0.3 and middle.max() > 0.7 and middle.mean().item() == pytest.approx(0.5, abs=0.03)

    def test_a_crop_is_a_straight_resize_of_its_part(self):
        crop = random_crop_flip(ramps(1), stream(3, "x"), scale=(0.5, 0.5))[0]
        steps = crop[0].diff(dim=1)[:, 2:-2]
        torch.testing.assert_close(steps, steps[:1, :1].expand_as(steps), rtol=0, atol=1e-5)
        torch.testing.assert_close(crop[0], crop[0][:1].expand_as(crop[0]), rtol=0, atol=1e-5)

    def test_full_scale_leaves_the_flip_alone(self):
        images = torch.rand(20, 3, 9, 12)
        done = random_crop_flip(images, stream(0, "x"), scale=(1, 1))
        same = [torch.allclose(ours, image, atol=1e-5) for ours, image in zip(done, images, strict=True)]
        flipped = [torch.allclose(ours, image.flip(-1), atol=1e-5) for ours, image in zip(done, images, strict=True)]
        assert [a ^ b for a, b in zip(same, flipped, strict=True)] == [True] * 20 and 3 < sum(flipped) < 17

    def test_the_generator_decides(self, device):
        images = torch.rand(4, 3, 16, 16)
        one, same, other = (random_crop_flip(images, stream(0, "augment", step)) for step in (1, 1, 2))
        assert torch.equal(one, same) and not torch.equal(one, other)
        there = random_crop_flip(images.to(device), stream(0, "augment", 1))
        assert there.device.type == device.type
        torch.testing.assert_close(there.cpu(), one, rtol=0, atol=1e-4)

    def test_memory_layout_and_a_constant_image_are_kept(self):
        images = torch.full((3, 3, 8, 8), 0.7).to(memory_format=torch.channels_last)
        torch.testing.assert_close(random_crop_flip(images, stream(0)), images)

    @pytest.mark.parametrize("scale", [(0, 1), (0.5, 0.4), (0.5, 1.1), (float("nan"), 1)])
    def test_impossible_scales_are_named(self, scale):
        with pytest.raises(ValueError, match="scale=.* must satisfy 0 < smallest <= largest <= 1"):
            random_crop_flip(torch.rand(1, 3, 4, 4), stream(0), scale=scale)


def one_crop(*, share, aspect=1.0, across=0.0, down=0.0, flip=False, scale=(0.08, 1.0)) -> Crops:
    numbers = (torch.tensor([float(number)]) for number in (share, aspect, across, down))
    return Crops(scale, *numbers, torch.tensor([flip]))


class TestCrops:
    def test_draws_and_their_application_are_the_random_crop(self):
        images = torch.rand(7, 3, 16, 20)
        for number, scale in enumerate([(0.08, 1.0), (0.5, 0.5), (1, 1)]):
            crops = draw_crops(7, stream(0, number), scale=scale, ratio=1.5)
            assert len(crops) == 7 and crops.scale == scale
            whole = random_crop_flip(images, stream(0, number), scale=scale, ratio=1.5)
            assert torch.equal(apply_crops(images, crops), whole)

    def test_five_numbers_are_drawn_for_each_image(self):
        ours, plain = stream(0), stream(0)
        crops = draw_crops(6, ours, scale=(0.25, 0.75), ratio=2)
        draws = torch.rand(5, 6, generator=plain)
        assert torch.equal(torch.rand(3, generator=ours), torch.rand(3, generator=plain))
        torch.testing.assert_close(crops.share, 0.25 + 0.5 * draws[0])
        torch.testing.assert_close(crops.aspect, 2 ** (2 * draws[1] - 1))
        assert torch.equal(crops.across, draws[2]) and torch.equal(crops.down, draws[3])
        assert torch.equal(crops.flip, draws[4] < 0.5) and crops.flip.dtype == torch.bool

    def test_windows_by_hand(self):
        """A quarter of 100 x 200 pixels is 5,000 of them: 71 x 71, or 50 x 100 at an aspect of 2."""
        last = 1 - 2**-24
        for there, expected in [
            ({}, (0, 0, 71, 71)),
            ({"aspect": 2}, (0, 0, 100, 50)),
            ({"aspect": 2, "across": 0.5, "down": 0.5}, (50, 25, 150, 75)),
            ({"aspect": 2, "across": last, "down": last}, (100, 50, 200, 100)),
            ({"aspect": 0.5}, (0, 0, 50, 100)),
        ]:
            assert one_crop(share=0.25, scale=(0.08, 0.25), **there).window(0, 100, 200) == expected
        assert one_crop(share=1, aspect=2).window(0, 100, 200) == (0, 0, 200, 100)

    def test_shares_that_do_not_fit_are_spread_over_those_that_do(self):
        """Squares of 100 x 200 pixels have half of it at most: shares of 0.1 to 0.9 become 0.1 to 0.5."""
        def side(share, height=100, width=200, scale=(0.1, 0.9)):
            x0, y0, x1, y1 = one_crop(share=share, scale=scale).window(0, height, width)
            assert x1 - x0 == y1 - y0
            return x1 - x0

        assert side(0.9) == 100 and side(0.1) == round(math.sqrt(0.1 * 20_000))
        assert side(0.5) == round(math.sqrt(0.3 * 20_000)) == side(0.5, 200, 100)
        assert side(0.5, 100, 2000) == 100  # one twentieth at most, less than the smallest share
        assert side(0.7, scale=(0.7, 0.7)) == 100

    def test_a_window_lies_inside_any_image(self):
        crops = draw_crops(300, stream(0), scale=(0.01, 1))
        for index in range(300):
            height, width = 1 + index % 7, 1 + (index * index) % 41
            x0, y0, x1, y1 = crops.window(index, height, width)
            assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height

    def test_windows_have_the_promised_area_shape_and_place(self):
        crops = draw_crops(2000, stream(0), scale=(0.08, 1))
        windows = torch.tensor([crops.window(index, 3000, 3000) for index in range(2000)]).double()
        width, height = (windows[:, 2:] - windows[:, :2]).unbind(1)
        aspect, share = width / height, width * height / 3000**2
        assert aspect.min() > 0.749 and aspect.max() < 1.335 and aspect.log().mean().abs() < 0.02
        assert share.min() > 0.079 and share.max() <= 1 and 0.46 < share.mean() < 0.54
        free = width < 2900
        across = (windows[:, 0] / (3000 - width))[free]
        assert 0.46 < across.mean() < 0.54 and across.min() < 0.02 and across.max() > 0.98

    def test_a_scale_of_one_is_no_crop(self):
        assert draw_crops(1, stream(0), scale=(1, 1)).window(0, 30, 40) is None

    def test_each_image_needs_its_own_crop(self):
        with pytest.raises(ValueError, match="2 crops for 3 images"):
            apply_crops(torch.rand(3, 3, 4, 4), draw_crops(2, stream(0)))

    @pytest.mark.parametrize("ratio", [0, 0.5, -1, float("inf"), float("nan")])
    def test_impossible_ratios_are_named(self, ratio):
        with pytest.raises(ValueError, match="ratio=.* must be a finite number of 1 or more"):
            draw_crops(1, stream(0), ratio=ratio)

    @pytest.mark.parametrize("scale", [0.5, None, (0.5,), (0.1, 0.5, 1), "all"])
    def test_a_scale_is_a_pair(self, scale):
        with pytest.raises(ValueError, match="scale=.* must satisfy 0 < smallest"):
            draw_crops(1, stream(0), scale=scale)


class TestStreams:
    def test_a_stream_follows_from_its_names(self):
        def numbers(*names) -> list[float]:
            return torch.rand(4, generator=stream(*names)).tolist()

        assert numbers(0, "order", 3) == numbers(0, "order", 3)
        different = [
            (0, "order", 3),
            (1, "order", 3),
            (0, "augment", 3),
            (0, "order", 4),
            (0, "order"),
            (-1, "order", 3),
        ]
        assert len({tuple(numbers(*names)) for names in different}) == len(different)

    def test_the_same_on_every_machine(self):
        assert stream(0, "order", 1).initial_seed() == 4374215849138048446


class TestPrecision:
    def test_names(self):
        assert resolve_precision("fp32", "cpu") == "fp32" and resolve_precision("bf16", "cpu") == "bf16"
        assert resolve_precision("auto", "cpu") in ("bf16", "fp32")
        with pytest.raises(ValueError, match="precision='half' is unknown; choose one of auto, bf16, fp32"):
            resolve_precision("half", "cpu")

    def test_autocast(self):
        x = torch.rand(4, 4)
        for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
            with autocast(precision, "cpu"):
                assert (x @ x).dtype == dtype
