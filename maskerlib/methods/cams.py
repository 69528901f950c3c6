"""What class activation maps share: a layer's output as maps, its gradient, and from its cells to the pixels of the image.

They all weigh the channels A_k (h, w) of one layer and add them up. How they weigh them is in the file of each.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maskerlib.classifiers.classifier import Classifier, frozen
from maskerlib.classifiers.doors import Method, Targets, as_targets, check_images
from maskerlib.classifiers.layouts import first_tensor
from maskerlib.masking.masks import stretched

__all__ = ["Weigh", "gradient_cam", "layer_maps", "on_pixels"]

Weigh = Callable[[Tensor, Tensor], Tensor]
"""(the channels of a layer, the gradient of the target's logit there), both (B, channels, h, w) -> a map (B, 1, h, w)."""


def gradient_cam(title: str, weigh: Weigh, layer: str | None = None) -> Method:
    """A class activation map made of a layer's channels and their gradient, by `weigh`; then `on_pixels`.

    Output and gradient are both read as maps (B, channels, h, w) first, for layers of every layout that
    `maskerlib.classifiers.layouts` knows: the same holds for channels that come last and for the tokens of patches.

    A vision transformer that decides by its class token reads nothing else of its last block: the gradient at the other tokens
    is zero, and so would be the map. There the first norm inside the last block, or the block before, is the last layer that
    has a map.

    Args:
        title: what the method is called in errors.
        layer: name of a layer in `classifier.network`, by default the deepest of `classifier.layers` whose gradient reaches
            the image's cells and not the class token alone.

    The method takes targets as `maskerlib.classifiers.doors.as_targets` does (a class for all images or one for each, by number
    or name; None for the predicted ones). The classifier is left as it was: mode, requires_grad flags, gradients and hooks.
    Raises ValueError for images or targets that do not suit the classifier, an unknown layer, one without maps, one that the
    logit does not depend on, or one where the gradient reaches tokens of no patch alone.
    """

    def method(images: Tensor, targets: Targets, classifier: Classifier) -> Tensor:
        check_images(images, classifier)
        there = images.detach().to(classifier.mean.device)
        cam = None
        for name in _named(layer, classifier, title):
            if (found := _with_slope(there, targets, classifier, name, title)) is not None:
                cam = weigh(*found)
                break
        if cam is None:
            raise ValueError(
                f"the gradient at layer {name!r} of {classifier.name} reaches the class token alone, so {title} has no map "
                f"there; {_earlier(classifier, name)}"
            )
        return on_pixels(cam.relu(), images)

    return method


def on_pixels(cam: Tensor, images: Tensor) -> Tensor:
    """A map of cells (B, 1, h, w) on the pixels of the images, (B, 1, H, W): bilinear, and stretched to reach 0 and 1.

    The stretch is per image, because such a map has no scale of its own; one that is the same everywhere becomes 0.
    """
    cam = F.interpolate(cam.float(), size=images.shape[-2:], mode="bilinear", align_corners=False)
    return stretched(cam).clamp(0, 1).to(images.device)


def layer_maps(
    images: Tensor, targets: Targets, classifier: Classifier, layer: str | None, title: str
) -> tuple[Tensor, Tensor]:
    """What a layer says of each image, (B, channels, h, w) without graph, and the targets as (B,) int64.

    layer: by default the last of `classifier.layers`. Both are on the device of the classifier.

    Raises ValueError as `gradient_cam` does, and leaves the classifier as it was.
    """
    check_images(images, classifier)
    layer = _named(layer, classifier, title)[0]
    with frozen(classifier), torch.no_grad():
        logits, output = _read(images.detach().to(classifier.mean.device), classifier, layer)
    if output is None:
        raise ValueError(f"layer {layer!r} of {classifier.name} did not run in the forward pass; name another layer")
    return _as_maps(output, images, classifier, layer, title), as_targets(targets, logits, classifier)


def _named(layer: str | None, classifier: Classifier, title: str) -> tuple[str, ...]:
    """The layers to try, from the deepest on."""
    if layer is None and not classifier.layers:
        raise ValueError(f"{classifier.name} names no layers; give {title} one, such as layer='layer4'")
    return classifier.layers[::-1] if layer is None else (layer,)


def _read(images: Tensor, classifier: Classifier, layer: str) -> tuple[Tensor, Tensor | None]:
    """The logits, and what a layer returned (the last time that it ran), with their graph where gradients are on."""
    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, output: object) -> Tensor | None:
        try:
            kept.append(first_tensor(output, "last_hidden_state"))
        except TypeError as error:
            raise ValueError(
                f"layer {layer!r} of {classifier.name} returns no tensor but {error}; name another layer"
            ) from None
        return output.clone() if isinstance(output, Tensor) else None  # what comes after may write over its input

    handle = classifier.module(layer).register_forward_hook(keep)
    try:
        logits, _ = classifier.outputs(images, [])
    finally:
        handle.remove()
    return logits, kept[-1] if kept else None


def _with_slope(
    images: Tensor, targets: Targets, classifier: Classifier, layer: str, title: str
) -> tuple[Tensor, Tensor] | None:
    """The channels of a layer and the gradient of the target's logit there; None where that reaches no cell of the image."""
    with frozen(classifier), torch.inference_mode(False), torch.enable_grad():
        logits, output = _read(images.clone().requires_grad_(), classifier, layer)
        chosen = as_targets(targets, logits, classifier)
        gradient = None
        if output is not None and output.requires_grad:
            (gradient,) = torch.autograd.grad(logits.gather(1, chosen[:, None]).sum(), output, allow_unused=True)
        if output is None or gradient is None:
            raise ValueError(
                f"the logits of {classifier.name} do not depend on what layer {layer!r} returns; name another layer"
            )
        maps, slope = (_as_maps(part, images, classifier, layer, title) for part in (output.detach(), gradient))
    return None if gradient.any() and not slope.any() else (maps, slope)


def _as_maps(part: Tensor, images: Tensor, classifier: Classifier, layer: str, title: str) -> Tensor:
    try:
        return classifier.as_maps(layer, part, (images.shape[-2], images.shape[-1]))
    except RuntimeError as error:
        raise ValueError(f"layer {layer!r} has no maps for {title}: {error}") from None


def _earlier(classifier: Classifier, layer: str) -> str:
    """What to name instead of a layer whose cells the logit does not depend on."""
    inside = [
        name for name, part in classifier.module(layer).named_modules() if name and isinstance(part, nn.LayerNorm)
    ]
    norm = f"{layer}.{inside[0]}" if inside else "the first norm of the last block"
    return f"name an earlier layer, such as {norm}, or the block before"
