"""Grading exercises: an answer goes in, a verdict comes out that says right, or gives a hint, never the answer.

    grade("2.1", my_answer)

asks the function `exercise_1` of `maskerlib.course.exercises_02`. Such a checker takes the answer and returns None when it
is right, or a hint. An answer is a number, a choice, a tensor, or a function that the checker tries on inputs of its own.
"""

import importlib
import inspect
import math
import re
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["Verdict", "close", "exercises", "grade", "same"]


@dataclass(frozen=True)
class Verdict:
    """The outcome of one exercise: true when the answer was right; as text, a line for the reader."""

    number: str
    right: bool
    text: str

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        return f"{'✓' if self.right else '✗'} {self.number}: {self.text}"


def grade(number: str, answer: Any) -> Verdict:
    """Check the answer to exercise `number`, such as "2.1".

    None is no answer yet. An answer that raises an error when it is tried is wrong, and the error is told. Raises
    ValueError for a number that no exercise has.

    >>> grade("2.1", None)
    ✗ 2.1: no answer yet
    """
    known = exercises(number.partition(".")[0])
    if number not in known:
        listed = ", ".join(known) or "no graded exercises"
        raise ValueError(f"there is no exercise {number!r}; this notebook has {listed}")
    if answer is None:
        return Verdict(number, False, "no answer yet")
    try:
        hint = known[number](answer)
    except Exception as error:  # the answer is the reader's own code: whatever it raises is told
        hint = f"trying your answer raised {type(error).__name__}: {error}"
    return Verdict(number, hint is None, "right" if hint is None else hint)


def exercises(chapter: str | int) -> dict[str, Any]:
    """The checkers of one notebook, in order: {"2.1": function, ...}; empty for a notebook without any."""
    if not re.fullmatch(r"\d{1,2}", str(chapter)):
        return {}
    try:
        module: ModuleType = importlib.import_module(f"maskerlib.course.exercises_{int(chapter):02d}")
    except ModuleNotFoundError:
        return {}
    found = {
        int(name.removeprefix("exercise_")): function
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if re.fullmatch(r"exercise_\d+", name)
    }
    return {f"{int(chapter)}.{number}": found[number] for number in sorted(found)}


def close(answer: Any, expected: float, tolerance: float) -> bool:
    """Is the answer one number, of any numeric type, within `tolerance` of the one expected? False for NaN and bool.

    >>> close(torch.tensor([0.5]), 0.5, 1e-6), close(True, 1.0, 1e-6)
    (True, False)
    """
    if isinstance(answer, bool | np.bool_):
        return False
    if isinstance(answer, Tensor | np.ndarray):
        if answer.size != 1 if isinstance(answer, np.ndarray) else answer.numel() != 1:
            return False
        answer = answer.item()
    if not isinstance(answer, int | float | np.number):
        return False
    return math.isfinite(answer) and abs(float(answer) - expected) <= tolerance


def same(answer: Any, expected: Tensor, tolerance: float = 1e-5) -> bool:
    """Is the answer a tensor of the shape expected, with every value within `tolerance`? False for NaN.

    >>> same(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0])), same(torch.tensor([1.0]), torch.tensor([1.0, 1.0]))
    (True, False)
    """
    if not isinstance(answer, Tensor) or answer.shape != expected.shape:
        return False
    return torch.allclose(answer.detach().double().cpu(), expected.double().cpu(), rtol=0, atol=tolerance)
