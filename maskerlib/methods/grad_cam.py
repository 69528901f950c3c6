"""Grad-CAM (Selvaraju et al., 2017): which cells of a layer speak for a class.

The channels A_k of a layer, each weighted by the mean gradient of the class's logit: relu(sum_k mean(dz / dA_k) A_k).
"""

from torch import Tensor

from maskerlib.classifiers.doors import Method
from maskerlib.methods.cams import gradient_cam
from maskerlib.methods.entry import MethodEntry

__all__ = ["ENTRY", "grad_cam"]


def grad_cam(layer: str | None = None) -> Method:
    """Grad-CAM (Selvaraju et al., 2017), for layers of every layout that `maskerlib.classifiers.layouts` knows.

    The channels of a layer are summed, each weighted by the mean gradient of the target's logit with respect
    to it; then ReLU, bilinear upsampling to the image, and each map stretched to reach 0 and 1 (a map of
    zeros stays zero).

    layer, and what the method raises: as `maskerlib.methods.cams.gradient_cam`.
    """
    return gradient_cam("Grad-CAM", _weighed, layer)


def _weighed(maps: Tensor, slope: Tensor) -> Tensor:
    return (slope.mean(dim=(2, 3), keepdim=True) * maps).sum(dim=1, keepdim=True)


ENTRY = MethodEntry("grad-cam", "Grad-CAM of the last layer named", grad_cam, kind="gradient", backward=1)
