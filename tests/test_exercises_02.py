"""The checkers of notebook 02: wrong answers get a hint without the answer, right ones of any form pass."""

import inspect
import math

import numpy as np
import pytest
import torch

from maskerlib.course import exercises_02
from maskerlib.course.grading import exercises, grade
from maskerlib.masking.masks import masked_in

RIGHT_1 = -math.log(0.8) + 0.6 * math.log(0.6) + 0.4 * math.log(0.4) - 0.7


def rejected(number: str, answer: object, *words: str) -> None:
    """The answer is wrong, and the hint speaks of the mistake."""
    verdict = grade(number, answer)
    assert not verdict
    assert "raised" not in verdict.text, verdict.text
    for word in words:
        assert word in verdict.text, verdict.text


def test_five_exercises_are_known_and_say_what_they_ask():
    assert list(exercises("02")) == ["2.1", "2.2", "2.3", "2.4", "2.5"] == list(exercises(2))
    assert sorted(exercises_02.__all__) == [f"exercise_{i}" for i in range(1, 6)]
    for name in exercises_02.__all__:
        first_line = inspect.getdoc(getattr(exercises_02, name)).splitlines()
        assert len(first_line) == 1 and grade(f"2.{name[-1]}", None).text == "no answer yet"


@pytest.mark.parametrize("answer", [RIGHT_1, -1.150, np.float32(RIGHT_1), torch.tensor(RIGHT_1), -1.1499])
def test_1_takes_the_number_in_any_form(answer):
    assert grade("2.1", answer)


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (RIGHT_1 - 3.5, "bracket"),
        (RIGHT_1 + 1.5, "relu"),
        (RIGHT_1 + 0.7, "reward"),
        (RIGHT_1 + 1.4, "lowers"),
        (RIGHT_1 + 2 * 0.673, "entropy"),
        (RIGHT_1 + 0.4, "smaller"),
        (-math.log(0.8) + math.log(0.6) - 0.7, "cross-entropy"),
        (3.0, "each with its sign"),
        (math.nan, "one number"),
        ("-1.15", "one number"),
        (lambda: -1.15, "one number"),
    ],
)
def test_1_tells_the_mistakes_apart_and_keeps_the_answer(answer, word):
    rejected("2.1", answer, word)
    assert "1.15" not in grade("2.1", answer).text


def rewards(areas, right_whole, right_in, right_out, size_in, size_out):
    """The solution."""
    c_in, c_out = right_in.float(), (right_whole & ~right_out).float()
    return -size_in * (c_in - areas).relu() - size_out * (c_out - areas).relu()


def rewards_by_hand(areas, right_whole, right_in, right_out, size_in, size_out):
    """Image by image, with no bracket in sight."""
    result = []
    for a, whole, inside, outside in zip(areas, right_whole, right_in, right_out, strict=True):
        value = -size_in * (1 - float(a)) if inside else 0.0
        result.append(value - size_out * (1 - float(a)) if whole and not outside else value)
    return torch.tensor(result, dtype=torch.float64)


@pytest.mark.parametrize("answer", [rewards, rewards_by_hand])
def test_2_takes_any_form(answer):
    assert grade("2.2", answer)


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (lambda *a: -rewards(*a), "lowers"),
        (lambda a, w, i, o, si, so: rewards(a, torch.ones_like(w), i, o, si, so), "to begin with"),
        (lambda a, w, i, o, si, so: rewards(a, w, i, ~o, si, so), "good or bad"),
        (lambda a, w, i, o, si, so: (si + so) * a, "only while"),
        (lambda a, w, i, o, si, so: -(si + so) * (1 - a), "only while"),
        (lambda a, w, i, o, si, so: -si * (i.float() - a) - so * ((w & ~o).float() - a), "size must not matter"),
        (lambda *a: rewards(*a).sum(), "one number an image"),
        (lambda *a: torch.zeros_like(a[0]), "by hand"),
        (3.0, "function"),
    ],
)
def test_2_tells_the_mistakes_apart(answer, word):
    rejected("2.2", answer, word)
    assert "relu" not in grade("2.2", answer).text


def robust(classifier, images, masks, targets, reach, *, moves=None, combine=torch.all, image_too=True, hidden=None):
    """The solution, and with its arguments the ways to get it wrong."""
    held = []
    for by in moves or ((0, 0), (reach, 0), (-reach, 0), (0, reach), (0, -reach)):
        image = torch.roll(images, by, dims=(2, 3)) if image_too else images
        mask = torch.roll(masks, by, dims=(2, 3))
        view = masked_in(image, mask, classifier.mean if hidden is None else hidden)
        held.append(classifier(view).argmax(dim=1) == targets)
    return combine(torch.stack(held), dim=0)


def robust_at_once(classifier, images, masks, targets, reach):
    """One batch of all views; hidden after the move, in normalised units, by zero."""
    views = classifier.mean + masks * (images - classifier.mean)
    moved = [views, *(views.roll(by, axis) for axis in (2, 3) for by in (reach, -reach))]
    answers = classifier(torch.cat(moved)).argmax(dim=1).view(5, -1)
    return ((answers == targets).sum(dim=0) == 5).int()


@pytest.mark.parametrize("answer", [robust, robust_at_once])
def test_3_takes_any_form(answer):
    assert grade("2.3", answer)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"combine": torch.any}, "not enough"),
        ({"moves": [(0, 0)]}, "moved before"),
        ({"moves": [(2, 0), (-2, 0), (0, 2), (0, -2)]}, "unmoved"),
        ({"moves": [(0, 0), (2, 0), (0, 2)]}, "opposite"),
        ({"image_too": False}, "together"),
        ({"hidden": torch.zeros(1, 3, 1, 1)}, "mean colour"),
        ({"combine": lambda held, dim: ~held[0]}, "argmax"),
        ({"combine": lambda held, dim: held.float().mean(dim=dim)}, "verdicts"),
        ({"combine": lambda held, dim: held.all()}, "shape"),
    ],
)
def test_3_tells_the_mistakes_apart(changes, word):
    rejected("2.3", lambda *given: robust(*given, **changes), word)


def transfer(whole, inside, outside, targets):
    """The solution."""
    fits = whole.argmax(dim=1) == targets
    if not fits.any():
        return 0.0
    works = (inside.argmax(dim=1) == targets) & (outside.argmax(dim=1) != targets)
    return float(works[fits].float().mean())


def transfer_counted(whole, inside, outside, targets):
    """By counting, with top-k in place of argmax."""
    hits = total = 0
    for one, two, three, target in zip(whole, inside, outside, targets.tolist(), strict=True):
        if one.topk(1).indices.item() == target:
            total += 1
            hits += two.topk(1).indices.item() == target and three.topk(1).indices.item() != target
    return np.float64(hits / max(total, 1))


@pytest.mark.parametrize("answer", [transfer, transfer_counted, lambda *a: torch.tensor(transfer(*a))])
def test_4_takes_any_form(answer):
    assert grade("2.4", answer)


def transfer_wrong(change):
    def answer(whole, inside, outside, targets):
        fits, kept, lost = whole.argmax(1) == targets, inside.argmax(1) == targets, outside.argmax(1) != targets
        return float(change(fits, kept, lost))

    return answer


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda fits, kept, lost: (fits & kept & lost).float().mean(), "divide"),
        (lambda fits, kept, lost: (kept & lost).float().mean(), "sees all of them"),
        (lambda fits, kept, lost: kept[fits].float().mean(), "two sides"),
        (lambda fits, kept, lost: lost[fits].float().mean(), "two sides"),
        (lambda fits, kept, lost: (kept & ~lost)[fits].float().mean(), "no longer"),
        (lambda fits, kept, lost: (kept | lost)[fits].float().mean(), "not one of them"),
        (lambda fits, kept, lost: kept[fits].float().mean() * lost[fits].float().mean(), "same image"),
        (lambda fits, kept, lost: 2.0, "first choose"),
    ],
)
def test_4_tells_the_mistakes_apart(change, word):
    rejected("2.4", transfer_wrong(change), word)


def test_4_asks_for_the_empty_case_and_for_one_number():
    def divides_by_zero(whole, inside, outside, targets):
        fits = whole.argmax(dim=1) == targets
        works = (inside.argmax(dim=1) == targets) & (outside.argmax(dim=1) != targets)
        return float(works[fits].float().mean())

    rejected("2.4", divides_by_zero, "no whole image")
    rejected("2.4", lambda whole, inside, outside, targets: whole.argmax(dim=1) == targets, "one finite number")


def smallest(classifier, images, masks, targets, shares, *, largest_first=True, sign=1, soft=False, threshold=False):
    """The solution, and with its arguments the ways to get it wrong."""
    result = torch.full((len(images),), math.inf)
    ranks = (-sign * masks.flatten(1)).argsort(dim=1).argsort(dim=1).view_as(masks)
    for share in sorted(shares, reverse=largest_first):
        keep = masks > 1 - share if threshold else ranks < round(share * masks[0].numel())
        keep = keep.float() * masks if soft else keep.float()
        recognised = classifier(masked_in(images, keep, classifier.mean)).argmax(dim=1) == targets
        result[recognised] = share
    return result


def smallest_one_by_one(classifier, images, masks, targets, shares):
    """Image by image, upwards, with a threshold at the k-th value."""
    result = []
    for image, mask, target in zip(images, masks, targets, strict=True):
        for share in shares:
            k = round(share * mask.numel())
            level = mask.flatten().topk(k).values[-1]
            view = torch.where(mask >= level, image, classifier.mean[0])
            if int(classifier(view[None]).argmax()) == int(target):
                result.append(share)
                break
        else:
            result.append(float("inf"))
    return torch.tensor(result, dtype=torch.float64)


@pytest.mark.parametrize("answer", [smallest, smallest_one_by_one])
def test_5_takes_any_form(answer):
    assert grade("2.5", answer)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"largest_first": False}, "largest of the shares"),
        ({"sign": -1}, "which end"),
        ({"soft": True}, "wholly"),
        ({"threshold": True}, "threshold"),
    ],
)
def test_5_tells_the_mistakes_apart(changes, word):
    rejected("2.5", lambda *given: smallest(*given, **changes), word)


def test_5_wants_infinity_and_one_share_an_image():
    rejected("2.5", lambda *given: smallest(*given).nan_to_num(posinf=math.nan), "infinity")
    rejected("2.5", lambda *given: smallest(*given).clamp(max=2.0), "infinity")
    rejected("2.5", lambda *given: smallest(*given).mean(), "one share an image")
    rejected("2.5", lambda *given: torch.full_like(given[3], 1).float(), "one image")


def test_what_raises_is_told():
    assert "KeyError" in grade("2.3", lambda *given: {}["missing"]).text


def test_the_cases_of_the_checkers_hold_what_they_need():
    classifier, images, masks = exercises_02._linear_case(seed=5, count=96, colour=0.2)
    assert images.min() >= 0 and images.max() <= 1 and masks.min() > 0 and masks.max() < 1
    assert all(len(mask.unique()) == 64 for mask in masks)
    found = smallest(classifier, images, masks, classifier(images).argmax(dim=1), [0.1, 0.25, 0.5, 0.75])
    assert len(found.unique()) == 5
