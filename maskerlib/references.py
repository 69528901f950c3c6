"""Maps that need no training: what a trained masker has to beat, and what nothing can beat.

Each factory returns a method with the signature that all methods of this library share,
method(images (B, channels, H, W), targets (B,), classifier) -> saliency (B, 1, H, W) in [0, 1], high = salient.
The last function is no method: the ground truth as a map, the upper bound.
"""

import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from captum.attr import Attribution
from torch import Tensor, nn
from torch.nn import functional as F

from maskerlib.attributions import GradientMethod, admitted, by_captum
from maskerlib.boxes import box_coverage, pad_boxes
from maskerlib.classifiers import Classifier, frozen
from maskerlib.doors import Targets, as_targets, check_images
from maskerlib.layouts import first_tensor

__all__ = ["Method", "captum_method", "centre_box", "grad_cam", "random_map", "truth_map"]

Method = Callable[[Tensor, Tensor, Classifier], Tensor]
"""(images (B, channels, H, W) in [0, 1], targets (B,) int64, classifier) -> saliency (B, 1, H, W) in [0, 1]."""


def centre_box(area: float = 0.5) -> Method:
    """1 inside a box in the middle of the image, 0 outside: it measures how centred the objects are.

    area: share of the image that the box covers, in (0, 1]; each side is the image's times the square root of
        it, rounded to pixels. One half is what the release of Phang et al. takes: 158 of 224 pixels a side.
    """
    if not 0 < area <= 1:
        raise ValueError(f"area={area}: expected a share of the image above 0 and at most 1")

    def method(images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
        check_images(images, classifier)
        saliency = images.new_zeros(len(images), 1, *images.shape[-2:])
        spans = []
        for length in images.shape[-2:]:
            side = max(round(length * math.sqrt(area)), 1)
            begin = (length - side) // 2
            spans.append(slice(begin, begin + side))
        saliency[:, :, spans[0], spans[1]] = 1
        return saliency

    return method


def random_map(seed: int = 0, *, smooth: bool = False) -> Method:
    """Uniform noise in [0, 1]: the value of a metric when the map knows nothing.

    The noise depends on the seed and the image alone: an image has one map, in every batch, order and run.

    smooth: draw 6 x 6 values and interpolate bilinearly: blobs as large as objects, not one value a pixel.
    """

    def method(images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
        check_images(images, classifier)
        height, width = images.shape[-2:]
        grid = (6, 6) if smooth else (height, width)
        maps = []
        for image in images.detach().float().cpu():
            generator = torch.Generator().manual_seed(zlib.crc32(image.contiguous().numpy(), seed))
            maps.append(torch.rand(1, 1, *grid, generator=generator))
        saliency = torch.cat(maps)
        if smooth:
            saliency = F.interpolate(saliency, size=(height, width), mode="bilinear", align_corners=False)
        return saliency.to(images.device)

    return method


def grad_cam(layer: str | None = None) -> Method:
    """Grad-CAM (Selvaraju et al., 2017), for layers of every layout that `maskerlib.layouts` knows.

    The channels of a layer are summed, each weighted by the mean gradient of the target's logit with respect
    to it; then ReLU, bilinear upsampling to the image, and each map stretched to reach 0 and 1 (a map of
    zeros stays zero). This last step is per image, because Grad-CAM has no scale of its own. Output and gradient are both read as
    maps (B, channels, h, w) first, so the same holds for channels that come last and for the tokens of patches.

    A vision transformer that decides by its class token reads nothing else of its last block: the gradient at the other tokens
    is zero, and so would be the map. There the first norm inside the last block, or the block before, is the last layer that has
    a Grad-CAM.

    layer: name of a layer in `classifier.network`, by default the deepest of `classifier.layers` whose gradient reaches the
        image's cells and not the class token alone.

    The method takes targets as `maskerlib.doors.as_targets` does (a class for all images or one for each, by number or name; None
    for the predicted ones). The classifier is left as it was: mode, requires_grad flags, gradients and hooks. Raises ValueError
    for images or targets that do not suit the classifier, an unknown layer, one without maps, one that the logit does not depend
    on, or one where the gradient reaches tokens of no patch alone.
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
        low, high = cam.amin(dim=(1, 2, 3), keepdim=True), cam.amax(dim=(1, 2, 3), keepdim=True)
        return ((cam - low) / (high - low).where(high > low, 1)).clamp(0, 1).to(images.device)

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


def captum_method(
    build: Callable[[Classifier], Attribution],
    *,
    channels: str = "sum",
    clip: float = 0.99,
    sign: str = "absolute",
    **options: Any,
) -> GradientMethod:
    """Any attribution of captum that gives one number for each pixel and channel, as a method of this library.

    captum_method(captum.attr.DeepLift) is one, and captum_method(captum.attr.Occlusion, sliding_window_shapes=(3, 8, 8)) another.

    Args:
        build: the class, or a function of the classifier that builds it. captum's classes are given the classifier, in eval
            mode and with its weights frozen; it takes images in [0, 1].
        channels, clip, sign: how attributions (B, channels, H, W) become maps, see `maskerlib.attributions.magnitude_map`.
        options: of its `attribute`, beside the images and the targets.

    Raises ValueError, when called, for images or targets that do not suit the classifier.
    """

    def attribute(images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
        with frozen(classifier):
            return by_captum(build(classifier), images, targets, **options)

    return GradientMethod(admitted(attribute), channels, clip, sign)


def truth_map(masks: Tensor | None, boxes: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """The ground truth as a map (B, 1, H, W): the pixel masks (B, H, W), or if None the union of the boxes.

    An edge between two pixels covers its pixel in part. An image without mask and boxes has an empty map.
    """
    if masks is not None:
        return masks[:, None].float()
    padded, _ = pad_boxes(boxes, boxes[0].device if boxes else None)
    rows, columns = box_coverage(padded, size)
    return torch.einsum("bkh,bkw->bkhw", rows, columns).amax(dim=1, keepdim=True)
