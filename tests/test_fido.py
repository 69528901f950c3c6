"""FIDO: soft coins, the gradient of their expectation by enumeration, and toys on which the right region is known."""

import itertools
import math
import re

import pytest
import torch
from tiny import Squares, tiny_classifier
from torch import Tensor, nn
from toys import OTHER, PATCH, both_classifier, bright, inside, linear_classifier, patch_classifier

from maskerlib.classifiers.classifier import Classifier
from maskerlib.masking.infills import INFILLS
from maskerlib.masking.terms import log_odds
from maskerlib.methods.fido import concrete, drawn_loss, fido
from maskerlib.methods.registry import METHODS, method_named
from maskerlib.training.loop import Diverged

TOY = {"infill": "mean", "grid": 16}
QUICK = {"steps": 3, "samples": 2, "grid": 8}


def logistic(*shape: int) -> Tensor:
    return torch.rand(shape, dtype=torch.float64).logit(eps=1e-9)


class TestCoins:
    def test_they_fall_on_1_as_often_as_their_rate(self):
        rates = torch.tensor([0.05, 0.3, 0.5, 0.9], dtype=torch.float64)
        coins = concrete(rates.logit(), logistic(40_000, 4))
        torch.testing.assert_close(coins.round().mean(dim=0), rates, rtol=0, atol=0.01)

    def test_the_lower_the_temperature_the_harder(self):
        noise = logistic(2000)
        drawn = [concrete(0 * noise, noise, each) for each in (1, 0.1, 0.01)]
        soft = [float((4 * coins * (1 - coins)).mean()) for coins in drawn]
        assert soft[0] > 0.5 > soft[1] > 0.05 > soft[2]


def test_log_odds_by_hand():
    logits, labels = torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 0.0]]), torch.tensor([1, 0])
    p = logits.softmax(dim=1).gather(1, labels[:, None])[:, 0]
    torch.testing.assert_close(log_odds(logits, labels), (p / (1 - p)).log())
    assert log_odds(torch.tensor([[200.0, 0.0]]), torch.tensor([0])).item() == pytest.approx(200)  # 1 - p is 0 in floats


@pytest.mark.parametrize("game", ["ssr", "sdr"])
def test_the_gradient_of_many_draws_is_that_of_the_exact_expectation(game):
    """2 x 2 pixels: the expectation over all 16 holes, each with its probability, against low temperature."""
    torch.manual_seed(1)
    weights = torch.randn(2, 3, 2, 2)
    classifier, image, target = linear_classifier(weights).double(), torch.rand(1, 3, 2, 2).double(), torch.tensor([1])
    black = classifier.mean
    logits = torch.tensor([[[[-1.0, 0.3], [0.8, 0.0]]]], dtype=torch.float64, requires_grad=True)
    holes = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4)), dtype=torch.float64).view(16, 1, 2, 2)
    rates = logits.sigmoid()
    chances = (holes * rates + (1 - holes) * (1 - rates)).flatten(1).prod(dim=1)
    losses = drawn_loss(game, classifier, image.expand(16, -1, -1, -1), target.expand(16), holes, black)
    (exact,) = torch.autograd.grad((chances * losses).sum(), logits)
    count = 100_000
    coins = concrete(logits, logistic(count, 1, 2, 2), 0.1)
    drawn = drawn_loss(game, classifier, image.expand(count, -1, -1, -1), target.expand(count), coins, black)
    (estimate,) = torch.autograd.grad(drawn.mean(), logits)
    assert exact.abs().max() > 0.1
    torch.testing.assert_close(estimate, exact, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("game", ["ssr", "sdr"])
class TestWhatIsFound:
    def test_rates_reach_0_and_1_and_are_the_patch(self, game):
        rates = fido(game=game, **TOY)(bright(2), 1, patch_classifier())
        patch = inside(PATCH).bool().expand_as(rates)
        assert rates[patch].min() > 0.9 and rates[~patch].max() < 0.1

    def test_of_two_patches_it_finds_both(self, game):
        """SDR needs one alone; but both are equally bright, each draw goes for the darker, and so the rates of both rise."""
        rates = fido(game=game, **TOY)(bright(1), 1, both_classifier())
        found = [float(rates[inside(box) > 0].mean()) for box in (PATCH, OTHER)]
        nothing = float(rates[(inside(PATCH) + inside(OTHER)) == 0].max())
        assert min(found) > 0.7 and nothing < 0.2

    def test_it_says_what_is_asked_about_a_label_of_several(self, game):
        class Halves(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return torch.stack([20 * x[:, :, rows].mean(dim=(1, 2, 3)) - 9 for rows in (slice(0, 8), slice(8, 16))], dim=1)

        classifier = Classifier(Halves(), mean=(0.0,) * 3, std=(1.0,) * 3, input_size=(16, 16), head="sigmoid")
        rates = fido(game=game, size=10.0, **TOY)(bright(2), [0, 1], classifier)
        assert rates[0, 0, :8].mean() > rates[0, 0, 8:].mean() + 0.5
        assert rates[1, 0, 8:].mean() > rates[1, 0, :8].mean() + 0.5


def test_an_infill_is_asked_with_holes_of_0_and_1_and_has_no_gradient():
    holes = []

    def spy(images: Tensor, mean: Tensor):
        def of(hole: Tensor) -> Tensor:
            holes.append(hole)
            return hole.expand_as(images)

        return of

    for game in ("ssr", "sdr"):
        fido(game=game, infill=spy, **QUICK)(Squares(2).images, None, tiny_classifier())
    assert len(holes) == 2 * 3 and all(not hole.requires_grad for hole in holes)
    assert all(set(hole.unique().tolist()) == {0.0, 1.0} for hole in holes)
    # the same coins show in one game what they hide in the other; at the first step every rate is a half
    assert torch.equal(holes[0], 1 - holes[3])


@pytest.mark.parametrize("infill", INFILLS)
def test_every_infill_will_do(infill):
    images, classifier = Squares(2).images, tiny_classifier()
    first, again = (fido(infill=infill, **QUICK)(images, None, classifier) for _ in range(2))
    assert torch.equal(first, again) and first.std() > 0


def test_an_image_has_one_map_in_every_batch_and_however_many_fit_in_a_pass():
    images, classifier = Squares(3).images, tiny_classifier()
    options = {"infill": "local_mean", "steps": 6, "samples": 4, "grid": 8}
    together = fido(**options)(images, [0, 1, 2], classifier)
    alone = torch.cat([fido(**options)(images[i : i + 1], i, classifier) for i in range(3)])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-3)
    sizes: list[int] = []
    classifier.network.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    for batch_size, most in ((3, 2), (5, 4), (8, 8)):  # of four samples, as many at once as divide them
        sizes.clear()
        torch.testing.assert_close(
            fido(batch_size=batch_size, **options)(images, [0, 1, 2], classifier), together, rtol=0, atol=1e-3
        )
        assert max(sizes[1:]) == max(most, 1) <= batch_size


def test_the_rates_start_at_a_half_and_the_price_rises():
    """With a price alone, and a classifier that sees nothing, rates fall; the warm-up makes them fall later."""
    blind, image = linear_classifier(torch.zeros(2, 3, 16, 16)), bright(1)
    options = {"steps": 10, "samples": 1, "grid": 4}
    assert torch.equal(fido(size=0.0, **options)(image, 0, blind), torch.full((1, 1, 16, 16), 0.5))
    priced = fido(**options)(image, 0, blind)
    assert priced.max() < 0.5 and priced.max() == priced.min()


def test_the_two_games_are_methods_of_their_own():
    images, classifier = Squares(2).images, tiny_classifier()
    assert METHODS["fido"].cost() == METHODS["fido-sdr"].cost() == (2401, 2400)
    for name, game in (("fido", "ssr"), ("fido-sdr", "sdr")):
        mine = method_named(name, classifier, seed=3, **QUICK)(images, None, classifier)
        assert torch.equal(mine, fido(game=game, seed=3, **QUICK)(images, None, classifier))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"game": "SSR"}, "game='SSR' is unknown; choose one of ssr, sdr"),
        ({"infill": "grey"}, "infill='grey' is unknown; choose mean, blur"),
        ({"grid": 0}, "grid=0 must be a whole number"),
        ({"steps": 0}, "steps=0 must be a whole number"),
        ({"samples": 0}, "samples=0 must be a whole number"),
        ({"batch_size": 0}, "batch_size=0 must be a whole number"),
        ({"lr": 0.0}, "lr=0.0 must be"),
        ({"temperature": 0.0}, "temperature=0.0 must be"),
        ({"size": -1.0}, "size=-1.0 must be"),
        ({"warmup": math.inf}, "warmup=inf must"),
    ],
)
def test_bad_options_are_named_before_anything_runs(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        fido(**options)


def test_a_rate_that_is_not_finite_is_no_result():
    with pytest.raises(Diverged, match="stopped being finite"):
        fido(infill=lambda images, mean: images * math.nan, **QUICK)(Squares(1).images, 0, tiny_classifier())
