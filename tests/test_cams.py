"""Class activation maps beside Grad-CAM: against their formulas in plain loops, and on a layer whose right weights are known."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.doors import Method
from maskerlib.masking.masks import masked_in
from maskerlib.methods.grad_cam import grad_cam
from maskerlib.methods.grad_cam_plus_plus import grad_cam_plus_plus
from maskerlib.methods.layer_cam import layer_cam
from maskerlib.methods.opti_cam import opti_cam
from maskerlib.methods.score_cam import score_cam

SIZE = 16


class Net(nn.Module):
    """Five channels of 2x2 cells, and behind them a network that is not the same in all cells."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 4, 8)
        self.act = nn.ReLU()
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(20, 9), nn.ReLU(), nn.Linear(9, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.stem(x)))


def make(layers: tuple[str, ...] = ("stem", "act"), **options) -> Classifier:
    torch.manual_seed(0)
    network = Net()
    for weight in network.parameters():
        weight.data.mul_(2)  # opinions
    return Classifier(network, layers, input_size=(SIZE, SIZE), name="net", **options).double().eval()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(4, 3, SIZE, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def targets() -> Tensor:
    return torch.tensor([0, 3, 1, 1])


def cells(classifier: Classifier, images: Tensor) -> Tensor:
    """What the layer "act" returns, a leaf."""
    network, normalised = classifier.network, (images - classifier.mean) / classifier.std
    return network.act(network.stem(normalised)).detach().requires_grad_()


def drawn(cam: Tensor) -> Tensor:
    """A map of 2x2 cells on the pixels, stretched, image by image."""
    cam = F.interpolate(cam.detach().float()[:, None], size=(SIZE, SIZE), mode="bilinear", align_corners=False)
    low, high = cam.amin(dim=(1, 2, 3), keepdim=True), cam.amax(dim=(1, 2, 3), keepdim=True)
    return torch.where(high > low, (cam - low) / (high - low), 0)


def derivatives(network: Net, maps: Tensor, target: int, place: tuple[int, int, int]) -> list[float]:
    """The first three derivatives of exp(z) with respect to one cell of one channel, by autograd."""
    step = torch.zeros((), dtype=maps.dtype, requires_grad=True)
    moved = maps.clone()
    moved[place] += step
    value = network.head(moved[None])[0, target].exp()
    found = []
    for _ in range(3):
        (value,) = torch.autograd.grad(value, step, create_graph=True)
        found.append(value.item())
    return found


def test_grad_cam_plus_plus_by_the_derivatives_of_the_exponential_of_the_score(images, targets):
    classifier = make()
    maps = cells(classifier, images).detach()
    cams = []
    for own, target in zip(maps, targets.tolist(), strict=True):
        cam = torch.zeros(2, 2, dtype=torch.float64)
        for k in range(5):
            weight = 0.0
            for place in [(k, i, j) for i in (0, 1) for j in (0, 1)]:
                first, second, third = derivatives(classifier.network, own, target, place)
                below = 2 * second + float(own[k].sum()) * third
                weight += second / below * max(first, 0) if below else 0.0
            cam += weight * own[k]
        cams.append(cam.relu())
    maps = grad_cam_plus_plus()(images, targets, classifier)
    torch.testing.assert_close(maps, drawn(torch.stack(cams)), rtol=1e-4, atol=1e-5)
    assert (maps - grad_cam()(images, targets, classifier)).abs().max() > 0.1


def test_layer_cam_by_its_formula(images, targets):
    classifier = make()
    maps = cells(classifier, images)
    logits = classifier.network.head(maps)
    (slope,) = torch.autograd.grad(sum(row[target] for row, target in zip(logits, targets, strict=True)), maps)
    expected = drawn((slope.clamp(min=0) * maps).sum(dim=1).relu())
    torch.testing.assert_close(layer_cam()(images, targets, classifier), expected, rtol=1e-4, atol=1e-5)


def test_layer_cam_behind_a_mean_is_grad_cam_without_what_speaks_against(images):
    class Mean(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.stem(x)).mean(dim=(2, 3)) * torch.tensor([1.0, 2.0, -3.0, 2.0, 1.0])

    torch.manual_seed(0)
    network, positive = Mean(), Mean()
    positive.load_state_dict(network.state_dict())
    positive.stem.weight.data[2] = positive.stem.bias.data[2] = 0

    def summed(network: nn.Module) -> nn.Module:
        class Sum(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner = network

            def forward(self, x: Tensor) -> Tensor:
                return self.inner(x).sum(dim=1, keepdim=True) * torch.tensor([1.0, 0.0])

        return Classifier(Sum(), ("inner.act",), input_size=(SIZE, SIZE)).eval()

    shown = images.float()
    layer, grad = layer_cam()(shown, 0, summed(network)), grad_cam()(shown, 0, summed(positive))
    torch.testing.assert_close(layer, grad)


@pytest.mark.parametrize("method", [grad_cam_plus_plus, layer_cam, score_cam, opti_cam])
def test_errors_name_the_method_and_the_layer(method, images, targets):
    title = {"grad_cam_plus_plus": r"Grad-CAM\+\+"}.get(method.__name__, method.__name__.title().replace("_", "-"))
    title = title.replace("Cam", "CAM")
    with pytest.raises(ValueError, match=f"layer 'head' has no maps for {title}"):
        method("head")(images, targets, make())
    with pytest.raises(ValueError, match=f"names no layers; give {title} one"):
        method()(images, targets, make(()))
    with pytest.raises(ValueError, match="'ac' is not in net"):
        method("ac")(images, targets, make())


def test_a_layer_without_gradient_for_the_class_has_no_map(images):
    classifier = make()
    classifier.network.head[-1].weight.data[2] = -classifier.network.head[-1].weight.data[2].abs()
    classifier.network.head[1].weight.data.abs_()
    for method in (grad_cam_plus_plus(), layer_cam()):
        assert method(images, 2, classifier).abs().sum() == 0  # every cell speaks against class 2


# --- Score-CAM ------------------------------------------------------------------------------------


def score_by_hand(classifier: Classifier, images: Tensor, targets: Tensor, most: int | None = None) -> Tensor:
    """Algorithm 1 of the paper, a channel at a time, on the normalised image."""
    cams = []
    for image, target in zip(images, targets.tolist(), strict=True):
        (maps,) = cells(classifier, image[None]).detach()
        if most is not None:
            maps = torch.stack(sorted(maps, key=lambda each: -float(each.var()))[:most])
        normalised = (image - classifier.mean[0]) / classifier.std[0]
        nothing = classifier.network(torch.zeros_like(normalised)[None])[0, target]
        seen = (classifier.network((drawn(channel[None])[0] * normalised)[None]) for channel in maps)
        gains = torch.stack([logits[0, target] - nothing for logits in seen])
        weights = gains.exp() / gains.exp().sum()
        cams.append(sum(weight * channel for weight, channel in zip(weights, maps, strict=True)).relu())
    return drawn(torch.stack(cams))


@pytest.mark.parametrize("channels", [None, 2, 99])
def test_score_cam_agrees_with_a_plain_loop(channels, images, targets):
    classifier = make(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    expected = score_by_hand(classifier, images, targets, channels)
    for batch_size in (1, 2, 32):
        found = score_cam(channels=channels, batch_size=batch_size)(images, targets, classifier)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def asked(method: Method, images: Tensor, targets: Tensor) -> list[int]:
    """How many images the network is shown at once, pass by pass."""
    classifier, sizes = make(), []
    classifier.network.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    method(images, targets, classifier)
    return sizes


def test_memory_is_bounded(images, targets):
    assert max(asked(score_cam(batch_size=2), images, targets)[1:]) == 2
    assert asked(opti_cam(batch_size=3, steps=2), images, targets) == [4, 3, 3, 1, 1]


@pytest.mark.parametrize("options", [{"channels": 0}, {"channels": 1.5}, {"batch_size": 0}])
def test_score_cam_refuses(options):
    with pytest.raises(ValueError, match=f"^{next(iter(options))}="):
        score_cam(**options)


# --- a layer with a channel for each cell: the right weights are known ---------------------------


class Cells(nn.Module):
    """16 channels of 4x4 cells: channel k is how bright cell k is, and 0 elsewhere."""

    def forward(self, x: Tensor) -> Tensor:
        bright = F.avg_pool2d(x.mean(dim=1), 4).flatten(1)
        return torch.diag_embed(bright).unflatten(2, (4, 4))


class Looks(nn.Module):
    """Class 1 where the cells 9 and 5, row 2 and row 1 of the second column, are bright; class 0 where they are not."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = Cells()

    def forward(self, x: Tensor) -> Tensor:
        z = 10 * (self.cells(x)[:, [9, 5]].sum(dim=(1, 2, 3)) - 1)
        return torch.stack([-z, z], dim=1)


PATCH = (slice(4, 12), slice(4, 8))


def looks() -> Classifier:
    options = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "input_size": (SIZE, SIZE)}
    return Classifier(Looks(), ("cells",), **options).eval()


def light(count: int = 2) -> Tensor:
    """Cells of different greys, some brighter than the two that count."""
    greys = 0.4 + 0.6 * torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    images = greys.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3).repeat(1, 3, 1, 1)
    images[..., PATCH[0], PATCH[1]] = 0.6
    return images


def test_opti_cams_score_rises_and_its_map_lies_on_the_patch():
    classifier, images = looks(), light()
    scores, shares = [], []
    for steps in (1, 10, 100):
        masks = opti_cam(steps=steps)(images, 1, classifier)
        scores.append(classifier(masked_in(images, masks, classifier.mean))[:, 1])
        shares.append(masks[..., PATCH[0], PATCH[1]].mean(dim=(1, 2, 3)) / masks.mean(dim=(1, 2, 3)))
    assert (scores[0] < scores[1]).all() and (scores[1] < scores[2]).all()
    assert (masks[..., 6:10, 5:7] > 0.9).all()
    assert (shares[2] > 1.4).all() and (shares[0] < 1.1).all()


def test_opti_cam_is_plain_descent_on_the_weights(images, targets):
    classifier = make()
    maps = cells(classifier, images).detach()
    weights = torch.zeros(4, 5, requires_grad=True)
    adam = torch.optim.Adam([weights], lr=0.3)

    def mask() -> Tensor:
        cam = torch.einsum("bk,bkij->bij", weights.softmax(dim=1), maps.float())
        cam = F.interpolate(cam[:, None], size=(SIZE, SIZE), mode="bilinear", align_corners=False)
        low, high = cam.amin(dim=(1, 2, 3), keepdim=True), cam.amax(dim=(1, 2, 3), keepdim=True)
        return (cam - low) / (high - low)

    for _ in range(5):
        adam.zero_grad()
        logits = classifier(classifier.mean + mask() * (images - classifier.mean))
        (-logits.gather(1, targets[:, None]).sum()).backward()
        adam.step()
    found = opti_cam(steps=5, lr=0.3)(images, targets, classifier)
    torch.testing.assert_close(found, mask().detach(), rtol=1e-3, atol=1e-4)


def test_they_work_in_inference_mode(images, targets):
    classifier = make()
    for method in (opti_cam(steps=2), score_cam(), layer_cam()):
        expected = method(images, targets, classifier)
        with torch.inference_mode():
            torch.testing.assert_close(method(images.clone(), targets, classifier), expected)


@pytest.mark.parametrize("options", [{"steps": 0}, {"lr": 0.0}, {"batch_size": 0}])
def test_opti_cam_refuses(options):
    with pytest.raises(ValueError, match=f"^{next(iter(options))}="):
        opti_cam(**options)


def test_score_cam_finds_the_patch():
    images = light(1)
    (mask,) = score_cam()(images, 1, looks())[:, 0]
    outside = mask.clone()
    outside[PATCH] = 0
    assert mask[PATCH].mean() > 0.5 and outside.mean() < 0.1
