"""Reading the layers of a network: what they return in a forward pass, and that as maps.

`LayerReading` is the half of a `maskerlib.classifiers.classifier.Classifier` that looks inside the network. A layer goes by its
name in `network.named_modules()`, whatever the network is wrapped in; what it returns is made maps (B, channels, h, w) by its
layout.
"""

import contextlib
import difflib
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from maskerlib.classifiers.layouts import Layout, first_tensor, noted_shapes, possible_layouts
from maskerlib.classifiers.networks import frozen, hooks_run, outline, parts, unwrapped

__all__ = ["LayerReading"]

_MAPS = (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
"""Layers that return maps, whatever their shape leaves open."""

_TOUCHED = ((0.1, 0.2), (0.45, 0.8), (0.5, 0.3), (0.75, 0.6), (0.9, 0.1))
"""Places of an image, as shares of its sides."""


class LayerReading(nn.Module):
    """A network whose layers can be read; `maskerlib.classifiers.classifier.Classifier` says what the attributes are."""

    network: nn.Module
    name: str
    layers: tuple[str, ...]
    layouts: Mapping[str, str | Callable[[Tensor], Tensor]]
    input_size: tuple[int, int]
    mean: Tensor
    _told: dict[str, Layout]
    _format: torch.memory_format | None = None

    def _logits(self, network: nn.Module, images: Tensor) -> Tensor:
        raise NotImplementedError

    @property
    def channels(self) -> int:
        """Channels of the images that the network takes."""
        return self.mean.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """The kind of number that the network computes in."""
        return self._kind(self.network) or self.mean.dtype

    @staticmethod
    def _kind(network: nn.Module) -> torch.dtype | None:
        return next((weight.dtype for weight in network.parameters() if weight.is_floating_point()), None)

    @property
    def memory_format(self) -> torch.memory_format:
        """How images are laid out for the network: channels last, which is faster, where it runs so.

        A network that calls `view` on what a convolution returns does not; it is tried once, on a blank image.
        """
        if self._format is None:
            blank = self._blank().contiguous(memory_format=torch.channels_last)
            try:
                with frozen(self), torch.no_grad():
                    self._logits(unwrapped(self.network), blank)
                self._format = torch.channels_last
            except RuntimeError:
                self._format = torch.contiguous_format
        return self._format

    def module(self, layer: str) -> nn.Module:
        """The module called `layer`, whatever the network is wrapped in. Raises ValueError, with near names, for none."""
        known: dict[str, nn.Module] = parts(dict(unwrapped(self.network).named_modules()))
        if layer not in known or not layer:
            suggested = self.layers or difflib.get_close_matches(str(layer), known, n=3) or outline(known)
            raise ValueError(f"layer {layer!r} is not in {self.name}; it suggests {', '.join(suggested)}")
        return known[layer]

    def outputs(self, images: Tensor, layers: Sequence[str] | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """One forward pass: the logits (B, C), and what `layers` return, as it is and with its graph.

        `as_maps` makes maps of the outputs. Raises RuntimeError when a layer's output is overwritten in place by the module
        after it, is no tensor, or when the layer did not run.
        """
        names = self.layers if layers is None else tuple(layers)
        seen: dict[str, Tensor] = {}
        versions: dict[str, int] = {}

        def remember(name: str) -> Callable[[nn.Module, object, object], None]:
            def hook(module: nn.Module, inputs: object, output: object) -> None:
                try:
                    seen[name] = first_tensor(output, "last_hidden_state")
                except TypeError as error:
                    where = f"layer {name!r} of {self.name}"
                    raise RuntimeError(f"{where} returns no tensor but {error}; name another layer") from None
                versions[name] = seen[name]._version

            return hook

        handles = [self.module(name).register_forward_hook(remember(name)) for name in names]
        try:
            # Tensors made in inference mode count no versions, and the overwriting below could not be seen.
            gradients = torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
            with torch.inference_mode(False), torch.set_grad_enabled(gradients), hooks_run(self.network):
                logits = self._logits(unwrapped(self.network), images)  # a compiled network would run past the hooks
        finally:
            for handle in handles:
                handle.remove()
        for name in names:
            if name not in seen:
                raise RuntimeError(f"layer {name!r} of {self.name} did not run in the forward pass; name another layer")
            if seen[name].dim() and len(seen[name]) != len(images):
                raise RuntimeError(
                    f"layer {name!r} of {self.name} returns {tuple(seen[name].shape)} for {len(images)} images, not a row for "
                    "each (windows, or tokens first); name the block around it, or another layer"
                )
            if seen[name]._version != versions[name]:
                raise RuntimeError(
                    f"the output of layer {name!r} of {self.name} is overwritten in place by the module after it; "
                    "name that module instead, or build it with inplace=False"
                )
        return logits, seen

    def as_maps(self, layer: str, output: Tensor, size: tuple[int, int]) -> Tensor:
        """What `layer` returned for images of `size` (H, W), or a gradient of that shape, as maps (B, channels, h, w).

        Raises RuntimeError where its layout cannot be told and is not among `layouts`.
        """
        layout = self.layouts.get(layer)
        if callable(layout):
            return layout(output)
        try:
            if layer not in self._told:
                plain = [Layout(layout)] if layout in ("maps", "channels_last") else possible_layouts(tuple(output.shape), size)
                plain = [Layout("maps")] if isinstance(self.module(layer), _MAPS) and output.dim() == 4 else plain
                only = len(plain) == 1 and plain[0].kind != "tokens"  # a grid of tokens is one that a convolution made
                self._told[layer] = plain[0] if only else self._tell(layer)
            return self._told[layer].maps(output, size)
        except ValueError as error:
            raise RuntimeError(
                f"layer {layer!r} of {self.name} does not return maps: {error}; name another layer, or say how its output "
                f"(B, channels, h, w) is to be read with layouts={{{layer!r}: 'maps', 'channels_last', 'tokens' or a function}}"
            ) from None

    def _tell(self, layer: str) -> Layout:
        """The layout of a layer, from a pass over a blank image; over one of half the width as well where that leaves two."""
        found = self._readings(layer, self.input_size)
        if len(found) > 1:
            with contextlib.suppress(Exception):  # a network for images of one size alone
                kinds = [layout.kind for layout in self._readings(layer, (self.input_size[0], self.input_size[1] // 2))]
                found = [layout for layout in found if layout.kind in kinds]
        if len(found) != 1:
            raise ValueError(f"its output {'may lie in two ways' if found else 'has no grid in the proportions of the image'}")
        if found[0].kind == "tokens" and self.layouts.get(layer) != "tokens" and not self._row_by_row(layer, found[0]):
            raise ValueError("its tokens do not lie row by row behind the others")
        return found[0]

    def _row_by_row(self, layer: str, layout: Layout) -> bool:
        """Does a touch of the image move the cell that lies there? Each of five is to be among a fifth of all cells, mostly."""
        height, width = self.input_size
        rows, columns = layout.cells
        cells = [(int(row * rows), int(column * columns)) for row, column in _TOUCHED]
        noise = torch.rand(1, self.channels, height, width, generator=torch.Generator().manual_seed(0))
        images = noise.repeat(1 + len(cells), 1, 1, 1)
        for image, (row, column) in zip(images[1:], cells, strict=True):
            down = slice(row * height // rows, (row + 1) * height // rows)
            across = slice(column * width // columns, (column + 1) * width // columns)
            image[:, down, across] = 1 - image[:, down, across]
        with frozen(self), torch.no_grad():
            maps = layout.maps(self.outputs(images.to(self.mean), [layer])[1][layer], self.input_size)
        moved = (maps[1:] - maps[:1]).float().norm(dim=1).flatten(1)
        found = [int((each >= each[row * columns + column]).sum()) for each, (row, column) in zip(moved, cells, strict=True)]
        return sum(rank <= max(rows * columns // 5, 1) for rank in found) > len(cells) // 2

    def _readings(self, layer: str, size: tuple[int, int]) -> list[Layout]:
        with frozen(self), torch.no_grad(), noted_shapes(unwrapped(self.network), self.module(layer)) as (shapes, grids):
            self.outputs(self._blank(size), [])
        if not shapes:
            raise RuntimeError(f"layer {layer!r} of {self.name} did not run in the forward pass; name another layer")
        return possible_layouts(shapes[-1], size, grids)

    def _blank(self, size: tuple[int, int] | None = None) -> Tensor:
        return self.mean.new_zeros(1, self.channels, *(size or self.input_size))

    def activations(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """One forward pass: the logits (B, C) and the outputs of `layers` as maps, detached: {name: (B, channels, h, w)}.

        The activations never carry a gradient (Phang et al., section 3): a masker that reads them cannot change the
        classifier through them. The logits do, when gradients are on.

        Raises RuntimeError as `outputs` and `as_maps` do.
        """
        logits, seen = self.outputs(images)
        height, width = images.shape[-2:]
        maps = {name: self.as_maps(name, output.detach(), (height, width)) for name, output in seen.items()}
        half = self.dtype in (torch.half, torch.bfloat16)
        return logits, {name: each.float() if half else each for name, each in maps.items()}

    def layer_channels(self) -> dict[str, int]:
        """Channels of each layer in `layers`, found by one pass over a blank image; the state is left as it was."""
        with frozen(self), torch.no_grad():
            return {name: output.shape[1] for name, output in self.activations(self._blank())[1].items()}
