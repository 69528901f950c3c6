"""The masker: a small network that draws a mask from a classifier's activations (Phang et al., figure 1B).

Each chosen layer is brought to `width` channels by a 1x1 convolution, normalised, rectified and upsampled to the grid of
the classifier's first layer; one 3x3 convolution over all of them gives the logits of the mask.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maskerlib.classifiers.classifier import Classifier, frozen
from maskerlib.classifiers.doors import Method, Targets, as_targets, check_images
from maskerlib.masking.distributions import decided_mask
from maskerlib.running.checks import between, check_value, one_of

__all__ = ["CONDITIONS", "CONDITION_AT", "MaskNetwork", "Masker", "masker_for", "masker_method", "named_as_now"]

CONDITIONS = (None, "size", "class")
"""What a masker can be told beside what it sees."""

CONDITION_AT = ("layers", "head")
"""Where it is told: beside each layer that it reads, or beside their features before the last convolution."""

EMBEDDING = 64
"""Channels that a class is embedded in."""


class MaskNetwork(nn.Module):
    """Any network that draws masks from a classifier's activations, and what has to be known of it to ask it for one.

    layers: names of the layers that it reads, shallow to deep.
    condition: what it is told beside what it sees, one of `CONDITIONS`.

    It is called with (activations, conditioning) and returns logits (B, 1, h, w) of any size; `Masker.forward` says more.
    """

    layers: tuple[str, ...]
    condition: str | None
    head: nn.Conv2d

    def admit(
        self, activations: Mapping[str, Tensor], layers: Sequence[str], conditioning: Tensor | None
    ) -> Tensor | None:
        """`conditioning`, once it suits the network and `layers` are among the activations, on its device.

        Raises ValueError naming a layer that is missing or lies on another device, or when `conditioning` is missing or not for
        this network.
        """
        device = self.head.weight.device
        for layer in layers:
            if layer not in activations:
                raise ValueError(
                    f"layer {layer!r} is not among the activations {tuple(activations)}; is this its classifier?"
                )
            if activations[layer].device != device:
                raise ValueError(
                    f"the masker is on {device}, the activations of {layer!r} on {activations[layer].device}; move one to the "
                    "other, such as masker.to(classifier.mean.device)"
                )
        if (conditioning is None) != (self.condition is None):
            wanted = "takes no conditioning; leave it out" if self.condition is None else "needs conditioning, (B,); give it"
            raise ValueError(f"a masker with condition={self.condition!r} {wanted}")
        return conditioning

    def read(self, activations: Mapping[str, Tensor], layer: str) -> Tensor:
        """The activations of a layer in the network's own precision, unless autocast decides."""
        seen, weight = activations[layer], self.head.weight
        if seen.dtype != weight.dtype and not torch.is_autocast_enabled(weight.device.type):
            return seen.to(weight.dtype)
        return seen


class Masker(MaskNetwork):
    """Activations of some layers -> logits of a mask.

    Args:
        channels: {layer name: channels} of the layers that the masker reads, shallow to deep.
        grid_layer: the layer whose height and width the mask's grid has: the classifier's first.
        width: channels that each layer is reduced to.
        condition: None, "size" or "class".
        classes: how many classes there are; only for "class".
        condition_at: "layers" or "head"; of no consequence without a condition.

    As in the study, the grid layer itself enters as it is, without a convolution, when other layers are read as well.

    A masker can be told something beside what it sees (Phang et al., section 5), as channels that are constant over the image:
    the area that the mask should have (`condition="size"`, one channel), or the class that it should show
    (`condition="class"`, an embedding of 64 channels). Where these channels enter decides what can come of them:

    - `condition_at="layers"`, as in the study's release: they are appended to the activations of each layer that is read,
      before its 1x1 convolution, batch norm and ReLU. What is told can then switch features on and off, pixel by pixel, and so
      choose an object or a place. The grid layer without a convolution takes them on as it is. (The release's last convolution
      expects another number of channels there, so that it cannot run where the first layer is read.)
    - `condition_at="head"`: they are appended once, to the features before the last convolution. As it is linear, all that they
      can do is to add one constant to the logits of every cell (away from the border, where the convolution pads with 0): a
      threshold, which suits a size, but chooses no object.

    Dabkowski and Gal (2017), whose masker is told the class as well, do neither: they filter the deepest features by their
    similarity to the embedding.

    Convolutions start He-normal, fan-out, as in the study, but for the last one: with a single output channel fan-out
    makes its weights ten times larger than fan-in does. The first masks are then 0 or 1 at random, where the sigmoid
    has no gradient, and a short run never quite leaves them. It starts fan-in, from masks in grey.
    """

    def __init__(
        self,
        channels: Mapping[str, int],
        *,
        grid_layer: str,
        width: int = 64,
        condition: str | None = None,
        classes: int = 0,
        condition_at: str = "layers",
    ) -> None:
        super().__init__()
        if not channels:
            raise ValueError("a masker needs at least one layer to read; channels is empty")
        check_value("condition", condition, one_of(CONDITIONS))
        check_value("condition_at", condition_at, one_of(CONDITION_AT))
        if condition == "class" and classes < 1:
            raise ValueError(f"classes={classes}: a masker that is told the class needs their number, 1 or more")
        self.layers = tuple(channels)
        self.grid_layer = grid_layer
        self.condition, self.condition_at = condition, condition_at
        more = {None: 0, "size": 1, "class": EMBEDDING}[condition]
        beside = more if condition_at == "layers" else 0
        self.reduce = nn.ModuleList()
        total = more - beside
        for layer, seen in channels.items():
            count = seen + beside
            if layer == grid_layer and len(channels) > 1:
                self.reduce.append(nn.Identity())
                total += count
            else:
                self.reduce.append(
                    nn.Sequential(nn.Conv2d(count, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
                )
                total += width
        if condition == "class":
            self.embed = nn.Embedding(classes, EMBEDDING)
        self.head = nn.Conv2d(total, 1, 3, padding=1)
        for module in self.reduce.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.kaiming_normal_(self.head.weight, mode="fan_in", nonlinearity="relu")
        nn.init.zeros_(self.head.get_parameter("bias"))

    def forward(self, activations: Mapping[str, Tensor], conditioning: Tensor | None = None) -> Tensor:
        """Logits (B, 1, h, w) of a mask on the grid layer's h x w cells: float64 of a float64 masker, else float32.

        Args:
            activations: what `Classifier.activations` returns: at least the layers of this masker and its grid layer.
            conditioning: (B,) what a conditional masker is told: the area in [0, 1], or the class, int64. None for others.

        Raises ValueError naming a layer that is missing or lies on another device, or when `conditioning` is missing or not for
        this masker.
        """
        conditioning = self.admit(activations, (*self.layers, self.grid_layer), conditioning)
        features = list(self.features(activations, conditioning).values())
        if conditioning is not None and self.condition_at == "head":
            features.append(self._planes(conditioning, features[0]))
        logits: Tensor = self.head(torch.cat(features, dim=1))
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def features(self, activations: Mapping[str, Tensor], conditioning: Tensor | None = None) -> dict[str, Tensor]:
        """What the last convolution sees of each layer, reduced and on the grid: {layer: (B, channels, h, w)}, in its order.

        Arguments as in `forward`; activations of another precision are read in the masker's own, unless autocast decides.
        """
        grid = activations[self.grid_layer].shape[-2:]
        found = {}
        for layer, reduce in zip(self.layers, self.reduce, strict=True):
            seen = self.read(activations, layer)
            if conditioning is not None and self.condition_at == "layers":
                seen = torch.cat([seen, self._planes(conditioning, seen)], dim=1)
            found[layer] = F.interpolate(reduce(seen), size=grid, mode="bilinear", align_corners=False)
        return found

    def _planes(self, conditioning: Tensor, like: Tensor) -> Tensor:
        """What the masker is told, as channels (B, channels, h, w) that are constant over the h x w cells of `like`."""
        conditioning = conditioning.to(like.device)
        constant: Tensor = self.embed(conditioning) if self.condition == "class" else conditioning[:, None].to(like)
        return constant[:, :, None, None].expand(-1, -1, *like.shape[-2:]).to(like)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *more: Any) -> None:
        named = named_as_now(state_dict, prefix)
        state_dict.clear()
        state_dict.update(named)
        super()._load_from_state_dict(state_dict, prefix, *more)


def named_as_now(weights: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The state dict of a masker from a file in which its last convolution is still called `draw`, with the names of today.

    >>> list(named_as_now({"reduce.0.0.weight": 1, "draw.weight": 2}))
    ['reduce.0.0.weight', 'head.weight']
    """
    before, now = f"{prefix}draw.", f"{prefix}head."
    return {now + name.removeprefix(before) if name.startswith(before) else name: value for name, value in weights.items()}


def masker_for(
    classifier: Classifier,
    layers: Sequence[str] | None = None,
    *,
    width: int = 64,
    seed: int = 0,
    condition: str | None = None,
    condition_at: str = "layers",
) -> Masker:
    """A new masker for `classifier`, with weights from `seed`.

    `layers` None means the two deepest, which the study found to be enough; `condition` and `condition_at` as in `Masker`.
    Raises ValueError for a layer that is not among `classifier.layers`.
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
        return Masker(
            channels,
            grid_layer=classifier.layers[0],
            width=width,
            condition=condition,
            classes=classes,
            condition_at=condition_at,
        )


def masker_method(
    masker: MaskNetwork,
    *,
    mask: str = "sigmoid",
    area: float = 0.5,
    regions: Callable[[Tensor], Tensor | None] = lambda images: None,
) -> Method:
    """The masker as a saliency method: (images, targets, classifier) -> masks (B, 1, H, W) in [0, 1].

    The study's masker sees neither the label nor the predicted class, and the targets are not looked at. One that is told the
    class is told the targets, as numbers or names, or, where they are None, the classes that the classifier predicts; one that
    is told a size is asked for `area`, a share of the image in [0, 1]. `mask` is the kind that it was trained with, one of
    `maskerlib.masking.distributions.MASKS`; `regions` gives, for images, the regions (B, H, W) on which their masks are constant,
    or None.

    The method raises ValueError for images that are not (B, channels, H, W) in [0, 1], a target that is no class, or a masker
    on another device than the classifier. Raises ValueError at once for an `area` outside [0, 1].
    """
    check_value("area", area, between(0, 1))

    def method(images: Tensor, targets: Targets, classifier: Classifier) -> Tensor:
        check_images(images, classifier)
        with torch.no_grad(), frozen(classifier), frozen(masker):
            logits, activations = classifier.activations(images)
            conditioning = None
            if masker.condition == "size":
                conditioning = logits.new_full((len(images),), area)
            elif masker.condition == "class":
                conditioning = as_targets(targets, logits, classifier)
            height, width = images.shape[-2:]
            return decided_mask(masker(activations, conditioning), (height, width), mask, regions=regions(images))

    return method
