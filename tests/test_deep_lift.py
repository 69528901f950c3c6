"""DeepLIFT: closed forms, captum called by hand, its sum on networks that captum alone gets wrong, and what it refuses."""

import warnings

import pytest
import torch
from captum.attr import DeepLift
from tiny import Squares, snapshot, tiny_classifier
from torch import Tensor, nn
from toys import linear_classifier

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.scene_resnet import scene_resnet
from maskerlib.methods.deep_lift import deep_lift
from maskerlib.methods.entry import Unsupported
from maskerlib.metrics.evaluation import evaluate


def wrapped(*layers: nn.Module, head: int, classes: int = 3) -> Classifier:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), *layers, nn.Flatten(), nn.Linear(head, classes))
    network[0].weight.data.mul_(4)
    return Classifier(network, input_size=(10, 10), name="net").eval()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, 10, 10, generator=torch.Generator().manual_seed(1))


def by_captum_alone(classifier: Classifier, images: Tensor, target: int, start: Tensor | None = None) -> Tensor:
    classifier.requires_grad_(False)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for image in images[:, None]:
            begin = (classifier.mean if start is None else start).expand_as(image)
            found.append(DeepLift(classifier).attribute(image.clone().requires_grad_(), begin, target))
    return torch.cat(found).detach()


def change(classifier: Classifier, images: Tensor, target: int, start: Tensor | None = None) -> Tensor:
    start = (classifier.mean if start is None else start).expand_as(images)
    with torch.no_grad():
        return (classifier(images) - classifier(start))[:, target]


def test_of_a_linear_classifier_it_is_the_weight_times_the_way_from_the_baseline():
    weights, images = torch.randn(3, 3, 4, 4), torch.rand(2, 3, 4, 4)
    classifier = linear_classifier(weights)
    torch.testing.assert_close(deep_lift().attribute(images, [2, 0], classifier), weights[[2, 0]] * images)
    start = torch.rand(2, 3, 4, 4)
    lifted = deep_lift(start).attribute(images, 1, classifier)
    torch.testing.assert_close(lifted, weights[1] * (images - start))


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ELU(), nn.Sigmoid(), nn.Softplus()])
def test_it_is_captums_where_captum_knows_all(activation, images):
    classifier = wrapped(activation, nn.Conv2d(4, 4, 1), nn.MaxPool2d(2), nn.AvgPool2d(1), nn.Tanh(), head=64)
    expected = by_captum_alone(classifier, images, 1)
    torch.testing.assert_close(deep_lift().attribute(images, 1, classifier), expected)
    torch.testing.assert_close(expected.sum(dim=(1, 2, 3)), change(classifier, images, 1), rtol=1e-4, atol=1e-5)


def test_one_activation_behind_another_is_right_here_and_not_with_captum_alone(images):
    classifier = wrapped(nn.Sigmoid(), nn.MaxPool2d(2), head=64)
    start = images.flip(3)[:1]
    wanted = change(classifier, images, 1, start)
    alone = by_captum_alone(classifier, images, 1, start).sum(dim=(1, 2, 3))
    assert ((alone - wanted).abs() > 0.1 * wanted.abs()).all()
    attribution = deep_lift(start).attribute(images, 1, classifier)
    torch.testing.assert_close(attribution.sum(dim=(1, 2, 3)), wanted, rtol=1e-3, atol=1e-5)


class Pixel(nn.Module):
    """Two logits of one grey pixel: ReLU6(8 x) - 2 x, and its negative; the activation is called twice."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        y = self.activation(8 * x) - self.activation(2 * x)
        return torch.cat([y, -y], dim=1)


def test_a_relu6_by_hand_called_twice_and_in_place():
    options = {"mean": (0.25,), "std": (1.0,), "input_size": (1, 1)}
    classifier = Classifier(Pixel(nn.ReLU6(inplace=True)), **options).eval()
    x = torch.tensor([[[[1.0]]], [[[0.5]]], [[[0.0]]]])
    # From z = 0.25, which the network sees as 0, to 0.75, 0.25 and -0.25: 6 - 1.5, 2 - 0.5 and nothing.
    lifted = deep_lift().attribute(x, 0, classifier)
    torch.testing.assert_close(lifted.flatten(), torch.tensor([4.5, 1.5, 0.0]))


class Residual(nn.Module):
    """What captum alone gets wrong: a ReLU6 in place, called three times, a shortcut, and windows that overlap."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, bias=False)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.body = nn.Conv2d(6, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.act = nn.ReLU6(inplace=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.act(9 * self.stem(x)))
        return self.head(self.act(self.act(self.norm(self.body(x))) * 2 + x).mean(dim=(2, 3)))


def test_it_adds_up_where_captum_alone_does_not(images):
    torch.manual_seed(0)
    classifier = Classifier(Residual(), input_size=(10, 10)).eval()
    wanted = change(classifier, images, 2)
    alone = by_captum_alone(Classifier(Residual(), input_size=(10, 10)).eval(), images, 2).sum(dim=(1, 2, 3))
    assert ((alone - wanted).abs() > 0.1 * wanted.abs()).any()
    for start in (None, torch.rand(1, 3, 1, 1)):
        attribution = deep_lift(start).attribute(images, 2, classifier)
        torch.testing.assert_close(
            attribution.sum(dim=(1, 2, 3)), change(classifier, images, 2, start), rtol=1e-3, atol=1e-5
        )


def test_it_adds_up_on_the_classifier_of_the_course():
    classifier = scene_resnet(tuple("abcd"), size=32).eval()
    images = torch.rand(2, 3, 32, 32)
    attribution = deep_lift().attribute(images, 1, classifier)
    torch.testing.assert_close(attribution.sum(dim=(1, 2, 3)), change(classifier, images, 1), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"padding": 1}, {"dilation": 2}, {"stride": 3}, {"kernel_size": (2, 3)}])
def test_windows_laid_side_by_side_are_the_same_pooling(options, images):
    pool = nn.MaxPool2d(**{"kernel_size": 3, "stride": 2} | options)
    side = pool(torch.zeros(1, 4, 8, 8)).numel()
    classifier = wrapped(pool, head=side)
    attribution = deep_lift().attribute(images, 1, classifier)
    torch.testing.assert_close(attribution.sum(dim=(1, 2, 3)), change(classifier, images, 1), rtol=1e-3, atol=1e-5)


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.stem(x) * 4).relu().mean(dim=(2, 3)))


@pytest.mark.parametrize(
    ("classifier", "reason"),
    [
        (wrapped(nn.SiLU(), head=256), "has SiLU"),
        (wrapped(nn.GELU(), nn.GroupNorm(2, 4), head=256), "has GELU, GroupNorm"),
        (Classifier(Functional(), input_size=(10, 10), name="net").eval(), "calls activations as functions"),
    ],
)
def test_what_captum_passes_by_is_refused_in_one_line(classifier, reason, images):
    before = snapshot(classifier)
    with pytest.raises(Unsupported, match=f"^DeepLIFT of net adds up to .*{reason}.*integrated_gradients") as refused:
        deep_lift()(images, 1, classifier)
    assert "\n" not in str(refused.value)
    after = snapshot(classifier)
    assert all(torch.equal(value, after["state"][name]) for name, value in before.pop("state").items())
    assert {name: after[name] for name in before} == before


def test_evaluate_says_why_and_mixed_precision_is_no_reason():
    with pytest.warns(UserWarning, match="method 'deep-lift' is left out, its row is NaN: .*has SiLU"):
        assert evaluate({"deep-lift": deep_lift()}, Squares(2), silu()).isna().all(axis=None)
    table = evaluate({"deep-lift": deep_lift()}, Squares(2), tiny_classifier(), precision="bf16")
    assert len(table) == 1 and table.attrs["unsupported"] == {}


def silu() -> Classifier:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 5), nn.SiLU(), nn.Flatten(), nn.Linear(576, 4))
    network[0].weight.data.mul_(4)
    return Classifier(network, class_names=("red", "green", "blue", "white"), input_size=(16, 16)).eval()
