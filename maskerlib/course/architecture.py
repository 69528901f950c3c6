"""The masker as a picture, drawn from the modules themselves (what figure 1B of Phang et al., 2020, shows).

`read_architecture` runs a classifier and its masker once and writes down what every part took in and gave out;
`architecture_picture` draws that. No size, number of layers or name of a network is assumed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import log, log2
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from torch import Tensor, nn

from maskerlib.classifiers.classifier import Classifier, frozen
from maskerlib.masker.network import Masker
from maskerlib.masking.masks import mask_from_logits

__all__ = ["Architecture", "Stage", "architecture_picture", "read_architecture"]

_READ, _NOT_READ, _MASKER, _LINE = "#3b6ea8", "#b5b5b5", "#c8702a", "#555555"
_LONGEST, _SHORTEST, _STEP = 1.05, 0.36, 1.72  # inches: sides of the largest and the smallest map, one column


@dataclass(frozen=True)
class Stage:
    """One layer of the classifier, and what the masker does to it.

    name: as in `Classifier.layers`.  shape: (channels, height, width) of its output.
    reduction: the masker's modules for it in words.  reduced: the shape after them. () and None where it is not read.
    picture: (h, w), the mean of the output over its channels.  features: the same of the reduced output on the grid.
    """

    name: str
    shape: tuple[int, ...]
    reduction: tuple[str, ...]
    reduced: tuple[int, ...] | None
    picture: Tensor
    features: Tensor | None


@dataclass(frozen=True)
class Architecture:
    """What one forward pass went through.

    input: (3, H, W).  stages: shallow to deep.  classes: length of the classifier's logits.
    grid: (height, width) of the mask's grid.  joined: (channels, height, width) after concatenation.
    drawing: the last convolution in words.  picture: the image (3, H, W).  mask: (H, W) in [0, 1].
    """

    input: tuple[int, ...]
    stages: tuple[Stage, ...]
    classes: int
    grid: tuple[int, ...]
    joined: tuple[int, ...]
    drawing: str
    picture: Tensor
    mask: Tensor

    @property
    def read(self) -> tuple[Stage, ...]:
        """The stages that the masker reads."""
        return tuple(stage for stage in self.stages if stage.reduced is not None)


def read_architecture(masker: Masker, classifier: Classifier, image: Tensor | None = None) -> Architecture:
    """One pass of `image` (3, H, W) in [0, 1], or of a blank one of the classifier's input size, through both networks.

    Modes, flags and weights are left as they were. Raises ValueError when the masker reads layers that the classifier
    does not name.
    """
    if image is None:
        image = classifier.mean[0].expand(3, *classifier.input_size)
    inputs: dict[str | None, Tensor] = {}  # None: of the last convolution
    outputs: dict[str | None, Tensor] = {}

    def note(name: str | None) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
            inputs[name], outputs[name] = arguments[0].detach(), output.detach()

        return hook

    parts: dict[str | None, nn.Module] = {**dict(zip(masker.layers, masker.reduce, strict=True)), None: masker.head}
    handles = [part.register_forward_hook(note(name)) for name, part in parts.items()]
    try:
        with torch.no_grad(), frozen(classifier), frozen(masker):
            answer, activations = classifier.activations(image[None].to(classifier.mean.device))
            logits = masker(activations)
            mask = mask_from_logits(logits, (image.shape[1], image.shape[2]))
    finally:
        for handle in handles:
            handle.remove()
    joined = inputs[None]
    reduced = {name: tuple(outputs[name].shape[1:]) for name in masker.layers}
    dealt = joined[0].split([shape[0] for shape in reduced.values()])
    features = {name: part.mean(dim=0) for name, part in zip(reduced, dealt, strict=True)}
    stages = []
    for name in classifier.layers:
        seen = activations[name]
        words = tuple(_words(part) for part in _leaves(parts[name])) if name in reduced else ()
        means = (seen[0].mean(dim=0), features.get(name))
        stages.append(Stage(name, tuple(seen.shape[1:]), words, reduced.get(name), *means))
    return Architecture(
        input=tuple(image.shape),
        stages=tuple(stages),
        classes=answer.shape[1],
        grid=tuple(logits.shape[-2:]),
        joined=tuple(joined.shape[1:]),
        drawing=_words(masker.head),
        picture=image.cpu(),
        mask=mask[0, 0].cpu(),
    )


def _leaves(part: nn.Module) -> list[nn.Module]:
    return [module for module in part.modules() if not list(module.children())]


def _words(part: nn.Module) -> str:
    """A module in a few words, from its own numbers: "1×1 conv, 96 → 64"."""
    if isinstance(part, nn.Conv2d):
        return f"{'×'.join(map(str, part.kernel_size))} conv, {part.in_channels} → {part.out_channels}"
    names = {nn.BatchNorm2d: "batch norm", nn.Identity: "as it is"}
    return names.get(type(part), type(part).__name__)


def architecture_picture(masker: Masker, classifier: Classifier, image: Tensor | None = None) -> Figure:
    """The classifier in a row, below it what the masker does with the layers that it reads, down to the mask.

    image: (3, H, W) in [0, 1]. With it every block shows what it gave for this image, averaged over its channels; without
    it the blocks are plain. Arguments and errors otherwise as in `read_architecture`.
    """
    whole = read_architecture(masker, classifier, image)
    shown = image is not None
    columns = len(whole.stages) + 2
    width, height = _STEP * (columns - 1) + 1.9, 6.2
    figure, axes = plt.subplots(figsize=(width, height))
    figure.subplots_adjust(0, 0, 1, 1)
    top, middle, bottom = 5.05, 2.05, 0.5
    at = [0.8 + _STEP * column for column in range(columns)]
    sizes = [side for stage in whole.stages for side in stage.shape[1:]] + list(whole.input[1:])
    scale = (min(sizes), max(sizes))

    def block(x: float, y: float, shape: tuple[int, ...], picture: Tensor | None, text: str, colour: str) -> _Half:
        return _block(axes, (x, y), shape, picture if shown else None, text, colour, scale)

    last = block(at[0], top, whole.input, whole.picture, "image", _LINE)
    feet = {}
    for x, stage in zip(at[1:], whole.stages, strict=False):
        half = block(x, top, stage.shape, stage.picture, stage.name, _NOT_READ if stage.reduced is None else _READ)
        _arrow(axes, (x - _STEP + last.width + last.depth, top), (x - half.width, top), _LINE)
        last, feet[x] = half, top - half.height - 0.45
    _arrow(axes, (at[-2] + last.width + last.depth, top), (at[-1] - 0.42, top), _LINE)
    axes.text(at[-1], top, f"{whole.classes}\nclasses", ha="center", va="center", fontsize=9, color=_LINE)
    title: dict[str, Any] = {"fontsize": 10, "va": "top", "weight": "bold"}
    axes.text(0.12, height - 0.1, f"{classifier.name}, {_count(classifier)} weights", color=_LINE, **title)

    reads = [(x, stage, reduced) for x, stage in zip(at[1:], whole.stages, strict=False) if (reduced := stage.reduced)]
    for x, stage, reduced in reads:
        half = block(x, middle, (reduced[0], *whole.grid), stage.features, "", _MASKER)
        end = middle + half.height + half.depth + 0.03
        _arrow(axes, (x, feet[x]), (x, end), _READ, dashed=True)
        steps = [*stage.reduction, _resized(reduced[1:], whole.grid)]
        _label(axes, (x, (feet[x] + end) / 2 + 0.04), [line for line in steps if line])
        _arrow(axes, (x, middle - half.height - 0.28), (x, bottom + 0.2), _MASKER)
    left, right = reads[0][0] - 0.75, reads[-1][0] + 0.75
    axes.add_patch(Rectangle((left, bottom - 0.2), right - left, 0.4, facecolor="#fbeee2", edgecolor=_MASKER))
    text = ("concatenate: " if len(reads) > 1 else "") + _size(whole.joined)
    axes.text((left + right) / 2, bottom, text, ha="center", va="center", fontsize=9)
    where, side = ((left - 0.12, middle), "right") if reads[0][0] > at[1] else ((0.12, middle + 1.1), "left")
    axes.text(*where, f"masker, {_count(masker)} weights", color=_MASKER, ha=side, **title)

    half = block(at[-1], middle, (1, *whole.input[1:]), whole.mask[None], "mask", _MASKER)
    axes.plot([right, at[-1]], [bottom, bottom], color=_MASKER, linewidth=1.3)
    _arrow(axes, (at[-1], bottom - 0.01), (at[-1], middle - half.height - 0.42), _MASKER)
    steps = [whole.drawing, _resized(whole.grid, whole.input[1:]), "sigmoid"]
    _label(axes, (at[-1], bottom + 0.12), [line for line in steps if line])
    axes.text(0.12, 0.1, "dashed: detached, no gradient goes back into the classifier", fontsize=8, color=_READ)
    axes.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    axes.set_axis_off()
    plt.close(figure)
    return figure


class _Half(NamedTuple):
    """Half the width and height of a block's front sheet, and how far its other sheets stand out, in inches."""

    width: float
    height: float
    depth: float


def _block(
    axes: Axes,
    centre: tuple[float, float],
    shape: tuple[int, ...],
    picture: Tensor | None,
    text: str,
    colour: str,
    scale: tuple[int, int],
) -> _Half:
    """A map as a stack of sheets, more of them for more channels, its name and size below."""
    rows, columns = (_side(cells, scale) for cells in shape[-2:])
    x, y = centre[0] - columns / 2, centre[1] - rows / 2
    sheets = 1 if shape[0] <= 3 else min(round(log2(shape[0])), 10)
    for sheet in reversed(range(sheets)):
        by = 0.028 * sheet
        face = "white" if sheet == 0 else "#f4f4f4"
        axes.add_patch(Rectangle((x + by, y + by), columns, rows, facecolor=face, edgecolor=colour, linewidth=0.9))
    if picture is not None:
        style: dict[str, Any] = {"extent": (x, x + columns, y, y + rows), "cmap": "inferno", "zorder": 1.5}
        style["interpolation"] = "nearest"
        if picture.dim() == 3:  # an image or a mask, in [0, 1]; a mean over channels has a scale of its own
            picture, style = picture.clamp(0, 1).permute(1, 2, 0).squeeze(-1), style | {"vmin": 0, "vmax": 1}
        axes.imshow(picture.float().cpu().numpy(), **style)
        axes.add_patch(Rectangle((x, y), columns, rows, fill=False, edgecolor=colour, linewidth=0.9, zorder=1.6))
    words = f"{text}\n{_size(shape)}" if text else _size(shape)
    axes.text(centre[0], y - 0.07, words, ha="center", va="top", fontsize=9, color="black")
    return _Half(columns / 2, rows / 2, 0.028 * (sheets - 1))


def _side(cells: int, scale: tuple[int, int]) -> float:
    """Inches for a side of so many cells: equal ratios of cells are equal steps in inches."""
    smallest, largest = scale
    share = 1.0 if smallest == largest else log(cells / smallest) / log(largest / smallest)
    return _SHORTEST + (_LONGEST - _SHORTEST) * share


def _count(network: nn.Module) -> str:
    return f"{sum(weight.numel() for weight in network.parameters()):,}"


def _size(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


def _resized(before: tuple[int, ...], after: tuple[int, ...]) -> str:
    """"upsample to 48 × 48", or nothing where nothing changes."""
    return "" if tuple(before) == tuple(after) else f"upsample to {_size(after)}"


def _arrow(axes: Axes, begin: tuple[float, float], end: tuple[float, float], colour: str, dashed: bool = False) -> None:
    style = (0, (3, 2)) if dashed else "solid"
    kind: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 9, "shrinkA": 0, "shrinkB": 0, "linewidth": 1.3}
    axes.add_patch(FancyArrowPatch(begin, end, color=colour, linestyle=style, **kind))


def _label(axes: Axes, centre: tuple[float, float], lines: list[str]) -> None:
    """Lines of text on an arrow, with a white ground."""
    ground = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    axes.text(*centre, "\n".join(lines), ha="center", va="center", fontsize=9, bbox=ground, linespacing=1.25)
