"""The metrics of Phang, Park and Geras (2020), one number an image; what is reported is the mean over images.

Every function takes a batch and returns (B,) float32, or float64 where the masks or the logits are. A value is
NaN where the image lacks what the metric needs (a ground-truth box, a label), and such images are left out of the
mean. PxAP and MaxBoxAcc pool all images before anything is averaged; they are in `maskerlib.metrics.curves`.

| function | direction | range |
|---|---|---|
| `localisation_error` LE | lower | {0, 1} |
| `official_metric` OM | lower | {0, 1} |
| `f1` F1, F1a | higher | [0, 1] |
| `saliency_metric` SM | lower | above log 0.05 = -3.0, no upper end |
| `mask_statistics` | none: they describe | see there |

LE, OM and SM see only the predicted box, `maskerlib.metrics.boxes.predicted_boxes(masks)`: threshold at the mask's
own mean, largest 4-connected component. F1 sees the continuous mask and needs no threshold. Parts of a ground-truth box
that lie outside the image do not count; LE and OM must be told its size for that, F1 sees it.

What `evaluate` makes of these functions is in `maskerlib.metrics.registry`, and so is the place of a new one.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from maskerlib.classifiers.classifier import Classifier
from maskerlib.data.boxes import box_area, box_coverage, pad_boxes
from maskerlib.masking.masks import check_masks
from maskerlib.metrics.boxes import best_iou, binarise
from maskerlib.running.checks import check_value, one_of
from maskerlib.running.precision import single

__all__ = [
    "RESIZES",
    "crop_and_resize",
    "f1",
    "localisation_error",
    "mask_statistics",
    "official_metric",
    "saliency_metric",
    "top1",
]

RESIZES = ("antialias", "opencv")
"""How SM enlarges or shrinks a crop: bicubic with antialiasing, as Pillow does, or without, as OpenCV and the release do."""


def localisation_error(
    predicted: Tensor, boxes: Sequence[Tensor], iou: float = 0.5, *, size: tuple[int, int] | None = None
) -> Tensor:
    """LE, lower is better: 1 where no ground-truth box has IoU > `iou` with the predicted box, else 0.

    Args:
        predicted: (B, 4) predicted boxes; the empty box is a miss.
        boxes: B tensors (K_i, 4) of ground-truth boxes; one hit among them is enough.
        size: (H, W) of the images; boxes are clipped to them. None takes boxes as they are, and a box that reaches beyond
            the image is then one that no prediction may fit.

    Returns:
        (B,) in {0, 1}; NaN for an image without ground-truth boxes.

    >>> truth = [torch.tensor([[0.0, 0, 4, 4]])]
    >>> localisation_error(torch.tensor([[0.0, 0, 3, 3]]), truth)  # IoU 9 / 16
    tensor([0.])
    """
    fit = best_iou(predicted, boxes, size=size)
    return (fit <= iou).float().where(~fit.isnan(), torch.nan)


def top1(logits: Tensor, labels: Tensor) -> Tensor:
    """Top-1 accuracy, higher is better: 1 where the largest logit is the label's, else 0; NaN for label -1.

    logits: (B, C).  labels: (B,) int64.  Returns (B,).

    >>> top1(torch.tensor([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]]), torch.tensor([1, 0, -1]))
    tensor([1., 0., nan])
    """
    return (logits.argmax(dim=1) == labels).float().where(labels >= 0, torch.nan)


def official_metric(
    predicted: Tensor,
    boxes: Sequence[Tensor],
    logits: Tensor,
    labels: Tensor,
    *,
    size: tuple[int, int] | None = None,
) -> Tensor:
    """OM, the official ILSVRC metric, lower is better: 1 where LE is 1 or the top-1 class is wrong, else 0.

    Args:
        predicted: (B, 4).  boxes: B tensors (K_i, 4).
        logits: (B, C) of the clean images, from the classifier that the method explains.
        labels: (B,) int64, -1 where unknown.
        size: as in `localisation_error`.

    Returns:
        (B,) in {0, 1}, at least LE; NaN for an image without ground-truth boxes or without a label.
    """
    return torch.maximum(localisation_error(predicted, boxes, size=size), 1 - top1(logits, labels))


def f1(masks: Tensor, boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """F1 and F1a, higher is better: harmonic mean of soft precision and recall of the mask against a box.

    With s the sum of the mask inside the box: precision = s / sum of the mask, recall = s / area of the box.
    F1 is the best over the image's boxes, F1a their mean. The continuous mask counts, so a mask that is right
    but faint has a low recall. An empty mask has F1 0; a mask of ones has precision b and recall 1 against a
    box that covers the share b of the image.

    Args:
        masks: (B, 1, H, W) in [0, 1].  boxes: B tensors (K_i, 4), clipped to the image.

    Returns:
        F1 (B,) and F1a (B,) in [0, 1]; NaN for an image without ground-truth boxes.

    >>> f1(torch.ones(1, 1, 4, 4), [torch.tensor([[0.0, 0, 2, 4], [0.0, 0, 4, 4]])])  # precision 1 / 2 and 1, recall 1
    (tensor([1.]), tensor([0.8333]))
    """
    check_masks(masks)
    values, size = single(masks), (masks.shape[-2], masks.shape[-1])
    padded, real = pad_boxes(boxes, masks.device, size=size)
    rows, columns = box_coverage(padded.to(values), size)
    inside = torch.einsum("bhw,bkh,bkw->bk", values[:, 0], rows, columns)
    # 2 / (1 / precision + 1 / recall) = 2 * inside / (sum of the mask + area of the box)
    total = values.sum(dim=(1, 2, 3))[:, None] + rows.sum(dim=-1) * columns.sum(dim=-1)
    score = torch.where(total > 0, 2 * inside / total.where(total > 0, 1), 0).clamp(max=1) * real
    known = real.any(dim=1)
    mean = score.sum(dim=1) / real.sum(dim=1).clamp(min=1)
    return score.amax(dim=1).where(known, torch.nan), mean.where(known, torch.nan)


def saliency_metric(
    images: Tensor, predicted: Tensor, targets: Tensor, classifier: Classifier, *, resize: str = "antialias"
) -> Tensor:
    """SM, lower is better: log(max(area share, 0.05)) - log p(y | predicted box, cropped and resized).

    A small box from which the class is still recognised is good (Dabkowski & Gal, 2017). In nats: 0 is the
    whole image with p = 1, and log 0.05 = -3.0 the least possible. For an empty box the area is 0 and the
    classifier sees a blank image of its mean colour.

    Args:
        images: (B, channels, H, W) in [0, 1].  predicted: (B, 4).  targets: (B,) int64, the class y.
        classifier: the evaluation classifier, the same for all methods that are compared. It is run in the
            mode that it is in (`evaluate` sets eval mode), without gradients.
        resize: how the crop is brought to the classifier's input size, one of `RESIZES`. The release's is "opencv". Compare
            values of one kind only: on 240 scenes of 96 pixels "opencv" moves the mean by 0.11 nats, single images by up to 2.2.

    Returns:
        (B,), float32 (float64 where the logits are).

    Raises ValueError for a target that is no class, or another `resize`.
    """
    if targets.min() < 0:
        found = int(targets.min())
        raise ValueError(f"target {found} is not a class; where no label is known, give the predicted class")
    share = box_area(predicted) / (images.shape[-2] * images.shape[-1])
    crops = crop_and_resize(images, predicted, classifier.input_size, classifier.mean, resize=resize)
    with torch.no_grad():
        logits = single(classifier(crops))
    classes = logits.shape[1]
    if targets.max() >= classes:
        found = int(targets.max())
        raise ValueError(f"target {found}: {classifier.name} has classes 0 to {classes - 1}; use these")
    return share.to(logits).clamp(min=0.05).log() - classifier.log_probability(logits, targets)


def crop_and_resize(
    images: Tensor, boxes: Tensor, size: tuple[int, int], blank: Tensor, *, resize: str = "antialias"
) -> Tensor:
    """Each image's box, stretched to `size` by bicubic interpolation.

    Args:
        images: (B, channels, H, W).  boxes: (B, 4), rounded to whole pixels.  size: (height, width).
        blank: (1, channels, 1, 1), the colour that stands for an empty box.
        resize: "antialias" weighs every pixel of a crop that is shrunk, and clamps to [0, 1] what bicubic interpolation
            overshoots. "opencv" is cv2's INTER_CUBIC (four neighbours each way, a = -0.75, nothing clamped).

    Returns:
        (B, channels, *size). The aspect ratio of the box is not kept.

    Raises ValueError for another `resize`.
    """
    check_value("resize", resize, one_of(RESIZES))
    antialias = resize == "antialias"
    crops = blank.to(images).expand(len(images), images.shape[1], *size).clone()
    for crop, image, (x0, y0, x1, y1) in zip(crops, images, boxes.round().int().tolist(), strict=True):
        if x1 > x0 and y1 > y0:
            part = image[None, :, y0:y1, x0:x1]
            crop.copy_(F.interpolate(part, size=size, mode="bicubic", antialias=antialias, align_corners=False)[0])
    return crops.clamp_(0, 1) if antialias else crops


def mask_statistics(masks: Tensor) -> dict[str, Tensor]:
    """What the masks are like, whatever they are good for: masks (B, 1, H, W) in [0, 1] -> four (B,) tensors.

    mean: share of the image that the mask covers, in [0, 1].
    binarised: share of the pixels above the mask's own mean, in [0, 1); 0 for a constant mask.
    TV: mean squared difference of vertical neighbours plus that of horizontal ones, in [0, 2]; 0 = constant.
        It is the mean that the release reports, not the weighted sum of its loss.
    entropy: mean over pixels of -m log2 m - (1 - m) log2(1 - m), in bits, in [0, 1]; 0 = every pixel is 0 or
        1, 1 = all are one half. (The release leaves the second term out.)
    """
    check_masks(masks)
    m = single(masks).clamp(0, 1)
    rest = 1 - m
    bits = -(torch.xlogy(m, m) + torch.xlogy(rest, rest)) / math.log(2)
    everything = (1, 2, 3)
    return {
        "mean": m.mean(dim=everything),
        "binarised": binarise(m).to(m).mean(dim=everything),
        "TV": _mean(m.diff(dim=2).square()) + _mean(m.diff(dim=3).square()),
        "entropy": bits.mean(dim=everything),
    }


def _mean(differences: Tensor) -> Tensor:
    """Mean over all but the batch; 0 where an image one pixel wide or high has no neighbours."""
    return differences.flatten(1).sum(dim=1) / max(differences[0].numel(), 1)
