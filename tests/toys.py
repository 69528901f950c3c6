"""Classifiers whose right map is known: a linear one, one that looks at a patch, and one that needs two patches at once."""

import torch
from torch import Tensor, nn

from maskerlib import Classifier

SIZE = 16
PATCH = (2, 10, 6, 14)
"""x0, y0, x1, y1: where `patch_classifier` looks."""
OTHER = (10, 2, 14, 6)
"""Where `both_classifier` looks as well."""


class _Linear(nn.Module):
    """logits[c] = sum(weights[c] * x)."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bchw,kchw->bk", x, self.weights)


class _Patches(nn.Module):
    """The logit of class 1 against class 0 is `gain` times how far the darkest of the patches lies above `level`."""

    def __init__(self, boxes: tuple[tuple[int, int, int, int], ...], gain: float, level: float) -> None:
        super().__init__()
        self.boxes, self.level = boxes, level
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, x: Tensor) -> Tensor:
        means = torch.stack([x[:, :, y0:y1, x0:x1].mean(dim=(1, 2, 3)) for x0, y0, x1, y1 in self.boxes], dim=1)
        z = self.gain * (means.amin(dim=1) - self.level)
        return torch.stack([-z / 2, z / 2], dim=1)


def _toy(network: nn.Module, name: str, size: int) -> Classifier:
    # mean 0 and std 1: the network sees the image itself, and what hides is black
    options = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "input_size": (size, size), "name": name}
    return Classifier(network, **options).eval().requires_grad_(False)


def linear_classifier(weights: Tensor) -> Classifier:
    """logits (B, C) of images of the size of `weights` (C, 3, H, W); the attribution of a pixel is its weight times its value."""
    return _toy(_Linear(weights), "linear", weights.shape[-1])


def patch_classifier(gain: float = 20.0, level: float = 0.5, *, size: int = SIZE) -> Classifier:
    """Class 1 where `PATCH` is bright, whatever the rest is."""
    return _toy(_Patches((PATCH,), gain, level), "patch", size)


def both_classifier(gain: float = 20.0, level: float = 0.5, *, size: int = SIZE) -> Classifier:
    """Class 1 where `PATCH` and `OTHER` are both bright: hiding one loses it, showing one does not keep it."""
    return _toy(_Patches((PATCH, OTHER), gain, level), "both", size)


def bright(count: int = 1, size: int = SIZE) -> Tensor:
    """Images (count, 3, size, size) of light grey, different from each other by a little noise; class 1 of both toys."""
    noise = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))
    return 0.9 + 0.1 * noise


def inside(box: tuple[int, int, int, int], size: int = SIZE) -> Tensor:
    """(1, 1, size, size) of 1 inside the box and 0 elsewhere: the right map."""
    x0, y0, x1, y1 = box
    mask = torch.zeros(1, 1, size, size)
    mask[..., y0:y1, x0:x1] = 1
    return mask
