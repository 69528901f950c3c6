"""The network of Dabkowski and Gal (2017): a decoder that climbs from a classifier's deepest features, filtered by a class.

Every cell of the deepest layer is multiplied by sigmoid(e_c . f), f its features and e_c the embedding of the class asked for:
the selector. From there it goes up, layer by layer, each time beside what the classifier had there (as in a U-Net), to two
channels a and b; the mask is |a| / (|a| + |b|), upsampled bilinearly to the image.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maskerlib.classifiers.classifier import Classifier, frozen
from maskerlib.masker.network import MaskNetwork

__all__ = ["Decoder", "decoder_for"]

_LEAST = 1e-6
"""The least share that a mask may have, and so the least and largest logit: an infinite one has no gradient."""


class _Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions over a quarter of the channels, with a shortcut (He et al., 2016)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        inner = max(1, after // 4)
        self.inside = nn.Sequential(
            nn.Conv2d(before, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, inner, 3, padding=1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, after, 1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.shortcut = nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = (self.inside(x) + self.shortcut(x)).relu()
        return found


class _Up(nn.Module):
    """One step up: `factor` times as many cells by a convolution and a pixel shuffle, then what the classifier had there."""

    def __init__(self, deep: int, shallow: int, after: int, factor: int) -> None:
        super().__init__()
        count = after * factor**2
        self.finer = nn.Sequential(
            nn.Conv2d(deep, count, 3, padding=1, bias=False), nn.BatchNorm2d(count), nn.ReLU(), nn.PixelShuffle(factor)
        )
        self.beside = _Bottleneck(after + shallow, after)

    def forward(self, x: Tensor, shallow: Tensor) -> Tensor:
        x = self.finer(x)
        if x.shape[-2:] != shallow.shape[-2:]:  # a grid that is no multiple of the one below
            x = F.interpolate(x, size=shallow.shape[-2:], mode="bilinear", align_corners=False)
        found: Tensor = self.beside(torch.cat([x, shallow.to(x)], dim=1))
        return found


class Decoder(MaskNetwork):
    """Activations of some layers and a class -> logits of the mask of that class.

    Args:
        channels: {layer name: channels} of the layers that it climbs, shallow to deep.
        factors: how many times as many cells a side each layer has as the one below it; one number fewer than layers.
        classes: how many classes there are.
        width: channels of the shallowest layer; they double with each layer further down.
        zoom: how many times as many pixels a side the mask has as that layer has cells.
        confidence: taken off the similarity e_c . f before its sigmoid, except in training: the larger, the less of the image
            is shown. (The release draws with 6, for its classifier and its schedule.)
    """

    condition = "class"

    def __init__(
        self,
        channels: Mapping[str, int],
        factors: Sequence[int],
        *,
        classes: int,
        width: int = 64,
        zoom: int = 1,
        confidence: float = 0.0,
    ) -> None:
        super().__init__()
        if not channels:
            raise ValueError("a decoder needs at least one layer to read; channels is empty")
        self.layers = tuple(channels)
        self.zoom, self.confidence = zoom, confidence
        inside = channels[self.layers[-1]]
        self.embed = nn.Embedding(classes, inside)
        nn.init.normal_(self.embed.weight, std=inside**-0.5)
        self.up = nn.ModuleList()
        for level in reversed(range(len(factors))):
            self.up.append(_Up(inside, channels[self.layers[level]], width * 2**level, factors[level]))
            inside = width * 2**level
        self.head = nn.Conv2d(inside, 2, 1)

    def similarity(self, activations: Mapping[str, Tensor], classes: Tensor) -> Tensor:
        """e_c . f of every cell of the deepest layer: (B, 1, h, w), for the classes (B,) int64."""
        features = self.read(activations, self.layers[-1])
        embedded: Tensor = self.embed(classes.to(features.device))
        return (features * embedded[:, :, None, None]).sum(dim=1, keepdim=True)

    def presence(self, activations: Mapping[str, Tensor], classes: Tensor) -> Tensor:
        """The logit that each class is there, (B,): the mean similarity, from which the selector learns."""
        return self.similarity(activations, classes).mean(dim=(1, 2, 3))

    def forward(self, activations: Mapping[str, Tensor], conditioning: Tensor | None = None) -> Tensor:
        """Logits (B, 1, zoom h, zoom w) of a mask: float64 of a float64 decoder, else float32.

        Args:
            activations: what `Classifier.activations` returns: at least the layers of this decoder.
            conditioning: (B,) int64, the class whose mask is asked for.

        Raises ValueError naming a layer that is missing or lies on another device, or when `conditioning` is missing.
        """
        told = self.admit(activations, self.layers, conditioning)
        assert told is not None  # a decoder has a condition
        confidence = 0.0 if self.training else self.confidence
        x = self.read(activations, self.layers[-1]) * (self.similarity(activations, told) - confidence).sigmoid()
        for up, layer in zip(self.up, self.layers[-2::-1], strict=True):
            x = up(x, self.read(activations, layer))
        channels = self.head(x)
        size = channels.to(torch.promote_types(channels.dtype, torch.float32)).abs()
        share = size[:, :1] / size.sum(dim=1, keepdim=True).clamp(min=_LEAST)
        return F.interpolate(share, scale_factor=self.zoom, mode="bilinear", align_corners=False).logit(eps=_LEAST)


def decoder_for(
    classifier: Classifier,
    layers: Sequence[str] | None = None,
    *,
    width: int = 64,
    seed: int = 0,
    confidence: float = 0.0,
) -> Decoder:
    """A new decoder for `classifier`, with weights from `seed`.

    `layers` None means those of at most a quarter of the image's resolution, the deepest of each grid: of a ResNet-50 its four
    stages, as published. Where these are fewer than two, all that the classifier names.

    Raises ValueError for a layer that is not among `classifier.layers`.
    """
    if not classifier.layers:
        raise ValueError(f"{classifier.name} names no layers to read; build it with layers=(...)")
    height, width_of_image = classifier.input_size
    with frozen(classifier), torch.no_grad():
        blank = classifier.mean.new_zeros(1, classifier.channels, height, width_of_image)
        seen = {layer: tuple(maps.shape[1:]) for layer, maps in classifier.activations(blank)[1].items()}
    if layers is None:
        coarse = {rows: layer for layer, (_, rows, _) in seen.items() if 4 * rows <= height}
        layers = tuple(coarse.values()) if len(coarse) > 1 else tuple(seen)
    for layer in layers:
        if layer not in seen:
            raise ValueError(f"layer {layer!r} is not read from {classifier.name}; choose from {', '.join(seen)}")
    rows = [seen[layer][1] for layer in layers]
    factors = [max(1, round(above / below)) for above, below in zip(rows, rows[1:], strict=False)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Decoder(
            {layer: seen[layer][0] for layer in layers},
            factors,
            classes=classifier.class_count(),
            width=width,
            zoom=max(1, round(height / rows[0])) if rows else 1,
            confidence=confidence,
        )
