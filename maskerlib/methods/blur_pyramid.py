"""A blur pyramid (Fong, Patrick and Vedaldi, 2019): an image at several strengths of blur, of which a mask picks one a pixel.

Where a blend with one blurred image shows a half-kept pixel sharp and faint, this shows it at half the blur.
"""

import torch
from torch import Tensor

from maskerlib.masking.infills import blur, fill

__all__ = ["blur_pyramid", "faded"]


def blur_pyramid(images: Tensor, *, levels: int = 8, sigma: float = 20.0) -> Tensor:
    """Images (N, channels, H, W) from blurred to sharp: (N, levels, channels, H, W), the last one as they are.

    Level l has sigma * (1 - l / (levels - 1)), in pixels of an image whose shorter side is 224.
    """
    blurs = [blur(sigma * (1 - level / (levels - 1))) for level in range(levels - 1)]
    return torch.stack([*(fill(each(images, images), images) for each in blurs), images], dim=1)


def faded(pyramid: Tensor, masks: Tensor) -> Tensor:
    """Each pixel as sharp as its mask (N, 1, H, W) is high: (N, channels, H, W) of a `blur_pyramid`.

    Between two levels it is their mean, weighted by the mask; 0 is the first level, 1 the last.

    >>> levels = torch.tensor([0.0, 1.0, 10.0]).view(1, 3, 1, 1, 1).expand(1, 3, 1, 1, 3)
    >>> faded(levels, torch.tensor([[[[0.0, 0.25, 0.75]]]]))
    tensor([[[[0.0000, 0.5000, 5.5000]]]])
    """
    top = pyramid.shape[1] - 1
    height = masks * top
    below = height.detach().floor().clamp(max=top - 1)
    at = below.long()[:, :, None].expand(-1, 1, *pyramid.shape[2:])
    lower, upper = (pyramid.gather(1, level)[:, 0] for level in (at, at + 1))
    return torch.lerp(lower, upper, (height - below).to(lower).expand_as(lower))
