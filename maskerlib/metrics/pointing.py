"""The pointing game (Zhang et al., 2018): does the highest value of a map lie on the object?"""

import torch
from torch import Tensor
from torch.nn import functional as F

from maskerlib.masking.masks import check_masks
from maskerlib.metrics.entry import Metric
from maskerlib.metrics.truth import truth_map
from maskerlib.running.checks import between, check_value
from maskerlib.running.precision import single

__all__ = ["TOLERANCE", "pointing", "pointing_game"]

TOLERANCE = 15 / 224
"""The published 15 pixels, as a share of the side of the images that they were counted in."""


def pointing_game(maps: Tensor, truth: Tensor, tolerance: float = TOLERANCE) -> Tensor:
    """1 where the highest value of the map is a hit, else 0: (B,), higher is better.

    It hits on an object pixel, or less than `tolerance` away from one, centre to centre. Where several pixels share the highest
    value (a binarised map, a constant one), the share of them that hit: what a random choice among them has in the mean.

    Args:
        maps: (B, 1, H, W) in [0, 1].  truth: (B, 1, H, W) bool, True on the object.
        tolerance: share of the shorter side of the image, in [0, 1].

    >>> left = torch.tensor([[[[True, False, False, False]]]])
    >>> pointing_game(torch.tensor([[[[0.0, 1.0, 0.0, 1.0]]]]), left, tolerance=0)
    tensor([0.])

    Raises ValueError for maps that are not in [0, 1], or another tolerance.
    """
    check_masks(maps)
    check_value("tolerance", tolerance, between(0, 1))
    values, reach = single(maps), tolerance * min(maps.shape[-2:])
    away = torch.arange(-int(reach), int(reach) + 1, device=maps.device)
    disc = (away[:, None] ** 2 + away**2 < reach**2) | (away[:, None] == 0) & (away == 0)
    near = F.conv2d(truth.to(values), disc.to(values)[None, None], padding=int(reach)) > 0.5
    peaks = values == values.amax(dim=(2, 3), keepdim=True)
    return (peaks & near).sum(dim=(1, 2, 3)) / peaks.sum(dim=(1, 2, 3))


def pointing(tolerance: float = TOLERANCE, *, name: str = "pointing") -> Metric:
    """The pointing game as a column on request, `evaluate(..., metrics=("pointing",))`; it costs no pass.

    The object is the pixel mask, as COCO's protocol has it, or where a batch has images without one the union of the boxes, as
    VOC's has. What is reported is the mean over images, in [0, 1], higher is better; the published tables average within each
    class first, which is the same where all classes have as many images.

    Raises ValueError for a tolerance outside [0, 1].
    """
    check_value("tolerance", tolerance, between(0, 1))
    return Metric(
        name,
        "higher is better",
        lambda seen: pointing_game(seen.maps, truth_map(seen.masks, seen.boxes, seen.size) >= 0.5, tolerance),
        "1 where the map's highest value lies on the object or near it",
        "Zhang et al. (2018), pointing game",
        needs=("box",),
        rests_on={"tolerance": tolerance, "passes": 0},
    )
