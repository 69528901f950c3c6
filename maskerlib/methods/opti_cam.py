"""Opti-CAM (Zhang et al., 2023): the mix of a layer's channels through which the classifier sees the class best.

m = stretch(up(sum_k softmax(u)_k relu(A_k))), u = argmax over u of z_y(m x + (1 - m) mean): one mask per image, of few numbers.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from maskerlib.classifiers.classifier import Classifier, frozen
from maskerlib.classifiers.doors import Method, Targets
from maskerlib.classifiers.networks import with_gradients
from maskerlib.masking.masks import masked_in
from maskerlib.methods.cams import layer_maps, on_pixels
from maskerlib.methods.entry import MethodEntry
from maskerlib.running.checks import above, check_value, whole

__all__ = ["ENTRY", "opti_cam"]


def opti_cam(layer: str | None = None, *, steps: int = 100, lr: float = 0.1, batch_size: int = 32) -> Method:
    """Opti-CAM (Zhang et al., 2023): the weights u of the channels, by Adam on the target's logit of the masked image.

    It is `maskerlib.methods.optimise` with other numbers to choose: not a mask of free cells, held together by size and
    smoothness, but the weights of a layer's channels, which cannot draw what the layer does not show. So it needs no
    regulariser; but nothing asks it to be small.

    The objective (the plain logit) and the stretch (max-min normalisation) are the paper's; Adam, its rate, the steps, the ReLU
    of the channels and weights that start equal are those of its release. Ours: the mean colour stands where the mask hides,
    as everywhere in this library, not black; and there is no early stop, so that an image's map does not depend on its batch.

    Args:
        layer: name of a layer in `classifier.network`, by default the last of `classifier.layers`.
        steps: updates, one pass forth and back each.  lr: of Adam.
        batch_size: images in one pass at most: the bound on memory.

    Raises ValueError for fewer steps or a smaller batch size than 1 or a rate that is not above 0, and, when called, as
    `maskerlib.methods.cams.gradient_cam` does.
    """
    check_value("steps", steps, whole(1))
    check_value("lr", lr, above(0))
    check_value("batch_size", batch_size, whole(1))

    def method(images: Tensor, targets: Targets, classifier: Classifier) -> Tensor:
        maps, chosen = layer_maps(images, targets, classifier, layer, "Opti-CAM")
        there = images.detach().to(chosen.device)
        parts = zip(there.split(batch_size), maps.relu().split(batch_size), chosen.split(batch_size), strict=True)
        found = [_optimised(some, own, classes, classifier, steps, lr) for some, own, classes in parts]
        return torch.cat(found).to(images.device)

    return method


@with_gradients
def _optimised(images: Tensor, maps: Tensor, targets: Tensor, classifier: Classifier, steps: int, lr: float) -> Tensor:
    images, maps, targets = images.clone(), maps.clone(), targets.clone()  # the caller may be in inference mode
    weights = maps.new_zeros((len(maps), maps.shape[1], 1, 1), dtype=torch.float32).requires_grad_()
    adam = torch.optim.Adam([weights], lr=lr)
    with frozen(classifier):
        for _ in range(steps):
            logits = classifier(masked_in(images, _mask(weights, maps, images), classifier.mean))
            adam.zero_grad()
            (-logits.gather(1, targets[:, None]).sum()).backward()  # the sum: each image on its own
            adam.step()
    return _mask(weights, maps, images).detach()


def _mask(weights: Tensor, maps: Tensor, images: Tensor) -> Tensor:
    return on_pixels((weights.softmax(dim=1) * maps).sum(dim=1, keepdim=True), images)


def _forward(options: Mapping[str, Any], size: tuple[int, int]) -> int:
    return 1 + int(options["steps"])


def _backward(options: Mapping[str, Any], size: tuple[int, int]) -> int:
    return int(options["steps"])


ENTRY = MethodEntry(
    "opti-cam",
    "the mix of a layer's channels that shows the class best",
    opti_cam,
    kind="per-image mask",
    forward=_forward,
    backward=_backward,
    quick={"steps": 20},
    moderate={"steps": 50},
)
