"""Meaningful perturbation (Fong and Vedaldi, 2017): the smallest smooth mask whose blurring makes the class improbable.

    m = argmin over m of  p_y(x with m blurred) + lambda_1 |m|_1 + lambda_2 sum |grad m|^beta        (their equation 5)

It is `maskerlib.methods.optimise.optimise_mask` with the objective and the options below: the deletion game alone, the
probability itself in the place of its logarithm, a price of every pixel, and a blur to hide them.
"""

from typing import Any

from torch import Tensor

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.doors import Method, Targets
from maskerlib.masking.infills import blur
from maskerlib.masking.objectives import Objective
from maskerlib.methods.entry import MethodEntry
from maskerlib.methods.optimise import mask_method
from maskerlib.running.registry import with_options_of

__all__ = ["ENTRY", "OPTIONS", "deletion_game", "meaningful_perturbation"]

OPTIONS: dict[str, Any] = {
    "infill": blur(10.0),
    "grid": 28,
    "steps": 300,
    "lr": 0.1,
    "shift": 2 / 224,
    "noise": 0.0,
    "start": -2.0,
}
"""The authors' blur, grid, steps, rate and jitter (from 0 to 3 pixels there, from -2 to 2 here).

Ours are the start, 12 % of everything, where they begin with the smallest disc in the middle that hides the class; a sigmoid
for a mask in [0, 1], where they cut off; and a rate that falls along a cosine. The B-spline that draws the mask is as wide as
their Gaussian of 5 pixels.
"""


def deletion_game(side: int) -> Objective:
    """The authors' objective, lambda_1 = 1e-4, lambda_2 = 1e-2 and beta = 3, for images whose shorter side is `side` pixels.

    They take it over the 28 x 28 numbers of a mask. Here it is of the mask that is drawn of these: the size is a mean, and a step
    from cell to cell is s = side / 28 steps of 1 / s in each of s rows, 1 / s of the cube of one, in units of 224 pixels
    (`maskerlib.masking.masks.total_variation`), and half of that is taken. There is no price of the border.

    >>> deletion_game(224).tv, deletion_game(224).size
    (0.16, 0.0784)
    """
    tv = 2 * 1e-2 * (side / 28) * (side / 224)
    return Objective(None, "min_prob", size_out=0.0, size=28 * 28 * 1e-4, tv=tv, tv_power=3.0, tv_border=0.0)


@with_options_of(mask_method, **OPTIONS)
def meaningful_perturbation(
    *, objective: Objective | None = None, seed: int = 0, progress: bool = False, **options: Any
) -> Method:
    """`optimise_mask` as the authors would call it: (images, targets, classifier) -> masks (B, 1, H, W) in [0, 1].

    Args:
        objective: None for `deletion_game`.
        seed, progress, **options: as in `optimise_mask`, where `OPTIONS` says nothing else.

    Raises ValueError for an option that it does not have, or a value that makes no sense.
    """
    given = OPTIONS | options
    mask_method(**given)  # it checks them

    def method(images: Tensor, targets: Targets, classifier: Classifier) -> Tensor:
        asked = objective or deletion_game(min(images.shape[-2:]))
        return mask_method(objective=asked, seed=seed, progress=progress, **given)(images, targets, classifier)

    return method


ENTRY = MethodEntry(
    "meaningful-perturbation",
    "the smallest blur that hides the class",
    meaningful_perturbation,
    kind="per-image mask",
    stochastic=True,
    forward=lambda options, size: int(options["steps"]) + 4,
    backward=lambda options, size: int(options["steps"]),
    quick={"steps": 5, "shift": 0.1, "lr": 0.02},
    moderate={"steps": 80, "lr": 0.4},
)
