"""Gradient maps: against autograd by hand, against arithmetic, and against what must not depend on the batch."""

import copy
import math

import pytest
import torch
from tiny import snapshot
from torch import nn
from torch.nn import functional as F

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.efficientnet_lite0 import efficientnet_lite0
from maskerlib.classifiers.scene_resnet import scene_resnet
from maskerlib.methods.attributions import SIGNS, AttributionMethod, magnitude_map
from maskerlib.methods.gradient import gradient
from maskerlib.methods.guided_backprop import guided_backprop, guided_copy
from maskerlib.methods.integrated_gradients import completeness_gap, integrated_gradients
from maskerlib.methods.smooth_grad import smooth_grad


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
        with pytest.raises(ValueError, match="target 99 is no class of net"):
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


@every_method
def test_targets_may_be_none_one_for_all_a_list_or_names(method, images):
    classifier = make()
    classifier.class_names = ("ant", "bee", "cat", "dog", "emu")
    predicted = classifier(images).argmax(dim=1)
    for given, expected in ((None, predicted), (3, [3] * 4), ([0, 4, 2, 2], [0, 4, 2, 2]), ("cat", [2] * 4)):
        found = method.attribute(images, given, classifier)
        torch.testing.assert_close(found, method.attribute(images, torch.as_tensor(expected), classifier))


@every_method
def test_images_that_are_none_have_no_map(method, images, targets):
    """A NaN would be carried into a plausible map of the rest, and a normalised image be normalised twice."""
    images[2, 0, 3, 3] = math.nan
    with pytest.raises(ValueError, match="image 2 holds NaN or infinity"):
        method(images, targets, make())
    with pytest.raises(ValueError, match=r"image 0 has values from .* expected \[0, 1\]"):
        method(torch.randn(4, 3, 24, 20), targets, make())


@pytest.mark.parametrize("channels", [1, 3, 4])
@every_method
def test_any_number_of_channels(method, channels):
    network = nn.Sequential(nn.Conv2d(channels, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))
    classifier = Classifier(network, (), mean=(0.5,) * channels, std=(0.25,) * channels).eval()
    images = torch.rand(2, channels, 12, 10)
    assert method.attribute(images, None, classifier).shape == images.shape
    maps = method(images, None, classifier)
    assert maps.shape == (2, 1, 12, 10) and (maps.amax(dim=(1, 2, 3)) == 1).all()


@every_method
def test_double_precision_is_kept(method, images, targets):
    single = method.attribute(images, targets, make())
    double = method.attribute(images.double(), targets, make().double())
    assert single.dtype == torch.float32 and double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single, rtol=1e-3, atol=1e-4 * float(single.abs().max()))


def test_the_gradient_is_autograd_s_to_the_digits_of_double_precision(images, targets):
    classifier = make().double()
    expected = by_hand(classifier, images.double(), targets)
    torch.testing.assert_close(gradient().attribute(images.double(), targets, classifier), expected, rtol=1e-12, atol=1e-14)


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


def test_only_what_speaks_for_the_class():
    """Channels 1, -2, 1 at one pixel, -1 at another: 2 and 0 count, whatever is summed or the largest."""
    attribution = torch.zeros(1, 3, 2, 2)
    attribution[0, :, 0, 0] = torch.tensor([1.0, -2.0, 1.0])
    attribution[0, 1, 1, 1] = -1.0
    attribution[0, 2, 0, 1] = 0.5
    found = magnitude_map(attribution, clip=1, sign="positive")
    torch.testing.assert_close(found, torch.tensor([[[[1.0, 0.25], [0.0, 0.0]]]]))
    found = magnitude_map(attribution, channels="max", clip=1, sign="positive")
    torch.testing.assert_close(found, torch.tensor([[[[1.0, 0.5], [0.0, 0.0]]]]))
    assert SIGNS == ("absolute", "positive")
    assert torch.equal(magnitude_map(attribution), magnitude_map(attribution, sign="absolute"))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_attributions_that_are_not_finite_are_refused(bad):
    attribution = torch.rand(2, 3, 4, 4)
    attribution[1, 2, 3, 3] = bad
    with pytest.raises(ValueError, match="attributions hold NaN or infinity"):
        magnitude_map(attribution)


def test_large_images_have_maps():
    assert magnitude_map(torch.rand(1, 1, 4100, 4100)).max() == 1  # more values than torch.quantile takes


@pytest.mark.parametrize("options", [{"sign": "negative"}, {"channels": "mean"}, {"clip": 0}, {"clip": 1.1}, {"clip": math.nan}])
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

    classifier = Classifier(Ramp(), (), std=(1.0, 1.0, 1.0))  # one logit, "yes" of two classes
    images = torch.linspace(0, 1, 64).expand(1, 3, 64, 64).contiguous()
    smoothed = 2 * smooth_grad(50, 0.2).attribute(images, torch.tensor([1]), classifier).mean(dim=(0, 1, 2))
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
    with pytest.raises(ValueError, match=f"^{next(iter(options))}="):
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
    """h = relu(x1 - x2), relu(2 x2); z = -h1 + 3 h2 at x = (0.9, 0.4). Plain: (-1, 1 + 6). Guided: h1 sends -1, stopped.

    One logit z is given as [-z/2, z/2], so "yes" has half of it.
    """

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
    target = torch.tensor([1])  # one logit is that of "yes"
    assert gradient().attribute(image, target, classifier)[0, 0, 0].tolist() == [-0.5, 3.5]
    assert guided_backprop().attribute(image, target, classifier)[0, 0, 0].tolist() == [0, 3]


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


class Steep(nn.Module):
    """logit = relu(100 (mean - 0.9)), 0 up to 0.9 of the way from black to white: few points see the slope at all."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = F.relu(100 * (x.mean(dim=(1, 2, 3)) - 0.9))
        return torch.stack([torch.zeros_like(z), z], dim=1)


def steep() -> Classifier:
    return Classifier(Steep(), (), mean=(0.0,) * 3, std=(1.0,) * 3, name="steep")


def test_the_completeness_gap_by_hand():
    """The logit of white is 10, that of black 0: attributions that add up to 10, 5, 0, -10 and 30."""
    images = torch.ones(5, 3, 2, 2)
    attribution = torch.zeros(5, 3, 2, 2)
    attribution[:, 0, 0, 0] = torch.tensor([10.0, 5.0, 0.0, -10.0, 30.0])
    black = torch.zeros(1, 3, 1, 1)
    gap = completeness_gap(attribution, steep(), images, 1, black)
    torch.testing.assert_close(gap, torch.tensor([0.0, 0.5, 1.0, 2.0, 2.0]))
    assert torch.equal(completeness_gap(attribution, steep(), images, None), gap)  # predicted is 1, and black the mean
    unmoved = completeness_gap(attribution[:3], steep(), images[:3] * 0, torch.tensor([1, 1, 1]), black)
    assert unmoved.tolist() == [math.inf, math.inf, 0]


def test_steps_are_doubled_until_the_sum_is_complete():
    classifier, images = steep(), torch.cat([torch.ones(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.95)])
    few = integrated_gradients(3).attribute(images, 1, classifier)
    assert completeness_gap(few, classifier, images, 1).min() > 0.3
    enough = integrated_gradients(3, tolerance=0.05).attribute(images, 1, classifier)
    assert completeness_gap(enough, classifier, images, 1).max() <= 0.05
    for index in range(2):  # each with the steps that it needs, in every batch
        alone = integrated_gradients(3, tolerance=0.05).attribute(images[index : index + 1], 1, classifier)
        torch.testing.assert_close(alone, enough[index : index + 1])


def test_where_the_steps_suffice_a_tolerance_changes_nothing(images, targets):
    classifier = make()
    gap = completeness_gap(integrated_gradients(20).attribute(images, targets, classifier), classifier, images, targets)
    found = integrated_gradients(20, tolerance=1.01 * float(gap.max())).attribute(images, targets, classifier)
    assert torch.equal(found, integrated_gradients(20).attribute(images, targets, classifier))


def test_a_deep_network_needs_more_steps_than_ten():
    classifier, image = efficientnet_lite0(), torch.rand(1, 3, 64, 64)
    few, enough = (
        integrated_gradients(10, tolerance=tolerance).attribute(image, None, classifier) for tolerance in (None, 0.1)
    )
    assert completeness_gap(few, classifier, image, None) > 0.1
    assert completeness_gap(enough, classifier, image, None) <= 0.1


def test_a_gap_that_is_left_is_named():
    images = torch.ones(2, 3, 4, 4)
    images[1] = 0.5  # its logit does not change, and nothing is attributed
    method = integrated_gradients(3, tolerance=0.01, max_steps=6)
    with pytest.warns(UserWarning, match=r"1 of 2 images miss completeness by up to .* after 6 steps, more than tolerance=0.01"):
        found = method.attribute(images, 1, steep())
    assert torch.equal(found, integrated_gradients(6).attribute(images, 1, steep()))


@pytest.mark.parametrize(
    "options", [{"steps": 0}, {"batch_size": 0}, {"tolerance": 0.0}, {"tolerance": -1.0}, {"tolerance": math.nan}]
)
def test_integrated_gradients_refuse(options):
    with pytest.raises(ValueError, match=f"^{next(iter(options))}="):
        integrated_gradients(**options)


def test_a_method_is_drawn_from_its_attribution(images, targets):
    method = AttributionMethod(lambda images, targets, classifier: images - 0.5, channels="max", clip=1.0)
    expected = magnitude_map(images - 0.5, channels="max", clip=1.0)
    assert torch.equal(method(images, targets, None), expected)
