"""The checkers of notebook 12, few examples. Each takes an answer; None when it is right, else one hint."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskerlib.course.grading import close, same
from maskerlib.running.seeds import stream
from maskerlib.training.loop import steps_for

__all__ = ["exercise_1", "exercise_2", "exercise_3", "exercise_4"]


def exercise_1(answer: Any) -> str | None:
    """Steps that show every scene at least so often: (per class, classes, passes, batch size) -> a whole number."""
    if not callable(answer):
        return "a function is asked for, that takes per class, classes, passes and the batch size"
    for count, classes, passes, batch in ((128, 16, 1, 16), (10, 16, 2.5, 16), (3, 16, 3, 32), (10, 1000, 1, 72)):
        images = passes * count * classes
        right = steps_for(passes, count * classes, batch)
        given = answer(count, classes, passes, batch)
        if close(given, right, 1e-6):
            continue
        case = f"{count} per class of {classes}, {passes} passes, batches of {batch}"
        if close(given, images, 1e-6):
            return f"{case}: this counts images; a step takes a whole batch of them"
        if close(given, steps_for(passes, count, batch), 1e-6) or close(given, passes * count / batch, 1e-6):
            return f"{case}: how many scenes are there in all?"
        if close(given, images // batch, 1e-6) or close(given, images / batch, 1e-6):
            return f"{case}: the last scenes have to be shown as well, and there is no part of a step"
        if close(given, math.ceil(count * classes / batch), 1e-6):
            return f"{case}: that is a single pass"
        return f"not yet for {case}: first the images that are shown, then the batches that they fill"
    return None


def exercise_2(answer: Any) -> str | None:
    """A draw of so many of each class: (labels (N,), order (N,), count) -> indices, where more keep those of fewer."""
    if not callable(answer):
        return "a function is asked for, that takes labels, an order of the indices, and how many of each class"
    labels = torch.tensor([0, 1, 2, 3] * 6)[torch.randperm(24, generator=stream(0, "exercise 12.2", "labels"))]
    for number in range(3):
        order = torch.randperm(24, generator=stream(number, "exercise 12.2", "order"))
        drawn = {}
        for count in (1, 2, 5):
            given = [int(index) for index in answer(labels.clone(), order.clone(), count)]
            if not all(0 <= index < 24 for index in given):
                return f"{count} of each: indices of the scenes are asked for, from 0 to 23 where there are 24"
            if len(set(given)) < len(given):
                return f"{count} of each: a scene was drawn twice"
            of_each = torch.bincount(labels[given], minlength=4).tolist()
            if len(given) == count:
                return f"{count} of each: these are {count} in all"
            if of_each != [count] * 4:
                return f"{count} of each: by class there are {of_each}"
            drawn[count] = set(given)
        if not drawn[1] <= drawn[2] <= drawn[5]:
            return "five of each must keep those that one of each has: let the order decide, and nothing else"
        position = {int(index): place for place, index in enumerate(order)}
        first = {min((index for index in range(24) if labels[index] == label), key=position.__getitem__) for label in range(4)}
        if drawn[1] != first:
            return "another order must give another draw: in each class, who comes first in the order?"
    return None


def exercise_3(answer: Any) -> str | None:
    """Ridge regression from sums: a list of (X^T X, X^T t, rows), one a data set, and lambda -> the weights of all data."""
    if not callable(answer):
        return "a function is asked for, that takes a list of (X^T X, X^T t, rows) and lambda"
    sums, features, truths = [], [], []
    for number, rows in enumerate((7, 40, 12)):
        generator = stream(number, "exercise 12.3")
        x = torch.randn(rows, 3, generator=generator).double() + number
        t = x @ torch.tensor([1.0, -2.0, 0.5]).double() + 2 * torch.randn(rows, generator=generator).double()
        sums.append((x.T @ x, x.T @ t, rows))
        features.append(x)
        truths.append(t)
    strength = 0.1
    x, t = torch.cat(features), torch.cat(truths)
    given = torch.as_tensor(answer([(a.clone(), b.clone(), rows) for a, b, rows in sums], strength)).double().flatten()
    if same(given, _ridge(x.T @ x, x.T @ t, strength * len(x)), 1e-6):
        return None
    each = [_ridge(a, b, strength * rows) for a, b, rows in sums]
    mean = torch.stack(each).mean(dim=0)
    by_rows = torch.stack([rows * w for (_, _, rows), w in zip(sums, each, strict=True)]).sum(dim=0) / len(x)
    wrong: Mapping[str, tuple[Tensor, ...]] = {
        "a mean of weights is not the answer for all data: what is it that adds up?": (mean, by_rows),
        "as in the notebook lambda counts once for every row": (_ridge(x.T @ x, x.T @ t, strength),),
        "lambda counts once for every row: how many are there in all?": tuple(
            _ridge(x.T @ x, x.T @ t, strength * rows) for _, _, rows in sums
        ),
        "where is lambda?": (_ridge(x.T @ x, x.T @ t, 0.0),),
        "these are the weights of one of the data sets": tuple(each),
    }
    for hint, values in wrong.items():
        if any(same(given, value, 1e-6) for value in values):
            return hint
    return "not yet: which parts of the formula are sums over rows, and which are not?"


def _ridge(gram: Tensor, moment: Tensor, added: float) -> Tensor:
    weights: Tensor = torch.linalg.solve(gram + added * torch.eye(len(gram)).double(), moment)
    return weights


def exercise_4(answer: Any) -> str | None:
    """What differs between two rows, given as parameters: (row, row) -> a set out of "scenes" and "steps"."""
    if not callable(answer):
        return "a function is asked for, that takes two dicts of parameters and returns a set"
    full: dict[str, float] = {"train_images": 2048, "batch_size": 16, "steps": 320}
    cases: tuple[tuple[dict[str, float], dict[str, float], set[str], str], ...] = (
        (full, full | {"per_class": 10}, {"scenes"}, ""),
        (full, full | {"passes": 1.0}, {"steps"}, ""),
        (full | {"passes": 1.0}, full | {"per_class": 10}, {"scenes", "steps"}, ""),
        (full, full, set(), ""),
        (full, full | {"passes": 2.5}, set(), "how many steps do the passes come to?"),
        (full, full | {"per_class": 128}, set(), "how many scenes do the classes come to?"),
        (full, full | {"passes": 1.0, "steps": 128}, {"steps"}, "where passes are given, steps are not asked"),
        (
            full | {"passes": 1.0},
            full | {"passes": 1.0, "per_class": 10},
            {"scenes", "steps"},
            "a pass over fewer scenes is shorter",
        ),
        (full, full | {"passes": 32.0, "per_class": 10}, {"scenes"}, "how many steps do the passes come to?"),
        (
            full | {"passes": 1.0},
            full | {"passes": 1.0, "steps": 999},
            set(),
            "where passes are given, steps are not asked",
        ),
    )
    for first, second, right, hint in cases:
        for one, other in ((first, second), (second, first)):
            given = answer(dict(one), dict(other))
            if not isinstance(given, set | frozenset | list | tuple):
                return 'a set is asked for, of "scenes", "steps", both or neither'
            if set(given) != right:
                case = f"{_said(one, full)} against {_said(other, full)}"
                return f"{case}: {hint or 'work out the scenes and the steps of either, then compare'}"
    return None


def _said(row: Mapping[str, Any], full: Mapping[str, Any]) -> str:
    changed = {name: value for name, value in row.items() if full.get(name) != value}
    return ", ".join(f"{name} {np.round(value, 2)}" for name, value in changed.items()) or "the full schedule"
