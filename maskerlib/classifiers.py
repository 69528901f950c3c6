"""A classifier that can be asked what it sees: any network, the names of its layers, and what its input means.

`Classifier` wraps any `nn.Module` that maps images to logits. It adds the four things that every method of this
library needs and that usually travel separately: the normalisation of the input, the names of the layers worth
reading, the names of the classes, and an identity (name and hash of the weights).

Images are RGB in [0, 1] everywhere in this library; the wrapper normalises. Hiding a pixel by zero after the
normalisation, as the paper does, is therefore the same as painting it with `classifier.mean`.
"""

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from maskerlib.files import hash_tensors

__all__ = ["Classifier", "frozen"]


class Classifier(nn.Module):
    """A network with its layers by name, its normalisation and its classes.

    Args:
        network: maps normalised images (B, 3, H, W) to logits (B, C).
        layers: names of submodules (as in `network.named_modules()`), shallow to deep; `activations` returns their
            outputs, which must be tensors (B, channels, h, w).
        mean, std: per-channel statistics of the data set, in the units of images in [0, 1].
        class_names: one name a class; empty when unknown.
        input_size: (H, W) that the network was trained at; also the size at which the saliency metric looks.
        name: how the classifier is called in results.

    Raises:
        ValueError: for an unknown layer name (the message lists near ones), or a mean or std of the wrong length.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        layers: Sequence[str],
        *,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
        class_names: Sequence[str] = (),
        input_size: tuple[int, int] = (224, 224),
        name: str = "classifier",
    ) -> None:
        super().__init__()
        known = dict(network.named_modules())
        for layer in layers:
            if layer not in known:
                raise ValueError(f"layer {layer!r} is not in {name}; choose from {', '.join(_outline(known))}")
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(f"mean {tuple(mean)} and std {tuple(std)} need three numbers each, std above 0")
        self.network = network
        self.layers = tuple(layers)
        self.class_names = tuple(class_names)
        self.input_size = (int(input_size[0]), int(input_size[1]))
        self.name = name
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C), float32, of images (B, 3, H, W) in [0, 1]. Raises ValueError for another shape or dtype."""
        if images.dim() != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise ValueError(
                f"images have shape {tuple(images.shape)} and dtype {images.dtype}, expected (B, 3, H, W) of floats "
                "in [0, 1]; add the batch dimension, repeat a grey channel, divide bytes by 255"
            )
        return self.network((images - self.mean) / self.std).float()

    def activations(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """One forward pass: the logits (B, C) and the outputs of `layers`, detached: {name: (B, channels, h, w)}.

        The activations never carry a gradient (Phang et al., section 3): a masker that reads them cannot change the
        classifier through them. The logits do, when gradients are on.

        Raises RuntimeError when a layer's output was overwritten in place by the module after it, or is no tensor.
        """
        seen: dict[str, Tensor] = {}
        versions: dict[str, int] = {}

        def remember(name: str):
            def hook(module: nn.Module, inputs: object, output: object) -> None:
                if not isinstance(output, Tensor) or output.dim() != 4:
                    raise RuntimeError(
                        f"layer {name!r} of {self.name} does not return a (B, channels, h, w) tensor; name another layer"
                    )
                seen[name] = output.detach()
                versions[name] = output._version

            return hook

        modules = dict(self.network.named_modules())
        handles = [modules[name].register_forward_hook(remember(name)) for name in self.layers]
        try:
            # Tensors made in inference mode count no versions, and the overwriting below could not be seen.
            gradients = torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
            with torch.inference_mode(False), torch.set_grad_enabled(gradients):
                logits = self(images)
        finally:
            for handle in handles:
                handle.remove()
        for name in self.layers:
            if name not in seen:
                raise RuntimeError(
                    f"layer {name!r} of {self.name} did not run in the forward pass; name another layer"
                )
            if seen[name]._version != versions[name]:
                raise RuntimeError(
                    f"the output of layer {name!r} of {self.name} is overwritten in place by the module after it; "
                    "name that module instead, or build it with inplace=False"
                )
        return logits, seen

    def layer_channels(self) -> dict[str, int]:
        """Channels of each layer in `layers`, found by one pass over a blank image; the state is left as it was."""
        blank = torch.zeros(1, 3, *self.input_size, device=self.mean.device)
        with frozen(self), torch.no_grad():
            return {name: output.shape[1] for name, output in self.activations(blank)[1].items()}

    def class_count(self) -> int:
        """How many logits there are, found by one pass over a blank image; the state is left as it was."""
        blank = torch.zeros(1, 3, *self.input_size, device=self.mean.device)
        with frozen(self), torch.no_grad():
            return self(blank).shape[1]

    def fingerprint(self) -> str:
        """Hex SHA-256 of the name and of every weight and buffer: which classifier a result belongs to."""
        return hash_tensors(self.state_dict(), self.name)

    def class_name(self, index: int) -> str:
        """The name of class `index`, or "class 7" where names are unknown."""
        return self.class_names[index] if index < len(self.class_names) else f"class {index}"


def _outline(modules: dict[str, nn.Module]) -> list[str]:
    """Names of the outer two levels: enough to choose from without listing every convolution."""
    return [name for name in modules if name and name.count(".") <= 1][:40]


@contextlib.contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Inside: eval mode and weights without gradients. Afterwards: every mode and flag as it was before."""
    modes = [(part, part.training) for part in module.modules()]
    flags = [(weight, weight.requires_grad) for weight in module.parameters()]
    module.eval().requires_grad_(False)
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
        for weight, flag in flags:
            weight.requires_grad_(flag)
