"""The checkers of notebook 04, training a masker. Each takes an answer and returns None when it is right, else one hint."""

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maskerlib.classifiers.classifier import Classifier, frozen
from maskerlib.course.grading import close
from maskerlib.masker.network import Masker, masker_for
from maskerlib.masking.masks import mask_from_logits, masked_in, masked_out

__all__ = ["exercise_1", "exercise_2", "exercise_3", "exercise_4", "exercise_5"]


def exercise_1(answer: Any) -> str | None:
    """How many parameters a masker has: (channels of each layer, width) -> a whole number."""
    if not callable(answer):
        return "a function is asked for, that takes the list of channels and the width"
    for channels, width in (([96, 192], 64), ([5], 3), ([7, 7, 20], 10)):
        masker = Masker({f"layer {i}": count for i, count in enumerate(channels)}, grid_layer="another", width=width)
        right = sum(weight.numel() for weight in masker.parameters())
        if close(given := answer(channels, width), right, 0.5):
            continue
        layers = len(channels)
        missing = {
            2 * width * layers: "batch norm learns something as well: look at what it does to each channel after normalising",
            width * layers: "batch norm learns two things a channel; or does a convolution have a bias that it should not have?",
            1: "one number is missing: look at the arguments of the last convolution once more",
            8 * width * layers: "the last convolution looks at more than one cell",
            -width * layers: "look at the arguments of the 1 x 1 convolutions: is everything learnt that you count?",
            -2 * width * layers: "running means and variances are counted, it seems; they are not learnt by gradients",
        }
        for difference, hint in missing.items():
            if close(given, right - difference, 0.5):
                return hint
        return f"not yet for channels={channels}, width={width}: go through NaiveMasker module by module and add up shapes"
    return None


def exercise_2(answer: Any) -> str | None:
    """How many different values a mask of 96 x 96 pixels can hold, when it is drawn on a grid of 48 x 48 cells: a number."""
    if close(answer, 48 * 48, 0.5):
        return None
    if close(answer, 96 * 96, 0.5):
        return "are neighbouring pixels free to differ? Look at what happens to the logits on their way to the image"
    if close(answer, 36, 0.5) or close(answer, 144, 0.5):
        return "the layer that is read is coarse, but what is upsampled bilinearly and then convolved differs from cell to cell"
    if close(answer, 48, 0.5) or close(answer, 96, 0.5):
        return "that is one side of a grid"
    return "on which grid are the logits drawn, and how do they get to the size of the image?"


def exercise_3(answer: Any) -> str | None:
    """From how many images on a masker pays: (training, optimising, drawing), in seconds -> a whole number, or math.inf."""
    if not callable(answer):
        return "a function is asked for, of three times in seconds"
    if not close(answer(10.0, 3.0, 1.0), 5, 1e-6):
        if close(answer(10.0, 3.0, 1.0), 4, 1e-6):
            return "a trained masker is not free of charge: each image still has to be drawn"
        if close(answer(10.0, 3.0, 1.0), 6, 1e-6):
            return "equally long is enough: 'takes no longer'"
        return "with 10 s of training, 3 s against 1 s an image: write both total times for n images and set them equal"
    for training, optimising, drawing, images in ((10.0, 4.0, 1.0, 4), (60.0, 0.5, 0.0, 120), (1.0, 8.0, 4.0, 1)):
        given = answer(training, optimising, drawing)
        if not close(given, images, 1e-6):
            if close(given, images - 1, 1e-6):
                return "one image earlier optimising is still the quicker way; which way do you round?"
            if close(given, training / (optimising - drawing), 1e-6):
                return "there is no such thing as a third of an image: a whole number is asked for"
            if close(given, images + 1, 1e-6):
                return "equally long is enough: 'takes no longer'"
            return f"not yet for training={training}, optimising={optimising}, drawing={drawing}"
    for drawing in (0.5, 0.7):
        try:
            given = answer(10.0, 0.5, drawing)
        except (ZeroDivisionError, OverflowError):
            given = None
        if not _infinite(given):
            return "what if drawing takes as long as optimising, or longer?"
    return None


def _infinite(value: Any) -> bool:
    try:
        return float(value) == math.inf
    except (TypeError, ValueError):
        return False


def exercise_4(answer: Any) -> str | None:
    """The 95 % bootstrap interval of a mean: (difference (N,), draws, generator) -> (lower, upper)."""
    if not callable(answer):
        return "a function is asked for: (difference, draws, generator) -> (lower, upper)"
    for count, shift in ((200, 0.3), (50, -1.0)):
        values = torch.randn(count, generator=torch.Generator().manual_seed(count)).double() + shift
        ends = _ends(answer(values.clone(), 4000, torch.Generator().manual_seed(1)))
        if ends is None:
            return "two numbers are asked for, the lower and the upper end"
        half = float(values.std()) / math.sqrt(count)  # the standard error: 1.96 of it each way for a mean
        lower, upper = ends
        if lower > upper:
            return "the lower end comes first"
        width, middle = (upper - lower) / (2 * half), (upper + lower) / 2 - float(values.mean())
        if width < 0.2:
            return "the ends are almost the same: is every draw the same set of images? What does *with replacement* change?"
        if width > 0.5 * math.sqrt(count):
            return "this is how much single images differ; the interval of their mean is asked for, one mean a draw"
        if abs(middle) > 0.4 * half:
            return "the interval should have the mean difference near its middle"
        if not 1.80 < width < 2.12:
            return "the width is not that of the middle 95 % of the draws; which shares of them lie below either end?"
    constant = _ends(answer(torch.full((20,), 0.25).double(), 100, torch.Generator().manual_seed(1)))
    if constant is None or not all(close(end, 0.25, 1e-6) for end in constant):
        return "if all differences are the same, so is every mean: try torch.full((20,), 0.25)"
    return None


def _ends(answer: Any) -> tuple[float, float] | None:
    try:
        lower, upper = (float(end) for end in answer)
    except (TypeError, ValueError):
        return None
    return (lower, upper) if math.isfinite(lower) and math.isfinite(upper) else None


class _Small(nn.Module):
    """Two layers and a head: enough for a gradient to go wrong in."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.stage = nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.stage(self.stem(x)).mean(dim=(2, 3)))
        return 5 * logits


def exercise_5(answer: Any) -> str | None:
    """One step's gradient of the masked-in term, in the masker alone: (masker, classifier, images, labels) -> nothing."""
    if not callable(answer):
        return "a function is asked for: (masker, classifier, images, labels) -> nothing"
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(3)
        classifier = Classifier(_Small(), ("stem", "stage"), input_size=(16, 16), name="small").eval()
        masker = masker_for(classifier, ("stage",), width=4, seed=3).train()
        images, labels = torch.rand(6, 3, 16, 16), torch.arange(6) % 5
        expected = {view: _gradients(masker, classifier, images, labels, view) for view in (masked_in, masked_out)}
        weights = copy.deepcopy({"masker": masker.state_dict(), "classifier": classifier.state_dict()})
        answer(masker, classifier, images, labels)
    if any(weight.grad is not None and bool(weight.grad.abs().sum()) for weight in classifier.parameters()):
        return "a weight of the classifier has a gradient: it should let the gradient through and keep none"
    if not all(weight.requires_grad for weight in classifier.parameters()):
        return "the classifier's weights required gradients when you got them, and no longer do"
    if any(part.training for part in classifier.modules()):
        return "the classifier was in eval mode when you got it, and no longer is"
    for name, network in (("masker", masker), ("classifier", classifier)):
        moved = [not torch.equal(weights[name][key], value) for key, value in network.named_parameters()]
        if any(moved):
            return f"a weight of the {name} has moved; gradients alone are asked for"
    given = [weight.grad for weight in masker.parameters()]
    if any(gradient is None for gradient in given):
        return "no gradient arrives in the masker: which of your lines cuts the way from the loss to the mask?"
    if _alike(given, expected[masked_in]):
        return None
    if _alike(given, [len(images) * gradient for gradient in expected[masked_in]]):
        return "the gradient points the right way but is several times too long: the mean over the images is asked for"
    if _alike(given, expected[masked_out]):
        return "this is the gradient of the image *without* what the mask keeps; which view does the masked-in term judge?"
    if _alike(given, [-gradient for gradient in expected[masked_in]]):
        return "the sign is wrong: a loss goes down when the class is recognised"
    return "gradients arrive, but not those of the masked-in cross-entropy: check view, hidden colour and labels"


def _gradients(
    masker: Masker, classifier: Classifier, images: Tensor, labels: Tensor, view: Callable[..., Tensor]
) -> list[Tensor]:
    """What is expected, from a copy of the masker."""
    masker = copy.deepcopy(masker)
    with frozen(classifier):
        activations = classifier.activations(images)[1]
        mask = mask_from_logits(masker(activations), (images.shape[2], images.shape[3]))
        loss = F.cross_entropy(classifier(view(images, mask, classifier.mean)), labels)
        return list(torch.autograd.grad(loss, list(masker.parameters())))


def _alike(given: list[Tensor | None], expected: list[Tensor]) -> bool:
    pairs = zip(given, expected, strict=True)
    return all(torch.allclose(mine, right, rtol=1e-3, atol=1e-6) for mine, right in pairs if mine is not None)
