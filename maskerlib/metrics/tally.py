"""What is kept of one method while the images of a data set stream past: sums, counts and histograms.

Where several processes share a data set, each has the tally of its batches, and `Tally.pool` makes of them that of all. Counts
are whole numbers; sums are then kept batch by batch and added in the order of the batches, so that they are rounded as in one
process: two numbers a metric and batch.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from maskerlib.metrics.curves import BoxCurve, PixelCurve
from maskerlib.metrics.entry import Metric
from maskerlib.metrics.evidence import NEEDS, Evidence
from maskerlib.metrics.registry import METRICS, columns
from maskerlib.running.distributed import world

__all__ = ["Tally", "missing_of"]


class Tally:
    """One row of the table of `maskerlib.metrics.evaluation.evaluate`, in memory that does not grow with the images.

    Args:
        thresholds, normalise, protocol: of the metrics with a shared threshold grid, see `maskerlib.metrics.curves`.
        unlabelled: why no image has a label, for the case that none does.
        asked: {name: metric} of those on request (`maskerlib.metrics.registry.requested`).
    """

    def __init__(
        self,
        thresholds: Tensor | Sequence[float] | None,
        normalise: str,
        protocol: str = "maskerlib",
        unlabelled: str = "",
        asked: Mapping[str, Metric] | None = None,
    ) -> None:
        self.asked = dict(asked or {})
        self.refused = ""
        self.boxes = BoxCurve(thresholds, normalise=normalise, protocol=protocol)
        self.pixels = PixelCurve(normalise=normalise)
        self.images = 0
        self.has = dict.fromkeys(NEEDS, 0)  # images that have what a metric may need
        self.able = dict.fromkeys(self.metrics, 0)  # images that have all that it does need
        self.count = dict.fromkeys(self.metrics, 0)  # images with a value
        self.total = dict.fromkeys(self.metrics, 0.0)
        self.square = {name: 0.0 for name, metric in self.metrics.items() if metric.spread}  # sum of the squared values
        self.sums: list[dict[str, tuple[float, float]]] = []  # both for each batch, where processes share them
        self.lacking = {need: f"no image has {words}" for need, words in NEEDS.items()}
        self.lacking["label"] = unlabelled or self.lacking["label"]
        self.lacking["mask"] = "some images have no pixel mask"
        self.lacking["class"] = "the evaluation classifier has none of the classes that are explained"

    @property
    def metrics(self) -> dict[str, Metric]:
        """{name: metric} of all that give a number an image, those on request last."""
        return METRICS | self.asked

    def refuse(self, reason: str) -> None:
        """The method does not suit the classifier: every value is NaN, and images are only counted from here on."""
        self.refused = reason

    def update(self, seen: Evidence) -> dict[str, Tensor]:
        """Add a batch. Returns its values image by image, {column: (B,) float64 on the CPU}, NaN if unknown."""
        self.images += len(seen)
        for need, which in seen.has.items():
            self.has[need] += int(which.sum())
        if self.refused:
            return {name: torch.full((len(seen),), math.nan, dtype=torch.float64) for name in self.metrics}
        values, sums = {}, {}
        for name, metric in self.metrics.items():
            value = values[name] = metric(seen)
            self.able[name] += int(metric.able(seen).sum())
            self.count[name] += int((~value.isnan()).sum())
            sums[name] = float(value.nansum()), float(value.square().nansum()) if metric.spread else 0.0
        self._add(sums)
        if world() > 1:
            self.sums.append(sums)
        self.boxes.update(seen.maps, seen.boxes)
        if seen.masks is not None:
            self.pixels.update(seen.maps, seen.masks, seen.ignores)
        return values

    def state(self) -> dict[str, Any]:
        """All that was kept, as plain values and tensors on the CPU, for `pool`."""
        counts = [self.images, self.boxes.images, self.has, self.able, self.count]
        tensors = [*self.boxes.counts(), *self.pixels.counts()]
        return {"refused": self.refused, "counts": counts, "tensors": tensors, "sums": self.sums}

    def pool(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Become the tally of all that W processes kept, process r of the batches r, r + W, ..., in their order."""
        self.refused = next((state["refused"] for state in states if state["refused"]), "")
        images, boxed, *by_name = zip(*(state["counts"] for state in states), strict=True)
        self.images, self.boxes.images = sum(images), sum(boxed)
        self.has, self.able, self.count = (
            {name: sum(each[name] for each in every) for name in every[0]} for every in by_name
        )
        kept = [*self.boxes.counts(), *self.pixels.counts()]
        totals = [torch.stack(every).sum(dim=0) for every in zip(*(state["tensors"] for state in states), strict=True)]
        for tensor, total in zip(kept, totals, strict=True):
            tensor.copy_(total)
        rounds = zip_longest(*(state["sums"] for state in states))
        self.total, self.square = dict.fromkeys(self.total, 0.0), dict.fromkeys(self.square, 0.0)
        for sums in (sums for each in rounds for sums in each if sums is not None):
            self._add(sums)

    def _add(self, sums: Mapping[str, tuple[float, float]]) -> None:
        for name, (total, square) in sums.items():
            self.total[name] += total
            if name in self.square:
                self.square[name] += square

    @property
    def all_masks(self) -> bool:
        """Whether each image has a pixel mask."""
        return self.has["mask"] == self.images

    def result(self) -> dict[str, float]:
        """The values of the row; NaN where `missing` gives the reason, and everywhere for a method that was refused."""
        if self.refused:
            return dict.fromkeys(columns(self.asked), math.nan)
        missing = self.missing()
        values = {name: total / max(self.count[name], 1) for name, total in self.total.items()}
        for name, metric in self.metrics.items():
            if metric.spread:
                squares = self.square[name] - self.count[name] * values[name] ** 2
                values[metric.spread[0]] = math.sqrt(max(squares, 0.0) / max(self.count[name] - 1, 1))
        if "PxAP" not in missing:
            values["PxAP"] = self.pixels.pxap()
        if "MaxBoxAcc" not in missing:
            values["MaxBoxAcc"] = self.boxes.max_box_acc()
            values["MaxBoxAccV2"] = self.boxes.max_box_acc_v2()
        return {name: math.nan if name in missing else values[name] for name in columns(self.asked)}

    def le_sweep(self) -> list[float]:
        """LE at each threshold of the grid; empty without boxes, and for a method that was refused."""
        return self.boxes.localisation_error().tolist() if self.boxes.images and not self.refused else []

    def describe(self) -> dict[str, object]:
        """What the values rest on: numbers of images, reasons for NaN, thresholds, normalisation, protocol."""
        return {
            "images": self.images,
            "images_with": {
                "label": self.has["label"],
                "boxes": self.has["box"],
                "mask": self.images if self.all_masks else 0,
            },
            "missing": self.missing(),
            "thresholds": [round(value, 6) for value in self.boxes.thresholds.tolist()],
            "pixel_bins": self.pixels.bins,
            "normalise": self.boxes.normalise,
            "protocol": self.boxes.protocol,
        }

    def missing(self) -> dict[str, str]:
        """{column: reason}, for the columns that the source cannot give; of a method that was refused nothing is known."""
        reasons: dict[str, str] = {}
        if self.refused:
            return reasons
        for name, metric in self.metrics.items():
            if reason := self._reason(metric):
                reasons |= dict.fromkeys(metric.columns, reason)
            elif metric.spread and self.count[name] < 2:
                reasons[metric.spread[0]] = "there is only one image"
        if not self.has["box"]:
            reasons |= dict.fromkeys(("MaxBoxAcc", "MaxBoxAccV2"), self.lacking["box"])
        if not self.all_masks:
            reasons["PxAP"] = f"{self.lacking['mask']}, and PxAP pools the pixels of all"
        elif not self.pixels.foreground.any():
            reasons["PxAP"] = "no pixel mask has a foreground pixel"
        return reasons

    def _reason(self, metric: Metric) -> str:
        """Why there is no value of a metric, or "" where there is one."""
        if "mask" in metric.needs and not self.all_masks:
            return self.lacking["mask"]
        if self.count[metric.name]:
            return ""
        if self.able[metric.name]:
            return "it is undefined for every image"
        first, *others = metric.needs
        if not others or not self.has[first]:
            return self.lacking[first]
        return f"no image has both {' and '.join(NEEDS[need] for need in metric.needs)}"


def missing_of(tallies: Mapping[str, Tally]) -> dict[str, str]:
    """{column: reason}, for the columns that some row lacks; the rows are named where it is not the same for all of them.

    Methods that were refused have no say: what they lack is no fault of the images.
    """
    missing = {name: tally.missing() for name, tally in tallies.items() if not tally.refused}
    found: dict[str, str] = {}
    for column in columns(next(iter(tallies.values())).asked):
        reasons = {name: own[column] for name, own in missing.items() if column in own}
        if len(reasons) == len(missing) and len(set(reasons.values())) == 1:
            found[column] = next(iter(reasons.values()))
        elif reasons:
            found[column] = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    return found
