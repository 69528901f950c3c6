"""Grad-CAM (Selvaraju et al., 2017): which cells of a layer speak for a class.

The channels A_k of a layer, each weighted by the mean gradient of the class's logit: relu(sum_k mean(dz / dA_k) A_k).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maskerlib.classifiers.classifier import Classifier, frozen
from maskerlib.classifiers.doors import Method, Targets, as_targets, check_images
from maskerlib.classifiers.layouts import first_tensor
from maskerlib.masking.masks import stretched
from maskerlib.methods.entry import MethodEntry

__all__ = ["ENTRY", "grad_cam"]


def grad_cam(layer: str | None = None) -> Method:
    """Grad-CAM (Selvaraju et al., 2017), for layers of every layout that `maskerlib.classifiers.layouts` knows.

    The channels of a layer are summed, each weighted by the mean gradient of the target's logit with respect
    to it; then ReLU, bilinear upsampling to the image, and each map stretched to reach 0 and 1 (a map of
    zeros stays zero). This last step is per image, because Grad-CAM has no scale of its own. Output and gradient are both read as
    maps (B, channels, h, w) first, so the same holds for channels that come last and for the tokens of patches.

    A vision transformer that decides by its class token reads nothing else of its last block: the gradient at the other tokens
    is zero, and so would be the map. There the first norm inside the last block, or the block before, is the last layer that has
    a Grad-CAM.

    layer: name of a layer in `classifier.network`, by default the deepest of `classifier.layers` whose gradient reaches the
        image's cells and not the class token alone.

    The method takes targets as `maskerlib.classifiers.doors.as_targets` does (a class for all images or one for each, by number
    or name; None for the predicted ones). The classifier is left as it was: mode, requires_grad flags, gradients and hooks.
    Raises ValueError for images or targets that do not suit the classifier, an unknown layer, one without maps, one that the
    logit does not depend on, or one where the gradient reaches tokens of no patch alone.
    """

    def method(images: Tensor, targets: Targets, classifier: Classifier) -> Tensor:
        check_images(images, classifier)
        if layer is None and not classifier.layers:
            raise ValueError(f"{classifier.name} names no layers; give one, such as grad_cam('layer4')")
        there = images.detach().to(classifier.mean.device)
        cam = None
        for name in reversed(classifier.layers) if layer is None else (layer,):
            if (cam := _class_activation(there, targets, classifier, name)) is not None:
                break
        if cam is None:
            raise ValueError(
                f"the gradient at layer {name!r} of {classifier.name} reaches the class token alone, so Grad-CAM has no map "
                f"there; {_earlier(classifier, name)}"
            )
        cam = F.interpolate(cam.float().relu(), size=images.shape[-2:], mode="bilinear", align_corners=False)
        return stretched(cam).clamp(0, 1).to(images.device)

    return method


def _class_activation(images: Tensor, targets: Targets, classifier: Classifier, layer: str) -> Tensor | None:
    """The weighted sum of a layer's channels, (B, 1, h, w) and signed; None where the gradient reaches no cell of the image."""
    module = classifier.module(layer)
    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, output: object) -> Tensor | None:
        try:
            kept.append(first_tensor(output, "last_hidden_state"))
        except TypeError as error:
            raise ValueError(
                f"layer {layer!r} of {classifier.name} returns no tensor but {error}; name another layer"
            ) from None
        return output.clone() if isinstance(output, Tensor) else None  # what comes after may write over its input

    with frozen(classifier), torch.inference_mode(False), torch.enable_grad():
        handle = module.register_forward_hook(keep)
        try:
            logits, _ = classifier.outputs(images.clone().requires_grad_(), [])
        finally:
            handle.remove()
        chosen = as_targets(targets, logits, classifier)
        gradient = None
        if kept and kept[-1].requires_grad:
            (gradient,) = torch.autograd.grad(logits.gather(1, chosen[:, None]).sum(), kept[-1], allow_unused=True)
        if gradient is None:
            raise ValueError(
                f"the logits of {classifier.name} do not depend on what layer {layer!r} returns; name another layer"
            )
        try:
            size = (images.shape[-2], images.shape[-1])
            output, slope = (classifier.as_maps(layer, part, size) for part in (kept[-1].detach(), gradient))
        except RuntimeError as error:
            raise ValueError(f"layer {layer!r} has no maps for Grad-CAM: {error}") from None
    if gradient.any() and not slope.any():
        return None
    return (slope.mean(dim=(2, 3), keepdim=True) * output).sum(dim=1, keepdim=True)


def _earlier(classifier: Classifier, layer: str) -> str:
    """What to name instead of a layer whose cells the logit does not depend on."""
    inside = [
        name for name, part in classifier.module(layer).named_modules() if name and isinstance(part, nn.LayerNorm)
    ]
    norm = f"{layer}.{inside[0]}" if inside else "the first norm of the last block"
    return f"name an earlier layer, such as {norm}, or the block before"


ENTRY = MethodEntry("grad-cam", "Grad-CAM of the last layer named", grad_cam, kind="gradient", backward=1)
