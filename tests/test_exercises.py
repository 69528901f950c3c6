"""What holds for the exercises of every notebook; what is right and wrong in each stands in test_exercises_NN."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

from maskerlib.course.grading import exercises, grade

COURSE = Path(__file__).resolve().parents[1] / "maskerlib" / "course"
CHAPTERS = sorted(path.stem[-2:] for path in COURSE.glob("exercises_*.py"))
ALL = [(chapter, number) for chapter in CHAPTERS for number in exercises(chapter)]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_exercises_are_numbered_without_a_gap_and_listed(chapter):
    known = exercises(chapter)
    assert len(known) >= 4
    assert list(known) == [f"{int(chapter)}.{number}" for number in range(1, len(known) + 1)]
    module = importlib.import_module(f"maskerlib.course.exercises_{chapter}")
    assert module.__all__ == [f"exercise_{number}" for number in range(1, len(known) + 1)]


@pytest.mark.parametrize("chapter, number", ALL)
def test_a_checker_says_what_it_asks_in_one_line(chapter, number):
    asked = inspect.getdoc(exercises(chapter)[number])
    assert asked and re.match(r"[^\n]{20,}", asked)


@pytest.mark.parametrize("chapter, number", ALL)
@pytest.mark.parametrize("nonsense", ["many", -1234.5, [], lambda *given: None], ids=["text", "number", "list", "function"])
def test_nonsense_is_wrong_and_no_answer_is_no_error(chapter, number, nonsense):
    assert grade(number, None).text == "no answer yet"
    verdict = grade(number, nonsense)
    assert not verdict and verdict.text != "right"
