"""What could stand in a window of an image: draws from what stands around it, x_w ~ p(x_w | frame), or from elsewhere, p(x_w).

Both learn what patches look like from a pool of images. The first is a normal distribution of all pixels of a patch, for each
channel its own; given the frame of the window it is normal again (Zintgraf et al., 2017, section 3.1). The second is a window
of the pool as it is, whatever stands around it.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from maskerlib.running.seeds import stream

__all__ = ["ConditionalSampler", "MarginalSampler", "Sampler", "conditional_normal"]

Sampler = Callable[[Tensor, int, int, torch.Generator], Tensor]
"""(image (channels, H, W), top, left, generator) -> S draws (S, channels, k, k) of the window that has its corner there."""

PATCHES = 20_000
"""Patches that a normal distribution is fitted to, at most."""

VARIANCE = 1e-6
"""Added to the variance of each pixel, the noise of a camera: what is flat or smooth has no covariance that can be inverted."""


def conditional_normal(covariance: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """The unknown entries of a normal vector given the others: (A, C) with mean m_u + A (x_k - m_k) and covariance C.

    A = S_uk S_kk^-1 and C = S_uu - A S_ku (Bishop, 2006, section 2.3.1).

    covariance: S (..., D, D), positive definite.  known: (D,) bool.

    >>> conditional_normal(torch.tensor([[4.0, 1.0], [1.0, 2.0]]), torch.tensor([False, True]))
    (tensor([[0.5000]]), tensor([[3.5000]]))
    """
    unknown = ~known
    within, across = covariance[..., unknown, :], covariance[..., known, :]
    slope = torch.linalg.solve(across[..., known], across[..., unknown]).mT
    return slope, within[..., unknown] - slope @ across[..., unknown]


class ConditionalSampler:
    """Draws a window given the frame around it. A `Sampler`.

    The frame moves inwards at the border, so the window is not in the middle of its patch there. Draws are clipped to the range
    that the pool has at that pixel of a patch.

    Args:
        pool: (N, channels, H, W), whose patches are learnt from: all, or 20,000 at random.
        window: k pixels.  frame: its width in pixels; it is less where the images are too small for it.
        samples: draws for each window.  seed: of which patches are learnt from.
    """

    def __init__(self, pool: Tensor, window: int, frame: int, samples: int, seed: int = 0) -> None:
        self.window, self.samples = window, samples
        self.side = min(window + 2 * frame, *pool.shape[-2:])
        self.frame = (self.side - window) // 2
        pool = pool.detach().cpu()
        rows, columns = (length - self.side + 1 for length in pool.shape[-2:])
        places = len(pool) * rows * columns
        draws = stream(seed, "patches")
        at = torch.arange(places) if places <= PATCHES else torch.randint(places, (PATCHES,), generator=draws)
        number, top, left = torch.unravel_index(at, (len(pool), rows, columns))
        learnt = []
        for channel in pool.unbind(dim=1):  # one at a time: a copy of all patches is large
            patches = channel.unfold(1, self.side, 1).unfold(2, self.side, 1)[number, top, left].flatten(1).double()
            covariance = patches.T.cov(correction=0) + VARIANCE * torch.eye(patches.shape[1], dtype=patches.dtype)
            learnt.append((patches.mean(dim=0), covariance, *patches.aminmax(dim=0)))
        self.mean, self.covariance, self.low, self.high = (torch.stack(part) for part in zip(*learnt, strict=True))
        self._given: dict[tuple[int, int], tuple[Tensor, Tensor, Tensor]] = {}

    def __call__(self, image: Tensor, top: int, left: int, generator: torch.Generator) -> Tensor:
        corner = [
            min(max(place - self.frame, 0), length - self.side)
            for place, length in zip((top, left), image.shape[-2:], strict=True)
        ]
        known, slope, root = self._conditional(top - corner[0], left - corner[1])
        patch = image.detach()[:, corner[0] : corner[0] + self.side, corner[1] : corner[1] + self.side]
        around = patch.flatten(1).cpu().double()[:, known] - self.mean[:, known]
        noise = torch.randn(self.samples, *root.shape[:2], 1, generator=generator, dtype=root.dtype)
        drawn = self.mean[:, ~known] + (slope @ around[..., None] + root @ noise)[..., 0]
        drawn = drawn.clamp(self.low[:, ~known], self.high[:, ~known])
        return drawn.view(self.samples, len(image), self.window, self.window).to(image)

    def _conditional(self, top: int, left: int) -> tuple[Tensor, Tensor, Tensor]:
        """Which pixels of a patch are the frame, A, and the root L L^T = C, for a window at this place of it."""
        if (top, left) not in self._given:
            known = torch.ones(self.side, self.side, dtype=torch.bool)
            known[top : top + self.window, left : left + self.window] = False
            slope, covariance = conditional_normal(self.covariance, known.flatten())
            self._given[top, left] = (known.flatten(), slope, torch.linalg.cholesky(covariance))
        return self._given[top, left]


class MarginalSampler:
    """Draws a window of the pool, whatever the frame. A `Sampler`.

    Args:
        pool: (N, channels, H, W).  window: k pixels.  samples: draws for each window.
        elsewhere: take any window of an image; otherwise the one at the same place, as published, where the pool holds other
            images than the one explained.
    """

    def __init__(self, pool: Tensor, window: int, samples: int, *, elsewhere: bool = False) -> None:
        self.pool, self.window, self.samples, self.elsewhere = pool.detach(), window, samples, elsewhere

    def __call__(self, image: Tensor, top: int, left: int, generator: torch.Generator) -> Tensor:
        drawn = []
        for number in torch.randint(len(self.pool), (self.samples,), generator=generator).tolist():
            if self.elsewhere:
                top, left = (int(torch.randint(n - self.window + 1, (1,), generator=generator)) for n in image.shape[-2:])
            drawn.append(self.pool[number, :, top : top + self.window, left : left + self.window])
        return torch.stack(drawn).to(image)
