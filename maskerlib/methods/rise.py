"""RISE (Petsiuk, Das and Saenko, 2018): a pixel's saliency is the mean score of the random masks that show it.

    S_c = 1 / (N p) sum_i f_c(x_i) M_i,    x_i = M_i x + (1 - M_i) z

M_i are N random masks that keep a share p, f_c is the probability of class c, and z the colour that hides. Nothing but scores
is asked of the classifier, and every class has its map from the same passes. Where the N masks happen to show a pixel more
often, S is larger whatever the scores are, as every score counts in full; with f_c - mean f_c in place of f_c (`centred`) only
that counts by which a mask does better than the others, and fewer masks are enough.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from maskerlib.classifiers.classifier import Classifier, frozen
from maskerlib.classifiers.doors import Targets, as_targets, check_images
from maskerlib.masking.masks import masked_in, stretched
from maskerlib.methods.attributions import admitted
from maskerlib.methods.entry import MethodEntry
from maskerlib.running.checks import LARGEST_BATCH, SEED, between, check_fields, whole
from maskerlib.running.precision import single
from maskerlib.running.seeds import stream

__all__ = ["ENTRY", "Rise", "grown", "random_masks"]


def random_masks(
    numbers: Iterable[int], size: tuple[int, int], *, cells: int = 7, keep: float = 0.5, seed: int = 0
) -> Tensor:
    """The masks of these numbers, (K, 1, H, W) float32 in [0, 1], on the CPU: each depends on the seed and its number alone.

    So no mask has to be kept: whoever needs number 1234 again draws it again.

    Args:
        numbers: which masks.  size: (H, W).
        cells: cells of a mask's grid along the shorter side, the other in proportion.
        keep: p, the probability of a cell to be shown.  seed: of what is drawn.

    >>> first, second = random_masks([3, 4], (8, 8), cells=2)
    >>> torch.equal(second, random_masks([4], (8, 8), cells=2)[0])
    True
    """
    rows, columns = (round(cells * side / min(size)) for side in size)
    draws = torch.stack([torch.rand(rows * columns + 2, generator=stream(seed, "rise", number)) for number in numbers])
    cell = torch.tensor([math.ceil(size[0] / rows), math.ceil(size[1] / columns)])
    grids = (draws[:, 2:] < keep).float().view(-1, rows, columns)
    return grown(grids, (draws[:, :2] * cell).long(), size)


def grown(grids: Tensor, shifts: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks (K, 1, H, W) from their cells (K, rows, columns), one at each cell's place and linear between (section 3.2).

    A grid is upsampled to one cell more than the image has along each side, and cut to the image with its corner at
    `shifts`, so that no pixel always lies at the edge of a cell. Both is one product, R G C^T, of the grid with the weights of
    its rows and columns at each pixel: all masks in one operation, several times as fast as one after the other.

    shifts: (K, 2) int64, rows and columns, from 0 to below the size of a cell, ceil(H / rows) and ceil(W / columns) pixels.

    >>> grown(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[0, 1]]), (1, 4))[0, 0]
    tensor([[1.0000, 0.6667, 0.3333, 0.0000]])
    """
    weights = []
    for cells, side, shift in zip(grids.shape[1:], size, shifts.T, strict=True):
        length = (cells + 1) * math.ceil(side / cells)
        table = F.interpolate(torch.eye(cells)[None], size=length, mode="linear", align_corners=False)[0].T
        weights.append(table[shift[:, None] + torch.arange(side)])
    rows, columns = weights
    return (rows @ grids @ columns.transpose(1, 2))[:, None]


@dataclass(frozen=True)
class Rise:
    """RISE as a saliency method, method(images, targets, classifier) -> (B, 1, H, W) in [0, 1]; `maps` gives S itself.

    Each map is stretched to reach 0 and 1, as S has no scale of its own: where nothing matters it is the mean of f_c. All
    images see the same masks, so an image has one map in every batch, order and run. Memory is that of one batch, whatever N.
    The error of a map falls as 1 / sqrt(N). On two cores 4000 masks take EfficientNet-Lite0 one to two minutes at 224 pixels.

    masks: N, one pass each. TorchRay takes 8000: twice the seconds for 0.7 times the error.
    cells: of a mask's grid along the shorter side, the other in proportion. 7 and keep = 0.5 are TorchRay's; the authors'
        demonstration has 8 and 0.1.
    keep: p, the probability of a cell to be shown, between 0 and 1.
    centred: subtract the mean score of all masks from each. S then estimates the covariance of score and mask, cov(f_c, M) / p,
        and is about 0 where a pixel does not matter.
    seed: of the masks.
    batch_size: masked images in one pass at most. On a CPU 8 is fastest at 224 pixels, 32 at 96.
    progress: show a bar.

    Raises ValueError for an option that is none and, when called, for images or targets that do not suit the classifier.
    """

    masks: int = 4000
    cells: int = 7
    keep: float = 0.5
    centred: bool = False
    seed: int = 0
    batch_size: int = 16
    progress: bool = False

    def __post_init__(self) -> None:
        share = between(0, 1, open_below=True, open_above=True)
        check_fields(self, masks=whole(1), cells=whole(1), keep=share, seed=SEED, batch_size=whole(1, LARGEST_BATCH))

    def __call__(self, images: Tensor, targets: Targets, classifier: Classifier) -> Tensor:
        explain = admitted(lambda images, targets, classifier: self._estimate(images, targets[:, None], classifier))
        return stretched(explain(images, targets, classifier))

    def maps(self, images: Tensor, classes: Sequence[int | str] | None, classifier: Classifier) -> Tensor:
        """S of K classes of each image from one set of passes: (B, K, H, W), float32 or, for images that are, float64.

        Args:
            images: (B, channels, H, W) in [0, 1].
            classes: K numbers or names, the same for all images; None for all classes, in order.
            classifier: left as it was.

        Raises ValueError for images or classes that do not suit the classifier.
        """
        check_images(images, classifier)
        every = torch.zeros(1, classifier.class_count())
        asked = range(every.shape[1]) if classes is None else classes
        numbers = torch.cat([as_targets(each, every, classifier) for each in asked]).to(images.device)
        return self._estimate(images, numbers.expand(len(images), -1), classifier)

    @torch.no_grad()
    def _estimate(self, images: Tensor, classes: Tensor, classifier: Classifier) -> Tensor:
        """S of the classes (B, K); no more than `batch_size` masks are there at a time."""
        images = single(images).contiguous(memory_format=classifier.memory_format)
        height, width = images.shape[-2:]
        hidden = classifier.mean.to(images)
        totals = images.new_zeros(*classes.shape, height * width)
        scores, shown = totals.new_zeros(classes.shape), totals.new_zeros(height * width)
        bar = tqdm(total=self.masks * len(images), desc="RISE", disable=not self.progress, leave=False)
        with frozen(classifier), bar:
            for first in range(0, self.masks, self.batch_size):
                numbers = range(first, min(first + self.batch_size, self.masks))
                masks = random_masks(numbers, (height, width), cells=self.cells, keep=self.keep, seed=self.seed)
                masks = masks.to(images)
                shown += masks.flatten(1).sum(dim=0)
                for image, chosen, total, score in zip(images.split(1), classes, totals, scores, strict=True):
                    views = masked_in(image, masks, hidden)
                    logits = classifier(views)
                    p = logits.sigmoid() if classifier.head == "sigmoid" else logits.softmax(dim=1)
                    p = p[:, chosen].to(total)
                    total.addmm_(p.T, masks.flatten(1))
                    score += p.sum(dim=0)
                    bar.update(len(views))
        if self.centred:
            totals -= scores[..., None] / self.masks * shown
        return (totals / (self.masks * self.keep)).view(*classes.shape, height, width)


ENTRY = MethodEntry(
    "rise",
    "the mean score of the random masks that show a pixel",
    Rise,
    kind="perturbation",
    stochastic=True,
    forward=lambda options, size: options["masks"] + 1,
    quick={"masks": 60},
    moderate={"masks": 300, "centred": True},
)
