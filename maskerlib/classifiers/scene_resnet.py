"""The small ResNet of the lessons, whose size is chosen for a laptop; trained on scenes, it comes with the package."""

import os
from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path

import torch
from torch import Tensor, nn

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.entry import ClassifierEntry
from maskerlib.classifiers.weights import load_weights, restore_weights
from maskerlib.data.scenes.glyphs import CLASSES
from maskerlib.running.files import load_checkpoint

__all__ = ["ENTRY", "SceneResNet", "packed_classifier", "scene_classifier", "scene_resnet"]


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
        z: Tensor = self.relu(self.bn2(self.conv2(y)) + self.shortcut(x))
        return z


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
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


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


def scene_classifier(device: torch.device | str = "cpu") -> Classifier:
    """The classifier of the quickstart: 16 classes of scenes, 96x96 pixels, eval mode, weights without gradients."""
    with as_file(files("maskerlib") / "weights") as folder:
        return packed_classifier(folder / "classifier.pt").to(device)


def packed_classifier(path: Path) -> Classifier:
    """A trained scene classifier from a `classifier.pt`, as `scene_classifier` gives it."""
    classifier = scene_resnet(tuple(CLASSES))
    restore_weights(classifier, load_checkpoint(path), path)
    return classifier.eval().requires_grad_(False)


def _asked_for(
    *,
    weights: str | os.PathLike[str] | None = None,
    class_names: Sequence[str] | None = None,
    layers: Sequence[str] | None = None,
    seed: int = 0,
) -> Classifier:
    """As `maskerlib.classifiers.registry.classifier_named` asks for it."""
    if weights is None:
        if class_names is not None and tuple(class_names) != tuple(CLASSES):
            raise ValueError("the weights of 'scenes' have classes of their own; leave class_names out, or give other weights")
        return scene_classifier().reading(layers)
    classifier = scene_resnet(tuple(CLASSES) if class_names is None else tuple(class_names)).eval().reading(layers)
    load_weights(classifier, weights)
    return classifier


ENTRY = ClassifierEntry(
    "scenes", "the small ResNet of the notebooks, 16 classes of drawn scenes; its weights come with maskerlib", _asked_for
)
