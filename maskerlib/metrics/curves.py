"""The metrics that pool a whole data set before they give a number (Choe et al., 2020): PxAP and MaxBoxAcc.

They try every threshold of a grid, and each threshold is applied to all images alike. So two things decide
the value, and both are stated here because results are often not comparable for want of them:

- *Threshold*: shared by the data set, never chosen per image. The best threshold of the grid counts for
  MaxBoxAcc. (LE, OM and SM in `maskerlib.metrics.per_image` do the opposite: each mask's own mean, nothing shared,
  nothing chosen.)
- *Normalisation*: by default none. A mask in [0, 1] is a statement about each pixel, and 0.7 means the same
  in every image. `normalise="minmax"` first stretches each map to reach 0 and 1; it is what Choe et al. do,
  whose class activation maps have no scale of their own. A constant map becomes 0.

Both classes are streaming: `update` takes a batch, and what is kept are counts per threshold, whatever the
number of images.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from maskerlib.data.boxes import box_iou, pad_boxes
from maskerlib.masking.masks import check_masks, stretched
from maskerlib.metrics.components import Components, component_tree
from maskerlib.metrics.contours import contour_fits
from maskerlib.running.checks import check_value, one_of, whole

__all__ = ["PROTOCOLS", "BoxCurve", "PixelCurve", "default_thresholds", "normalise_maps"]

PROTOCOLS = ("maskerlib", "wsolevaluation")
"""Whose rules turn a map into boxes: this library's, or those of the public code of Choe et al.
(`maskerlib.metrics.contours`)."""

_NORMALISE = one_of(("none", "minmax"))


def default_thresholds(count: int = 100) -> Tensor:
    """(count,) float32: 0, 1 / count, ..., (count - 1) / count, for sets {mask > t}. Nothing lies above 1.

    >>> default_thresholds(4)
    tensor([0.0000, 0.2500, 0.5000, 0.7500])
    """
    return torch.arange(count, dtype=torch.float32) / count


def normalise_maps(masks: Tensor, normalise: str) -> Tensor:
    """Masks (B, 1, H, W) as they are ("none"), or each stretched to reach 0 and 1 ("minmax"; constant: 0).

    Raises ValueError for another `normalise`.
    """
    check_value("normalise", normalise, _NORMALISE)
    return masks if normalise == "none" else stretched(masks)


class PixelCurve:
    """PxAP: area under the precision-recall curve of the pixels of all images. In [0, 1], higher is better.

    PxAP = sum over thresholds t of precision(t) * (recall(t) - recall(next higher t)), where a pixel counts
    as found when its value is >= t (Choe et al., 2020). It is the average precision of all pixels, with their
    values rounded down to the grid; a value that is the grid's own, up to the precision of its type, stays. Maps
    that have one value everywhere get the share of foreground pixels.

    Args:
        bins: the thresholds are 0, 1 / bins, ..., 1, the same for all images.
        normalise: "none" or "minmax", see the module.

    Raises ValueError for a value that is none of these.

    >>> curve = PixelCurve()
    >>> curve.update(torch.tensor([[[[0.9, 0.5, 0.1]]]]), torch.tensor([[[True, False, True]]]))
    >>> round(curve.pxap(), 4)  # recall 1 / 2 at precision 1, and the other half at 2 / 3
    0.8333
    """

    def __init__(self, bins: int = 1000, *, normalise: str = "none") -> None:
        check_value("bins", bins, whole(1))
        check_value("normalise", normalise, _NORMALISE)
        self.bins, self.normalise = bins, normalise
        self.foreground = torch.zeros(bins + 1, dtype=torch.int64)
        self.background = torch.zeros(bins + 1, dtype=torch.int64)

    def update(self, masks: Tensor, truth: Tensor, ignore: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            masks: (B, 1, H, W) in [0, 1].  truth: (B, H, W) or (B, 1, H, W) bool, True on the object.
            ignore: same shape, bool: pixels that count neither way (the ignore regions of OpenImages30k).
        """
        check_masks(masks)
        truth = _pixels(truth, masks, "truth")
        values = _bins(normalise_maps(masks, self.normalise), self.bins)
        keep = torch.ones_like(truth) if ignore is None else ~_pixels(ignore, masks, "ignore")
        size = self.bins + 1
        counts = torch.bincount((values + size * truth)[keep], minlength=2 * size)
        background, foreground = counts.cpu().view(2, -1)
        self.background += background
        self.foreground += foreground

    def counts(self) -> list[Tensor]:
        """What is kept of the images seen, on the CPU; it adds up over parts of a data set."""
        return [self.foreground, self.background]

    def precision_recall(self) -> tuple[Tensor, Tensor]:
        """Precision and recall, (bins + 1,) float64 each, at thresholds 1, ..., 1 / bins, 0: recall rises.

        Precision is 1 where nothing is found yet. Raises ValueError when no foreground pixel was seen.
        """
        found = self.foreground.flip(0).cumsum(0).double()
        false = self.background.flip(0).cumsum(0).double()
        if found[-1] == 0:
            raise ValueError("no foreground pixel was seen: PxAP needs ground-truth masks that are not empty")
        all_found = found + false
        return torch.where(all_found > 0, found / all_found.clamp(min=1), 1), found / found[-1]

    def pxap(self) -> float:
        """The area under the curve. Raises ValueError when no foreground pixel was seen."""
        precision, recall = self.precision_recall()
        return float((precision * recall.diff(prepend=recall.new_zeros(1))).sum())


def _bins(values: Tensor, bins: int) -> Tensor:
    """The largest k in 0 ... bins with k / bins <= value, int64. k / bins is rounded as the value is: 0.251 is 251 / 1000.

    A product such as 1000 * 0.251 may be rounded to just below 251; so the nearest k is found first, and then compared.
    """
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    nearest = (values * bins).round_()
    # Divided by a tensor, not by a number: on a GPU torch multiplies by the number's inverse, which is rounded otherwise.
    below = values < nearest / values.new_full((1,), bins)
    return nearest.long().sub_(below.long()).clamp_(0, bins)


def _pixels(region: Tensor, masks: Tensor, name: str) -> Tensor:
    region = region[:, None] if region.dim() == 3 else region
    if region.shape != masks.shape or region.dtype != torch.bool:
        found = f"{region.dtype} {tuple(region.shape)}"
        raise ValueError(f"{name} is {found}, expected torch.bool {tuple(masks.shape)} like the masks")
    return region.to(masks.device)


class BoxCurve:
    """MaxBoxAcc, MaxBoxAccV2 and the localisation error, at every threshold of a grid shared by the data set.

    Images without ground-truth boxes are left out. Components are 4-connected; sets are {mask > t}, so a
    constant mask of value v has the box of the whole image at thresholds below v and none above. Ground-truth boxes are
    clipped to the image.

    These are not quite the numbers of wsolevaluation, the public code of Choe et al.: it rounds maps to bytes, thresholds at
    a share of each map's maximum, and draws wider boxes around contours. On 240 scenes MaxBoxAccV2 of Grad-CAM is 0.667 here
    and 0.692 there, that of a trained masker 0.871 and 0.878. protocol="wsolevaluation" gives theirs, to be set beside
    numbers that were published with it; `maskerlib.metrics.contours` lists the differences. It asks for maps that reach 0 and
    1, so give normalise="minmax" with it, as Choe et al. do.

    Args:
        thresholds: (K,) ascending, in [0, 1). By default 0, 0.01, ..., 0.99, the grid of the paper's release.
        normalise: "none" or "minmax", see the module.
        ious: the IoU levels that V2 averages over. MaxBoxAcc and the error always use 0.5.
        protocol: one of `PROTOCOLS`. With "wsolevaluation" ground-truth boxes are not clipped but cut to whole numbers, as
            there, and their right and lower ends count.

    Raises ValueError for a value that is none of these.

    Attributes:
        images: how many images with boxes were seen.
    """

    def __init__(
        self,
        thresholds: Tensor | Sequence[float] | None = None,
        *,
        normalise: str = "none",
        ious: Sequence[float] = (0.3, 0.5, 0.7),
        protocol: str = "maskerlib",
    ) -> None:
        # In double precision: 0.7 of 250 is 175 and not 174, whoever counts in whole numbers.
        exact = torch.arange(100).double() * 0.01 if thresholds is None else torch.as_tensor(thresholds, dtype=torch.float64)
        grid = default_thresholds() if thresholds is None else exact.float().cpu()
        if grid.dim() != 1 or not len(grid) or not ((grid.diff() > 0).all() and 0 <= grid[0] <= grid[-1] < 1):
            raise ValueError(f"thresholds {grid.tolist()[:5]}...: expected one or more, ascending, in [0, 1)")
        check_value("normalise", normalise, _NORMALISE)
        check_value("protocol", protocol, one_of(PROTOCOLS))
        self.thresholds, self.normalise, self.ious, self.protocol = grid, normalise, tuple(ious), protocol
        self._exact = exact.cpu().numpy()
        self.images = 0
        # Images per threshold, by the IoU of the largest component (> 0.5, >= 0.5) or of any (>= ious).
        self._above = torch.zeros(len(grid), dtype=torch.int64)
        self._reached = torch.zeros(len(grid), dtype=torch.int64)
        self._any = torch.zeros(len(self.ious), len(grid), dtype=torch.int64)

    def update(self, masks: Tensor, boxes: Sequence[Tensor]) -> None:
        """Add a batch: masks (B, 1, H, W) in [0, 1], ground-truth boxes B tensors (K_i, 4)."""
        check_masks(masks)
        theirs = self.protocol == "wsolevaluation"
        padded, real = pad_boxes(boxes, size=None if theirs else (masks.shape[-2], masks.shape[-1]))
        known = real.any(dim=1)
        if not known.any():
            return
        masks = normalise_maps(masks[known.to(masks.device)], self.normalise)
        if theirs:
            truth = [own[row].numpy() for own, row in zip(padded[known], real[known], strict=True)]
            largest, best = contour_fits(masks[:, 0].clamp(0, 1).float().cpu().numpy(), truth, self._exact)
            reached = [best >= iou for iou in self.ious]
        else:
            largest, reached = self._by_components(masks, padded[known])
        self.images += len(masks)
        self._above += torch.from_numpy((largest > 0.5).sum(axis=0))
        self._reached += torch.from_numpy((largest >= 0.5).sum(axis=0))
        for row, hit in zip(self._any, reached, strict=True):
            row += torch.from_numpy(hit.sum(axis=0))

    def counts(self) -> list[Tensor]:
        """What is kept of the images seen, but for their number, on the CPU; it adds up over parts of a data set."""
        return [self._above, self._reached, self._any]

    def _by_components(self, masks: Tensor, boxes: Tensor) -> tuple[np.ndarray, list[np.ndarray]]:
        """(B, K) the fit of the largest component at each threshold, and for each IoU level whether any reaches it."""
        # A pixel of level k lies above the first k thresholds: {mask > thresholds[k - 1]} = {level >= k}.
        levels = torch.bucketize(masks[:, 0].float(), self.thresholds.to(masks.device))
        small = torch.uint8 if len(self.thresholds) < 256 else torch.int32
        parts = component_tree(levels.to(small).cpu().numpy())
        fit = np.zeros(len(parts.image), np.float32)
        for truth in boxes.unbind(dim=1):  # one box of every image at a time, to keep memory low
            np.maximum(fit, box_iou(torch.from_numpy(parts.boxes), truth[parts.image]).numpy(), out=fit)
        batch, count = len(masks), len(self.thresholds)
        reached = [_exists(parts, fit >= np.float32(iou), batch, count) for iou in self.ious]
        return _largest(parts, fit, batch, count), reached

    def localisation_error(self) -> Tensor:
        """(K,) float64 in [0, 1], lower is better: LE at each threshold.

        The share of images in which the largest component has IoU > 0.5 with no ground-truth box.
        """
        return 1 - self._share(self._above)

    def max_box_acc(self) -> float:
        """MaxBoxAcc, in [0, 1], higher is better.

        The share of images in which the largest component has IoU >= 0.5 with a ground-truth box, at the
        threshold that is best for the data set.
        """
        return float(self._share(self._reached).max())

    def max_box_acc_v2(self) -> float:
        """MaxBoxAccV2, in [0, 1], higher is better.

        As MaxBoxAcc, but any component may fit, and the mean is taken over the IoU levels 0.3, 0.5 and 0.7,
        each at its own best threshold.
        """
        return float(self._share(self._any).max(dim=1).values.mean())

    def _share(self, counts: Tensor) -> Tensor:
        if not self.images:
            raise ValueError("no image with a ground-truth box was seen: box metrics need boxes")
        return counts.double() / self.images


def _largest(parts: Components, fit: np.ndarray, batch: int, count: int) -> np.ndarray:
    """(batch, count): the fit of the largest component at each threshold, 0 where there is none."""
    order = np.lexsort([-parts.first, parts.area])  # of equal areas, the one that comes first is written last
    image, low, high = parts.image[order], parts.low[order], parts.high[order]
    length = high - low + 1
    within = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
    table = np.zeros((batch, count), np.float32)
    table[np.repeat(image, length), np.repeat(low, length) - 1 + within] = np.repeat(fit[order], length)
    return table


def _exists(parts: Components, chosen: np.ndarray, batch: int, count: int) -> np.ndarray:
    """(batch, count) bool: is there a chosen component at each threshold?"""
    change = np.zeros((batch, count + 1), np.int64)
    np.add.at(change, (parts.image[chosen], parts.low[chosen] - 1), 1)
    np.add.at(change, (parts.image[chosen], parts.high[chosen]), -1)
    return change.cumsum(axis=1)[:, :count] > 0
