"""Superpixels: an image cut into regions of like colour by SLIC (Achanta et al., 2012), and one number for each of them.

A region map is (B, H, W) int64: pixel by pixel the number of the region that it lies in, counted from 0 in each image.
"""

import torch
from torch import Tensor

from maskerlib.classifiers.doors import check_images
from maskerlib.running.checks import above, check_value, whole

__all__ = ["LARGEST_COUNT", "region_means", "segments", "spread"]

LARGEST_COUNT = 2**16
"""More regions than an image is cut into."""


def segments(images: Tensor, *, count: int = 50, compactness: float = 10.0) -> Tensor:
    """The superpixels of images (B, channels, H, W) in [0, 1]: (B, H, W) int64, on their device.

    Each region is connected; SLIC starts from a grid of about `count` squares and joins what is left over, so that there are
    about so many, and never more than pixels. Nothing is drawn at random: an image has one map in every batch.

    Args:
        count: regions wanted of each image, 1 or more. Their size so is a share of the image, whatever its pixels.
        compactness: what a distance of one cell of that grid weighs against a distance in colour, in units of Lab (0 to 100 from
            black to white); the larger, the squarer. 10 is scikit-image's. Images of other than three channels have no
            Lab: a full step of a channel counts 100 there.

    Raises ValueError for images of another shape or range, or an option that is none.

    >>> left_and_right = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(1, 3, 2, 4)
    >>> segments(left_and_right, count=2).tolist()
    [[[0, 0, 1, 1], [0, 0, 1, 1]]]
    """
    from skimage.segmentation import slic

    check_images(images)
    check_value("count", count, whole(1, LARGEST_COUNT))
    check_value("compactness", compactness, above(0))
    lab = images.shape[1] == 3
    found = []
    for image in images.detach().double().cpu().permute(0, 2, 3, 1).contiguous().numpy():
        weight = compactness if lab else compactness / 100
        labels = torch.from_numpy(slic(image, n_segments=count, compactness=weight, start_label=0, convert2lab=lab))
        found.append(labels.unique(return_inverse=True)[1])  # numbers without gaps
    return torch.stack(found).to(images.device)


def spread(numbers: Tensor, regions: Tensor) -> Tensor:
    """One number a region, (B, K), as a map (B, 1, H, W): each pixel has its region's. `regions` (B, H, W) are below K.

    >>> spread(torch.tensor([[0.5, 2.0]]), torch.tensor([[[0, 1], [1, 1]]]))[0, 0].tolist()
    [[0.5, 2.0], [2.0, 2.0]]
    """
    return numbers.gather(1, regions.flatten(1)).view(len(regions), 1, *regions.shape[1:])


def region_means(maps: Tensor, regions: Tensor) -> Tensor:
    """The mean of each map (B, 1, H, W) over each region of `regions` (B, H, W): (B, K), with its gradient.

    K is the largest number of regions among the images; what an image lacks of them is 0.

    >>> region_means(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), torch.tensor([[[0, 1], [1, 1]]]))
    tensor([[1., 3.]])
    """
    flat = regions.flatten(1)
    sums = maps.new_zeros(len(maps), int(flat.max()) + 1)
    pixels = torch.zeros_like(sums).scatter_add(1, flat, torch.ones_like(flat, dtype=maps.dtype))
    return sums.scatter_add(1, flat, maps.flatten(1)) / pixels.clamp(min=1)
