"""Superpixels: how an image is cut, and numbers that lie on the pieces."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from maskerlib.masking.distributions import MASKS, decided_mask, sampled_mask
from maskerlib.masking.segments import region_means, segments, spread


def quarters(size: int = 16) -> Tensor:
    """(1, 3, size, size) of four colours, one a quarter."""
    image = torch.zeros(1, 3, size, size)
    half = size // 2
    image[:, 0, :half, :half] = image[:, 1, :half, half:] = image[:, 2, half:, :half] = 1
    image[:, :, half:, half:] = 1
    return image


def pieces(regions: Tensor) -> int:
    """4-connected pieces of one map (H, W), by flooding."""
    left = {(y, x) for y in range(regions.shape[0]) for x in range(regions.shape[1])}
    count = 0
    while left:
        count += 1
        todo = [left.pop()]
        while todo:
            y, x = todo.pop()
            for near in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if near in left and regions[near] == regions[y, x]:
                    left.discard(near)
                    todo.append(near)
    return count


class TestSegments:
    def test_regions_of_one_colour_are_found(self):
        expected = torch.tensor([[0, 1], [2, 3]]).repeat_interleave(8, 0).repeat_interleave(8, 1)
        assert torch.equal(segments(quarters(), count=4)[0], expected)

    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_each_region_is_one_piece_and_the_numbers_have_no_gaps(self, channels):
        images = torch.rand(2, channels, 24, 32, generator=torch.Generator().manual_seed(0))
        for regions in segments(images, count=12):
            assert regions.dtype == torch.int64 and regions.shape == (24, 32)
            numbers = regions.unique().tolist()
            assert numbers == list(range(len(numbers))) and pieces(regions) == len(numbers)

    def test_about_as_many_as_asked_for_whatever_the_size(self):
        ramp = torch.linspace(0, 1, 96).expand(1, 3, 96, 96)
        for size in (48, 96, 192):
            image = torch.nn.functional.interpolate(ramp, size=(size, size))
            for count in (4, 25, 64):
                assert 0.6 * count <= int(segments(image, count=count).max()) + 1 <= 1.4 * count

    def test_one_channel_is_cut_as_three_equal_ones_are(self):
        grey = quarters()[:, :1] * 0.5 + 0.25
        assert torch.equal(segments(grey, count=4), segments(grey.repeat(1, 3, 1, 1), count=4))

    def test_an_image_has_one_map_in_every_batch_and_no_random_number_is_drawn(self, device):
        images = torch.rand(3, 3, 20, 20, device=device)
        state = torch.get_rng_state()
        together = segments(images, count=9)
        alone = torch.cat([segments(image[None], count=9) for image in images])
        assert torch.equal(together, alone) and together.device.type == device.type
        assert torch.equal(state, torch.get_rng_state())

    def test_blank_images_and_single_pixels(self):
        for value in (0.0, 0.5, 1.0):
            assert segments(torch.full((1, 3, 8, 8), value), count=4).max() <= 7
        assert segments(torch.zeros(1, 3, 1, 1)).tolist() == [[[0]]]

    @pytest.mark.parametrize(
        "options, message",
        [({"count": 0}, "count=0 must be a whole"), ({"compactness": 0}, "compactness=0 must be a finite number")],
    )
    def test_impossible_options_are_named(self, options, message):
        with pytest.raises(ValueError, match=message):
            segments(quarters(), **options)

    def test_images_out_of_range_are_refused(self):
        with pytest.raises(ValueError, match="divide bytes by 255"):
            segments(quarters() * 255)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6))
def test_means_and_their_spread_equal_a_loop(seed, count):
    generator = torch.Generator().manual_seed(seed)
    regions = torch.randint(count, (2, 4, 5), generator=generator)
    maps = torch.rand(2, 1, 4, 5, generator=generator, dtype=torch.float64)
    means = region_means(maps, regions)
    shown = spread(means, regions)
    for image in range(2):
        for number in regions[image].unique():
            where = regions[image] == number
            assert means[image, number].item() == pytest.approx(maps[image, 0][where].mean().item())
            assert torch.equal(shown[image, 0][where], means[image, number].expand(int(where.sum())))


def test_a_region_that_an_image_lacks_has_mean_0_and_gradients_are_shares():
    regions = torch.tensor([[[0, 0, 1, 2]], [[0, 0, 0, 0]]])
    maps = torch.tensor([[[[1.0, 3.0, 5.0, 7.0]]], [[[1.0, 2.0, 3.0, 4.0]]]], requires_grad=True)
    means = region_means(maps, regions)
    assert means.tolist() == [[2, 5, 7], [2.5, 0, 0]]
    means[0, 0].backward()
    assert maps.grad.flatten().tolist() == [0.5, 0.5, 0, 0, 0, 0, 0, 0]


class TestMasks:
    """A mask on regions, out of logits on a grid."""

    LOGITS = torch.tensor([[[[2.0, -2.0], [0.0, 4.0]]]])
    REGIONS = torch.tensor([[[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0], [2, 2, 2, 2]]])

    def test_a_regions_logit_is_the_mean_of_its_pixels(self):
        """Nearest upsampling to 4 x 4: region 0 has 6 pixels of 2 and 0 and two of 4, region 1 has -2, region 2 has 0 and 4."""
        means = torch.tensor([(4 * 2 + 2 * 0 + 2 * 4) / 8, -2.0, (2 * 0 + 2 * 4) / 4])
        expected = means.sigmoid()[self.REGIONS][:, None]
        for mask in (sampled_mask, decided_mask):
            torch.testing.assert_close(mask(self.LOGITS, (4, 4), regions=self.REGIONS), expected)

    @pytest.mark.parametrize("kind", MASKS)
    def test_it_is_constant_on_every_region_and_each_has_its_own_coin(self, kind):
        regions = torch.arange(16).view(1, 4, 4).repeat_interleave(3, 1).repeat_interleave(3, 2)
        torch.manual_seed(0)
        mask = sampled_mask(torch.zeros(1, 1, 6, 6), (12, 12), kind, regions=regions)
        values = [mask[0, 0][regions[0] == number].unique() for number in range(16)]
        assert all(len(value) == 1 for value in values)
        different = len(torch.cat(values).unique())
        assert different == {"sigmoid": 1, "gumbel": 16, "gumbel_hard": 2}[kind]

    def test_the_gradient_reaches_every_cell_by_its_share_of_the_pixels(self):
        logits = torch.zeros(1, 1, 2, 2, requires_grad=True)
        regions = torch.tensor([[[0, 0], [0, 1]]])
        decided_mask(logits, (2, 2), regions=regions)[0, 0, 0, 0].backward()
        assert logits.grad.flatten().tolist() == pytest.approx([0.25 / 3] * 3 + [0.0])
        assert math.isclose(float(logits.grad.sum()), 0.25, rel_tol=1e-6)
