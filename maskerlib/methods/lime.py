"""LIME (Ribeiro, Singh and Guestrin, 2016): a linear model of what the classifier says when regions of the image are hidden.

    a = argmin over a of  sum_i pi(s_i) (z_y(x with the regions of s_i alone) - a_0 - a^T s_i)^2 + alpha |a|^2

s_i in {0, 1}^K says which of K superpixels are shown, each by the toss of a coin, and pi how much a sample counts: the more the
fewer are hidden. The attribution of a pixel is the weight of its region.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from captum._utils.models.model import Model
from captum.attr import Lime
from captum.attr._core.lime import get_exp_kernel_similarity_function
from torch import Tensor

from maskerlib.classifiers.classifier import Classifier, frozen
from maskerlib.masking.segments import segments
from maskerlib.methods.attributions import Attribute, AttributionMethod, admitted, image_streams
from maskerlib.methods.entry import MethodEntry
from maskerlib.running.checks import LARGEST_BATCH, SEED, above, check_value, whole
from maskerlib.running.precision import single

__all__ = ["ENTRY", "LinearModel", "by_regions", "lime", "seeded"]


def lime(
    samples: int = 1000,
    regions: int = 50,
    *,
    compactness: float = 10.0,
    width: float = 0.25,
    alpha: float = 1.0,
    seed: int = 0,
    batch_size: int = 16,
    progress: bool = False,
    channels: str = "sum",
    clip: float = 0.99,
    sign: str = "positive",
) -> AttributionMethod:
    """LIME by captum on superpixels of SLIC (`maskerlib.masking.segments`), hidden by the classifier's mean colour.

    Constants are those of the authors' package for images, which captum's defaults are not: pi(s) = exp(-d^2 / 2 width^2)
    with d the cosine distance between s and all ones, 1000 samples, a ridge of 1. The logit of the class is explained.

    Args:
        samples: images with hidden regions, one pass each.
        regions, compactness: `count` and `compactness` of `maskerlib.masking.segments.segments`.
        width: of the kernel pi; the larger, the more equal all samples are.
        alpha: of the ridge; 0 for least squares.
        seed: of the coins. An image has one map in every batch and order, and no global random state is moved.
        batch_size: images in one pass at most.
        progress: show a bar.
        channels, clip, sign: as in `maskerlib.methods.attributions.magnitude_map`; by default only what speaks for the class
            counts, as in the authors' pictures.

    Raises ValueError for an option that is none.
    """
    check_value("width", width, above(0))
    check_value("alpha", alpha, above(0, included=True))
    kernel = get_exp_kernel_similarity_function("cosine", width)

    def near(image: Tensor, hidden: Tensor, shown: Tensor, **rest: object) -> float:
        weight: float = kernel(torch.ones_like(shown), shown, None)
        return weight

    def build(classifier: Classifier) -> Lime:
        return Lime(classifier, interpretable_model=LinearModel(alpha), similarity_func=near)

    cut = functools.partial(segments, count=regions, compactness=compactness)
    attribute = by_regions("lime", build, cut, seed, samples=samples, batch_size=batch_size, progress=progress)
    return AttributionMethod(attribute, channels, clip, sign)


def by_regions(
    name: str,
    build: Callable[[Classifier], Lime],
    cut: Callable[[Tensor], Tensor],
    seed: int,
    *,
    samples: int,
    batch_size: int,
    progress: bool,
) -> Attribute:
    """Attributions of the superpixels of each image by captum's LIME or one of its kind, the same for all pixels of a region.

    name: what the draws are for, which keeps those of two methods apart.  build: makes captum's method of the classifier.
    cut: images (B, channels, H, W) -> the number of each pixel's region, (B, H, W).

    Raises ValueError for an option that is none and, when called, for an image that `cut` leaves in one piece.
    """
    check_value("samples", samples, whole(1))
    check_value("seed", seed, SEED)
    check_value("batch_size", batch_size, whole(1, LARGEST_BATCH))

    def attribute(images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
        streams = image_streams(images, seed, name, 0)
        found = []
        with frozen(classifier):
            for image, target, regions, draws in zip(images.detach(), targets, cut(images), streams, strict=True):
                if not regions.any():
                    where = f"an image of {tuple(image.shape)}"
                    raise ValueError(f"{where} was left in one piece; raise compactness or regions, or smooth its noise")
                with seeded(draws):
                    attribution = build(classifier).attribute(
                        image[None],
                        baselines=classifier.mean.to(image).expand(1, *image.shape),
                        target=int(target),
                        feature_mask=regions[None, None],
                        n_samples=samples,
                        perturbations_per_eval=batch_size,
                        show_progress=progress,
                    )
                found.append(single(attribution))
        return torch.cat(found)

    return admitted(attribute)


class LinearModel(Model):  # type: ignore[misc]
    """A weighted linear fit with an intercept, as captum's methods take one; their own would need scikit-learn.

    alpha: of the ridge on all coefficients but the intercept; 0 for least squares, the shortest of equally good ones.
    """

    def __init__(self, alpha: float = 0.0) -> None:
        self.alpha = alpha
        self._coefficients = torch.zeros(0)

    def fit(self, train_data: Any, **options: Any) -> None:
        """train_data: one batch of inputs (N, K), outputs (N,) and weights (N,)."""
        ((inputs, outputs, weights),) = train_data
        x, y, w = (part.detach().cpu().double() for part in (inputs, outputs, weights))
        w = w / w.sum()
        root = w.sqrt()
        x, y = root[:, None] * (x - w @ x), root * (y - w @ y)
        if self.alpha:
            gram = x.T @ x + self.alpha / weights.sum().item() * torch.eye(x.shape[1], dtype=x.dtype)
            found = torch.linalg.solve(gram, x.T @ y)
        else:
            found = torch.linalg.pinv(x) @ y
        self._coefficients = found.to(outputs)

    def representation(self) -> Tensor:
        """The coefficients, (K,)."""
        return self._coefficients

    def __call__(self, inputs: Tensor) -> Tensor:
        return inputs @ self._coefficients.to(inputs)


@contextlib.contextmanager
def seeded(draws: torch.Generator) -> Iterator[None]:
    """Inside: torch's global generator of the CPU, from which captum draws, begins as `draws` does. Afterwards: as before."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(draws.initial_seed())
        yield


ENTRY = MethodEntry(
    "lime",
    "a linear model of what hidden regions do",
    lime,
    kind="perturbation",
    signed=True,
    stochastic=True,
    forward=lambda options, size: options["samples"] + 1,
    quick={"samples": 100, "regions": 8},
    moderate={"samples": 300, "regions": 30},
)
