"""Insertion, deletion, SRG: worked by hand on 4 x 4 pixels, against the published protocol, and what ties do."""

import json

import numpy as np
import pytest
import torch
from tiny import Squares, tiny_classifier
from torch import Tensor, nn
from toys import PATCH, bright, inside, patch_classifier

from maskerlib.classifiers.classifier import Classifier
from maskerlib.masking.infills import INFILLS, blur
from maskerlib.methods.random_map import random_map
from maskerlib.metrics.evaluation import evaluate
from maskerlib.metrics.removal import (
    area_under,
    deletion,
    insertion,
    pixel_ranks,
    removal_curve,
    symmetric_relevance_gain,
)


class ShareLit(nn.Module):
    """p(class 1) = the mean of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.asked.append(len(x))
        p = x.mean(dim=(1, 2, 3)).clamp(1e-9, 1 - 1e-9)
        return torch.stack([(1 - p).log(), p.log()], dim=1)


def share_lit() -> Classifier:
    return Classifier(ShareLit(), mean=(0.0,) * 3, std=(1.0,) * 3, input_size=(4, 4), name="share lit").eval()


def left_half() -> Tensor:
    """4 x 4 pixels, the left half white and the rest black."""
    image = torch.zeros(1, 3, 4, 4)
    image[..., :2] = 1
    return image


def falling(size: int = 4) -> Tensor:
    """A map (1, 1, size, size) whose values are all different and fall column by column, from the left."""
    return torch.linspace(1, 0, size * size).view(1, 1, size, size).transpose(2, 3).contiguous()


def curve(maps: Tensor, first: str = "most", images: Tensor | None = None, **options) -> Tensor:
    images = left_half() if images is None else images
    return removal_curve(
        images,
        pixel_ranks(maps, images),
        torch.ones(len(images), dtype=torch.int64),
        share_lit(),
        first=first,
        **options,
    )


class TestByHand:
    """Eight of sixteen pixels are white, so p = 1/2. Four steps hide a column each; what hides is black."""

    def test_the_right_map(self):
        assert curve(falling(), steps=4)[0].tolist() == pytest.approx([0.5, 0.25, 0, 0, 0], abs=1e-6)
        assert curve(falling(), "least", steps=4)[0].tolist() == pytest.approx([0.5, 0.5, 0.5, 0.25, 0], abs=1e-6)
        # deletion (0.5 / 2 + 0.25) / 4; insertion, read backwards, (0.25 + 0.5 + 0.5 + 0.5 / 2) / 4
        assert float(area_under(curve(falling(), steps=4))) == pytest.approx(0.125)
        assert float(area_under(curve(falling(), "least", steps=4))) == pytest.approx(0.375)

    def test_the_wrong_map_has_the_same_values_with_their_roles_changed(self):
        upside_down = 1 - falling()
        assert float(area_under(curve(upside_down, steps=4))) == pytest.approx(0.375)
        assert float(area_under(curve(upside_down, "least", steps=4))) == pytest.approx(0.125)

    def test_rows_instead_of_columns_say_nothing(self):
        """Each row holds as much white as any other: both curves are the diagonal, and SRG is 0."""
        rows = falling().transpose(2, 3)
        for first in ("most", "least"):
            assert curve(rows, first, steps=4)[0].tolist() == pytest.approx([0.5, 0.375, 0.25, 0.125, 0], abs=1e-6)

    def test_as_columns_of_a_table(self):
        source = WhiteSquare()
        metrics = (deletion(steps=4), insertion("mean", steps=4), symmetric_relevance_gain(steps=4))
        table = evaluate({"right": falling(), "wrong": 1 - falling()}, source, share_lit(), metrics=metrics)
        assert table.loc["right", ["deletion", "insertion", "SRG"]].tolist() == pytest.approx([0.125, 0.375, 0.25])
        assert table.loc["wrong", ["deletion", "insertion", "SRG"]].tolist() == pytest.approx([0.375, 0.125, -0.25])

    def test_another_fill_is_seen_where_pixels_are_hidden(self):
        """White hides: p climbs from 1/2 to 1, sooner where the map says that black matters."""

        def white(images: Tensor, mean: Tensor) -> Tensor:
            return torch.ones_like(images)

        assert curve(falling(), steps=4, infill=white)[0].tolist() == pytest.approx([0.5, 0.5, 0.5, 0.75, 1])
        assert curve(1 - falling(), steps=4, infill=white)[0].tolist() == pytest.approx([0.5, 0.75, 1, 1, 1])

    def test_an_infill_that_depends_on_the_hole_is_asked_with_the_hole(self):
        holes = []

        def infill(images: Tensor, mean: Tensor):
            def of(hole: Tensor) -> Tensor:
                holes.append(hole)
                return torch.zeros_like(images)

            return of

        curve(falling(), steps=2, infill=infill)
        assert [hole[0, 0, 0].tolist() for hole in holes] == [[0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]]

    def test_steps_that_do_not_divide_the_pixels_are_rounded_down(self):
        hidden = [round(16 * (0.5 - p)) for p in curve(falling(), steps=3)[0].tolist()]
        assert hidden == [0, 5, 8, 8]  # of 0, 5, 10 and 16 hidden pixels, 8 are white


class WhiteSquare(Squares):
    """The image of the cases by hand, of class 1."""

    def __init__(self, size: int = 4) -> None:
        super().__init__(1)
        self.images = left_half().repeat_interleave(size // 4, dim=2).repeat_interleave(size // 4, dim=3)
        self.labels, self.class_names, self.size = torch.tensor([1]), (), (size, size)


def published(
    image: np.ndarray, saliency: np.ndarray, probability, step: int, start: np.ndarray, finish: np.ndarray
) -> float:
    """One curve's area by the protocol of Petsiuk et al. (2018), pixel by pixel.

    From `start`, `step` pixels become those of `finish` at a time, the most salient first.
    """
    order = sorted(range(saliency.size), key=lambda pixel: -saliency.flat[pixel])
    now, scores = start.copy(), []
    count = -(-saliency.size // step)
    for number in range(count + 1):
        scores.append(probability(now))
        for pixel in order[step * number : step * (number + 1)]:
            row, column = divmod(pixel, saliency.shape[1])
            now[:, row, column] = finish[:, row, column]
    return sum((before + after) / 2 for before, after in zip(scores, scores[1:], strict=False)) / count


@pytest.mark.parametrize("steps", [4, 8, 64, 256])
def test_the_published_protocol(steps):
    """Deletion to the mean colour, insertion from the blur, of a convolutional network, on maps without ties."""
    classifier, images = tiny_classifier(), Squares(2).images
    maps, targets = random_map()(images, None, classifier), classifier(images).argmax(dim=1)
    ranks = pixel_ranks(maps, images)
    blurred = blur()(images, classifier.mean)
    for index in range(2):
        image = images[index].numpy()

        def probability(now: np.ndarray, index=index) -> float:
            with torch.no_grad():
                return float(classifier(torch.from_numpy(now)[None]).softmax(dim=1)[0, targets[index]])

        grey = np.broadcast_to(classifier.mean[0].numpy(), image.shape)
        expected = {
            "deletion": published(image, maps[index, 0].numpy(), probability, 256 // steps, image, grey),
            "insertion": published(
                image, maps[index, 0].numpy(), probability, 256 // steps, blurred[index].numpy(), image
            ),
        }
        found = {
            name: removal_curve(images, ranks, targets, classifier, steps=steps, precision="fp32", **options)
            for name, options in {"deletion": {}, "insertion": {"infill": "blur", "first": "least"}}.items()
        }
        for name, value in expected.items():
            assert float(area_under(found[name])[index]) == pytest.approx(value, abs=1e-5), name


def test_the_patch_that_the_classifier_looks_at_is_the_best_map():
    """Among all boxes of its size on a grid, and against its opposite."""
    classifier, images = patch_classifier(), bright(1)
    x0, y0, x1, y1 = PATCH
    boxes = [(x, y, x + x1 - x0, y + y1 - y0) for x in range(0, 13, 2) for y in range(0, 13, 2)]
    maps = torch.cat([inside(box) for box in boxes])
    many = images.expand(len(boxes), -1, -1, -1)
    ones = torch.ones(len(boxes), dtype=torch.int64)
    least, most = (
        area_under(removal_curve(many, pixel_ranks(maps, many), ones, classifier, steps=16, first=first))
        for first in ("least", "most")
    )
    best = boxes.index(PATCH)
    assert int((least - most).argmax()) == best == int(least.argmax()) == int(most.argmin())
    assert least[best] > 0.9 and most[best] < 0.1


class TestTies:
    def test_ranks_are_a_permutation_in_the_order_of_the_map(self):
        images, maps = torch.rand(3, 3, 5, 7), (4 * torch.rand(3, 1, 5, 7)).round() / 4
        ranks = pixel_ranks(maps, images)
        assert ranks.shape == maps.shape and ranks.dtype == torch.int64
        for one, values in zip(ranks, maps, strict=True):
            assert one.flatten().sort().values.tolist() == list(range(35))
            assert (values.flatten()[one.flatten().argsort()].diff() <= 0).all()

    def test_an_image_has_one_order_in_every_batch_and_each_image_and_seed_its_own(self):
        images, maps = torch.rand(4, 3, 6, 6), torch.ones(4, 1, 6, 6)
        together = pixel_ranks(maps, images)
        turned = pixel_ranks(maps, images.flip(0)).flip(0)
        alone = torch.cat([pixel_ranks(maps[:1], image[None]) for image in images])
        assert torch.equal(together, turned) and torch.equal(together, alone)
        orders = [tuple(one.flatten().tolist()) for one in [*together, *pixel_ranks(maps, images, seed=1)]]
        assert len(set(orders)) == 8

    def test_a_constant_map_is_hidden_in_random_order(self):
        """Among 400 orders each pixel has each quarter of the places equally often (binomial, 6 standard deviations)."""
        images = torch.rand(400, 3, 4, 4)
        places = pixel_ranks(torch.ones(400, 1, 4, 4), images).flatten(1) // 4
        for quarter in range(4):
            share = (places == quarter).float().mean(dim=0)
            assert (share - 0.25).abs().max() < 6 * (0.25 * 0.75 / 400) ** 0.5

    def test_a_constant_map_is_worth_what_a_random_one_is(self):
        images = left_half() + torch.rand(300, 1, 1, 1) / 1e4  # different checksums, and so different orders
        for maps in (torch.full((300, 1, 4, 4), 0.5), random_map()(images.clamp(0, 1), None, share_lit())):
            gains = area_under(curve(maps, "least", images, steps=16)) - area_under(
                curve(maps, "most", images, steps=16)
            )
            assert abs(float(gains.mean())) < 4 * float(gains.std()) / 300**0.5
            assert float(area_under(curve(maps, "most", images, steps=16)).mean()) == pytest.approx(0.25, abs=0.01)

    def test_the_global_random_state_is_left_alone(self):
        before = torch.random.get_rng_state()
        curve(falling(), steps=2, infill="noise")
        assert torch.equal(torch.random.get_rng_state(), before)


class TestAsColumns:
    METHODS = {"random": random_map()}

    def test_srg_is_insertion_less_deletion_under_one_fill_and_shares_their_passes(self):
        network = ShareLit()
        classifier = Classifier(network, mean=(0.0,) * 3, std=(1.0,) * 3, input_size=(16, 16))
        assert classifier.memory_format  # asked once for good, with a pass
        passes = []
        for names in ((), ("deletion",), ("SRG",), ("SRG", "deletion", insertion("mean"))):
            before = sum(network.asked)
            table = evaluate(self.METHODS, WhiteSquare(16), classifier, metrics=names)
            passes.append(sum(network.asked) - before)
        assert [count - passes[0] for count in passes] == [0, 29, 58, 58]
        assert table.loc["random", "SRG"] == pytest.approx(
            table.loc["random", "insertion"] - table.loc["random", "deletion"]
        )
        assert {name: values["passes"] for name, values in table.attrs["requested"].items()} == {
            "SRG": 58,
            "deletion": 29,
            "insertion": 29,
        }

    def test_what_they_rest_on_is_said_and_plain(self):
        def white(images: Tensor, mean: Tensor) -> Tensor:
            return torch.ones_like(images)

        metrics = ("insertion", deletion(white, steps=9, seed=3, name="white"), deletion(blur(5), name="faint"))
        attrs = evaluate(self.METHODS, Squares(2), tiny_classifier(), metrics=metrics).attrs
        assert json.loads(json.dumps(attrs))["requested"] == {
            "insertion": {"infill": "blur", "steps": 28, "seed": 0, "passes": 29},
            "white": {
                "infill": "TestAsColumns.test_what_they_rest_on_is_said_and_plain",
                "steps": 9,
                "seed": 3,
                "passes": 10,
            },
            "faint": {"infill": "blur", "steps": 28, "seed": 0, "passes": 29},
        }

    def test_fills_that_differ_do_not_share_a_curve(self):
        metrics = [deletion(name, name=f"by {name}") for name in INFILLS]
        metrics += [deletion(blur(sigma), name=f"by blur {sigma}") for sigma in (40.0, 80.0)]
        table = evaluate(self.METHODS, Squares(4), tiny_classifier(), metrics=metrics, precision="fp32")
        row = table.loc["random"]
        assert len({round(value, 9) for name, value in row.items() if name.startswith("by ")}) == len(metrics)

    def test_batches_change_nothing(self):
        metrics = ("insertion", "deletion", "SRG")
        one, many = (
            evaluate(self.METHODS, Squares(7), tiny_classifier(), metrics=metrics, batch_size=size, precision="fp32")
            for size in (2, 64)
        )
        np.testing.assert_allclose(one[[*metrics]], many[[*metrics]], atol=1e-6)

    def test_an_image_is_asked_about_the_class_that_was_explained(self):
        _, rows = evaluate(
            self.METHODS,
            Squares(5),
            tiny_classifier(),
            targets="predicted",
            precision="fp32",
            metrics=(deletion(steps=1), insertion("mean", steps=1)),
            per_image=True,
        )
        classifier, images = tiny_classifier(), Squares(5).images
        with torch.no_grad():
            clean = classifier(images).softmax(dim=1).amax(dim=1)
            said = classifier(images).argmax(dim=1)
            blank = classifier(classifier.mean.expand(1, 3, 16, 16)).softmax(dim=1)[0, said]
        expected = ((clean + blank) / 2).numpy()
        np.testing.assert_allclose(rows["deletion"], expected, atol=1e-5)
        np.testing.assert_allclose(rows["insertion"], expected, atol=1e-5)

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: deletion("gray"), "infill='gray' is unknown; choose mean, blur, noise"),
            (lambda: insertion(steps=0), "steps=0 must be a whole number of 1 or more"),
            (lambda: symmetric_relevance_gain(seed=1.5), "seed=1.5"),
            (lambda: curve(falling(), steps=17), "steps=17 must be a whole number of 1 or more, at most 16"),
            (lambda: curve(falling(), first="last", steps=4), "first='last' is unknown; choose one of most, least"),
        ],
    )
    def test_bad_options_are_refused(self, make, message):
        with pytest.raises(ValueError, match=message):
            make()


def test_on_each_device(device):
    images, maps = torch.rand(2, 3, 16, 16, device=device), torch.rand(2, 1, 16, 16, device=device)
    classifier = tiny_classifier().to(device)
    found = removal_curve(
        images, pixel_ranks(maps, images), torch.tensor([0, 1], device=device), classifier, precision="fp32"
    )
    assert found.shape == (2, 29) and found.device.type == device.type
    assert torch.equal(pixel_ranks(maps.round(), images).cpu(), pixel_ranks(maps.round().cpu(), images.cpu()))
