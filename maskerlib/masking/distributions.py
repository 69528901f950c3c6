"""From the masker's logits to a mask in training and at evaluation: the plain sigmoid, or a sample of a binary variable.

A binary concrete (Gumbel-Softmax) mask treats each cell as a coin with the logit's odds, and draws it in a way that has a
gradient (Maddison et al., 2017; Jang et al., 2017; Phang et al., section 5): logistic noise is added to the logit, and the
sum divided by a temperature, before the sigmoid. The lower the temperature, the closer the draws are to 0 and 1.

Where an image is cut into `regions` (`maskerlib.masking.segments`), each of them is one cell, whatever its shape: its logit is
the mean of the logits of its pixels, and its mask one number.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from maskerlib.masking.masks import mask_from_logits
from maskerlib.masking.segments import region_means, spread
from maskerlib.running.checks import above, check_value, one_of
from maskerlib.running.seeds import for_each

__all__ = ["MASKS", "decided_mask", "sampled_mask"]

MASKS = ("sigmoid", "gumbel", "gumbel_hard")
"""How a mask comes out of logits: no noise; a soft sample; a sample of 0 and 1 with the gradient of the soft one."""


def sampled_mask(
    logits: Tensor,
    size: tuple[int, int],
    kind: str = "sigmoid",
    *,
    temperature: float = 0.1,
    regions: Tensor | None = None,
) -> Tensor:
    """A mask (B, 1, H, W) for training, from logits (B, 1, h, w). The noise is drawn for each cell, then upsampled.

    Args:
        kind: one of `MASKS`. "gumbel_hard" passes 0 and 1 forward and the gradient of the soft sample backward.
        temperature: above 0; "sigmoid" has none. The release takes 0.1.
        regions: (B, H, W) int64, on which the mask is constant; None for the cells of the grid.

    The draws are those of torch's global generator, which a training run seeds at every step. Raises ValueError for
    another kind or temperature.
    """
    _check(kind, temperature)
    cells = _cells(logits, size, regions)
    if kind == "sigmoid":
        return _mask(cells, size, regions)
    uniform = for_each(torch.rand_like, cells).clamp(1e-6, 1 - 1e-6)
    soft = _mask((cells + uniform.logit()) / temperature, size, regions)
    return (soft > 0.5).to(soft) + (soft - soft.detach()) if kind == "gumbel_hard" else soft


def decided_mask(
    logits: Tensor, size: tuple[int, int], kind: str = "sigmoid", *, regions: Tensor | None = None
) -> Tensor:
    """The mask (B, 1, H, W) for evaluation, without noise: the sigmoid, or, for the sampled kinds, 1 where a logit is above 0.

    `regions` as in `sampled_mask`.

    Raises ValueError for a kind that is none of `MASKS`.

    >>> logits = torch.tensor([[[[-3.0, 3.0]]]])
    >>> decided_mask(logits, (1, 2)), decided_mask(logits, (1, 2), "gumbel")
    (tensor([[[[0.0474, 0.9526]]]]), tensor([[[[0., 1.]]]]))
    """
    _check(kind)
    mask = _mask(_cells(logits, size, regions), size, regions)
    return mask if kind == "sigmoid" else (mask > 0.5).to(mask)


def _cells(logits: Tensor, size: tuple[int, int], regions: Tensor | None) -> Tensor:
    """The logits of what has one number each: those of the grid as they are, or of each region, (B, 1, 1, K)."""
    if regions is None:
        return logits
    return region_means(F.interpolate(logits, size=size, mode="nearest"), regions)[:, None, None]


def _mask(cells: Tensor, size: tuple[int, int], regions: Tensor | None) -> Tensor:
    return mask_from_logits(cells, size) if regions is None else spread(cells.sigmoid()[:, 0, 0], regions)


def _check(kind: str, temperature: float = 1.0) -> None:
    check_value("mask", kind, one_of(MASKS))
    check_value("temperature", temperature, above(0))
