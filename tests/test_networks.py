"""Fourteen networks of every family, each through the whole library: what holds for ResNets holds for all.

Random weights and few classes; images as small as each network allows. A random classifier has steep gradients, so that CA
moves it slowly.
"""

from collections.abc import Callable

import pytest
import torch
from tiny import snapshot
from torch import nn

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.timm_networks import from_timm
from maskerlib.classifiers.torchvision_networks import from_torchvision
from maskerlib.data.samples import Sample, Source
from maskerlib.masker.config import MaskerConfig
from maskerlib.masker.training import train_masker
from maskerlib.methods.grad_cam import grad_cam
from maskerlib.methods.optimise import optimise_mask
from maskerlib.metrics.evaluation import evaluate

CLASSES = ("red", "green", "blue")


def opinionated(classifier: Classifier, size: int) -> Classifier:
    """For small images, and with a head that differs between them; a vision transformer of torchvision starts with zeros."""
    classifier.input_size = (size, size)
    for part in classifier.modules():
        if isinstance(part, nn.Linear) and part.out_features == len(CLASSES):
            nn.init.normal_(part.weight, std=0.1)
    return classifier


def of_torchvision(name: str, size: int, **options: object) -> Callable[[], Classifier]:
    def make() -> Classifier:
        return opinionated(from_torchvision(name, class_names=CLASSES, **options), size)

    return make


def of_timm(name: str, size: int, **options: object) -> Callable[[], Classifier]:
    def make() -> Classifier:
        pytest.importorskip("timm", reason="timm, an extra, is not installed")
        return opinionated(from_timm(name, class_names=CLASSES, **options), size)

    return make


NETWORKS = {
    "resnet50": of_torchvision("resnet50", 64),
    "densenet121": of_torchvision("densenet121", 64),
    "vgg16": of_torchvision("vgg16", 64),
    "inception_v3": of_torchvision("inception_v3", 107, init_weights=False),
    "mobilenet_v3_large": of_torchvision("mobilenet_v3_large", 64),
    "efficientnet_b0": of_torchvision("efficientnet_b0", 64),
    "convnext_tiny": of_torchvision("convnext_tiny", 64),
    "swin_t": of_torchvision("swin_t", 64),
    "vit_b_16": of_torchvision("vit_b_16", 64, image_size=64),
    "vit_tiny": of_timm("vit_tiny_patch16_224", 64, img_size=64),
    "deit_tiny_distilled": of_timm("deit_tiny_distilled_patch16_224", 64, img_size=64),
    "vit_small_reg4": of_timm("vit_small_patch14_reg4_dinov2", 56, img_size=56),
    "convnextv2_atto": of_timm("convnextv2_atto", 64),
    "mobilenetv4_conv_small": of_timm("mobilenetv4_conv_small", 64),
}


class Dots(Source):
    """Four images of noise with a box of colour, which is the class."""

    class_names = CLASSES

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.labels = torch.arange(4) % len(CLASSES)
        self.images = 0.4 + 0.2 * torch.rand(4, 3, *size, generator=torch.Generator().manual_seed(0))
        for image, label in zip(self.images, self.labels.tolist(), strict=True):
            image[:, 8:40, 8:40] = torch.eye(3)[label].view(3, 1, 1)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        box = torch.tensor([[8.0, 8.0, 40.0, 40.0]])
        mask = torch.zeros(self.size, dtype=torch.bool)
        mask[8:40, 8:40] = True
        return Sample(self.images[index], int(self.labels[index]), box, mask, f"dot {index}")


def test_there_are_fourteen():
    assert len(NETWORKS) == 14


@pytest.mark.parametrize("name", NETWORKS)
def test_through_the_whole_library(name):
    classifier = NETWORKS[name]()
    source = Dots(classifier.input_size)
    size, few = classifier.input_size, source.images[:2]
    before = snapshot(classifier)

    logits, maps = classifier.activations(few)
    assert logits.shape == (2, 3) and len(maps) == len(classifier.layers) >= 4
    assert {layer: part.shape[1] for layer, part in maps.items()} == classifier.layer_channels()
    if name == "swin_t":
        assert [part.shape[1] for part in maps.values()] == [96, 192, 384, 768]
    for part in maps.values():
        assert part.dim() == 4 and part.shape[2] == part.shape[3] and 1 <= part.shape[3] < size[1] and not part.requires_grad

    found = optimise_mask(classifier, few, [0, 1], steps=2, precision="fp32")
    assert found.masks.shape == (2, 1, *size) and found.masks.isfinite().all()
    cams = torch.stack([grad_cam()(few, target, classifier) for target in range(len(CLASSES))])
    assert cams.shape == (3, 2, 1, *size) and cams.isfinite().all() and cams.max() == 1

    methods = {"Grad-CAM": grad_cam()}
    for mode in ("FIX", "CA"):
        config = MaskerConfig(mode=mode, steps=2, batch_size=2, width=8, pool_every=1, precision="fp32")
        trained = train_masker(classifier, source, config, progress=False)
        masks = trained(few)
        assert masks.shape == (2, 1, *size) and masks.isfinite().all() and masks.std() > 0
        moved = trained.classifier.fingerprint() != classifier.fingerprint()
        assert moved == (mode == "CA") and all(len(values) == 2 for values in trained.history.values())
        methods[mode] = trained

    table = evaluate(methods, source, classifier, batch_size=2, precision="fp32")
    assert table[["OM", "LE", "PxAP", "SM"]].notna().all(axis=None) and list(table.index) == list(methods)

    after = snapshot(classifier)
    for value, other in zip(before.pop("state").values(), after.pop("state").values(), strict=True):
        assert torch.equal(value, other)
    assert before == after
