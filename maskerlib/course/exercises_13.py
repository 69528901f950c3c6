"""The checkers of notebook 13, unseen classes. Each takes an answer; None when it is right, else one hint."""

import math
from typing import Any

import torch
from torch import Tensor

from maskerlib.course.grading import close, same
from maskerlib.running.seeds import stream

__all__ = ["exercise_1", "exercise_2", "exercise_3", "exercise_4"]


def exercise_1(answer: Any) -> str | None:
    """A share of the classes: (order of all classes, share) -> sorted list, at least one, larger shares keep smaller ones."""
    if not callable(answer):
        return "a function is asked for, that takes a list of all classes in random order and a share"
    order = [int(label) for label in torch.randperm(16, generator=stream(0, "exercise 13.1"))]
    for share in (0.25, 0.5, 0.1, 0.01, 1.0):
        right = sorted(order[: max(1, round(share * 16))])
        given = [int(label) for label in answer(list(order), share)]
        if given == right:
            continue
        case = f"share {share}"
        if not given:
            return f"{case}: a masker cannot be trained on no class at all"
        if len(given) != len(right):
            return f"{case}: {len(given)} of 16 classes; round to the nearest number"
        if sorted(given) == right:
            return f"{case}: in order of their numbers, please"
        return (
            f"{case}: a larger share must keep the classes of a smaller one: let the order decide, from its beginning"
        )
    return None


def exercise_2(answer: Any) -> str | None:
    """A difference on the same classes: ({class: LE}, {class: LE of the baseline}) -> ours minus baseline, a number."""
    if not callable(answer):
        return "a function is asked for, that takes two dicts from class to LE, ours and the baseline's"
    ours, base = {"cat": 0.4, "boat": 0.2}, {"boat": 0.1, "cat": 0.1, "fish": 0.5, "tree": 0.0}
    right = sum(ours[name] - base[name] for name in ours) / len(ours)
    given = answer(dict(ours), dict(base))
    if close(given, right, 1e-6):
        return None
    if close(given, -right, 1e-6):
        return "the sign: ours minus the baseline"
    if close(given, sum(ours.values()) / 2 - sum(base.values()) / 4, 1e-6):
        return "fish are harder than trees, whoever masks them: on which classes may the baseline count?"
    if close(given, 2 * right, 1e-6):
        return "a mean over the classes is asked for"
    return "not yet: for each class that ours was measured on take the difference, then the mean"


def exercise_3(answer: Any) -> str | None:
    """The chance that a draw holds no relative: (classes, relatives among them, drawn) -> a probability."""
    if not callable(answer):
        return "a function is asked for, that takes the number of classes, of relatives, and of those drawn"
    for classes, relatives, drawn in ((15, 5, 2), (15, 5, 4), (15, 1, 2), (15, 3, 13), (6, 0, 3), (10, 9, 1)):
        right = math.comb(classes - relatives, drawn) / math.comb(classes, drawn)
        given = answer(classes, relatives, drawn)
        if close(given, right, 1e-6):
            continue
        case = f"{drawn} drawn of {classes}, {relatives} of which are relatives"
        if close(given, 1 - right, 1e-6):
            return f"{case}: this is the chance that there is one"
        if close(given, (1 - relatives / classes) ** drawn, 1e-6):
            return f"{case}: a class that was drawn is not drawn again"
        if close(given, 1 - relatives / classes, 1e-6):
            return f"{case}: that is one draw; how many are there?"
        return f"not yet for {case}: count the draws that avoid the relatives, and all draws"
    return None


def exercise_4(answer: Any) -> str | None:
    """Ridge regression without some classes: (sums of all classes, [sums of each held back], lambda) -> weights of the rest."""
    if not callable(answer):
        return "a function is asked for, that takes the sums of all classes, a list of those held back, and lambda"
    sums = []
    for number, rows in enumerate((9, 30, 14, 6)):
        generator = stream(number, "exercise 13.4")
        x = torch.randn(rows, 3, generator=generator).double() + 0.3 * number
        t = x @ torch.tensor([1.0, -2.0, 0.5]).double() + torch.randn(rows, generator=generator).double()
        sums.append((x.T @ x, x.T @ t, rows))
    total, strength = _added(sums), 0.1
    for held in ([3], [0, 2]):
        rest = _added([one for number, one in enumerate(sums) if number not in held])
        back = [sums[number] for number in held]
        given = torch.as_tensor(answer(_copy(total), [_copy(one) for one in back], strength)).double().flatten()
        if same(given, _ridge(rest, strength), 1e-6):
            continue
        wrong = {
            "these are the weights of all classes: nothing was held back": _ridge(total, strength),
            "these are the weights of what was to be held back": _ridge(_added(back), strength),
            "only the first of those held back is gone": _ridge(_added([total, _minus(back[0])]), strength),
            "lambda counts once for every row that is left": _ridge((rest[0], rest[1], total[2]), strength),
            "as in the notebook lambda counts once for every row": _ridge((rest[0], rest[1], 1), strength),
            "where is lambda?": _ridge(rest, 0.0),
            "weights do not subtract; which parts of the formula are sums over rows?": _ridge(total, strength)
            - _ridge(_added(back), strength),
        }
        for hint, weights in wrong.items():
            if same(given, weights, 1e-6) and not (len(back) == 1 and hint.startswith("only the first")):
                return hint
        return "not yet: take the sums of what is held back out of the sums of all, and only then solve"
    return None


Sums = tuple[Tensor, Tensor, int]


def _copy(sums: Sums) -> Sums:
    return sums[0].clone(), sums[1].clone(), sums[2]


def _minus(sums: Sums) -> Sums:
    return -sums[0], -sums[1], -sums[2]


def _added(parts: list[Sums]) -> Sums:
    grams, moments, rows = zip(*parts, strict=True)
    return torch.stack(grams).sum(dim=0), torch.stack(moments).sum(dim=0), sum(rows)


def _ridge(sums: Sums, strength: float) -> Tensor:
    gram, moment, rows = sums
    weights: Tensor = torch.linalg.solve(gram + strength * rows * torch.eye(len(gram)).double(), moment)
    return weights
