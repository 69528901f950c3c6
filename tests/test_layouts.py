"""Layouts: every way in which a layer's output can lie, told apart by its shape, the image and the network's grids."""

import pytest
import torch
from tiny import SIZE
from torch import Tensor, nn

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.layouts import Layout, first_tensor, possible_layouts


@pytest.mark.parametrize(
    "shape, image, grids, expected",
    [
        ((1, 256, 56, 56), (224, 224), [], ["maps"]),
        ((1, 14, 14, 384), (224, 224), [], ["channels_last"]),
        ((1, 2048, 1, 1), (224, 224), [], ["maps"]),
        ((1, 1, 1, 2048), (224, 224), [], ["channels_last"]),
        ((1, 64, 64, 64), (256, 256), [], ["maps", "channels_last"]),
        ((1, 64, 56, 56), (224, 224), [], ["maps"]),
        ((1, 64, 56, 28), (224, 112), [], ["maps"]),
        ((1, 56, 28, 64), (224, 112), [], ["channels_last"]),
        ((1, 512, 13, 17), (400, 533), [], ["maps"]),
        ((1, 5, 7, 11), (224, 224), [], []),
        ((1, 10), (224, 224), [], []),
    ],
)
def test_maps_have_the_sides_of_the_image_in_proportion(shape, image, grids, expected):
    assert [layout.kind for layout in possible_layouts(shape, image, grids)] == expected


@pytest.mark.parametrize(
    "tokens, image, grids, prefix, cells",
    [
        (197, (224, 224), [(14, 14)], 1, (14, 14)),
        (198, (224, 224), [(14, 14)], 2, (14, 14)),
        (201, (224, 224), [(14, 14)], 5, (14, 14)),
        (196, (224, 224), [(14, 14)], 0, (14, 14)),
        (9, (32, 32), [(2, 2)], 5, (2, 2)),  # a square of 3 as well, which no convolution made
        (197, (224, 224), [], 1, (14, 14)),  # no convolution to ask
        (99, (224, 112), [], 1, (14, 7)),
        (50, (224, 224), [(112, 112), (7, 7)], 1, (7, 7)),
    ],
)
def test_tokens_fill_a_grid_behind_a_few_others(tokens, image, grids, prefix, cells):
    (layout,) = possible_layouts((2, tokens, 192), image, grids)
    assert layout == Layout("tokens", prefix, cells, image)


def test_every_layout_gives_the_same_maps():
    maps = torch.rand(2, 5, 3, 4)
    assert torch.equal(Layout("maps").maps(maps, (12, 16)), maps)
    assert torch.equal(Layout("channels_last").maps(maps.permute(0, 2, 3, 1), (12, 16)), maps)
    sequence = torch.cat([torch.zeros(2, 2, 5), maps.flatten(2).transpose(1, 2)], dim=1)
    assert torch.equal(Layout("tokens", 2, (3, 4), (12, 16)).maps(sequence, (12, 16)), maps)
    assert torch.equal(Layout("tokens", 2, (6, 8), (24, 32)).maps(sequence, (12, 16)), maps), (
        "a smaller image, a smaller grid"
    )


def test_an_output_that_does_not_fit_its_layout_is_refused():
    with pytest.raises(
        ValueError, match=r"10 tokens for images of 12x16, expected 2 and a grid of 3x4; give images of 12x16"
    ):
        Layout("tokens", 2, (3, 4), (12, 16)).maps(torch.zeros(1, 10, 5), (12, 16))
    with pytest.raises(ValueError, match=r"shape \(1, 10, 5\) has no layout 'maps'"):
        Layout("maps").maps(torch.zeros(1, 10, 5), (12, 16))


def test_the_tensor_that_is_meant():
    z = torch.rand(2, 3)
    assert first_tensor((None, z, 2 * z), "logits") is z and first_tensor({"a": 1, "logits": z}, "logits") is z
    with pytest.raises(TypeError, match="dict with a, b"):
        first_tensor({"a": z, "b": z}, "logits")


class Square(nn.Module):
    """A layer with as many channels as rows and columns: (B, 8, 8, 8) for images of 16 pixels, in either layout."""

    def __init__(self, *, last: bool, fixed: bool = False) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3, 2, 1)
        self.layer = nn.Identity()
        self.last, self.fixed = last, fixed

    def forward(self, x: Tensor) -> Tensor:
        if self.fixed and x.shape[-1] != SIZE:
            raise AssertionError("images of one size alone")
        y = self.convolution(x)
        return self.layer(y.permute(0, 2, 3, 1) if self.last else y).flatten(1)[:, :4]


class TestOfAClassifier:
    @pytest.mark.parametrize("last", [False, True])
    def test_a_shape_that_may_be_either_is_asked_again_with_another_image(self, last):
        classifier = Classifier(Square(last=last), ("convolution", "layer"), input_size=(SIZE, SIZE)).eval()
        images = torch.rand(2, 3, SIZE, SIZE)
        found = classifier.activations(images)[1]
        assert torch.equal(found["layer"], found["convolution"])

    def test_where_it_cannot_be_told_the_user_says(self):
        network = Square(last=True, fixed=True)
        images = torch.rand(2, 3, SIZE, SIZE)
        with pytest.raises(
            RuntimeError, match=r"'layer' of net .*may lie in two ways.*layouts=\{'layer': 'maps', 'channels_last'"
        ):
            Classifier(network, ("layer",), input_size=(SIZE, SIZE), name="net").activations(images)
        plain = network.convolution((images - 0.5) / 0.5)
        for said in ("channels_last", lambda output: output.permute(0, 3, 1, 2)):
            classifier = Classifier(network, ("layer",), input_size=(SIZE, SIZE), layouts={"layer": said})
            torch.testing.assert_close(classifier.activations(images)[1]["layer"], plain)
        with pytest.raises(
            ValueError, match="layout 'rows' of 'layer' is unknown; choose one of maps, channels_last, tokens"
        ):
            Classifier(network, ("layer",), layouts={"layer": "rows"})
