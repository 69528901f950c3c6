"""The checkers of notebook 06: they tell right from wrong, and their hints do not give the answer away."""

import math

import numpy as np
import pytest
import torch
from answers import refused
from torch.nn import functional as F

from maskerlib.course.exercises_06 import exercise_1, exercise_2, exercise_3, exercise_4, exercise_5
from maskerlib.course.grading import exercises, grade
from maskerlib.masker.pool import ClassifierPool
from maskerlib.masking.masks import masked_in, masked_out


def test_all_five_are_found_and_told_apart_from_no_answer():
    assert list(exercises(6)) == [f"6.{number}" for number in range(1, 6)]
    for number, checker in exercises(6).items():
        assert not grade(number, None) and "a function is asked for" in checker(3.0)


class TestMembers:
    @pytest.mark.parametrize(
        "answer",
        [
            lambda steps, every, size: min(size, math.ceil(steps / every)),
            lambda steps, every, size: torch.tensor(min(size, len(range(0, steps, every)))),
            lambda steps, every, size: np.float64(min((steps - 1) // every + 1, size)),
        ],
    )
    def test_right(self, answer):
        assert exercise_1(answer) is None

    def test_the_pool_agrees(self):
        from tiny import tiny_classifier

        classifier = tiny_classifier()

        def count(steps, every, size):
            pool = ClassifierPool(classifier, every=every, size=size)
            for step in range(steps):
                pool.remember(step, classifier)
            return len(pool.members)

        assert exercise_1(count) is None

    @pytest.mark.parametrize(
        ("answer", "hint"),
        [
            (lambda steps, every, size: steps // every, "first snapshot"),
            (lambda steps, every, size: min(size, steps // every), "first snapshot"),
            (lambda steps, every, size: min(size, steps // every + 1), "counted from 0"),
            (lambda steps, every, size: math.ceil(steps / every), "replaces a member"),
            (lambda steps, every, size: size, "count them"),
        ],
    )
    def test_wrong(self, answer, hint):
        refused(exercise_1, answer, hint)
        assert "ceil" not in exercise_1(answer) and "min(" not in exercise_1(answer)


def bootstrap(values, level=0.95, draws=2000):
    picks = torch.randint(len(values), (draws, len(values)), generator=torch.Generator().manual_seed(1))
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=values.dtype)
    return values[picks].mean(dim=1).quantile(ends)


class TestInterval:
    def test_right(self):
        assert exercise_2(lambda a, b: bootstrap(a - b)) is None

        def other(a, b):
            rng, pairs = np.random.default_rng(5), torch.stack([a, b]).numpy()
            means = [np.diff(pairs[::-1, rng.integers(len(a), size=len(a))], axis=0).mean() for _ in range(1000)]
            return tuple(np.percentile(means, [2.5, 97.5]))

        assert exercise_2(other) is None

    @pytest.mark.parametrize(
        ("answer", "hint"),
        [
            (lambda a, b: bootstrap(b - a), "a - b"),
            (lambda a, b: bootstrap(a - b).flip(0), "the first number"),
            (lambda a, b: bootstrap(a - b[torch.randperm(len(b))]), "draw the images once"),
            (lambda a, b: (a - b).quantile(torch.tensor([0.025, 0.975], dtype=a.dtype)), "spread of single images"),
            (lambda a, b: bootstrap(a - b, level=0.90), "per cent"),
            (lambda a, b: bootstrap(a - b, level=0.50), "quantiles"),
            (lambda a, b: (math.nan, 1.0), "finite"),
        ],
    )
    def test_wrong(self, answer, hint):
        refused(exercise_2, answer, hint)

    def test_drawing_for_each_method_alone(self):
        def apart(a, b):
            generator = torch.Generator().manual_seed(2)
            means = [v[torch.randint(300, (2000, 300), generator=generator)].mean(dim=1) for v in (a, b)]
            return (means[0] - means[1]).quantile(torch.tensor([0.025, 0.975], dtype=a.dtype))

        refused(exercise_2, apart, "draw the images once")


def lift(masks, regions):
    return (masks[:, 0] * regions).sum(dim=(1, 2)) / masks.sum(dim=(1, 2, 3)) / regions.float().mean(dim=(1, 2))


class TestLift:
    def test_right(self):
        assert exercise_3(lift) is None
        assert exercise_3(lambda m, r: torch.stack([a[0][b].mean() / a.mean() for a, b in zip(m, r, strict=True)])) is None

    @pytest.mark.parametrize(
        ("answer", "hint"),
        [
            (lambda m, r: (m[:, 0] * r).sum(dim=(1, 2)) / r.sum(dim=(1, 2)), "mean of the mask over the region"),
            (lambda m, r: (m[:, 0] * r).sum(dim=(1, 2)) / m.sum(dim=(1, 2, 3)), "share of the mask"),
            (lambda m, r: 1 / lift(m, r), "upside down"),
            (lambda m, r: lift(m, r) * r.float().mean(dim=(1, 2)) - r.float().mean(dim=(1, 2)), "how many *times*"),
            (lambda m, r: lift(m, r) * r.float().mean(dim=(1, 2)) / r.float().mean(), "of its own size"),
            (lambda m, r: lift(m, r).mean(), "one number an image"),
            (lambda m, r: lift(m, r) * 2, "by hand"),
        ],
    )
    def test_wrong(self, answer, hint):
        refused(exercise_3, answer, hint)


class TestRemember:
    def test_right(self):
        def clones(members, step, classifier, every):
            if step % every == 0:
                members[step] = {name: value.detach().clone() for name, value in classifier.state_dict().items()}

        def copies(members, step, classifier, every):
            import copy

            if step in range(0, 10_000, every):
                members[step] = copy.deepcopy(classifier.state_dict())

        assert exercise_4(clones) is None and exercise_4(copies) is None

    @pytest.mark.parametrize(
        ("kept", "hint"),
        [
            (lambda c: c.state_dict(), "hand out copies"),
            (lambda c: {n: v.clone() for n, v in c.named_parameters()}, "batch norm"),
            (lambda c: {n: v.clone() for n, v in c.state_dict(keep_vars=True).items()}, "gradients"),
            (lambda c: c, "state dict"),
        ],
    )
    def test_wrong_state(self, kept, hint):
        def answer(members, step, classifier, every):
            if step % every == 0:
                members[step] = kept(classifier)

        refused(exercise_4, answer, hint)

    @pytest.mark.parametrize(
        ("due", "hint"),
        [
            (lambda step, every: True, "`every` divides"),
            (lambda step, every: step and step % every == 0, "step 0"),
            (lambda step, every: False, "added to"),
        ],
    )
    def test_wrong_steps(self, due, hint):
        def answer(members, step, classifier, every):
            if due(step, every):
                members[step] = {name: value.clone() for name, value in classifier.state_dict().items()}

        refused(exercise_4, answer, hint)


def loss_of(classifier, images, labels, masks, member, *, signs=(1, 1, 1), detach=True, infill=None):
    masks = masks.detach() if detach else masks
    hidden = classifier.mean if infill is None else infill
    views = [images] if member else [images, masked_in(images, masks, hidden), masked_out(images, masks, hidden)]
    losses = [F.cross_entropy(classifier(view), labels) for view in views]
    return sum(sign * loss for sign, loss in zip(signs, losses, strict=False))


class TestLoss:
    def test_right(self):
        assert exercise_5(loss_of) is None

        def other(classifier, images, labels, masks, member):
            total = F.nll_loss(classifier(images).log_softmax(dim=1), labels)
            if member:
                return total
            with torch.no_grad():
                z = classifier.mean
                views = torch.cat([masks * images + (1 - masks) * z, (1 - masks) * images + masks * z])
            return total + 2 * F.cross_entropy(classifier(views), labels.repeat(2))

        assert exercise_5(other) is None

    @pytest.mark.parametrize(
        ("options", "hint"),
        [
            ({"signs": (0, 1, 1)}, "its own task"),
            ({"signs": (1, 1, 0)}, "without their object"),
            ({"signs": (1, 0, 1)}, "nothing but the object"),
            ({"signs": (1, 1, -1)}, "its own game"),
            ({"signs": (1 / 3, 1 / 3, 1 / 3)}, "a sum is asked for"),
            ({"infill": 0.0}, "classifier.mean"),
            ({"detach": False}, "gradient for the masks"),
        ],
    )
    def test_wrong(self, options, hint):
        refused(exercise_5, lambda *given: loss_of(*given, **options), hint)

    def test_wrong_with_a_member(self):
        refused(exercise_5, lambda c, x, y, m, member: loss_of(c, x, y, m, False), "still learn")
        refused(exercise_5, lambda c, x, y, m, member: loss_of(c, x, y, m, False) * (not member), "stand still")

    def test_without_a_gradient(self):
        refused(exercise_5, lambda *given: loss_of(*given).detach(), "no gradient")
        refused(exercise_5, lambda *given: torch.zeros(4), "shape (4,)")
