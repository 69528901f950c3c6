"""What a mask should do for Dabkowski and Gal (2017), and what stands where it hides: margins in the place of entropies.

With the logits z = F(.), the label y and a confidence k, keep_k = relu(max of the others - z_y + k) is 0 once y leads by k,
and lose_k = relu(z_y - max of the others + k) once y trails by it: the margins of Carlini and Wagner (2017). The mask of a class
that is there minimises

    lose_5(F(masked-out)) + 0.3 keep_1(F(masked-in)) + 8 mean (m + 0.0005)^0.3 + 0.005 TV(m) / 2

and that of a class that is not, a fake label, has to leave the image alone, and show nothing:

    keep_1(F(masked-out)) + 0.3 lose_1(F(masked-in)) + 8 mean (m + 0.0005)^0.3 + 0.005 TV(m) / 2,

where y is always the label that the image has. The formulas and constants are those of the code release.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from maskerlib.masking.infills import Infill, blur, fill
from maskerlib.masking.masks import masked_in, masked_out, total_variation
from maskerlib.running.checks import above, between, check_fields, check_value
from maskerlib.running.seeds import for_each

__all__ = ["MarginObjective", "blur_or_colour", "margin_loss"]


def margin_loss(logits: Tensor, labels: Tensor, kept: Tensor, keep: float = 1.0, lose: float = 5.0) -> Tensor:
    """How far each label is from leading by `keep`, where it is to be kept, or from trailing by `lose`: (B,), 0 or more, in nats.

    logits (B, C), C >= 2; labels (B,) int64; kept (B,) bool.

    >>> logits, first = torch.tensor([[4.0, 1.0, 0.0]] * 2), torch.tensor([0, 0])
    >>> margin_loss(logits, first, torch.tensor([True, False])).tolist()
    [0.0, 8.0]
    """
    own = torch.zeros_like(logits, dtype=torch.bool).scatter(1, labels[:, None], True)
    lead = logits.gather(1, labels[:, None])[:, 0] - logits.masked_fill(own, -torch.inf).amax(dim=1)
    return torch.where(kept, keep - lead, lose + lead).relu()


def blur_or_colour(
    *, chance: float = 0.5, sigma: float = 11.0, spread: float = 0.165, noise: float = 0.055, at: int = 224
) -> Infill:
    """An infill that shows, for each image anew, its Gaussian blur or one random colour under noise.

    Args:
        chance: of the blur, in [0, 1].
        sigma: of the blur, in pixels of an image whose shorter side is `at`; scaled as in `maskerlib.masking.infills.blur`.
        spread: how far a colour is from grey at most, in units of images in [0, 1]: uniform, a number for each channel.
        noise: deviation of the Gaussian noise on the colour, in the same units.

    The release writes these as 0.66 and 0.11 for images in [-1, 1], draws colours around the middle of that range and not around
    the data set's mean, and cuts its blur at 27 pixels, 2.5 sigma, where this one ends at 3. Pixels are kept in [0, 1] here. The
    draws are those of torch's global generator, which a training run seeds at every step.

    Raises ValueError for a number out of its range.
    """
    check_value("chance", chance, between(0, 1))
    for name, value in (("spread", spread), ("noise", noise)):
        check_value(name, value, above(0, included=True))
    blurred = blur(sigma, at=at)

    def infill(images: Tensor, mean: Tensor) -> Tensor:
        count, channels = images.shape[:2]
        draws = for_each(torch.rand_like, images.new_empty(count, channels + 1, 1, 1))
        colours = 0.5 + spread * (2 * draws[:, 1:] - 1) + noise * for_each(torch.randn_like, images)
        return torch.where(draws[:, :1] < chance, cast(Tensor, blurred(images, mean)), colours.clamp(0, 1))

    return infill


@dataclass(frozen=True)
class MarginObjective:
    """The weights of the objective, and how its views are made.

    Args:
        preserve: weight of the masked-in margin; the masked-out one has 1.
        area: weight of the mean of (m + 0.0005)^area_power, which charges the first bit of mask more than the last.
        area_power: above 0, at most 1.
        smooth: weight of half the total variation, in units of a 224-pixel image (`maskerlib.masking.masks.total_variation`).
        keep: margin by which a label is to lead where it is kept.
        lose: margin by which it is to trail where it is destroyed; where the class asked for is a fake, `keep` does for both.
        noise: deviation of the noise on the images of both views, in units of images in [0, 1] (0.03 in the release's [-1, 1]).

    Raises ValueError for a number out of its range.
    """

    preserve: float = 0.3
    area: float = 8.0
    area_power: float = 0.3
    smooth: float = 0.005
    keep: float = 1.0
    lose: float = 5.0
    noise: float = 0.015

    def __post_init__(self) -> None:
        weight = above(0, included=True)
        check_fields(
            self,
            area_power=between(0, 1, open_below=True),
            **dict.fromkeys(("preserve", "area", "smooth", "keep", "lose", "noise"), weight),
        )

    def terms(
        self,
        classify: Callable[[Tensor], Tensor],
        images: Tensor,
        mask: Tensor,
        labels: Tensor,
        real: Tensor,
        mean: Tensor,
        infill: Infill,
    ) -> Iterator[tuple[str, Tensor]]:
        """The terms by name, each (B,): "destroy", "preserve", "size" and "smooth"; their sum is the objective.

        They come one at a time, so that the graph of a view can be freed before the next is built.

        Args:
            classify: images (B, channels, H, W) -> logits (B, C).
            images, mask: (B, channels, H, W) and (B, 1, H, W), in [0, 1].
            labels: (B,) int64, the class that each image has.
            real: (B,) bool, whether it is the class whose mask was asked for.
            mean, infill: the data set's mean colour and what stands where the image is hidden, drawn for each view anew.
        """

        def view(show: Callable[[Tensor, Tensor, Tensor], Tensor], hole: Tensor) -> Tensor:
            noisy = (images + self.noise * for_each(torch.randn_like, images)).clamp(0, 1)
            return classify(show(noisy, mask, fill(infill(noisy, mean), hole)))

        yield "destroy", margin_loss(view(masked_out, mask), labels, ~real, self.keep, self.lose)
        yield "preserve", self.preserve * margin_loss(view(masked_in, 1 - mask), labels, real, self.keep, self.keep)
        yield "size", self.area * (mask + 0.0005).pow(self.area_power).mean(dim=(1, 2, 3))
        yield "smooth", self.smooth * total_variation(mask) / 2
