"""Random crops and flips, and the streams that they are drawn from."""

import pytest
import torch

from maskerlib.augment import random_crop_flip
from maskerlib.precision import autocast, resolve_precision
from maskerlib.seeds import stream


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
        with pytest.raises(ValueError, match="crop scale .* must satisfy 0 < smallest <= largest <= 1"):
            random_crop_flip(torch.rand(1, 3, 4, 4), stream(0), scale=scale)


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
        with pytest.raises(ValueError, match="precision 'half' is unknown; choose one of auto, bf16, fp32"):
            resolve_precision("half", "cpu")

    def test_autocast(self):
        x = torch.rand(4, 4)
        for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
            with autocast(precision, "cpu"):
                assert (x @ x).dtype == dtype
