"""Grad-CAM++ (Chattopadhay et al., 2018): Grad-CAM whose weights count each cell that speaks for the class alike.

relu(sum_k w_k A_k) with w_k = sum_ij alpha_kij relu(g_kij), g = dz / dA_k, alpha_kij = g^2 / (2 g^2 + g^3 sum_ab A_kab).
"""

import torch
from torch import Tensor

from maskerlib.classifiers.doors import Method
from maskerlib.methods.cams import gradient_cam
from maskerlib.methods.entry import MethodEntry

__all__ = ["ENTRY", "grad_cam_plus_plus"]


def grad_cam_plus_plus(layer: str | None = None) -> Method:
    """Grad-CAM++ (Chattopadhay et al., 2018, equations 5, 6 and 19), for layers of every layout.

    Where Grad-CAM takes the mean gradient of a channel, so that a channel with one large patch outweighs one with three small
    ones, here each cell has a weight alpha of its own. The paper takes exp(z) for the score, whose second and third
    derivatives are powers of the gradient where the network behind the layer is piecewise linear; its factor exp(z) is the same
    for all channels and goes with the stretch. On other networks the formula is used as it stands, as is common.

    The sum over A is meant for channels that are 0 or more, as behind a ReLU. On a layer with negative activations alpha may be
    of any size and sign; a cell where the denominator is 0 has no weight.

    layer, and what the method raises: as `maskerlib.methods.cams.gradient_cam`.
    """
    return gradient_cam("Grad-CAM++", _weighed, layer)


def _weighed(maps: Tensor, slope: Tensor) -> Tensor:
    # alpha g = g / (2 + g sum A): the squares of small gradients would vanish in float32.
    below = 2 + slope * maps.sum(dim=(2, 3), keepdim=True)
    weights = torch.where(below == 0, 0, slope.relu() / below).sum(dim=(2, 3), keepdim=True)
    return (weights * maps).sum(dim=1, keepdim=True)


ENTRY = MethodEntry(
    "grad-cam-plus-plus",
    "Grad-CAM with a weight for each cell",
    grad_cam_plus_plus,
    kind="gradient",
    backward=1,
)
