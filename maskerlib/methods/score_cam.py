"""Score-CAM (Wang et al., 2020): each channel of a layer is tried as a mask, and counts by the score that it keeps.

relu(sum_k c_k A_k), c = softmax_k(z(x masked by H_k)), H_k = the channel A_k on the pixels of the image, stretched to [0, 1].
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from maskerlib.classifiers.classifier import Classifier, frozen
from maskerlib.classifiers.doors import Method, Targets
from maskerlib.masking.masks import masked_in
from maskerlib.methods.cams import layer_maps, on_pixels
from maskerlib.methods.entry import MethodEntry
from maskerlib.running.checks import check_value, whole

__all__ = ["ENTRY", "score_cam"]


def score_cam(layer: str | None = None, *, channels: int | None = None, batch_size: int = 32) -> Method:
    """Score-CAM (Wang et al., 2020, algorithm 1): no gradient, one pass for each channel.

    The paper's score of a channel is the gain in the target's logit over an image in which all is hidden. That image is the
    same for all channels, so the softmax over them does not see it, and it is left out here. What a mask hides is the
    classifier's mean colour, as in the paper. A softmax of logits is steep: often a few channels have all the weight.

    Args:
        layer: name of a layer in `classifier.network`, by default the last of `classifier.layers`.
        channels: try so many alone, those of each image that vary most from cell to cell; None tries all, as the paper does.
            The last layer of EfficientNet-Lite0 has 320, that of a ResNet-50 2,048.
        batch_size: masks in one pass at most: the bound on memory, whatever the number of channels and images.

    Raises ValueError for channels or a batch size below 1, and, when called, as `maskerlib.methods.cams.gradient_cam` does.
    """
    if channels is not None:
        check_value("channels", channels, whole(1))
    check_value("batch_size", batch_size, whole(1))

    def method(images: Tensor, targets: Targets, classifier: Classifier) -> Tensor:
        maps, chosen = layer_maps(images, targets, classifier, layer, "Score-CAM")
        cams = []
        with frozen(classifier), torch.no_grad():
            for image, own, target in zip(images.detach().to(chosen.device), maps, chosen, strict=True):
                if channels is not None:
                    own = own[own.flatten(1).float().var(dim=1).topk(min(channels, len(own))).indices]
                scores = [_scores(image[None], part, int(target), classifier) for part in own.split(batch_size)]
                cams.append(torch.tensordot(torch.cat(scores).softmax(dim=0).to(own), own, dims=1))
        return on_pixels(torch.stack(cams)[:, None].relu(), images)

    return method


def _scores(image: Tensor, channels: Tensor, target: int, classifier: Classifier) -> Tensor:
    """The target's logit where the image (1, C, H, W) is seen through each of the channels (K, h, w) alone: (K,)."""
    masks = on_pixels(channels[:, None], image)
    logits: Tensor = classifier(masked_in(image, masks, classifier.mean))
    return logits[:, target]


def _forward(options: Mapping[str, Any], size: tuple[int, int]) -> int:
    return 1 + (options["channels"] or 320)  # of EfficientNet-Lite0


ENTRY = MethodEntry(
    "score-cam",
    "each channel of the last layer, tried as a mask",
    score_cam,
    kind="perturbation",
    forward=_forward,
    quick={"channels": 4},
    moderate={"channels": 64},
)
