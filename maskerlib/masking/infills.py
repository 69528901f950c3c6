"""What stands where the image is hidden: the counterfactual that a mask is judged against.

An infill is called once for a batch, infill(images (B, 3, H, W), mean (1, 3, 1, 1)). It returns what it would show
everywhere, or, when that depends on which pixels are hidden, a function of the hole (B, 1, H, W), 1 where hidden. `fill`
makes one of the other. The result is blended as in `maskerlib.masking.masks`; no gradient flows through an infill
(Phang et al., section 5, after Chang et al., 2019).
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import functional as TF

from maskerlib.running import checks
from maskerlib.running.precision import single
from maskerlib.running.seeds import for_each

__all__ = [
    "INFILLS",
    "Filling",
    "Infill",
    "as_infill",
    "blur",
    "external",
    "fill",
    "local_mean",
    "mean_colour",
    "noise",
    "opencv",
]

Filling = Tensor | Callable[[Tensor], Tensor]
"""What an infill shows: (B, 3, H, W) or one colour (1, 3, 1, 1), or a function of the hole (B, 1, H, W) that gives it."""

Infill = Callable[[Tensor, Tensor], Filling]
"""(images (B, 3, H, W) in [0, 1], the data set's mean colour (1, 3, 1, 1)) -> filling."""


def fill(filling: Filling, hole: Tensor) -> Tensor:
    """What stands in `hole` (B, 1, H, W) in [0, 1], 1 where hidden: (B, 3, H, W) or (1, 3, 1, 1), without a gradient."""
    if isinstance(filling, Tensor):
        return filling.detach()
    with torch.no_grad():
        return filling(hole.detach())


def mean_colour(images: Tensor, mean: Tensor) -> Tensor:
    """The plainest infill: the data set's mean colour, which is zero after the classifier's normalisation."""
    return mean


def blur(sigma: float = 20.0, *, at: int = 224) -> Infill:
    """An infill that shows a Gaussian blur of the image (Fong & Vedaldi, 2017).

    `sigma` is in pixels of an image whose shorter side is `at`, and is scaled to the size of the images it meets.
    """
    checks.check_value("sigma", sigma, checks.above(0))

    def infill(images: Tensor, mean: Tensor) -> Tensor:
        short = min(images.shape[-2:])
        scaled = sigma * short / at
        radius = min(int(3 * scaled + 0.5), short - 1)  # reflection padding reaches at most across the image
        with torch.autocast(images.device.type, enabled=False):  # in bf16 a CPU takes minutes for so long a kernel
            across = TF.gaussian_blur(single(images), [2 * radius + 1, 1], [scaled] * 2)  # one axis at a time: far fewer products
            blurred: Tensor = TF.gaussian_blur(across, [1, 2 * radius + 1], [scaled] * 2)
        return blurred

    return infill


def noise(sigma: float = 0.2) -> Infill:
    """An infill that shows the mean colour under Gaussian noise, drawn anew for every batch and pixel, kept in [0, 1].

    `sigma` is in units of images in [0, 1]. The draws are those of torch's global generator, which a training run seeds
    at every step.
    """
    checks.check_value("sigma", sigma, checks.above(0))

    def infill(images: Tensor, mean: Tensor) -> Tensor:
        return (mean + sigma * for_each(torch.randn_like, images)).clamp(0, 1)

    return infill


def local_mean(side: float = 15.0, *, at: int = 224) -> Infill:
    """An infill that shows the mean of the pixels kept in a square around each pixel (Chang et al., 2019).

    A pixel counts as much as it is kept, 1 - hole. Where nothing in the square is kept, the mean colour stands.

    `side` of the square is in pixels of an image whose shorter side is `at`, and is scaled to the size of the images it meets:
    to an odd number of whole pixels, 3 or more.
    """
    checks.check_value("side", side, checks.above(0))

    def infill(images: Tensor, mean: Tensor) -> Callable[[Tensor], Tensor]:
        radius = max(1, round((side * min(images.shape[-2:]) / at - 1) / 2))

        def around(part: Tensor) -> Tensor:
            return F.avg_pool2d(part, 2 * radius + 1, stride=1, padding=radius)

        def of(hole: Tensor) -> Tensor:
            kept = 1 - hole
            count = around(kept)
            return torch.where(count > 1e-4, around(kept * images) / count.clamp(min=1e-4), mean).clamp(0, 1)

        return of

    return infill


def external(inpaint: Callable[[np.ndarray, np.ndarray], np.ndarray], *, above: float = 0.1) -> Infill:
    """An infill by any inpainter that works on one picture at a time.

    Args:
        inpaint: (picture (H, W, 3) uint8 RGB, hole (H, W) bool, True where hidden) -> picture (H, W, 3) uint8. What it is
            given in the hole is the mean colour: it cannot look there.
        above: what is hidden for more than this is hole to the inpainter, in [0, 1). Elsewhere it gives the image back, and a
            mask has no gradient there, for what it hides and what it shows are the same: at one half, that would be every
            pixel that a soft mask hides by less.

    Raises ValueError for `above` out of range and, when used, for a result of another shape or type.
    """
    checks.check_value("above", above, checks.between(0, 1, open_above=True))

    def infill(images: Tensor, mean: Tensor) -> Callable[[Tensor], Tensor]:
        def of(hole: Tensor) -> Tensor:
            hidden = hole > above
            seen = torch.where(hidden, mean, images).permute(0, 2, 3, 1)
            pictures = (255 * seen).round().clamp(0, 255).byte().cpu().numpy()
            filled = []
            for picture, where in zip(pictures, hidden[:, 0].cpu().numpy(), strict=True):
                result = inpaint(picture, where)
                if not isinstance(result, np.ndarray) or result.shape != picture.shape or result.dtype != np.uint8:
                    got = f"{getattr(result, 'shape', type(result).__name__)} of {getattr(result, 'dtype', 'no type')}"
                    raise ValueError(f"the inpainter returned {got}, expected {picture.shape} of uint8, like its picture")
                filled.append(torch.from_numpy(np.array(result, order="C")))  # a copy: views may be mirrored or read-only
            return torch.stack(filled).permute(0, 3, 1, 2).to(images) / 255

        return of

    return infill


def opencv(method: str = "telea", *, radius: float = 3.0) -> Infill:
    """OpenCV's inpainting: "telea" (fast marching; Telea, 2004) or "navier_stokes" (Bertalmio et al., 2001).

    `radius` is how far around a pixel it looks, in pixels. Raises ValueError for another method.
    """
    import cv2

    methods = {"telea": cv2.INPAINT_TELEA, "navier_stokes": cv2.INPAINT_NS}
    checks.check_value("method", method, checks.one_of(tuple(methods)))

    def inpaint(picture: np.ndarray, hole: np.ndarray) -> np.ndarray:
        return cv2.inpaint(picture, hole.astype(np.uint8), radius, methods[method])

    return external(inpaint)


INFILLS: Mapping[str, Callable[[], Infill]] = {
    "mean": lambda: mean_colour,
    "blur": blur,
    "noise": noise,
    "local_mean": local_mean,
    "opencv": opencv,
}
"""What makes an infill with its default strength, by name."""


def as_infill(infill: Infill | str) -> Infill:
    """The infill itself, or the one of that name in `INFILLS`. Raises ValueError for another name, with those that there are."""
    if not isinstance(infill, str):
        return infill
    if infill not in INFILLS:
        raise ValueError(f"infill={infill!r} is unknown; choose {', '.join(INFILLS)} or give a function")
    return INFILLS[infill]()
