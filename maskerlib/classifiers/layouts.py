"""Where the pixels are in what a layer returns: maps, maps with the channels last, or a sequence of tokens.

A convolutional network returns (B, channels, h, w); Swin and some others (B, h, w, channels); a vision transformer
(B, tokens, channels), in which class, distillation and register tokens stand before those of the patches. Everything in
this library reads maps (B, channels, h, w), and a `Layout` turns one into the other.

Which it is can mostly be read off the shape, held against the image's and the grids that the network's convolutions make; but
(B, 64, 64, 64) may be either kind of map. `possible_layouts` gives every reading, and `maskerlib.classifiers.reading` asks
again with another image where there are two.
"""

import contextlib
import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

__all__ = ["LAYOUTS", "Layout", "first_tensor", "noted_shapes", "possible_layouts"]

LAYOUTS = ("maps", "channels_last", "tokens")
"""What a layer can return: (B, channels, h, w); (B, h, w, channels); (B, tokens, channels)."""

_MOST_PREFIX = 16  # class, distillation and register tokens; the largest published number is 8 registers and a class


@dataclass(frozen=True)
class Layout:
    """How the output of one layer becomes maps.

    kind: one of `LAYOUTS`.
    prefix: tokens before those of the patches; only for "tokens".
    cells: (h, w) of the patches for an image of the size that the layout was told at; only for "tokens".
    image: that size, (H, W).
    """

    kind: str = "maps"
    prefix: int = 0
    cells: tuple[int, int] = (0, 0)
    image: tuple[int, int] = (1, 1)

    def maps(self, output: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, channels, h, w) of a layer's output, for images of `size` (H, W); a view where there is one.

        Raises ValueError for an output of another shape than the layout's.
        """
        if output.dim() != (3 if self.kind == "tokens" else 4):
            raise ValueError(f"an output of shape {tuple(output.shape)} has no layout {self.kind!r}")
        if self.kind == "maps":
            return output
        if self.kind == "channels_last":
            return output.permute(0, 3, 1, 2)
        height, width = (round(cells * now / then) for cells, now, then in zip(self.cells, size, self.image, strict=True))
        if output.shape[1] != self.prefix + height * width:
            raise ValueError(
                f"{output.shape[1]} tokens for images of {size[0]}x{size[1]}, expected {self.prefix} and a grid of "
                f"{height}x{width}; give images of {self.image[0]}x{self.image[1]}"
            )
        maps: Tensor = output[:, self.prefix :].transpose(1, 2).unflatten(2, (height, width))
        return maps


def possible_layouts(shape: tuple[int, ...], image: tuple[int, int], grids: Collection[tuple[int, int]] = ()) -> list[Layout]:
    """Every layout that an output of `shape` may have for images of size `image` (H, W); none where nothing fits.

    grids: (h, w) of what the network's convolutions return; a grid of tokens is one of them, where there are any.

    Maps have the sides of the image in proportion, one cell for several pixels; in a sequence the tokens of the patches fill a
    grid, and at most 16 stand before them.

    >>> possible_layouts((1, 197, 192), (224, 224))
    [Layout(kind='tokens', prefix=1, cells=(14, 14), image=(224, 224))]
    >>> [layout.kind for layout in possible_layouts((1, 64, 64, 64), (224, 224))]
    ['maps', 'channels_last']
    """
    if len(shape) == 4:
        readings = {"maps": (shape[2], shape[3]), "channels_last": (shape[1], shape[2])}
        return [Layout(kind) for kind, cells in readings.items() if _in_proportion(cells, image)]
    if len(shape) == 3:
        fits = {cells for cells in grids if 0 <= shape[1] - math.prod(cells) <= _MOST_PREFIX}
        if not grids:
            fits = {cells for cells in _proportional_grids(shape[1], image) if shape[1] - math.prod(cells) <= _MOST_PREFIX}
        if fits:
            cells = max(fits, key=math.prod)
            return [Layout("tokens", shape[1] - math.prod(cells), cells, image)]
    return []


def _in_proportion(cells: tuple[int, int], image: tuple[int, int]) -> bool:
    """Could these be the cells of such an image, at one stride for both sides (give or take a rounded cell)?"""
    if min(cells) < 1 or cells[0] > image[0] or cells[1] > image[1]:
        return False
    least = max(side / (count + 1) for side, count in zip(image, cells, strict=True))
    most = min(side / (count - 1) if count > 1 else math.inf for side, count in zip(image, cells, strict=True))
    return least < most


def _proportional_grids(tokens: int, image: tuple[int, int]) -> list[tuple[int, int]]:
    """The largest grid in the image's proportions that `tokens` can hold."""
    height = int(math.sqrt(tokens * image[0] / image[1]))
    found = [(rows, round(rows * image[1] / image[0])) for rows in range(max(height - 1, 1), height + 2)]
    return [cells for cells in found if min(cells) >= 1 and math.prod(cells) <= tokens and cells != (1, 1)]


@contextlib.contextmanager
def noted_shapes(network: nn.Module, module: nn.Module) -> Iterator[tuple[list[tuple[int, ...]], list[tuple[int, int]]]]:
    """Inside: the shapes that `module` returns, and the grids (h, w) that the convolutions of `network` do, as they come.

    A layer that the module after it overwrites has its shape noted as well.
    """
    shapes: list[tuple[int, ...]] = []
    grids: list[tuple[int, int]] = []

    def note_shape(part: nn.Module, inputs: object, output: object) -> None:
        shapes.append(tuple(first_tensor(output, "last_hidden_state").shape))

    def note_grid(part: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.dim() == 4:
            grids.append((output.shape[2], output.shape[3]))

    handles = [part.register_forward_hook(note_grid) for part in network.modules() if isinstance(part, nn.Conv2d)]
    handles.append(module.register_forward_hook(note_shape))
    try:
        yield shapes, grids
    finally:
        for handle in handles:
            handle.remove()


def first_tensor(output: Any, key: str, pick: Callable[[Any], Any] | None = None) -> Tensor:
    """The tensor that a network means by what it returns.

    That is `pick(output)` where a function is given; else the output itself, its attribute or item `key` (ModelOutput and
    dicts), or the first tensor of a tuple or list. Raises TypeError naming what was returned.
    """
    found = pick(output) if pick is not None else output
    if not isinstance(found, Tensor) and hasattr(found, key):
        found = getattr(found, key)
    elif isinstance(found, dict) and key in found:
        found = found[key]
    if isinstance(found, list | tuple):
        found = next((part for part in found if isinstance(part, Tensor)), found)
    if not isinstance(found, Tensor):
        held = f" with {', '.join(map(str, found))}" if isinstance(found, dict) else ""
        raise TypeError(f"{type(found).__name__}{held}")
    return found
