"""The maps that need no training, and what computing them must not change."""

import pytest
import torch
from captum.attr import LayerGradCam, Occlusion, Saliency
from tiny import snapshot
from torch import nn
from torch.nn import functional as F
from torchvision.models import SwinTransformer, VisionTransformer

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.torchvision_networks import from_torchvision
from maskerlib.methods.attributions import magnitude_map
from maskerlib.methods.captum_method import captum_method
from maskerlib.methods.centre_box import centre_box
from maskerlib.methods.grad_cam import grad_cam
from maskerlib.methods.gradient import gradient
from maskerlib.methods.random_map import random_map
from maskerlib.metrics.truth import truth_map


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
        with pytest.raises(ValueError, match="target 99 is no class of net"):
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


def captums(classifier: Classifier, layer: str, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Grad-CAM by captum, enlarged and stretched as here."""
    cam = LayerGradCam(classifier, dict(classifier.network.named_modules())[layer]).attribute(images, targets)
    cam = F.interpolate(cam.detach().relu(), size=images.shape[-2:], mode="bilinear", align_corners=False)
    low, high = cam.amin(dim=(1, 2, 3), keepdim=True), cam.amax(dim=(1, 2, 3), keepdim=True)
    return (cam - low) / (high - low).where(high > low, 1)


@pytest.mark.parametrize("layer", ["maxpool", "layer1.0.conv1", "layer2", "layer4.1.bn2", "layer4"])
def test_grad_cam_agrees_with_captum(layer):
    """On a residual network whose ReLUs write over their inputs, and whose additions write over what was normalised."""
    classifier = from_torchvision("resnet18", class_names=tuple("abcde"), seed=1).eval()
    images = torch.rand(3, 3, 64, 64)
    targets = torch.tensor([0, 2, int(classifier(images[2:]).argmax())])
    expected = captums(classifier, layer, images, targets)
    assert expected.std() > 0.05
    torch.testing.assert_close(grad_cam(layer)(images, targets, classifier), expected, rtol=1e-4, atol=1e-5)


class ChannelsLast(nn.Module):
    """A stage (B, h, w, C) between two permutations."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 7, 3, stride=2, padding=1)
        self.last = nn.Linear(7, 9)
        self.back = nn.Identity()
        self.head = nn.Linear(9, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.last(self.stem(x).permute(0, 2, 3, 1))
        return self.head(self.back(x.permute(0, 3, 1, 2)).relu().mean(dim=(2, 3)))


def test_grad_cam_of_channels_that_come_last(images, targets):
    classifier = Classifier(ChannelsLast(), ("last", "back"), input_size=(24, 20)).eval()
    expected = by_hand(classifier, "back", images, targets)
    assert expected.std() > 0.1
    for layer in ("last", "back"):
        torch.testing.assert_close(grad_cam(layer)(images, targets, classifier), expected, rtol=1e-4, atol=1e-5)


def test_grad_cam_of_a_layer_that_the_user_says_how_to_read(images, targets):
    told = Classifier(
        ChannelsLast(), input_size=(24, 20), layouts={"last": lambda output: output.permute(0, 3, 1, 2)}
    ).eval()
    expected = by_hand(told, "back", images, targets)
    torch.testing.assert_close(grad_cam("last")(images, targets, told), expected, rtol=1e-4, atol=1e-5)


def transformer(layers=(), **options) -> Classifier:
    """torchvision's vision transformer, small: 4x4 patches of 8 pixels and a class token that decides."""
    torch.manual_seed(2)
    sizes = {"num_layers": 3, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32, "num_classes": 5}
    network = VisionTransformer(image_size=32, patch_size=8, **sizes)
    nn.init.normal_(network.heads.head.weight)
    return Classifier(network, layers, input_size=(32, 32), name="vit", **options).eval()


BLOCKS = tuple(f"encoder.layers.encoder_layer_{index}" for index in range(3))


def test_grad_cam_of_tokens(targets):
    """From the definition: the weights are means over the 16 tokens of patches, the class token is left out."""
    classifier, images = transformer(), torch.rand(4, 3, 32, 32)
    kept = []
    handle = classifier.network.get_submodule(BLOCKS[1]).register_forward_hook(
        lambda _, __, output: kept.append(output)
    )
    logits = classifier(images)
    handle.remove()
    (gradient,) = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), kept[0])
    weights = gradient[:, 1:].mean(dim=1)
    cam = torch.einsum("btc,bc->bt", kept[0][:, 1:], weights).relu().detach().view(4, 1, 4, 4)
    cam = F.interpolate(cam, size=(32, 32), mode="bilinear", align_corners=False)
    expected = torch.stack([(one - one.min()) / (one.max() - one.min()) for one in cam])
    torch.testing.assert_close(grad_cam(BLOCKS[1])(images, targets, classifier), expected, rtol=1e-3, atol=1e-4)


def test_grad_cam_of_a_class_token_is_no_empty_map(targets):
    images = torch.rand(4, 3, 32, 32)
    for layer, mend in (
        (BLOCKS[2], f"such as {BLOCKS[2]}.ln_1, or the block before"),
        ("encoder.ln", "the first norm of the last"),
    ):
        with pytest.raises(ValueError, match=f"layer {layer!r} of vit reaches the class token alone.*{mend}"):
            grad_cam(layer)(images, targets, transformer())
    assert grad_cam(f"{BLOCKS[2]}.ln_1")(images, targets, transformer()).amax(dim=(1, 2, 3)).tolist() == [1] * 4
    deepest = grad_cam()(images, targets, transformer(BLOCKS))
    assert torch.equal(deepest, grad_cam(BLOCKS[1])(images, targets, transformer()))
    with pytest.raises(ValueError, match="reaches the class token alone"):
        grad_cam()(images, targets, transformer(BLOCKS[2:]))


def test_grad_cam_of_a_shifted_window_transformer():
    network = SwinTransformer([4, 4], 12, [1, 1], [2, 2], [4, 4], num_classes=5)
    classifier = Classifier(network, ("features.1", "features.3"), input_size=(64, 64)).eval()
    images = torch.rand(2, 3, 64, 64)
    for layer, cells in (("features.1", 16), ("features.3", 8)):
        maps = grad_cam(layer)(images, [1, 3], classifier)
        assert maps.amax(dim=(1, 2, 3)).tolist() == [1, 1] and maps.std() > 0.05
        kept: list[torch.Tensor] = []
        handle = network.get_submodule(layer).register_forward_hook(
            lambda _, __, output, kept=kept: kept.append(output)
        )
        logits = classifier(images)
        handle.remove()
        (gradient,) = torch.autograd.grad(logits[0, 1] + logits[1, 3], kept[0])
        cam = (gradient.mean(dim=(1, 2), keepdim=True) * kept[0]).sum(dim=3).relu().detach()
        assert cam.shape == (2, cells, cells)
        cam = F.interpolate(cam[:, None], size=(64, 64), mode="bilinear", align_corners=False)
        low, high = cam.amin(dim=(1, 2, 3), keepdim=True), cam.amax(dim=(1, 2, 3), keepdim=True)
        torch.testing.assert_close(maps, (cam - low) / (high - low), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "vit_tiny_patch16_224", "convnextv2_atto"])
def test_grad_cam_of_networks_of_timm(name):
    timm = pytest.importorskip("timm")
    sizes = {} if name.startswith("convnext") else {"img_size": 64}
    network = timm.create_model(name, num_classes=5, **sizes)
    layers = ("stages.1", "stages.3") if name.startswith("convnext") else ("blocks.2", "blocks.10", "blocks.11")
    maps = grad_cam()(torch.rand(2, 3, 64, 64), None, Classifier(network, layers, input_size=(64, 64)).eval())
    assert maps.shape == (2, 1, 64, 64) and maps.amax(dim=(1, 2, 3)).tolist() == [1, 1]


def test_grad_cam_takes_targets_in_every_form(images):
    options = {"class_names": ("cat", "dog", "hat", "sea hare", "car"), "name": "net"}
    classifier = Classifier(make().network, ("stem", "stage"), **options).eval()
    said = classifier(images).argmax(dim=1)
    torch.testing.assert_close(grad_cam()(images, None, classifier), by_hand(classifier, "stage", images, said))
    threes = by_hand(classifier, "stage", images, torch.full((4,), 3))
    for targets in (3, "sea hare", [3, "Sea-Hare", 3, 3], torch.tensor(3), torch.full((4,), 3)):
        torch.testing.assert_close(grad_cam()(images, targets, classifier), threes)
    for targets, message in (
        (5, "target 5 is no class of net"),
        ("doog", "near ones: dog"),
        ([1, 2], "2 targets for 4 images"),
    ):
        with pytest.raises(ValueError, match=message):
            grad_cam()(images, targets, classifier)


def test_grad_cam_of_one_logit_and_of_its_no(images):
    """Evidence for "no" is what lowers the one logit: the maps are those of a network that returns [-z, z] / 2."""
    torch.manual_seed(4)
    network = Net()
    network.head = nn.Linear(8, 1)
    binary = Classifier(network, ("stem", "stage")).eval()

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            z = self.net(x)
            return torch.cat([-z, z], dim=1)

    symmetric = Classifier(Both(), ("net.stage",)).eval()
    for target in (0, 1):
        torch.testing.assert_close(grad_cam()(images, target, binary), grad_cam()(images, target, symmetric))
    assert not torch.equal(grad_cam()(images, 0, binary), grad_cam()(images, 1, binary))


def test_grad_cam_of_a_sigmoid_head_explains_the_logit(images, targets):
    yes_or_no = Classifier(make().network, ("stem", "stage"), head="sigmoid").eval()
    torch.testing.assert_close(grad_cam()(images, targets, yes_or_no), by_hand(make(), "stage", images, targets))


def test_grad_cam_of_a_wrapped_network_and_in_inference_mode(images, targets):
    expected = grad_cam()(images, targets, make())
    wrapped = Classifier(nn.DataParallel(make().network), ("stem", "stage")).eval()
    torch.testing.assert_close(grad_cam()(images, targets, wrapped), expected)
    classifier = make()
    with torch.inference_mode():
        torch.testing.assert_close(grad_cam()(images.clone(), targets, classifier), expected)


def test_grad_cam_of_a_layer_that_decides_nothing(images, targets):
    class Beside(Net):
        def __init__(self) -> None:
            super().__init__()
            self.beside = nn.Conv2d(3, 4, 1)
            self.unused = nn.Conv2d(3, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.beside(x)
            return super().forward(x)

    for layer in ("beside", "unused"):
        with pytest.raises(ValueError, match=f"do not depend on what layer {layer!r} returns; name another"):
            grad_cam(layer)(images, targets, Classifier(Beside()).eval())


@pytest.mark.parametrize("method", [centre_box(), random_map(), grad_cam(), captum_method(Saliency)])
def test_every_reference_asks_for_images_in_range(method, images, targets):
    nan = images.clone()
    nan[1, 0, 0, 0] = torch.nan
    cases = ((images * 255, "divide bytes by 255"), (nan, "image 1 holds NaN"), (images[0], r"images\[None\]"))
    for given, message in cases:
        with pytest.raises(ValueError, match=message):
            method(given, targets, make())


# captum


def test_a_captum_attribution_is_a_method(images, targets):
    classifier = make().train()
    before = snapshot(classifier)
    expected = gradient(channels="max", clip=0.9)(images, targets, classifier)
    maps = captum_method(Saliency, channels="max", clip=0.9)(images, targets, classifier)
    torch.testing.assert_close(maps, expected)
    method = captum_method(lambda network: Saliency(network), abs=False)
    signed = Saliency(make()).attribute(images.clone().requires_grad_(), targets, abs=False)
    torch.testing.assert_close(method.attribute(images, targets, classifier), signed)
    torch.testing.assert_close(method(images, targets, classifier), magnitude_map(signed))
    after = snapshot(classifier)
    torch.testing.assert_close(after.pop("state"), before.pop("state"), rtol=0, atol=0)
    assert after == before


def test_captum_attributions_with_options(images, targets):
    options = {"sliding_window_shapes": (3, 6, 5), "strides": (3, 6, 5)}
    with torch.no_grad():
        maps = captum_method(Occlusion, sign="positive", clip=1, **options)(images, 2, make())
        classifier = make()
        whole = classifier(images)[:, 2]
        hidden = images.clone()
        hidden[:, :, 6:12, 5:10] = 0
        drop = (whole - classifier(hidden)[:, 2]).clamp(min=0)
    assert maps.shape == (4, 1, 24, 20) and maps[0, 0].unique().numel() <= 16
    tile = maps[:, 0, 6:12, 5:10].flatten(1)
    assert torch.equal(tile.amin(dim=1), tile.amax(dim=1)) and ((tile[:, 0] > 0) == (drop > 0)).all()


# Truth


def test_truth_map_prefers_masks_and_falls_back_on_boxes():
    masks = torch.rand(2, 4, 4) < 0.5
    boxes = [torch.tensor([[0.0, 0, 2, 2], [1, 1, 3, 4]]), torch.zeros(0, 4)]
    assert torch.equal(truth_map(masks, boxes, (4, 4)), masks[:, None].float())
    union = torch.zeros(2, 1, 4, 4)
    union[0, 0, :2, :2] = 1
    union[0, 0, 1:4, 1:3] = 1
    assert torch.equal(truth_map(None, boxes, (4, 4)), union)
