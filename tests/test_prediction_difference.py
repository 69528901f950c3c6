"""Prediction difference analysis: equal to exhaustive computation, each window once, and the right map where it is known."""

import itertools
import math

import pytest
import torch
from tiny import Squares, tiny_classifier
from torch import Tensor
from toys import PATCH, bright, inside, linear_classifier, patch_classifier

from maskerlib.methods.prediction_difference import prediction_difference, weight_of_evidence

BINARY = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4))).view(16, 1, 2, 2)


def toy_sampler(image: Tensor, top: int, left: int, generator: torch.Generator) -> Tensor:
    """Every black and white window once, a little darker where the pixel across the image is dark: 16 of equal probability."""
    across = image[:, (top + 2) % 4, (left + 2) % 4]
    return BINARY * (0.5 + 0.5 * across[:, None, None])


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("batch_size", [1, 5, 48, 1000])
def test_on_4_x_4_pixels_it_is_the_exhaustive_computation(head, batch_size):
    """All windows, all values that can stand there: nothing is left to chance. The last batch is not full."""
    generator = torch.Generator().manual_seed(0)
    classifier = linear_classifier(torch.randn(3, 3, 4, 4, generator=generator))
    classifier.head = head
    image = torch.rand(1, 3, 4, 4, generator=generator)

    def probability(view: Tensor) -> float:
        z = classifier(view[None])[0].double()
        return float(z.sigmoid()[1] if head == "sigmoid" else z.softmax(dim=0)[1])

    def odds(p: float) -> float:
        p = (p * 100_000 + 1) / (100_000 + (2 if head == "sigmoid" else 3))
        return math.log2(p / (1 - p))

    total, covers = torch.zeros(4, 4), torch.zeros(4, 4)
    for top, left in itertools.product(range(3), repeat=2):
        mean = 0.0
        for colours in toy_sampler(image[0], top, left, generator):
            view = image[0].clone()
            view[:, top : top + 2, left : left + 2] = colours
            mean += probability(view) / 16
        total[top : top + 2, left : left + 2] += odds(probability(image[0])) - odds(mean)
        covers[top : top + 2, left : left + 2] += 1
    method = prediction_difference(window=0.5, stride=0.5, sampler=toy_sampler, samples=16, batch_size=batch_size)
    found = method.attribute(image, 1, classifier)
    torch.testing.assert_close(found, (total / covers).expand_as(image), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 7, 40])
def test_each_draw_is_seen_once_and_no_pass_is_larger(batch_size):
    classifier, seen = tiny_classifier(), []
    assert classifier.memory_format is not None  # asked for once, with a pass of its own
    classifier.network.register_forward_hook(lambda module, inputs, logits: seen.append(len(logits)))
    prediction_difference(3, window=5 / 16, stride=0.6, batch_size=batch_size)(Squares(2).images, 0, classifier)
    looks, passes = seen[:2], seen[2:]  # at both images, and at nothing for the number of classes
    assert looks == [2, 1] and sum(passes) == 2 * (1 + 3 * 5 * 5) and max(passes) <= batch_size


def test_the_batch_size_changes_nothing():
    images, classifier = Squares(2).images, tiny_classifier()
    maps = [prediction_difference(4, 0.25, batch_size=size).attribute(images, 0, classifier) for size in (1, 6, 50)]
    torch.testing.assert_close(maps[1], maps[0], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(maps[2], maps[0], rtol=1e-3, atol=1e-5)


def test_windows_reach_every_pixel_of_any_size():
    classifier = tiny_classifier()
    images = torch.rand(1, 3, 11, 19, generator=torch.Generator().manual_seed(0))
    found = prediction_difference(2, window=0.3, stride=1.0).attribute(images, 0, classifier)
    assert found.shape == images.shape and found.isfinite().all()


@pytest.mark.parametrize("sampler", ["conditional", "marginal"])
def test_it_finds_the_patch(sampler):
    """Drawn from images that are dark as often as bright: what is drawn anew there is evidence lost, and nothing elsewhere."""
    dark = torch.rand(20, 1, 1, 1, generator=torch.Generator().manual_seed(0)).expand(-1, 3, 16, 16)
    method = prediction_difference(window=4 / 16, stride=0.5, sampler=sampler, images=dark, frame=0.0)
    signed = method.attribute(bright(), 1, patch_classifier())[:, :1]
    assert (signed[inside(PATCH) == 1] > 0.5).all()
    at, away = inside(PATCH), torch.nn.functional.max_pool2d(inside(PATCH), 9, stride=1, padding=4)
    assert not signed[away == 0].any() and signed[at == 1].min() > signed[at == 0].max() / 2
    against = method.attribute(bright(), 0, patch_classifier())[:, :1]
    torch.testing.assert_close(against, -signed, rtol=1e-3, atol=1e-3)  # what speaks for one speaks against the other


def test_a_window_that_is_known_from_its_frame_is_no_evidence():
    """In a flat image the frame tells the window, so that a conditional draw changes nothing; a marginal one does."""
    pool = torch.rand(30, 3, 1, 1, generator=torch.Generator().manual_seed(0)).expand(-1, -1, 16, 16)
    image = torch.full((1, 3, 16, 16), 0.52)
    given, anyhow = (
        prediction_difference(window=4 / 16, stride=1, sampler=name, images=pool, frame=0.25)
        for name in ("conditional", "marginal")
    )
    given, anyhow = (method.attribute(image, 1, patch_classifier()) for method in (given, anyhow))
    assert given.abs().max() < 0.05 * anyhow.abs().max()


def test_other_images_come_from_a_tensor_or_a_source():
    source, classifier = Squares(9, seed=3), tiny_classifier()
    images = Squares(2).images
    maps = [prediction_difference(2, 0.25, images=given)(images, 0, classifier) for given in (source, source.images, None)]
    assert torch.equal(maps[0], maps[1]) and not torch.equal(maps[0], maps[2])
    with pytest.raises(ValueError, match=r"images of shape \(9, 3, 8, 8\).*expected \(N, 3, 16, 16\) like those explained"):
        prediction_difference(2, 0.25, images=source.images[..., :8, :8])(images, 0, classifier)


def test_the_evidence_is_in_bits_and_finite():
    """0.8 has odds of 4 = 2 bits; a class that is as likely without is no evidence; 0 and 1 have the odds of n = 100,000."""
    p = torch.tensor([0.8, 0.3, 1.0])
    found = weight_of_evidence(p, torch.tensor([0.5, 0.3, 0.0]), 2, n=10**9)
    torch.testing.assert_close(found[:2], torch.tensor([2.0, 0.0]).double(), rtol=0, atol=1e-6)
    assert weight_of_evidence(p, 1 - p, 5)[2] == pytest.approx(math.log2(100_001 / 4) - math.log2(1 / 100_004))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "samples=0 must be"),
        ({"window": 1.5}, "window=1.5 must lie above 0"),
        ({"stride": 0.0}, "stride=0.0 must lie above 0"),
        ({"sampler": "uniform"}, "sampler='uniform' is unknown; choose one of conditional, marginal"),
        ({"frame": -0.1}, "frame=-0.1 must be"),
        ({"batch_size": 0}, "batch_size=0 must be"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        prediction_difference(**options)
