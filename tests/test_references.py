"""The maps that need no training, and what computing them must not change."""

import pytest
import torch
from tiny import snapshot
from torch import nn
from torch.nn import functional as F

from maskerlib.classifiers import Classifier
from maskerlib.references import centre_box, grad_cam, random_map, truth_map


class Net(nn.Module):
    """Two convolutions, a batch norm and a linear layer; every ReLU may be in place."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.act = nn.ReLU(inplace=inplace)
        self.stage = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.last = nn.ReLU(inplace=inplace)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.norm(self.stem(x)))
        return self.head(self.last(self.stage(x)).mean(dim=(2, 3)))


def make(inplace: bool = False, layers=("stem", "stage")) -> Classifier:
    torch.manual_seed(3)
    return Classifier(Net(inplace), layers, name="net").eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(4, 3, 24, 20)


@pytest.fixture
def targets() -> torch.Tensor:
    return torch.tensor([0, 4, 2, 2])


@pytest.mark.parametrize("method", [centre_box(), random_map(), random_map(smooth=True), grad_cam()])
def test_every_reference_keeps_the_contract(method, images, targets, device):
    maps = method(images.to(device), targets.to(device), make().to(device))
    assert maps.shape == (4, 1, 24, 20) and maps.dtype == torch.float32 and maps.device.type == device.type
    assert 0 <= maps.min() and maps.max() <= 1 and not maps.requires_grad
    single = method(images[:1].to(device), targets[:1].to(device), make().to(device))
    torch.testing.assert_close(single, maps[:1])  # no image sees the rest of its batch


# Centre box


def test_centre_box_of_the_release():
    box = centre_box()(torch.rand(1, 3, 224, 224), torch.tensor([0]), None)[0, 0]
    assert box[33:191, 33:191].all() and box.sum() == 158 * 158


@pytest.mark.parametrize(("area", "height", "width"), [(1.0, 24, 20), (0.25, 12, 10), (1e-6, 1, 1)])
def test_centre_box_covers_its_share(area, height, width, images):
    box = centre_box(area)(images, torch.zeros(4), None)[2, 0]
    assert (box.any(dim=1).sum(), box.any(dim=0).sum()) == (height, width)
    rows = box.any(dim=1).nonzero().flatten()
    assert rows[0] == (24 - height) // 2


@pytest.mark.parametrize("area", [0, -0.5, 1.5, float("nan")])
def test_centre_box_refuses_other_shares(area):
    with pytest.raises(ValueError, match="^area="):
        centre_box(area)


# Random


@pytest.mark.parametrize("smooth", [False, True])
def test_random_map_depends_on_seed_and_image_alone(smooth, images, targets):
    method = random_map(7, smooth=smooth)
    first = method(images, targets, None)
    torch.manual_seed(1)
    torch.testing.assert_close(method(images.flip(0), targets, None).flip(0), first, rtol=0, atol=0)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, random_map(8, smooth=smooth)(images, targets, None))


def test_random_map_leaves_the_global_generator_alone(images, targets):
    state = torch.get_rng_state()
    random_map()(images, targets, None)
    assert torch.equal(torch.get_rng_state(), state)


def test_random_map_is_uniform_and_smooth_when_asked(images, targets):
    noise, blobs = (random_map(smooth=smooth)(images, targets, None) for smooth in (False, True))
    assert noise.mean().item() == pytest.approx(0.5, abs=0.05)
    assert noise.std().item() == pytest.approx(12**-0.5, abs=0.02)
    assert blobs.diff(dim=3).abs().mean() < noise.diff(dim=3).abs().mean() / 2


# Grad-CAM


def by_hand(classifier: Classifier, layer: str, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Grad-CAM from its definition, with autograd alone."""
    kept = []
    module = dict(classifier.network.named_modules())[layer]
    handle = module.register_forward_hook(lambda _, __, output: kept.append(output) or output.clone())
    logits = classifier(images)
    handle.remove()
    (gradient,) = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), kept[0])
    cam = (gradient.mean(dim=(2, 3), keepdim=True) * kept[0]).sum(dim=1, keepdim=True).relu().detach()
    cam = F.interpolate(cam, size=images.shape[-2:], mode="bilinear", align_corners=False)
    maps = []
    for one in cam:
        low, high = one.min(), one.max()
        maps.append((one - low) / (high - low) if high > low else torch.zeros_like(one))
    return torch.stack(maps)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("layer", [None, "stem", "norm", "stage"])
@pytest.mark.parametrize("trainable", [True, False])
def test_grad_cam_agrees_with_its_definition(inplace, layer, trainable, images, targets):
    """Layers before an in-place ReLU too, and whether or not the weights need gradients."""
    classifier = make(inplace)
    expected = by_hand(make(), layer or "stage", images, targets)
    classifier.requires_grad_(trainable)
    torch.testing.assert_close(grad_cam(layer)(images, targets, classifier), expected, rtol=1e-4, atol=1e-5)
    assert expected.amax(dim=(1, 2, 3)).max() == 1


def test_grad_cam_works_inside_no_grad(images, targets):
    expected = grad_cam()(images, targets, make())
    with torch.no_grad():
        torch.testing.assert_close(grad_cam()(images, targets, make()), expected)
        assert not torch.is_grad_enabled()


@pytest.mark.parametrize("fails", [False, True])
def test_grad_cam_leaves_the_classifier_as_it_was(fails, images, targets):
    classifier = make(inplace=True).train()
    classifier.network.act.eval()  # the batch norm stays in training mode: one pass would move its statistics
    classifier.network.stem.weight.requires_grad_(False)
    classifier(images).sum().backward()
    before = snapshot(classifier)
    images_before = images.clone()
    if fails:
        with pytest.raises((IndexError, RuntimeError)):
            grad_cam()(images, torch.tensor([0, 1, 2, 99]), classifier)
    else:
        grad_cam()(images, targets, classifier)
    after = snapshot(classifier)
    torch.testing.assert_close(after.pop("state"), before.pop("state"), rtol=0, atol=0)
    torch.testing.assert_close(
        [grad for grad in after.pop("grads") if grad is not None],
        [grad for grad in before.pop("grads") if grad is not None],
    )
    assert after == before
    assert torch.equal(images, images_before) and not images.requires_grad


def test_grad_cam_map_of_zeros_stays_zero(images, targets):
    classifier = make()
    nn.init.zeros_(classifier.network.head.weight)
    assert grad_cam()(images, targets, classifier).abs().sum() == 0


def test_grad_cam_names_a_layer_that_does_not_fit(images, targets):
    with pytest.raises(ValueError, match="'stag' is not in net; it suggests stem, stage"):
        grad_cam("stag")(images, targets, make())
    with pytest.raises(ValueError, match="'head' has no"):
        grad_cam("head")(images, targets, make())
    with pytest.raises(ValueError, match="net names no layers"):
        grad_cam()(images, targets, make(layers=()))


# Truth


def test_truth_map_prefers_masks_and_falls_back_on_boxes():
    masks = torch.rand(2, 4, 4) < 0.5
    boxes = [torch.tensor([[0.0, 0, 2, 2], [1, 1, 3, 4]]), torch.zeros(0, 4)]
    assert torch.equal(truth_map(masks, boxes, (4, 4)), masks[:, None].float())
    union = torch.zeros(2, 1, 4, 4)
    union[0, 0, :2, :2] = 1
    union[0, 0, 1:4, 1:3] = 1
    assert torch.equal(truth_map(None, boxes, (4, 4)), union)
