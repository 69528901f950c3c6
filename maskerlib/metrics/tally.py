"""What is kept of one method while the images of a data set stream past: sums, counts and histograms."""

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from maskerlib.data.samples import Batch
from maskerlib.metrics.curves import BoxCurve, PixelCurve
from maskerlib.metrics.per_image import f1, localisation_error, mask_statistics, official_metric, top1

__all__ = ["COLUMNS", "Tally", "missing_of"]

COLUMNS: Mapping[str, str] = {
    "OM": "lower is better",
    "LE": "lower is better",
    "F1": "higher is better",
    "F1a": "higher is better",
    "SM": "lower is better",
    "PxAP": "higher is better",
    "MaxBoxAcc": "higher is better",
    "MaxBoxAccV2": "higher is better",
    "mean": "share of the image, mean over images",
    "std": "standard deviation of that share between images",
    "binarised": "share of the image above the mask's own mean",
    "TV": "mean squared differences of neighbours",
    "entropy": "bits a pixel, 0 is decided",
    "top1": "accuracy of the explained classifier on clean images",
}
"""The columns of `evaluate`, in order, and what to wish for."""


class Tally:
    """One row of the table of `maskerlib.metrics.evaluation.evaluate`, in memory that does not grow with the images.

    Args:
        thresholds, normalise, protocol: of the metrics with a shared threshold grid, see `maskerlib.metrics.curves`.
        unlabelled: why no image has a label, for the case that none does.
    """

    def __init__(
        self,
        thresholds: Tensor | Sequence[float] | None,
        normalise: str,
        protocol: str = "maskerlib",
        unlabelled: str = "",
    ) -> None:
        self.boxes = BoxCurve(thresholds, normalise=normalise, protocol=protocol)
        self.pixels = PixelCurve(normalise=normalise)
        self.total: dict[str, float] = {}
        self.count: dict[str, int] = {}
        self.square = 0.0  # sum of the squared mask means
        self.all_masks = True
        self.unlabelled = unlabelled

    def update(self, batch: Batch, maps: Tensor, boxes: Tensor, logits: Tensor, sm: Tensor) -> dict[str, Tensor]:
        """Add a batch. Returns its values image by image, {column: (B,) float64 on the CPU}, NaN if unknown.

        Args:
            batch: its ground-truth boxes are clipped to the image; its labels are in the numbering of the logits.
            maps: (B, 1, H, W) in [0, 1].  boxes: (B, 4), the boxes predicted from them.
            logits: (B, C) of the explained classifier on the clean images; or, with the answers as labels, the question that
                each label poses (`maskerlib.methods.asking.posed`).
            sm: (B,) saliency metric.
        """
        size = (maps.shape[-2], maps.shape[-1])
        best, mean = f1(maps, batch.boxes)
        values = {
            "OM": official_metric(boxes, batch.boxes, logits, batch.labels, size=size),
            "LE": localisation_error(boxes, batch.boxes, size=size),
            "F1": best,
            "F1a": mean,
            "SM": sm,
            "top1": top1(logits, batch.labels),
            **mask_statistics(maps),
        }
        values = {name: value.cpu().double() for name, value in values.items()}
        for name, value in values.items():
            self.total[name] = self.total.get(name, 0.0) + float(value.nansum())
            self.count[name] = self.count.get(name, 0) + int((~value.isnan()).sum())
        self.square += float(values["mean"].square().sum())
        self.boxes.update(maps, batch.boxes)
        if batch.masks is None:
            self.all_masks = False
        else:
            self.pixels.update(maps, batch.masks)
        return values

    def result(self) -> dict[str, float]:
        """The values of the row; NaN where `missing` gives the reason."""
        missing = self.missing()
        values = {name: total / max(self.count[name], 1) for name, total in self.total.items()}
        spread = self.square - self.count["mean"] * values["mean"] ** 2
        values["std"] = math.sqrt(max(spread, 0.0) / max(self.count["mean"] - 1, 1))
        if "PxAP" not in missing:
            values["PxAP"] = self.pixels.pxap()
        if "MaxBoxAcc" not in missing:
            values["MaxBoxAcc"] = self.boxes.max_box_acc()
            values["MaxBoxAccV2"] = self.boxes.max_box_acc_v2()
        return {name: math.nan if name in missing else values[name] for name in COLUMNS}

    def le_sweep(self) -> list[float]:
        """LE at each threshold of the grid; empty without boxes."""
        return self.boxes.localisation_error().tolist() if self.boxes.images else []

    def describe(self) -> dict[str, object]:
        """What the values rest on: numbers of images, reasons for NaN, thresholds, normalisation, protocol."""
        images = self.count["mean"]
        return {
            "images": images,
            "images_with": {
                "label": self.count["top1"],
                "boxes": self.count["LE"],
                "mask": images if self.all_masks else 0,
            },
            "missing": self.missing(),
            "thresholds": [round(value, 6) for value in self.boxes.thresholds.tolist()],
            "pixel_bins": self.pixels.bins,
            "normalise": self.boxes.normalise,
            "protocol": self.boxes.protocol,
        }

    def missing(self) -> dict[str, str]:
        """{column: reason}, for the columns that the source cannot give."""
        reasons = {}
        unlabelled = self.unlabelled or "no image has a label"
        if not self.count["OM"]:
            both = "no image has both a label and a ground-truth box"
            reasons["OM"] = both if self.count["top1"] else unlabelled
        if not self.count["LE"]:
            columns = ("LE", "F1", "F1a", "MaxBoxAcc", "MaxBoxAccV2")
            reasons.update(dict.fromkeys(columns, "no image has a ground-truth box"))
        if not self.count["top1"]:
            reasons["top1"] = unlabelled
        if not self.count["SM"]:
            reasons["SM"] = "the evaluation classifier has none of the classes that are explained"
        if not self.all_masks:
            reasons["PxAP"] = "some images have no pixel mask, and PxAP pools the pixels of all"
        elif not self.pixels.foreground.any():
            reasons["PxAP"] = "no pixel mask has a foreground pixel"
        if self.count["mean"] < 2:
            reasons["std"] = "there is only one image"
        return reasons


def missing_of(tallies: Mapping[str, Tally]) -> dict[str, str]:
    """{column: reason}, for the columns that some row lacks; the rows are named where it is not the same for all of them."""
    missing = {name: tally.missing() for name, tally in tallies.items()}
    found: dict[str, str] = {}
    for column in COLUMNS:
        reasons = {name: own[column] for name, own in missing.items() if column in own}
        if len(reasons) == len(missing) and len(set(reasons.values())) == 1:
            found[column] = next(iter(reasons.values()))
        elif reasons:
            found[column] = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    return found
