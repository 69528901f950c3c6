"""Which layers of a network a masker or Grad-CAM can read: all of them in a table, and up to five that span its depth.

    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(inplace=True), nn.Conv2d(8, 16, 3, 2), nn.Flatten())
    >>> print(candidate_layers(network, 32))
    layer  module  returns    layout  channels  cells
    0      Conv2d  1x8x15x15  maps    8         15x15  overwritten in place
    1      ReLU    1x8x15x15  maps    8         15x15
    2      Conv2d  1x16x7x7   maps    16        7x7
    >>> suggest_layers(network, 32)
    ('1', '2')

One blank image is sent through the network; every module that returns maps, maps with the channels last or a sequence of
tokens (`maskerlib.classifiers.layouts`) is a candidate.
"""

import contextlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from maskerlib.classifiers.classifier import Classifier, frozen, unwrapped
from maskerlib.classifiers.layouts import first_tensor, possible_layouts
from maskerlib.data.indices import as_size
from maskerlib.running.checks import check_value, whole

__all__ = ["Candidate", "Candidates", "candidate_layers", "suggest_layers"]

_ONE_LEVEL = 1.3  # grids whose sides differ by a smaller factor, such as 73 and 71 cells, count as one resolution


@dataclass(frozen=True)
class Candidate:
    """A layer whose output has pixels.

    name: as in `network.named_modules()`.  module: its class.
    shape: what it returns for one image, with the batch dimension.
    layout: one of `maskerlib.classifiers.layouts.LAYOUTS`; "maps or channels_last" where the shape fits both, so that it has to
        be said.
    channels, cells: of the maps that it is read as; cells are (h, w).
    overwritten: a later module writes into its output in place, so that it cannot be read.
    """

    name: str
    module: str
    shape: tuple[int, ...]
    layout: str
    channels: int
    cells: tuple[int, int]
    overwritten: bool

    @property
    def usable(self) -> bool:
        """Can it be read as it is, with nothing said about it?"""
        return not self.overwritten and " or " not in self.layout


class Candidates(list[Candidate]):
    """Layers in the order in which they return; printed as a table."""

    def __str__(self) -> str:
        rows = [("layer", "module", "returns", "layout", "channels", "cells", "")]
        for layer in self:
            shape = "x".join(map(str, layer.shape))
            cells = "x".join(map(str, layer.cells))
            note = "" if layer.usable else "overwritten in place" if layer.overwritten else "say which"
            rows.append((layer.name, layer.module, shape, layer.layout, str(layer.channels), cells, note))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows)
        return "\n".join(line.rstrip() for line in lines)


@dataclass
class _Seen:
    """What a module returned in the pass, and how often it had been written to by then."""

    module: nn.Module
    output: Tensor
    version: int


def candidate_layers(
    network: nn.Module | Classifier, size: int | tuple[int, int] | None = None, *, channels: int | None = None
) -> Candidates:
    """Every layer whose output is maps, maps with the channels last, or tokens, in order of execution.

    A module that runs several times stands where it runs last, as that is what hooks keep. Outputs of a single cell are left
    out. The network is left as it was: modes, flags, hooks.

    Args:
        network: any that maps images to whatever, or a `Classifier`.
        size: pixels per side of the image that is tried, or (height, width); None is the classifier's `input_size`, or 224.
        channels: of the image; None is the classifier's, or those of the network's first convolution.

    Raises ValueError where the network does not run on such an image, with what it said.
    """
    return _candidates(network, size, channels)[0]


def _candidates(
    network: nn.Module | Classifier, size: int | tuple[int, int] | None, channels: int | None
) -> tuple[Candidates, dict[str, _Seen]]:
    if isinstance(network, Classifier):
        size, channels = size or network.input_size, channels or network.channels
        network = network.network
    network = unwrapped(network)
    size = as_size(224 if size is None else size)
    try:
        seen, grids = _pass(network, size, channels or _input_channels(network))
    except Exception as error:  # whatever a network raises
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{type(network).__name__} does not run on an image of {size[0]}x{size[1]}: {reason}") from error
    readings = {name: possible_layouts(tuple(each.output.shape), size, grids) for name, each in seen.items()}
    if any(len(layouts) > 1 for layouts in readings.values()):  # a square that may be read both ways: try an oblong
        oblong = (size[0], size[1] // 2)
        with contextlib.suppress(Exception):  # a network for images of one size alone
            again, grids = _pass(network, oblong, channels or _input_channels(network))
            for name, layouts in readings.items():
                kinds = {found.kind for found in possible_layouts(tuple(again[name].output.shape), oblong, grids)}
                readings[name] = [found for found in layouts if found.kind in kinds] or layouts
    found = Candidates()
    for name, layouts in readings.items():
        each = seen[name]
        if not layouts or len(each.output) != 1:
            continue
        maps = layouts[0].maps(each.output, size)
        if maps.shape[-2] * maps.shape[-1] > 1:
            _, depth, height, width = maps.shape
            kind, overwritten = type(each.module).__name__, each.output._version != each.version
            lies = " or ".join(layout.kind for layout in layouts)
            shape = tuple(each.output.shape)
            found.append(Candidate(name, kind, shape, lies, depth, (height, width), overwritten))
    return found, seen


def _pass(
    network: nn.Module, size: tuple[int, int], channels: int
) -> tuple[dict[str, _Seen], list[tuple[int, int]]]:
    """What every module returns for a blank image, in order of execution, and the grids of the convolutions."""
    seen: dict[str, _Seen] = {}
    grids: list[tuple[int, int]] = []

    def remember(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            with contextlib.suppress(TypeError):
                tensor = first_tensor(output, "last_hidden_state")
                seen.pop(name, None)
                seen[name] = _Seen(module, tensor, tensor._version)
                if isinstance(module, nn.Conv2d):
                    grids.append((tensor.shape[-2], tensor.shape[-1]))

        return hook

    handles = [module.register_forward_hook(remember(name)) for name, module in network.named_modules() if name]
    weight = next((each for each in network.parameters() if each.is_floating_point()), torch.zeros(()))
    try:
        # Tensors made in inference mode count no versions, and overwriting could not be seen.
        with torch.inference_mode(False), torch.no_grad(), frozen(network):
            network(weight.new_zeros(1, channels, *size))
    finally:
        for handle in handles:
            handle.remove()
    return seen, grids


def _input_channels(network: nn.Module) -> int:
    return next((part.in_channels for part in network.modules() if isinstance(part, nn.Conv2d)), 3)


def suggest_layers(
    network: nn.Module | Classifier,
    size: int | tuple[int, int] | None = None,
    *,
    channels: int | None = None,
    count: int = 5,
) -> tuple[str, ...]:
    """Up to `count` layers of rising depth that a masker can read: one for each of the coarsest resolutions.

    Of a resolution it is the last block before the next coarser one, or the last layer where there are no blocks; names have
    two levels ("features.7"), or three where two do not reach. A ResNet keeps the names that it is known by: "maxpool",
    "layer1" ... "layer4". A network of one or two resolutions, such as a vision transformer, gives blocks at even distances,
    the last one included. Nothing that is overwritten in place or may be read in two ways is taken.

    Arguments and errors as in `candidate_layers`; ValueError also where no layer can be read.
    """
    check_value("count", count, whole(1))
    found, seen = _candidates(network, size, channels)
    usable = [layer for layer in found if layer.usable and not isinstance(seen[layer.name].module, _AFTERWARDS)]
    known = {layer.name for layer in usable}
    if count == 5 and known.issuperset(_RESNET):
        return _RESNET
    fallback = usable[-1:]
    for levels in (3, 2):
        stages = _stages([layer for layer in usable if layer.name.count(".") < levels], seen)
        fallback = stages if len(stages) > 2 or (stages and len(fallback) <= 2) else fallback
    if len(fallback) > 2:
        return tuple(layer.name for layer in fallback[-count:])
    blocks = _blocks(usable)
    if len(blocks) >= count:
        return tuple(blocks[math.ceil((step + 1) * len(blocks) / count) - 1].name for step in range(count))
    if not fallback:
        raise ValueError(
            "no layer returns maps or tokens that can be read as they are; see candidate_layers(...), and give layers by name"
        )
    return tuple(layer.name for layer in fallback[-count:])


_RESNET = ("maxpool", "layer1", "layer2", "layer3", "layer4")

_AFTERWARDS = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)  # one grid for every image: no longer the image's proportions


def _stages(layers: Sequence[Candidate], seen: dict[str, _Seen]) -> list[Candidate]:
    """The last layer of each resolution, shallow to deep; layers behind one that is coarser (attention) do not count.

    Neither do those within a block that makes the resolution coarser, such as the branches of an Inception reduction.
    """
    cells_of = {layer.name: math.prod(layer.cells) for layer in layers}
    levels: list[list[Candidate]] = []
    least = math.inf
    for layer in layers:
        parent = layer.name.rpartition(".")[0]
        if cells_of.get(parent, math.inf) < cells_of[layer.name] and not isinstance(seen[parent].module, nn.Sequential):
            continue
        cells = math.prod(layer.cells)
        if cells * _ONE_LEVEL**2 < least:
            levels.append([])
            least = cells
        if cells < least * _ONE_LEVEL**2:
            levels[-1].append(layer)
    return [_last(level, layers, seen) for level in levels]


def _last(level: Sequence[Candidate], layers: Sequence[Candidate], seen: dict[str, _Seen]) -> Candidate:
    """The last block of a resolution, or its last layer; of several that return one tensor the one named like its siblings.

    "features" returns what "features.8" does, but spans resolutions; an identity returns what the block before it does.
    """

    def is_block(layer: Candidate) -> bool:
        return next(seen[layer.name].module.children(), None) is not None

    def spans(layer: Candidate) -> bool:
        inside = [each for each in layers if each.name.startswith(f"{layer.name}.")]
        return any(each not in level for each in inside)

    blocks = [layer for layer in level if is_block(layer)]
    last = (blocks or level)[-1]
    same = [layer for layer in level if seen[layer.name].output is seen[last.name].output]
    return next((layer for layer in same if is_block(layer) and not spans(layer)), same[0])


def _blocks(layers: Iterable[Candidate]) -> list[Candidate]:
    """The longest row of siblings of one class, such as the blocks of a transformer; of equal rows the outermost."""
    rows: dict[tuple[str, str], list[Candidate]] = {}
    for layer in layers:
        parent = layer.name.rpartition(".")[0]
        rows.setdefault((parent, layer.module), []).append(layer)
    return max(rows.values(), key=lambda row: (len(row), -row[0].name.count(".")), default=[])
