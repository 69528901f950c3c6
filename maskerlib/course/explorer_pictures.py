"""What the explorers show: three plain functions from a few numbers to a figure. They need no kernel that is alive.

    mask_picture         equation 1 with weights of your choice, or another method, on one image
    threshold_picture    one map, cut at one threshold: set, component, box, IoU, precision and recall
    layer_picture        one layer of the classifier, and what a masker makes of it
"""

from collections.abc import Mapping
from typing import NamedTuple

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from maskerlib import plots
from maskerlib.classifiers.classifier import Classifier, frozen
from maskerlib.data.boxes import box_iou, component_boxes
from maskerlib.explain import explain
from maskerlib.masker.network import Masker
from maskerlib.masker.trained import Trained
from maskerlib.masking.masks import mask_from_logits, masked_in, masked_out
from maskerlib.masking.objectives import Objective
from maskerlib.methods.registry import METHODS, method_named, method_options
from maskerlib.metrics.boxes import binarise, largest_component
from maskerlib.metrics.curves import PixelCurve

__all__ = [
    "PASSES",
    "Cut",
    "affordable",
    "contributions",
    "cut",
    "layer_picture",
    "mask_controls",
    "mask_picture",
    "threshold_picture",
]

PASSES = 400
"""What a person waits for: so many forward passes, a gradient counted as two, are some seconds at 224 pixels."""

_WEIGHTS = ("weight_in", "weight_out", "size_in", "size_out", "tv")


def affordable(size: tuple[int, int], passes: int = PASSES) -> list[str]:
    """The methods of the registry that need no training and, with their `moderate` options, at most so many passes an image.

    size: (H, W) of the image.
    """
    costs = {name: entry.cost(size, **entry.moderate) for name, entry in METHODS.items() if ":" not in name}
    return [name for name, (forward, backward) in costs.items() if forward + 2 * backward <= passes]


def mask_controls(method: str) -> frozenset[str]:
    """Which numbers of `mask_picture` concern a method: the weights, where its objective is that of equation 1, and the grid.

    >>> sorted(mask_controls("fido")), sorted(mask_controls("grad-cam"))
    (['grid'], [])
    """
    options = method_options(method)
    weighed = "objective" in options and isinstance(options["objective"].default, Objective)
    return frozenset((*(_WEIGHTS if weighed else ()), *(["grid"] if "grid" in options else [])))


def mask_picture(
    classifier: Classifier,
    image: Tensor,
    *,
    method: str = "optimise",
    weight_in: float = 1.0,
    weight_out: float = 1.0,
    size_in: float = 1.0,
    size_out: float = 5.0,
    tv: float = 0.03,
    grid: int | None = None,
    steps: int = 40,
    seed: int = 0,
) -> Figure:
    """The image (3, H, W), the mask that a method finds for the predicted class, and the two views with its probability.

    What hides is the mean colour, whatever the method itself hides by.

    Args:
        method: a name in `maskerlib.methods.registry.METHODS`; "optimise" is equation 1. It has its `moderate` options, and of
            what follows only that which concerns it (`mask_controls`).
        weight_in, weight_out, size_in, size_out, tv: as in `maskerlib.masking.objectives.Objective`, MaxClass (I) + MaxEnt (O);
            a side of weight 0 is left out.
        grid: cells of the mask along the shorter side; None takes the method's own.
        steps: updates of equation 1.
        seed: of what the method draws.

    Raises ValueError when a method that is given weights has 0 for both sides, for an unknown method, and for what the method
    refuses, such as a network that it has no rule for.
    """
    concerned = mask_controls(method)
    entry, _ = METHODS.find(method)
    options = dict(entry.moderate)
    if concerned.issuperset(_WEIGHTS):
        if weight_in == weight_out == 0:
            raise ValueError("weight_in and weight_out are both 0, which asks nothing of the mask; raise one of them")
        sides = {"masked_in": "max_class" if weight_in else None, "masked_out": "max_ent" if weight_out else None}
        weights = {"weight_in": weight_in, "weight_out": weight_out, "size_in": size_in, "size_out": size_out, "tv": tv}
        options |= {"objective": {**sides, **weights}, "steps": steps}
    if "grid" in concerned and grid is not None:
        options["grid"] = grid
    made = method_named(method, classifier, seed=seed, **options)
    found = explain(image, classifier, made, size=(image.shape[1], image.shape[2]), checked=True)
    image, mask = image.cpu(), found.saliency
    views = [view(image[None], mask[None], found.mean)[0] for view in (masked_in, masked_out)]
    titles = [
        f"{found.class_name} {found.whole:.2f}",
        f"{'mask' if entry.kind == 'per-image mask' else 'map'}, {100 * mask.mean():.0f} % of the image",
        f"masked-in {found.kept:.2f}",
        f"masked-out {found.left:.2f}",
    ]
    return plots.image_grid([[image, plots.overlay(image, mask), *views]], [titles], width=2.2)


class Cut(NamedTuple):
    """A map at one threshold: the set above it, its largest component, that one's box, and how well they agree with the truth.

    above, component: (H, W) bool.  box: (4,).  iou: of the box with the true one.  precision, recall: of the set's pixels;
    the precision of an empty set is 1, as at the left end of a precision-recall curve.
    """

    above: Tensor
    component: Tensor
    box: Tensor
    iou: float
    precision: float
    recall: float


def cut(saliency: Tensor, truth: Tensor, box: Tensor, threshold: float) -> Cut:
    """Cut a map (1, H, W) at a threshold in [0, 1]; `truth` (H, W) bool are the object's pixels, `box` (4,) its box."""
    above = binarise(saliency[None], threshold)
    component = largest_component(above)
    predicted = component_boxes(component)
    found, right = int(above.sum()), int((above[0, 0] & truth).sum())
    return Cut(
        above[0, 0],
        component[0, 0],
        predicted[0],
        float(box_iou(predicted[0], box)),
        right / found if found else 1.0,
        right / max(int(truth.sum()), 1),
    )


def threshold_picture(image: Tensor, saliency: Tensor, truth: Tensor, box: Tensor, threshold: float) -> Figure:
    """From a map to a box, left to right: map, set above the threshold and largest component, boxes, precision-recall curve.

    image: (3, H, W).  saliency: (1, H, W) in [0, 1].  truth: (H, W) bool.  box: (4,).  threshold: in [0, 1].
    """
    image, saliency, truth, box = (part.detach().cpu() for part in (image, saliency, truth, box))
    result = cut(saliency, truth, box, threshold)
    figure, axes = plt.subplots(1, 4, figsize=(9.6, 2.7))
    plots.show(axes[0], saliency, "map")
    shades = torch.stack([result.above & ~result.component, result.component]).float()
    plots.show(axes[1], (0.45 * shades[0] + 0.85 * shades[1])[None], f"above {threshold:.2f}; largest part bright")
    plots.show(axes[2], image, f"IoU {result.iou:.2f}: " + ("a hit" if result.iou > 0.5 else "a miss"), box)
    plots.frame(axes[2], result.box, "tab:orange")
    _precision_recall(axes[3], saliency, truth, result)
    return plots.finish(figure)


def _precision_recall(axes: Axes, saliency: Tensor, truth: Tensor, result: Cut) -> None:
    curve = PixelCurve()
    curve.update(saliency[None], truth[None])
    precision, recall = curve.precision_recall()
    axes.plot(recall, precision, color="tab:gray", linewidth=1.2)
    axes.plot([result.recall], [result.precision], "o", color="tab:orange")
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.08))
    axes.set_xlabel("recall", fontsize=8)
    axes.set_ylabel("precision", fontsize=8)
    axes.set_title(f"precision {result.precision:.2f}, recall {result.recall:.2f}", fontsize=8)
    axes.tick_params(labelsize=7)


def contributions(masker: Masker, activations: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What each layer adds to the logits of the mask: {layer: (B, 1, h, w)}; their sum and the bias are the masker's output.

    The last convolution is linear in the layers' features, so its weights can be dealt out, layer by layer.
    """
    parts: dict[str, Tensor] = {}
    first = 0
    for layer, features in masker.features(activations).items():
        weight = masker.head.weight[:, first : first + features.shape[1]]
        parts[layer] = F.conv2d(features, weight, padding=masker.head.padding).float()
        first += features.shape[1]
    return parts


def layer_picture(trained: Trained, image: Tensor, layer: str, channel: int | None = None) -> Figure:
    """One layer, left to right: the image, the layer's activation, what it adds to the mask's logit, and the mask.

    image: (3, H, W).  channel: which channel of the activation; None for the mean over all of them. Where the masker does
    not read the layer, the third panel says so. Raises ValueError for a layer or a channel that is not there.
    """
    classifier, masker = trained.classifier, trained.masker
    if not isinstance(masker, Masker):
        raise ValueError(f"a {type(masker).__name__} does not add up what its layers say; give a masker of `train_masker`")
    if layer not in classifier.layers:
        raise ValueError(f"layer {layer!r} is not read from {classifier.name}; choose from {', '.join(classifier.layers)}")
    with torch.no_grad(), frozen(classifier), frozen(masker):
        _, activations = classifier.activations(image[None].to(classifier.mean.device))
        parts = {name: part.cpu() for name, part in contributions(masker, activations).items()}
        mask = mask_from_logits(masker(activations), (image.shape[1], image.shape[2]))[0].cpu()
    features = activations[layer][0].float().cpu()
    count, height, width = features.shape
    if channel is not None and not 0 <= channel < count:
        raise ValueError(f"channel {channel} is not in {layer}, which has channels 0 to {count - 1}")
    shown = features.mean(dim=0) if channel is None else features[channel]
    figure, axes = plt.subplots(1, 4, figsize=(9.6, 2.7))
    plots.show(axes[0], image, "image")
    axes[1].imshow(shown.numpy(), cmap="viridis")
    which = f"mean of {count} channels" if channel is None else f"channel {channel} of {count}"
    axes[1].set_title(f"{layer}: {which}, {height} x {width}", fontsize=8)
    if layer in parts:
        reach = max(float(part.abs().max()) for part in parts.values()) or 1.0
        axes[2].imshow(parts[layer][0, 0].numpy(), cmap="coolwarm", vmin=-reach, vmax=reach)
        axes[2].set_title(f"adds to the logit (± {reach:.1f})", fontsize=8)
    else:
        axes[2].text(0.5, 0.5, f"this masker\ndoes not read {layer}", ha="center", va="center", fontsize=8)
    plots.show(axes[3], mask, "mask")
    for axis in axes:
        axis.set_axis_off()
    return plots.finish(figure)
