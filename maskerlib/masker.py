"""The masker: a small network that draws a mask from a classifier's activations (Phang et al., figure 1B).

Each chosen layer is brought to `width` channels by a 1x1 convolution, normalised, rectified and upsampled to the grid of
the classifier's first layer; one 3x3 convolution over all of them gives the logits of the mask.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maskerlib.classifiers import Classifier, frozen
from maskerlib.distributions import decided_mask

__all__ = ["CONDITIONS", "Masker", "masker_for", "masker_method"]

CONDITIONS = (None, "size", "class")
"""What a masker can be told beside what it sees."""

EMBEDDING = 64
"""Channels that a class is embedded in."""


class Masker(nn.Module):
    """Activations of some layers -> logits of a mask.

    Args:
        channels: {layer name: channels} of the layers that the masker reads, shallow to deep.
        grid: the layer whose height and width the mask's grid has: the classifier's first.
        width: channels that each layer is reduced to.
        condition: None, "size" or "class".
        classes: how many classes there are; only for "class".

    As in the study, the grid layer itself enters as it is, without a convolution, when other layers are read as well.

    A masker can be told something beside what it sees (Phang et al., section 5), which enters the last convolution as channels
    that are constant over the image: the share of the image that the mask should cover (`condition="size"`, one channel), or
    the class that it should show (`condition="class"`, an embedding of 64 channels, as in Dabkowski & Gal, 2017).

    Convolutions start He-normal, fan-out, as in the study, but for the last one: with a single output channel fan-out
    makes its weights ten times larger than fan-in does. The first masks are then 0 or 1 at random, where the sigmoid
    has no gradient, and a short run never quite leaves them. It starts fan-in, from masks in grey.
    """

    def __init__(
        self,
        channels: Mapping[str, int],
        *,
        grid: str,
        width: int = 64,
        condition: str | None = None,
        classes: int = 0,
    ) -> None:
        super().__init__()
        if not channels:
            raise ValueError("a masker needs at least one layer to read; channels is empty")
        if condition not in CONDITIONS:
            raise ValueError(f"condition={condition!r} is unknown; choose one of {', '.join(map(str, CONDITIONS))}")
        if condition == "class" and classes < 1:
            raise ValueError(f"classes={classes}: a masker that is told the class needs their number, 1 or more")
        self.layers = tuple(channels)
        self.grid = grid
        self.reduce = nn.ModuleList()
        total = 0
        for layer, count in channels.items():
            if layer == grid and len(channels) > 1:
                self.reduce.append(nn.Identity())
                total += count
            else:
                self.reduce.append(
                    nn.Sequential(nn.Conv2d(count, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
                )
                total += width
        self.condition = condition
        if condition == "class":
            self.embed = nn.Embedding(classes, EMBEDDING)
        total += {None: 0, "size": 1, "class": EMBEDDING}[condition]
        self.draw = nn.Conv2d(total, 1, 3, padding=1)
        for module in self.reduce.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.kaiming_normal_(self.draw.weight, mode="fan_in", nonlinearity="relu")
        nn.init.zeros_(self.draw.bias)

    def forward(self, activations: Mapping[str, Tensor], told: Tensor | None = None) -> Tensor:
        """Logits (B, 1, h, w), float32, of a mask on the grid layer's h x w cells.

        Args:
            activations: what `Classifier.activations` returns: at least the layers of this masker and its grid layer.
            told: (B,) what a conditional masker is told: the share in [0, 1], or the class, int64. None for others.

        Raises ValueError naming a layer that is missing, or when `told` is missing or not for this masker.
        """
        for layer in (*self.layers, self.grid):
            if layer not in activations:
                raise ValueError(
                    f"layer {layer!r} is not among the activations {tuple(activations)}; is this its classifier?"
                )
        if (told is None) != (self.condition is None):
            raise ValueError(f"a masker with condition={self.condition!r} was told {'nothing' if told is None else 'something'}")
        features = list(self.features(activations).values())
        if told is not None:
            constant = self.embed(told) if self.condition == "class" else told[:, None].to(features[0])
            features.append(constant[:, :, None, None].expand(-1, -1, *features[0].shape[-2:]).to(features[0]))
        return self.draw(torch.cat(features, dim=1)).float()

    def features(self, activations: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the last convolution sees of each layer, reduced and on the grid: {layer: (B, channels, h, w)}, in its order."""
        grid = activations[self.grid].shape[-2:]
        return {
            layer: F.interpolate(reduce(activations[layer]), size=grid, mode="bilinear", align_corners=False)
            for layer, reduce in zip(self.layers, self.reduce, strict=True)
        }


def masker_for(
    classifier: Classifier,
    layers: Sequence[str] | None = None,
    *,
    width: int = 64,
    seed: int = 0,
    condition: str | None = None,
) -> Masker:
    """A new masker for `classifier`, with weights from `seed`.

    `layers` None means the two deepest, which the study found to be enough; `condition` as in `Masker`. Raises ValueError for
    a layer that is not among `classifier.layers`.
    """
    if not classifier.layers:
        raise ValueError(f"{classifier.name} names no layers to read; build it with layers=(...)")
    known = classifier.layer_channels()
    chosen = tuple(layers) if layers is not None else classifier.layers[-2:]
    for layer in chosen:
        if layer not in known:
            raise ValueError(f"layer {layer!r} is not read from {classifier.name}; choose from {', '.join(known)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        channels = {layer: known[layer] for layer in chosen}
        classes = classifier.class_count() if condition == "class" else 0
        return Masker(channels, grid=classifier.layers[0], width=width, condition=condition, classes=classes)


def masker_method(
    masker: Masker, *, mask: str = "sigmoid", share: float = 0.5
) -> Callable[[Tensor, Tensor | None, Classifier], Tensor]:
    """The masker as a saliency method: (images, targets, classifier) -> masks (B, 1, H, W) in [0, 1].

    The study's masker sees neither the label nor the predicted class, and the targets are not looked at. One that is told the
    class is told the targets, or, where they are None, the classes that the classifier predicts; one that is told a size is
    told `share`. `mask` is the kind that it was trained with, one of `maskerlib.distributions.MASKS`.
    """

    def method(images: Tensor, targets: Tensor | None, classifier: Classifier) -> Tensor:
        with torch.no_grad(), frozen(classifier), frozen(masker):
            logits, activations = classifier.activations(images)
            told = None
            if masker.condition == "size":
                told = logits.new_full((len(images),), share)
            elif masker.condition == "class":
                told = logits.argmax(dim=1) if targets is None else targets
            return decided_mask(masker(activations, told), images.shape[-2:], mask)

    return method
