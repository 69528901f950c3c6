"""The checkers of notebook 02, one mask per image. Each takes an answer and returns None when it is right, or a hint."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from maskerlib.classifiers.classifier import Classifier
from maskerlib.course.grading import close, same
from maskerlib.masking.masks import masked_in

__all__ = ["exercise_1", "exercise_2", "exercise_3", "exercise_4", "exercise_5"]


def exercise_1(answer: Any) -> str | None:
    """Equation 1 of one image whose masked-out view is still recognised, as a number."""
    cross, entropy = -math.log(0.8), -0.6 * math.log(0.6) - 0.4 * math.log(0.4)
    hints = {
        cross - entropy - 1 * 0.7 - 5 * 0.7: "both rewards are in it; which bracket is 0 while the class is still recognised?",
        cross - entropy - 1 * 0.7 + 5 * 0.3: "a bracket of 0 must not cost anything: what does the relu do to a negative number?",
        cross - entropy: "the two terms are there; does the mask earn a reward on one of its sides?",
        cross + entropy - 1 * 0.7: "is a high entropy masked-out good or bad for a loss that is minimised?",
        cross - entropy + 1 * 0.7: "a reward lowers a loss",
        cross - entropy - 1 * 0.3: "the reward is larger for a smaller mask: look at the difference inside the relu",
        cross + math.log(0.6) - 1 * 0.7: "the masked-out term here is the entropy of both classes, not the cross-entropy",
    }
    if close(answer, cross - entropy - 0.7, 0.0015):
        return None
    for wrong, hint in hints.items():
        if close(answer, wrong, 0.0015):
            return hint
    if not close(answer, 0.0, math.inf):
        return "the answer is one number"
    return "add up four things: a cross-entropy, an entropy, and one reward a side, each with its sign (natural logarithms)"


def exercise_2(answer: Any) -> str | None:
    """The conditional size rewards: areas and three bool tensors (B,), two weights -> (B,)."""
    if not callable(answer):
        return "the answer is a function of six arguments"
    right_whole, right_in, right_out = (
        torch.tensor([[bool(code & bit) for code in range(8)] for bit in (4, 2, 1)]).repeat(1, 3)
    )
    areas = torch.tensor([0.0, 0.3, 1.0]).repeat_interleave(8)
    size_in, size_out = 1.5, 4.0
    c_in, c_out = right_in.float(), (right_whole & ~right_out).float()

    def rewards(inner: Tensor, outer: Tensor) -> Tensor:
        return -size_in * (inner - areas).relu() - size_out * (outer - areas).relu()

    given = answer(areas, right_whole, right_in, right_out, size_in, size_out)
    if not isinstance(given, Tensor) or given.shape != areas.shape:
        return f"return a tensor with one number an image, here of shape {tuple(areas.shape)}"
    if same(given, rewards(c_in, c_out)):
        return None
    if same(given, -rewards(c_in, c_out)):
        return "a reward lowers the loss that it is added to"
    if same(given, rewards(c_in, (~right_out).float())):
        return "is a lost decision worth anything where the whole image was not classified as y to begin with?"
    if same(given, rewards(c_in, (right_whole & right_out).float())) or same(given, rewards(c_in, right_out.float())):
        return "on the masked-out side, is it good or bad that the class is still recognised?"
    if same(given, -size_in * (c_in - areas) - size_out * (c_out - areas)):
        return "where a bracket is 0 the mask's size must not matter at all"
    if same(given, (size_in + size_out) * areas) or same(given, -(size_in + size_out) * (1 - areas)):
        return "this pays for every small mask; the study pays only while the mask works"
    return "try one image by hand: which of the brackets are 1, and what is left of each difference?"


def exercise_3(answer: Any) -> str | None:
    """Is the decision kept masked-in, unmoved and after four moves of image and mask: (B,) bool?"""
    if not callable(answer):
        return "the answer is a function of five arguments"
    classifier, images, masks = _linear_case(seed=3, count=256, colour=0.7)
    with torch.no_grad():
        views = masked_in(images, masks, classifier.mean)
        targets = classifier(views).argmax(dim=1)
        targets[::2] = classifier(views.roll(2, dims=2)).argmax(dim=1)[::2]  # some are wrong until they are moved
    reach = 2
    steps = [(0, 0), (reach, 0), (-reach, 0), (0, reach), (0, -reach)]

    def held(moves: list[tuple[int, int]], *, image_too: bool = True, hidden: Tensor = classifier.mean) -> Tensor:
        seen = []
        for by in moves:
            moved = torch.roll(images, by, dims=(2, 3)) if image_too else images
            with torch.no_grad():
                logits = classifier(masked_in(moved, torch.roll(masks, by, dims=(2, 3)), hidden))
            seen.append(logits.argmax(dim=1) == targets)
        return torch.stack(seen)

    given = answer(classifier, images, masks, targets, reach)
    if not isinstance(given, Tensor) or given.shape != targets.shape:
        return f"return a tensor with one verdict an image, here of shape {tuple(targets.shape)}"
    if given.dtype != torch.bool and not bool(((given == 0) | (given == 1)).all()):
        return "return verdicts, true or false, not probabilities or counts"
    expected = held(steps).all(dim=0)
    if torch.equal(given.bool().cpu(), expected):
        return None
    for wrong, hint in (
        (held(steps).any(dim=0), "one view that is recognised is not enough"),
        (held(steps[:1]).all(dim=0), "is anything moved before the classifier is asked?"),
        (held(steps[1:]).all(dim=0), "ask about the unmoved views as well"),
        (held(steps, image_too=False).all(dim=0), "image and mask have to move together"),
        (held(steps, hidden=torch.zeros(1, 3, 1, 1)).all(dim=0), "what hides is the classifier's mean colour, not black"),
        (held([steps[i] for i in (0, 1, 3)]).all(dim=0), "each direction has an opposite one"),
    ):
        if torch.equal(given.bool().cpu(), wrong):
            return hint
    return "compare with a loop over five moves, (0, 0) among them, each with one argmax"


def exercise_4(answer: Any) -> str | None:
    """The share of images on which masks work for another classifier: three logits (B, C), targets (B,) -> float."""
    if not callable(answer):
        return "the answer is a function of four arguments"
    generator = torch.Generator().manual_seed(4)
    whole, inside, outside = torch.randn(3, 60, 3, generator=generator)
    targets = torch.randint(3, (60,), generator=generator)
    targets[:35] = whole[:35].argmax(dim=1)
    inside[:25, :] += 2 * torch.nn.functional.one_hot(targets[:25], 3)
    fits, kept, lost = whole.argmax(1) == targets, inside.argmax(1) == targets, outside.argmax(1) != targets

    given = answer(whole, inside, outside, targets)
    if not close(given, 0.0, math.inf):
        return "return one finite number for all images together"
    if close(given, float((kept & lost)[fits].float().mean()), 1e-5):
        none = answer(whole, inside, outside, (whole.argmax(dim=1) + 1) % 3)
        return None if close(none, 0.0, 1e-9) else "what do you return when no whole image is classified as its target?"
    for wrong, hint in (
        ((kept & lost & fits).float().mean(), "count the right images, but what do you divide by?"),
        ((kept & lost).float().mean(), "some images mean nothing to this classifier even when it sees all of them"),
        (kept[fits].float().mean(), "a mask has two sides to it"),
        (lost[fits].float().mean(), "a mask has two sides to it"),
        ((kept & ~lost)[fits].float().mean(), "masked-out, the class should be recognised no longer"),
        (kept[fits].float().mean() * lost[fits].float().mean(), "both must be true of the same image"),
        ((kept | lost)[fits].float().mean(), "both must be true, not one of them"),
    ):
        if close(given, float(wrong), 1e-5):
            return hint
    return "first choose the images that count, then ask two questions of each of them"


def exercise_5(answer: Any) -> str | None:
    """The smallest share of pixels, highest mask values first, that keeps the target: (B,), infinity where none does."""
    if not callable(answer):
        return "the answer is a function of five arguments"
    shares = [0.1, 0.25, 0.5, 0.75]
    classifier, images, masks = _linear_case(seed=5, count=96, colour=0.2)
    with torch.no_grad():
        targets = classifier(images).argmax(dim=1)

    def smallest(keep: Any, *, last: bool = False) -> Tensor:
        found = torch.full(targets.shape, math.inf)
        for share in shares if last else shares[::-1]:
            with torch.no_grad():
                seen = classifier(masked_in(images, keep(share), classifier.mean)).argmax(dim=1)
            found[seen == targets] = share
        return found

    def highest(share: float, sign: int = 1) -> Tensor:
        order = (-sign * masks).flatten(1).argsort(dim=1)
        ranks = order.argsort(dim=1)
        return (ranks < round(share * ranks.shape[1])).float().view_as(masks)

    given = answer(classifier, images, masks, targets, shares)
    if not isinstance(given, Tensor) or given.shape != targets.shape:
        return f"return a tensor with one share an image, here of shape {tuple(targets.shape)}"
    given, expected = given.detach().float().cpu(), smallest(highest)
    if _equal(given, expected):
        return None
    if _equal(given.nan_to_num(nan=math.inf), expected) or _equal(torch.where(given > 1, math.inf, given), expected):
        return "say infinity where no share is enough"
    for wrong, hint in (
        (smallest(highest, last=True), "this is the largest of the shares that keep the target"),
        (smallest(lambda share: highest(share, -1)), "which end of the mask is shown first?"),
        (smallest(lambda share: (masks > 1 - share).float()), "a share of the pixels is not a threshold on the mask's values"),
        (smallest(lambda share: (masks > share).float()), "a share of the pixels is not a threshold on the mask's values"),
        (smallest(lambda share: highest(share) * masks), "a pixel is shown wholly or hidden wholly here"),
    ):
        if _equal(given, wrong):
            return hint
    return "for one image: sort its mask values, keep the first k of the pixels, ask, and go on to the next share"


class _Linear(nn.Module):
    """Logits that are weighted sums of the pixels: every pixel matters by its place."""

    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight


def _linear_case(seed: int, count: int, colour: float) -> tuple[Classifier, Tensor, Tensor]:
    """A linear classifier of 8x8 images with a coloured mean, tinted random images, and masks without ties.

    `colour` is how much of the decision the tint makes, which a move leaves as it is.
    """
    generator = torch.Generator().manual_seed(seed)
    by_place, by_colour = torch.randn(3 * 64, 3, generator=generator), torch.randn(3, 3, generator=generator)
    weight = by_place + colour * by_colour.repeat_interleave(64, dim=0)
    classifier = Classifier(_Linear(weight), (), mean=(0.3, 0.5, 0.6), input_size=(8, 8)).eval()
    tint = torch.rand(count, 3, 1, 1, generator=generator) - 0.5
    images = classifier.mean + 0.5 * (0.5 * tint + 0.5 * (torch.rand(count, 3, 8, 8, generator=generator) - 0.5))
    ranks = torch.rand(count, 64, generator=generator).argsort(dim=1)
    masks = ((ranks.float() + 0.5) / 64).square().view(count, 1, 8, 8)  # squared: a value is not its own rank
    return classifier, images, masks


def _equal(one: Tensor, other: Tensor) -> bool:
    """Equal shares, infinities included."""
    return bool(((one == other) | ((one - other).abs() < 1e-6)).all())
