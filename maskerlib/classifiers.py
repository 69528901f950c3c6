"""A classifier that can be asked what it sees: any network, the names of its layers, and what its input and output mean.

`Classifier` wraps any `nn.Module` that maps images to logits. It adds what every method of this library needs and what usually
travels separately: the normalisation of the input, the names of the layers worth reading and how they lie (`maskerlib.layouts`),
the names of the classes, which question a logit answers, and an identity (a hash of the weights).

Images are in [0, 1] everywhere in this library; the wrapper normalises. Hiding a pixel by zero after the normalisation, as the
paper does, is therefore the same as painting it with `classifier.mean`.
"""

import contextlib
import copy
import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from maskerlib.files import hash_tensors
from maskerlib.layouts import LAYOUTS, Layout, first_tensor, noted_shapes, possible_layouts
from maskerlib.networks import frozen, outline, unwrapped

__all__ = ["HEADS", "Classifier", "frozen", "unwrapped"]

HEADS = ("softmax", "sigmoid")
"""What the logits mean: one class of several, or for each class its own yes or no."""


class Classifier(nn.Module):
    """A network with its layers by name, its normalisation and its classes.

    Args:
        network: maps normalised images (B, channels, H, W) to logits (B, C). A tuple, a dict or a ModelOutput is read for its
            logits. One with a single logit z, yes or no, gets two: `forward` returns [-z/2, z/2], which has the same
            probabilities. A network that was compiled or made data-parallel works; its layers keep their names.
        layers: names of submodules (as in `network.named_modules()`), shallow to deep, that `activations` reads;
            `maskerlib.zoo.candidate_layers` lists them.
        mean, std: per-channel statistics of the data set, in the units of images in [0, 1]. Their number is the number of
            channels of the input: 3 for RGB, 1 for grey images such as X-rays, 4 with a fourth band.
        class_names: one name a class; empty when unknown.
        input_size: (H, W) that the network was trained at; also the size at which the saliency metric looks.
        name: how the classifier is called in results.
        head: "softmax", one class of several; or "sigmoid", each class its own yes or no (multi-label).
        output: takes the logits out of what the network returns, where it is not plain which they are.
        layouts: {layer: one of `maskerlib.layouts.LAYOUTS`, or a function of the output that returns (B, channels, h, w)}, for
            layers whose layout cannot be told.

    Raises:
        ValueError: for an unknown layer name (the message lists near ones), or a mean or std of the wrong length.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        layers: Sequence[str] = (),
        *,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
        class_names: Sequence[str] = (),
        input_size: tuple[int, int] = (224, 224),
        name: str = "classifier",
        head: str = "softmax",
        output: Callable[[Any], Tensor] | None = None,
        layouts: Mapping[str, str | Callable[[Tensor], Tensor]] | None = None,
    ) -> None:
        super().__init__()
        if isinstance(layers, str):
            raise ValueError(f"layers={layers!r} is text, expected names; give ({layers!r},)")
        known = dict(unwrapped(network).named_modules())
        for layer in layers:
            if layer not in known or not layer:
                near = difflib.get_close_matches(str(layer), known, n=3)
                hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
                raise ValueError(f"layer {layer!r} is not in {name}; {hint}choose from {', '.join(outline(known))}")
        if len(mean) != len(std) or len(mean) < 1 or min(std) <= 0:
            raise ValueError(f"mean {tuple(mean)} and std {tuple(std)} need one number a channel each, std above 0")
        if head not in HEADS:
            raise ValueError(f"head={head!r} is unknown; choose one of {', '.join(HEADS)}")
        for layer, layout in (layouts or {}).items():
            if not callable(layout) and layout not in LAYOUTS:
                raise ValueError(f"layout {layout!r} of {layer!r} is unknown; choose one of {', '.join(LAYOUTS)} or a function")
        self.network = network
        self.layers = tuple(layers)
        self.class_names = tuple(class_names)
        self.input_size = (int(input_size[0]), int(input_size[1]))
        self.name = name
        self.head = head
        self.output = output
        self.layouts = dict(layouts or {})
        self._told: dict[str, Layout] = {}
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    @property
    def channels(self) -> int:
        """Channels of the images that the network takes."""
        return self.mean.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """The kind of number that the network computes in."""
        return next((weight.dtype for weight in self.network.parameters() if weight.is_floating_point()), self.mean.dtype)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of images (B, channels, H, W) in [0, 1]: float64 of a float64 network, else float32.

        Raises ValueError for images of another shape or kind, or where the network returns no logits.
        """
        return self._logits(self.network, images)

    def _logits(self, network: nn.Module, images: Tensor) -> Tensor:
        if images.dim() != 4 or images.shape[1] != self.channels or not images.is_floating_point():
            raise ValueError(
                f"images have shape {tuple(images.shape)} and dtype {images.dtype}, expected (B, {self.channels}, H, W) of "
                "floats in [0, 1]; add the batch dimension, repeat a grey channel, divide bytes by 255"
            )
        returned = network(((images - self.mean) / self.std).to(self.dtype))
        try:
            logits = first_tensor(returned, "logits", self.output)
        except TypeError as error:
            raise ValueError(
                f"{self.name} returns no logits but {error}; say where they are with output=lambda returned: ..."
            ) from None
        if logits.dim() == 1 and len(images) == len(logits):
            logits = logits[:, None]
        if logits.dim() != 2 or len(logits) != len(images):
            raise ValueError(
                f"{self.name} returns {tuple(logits.shape)} for {len(images)} images, expected logits (B, classes); pool "
                "them, or take them out with output=lambda returned: ..."
            )
        logits = logits.float() if logits.dtype in (torch.half, torch.bfloat16) else logits
        return logits * logits.new_tensor([[-0.5, 0.5]]) if logits.shape[1] == 1 and self.head == "softmax" else logits

    def predicted(self, logits: Tensor) -> Tensor:
        """The class that the logits (B, C) are most in favour of: (B,) int64."""
        return logits.argmax(dim=1)

    def decision(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The question that each target asks, as logits and the label that answers it with "yes".

        With a softmax head that is "which class?": the logits (B, C) and the targets themselves. With a sigmoid head each class
        is its own yes or no: logits (B, 2), [0, z of the target], and the labels are 1. Every loss and probability of this
        library is computed from the pair by cross-entropy and softmax, so all of them hold for both.
        """
        if self.head == "softmax":
            return logits, targets
        chosen = logits.gather(1, targets[:, None])
        return torch.cat([torch.zeros_like(chosen), chosen], dim=1), torch.ones_like(targets)

    def log_probability(self, logits: Tensor, targets: Tensor) -> Tensor:
        """log p of each target, (B,): of the softmax, or of its own yes."""
        logits, labels = self.decision(logits, targets)
        return logits.log_softmax(dim=1).gather(1, labels[:, None])[:, 0]

    def right(self, logits: Tensor, targets: Tensor) -> Tensor:
        """(B,) bool: is each target what the classifier decides for? The largest logit, or a yes."""
        logits, labels = self.decision(logits, targets)
        return logits.argmax(dim=1) == labels

    def module(self, layer: str) -> nn.Module:
        """The module called `layer`, whatever the network is wrapped in. Raises ValueError, with near names, for none."""
        known = dict(unwrapped(self.network).named_modules())
        if layer not in known or not layer:
            suggested = self.layers or difflib.get_close_matches(str(layer), known, n=3) or outline(known)
            raise ValueError(f"layer {layer!r} is not in {self.name}; it suggests {', '.join(suggested)}")
        return known[layer]

    def outputs(self, images: Tensor, layers: Sequence[str] | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """One forward pass: the logits (B, C), and what `layers` return, as it is and with its graph.

        `as_maps` makes maps of the outputs. Raises RuntimeError when a layer's output is overwritten in place by the module after
        it, is no tensor, or when the layer did not run.
        """
        names = self.layers if layers is None else tuple(layers)
        seen: dict[str, Tensor] = {}
        versions: dict[str, int] = {}

        def remember(name: str):
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
            with torch.inference_mode(False), torch.set_grad_enabled(gradients):
                logits = self._logits(unwrapped(self.network), images)  # a compiled network would run past the hooks
        finally:
            for handle in handles:
                handle.remove()
        for name in names:
            if name not in seen:
                raise RuntimeError(f"layer {name!r} of {self.name} did not run in the forward pass; name another layer")
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
        return found[0]

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
        maps = {name: self.as_maps(name, output.detach(), images.shape[-2:]) for name, output in seen.items()}
        half = self.dtype in (torch.half, torch.bfloat16)
        return logits, {name: each.float() if half else each for name, each in maps.items()}

    def layer_channels(self) -> dict[str, int]:
        """Channels of each layer in `layers`, found by one pass over a blank image; the state is left as it was."""
        with frozen(self), torch.no_grad():
            return {name: output.shape[1] for name, output in self.activations(self._blank())[1].items()}

    def class_count(self) -> int:
        """How many classes there are, found by one pass over a blank image; the state is left as it was."""
        with frozen(self), torch.no_grad():
            return self(self._blank()).shape[1]

    def weights(self) -> dict[str, Tensor]:
        """The state dict under canonical names: those that the network has without any wrapper."""
        inside = {f"network.{name}": value for name, value in unwrapped(self.network).state_dict().items()}
        return inside | {"mean": self.mean, "std": self.std}

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Take over what `weights` of the same architecture returned. Raises RuntimeError, as torch does, for others."""
        prefix = "network."
        unwrapped(self.network).load_state_dict(
            {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        )
        self.mean.copy_(weights["mean"])
        self.std.copy_(weights["std"])

    def copied(self) -> "Classifier":
        """A copy that shares nothing, of the network itself: not compiled, not data-parallel."""
        network = self.network
        memo: dict[int, Any] = {id(network): copy.deepcopy(unwrapped(network))}
        return copy.deepcopy(self, memo)

    def fingerprint(self) -> str:
        """Hex SHA-256 of every weight and buffer under canonical names: which classifier this is, whatever it is called."""
        return hash_tensors(self.weights())

    def class_name(self, index: int) -> str:
        """The name of class `index`, or "class 7" where names are unknown."""
        return self.class_names[index] if index < len(self.class_names) else f"class {index}"
