"""The checkers of notebook 06, fixed or classifier-agnostic. Each takes an answer; None when it is right, else one hint."""

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maskerlib.course.grading import close
from maskerlib.course.shortcut import mask_by_region
from maskerlib.masking.masks import masked_in, masked_out

__all__ = ["exercise_1", "exercise_2", "exercise_3", "exercise_4", "exercise_5"]


def exercise_1(answer: Any) -> str | None:
    """How many members the pool holds: (steps done, every, size) -> a whole number."""
    if not callable(answer):
        return "a function is asked for, that takes the steps done, the steps between two snapshots and the size of the pool"
    for steps, every, size in ((300, 40, 30), (80, 40, 30), (81, 40, 30), (1, 100, 30), (5000, 100, 30), (3, 1, 3)):
        given, right = answer(steps, every, size), min(size, math.ceil(steps / every))
        if close(given, right, 0.01):
            continue
        case = f"steps={steps}, every={every}, size={size}"
        if close(given, math.ceil(steps / every), 0.01):
            return f"{case}: a full pool replaces a member"
        if close(given, min(size, steps // every), 0.01):
            return f"{case}: at which step is the first snapshot taken?"
        if close(given, min(size, steps // every + 1), 0.01):
            return f"{case}: write down the number of the last step that has been made; steps are counted from 0"
        return f"not yet for {case}: write down the steps at which a snapshot is taken, and count them"
    return None


def exercise_2(answer: Any) -> str | None:
    """The 95 % bootstrap interval of a paired difference: (a (N,), b (N,)) -> (low, high) of the mean of a - b."""
    if not callable(answer):
        return "a function is asked for, that takes the values of two methods on the same images, one number an image each"
    generator = torch.Generator().manual_seed(6)
    shared = torch.randn(300, generator=generator, dtype=torch.float64)
    a, b = (shared + 0.3 * torch.randn(300, generator=generator, dtype=torch.float64) for _ in range(2))
    a += 0.1
    paired, apart = _half_width(a - b), math.hypot(_half_width(a), _half_width(b))
    low, high = (float(end) for end in answer(a.clone(), b.clone()))
    middle, half = (low + high) / 2, (high - low) / 2
    if not (math.isfinite(middle) and math.isfinite(half)):
        return "the ends are not finite numbers"
    if high < low:
        return "the first number should be the lower end, the second the upper one"
    if close(middle, -float((a - b).mean()), 0.1 * abs(float((a - b).mean()))):
        return "the sign: the difference is a - b"
    if close(half, apart, 0.25 * apart):
        return "this is as wide as if the two methods had seen different images: draw the images once, for both"
    if half > 5 * paired:
        return "this is the spread of single images; the interval asked for is that of their mean"
    if close(half, _half_width(a - b) * 1.645 / 1.96, 0.04 * paired):
        return "this is narrower than it should be: how many per cent of the means lie between your ends?"
    if not close(half, paired, 0.12 * paired) or not close(middle, float((a - b).mean()), 0.12 * paired):
        return "not yet: draw N images with repetition, many times; take the mean of each draw; then the quantiles of the means"
    same = answer(a.clone(), a.clone() - 1)
    if not (close(float(same[0]), 1, 1e-6) and close(float(same[1]), 1, 1e-6)):
        return "where a - b is the same number on every image, both ends should be that number"
    return None


def _half_width(values: Tensor) -> float:
    return 1.96 * float(values.std()) / math.sqrt(len(values))


def exercise_3(answer: Any) -> str | None:
    """How many times more mask a region has than its size promises: (masks (B, 1, H, W), regions (B, H, W)) -> (B,)."""
    if not callable(answer):
        return "a function is asked for, that takes masks and regions and returns one number an image"
    masks = torch.rand(5, 1, 6, 8, generator=torch.Generator().manual_seed(6))
    regions = torch.zeros(5, 6, 8, dtype=torch.bool)
    for index, (rows, columns) in enumerate(((2, 3), (6, 8), (1, 1), (5, 2), (3, 7))):
        regions[index, :rows, :columns] = True
    masks[3] = 0.0
    masks[3, 0, :5, :2] = 0.25  # all of the mask lies in the region
    given = answer(masks.clone(), regions.clone())
    if not isinstance(given, Tensor) or given.shape != (5,):
        return f"one number an image is asked for, a tensor of shape (5,) for five images; got {_shape(given)}"
    value, share = mask_by_region(masks, regions)
    size = regions.float().mean(dim=(1, 2))
    if torch.allclose(given.float(), share / size, atol=1e-4):
        return None
    for wrong, hint in (
        (value, "that is the mean of the mask over the region; what would it be if the mask did not prefer any place?"),
        (share, "that is the share of the mask in the region; a larger region has more of it: compare it with the region's size"),
        (size / share, "upside down: more mask than the size promises should be a number above 1"),
        (share - size, "a difference; how many *times* is asked"),
        (share / size.mean(), "each image has a region of its own size; do not average over the batch"),
    ):
        if torch.allclose(given.float(), wrong, atol=1e-4):
            return hint
    return "try two masks by hand: of equal values (every region gets 1), and one that lies wholly in half of the image (2 there)"


def _shape(value: Any) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def exercise_4(answer: Any) -> str | None:
    """remember: (members, step, classifier, every) adds a copy of the classifier's state, {step: state}, when it is due."""
    if not callable(answer):
        return "a function is asked for, that takes the dict of members, the step, the classifier and the steps between snapshots"
    linear, norm = nn.Linear(2, 3), nn.BatchNorm1d(3)
    network = nn.Sequential(linear, norm)
    members: dict[int, Any] = {}
    for step in range(7):
        with torch.no_grad():
            linear.weight.fill_(step)
            norm.get_buffer("running_mean").fill_(step)
        answer(members, step, network, 3)
    if not members:
        return "no member was kept: the dict that is passed in should be added to"
    if sorted(members) != [0, 3, 6]:
        missing = "step 0 is due as well" if 0 not in members else "only the steps that `every` divides are due"
        return f"after steps 0 to 6 with every=3, other members are there than should be: {missing}"
    if not all(isinstance(state, dict) for state in members.values()):
        return "a member should be a state dict: names and tensors"
    if any(state.keys() != network.state_dict().keys() for state in members.values()):
        return "something of the classifier's state is missing: batch norm has more to remember than its weights"
    for step, state in members.items():
        if (state["0.weight"] != step).any() or (state["1.running_mean"] != step).any():
            return "an early member has the values of a later step: does state_dict() hand out copies, or the tensors themselves?"
        if any(value.requires_grad for value in state.values()):
            return "a member carries gradients along: detach what you keep"
    return None


def exercise_5(answer: Any) -> str | None:
    """The loss of a CA classifier: (classifier, images, labels, masks, member) -> scalar; member: does a pool member judge?"""
    if not callable(answer):
        return "a function is asked for, that takes the classifier, images, labels, masks, and whether a member judges"
    generator = torch.Generator().manual_seed(6)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        network = _Toy()
    images, labels = torch.rand(4, 3, 4, 4, generator=generator), torch.tensor([0, 1, 2, 1])
    drawn = torch.rand(4, 1, 4, 4, generator=generator)
    views = {"in": masked_in(images, drawn, network.mean), "out": masked_out(images, drawn, network.mean)}
    with torch.no_grad():
        clean, seen_in, seen_out = (float(F.cross_entropy(network(view), labels)) for view in (images, *views.values()))
    for member in (False, True):
        masks = drawn.clone().requires_grad_()
        trained = copy.deepcopy(network)
        loss = answer(trained, images.clone(), labels.clone(), masks, member)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            return f"one number is asked for, a scalar tensor; got {_shape(loss)}"
        given, right = float(loss.detach()), clean + (0 if member else seen_in + seen_out)
        if not close(given, right, 1e-4):
            return _classifier_hint(given, member, clean, seen_in, seen_out)
        if not loss.requires_grad:
            return "the loss carries no gradient, so the classifier could not learn from it"
        loss.backward()
        if masks.grad is not None and masks.grad.any():
            return "this loss has a gradient for the masks as well: the masker would be pulled towards what helps the classifier"
    return None


def _classifier_hint(given: float, member: bool, clean: float, seen_in: float, seen_out: float) -> str:
    if member:
        if close(given, clean + seen_in + seen_out, 1e-4):
            return "when a member judges, from which images does the current classifier still learn?"
        if close(given, 0, 1e-4):
            return "when a member judges, the current classifier does not stand still altogether"
        return "without a member the loss is right, with one it is not yet"
    known = (
        (seen_in + seen_out, "one kind of image is missing: what keeps the classifier good at its own task?"),
        (clean + seen_in, "the images without their object are images to learn from, too"),
        (clean + seen_out, "the images that show nothing but the object are images to learn from, too"),
        (clean + seen_in - seen_out, "the classifier plays its own game: it tries to recognise the masked-out images"),
        ((clean + seen_in + seen_out) / 3, "a sum is asked for, each of its parts a mean over the batch"),
    )
    for value, hint in known:
        if close(given, value, 1e-4):
            return hint
    return "the sum of some mean cross-entropies is asked for; is what hides a pixel `classifier.mean`?"


class _Toy(nn.Module):
    """A linear classifier with a mean colour that is not grey, so that another infill is noticed."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(48, 3)
        self.register_buffer("mean", torch.tensor([0.2, 0.4, 0.6]).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(images.flatten(1))
        return logits
