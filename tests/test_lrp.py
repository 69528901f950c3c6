"""LRP: shares by hand, captum's LRP where that is right, relevance that is conserved, and what is refused."""

import pytest
import torch
from captum.attr import LRP
from captum.attr._utils.lrp_rules import EpsilonRule, GammaRule
from tiny import snapshot, tiny_classifier
from torch import Tensor, nn

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.scene_resnet import scene_resnet
from maskerlib.methods.entry import Unsupported
from maskerlib.methods.input_x_gradient import input_x_gradient
from maskerlib.methods.lrp import lrp, lrp_copy

PLAIN = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "input_size": (12, 12), "name": "net"}


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


class Shares(nn.Module):
    """Logits [3 a - 2 b + bias, 2 b - 3 a - bias] of a pixel with the two channels a and b."""

    def __init__(self, bias: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1)
        self.conv.weight.data = torch.tensor([[3.0, -2.0], [-3.0, 2.0]])[..., None, None]
        self.conv.bias.data = torch.tensor([bias, -bias])

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).flatten(1)


@pytest.mark.parametrize(
    ("gamma", "bias", "target", "expected"),
    [
        (0.0, 0.0, 0, (3.0, -2.0)),  # what each gives: 3 and -2 of 1
        (1.0, 0.0, 0, (1.5, -0.5)),  # 3 counts twice: 6 and -2 of 4, of a logit of 1
        (1.0, 0.0, 1, (-1.5, 0.5)),  # of a negative logit what is negative counts twice
        (1.0, 1.0, 0, (2.4, -0.8)),  # 6, -2 and 1 of 5, of a logit of 2
        (1e6, 0.0, 0, (1.0, 0.0)),  # the positive alone
    ],
)
def test_the_gamma_rule_by_hand(gamma, bias, target, expected):
    classifier = Classifier(Shares(bias), mean=(0.0,) * 2, std=(1.0,) * 2, input_size=(1, 1)).eval()
    found = lrp(gamma).attribute(torch.tensor([[[[1.0]], [[1.0]]]]), target, classifier)
    torch.testing.assert_close(found.flatten(), torch.tensor(expected), rtol=1e-5, atol=1e-5)


def sequential(bias: bool = True) -> Classifier:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, bias=bias),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, bias=bias),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(8, 4, 1, bias=bias),
    )
    return Classifier(network, **PLAIN, output=lambda returned: returned.flatten(1)).double().eval()


@pytest.mark.parametrize("gamma", [0.0, 0.25, 3.0])
def test_it_is_captums_where_captum_is_right(gamma, images):
    classifier, alone = sequential(), sequential()
    for layer in alone.network[:-1]:
        if isinstance(layer, nn.Conv2d):
            layer.rule = GammaRule(gamma)
    alone.network[-1].rule = EpsilonRule(0.0)
    # captum's rule for logits below 0 is another: the last layer, without a ReLU behind it, is linear here and there.
    told = lrp_copy(classifier, images[:1], gamma)
    told.network[-1].gamma = 0.0
    expected = LRP(alone.network).attribute(images.clone().requires_grad_(), target=(2, 0, 0))
    found = input_x_gradient().attribute(images, 2, told)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-5, atol=1e-9)


class Everything(nn.Module):
    """A shortcut, a ReLU6 called twice, a mean, SiLU, max-pooling with windows that overlap, and a gate; batch norms or not."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2, bias=bias)
        self.first = nn.BatchNorm2d(6) if bias else nn.Identity()
        self.act = nn.ReLU6(inplace=True)
        self.pool = nn.MaxPool2d(3, 1, 1)
        self.early = nn.BatchNorm2d(6) if bias else nn.Identity()
        self.body = nn.Conv2d(6, 6, 3, padding=1, bias=bias)
        self.silu = nn.SiLU()
        self.squeeze = nn.Conv2d(6, 6, 1, bias=bias)
        self.gate = nn.Sigmoid()
        self.head = nn.Linear(6, 4, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.act(self.first(9 * self.stem(x))))
        y = self.silu(self.body(self.act(self.early(x))))
        y = y * self.gate(self.squeeze(y.mean(dim=(2, 3), keepdim=True)))
        return self.head((x + y).relu().mean(dim=(2, 3)))


def everything(bias: bool) -> Classifier:
    torch.manual_seed(0)
    network = Everything(bias).train()
    network(torch.randn(8, 3, 12, 12))
    return Classifier(network, input_size=(12, 12), name="net").double().eval()


@pytest.mark.parametrize("gamma", [0.0, 0.25, 10.0])
@pytest.mark.parametrize("make", [sequential, everything])
def test_without_biases_the_relevances_add_up_to_the_logit(make, gamma, images):
    classifier = make(False)
    relevance = lrp(gamma).attribute(images, [0, 1, 3], classifier)
    expected = classifier(images)[range(3), [0, 1, 3]].detach()
    assert expected.abs().min() > 1e-4
    torch.testing.assert_close(relevance.sum(dim=(1, 2, 3)), expected)


@pytest.mark.parametrize("make", [sequential, everything, lambda bias: tiny_classifier().double()])
def test_the_copy_says_what_the_classifier_says(make, images):
    classifier = make(True)
    before = snapshot(classifier)
    for gamma in (0.0, 0.25):
        torch.testing.assert_close(lrp_copy(classifier, images[:1], gamma)(images), classifier(images).detach())
    lrp()(images, 1, classifier)
    after = snapshot(classifier)
    assert all(torch.equal(value, after["state"][name]) for name, value in before.pop("state").items())
    assert {name: after[name] for name in before} == before


def test_with_gamma_0_it_is_input_x_gradient_on_a_network_of_relus(images):
    for classifier in (tiny_classifier().double(), scene_resnet(tuple("abcd"), size=12).double().eval()):
        expected = input_x_gradient().attribute(images, 1, classifier)
        torch.testing.assert_close(lrp(0.0).attribute(images, 1, classifier), expected)


def test_the_larger_gamma_the_less_speaks_against(images):
    found = [lrp(gamma).attribute(images, 1, sequential(False)) for gamma in (0.0, 0.25, 4.0)]
    minor = [float(min(each.clamp(min=0).sum(), -each.clamp(max=0).sum()) / each.abs().sum()) for each in found]
    assert minor[0] > minor[1] > minor[2]


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(nn.functional.gelu(4 * self.stem(x)).mean(dim=(2, 3)))


class Shared(Functional):
    """What a convolution returns goes through a batch norm and past it, so the two cannot be made one."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(4)
        self.norm.running_var.fill_(9.0)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        return self.head((self.norm(y) + y).relu().mean(dim=(2, 3)))


def test_what_does_not_conserve_relevance_is_refused_in_one_line(images):
    normed = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(1, 4), nn.ReLU(), nn.Flatten(), nn.Linear(400, 3))
    for network in (Functional(), Shared(), normed):
        with pytest.raises(
            Unsupported, match="^LRP does not conserve relevance on net.*integrated_gradients"
        ) as refused:
            lrp()(images.float(), 1, Classifier(network, **PLAIN).eval())
        assert "\n" not in str(refused.value)


def test_it_refuses_a_gamma_below_0():
    with pytest.raises(ValueError, match="^gamma=-0.1"):
        lrp(-0.1)
