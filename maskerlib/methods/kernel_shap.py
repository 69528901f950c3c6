"""KernelSHAP (Lundberg and Lee, 2017): the Shapley values of the regions of an image, by regression.

    a_j = mean over all orders of the regions of v(those before j, and j) - v(those before j)

v(S) is the logit of the class when the regions S alone are shown. These a are the weights of the linear model of LIME when all
sets of one size weigh (K - 1) / (C(K, |S|) |S| (K - |S|)) and none is penalised (theorem 2); sets are drawn so often, and the
empty and the full one count for so much that the attributions add up to z_y(x) - z_y(all hidden).
"""

import functools

from captum.attr import KernelShap

from maskerlib.classifiers.classifier import Classifier
from maskerlib.masking.segments import segments
from maskerlib.methods.attributions import AttributionMethod
from maskerlib.methods.entry import MethodEntry
from maskerlib.methods.lime import LinearModel, by_regions

__all__ = ["ENTRY", "kernel_shap"]


def kernel_shap(
    samples: int = 1000,
    regions: int = 50,
    *,
    compactness: float = 10.0,
    seed: int = 0,
    batch_size: int = 16,
    progress: bool = False,
    channels: str = "sum",
    clip: float = 0.99,
    sign: str = "positive",
) -> AttributionMethod:
    """KernelSHAP by captum on superpixels of SLIC (`maskerlib.masking.segments`), hidden by the classifier's mean colour.

    For a classifier that is linear in its regions the values are exact from as many samples on as there are regions; for
    others their error falls as 1 / sqrt(samples).

    Args:
        samples: sets of regions, one pass each; the empty and the full one are the first two.
        regions, compactness: `count` and `compactness` of `maskerlib.masking.segments.segments`.
        seed: of the sets. An image has one map in every batch and order, and no global random state is moved.
        batch_size: images in one pass at most.
        progress: show a bar.
        channels, clip, sign: as in `maskerlib.methods.attributions.magnitude_map`; by default only what speaks for the class
            counts.

    Raises ValueError for an option that is none.
    """

    def build(classifier: Classifier) -> KernelShap:
        method = KernelShap(classifier)
        method.interpretable_model = LinearModel()
        return method

    cut = functools.partial(segments, count=regions, compactness=compactness)
    attribute = by_regions("kernel-shap", build, cut, seed, samples=samples, batch_size=batch_size, progress=progress)
    return AttributionMethod(attribute, channels, clip, sign)


ENTRY = MethodEntry(
    "kernel-shap",
    "Shapley values of the regions of an image",
    kernel_shap,
    kind="perturbation",
    signed=True,
    stochastic=True,
    forward=lambda options, size: options["samples"] + 1,
    quick={"samples": 100, "regions": 8},
    moderate={"samples": 300, "regions": 30},
)
