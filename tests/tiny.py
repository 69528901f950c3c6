"""A classifier and a data set so small that training takes a hundredth of a second a step."""

import torch
from torch import Tensor, nn

from maskerlib.classifiers.classifier import Classifier
from maskerlib.data.samples import Sample, Source

COLOURS = ("red", "green", "blue", "white")
SIZE = 16


class TinyNet(nn.Module):
    """A stem and one stage, both with batch norm, and a linear head."""

    def __init__(self, classes: int = len(COLOURS), *, inplace: bool = False) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace))
        self.stage = nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU(inplace))
        self.head = nn.Linear(6, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stage(self.stem(x)).mean(dim=(2, 3)))


def tiny_classifier(seed: int = 0, *, layers: tuple[str, ...] = ("stem", "stage")) -> Classifier:
    """A `TinyNet` in eval mode: weights from `seed`, batch-norm statistics that are not the initial ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = TinyNet()
        with torch.no_grad():
            network.head.weight.mul_(5)  # opinions that differ between images
            network.train()(torch.randn(8, 3, SIZE, SIZE))
    return Classifier(network, layers, class_names=COLOURS, input_size=(SIZE, SIZE), name="tiny").eval()


class Squares(Source):
    """Squares of four colours, the classes, on grey noise; `labelled=False` keeps the colours to itself."""

    def __init__(self, count: int = 24, *, seed: int = 0, labelled: bool = True) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.images = 0.3 + 0.2 * torch.rand(count, 1, SIZE, SIZE, generator=generator).repeat(1, 3, 1, 1)
        self.corners = torch.randint(SIZE - 6, (count, 2), generator=generator)
        self.colours = torch.arange(count) % len(COLOURS)
        paint = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
        for image, (top, left), colour in zip(self.images, self.corners.tolist(), self.colours, strict=True):
            image[:, top : top + 6, left : left + 6] = paint[colour].view(3, 1, 1)
        self.labels = self.colours.clone() if labelled else torch.full((count,), -1)
        self.class_names = COLOURS if labelled else ()
        self.size = (SIZE, SIZE)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        top, left = self.corners[index].tolist()
        label = int(self.labels[index])
        return Sample(
            self.images[index],
            None if label < 0 else label,
            torch.tensor([[left, top, left + 6, top + 6]], dtype=torch.float32),
            None,
            f"square {index}",
        )


def snapshot(classifier: Classifier) -> dict:
    """All that a method must leave as it was: modules, weights, modes, flags, gradients, hooks."""
    return {
        "modules": [id(module) for module in classifier.modules()],
        "state": {name: value.clone() for name, value in classifier.state_dict().items()},
        "modes": [module.training for module in classifier.modules()],
        "flags": [weight.requires_grad for weight in classifier.parameters()],
        "grads": [None if weight.grad is None else weight.grad.clone() for weight in classifier.parameters()],
        "hooks": [
            len(hooks)
            for module in classifier.modules()
            for hooks in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        ],
    }
