"""What a metric may look at: a batch of images, the maps that one method drew of them, the truth, and who can be asked."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from maskerlib.classifiers.classifier import Classifier
from maskerlib.data.boxes import pad_boxes
from maskerlib.metrics.boxes import predicted_boxes
from maskerlib.metrics.per_image import f1, mask_statistics

__all__ = ["NEEDS", "Evidence"]

NEEDS: Mapping[str, str] = {
    "label": "a label",
    "box": "a ground-truth box",
    "mask": "a pixel mask",
    "class": "a class that the evaluation classifier has",
}
"""What an image may lack, and how it is called in reasons."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """B images with one method's maps of them, as `maskerlib.metrics.evaluation.evaluate` shows them to every metric.

    images: (B, channels, H, W) in [0, 1].  maps: (B, 1, H, W) float32 in [0, 1]. Both on the device of `classifier`.
    boxes: B tensors (K_i, 4), ground truth; parts outside the image do not count (`size`).
    masks: (B, H, W) bool, True on the object; None as soon as one image of the batch has none.
    question, answers: (B, C) logits of the explained classifier on the whole images, as the question that each label poses, and
        (B,) int64, the answer that the label gives, -1 where there is none (`maskerlib.methods.asking.posed`).
    classes: (B,) int64, the class to ask `classifier` about, in its own numbering; -1 for one that it does not have.
    classifier: the evaluation classifier, the same for all methods, in eval mode.
    ignores: (B, H, W) bool, True where pixels do not count against the masks; None where all do.
    resize: how a crop is brought to its input size, one of `maskerlib.metrics.per_image.RESIZES`.
    precision: in which it runs, see `maskerlib.running.precision.autocast`.

    What several metrics look at is computed when the first one asks.
    """

    images: Tensor
    maps: Tensor
    boxes: tuple[Tensor, ...]
    masks: Tensor | None
    question: Tensor
    answers: Tensor
    classes: Tensor
    classifier: Classifier
    ignores: Tensor | None = None
    resize: str = "antialias"
    precision: str = "fp32"

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.maps.shape[-2], self.maps.shape[-1]

    @cached_property
    def predicted(self) -> Tensor:
        """(B, 4): the box that LE, OM and SM see (`maskerlib.metrics.boxes.predicted_boxes`)."""
        return predicted_boxes(self.maps)

    @cached_property
    def f1(self) -> tuple[Tensor, Tensor]:
        """F1 and F1a, (B,) each (`maskerlib.metrics.per_image.f1`)."""
        return f1(self.maps, self.boxes)

    @cached_property
    def statistics(self) -> Mapping[str, Tensor]:
        """What the maps are like (`maskerlib.metrics.per_image.mask_statistics`)."""
        return mask_statistics(self.maps)

    @cached_property
    def _found(self) -> dict[Hashable, Tensor]:
        return {}

    def once(self, key: Hashable, compute: Callable[[], Tensor]) -> Tensor:
        """What `compute` gives, computed when the first metric asks for `key`: for what is dear, and depends on options."""
        if key not in self._found:
            self._found[key] = compute()
        return self._found[key]

    @cached_property
    def has(self) -> Mapping[str, Tensor]:
        """{need: (B,) bool, which images have it}, on the CPU, for each of `NEEDS`."""
        real = pad_boxes(self.boxes, size=self.size)[1]
        return {
            "label": (self.answers >= 0).cpu(),
            "box": real.any(dim=1),
            "mask": torch.full((len(self),), self.masks is not None),
            "class": (self.classes >= 0).cpu(),
        }
