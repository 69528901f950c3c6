"""A planted shortcut: a small striped mark in each scene whose colours give the class away.

A classifier that is trained on marked scenes may read the mark instead of the object (Geirhos et al., 2020). Here the mark's
place is known to the pixel, so it can be measured whether a saliency map shows it.

    scenes = Scenes("val")
    Marked(scenes)                                    every scene bears the mark of its own class
    Marked(scenes, carries="other")                   ... of another class: what does a classifier believe?
    Marked(scenes, carries="random")                  ... of a random class: there is a mark, but it tells nothing
    Marked(scenes, carries="random", answer="mark")   ... and it is the mark that the label names: the object tells nothing
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from maskerlib.data.boxes import mask_box
from maskerlib.data.indices import as_indices, check_index
from maskerlib.data.samples import Batch, Sample, Source, batches
from maskerlib.running.checks import between, check_value, one_of, whole
from maskerlib.running.seeds import stream

__all__ = ["ANSWERS", "CARRIES", "Marked", "draw_mark", "mask_by_region"]

CARRIES = ("label", "other", "random")
"""Which class a mark may stand for: the object's, always another one, or one drawn without looking at the object."""

ANSWERS = ("object", "mark")
"""What the label of a marked scene may name."""

_FIRST = ((0.9, 0.1, 0.1), (0.1, 0.8, 0.1), (0.1, 0.2, 0.9), (0.95, 0.85, 0.1))  # red, green, blue, yellow
_SECOND = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (0.9, 0.1, 0.9), (0.1, 0.9, 0.9))  # black, white, magenta, cyan


def draw_mark(label: int, side: int = 16) -> Tensor:
    """The mark of class `label`: horizontal stripes in two colours, two pixels high each, (3, side, side) in [0, 1].

    The class is the pair of colours: four times four makes sixteen. The mark is its own mirror image, so that flipping a
    scene does not change what it says. Raises ValueError for a label that has no mark, or side < 4.
    """
    count = len(_FIRST) * len(_SECOND)
    if not 0 <= label < count:
        raise ValueError(f"label {label} has no mark; there are {count}, for labels 0 to {count - 1}")
    check_value("side", side, whole(4))  # two stripes
    first, second = divmod(label, len(_SECOND))
    row = torch.arange(side)[:, None] // 2 % 2
    stripes = torch.tensor([_SECOND[second], _FIRST[first]])[row.expand(side, side)]
    return stripes.permute(2, 0, 1).contiguous()


class Marked(Source):
    """A source of scenes with a mark in each, or in some of them. Everything else stays as it is.

    Args:
        scenes: a labelled source with a pixel mask for every image, such as `Scenes` or a `Subset` of them.
        probability: chance that an image bears a mark, in [0, 1].
        carries: which class the mark stands for, one of `CARRIES`.
        answer: what the label of a marked image names, one of `ANSWERS`; an image without a mark keeps its label.
        side: pixels per side of the mark.
        margin: pixels that the mark keeps from the object where the image has such a place.
        seed: of which images bear a mark, where, and of which class. Image i does not depend on how many there are.

    The place is drawn evenly from those where no pixel of the object comes closer than `margin`; where the object leaves no
    such place, from those where the fewest do. What a mark covers is not the object's any more: the pixel mask and the box
    of a sample are those of the part that is left.

    Attributes beside those of every `Source`: mark_boxes (N, 4) float32, pixels, half-open, zeros without a mark;
    mark_labels (N,) int64, the class that the mark stands for, -1 without one.

    Raises ValueError for unlabelled images, images without masks, more classes than marks, or an argument out of range.
    """

    def __init__(
        self,
        scenes: Source,
        *,
        probability: float = 1.0,
        carries: str = "label",
        answer: str = "object",
        side: int = 16,
        margin: int = 4,
        seed: int = 0,
    ) -> None:
        check_value("probability", probability, between(0, 1))
        check_value("carries", carries, one_of(CARRIES))
        check_value("answer", answer, one_of(ANSWERS))
        check_value("side", side, whole(4, min(scenes.size)))
        check_value("margin", margin, whole(0))
        if not scenes.class_names or bool((scenes.labels < 0).any()):
            raise ValueError("a mark stands for a class, so every image needs a label; give a labelled source")
        self.scenes, self.side = scenes, side
        self.class_names, self.size = scenes.class_names, scenes.size
        classes = len(scenes.class_names)
        self._marks = torch.stack([draw_mark(label, side) for label in range(classes)])
        draws = [torch.rand(3, generator=stream(seed, "mark", index)) for index in range(len(scenes))]
        bears, which, where = torch.stack(draws).T
        drawn = {
            "label": scenes.labels,
            "other": (scenes.labels + 1 + (which * (classes - 1)).long()) % classes,
            "random": (which * classes).long(),
        }[carries]
        self.mark_labels = torch.where(bears < probability, drawn, -1)
        named = (self.mark_labels >= 0) & (answer == "mark")
        self.labels = torch.where(named, self.mark_labels, scenes.labels)
        places, start = [], 0
        for batch in batches(scenes, 250):
            if batch.masks is None:
                raise ValueError("a mark must know where the object is; give a source with a pixel mask for every image")
            places.append(_places(batch.masks, side, margin, where[start : start + len(batch)]))
            start += len(batch)
        corners = torch.cat(places)
        self.mark_boxes = torch.cat([corners, corners + side], dim=1).float()
        self.mark_boxes[self.mark_labels < 0] = 0

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> Sample:
        batch = self.batch([check_index(index, len(self))])
        mask = None if batch.masks is None else batch.masks[0]
        return Sample(batch.images[0], int(batch.labels[0]), batch.boxes[0], mask, batch.names[0])

    def batch(self, indices: Sequence[int] | Tensor) -> Batch:
        """The marked images at `indices`, gathered at once."""
        rows = as_indices(indices, len(self))
        batch = self.scenes.batch(rows)
        assert batch.masks is not None  # each image was found to have one at the start
        images, masks, boxes = batch.images.clone(), batch.masks.clone(), list(batch.boxes)
        for at, row in enumerate(rows):
            if self.mark_labels[row] < 0:
                continue
            x0, y0, x1, y1 = self.mark_boxes[row].int().tolist()
            images[at, :, y0:y1, x0:x1] = self._marks[self.mark_labels[row]]
            if masks[at, y0:y1, x0:x1].any():
                masks[at, y0:y1, x0:x1] = False
                boxes[at] = mask_box(masks[at])
        return Batch(images, self.labels[rows], tuple(boxes), masks, batch.names)

    def mark_masks(self, indices: Sequence[int] | Tensor) -> Tensor:
        """(B, H, W) bool: the pixels of the mark of each image at `indices`; none where there is no mark."""
        rows = as_indices(indices, len(self))
        masks = torch.zeros(len(rows), *self.size, dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(masks, self.mark_boxes[rows].int().tolist(), strict=True):
            mask[y0:y1, x0:x1] = True
        return masks


def _places(objects: Tensor, side: int, margin: int, draws: Tensor) -> Tensor:
    """(B, 2) int64: x, y of each mark's upper left corner, drawn evenly among the best places by `draws` (B,) in [0, 1)."""
    window = side + 2 * margin
    padded = F.pad(objects.int(), [margin + 1, margin] * 2)  # a row and a column more, of zeros, that the sums start from
    sums = padded.cumsum(dim=1, dtype=torch.int32).cumsum(dim=2, dtype=torch.int32)
    rows = sums[:, window:] - sums[:, :-window]
    near = rows[:, :, window:] - rows[:, :, :-window]  # object pixels in the window around each place
    best = (near == near.amin(dim=(1, 2), keepdim=True)).flatten(1)
    count = best.sum(dim=1)
    wanted = (draws * count).long().clamp(max=count - 1) + 1  # the n-th of the best places, in reading order
    place = (best.cumsum(dim=1) == wanted[:, None]).int().argmax(dim=1)
    return torch.stack([place % near.shape[2], place // near.shape[2]], dim=1)


def mask_by_region(masks: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
    """How much of a saliency mask lies in a region: its mean value there, and the share of its sum.

    Args:
        masks: (B, 1, H, W) in [0, 1].
        regions: (B, H, W) bool.

    Returns:
        value (B,) in [0, 1]: the mean of the mask over the region's pixels; NaN for an empty region.
        share (B,) in [0, 1]: its sum over the region divided by its sum over the image; NaN for an empty mask.
    """
    inside = (masks[:, 0] * regions).sum(dim=(1, 2))
    pixels, total = regions.sum(dim=(1, 2)), masks.sum(dim=(1, 2, 3))
    return (inside / pixels).where(pixels > 0, torch.nan), (inside / total).where(total > 0, torch.nan)
