"""The checkers of notebook 01, one function an exercise: None when the answer is right, else one hint."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from maskerlib.classifiers.classifier import Classifier
from maskerlib.course.grading import same

__all__ = ["exercise_1", "exercise_2", "exercise_3", "exercise_4", "exercise_5"]


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def exercise_1(answer: Any) -> str | None:
    """The gradient of 3 x1 - 2 relu(x2 - x3) at (0.2, 0.9, 0.4), three numbers."""
    answer, problem = _numbers(answer, 3)
    if problem:
        return problem
    assert answer is not None
    if same(answer, torch.tensor([3.0, -2.0, 2.0])):
        return None
    if same(answer, torch.tensor([3.0, 0.0, 0.0])):
        return "is the ReLU closed at this point? Work out the sign of x2 - x3"
    if same(answer, torch.tensor([3.0, -2.0, -2.0])):
        return "x2 and x3 stand in the ReLU with opposite signs; follow the chain rule through each"
    if same(answer, torch.tensor([0.6, -1.8, 0.8])):
        return "that is the gradient times the input; the gradient alone is asked for"
    return "take one variable at a time: by how much does the logit rise when it rises by a very little?"


def exercise_2(answer: Any) -> str | None:
    """Integrated gradients of x1 squared + 3 x2 at (2, 1), from (0, 0): two numbers."""
    answer, problem = _numbers(answer, 2)
    if problem:
        return problem
    assert answer is not None
    if same(answer, torch.tensor([4.0, 3.0]), 1e-3):
        return None
    if same(answer, torch.tensor([8.0, 3.0]), 1e-3):
        return "that multiplies the input by the slope at the end of the way; which slopes does the way pass through?"
    if same(answer, torch.tensor([2.0, 3.0]), 1e-3):
        return "that is the mean slope; how long is the way in each direction?"
    if same(answer, torch.tensor([4.0, 3.0]).flip(0), 1e-3):
        return "the numbers are there, in the other order"
    return "check completeness first: what must the two numbers add up to?"


def _numbers(answer: Any, count: int) -> tuple[Tensor | None, str | None]:
    """The answer as a flat tensor of `count` numbers, or what is wrong with its form."""
    try:
        numbers = torch.as_tensor(answer).detach().double().cpu().flatten()
    except (TypeError, ValueError, RuntimeError):
        return None, f"give {count} numbers, as a list, a tuple or a tensor"
    if len(numbers) != count:
        return None, f"give {count} numbers, one for each variable; there are {len(numbers)}"
    return numbers, None


def exercise_3(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> str | None:
    """A function (gradient, images, hidden) -> the promised change of the logit when each pixel is hidden, (B, 1, H, W)."""
    gradient = torch.randn(2, 3, 4, 5, generator=_generator(0))
    images = torch.rand(2, 3, 4, 5, generator=_generator(1))
    hidden = torch.tensor([0.2, 0.5, 0.7]).view(1, 3, 1, 1)
    found = answer(gradient.clone(), images.clone(), hidden.clone())
    expected = (gradient * (hidden - images)).sum(dim=1, keepdim=True)
    if not isinstance(found, Tensor):
        return f"return a tensor; this is a {type(found).__name__}"
    if same(found, expected):
        return None
    if tuple(found.shape) == (2, 3, 4, 5):
        return (
            "a pixel is hidden in its three channels at once: one number for each pixel is wanted, shape (B, 1, H, W)"
        )
    if found.shape != expected.shape:
        return f"for a gradient {tuple(gradient.shape)} the shape should be {tuple(expected.shape)}, not {tuple(found.shape)}"
    if same(found, -expected):
        return "the sign is the wrong way round: by how much does each channel change, and in which direction?"
    if same(found, expected.abs()) or (found >= 0).all():
        return "a promise has a sign: hiding a pixel may raise the logit or lower it"
    if same(found, -(gradient * images).sum(dim=1, keepdim=True)):
        return "that hides a pixel by black; use the colour given as `hidden`"
    if same(found, expected / 3):
        return "the channels change together, so their promises are not averaged"
    return "for one channel it is a slope times the way that the channel goes; put the three channels together"


def exercise_4(answer: Callable[[Tensor, Tensor], Tensor]) -> str | None:
    """A function (before: a ReLU's input, arriving: the gradient at its output) -> what guided backprop sends back."""
    before = torch.randn(3, 4, 5, generator=_generator(2))
    arriving = torch.randn(3, 4, 5, generator=_generator(3))
    found = answer(before.clone(), arriving.clone())
    opened, positive = (before > 0).float(), arriving.clamp(min=0)
    if same(found, opened * positive):
        return None
    if same(found, opened * arriving):
        return "that is how an ordinary ReLU sends it back; what does guided backprop stop besides?"
    if same(found, positive):
        return "that looks at the gradient alone (the deconvnet's rule); the ReLU's input has a say, too"
    if same(found, opened) or same(found, opened * (arriving > 0)):
        return "that says where the gradient passes; what passes there is the gradient itself, not 1"
    if same(found, opened * arriving.abs()):
        return "a negative gradient is stopped, not turned round"
    if isinstance(found, Tensor) and found.shape != before.shape:
        return f"the shape should be that of the input, {tuple(before.shape)}; it is {tuple(found.shape)}"
    return "two conditions must both hold at a place for its gradient to pass: one on `before`, one on `arriving`"


class _Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3 * 5 * 5, generator=_generator(4)), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(1) @ self.weight.T).tanh() * 4 + 1


def exercise_5(answer: Callable[..., Tensor]) -> str | None:
    """A function (classifier, attribution, images, classes, start) -> (B,): how far each sum misses the logit's change."""
    classifier = Classifier(_Small(), (), name="small")
    images = torch.rand(4, 3, 5, 5, generator=_generator(5))
    attribution = torch.randn(4, 3, 5, 5, generator=_generator(6))
    start = torch.rand(1, 3, 1, 1, generator=_generator(7))
    with torch.no_grad():
        whole, blank = classifier(images), classifier(start.expand_as(images))
        classes = whole.argsort(dim=1)[:, 1]  # never the class that the classifier would choose
        pick = [logits.gather(1, classes[:, None])[:, 0] for logits in (whole, blank)]
        shares = [logits.softmax(dim=1).gather(1, classes[:, None])[:, 0] for logits in (whole, blank)]
        best = [logits.amax(dim=1) for logits in (whole, blank)]
        found = answer(classifier, attribution.clone(), images.clone(), classes.clone(), start.clone())
    sums = attribution.sum(dim=(1, 2, 3))
    expected = sums - (pick[0] - pick[1])
    if not isinstance(found, Tensor) or found.shape != expected.shape:
        got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        return f"return one number for each image, shape {tuple(expected.shape)}; this is {got}"

    def either(value: Tensor) -> bool:
        return any(same(found, form, 1e-4) for form in (value, -value, value.abs()))

    if either(expected):
        return None
    if either(sums - pick[0]):
        return (
            "the attributions explain a change, from the start of the way to the image; what is the logit at the start?"
        )
    if either(sums - (shares[0] - shares[1])):
        return "completeness holds for the quantity that was differentiated; was that the probability?"
    if either(sums - (best[0] - best[1])):
        return "the classes to explain are given, and they need not be the classifier's choice"
    if either(attribution.abs().sum(dim=(1, 2, 3)) - (pick[0] - pick[1])):
        return "keep the signs: what lowers the logit counts against what raises it"
    return "two parts are needed for each image: the sum of its attributions, and the change of its logit along the way"
