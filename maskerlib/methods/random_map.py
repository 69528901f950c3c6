"""Noise, m ~ U(0, 1) at every pixel, whatever the image: the value of a metric when the map knows nothing."""

import zlib

import torch
from torch import Tensor
from torch.nn import functional as F

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.doors import Method, Targets, check_images
from maskerlib.methods.entry import MethodEntry

__all__ = ["ENTRY", "random_map"]


def random_map(seed: int = 0, *, smooth: bool = False) -> Method:
    """Uniform noise in [0, 1]: the value of a metric when the map knows nothing.

    The noise depends on the seed and the image alone: an image has one map, in every batch, order and run.

    smooth: draw 6 x 6 values and interpolate bilinearly: blobs as large as objects, not one value a pixel.
    """

    def method(images: Tensor, targets: Targets, classifier: Classifier) -> Tensor:
        check_images(images, classifier)
        height, width = images.shape[-2:]
        grid = (6, 6) if smooth else (height, width)
        maps = []
        for image in images.detach().float().cpu():
            generator = torch.Generator().manual_seed(zlib.crc32(image.contiguous().numpy(), seed))
            maps.append(torch.rand(1, 1, *grid, generator=generator))
        saliency = torch.cat(maps)
        if smooth:
            saliency = F.interpolate(saliency, size=(height, width), mode="bilinear", align_corners=False)
        return saliency.to(images.device)

    return method


ENTRY = MethodEntry("random", "noise, whatever the photo", random_map, kind="baseline", stochastic=True, forward=0)
