"""The checkers of notebook 08, training the classifier. Each takes an answer; None when it is right, else one hint."""

from typing import Any

import torch

from maskerlib.course.grading import close

__all__ = ["exercise_1", "exercise_2", "exercise_3", "exercise_4"]


def exercise_1(answer: Any) -> str | None:
    """Which share of images a classifier has learnt and forgotten: (before (N,), after (N,) bool) -> (learnt, forgotten)."""
    if not callable(answer):
        return "a function is asked for, that takes what was right before and what is right after, one truth value an image"
    generator = torch.Generator().manual_seed(8)
    for share in (0.5, 0.9):
        before, after = (torch.rand(200, generator=generator) < chance for chance in (share, 0.8))
        learnt, forgotten = answer(before.clone(), after.clone())
        right = [float((~before & after).float().mean()), float((before & ~after).float().mean())]
        if close(learnt, right[1], 1e-6) and close(forgotten, right[0], 1e-6):
            return "the other way round: learnt is what was wrong before and is right after"
        if close(learnt, right[0] / float((~before).float().mean()), 1e-6):
            return "as shares of all images, not of those that were wrong before"
        if not (close(learnt, right[0], 1e-6) and close(forgotten, right[1], 1e-6)):
            return "not yet: an image counts only if its truth value has changed, and it matters in which direction"
    return None


def exercise_2(answer: Any) -> str | None:
    """How much older than the classifier its judge is on average: (step, every, historic) -> a number of steps."""
    if not callable(answer):
        return "a function is asked for, that takes the step, the steps between two snapshots and the chance of a member"
    for step, every, historic in ((10, 4, 0.5), (127, 8, 0.5), (127, 8, 1.0), (8, 8, 0.25), (0, 8, 0.5), (50, 100, 0.3)):
        members = range(0, step + 1, every)
        ages = [step - member for member in members]
        right = historic * sum(ages) / len(ages)
        given = answer(step, every, historic)
        if close(given, right, 1e-6):
            continue
        case = f"step={step}, every={every}, historic={historic}"
        if historic < 1 and close(given, sum(ages) / len(ages), 1e-6):
            return f"{case}: in the other steps the current classifier judges, whose age is 0"
        without = [step - member for member in range(0, step, every)] or [0]
        if close(given, historic * sum(without) / len(without), 1e-6):
            return f"{case}: the snapshot that is due is taken before the judge is drawn"
        return f"not yet for {case}: write down the steps at which the members were taken; each is drawn equally often"
    return None


def exercise_3(answer: Any) -> str | None:
    """The chance that the very first member is still there: (snapshots taken, size of the pool) -> a probability."""
    if not callable(answer):
        return "a function is asked for, that takes how many snapshots were taken and how many the pool can hold"
    for taken, size in ((1, 1), (2, 1), (5, 5), (6, 5), (16, 4), (128, 30), (3, 30)):
        given, right = answer(taken, size), (1 - 1 / size) ** max(0, taken - size)
        if close(given, right, 1e-6):
            continue
        case = f"{taken} snapshots in a pool of {size}"
        if taken <= size:
            return f"{case}: as long as there is room, nothing is replaced"
        if close(given, size / taken, 1e-6):
            return f"{case}: the new snapshot always enters, so this is not a fair sample of all snapshots"
        if close(given, (1 - 1 / size) ** taken, 1e-6) or close(given, (1 - 1 / size) ** (taken - 1), 1e-6):
            return f"{case}: how many of the snapshots have replaced a member?"
        return f"not yet for {case}: each replacement spares a given member with the same chance"
    return None


def exercise_4(answer: Any) -> str | None:
    """Who judges and who learns in a CA step: (drawn, released) -> (a member judges, the classifier learns from masks)."""
    if not callable(answer):
        return "a function is asked for, that takes two truth values and returns two"
    for drawn in (False, True):
        for released in (False, True):
            given = answer(drawn, released)
            judges, learns = (bool(value) for value in given)
            case = f"drawn={drawn}, released={released}"
            if learns != (not drawn):
                return f"{case}: when does the classifier learn from masked images? In both versions the same"
            if judges != (drawn and not released):
                return f"{case}: reread what the switch brings back, and say whose answers the masker is judged by"
    return None
