"""Maps that need no training: what a trained masker has to beat, and what nothing can beat.

Each factory returns a method with the signature that all methods of this library share,
method(images (B, 3, H, W), targets (B,), classifier) -> saliency (B, 1, H, W) in [0, 1], high = salient.
The last function is no method: the ground truth as a map, the upper bound.
"""

import math
import zlib
from collections.abc import Callable, Sequence

import torch
from captum.attr import LayerGradCam
from torch import Tensor
from torch.nn import functional as F

from maskerlib.boxes import box_coverage, pad_boxes
from maskerlib.classifiers import Classifier, frozen

__all__ = ["Method", "centre_box", "grad_cam", "random_map", "truth_map"]

Method = Callable[[Tensor, Tensor, Classifier], Tensor]
"""(images (B, 3, H, W) in [0, 1], targets (B,) int64, classifier) -> saliency (B, 1, H, W) in [0, 1]."""


def centre_box(area: float = 0.5) -> Method:
    """1 inside a box in the middle of the image, 0 outside: it measures how centred the objects are.

    area: share of the image that the box covers, in (0, 1]; each side is the image's times the square root of
        it, rounded to pixels. One half is what the release of Phang et al. takes: 158 of 224 pixels a side.
    """
    if not 0 < area <= 1:
        raise ValueError(f"area={area}: expected a share of the image above 0 and at most 1")

    def method(images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
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
    """Grad-CAM (Selvaraju et al., 2017), computed by captum's LayerGradCam.

    The channels of a layer are summed, each weighted by the mean gradient of the target's logit with respect
    to it; then ReLU, bilinear upsampling to the image, and each map stretched to reach 0 and 1 (a map of
    zeros stays zero). This last step is per image, because Grad-CAM has no scale of its own.

    layer: name of a layer in `classifier.network` that returns (B, channels, h, w), by default the last one
        that `classifier.layers` names.

    The classifier is left as it was: mode, requires_grad flags, gradients and hooks. Raises ValueError for an
    unknown layer, or one without spatial dimensions.
    """

    def method(images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
        if layer is None and not classifier.layers:
            raise ValueError(f"{classifier.name} names no layers; give one, such as grad_cam('layer4')")
        name = classifier.layers[-1] if layer is None else layer
        modules = dict(classifier.network.named_modules())
        if not name or name not in modules:
            known = ", ".join(classifier.layers)
            raise ValueError(f"layer {name!r} is not in {classifier.name}; it suggests {known}")
        with frozen(classifier):
            cam = LayerGradCam(classifier, modules[name]).attribute(images.detach(), targets)
        if not isinstance(cam, Tensor) or cam.dim() != 4:
            raise ValueError(f"layer {name!r} has no (B, channels, h, w) output; name a spatial layer")
        cam = cam.detach().float().relu()
        cam = F.interpolate(cam, size=images.shape[-2:], mode="bilinear", align_corners=False)
        low, high = cam.amin(dim=(1, 2, 3), keepdim=True), cam.amax(dim=(1, 2, 3), keepdim=True)
        return ((cam - low) / (high - low).where(high > low, 1)).clamp(0, 1)

    return method


def truth_map(masks: Tensor | None, boxes: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """The ground truth as a map (B, 1, H, W): the pixel masks (B, H, W), or if None the union of the boxes.

    An edge between two pixels covers its pixel in part. An image without mask and boxes has an empty map.
    """
    if masks is not None:
        return masks[:, None].float()
    padded, _ = pad_boxes(boxes, boxes[0].device if boxes else None)
    rows, columns = box_coverage(padded, size)
    return torch.einsum("bkh,bkw->bkhw", rows, columns).amax(dim=1, keepdim=True)
