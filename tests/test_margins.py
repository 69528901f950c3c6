"""The objective of Dabkowski and Gal, worked out by hand, and what hides an image in it."""

import math

import pytest
import torch
from torch import Tensor

from maskerlib.masking.infills import blur, fill
from maskerlib.masking.margins import MarginObjective, blur_or_colour, margin_loss
from maskerlib.masking.masks import total_variation

GREY = torch.full((1, 3, 1, 1), 0.5)


class TestMargin:
    @pytest.mark.parametrize(
        "kept, label, expected",
        [(True, 0, 0.0), (True, 1, 2.0 + 1), (True, 2, 5.0 + 1), (False, 0, 2.0 + 5), (False, 1, 3.0), (False, 2, 0.0)],
    )
    def test_by_hand(self, kept, label, expected):
        """Logits 3, 1, -2: class 0 leads by 2, class 1 trails by 2, class 2 by 5."""
        loss = margin_loss(torch.tensor([[3.0, 1.0, -2.0]]), torch.tensor([label]), torch.tensor([kept]))
        assert loss.tolist() == [expected]

    def test_it_is_flat_beyond_its_margin_and_1_before(self):
        logits = torch.tensor([[0.0, 0.5], [0.0, 2.0], [0.0, 2.0]], requires_grad=True)
        margin_loss(logits, torch.tensor([1, 1, 0]), torch.tensor([True, True, False])).sum().backward()
        assert logits.grad.tolist() == [[1, -1], [0, 0], [1, -1]]

    def test_of_two_that_are_ahead_the_larger_one_counts(self):
        logits = torch.tensor([[0.0, 4.0, 3.0]], requires_grad=True)
        margin_loss(logits, torch.tensor([0]), torch.tensor([True])).sum().backward()
        assert logits.grad.tolist() == [[-1, 1, 0]]


def brightness(views: Tensor) -> Tensor:
    """Logits of "bright" (4 times the mean above a half) and of "dark" (its negative)."""
    z = 4 * (views.mean(dim=(1, 2, 3)) - 0.5)
    return torch.stack([z, -z], dim=1)


def terms(mask: Tensor, real: bool, classify=brightness, **options) -> dict[str, Tensor]:
    """Of a white image whose label is "bright", with black where it is hidden."""
    objective = MarginObjective(noise=0, **options)
    white, black = torch.ones(1, 3, *mask.shape[-2:]), torch.zeros(1, 3, 1, 1)
    given = (mask, torch.tensor([0]), torch.tensor([real]), black, lambda images, mean: mean)
    return dict(objective.terms(classify, white, *given))


class TestTerms:
    def test_a_class_that_is_there(self):
        """m = 1/4 everywhere: masked-out has mean 3/4, so bright leads by 2; masked-in has 1/4, and it trails by 2."""
        found = terms(torch.full((1, 1, 224, 224), 0.25), True)
        assert found["destroy"].item() == pytest.approx(5 + 2)
        assert found["preserve"].item() == pytest.approx(0.3 * (1 + 2))
        assert found["size"].item() == pytest.approx(8 * 0.2505**0.3, rel=1e-5)
        assert found["smooth"].item() == pytest.approx(0.005 / 2 * 0.3 * 4 * 224 * 0.25**2, rel=1e-5)
        assert list(found) == ["destroy", "preserve", "size", "smooth"]

    def test_a_fake_class_has_to_leave_the_image_alone(self):
        """The same mask: what is left leads by 2, which is enough; what is shown trails by 2, which is enough."""
        found = terms(torch.full((1, 1, 8, 8), 0.25), False)
        assert found["destroy"].item() == found["preserve"].item() == 0
        whole = terms(torch.full((1, 1, 8, 8), 1.0), False)
        assert whole["destroy"].item() == pytest.approx(1 + 4)
        assert whole["preserve"].item() == pytest.approx(0.3 * (1 + 4))

    def test_the_gradient_of_each_by_hand(self):
        """A constant mask a: d destroy = -8, d preserve = -0.3 * 8, d size = 8 * 0.3 (a + 0.0005)^-0.7, for d a."""
        share = torch.tensor(0.4, requires_grad=True)
        found = terms(share.expand(1, 1, 6, 6), True)
        slopes = {
            name: torch.autograd.grad(term.sum(), share, retain_graph=True)[0].item() for name, term in found.items()
        }
        assert slopes["destroy"] == pytest.approx(-8, rel=1e-5)
        assert slopes["preserve"] == pytest.approx(-0.3 * 8, rel=1e-5)
        assert slopes["size"] == pytest.approx(8 * 0.3 * 0.4005**-0.7, rel=1e-5)
        border = 0.005 / 2 * total_variation(torch.ones(1, 1, 6, 6)).item()  # of 1; that of a is a^2 times as much
        assert slopes["smooth"] == pytest.approx(border * 2 * 0.4, rel=1e-5)

    def test_an_empty_mask_has_a_finite_gradient(self):
        mask = torch.zeros(1, 1, 4, 4, requires_grad=True)
        sum(term.sum() for term in terms(mask, True).values()).backward()
        assert mask.grad.isfinite().all() and (mask.grad.abs() > 0).all()

    def test_weights_are_weights(self):
        mask = torch.rand(1, 1, 5, 5, generator=torch.Generator().manual_seed(0))
        plain, weighed = terms(mask, True), terms(mask, True, preserve=0.6, area=16, smooth=0.01)
        for name, factor in {"destroy": 1, "preserve": 2, "size": 2, "smooth": 2}.items():
            assert weighed[name].item() == pytest.approx(factor * plain[name].item(), rel=1e-5)

    def test_one_view_at_a_time_is_built(self):
        asked = []
        label, real = torch.tensor([0]), torch.tensor([True])
        given = (torch.full((1, 1, 4, 4), 0.5), label, real, GREY, lambda images, mean: mean)
        images = torch.rand(1, 3, 4, 4)
        found = MarginObjective().terms(lambda views: asked.append(1) or brightness(views), images, *given)
        assert [len(asked), *(len(asked) for _ in found)] == [0, 1, 2, 2, 2]

    def test_the_noise_lies_on_what_is_shown_and_stays_in_range(self):
        seen = []
        images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25
        given = (torch.ones(1, 1, 64, 64), torch.tensor([0]), torch.tensor([True]), GREY, lambda images, mean: mean)
        torch.manual_seed(0)
        list(MarginObjective(noise=0.1).terms(lambda views: seen.append(views) or brightness(views), images, *given))
        assert (seen[1] - images).std().item() == pytest.approx(0.1, rel=0.05)
        assert all(0 <= views.min() and views.max() <= 1 for views in seen)


class TestInfill:
    IMAGES = torch.rand(200, 3, 24, 24, generator=torch.Generator().manual_seed(0))

    def test_half_of_the_images_are_blurred_and_the_others_one_colour_under_noise(self):
        torch.manual_seed(0)
        shown = blur_or_colour()(self.IMAGES, GREY)
        blurred = blur(11.0)(self.IMAGES, GREY)
        same = (shown == blurred).flatten(1).all(dim=1)
        assert 70 < int(same.sum()) < 130
        others = shown[~same]
        colours = others.mean(dim=(2, 3))
        assert (colours - 0.5).abs().max() < 0.165 + 0.02 and colours.min() < 0.37 and colours.max() > 0.63
        assert (others - colours[:, :, None, None]).std().item() == pytest.approx(0.055, rel=0.05)
        assert colours.std(dim=1).min() > 0  # a number for each channel

    @pytest.mark.parametrize("chance", [0.0, 1.0])
    def test_always_one_of_them(self, chance):
        shown = blur_or_colour(chance=chance)(self.IMAGES[:8], GREY)
        assert torch.equal(shown, blur(11.0)(self.IMAGES[:8], GREY)) == (chance == 1)

    def test_any_number_of_channels_and_no_gradient(self, device):
        images = torch.rand(2, 1, 9, 9, device=device, requires_grad=True)
        filling = fill(blur_or_colour()(images, torch.full((1, 1, 1, 1), 0.5, device=device)), images)
        assert filling.shape == images.shape and not filling.requires_grad and filling.device.type == device.type

    @pytest.mark.parametrize("options", [{"chance": 1.5}, {"sigma": 0}, {"spread": -0.1}, {"noise": math.nan}])
    def test_impossible_options_are_named(self, options):
        ((name, value),) = options.items()
        with pytest.raises(ValueError, match=f"^{name}={value} must"):
            blur_or_colour(**options)


@pytest.mark.parametrize(
    "values", [{"area_power": 0}, {"area_power": 2}, {"preserve": -1}, {"lose": math.inf}, {"noise": "no"}]
)
def test_impossible_weights_are_named(values):
    ((name, value),) = values.items()
    with pytest.raises(ValueError, match=f"^{name}={value!r} must"):
        MarginObjective(**values)
