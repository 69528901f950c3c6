"""Layer-CAM (Jiang et al., 2021): each cell of each channel weighted by its own gradient, relu(sum_k relu(dz / dA_k) A_k)."""

from torch import Tensor

from maskerlib.classifiers.doors import Method
from maskerlib.methods.cams import gradient_cam
from maskerlib.methods.entry import MethodEntry

__all__ = ["ENTRY", "layer_cam"]


def layer_cam(layer: str | None = None) -> Method:
    """Layer-CAM (Jiang et al., 2021, equations 6 to 8), for layers of every layout.

    The weights are not those of whole channels, so the map is also of use for early layers with fine cells, whose channels
    say little of a class as a whole. Behind a global mean, where the gradient is the same in all cells of a channel, it is
    Grad-CAM without the channels that speak against the class.

    layer, and what the method raises: as `maskerlib.methods.cams.gradient_cam`.
    """
    return gradient_cam("Layer-CAM", _weighed, layer)


def _weighed(maps: Tensor, slope: Tensor) -> Tensor:
    return (slope.relu() * maps).sum(dim=1, keepdim=True)


ENTRY = MethodEntry("layer-cam", "a layer's channels, weighted cell by cell", layer_cam, kind="gradient", backward=1)
