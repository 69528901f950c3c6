"""Grading: right, wrong with a hint, no answer yet, and an answer that falls over."""

import math
import types

import numpy as np
import pytest
import torch

from maskerlib.course import grading


@pytest.fixture(autouse=True)
def chapter(monkeypatch):
    """A notebook 42 with two exercises, the second of which tries a function."""

    def exercise_1(answer):
        return None if grading.close(answer, 2 / 3, 0.01) else "count the pixels again"

    def exercise_10(answer):
        return None if answer(2) == 4 else "what is the square of two?"

    module = types.SimpleNamespace(exercise_10=exercise_10, exercise_1=exercise_1, close=grading.close)
    real = grading.importlib.import_module
    monkeypatch.setattr(
        grading.importlib, "import_module", lambda name: module if name.endswith("exercises_42") else real(name)
    )


def test_a_right_answer_is_true():
    verdict = grading.grade("42.1", 0.667)
    assert verdict and repr(verdict) == "✓ 42.1: right"


def test_a_wrong_answer_is_false_and_gets_the_hint():
    verdict = grading.grade("42.1", 0.5)
    assert not verdict and repr(verdict) == "✗ 42.1: count the pixels again"


def test_no_answer_is_not_a_wrong_one():
    assert repr(grading.grade("42.10", None)) == "✗ 42.10: no answer yet"


def test_an_answer_that_falls_over_says_how():
    assert "ZeroDivisionError: division by zero" in grading.grade("42.10", lambda x: 1 / 0).text
    assert "TypeError" in grading.grade("42.10", 4).text


def test_an_unknown_number_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="no exercise '42.3'; this notebook has 42.1, 42.10"):
        grading.grade("42.3", 1)
    with pytest.raises(ValueError, match="no exercise 'x'"):
        grading.grade("x", 1)
    with pytest.raises(ValueError, match="no graded exercises"):
        grading.grade("99.1", 1)


def test_exercises_are_in_the_order_of_their_numbers():
    assert list(grading.exercises("42")) == ["42.1", "42.10"]


@pytest.mark.parametrize("answer", [0.5, np.float32(0.5), torch.tensor(0.5), torch.tensor([0.5]), np.array([[0.5]])])
def test_close_takes_any_kind_of_number(answer):
    assert grading.close(answer, 0.5, 1e-6) and not grading.close(answer, 0.6, 0.05)


@pytest.mark.parametrize("answer", [math.nan, math.inf, True, "0.5", None, [0.5], torch.tensor([0.5, 0.5]), torch.tensor([])])
def test_close_refuses_what_is_no_number(answer):
    assert not grading.close(answer, 1.0, 1.0)


def test_same_compares_shape_and_values():
    expected = torch.tensor([1.0, 2.0])
    assert grading.same(expected.double(), expected)
    assert grading.same(expected.clone().requires_grad_(), expected)
    assert not grading.same(expected[None], expected) and not grading.same([1.0, 2.0], expected)
    assert not grading.same(torch.tensor([1.0, math.nan]), expected) and not grading.same(expected + 1e-3, expected)
