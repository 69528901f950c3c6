"""A classifier that can be asked what it sees: any network, the names of its layers, and what its input and output mean.

`Classifier` wraps any `nn.Module` that maps images to logits. It adds what every method of this library needs and what usually
travels separately: the normalisation of the input, the names of the layers worth reading and how they lie
(`maskerlib.classifiers.layouts`), the names of the classes, which question a logit answers, and an identity (a hash of the
weights).

Images are in [0, 1] everywhere in this library; the wrapper normalises. Hiding a pixel by zero after the normalisation, as the
paper does, is therefore the same as painting it with `classifier.mean`.
"""

import copy
import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from maskerlib.classifiers.layouts import LAYOUTS, Layout, first_tensor
from maskerlib.classifiers.networks import frozen, load_state, outline, parts, unwrapped
from maskerlib.classifiers.reading import LayerReading
from maskerlib.running.checks import check_value, one_of
from maskerlib.running.files import hash_tensors

__all__ = ["HEADS", "Classifier", "frozen", "unwrapped"]

HEADS = ("softmax", "sigmoid")
"""What the logits mean: one class of several, or for each class its own yes or no."""


class Classifier(LayerReading):
    """A network with its layers by name, its normalisation and its classes.

    Args:
        network: maps normalised images (B, channels, H, W) to logits (B, C). A tuple, a dict or a ModelOutput is read for its
            logits. One with a single logit z, yes or no, gets two: `forward` returns [-z/2, z/2], which has the same
            probabilities. A network that was compiled or made data-parallel works; its layers keep their names.
        layers: names of submodules (as in `network.named_modules()`), shallow to deep, that `activations` reads;
            `maskerlib.classifiers.candidates.candidate_layers` lists them.
        mean, std: per-channel statistics of the data set, in the units of images in [0, 1]. Their number is the number of
            channels of the input: 3 for RGB, 1 for grey images such as X-rays, 4 with a fourth band.
        class_names: one name a class; empty when unknown.
        input_size: (H, W) that the network was trained at; also the size at which the saliency metric looks.
        name: how the classifier is called in results.
        head: "softmax", one class of several; or "sigmoid", each class its own yes or no (multi-label).
        output: takes the logits out of what the network returns, where it is not plain which they are.
        layouts: {layer: one of `maskerlib.classifiers.layouts.LAYOUTS`, or a function of the output that returns (B, channels,
            h, w)}, for layers whose layout cannot be told.

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
        check_value("head", head, one_of(HEADS))
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
        self._statistics = (tuple(map(float, mean)), tuple(map(float, std)))
        kind = torch.float64 if self._kind(network) == torch.float64 else torch.float32
        self.register_buffer("mean", torch.tensor(mean, dtype=kind).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=kind).view(1, -1, 1, 1))

    def _apply(self, *arguments: Any, **options: Any) -> "Classifier":
        """As of every module; statistics that become float64 are those that were given, not their float32 roundings."""
        before = self.mean.dtype
        super()._apply(*arguments, **options)  # type: ignore[no-untyped-call]
        if self.mean.dtype == torch.float64 != before:
            for buffer, values in zip((self.mean, self.std), self._statistics, strict=True):
                buffer.copy_(torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1))
        return self

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
        if logits.dim() < 2 and logits.numel() == len(images):  # one logit, squeezed
            logits = logits.reshape(-1, 1)
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

    def class_count(self) -> int:
        """How many classes there are, found by one pass over a blank image; the state is left as it was."""
        with frozen(self), torch.no_grad():
            logits: Tensor = self(self._blank())
        return logits.shape[1]

    def weights(self) -> dict[str, Tensor]:
        """The tensors of the state dict under canonical names: those that they have without any wrapper."""
        inside = parts(unwrapped(self.network).state_dict())
        return {f"network.{name}": value for name, value in inside.items()} | {"mean": self.mean, "std": self.std}

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Take over what `weights` of the same architecture returned. Raises RuntimeError, as torch does, for others."""
        prefix = "network."
        own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        load_state(unwrapped(self.network), own)
        self.mean.copy_(weights["mean"])
        self.std.copy_(weights["std"])

    def copied(self) -> "Classifier":
        """A copy that shares nothing, of the network itself: not compiled, not data-parallel."""
        try:
            memo: dict[int, Any] = {id(self.network): copy.deepcopy(unwrapped(self.network))}
        except RuntimeError:  # a network that keeps what it computed, with its graph: a pass without one replaces it
            self.class_count()
            memo = {id(self.network): copy.deepcopy(unwrapped(self.network))}
        return copy.deepcopy(self, memo)

    def reading(self, layers: Sequence[str] | None) -> "Classifier":
        """The same network and weights, read at other layers, in the mode it is in; itself for None.

        Raises ValueError for a layer that is not there.
        """
        if layers is None:
            return self
        mean, std = self._statistics
        other = Classifier(
            self.network,
            layers,
            mean=mean,
            std=std,
            class_names=self.class_names,
            input_size=self.input_size,
            name=self.name,
            head=self.head,
            output=self.output,
            layouts={layer: layout for layer, layout in self.layouts.items() if layer in layers},
        )
        other.to(self.mean.device)
        other.mean.copy_(self.mean)
        other.std.copy_(self.std)
        return other.train(self.training)

    def question(self) -> list[Any]:
        """What else decides what the classifier says, ready for JSON: its head, its classes, and what is taken for its logits.

        Two classifiers of equal `fingerprint` and question are the same. The function `output` cannot be compared, so what it
        makes of a few images, rounded to a tenth, stands for it.
        """
        if self.output is None:
            return [self.head, list(self.class_names)]
        probe = torch.linspace(0, 1, 4, device=self.mean.device, dtype=self.mean.dtype).view(4, 1, 1, 1)
        with frozen(self), torch.no_grad():
            logits = self(probe.expand(4, self.channels, *self.input_size).contiguous())
        return [self.head, list(self.class_names), logits.double().mul(10).round().tolist()]

    def fingerprint(self) -> str:
        """Hex SHA-256 of every weight and buffer under canonical names: which classifier this is, whatever it is called."""
        return hash_tensors(self.weights())

    def class_name(self, index: int) -> str:
        """The name of class `index`, or a stand-in where names are unknown.

        >>> Classifier(nn.Identity()).class_name(7)
        'class 7'
        """
        return self.class_names[index] if index < len(self.class_names) else f"class {index}"
