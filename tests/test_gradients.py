"""Gradient maps: against autograd by hand, against arithmetic, and against what must not depend on the batch."""

import copy
import math

import pytest
import torch
from tiny import snapshot
from torch import nn
from torch.nn import functional as F

from maskerlib.classifiers import Classifier
from maskerlib.gradients import (
    GradientMethod,
    gradient,
    guided_backprop,
    guided_copy,
    integrated_gradients,
    magnitude_map,
    smooth_grad,
)
from maskerlib.zoo import efficientnet_lite0, scene_resnet


class Net(nn.Module):
    """One ReLU used twice, once beside a shortcut that shares its input; a ReLU6; both in place or not."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.act = nn.ReLU(inplace)
        self.stage = nn.Conv2d(6, 6, 3, padding=1)
        self.last = nn.ReLU6(inplace)
        self.head = nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.norm(self.stem(x)))
        y = 5 * self.stage(x)
        y = self.last(y.clone()) + y  # the shortcut around the ReLU6 must stay unguided
        return self.head(self.act(y).mean(dim=(2, 3)))


def make(inplace: bool = False) -> Classifier:
    torch.manual_seed(3)
    network = Net(inplace).train()
    network(torch.randn(8, 3, 24, 20))  # statistics that are not the initial ones
    return Classifier(network, ("stem", "stage"), name="net").eval()


def by_hand(classifier: Classifier, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    images = images.clone().requires_grad_()
    logits = classifier(images)
    return torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), images)[0]


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(4, 3, 24, 20)


@pytest.fixture
def targets() -> torch.Tensor:
    return torch.tensor([0, 4, 2, 2])


METHODS = {
    "gradient": gradient(),
    "smooth_grad": smooth_grad(3),
    "guided_backprop": guided_backprop(),
    "integrated_gradients": integrated_gradients(4),
}
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


@every_method
def test_a_map_keeps_the_contract_and_does_not_see_the_rest_of_its_batch(method, images, targets, device):
    classifier = make().to(device)
    maps = method(images.to(device), targets.to(device), classifier)
    assert maps.shape == (4, 1, 24, 20) and maps.dtype == torch.float32 and maps.device.type == device.type
    assert maps.min() >= 0 and (maps.amax(dim=(1, 2, 3)) == 1).all() and not maps.requires_grad
    for index in (0, 3):
        alone = method(images[index : index + 1].to(device), targets[index : index + 1].to(device), classifier)
        torch.testing.assert_close(alone, maps[index : index + 1], rtol=1e-3, atol=1e-4)


@every_method
def test_it_works_inside_no_grad_and_gives_the_same(method, images, targets):
    expected = method.attribute(images, targets, make())
    with torch.no_grad():
        torch.testing.assert_close(method.attribute(images, targets, make()), expected)
        assert not torch.is_grad_enabled()


@pytest.mark.parametrize("fails", [False, True])
@every_method
def test_the_classifier_and_the_images_are_left_as_they_were(method, fails, images, targets):
    classifier = make(inplace=True).train()
    classifier.network.act.eval()
    classifier.network.stem.weight.requires_grad_(False)
    classifier(images).sum().backward()
    before, images_before = snapshot(classifier), images.clone()
    random_state = torch.get_rng_state()
    if fails:
        with pytest.raises((IndexError, RuntimeError)):
            method(images, torch.tensor([0, 1, 2, 99]), classifier)
    else:
        method(images, targets, classifier)
    after = snapshot(classifier)
    torch.testing.assert_close(after.pop("state"), before.pop("state"), rtol=0, atol=0)
    for now, then in zip(after.pop("grads"), before.pop("grads"), strict=True):
        assert (now is None and then is None) or torch.equal(now, then)
    assert after == before
    assert torch.equal(images, images_before) and not images.requires_grad and images.grad is None
    assert torch.equal(torch.get_rng_state(), random_state)


# From attributions to a map


def test_a_map_by_hand():
    attribution = torch.zeros(1, 3, 2, 2)
    attribution[0, :, 0, 0] = torch.tensor([1.0, -2.0, 1.0])
    attribution[0, 1, 1, 1] = -1.0
    expected = torch.tensor([[[[1.0, 0.0], [0.0, 0.25]]]])
    torch.testing.assert_close(magnitude_map(attribution, clip=1), expected)
    expected[..., 1, 1] = 0.5
    torch.testing.assert_close(magnitude_map(attribution, channels="max", clip=1), expected)


def test_the_clip_is_a_quantile_of_each_image():
    values = torch.arange(1.0, 101.0).view(1, 1, 10, 10).repeat(2, 1, 1, 1)
    values[1] *= 7  # the scale of an image does not show in its map
    maps = magnitude_map(values, clip=0.9)
    torch.testing.assert_close(maps[0], (values[0] / 90).clamp(max=1))
    torch.testing.assert_close(maps[1], maps[0])
    values[0, 0, 9, 9] = 1e6  # one outlier does not darken the rest
    torch.testing.assert_close(magnitude_map(values, clip=0.9)[0], maps[0])


def test_zeros_stay_zero_and_a_lonely_pixel_is_seen():
    values = torch.zeros(2, 3, 20, 20)
    values[1, 0, 5, 5] = -3.0
    maps = magnitude_map(values)
    assert maps[0].sum() == 0 and maps[1].sum() == 1 and maps[1, 0, 5, 5] == 1


def test_large_images_have_maps():
    assert magnitude_map(torch.rand(1, 1, 4100, 4100)).max() == 1  # more values than torch.quantile takes


@pytest.mark.parametrize("options", [{"channels": "mean"}, {"clip": 0}, {"clip": 1.1}, {"clip": math.nan}])
def test_unknown_options_are_refused_when_the_method_is_made(options):
    for make_method in (gradient, smooth_grad, guided_backprop, integrated_gradients):
        with pytest.raises(ValueError, match=next(iter(options))):
            make_method(**options)
    with pytest.raises(ValueError, match=next(iter(options))):
        magnitude_map(torch.rand(1, 3, 2, 2), **options)


def test_attributions_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"\(3, 4, 4\)"):
        magnitude_map(torch.rand(3, 4, 4))


# Gradient


@pytest.mark.parametrize("inplace", [False, True])
def test_the_gradient_is_autograds(inplace, images, targets):
    expected = by_hand(make(), images, targets)
    torch.testing.assert_close(gradient().attribute(images, targets, make(inplace)), expected)
    total = expected.abs().sum(dim=1, keepdim=True)
    torch.testing.assert_close(gradient(clip=1)(images, targets, make()), total / total.amax((1, 2, 3), keepdim=True))


def test_the_gradient_of_a_linear_classifier_is_its_weights(images, targets):
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 20, 5))
    classifier = Classifier(network, (), std=(0.5, 0.25, 0.1))
    expected = network[1].weight.detach().view(5, 3, 24, 20)[targets] / classifier.std
    torch.testing.assert_close(gradient().attribute(images, targets, classifier), expected)


# SmoothGrad


def test_without_noise_smooth_grad_is_the_gradient(images, targets):
    torch.testing.assert_close(smooth_grad(2, 0.0).attribute(images, targets, make()), by_hand(make(), images, targets))


def test_smooth_grad_approaches_the_gradient_of_the_blurred_logit():
    """f = sum relu(x - 0.5): the expected gradient at x with noise s is the normal CDF of (x - 0.5) / s."""

    class Ramp(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.relu(x).sum(dim=(1, 2, 3))[:, None]

    classifier = Classifier(Ramp(), (), std=(1.0, 1.0, 1.0))
    images = torch.linspace(0, 1, 64).expand(1, 3, 64, 64).contiguous()
    smoothed = smooth_grad(50, 0.2).attribute(images, torch.tensor([0]), classifier).mean(dim=(0, 1, 2))
    expected = torch.distributions.Normal(0.5, 0.2).cdf(images[0, 0, 0])
    assert (smoothed - expected).abs().max() < 0.02  # 9600 draws a column


def test_noise_belongs_to_the_image_the_seed_and_the_sample(images, targets):
    both = torch.cat([images, images[:1]])
    order = torch.cat([targets, targets[:1]])
    maps = smooth_grad(2, seed=5).attribute(both, order, make())
    torch.testing.assert_close(maps[0], maps[4])
    torch.testing.assert_close(smooth_grad(2, seed=5).attribute(both.flip(0), order.flip(0), make()).flip(0), maps)
    assert not torch.allclose(smooth_grad(2, seed=6).attribute(both, order, make()), maps)
    one, two = (smooth_grad(count, seed=5).attribute(both, order, make()) for count in (1, 2))
    assert not torch.allclose(one, two)


@pytest.mark.parametrize("options", [{"samples": 0}, {"sigma": -0.1}, {"sigma": math.nan}, {"sigma": math.inf}])
def test_smooth_grad_refuses(options):
    with pytest.raises(ValueError, match="^samples="):
        smooth_grad(**options)


# Guided backprop


class _Guided(torch.autograd.Function):
    """The rule of Springenberg et al. as one operation, without hooks: the oracle."""

    @staticmethod
    def forward(ctx, x, cap):
        ctx.save_for_backward(x)
        ctx.cap = cap
        return x.clamp(0, cap)

    @staticmethod
    def backward(ctx, arriving):
        (x,) = ctx.saved_tensors
        return arriving.clamp(min=0) * (x > 0) * (x <= ctx.cap), None


class _Rule(nn.Module):
    def __init__(self, cap: float) -> None:
        super().__init__()
        self.cap = cap

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _Guided.apply(x, self.cap)


def guided_by_hand(classifier: Classifier, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    other = copy.deepcopy(classifier)
    for parent in list(other.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.ReLU | nn.ReLU6):
                setattr(parent, name, _Rule(6.0 if isinstance(child, nn.ReLU6) else math.inf))
    return by_hand(other, images, targets)


def test_guided_backprop_by_hand_on_two_pixels():
    """h = relu(x1 - x2), relu(2 x2); logit = -h1 + 3 h2 at x = (0.9, 0.4). Plain: (-1, 1 + 6). Guided: h1 sends -1, stopped."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            first, second = x[:, 0, 0, 0], x[:, 0, 0, 1]
            return (-self.relu(first - second) + 3 * self.relu(2 * second))[:, None]

    classifier = Classifier(Two(), (), mean=(0.0,) * 3, std=(1.0,) * 3)
    image = torch.zeros(1, 3, 1, 2)
    image[0, 0, 0] = torch.tensor([0.9, 0.4])
    target = torch.tensor([0])
    assert gradient().attribute(image, target, classifier)[0, 0, 0].tolist() == [-1, 7]
    assert guided_backprop().attribute(image, target, classifier)[0, 0, 0].tolist() == [0, 6]


@pytest.mark.parametrize("inplace", [False, True])
def test_guided_backprop_follows_its_rule(inplace, images, targets):
    """A reused ReLU, a ReLU6, in place or not, and a shortcut around one that stays as it is."""
    expected = guided_by_hand(make(), images, targets)
    torch.testing.assert_close(guided_backprop().attribute(images, targets, make(inplace)), expected)
    assert not torch.allclose(expected, by_hand(make(), images, targets), rtol=0.1)


@pytest.mark.parametrize(
    "classifier",
    [lambda: efficientnet_lite0(), lambda: scene_resnet([str(n) for n in range(16)]).eval()],
    ids=["efficientnet", "scenes"],
)
def test_guided_backprop_reaches_every_relu_of_the_classifiers_of_the_course(classifier):
    """captum alone would return the plain gradient of EfficientNet-Lite0, whose activations are all ReLU6."""
    classifier = classifier()
    images, targets = torch.rand(2, 3, 96, 96), torch.tensor([3, 8])
    with torch.no_grad():
        assert torch.equal(guided_copy(classifier)(images), classifier(images))
    plain, guided = (method().attribute(images, targets, classifier) for method in (gradient, guided_backprop))
    expected = guided_by_hand(classifier, images, targets)
    torch.testing.assert_close(guided, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert torch.corrcoef(torch.stack([plain.flatten(), guided.flatten()]))[0, 1] < 0.5


def test_guided_backprop_refuses_what_it_cannot_guide(images, targets):
    class Functional(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(F.relu6(F.relu(x)))

    with pytest.raises(ValueError, match="mixed calls 2 ReLUs as functions"):
        guided_backprop()(images, targets, Classifier(Functional(), (), name="mixed"))
    smooth = nn.Sequential(nn.Conv2d(3, 5, 3), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ValueError, match="smooth has no nn.ReLU"):
        guided_backprop()(images, targets, Classifier(smooth, (), name="smooth"))


# Integrated gradients


def test_integrated_gradients_by_hand(images, targets):
    """Gauss-Legendre points by numpy, gradients by autograd."""
    import numpy as np

    classifier = make()
    points, weights = np.polynomial.legendre.leggauss(6)
    start = classifier.mean
    mean = sum(
        w / 2 * by_hand(classifier, start + (p + 1) / 2 * (images - start), targets)
        for p, w in zip(points.tolist(), weights.tolist(), strict=True)
    )
    found = integrated_gradients(6).attribute(images, targets, classifier)
    torch.testing.assert_close(found, (images - start) * mean, rtol=1e-3, atol=1e-5)


def test_integrated_gradients_are_complete(images, targets):
    classifier = make()
    for baseline in (None, torch.zeros(1, 3, 1, 1), torch.rand(3, 24, 20)):
        start = classifier.mean if baseline is None else baseline
        with torch.no_grad():
            change = (classifier(images) - classifier(start.expand_as(images))).gather(1, targets[:, None])[:, 0]
        total = integrated_gradients(300, baseline).attribute(images, targets, classifier).sum(dim=(1, 2, 3))
        torch.testing.assert_close(total, change, rtol=0.01, atol=0.01 * float(change.abs().max()))


def test_memory_is_bounded_and_the_bound_changes_nothing(images, targets):
    classifier = make()
    sizes: list[int] = []
    handle = classifier.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    maps = [integrated_gradients(9, batch_size=size).attribute(images, targets, classifier) for size in (1, 8, 99)]
    handle.remove()
    assert max(sizes[:9]) == 4, "one step of the batch at a time"
    torch.testing.assert_close(maps[0], maps[1])
    torch.testing.assert_close(maps[0], maps[2])


@pytest.mark.parametrize("options", [{"steps": 0}, {"batch_size": 0}])
def test_integrated_gradients_refuse(options):
    with pytest.raises(ValueError, match="^steps="):
        integrated_gradients(**options)


def test_a_method_is_drawn_from_its_attribution(images, targets):
    method = GradientMethod(lambda images, targets, classifier: images - 0.5, channels="max", clip=1.0)
    expected = magnitude_map(images - 0.5, channels="max", clip=1.0)
    assert torch.equal(method(images, targets, None), expected)
