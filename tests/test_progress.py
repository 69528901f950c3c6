"""What a loop says of itself: the file, how often it is written, and who reads it."""

import json
import math
import os
from pathlib import Path

import pytest

from maskerlib.running import progress
from maskerlib.running.progress import VARIABLE, counted, duration, read_progress, report


class Clock:
    """A clock that tests move; the file's own time follows it."""

    def __init__(self, path: Path) -> None:
        self.now, self.path = 1000.0, path

    def report(self, *arguments) -> bool:
        """Whether a report was written."""
        before = self.path.read_bytes() if self.path.exists() else None
        report(*arguments)
        written = self.path.exists() and self.path.read_bytes() != before
        if written:
            os.utime(self.path, (self.now, self.now))
        return written


@pytest.fixture
def clock(tmp_path, monkeypatch) -> Clock:
    clock = Clock(tmp_path / "progress.json")
    monkeypatch.setenv(VARIABLE, str(clock.path))
    monkeypatch.setattr(progress.time, "time", lambda: clock.now)
    return clock


def test_a_loop_by_hand(clock):
    assert clock.report("masker (FIX)", 20, 120)  # it goes on from a checkpoint
    first = read_progress(clock.path)
    assert (first.description, first.step, first.steps, first.seconds_left) == ("masker (FIX)", 20, 120, None)
    assert first.numbers == {} and first.line() == "masker (FIX): 20 of 120"
    clock.now += 0.9
    assert not clock.report("masker (FIX)", 21, 120)
    clock.now += 4.1
    assert clock.report("masker (FIX)", 45, 120, {"in": 0.81, "out": math.nan})
    later = read_progress(clock.path)
    assert later.seconds_left == pytest.approx(75 * 5 / 25) and later.written == 1005
    assert later.numbers["in"] == 0.81 and math.isnan(later.numbers["out"])
    assert later.line() == "masker (FIX): 45 of 120, 15 s left, in 0.810, out nan"
    assert [path.name for path in clock.path.parent.iterdir()] == ["progress.json"]


def test_the_file_is_one_line_of_json_as_documented(clock):
    report("evaluate", 3, 9, {"x": 1})
    text = clock.path.read_text()
    assert text.count("\n") == 1 and "NaN" not in text
    assert json.loads(text) == {
        "description": "evaluate",
        "step": 3,
        "steps": 9,
        "seconds_left": None,
        "numbers": {"x": 1},
        "written": 1000,
        "began": 1000,
        "first": 3,
        "pid": os.getpid(),
    }
    documented = progress.__doc__.split("\n\n")[2]
    assert set(json.loads(" ".join(documented.split()))) == set(json.loads(text))


@pytest.mark.parametrize("other", [("b", 5, 10), ("a", 5, 11), ("a", 3, 10)])
def test_another_loop_begins_anew(clock, other):
    report("a", 4, 10)
    os.utime(clock.path, (1000, 1000))
    clock.now += 8
    assert clock.report(*other) and read_progress(clock.path).seconds_left is None


def test_another_process_begins_anew(clock, monkeypatch):
    clock.report("a", 4, 10)
    clock.now += 8
    monkeypatch.setattr(progress.os, "getpid", lambda: 1)
    assert clock.report("a", 5, 10) and read_progress(clock.path).seconds_left is None


def test_a_clock_that_is_put_back_does_not_silence_it(clock):
    clock.report("a", 4, 10)
    clock.now -= 3600
    assert clock.report("a", 5, 10)


def test_without_the_variable_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for value in (None, ""):
        monkeypatch.setenv(VARIABLE, value) if value is not None else monkeypatch.delenv(VARIABLE, raising=False)
        report("a", 1, 2)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_ends_no_run(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "x", tmp_path / "missing" / "x", tmp_path, tmp_path / ("x" * 300)):
        monkeypatch.setenv(VARIABLE, str(path))
        report("a", 1, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b'{"description": "a"}', b"\xff", b"[" * 100_000, b"null"])
def test_what_is_no_report_is_none_and_replaced(clock, content):
    assert read_progress(clock.path) is None
    clock.path.write_bytes(content)
    os.utime(clock.path, (0, 0))
    assert read_progress(clock.path) is None
    assert clock.report("a", 1, 2) and read_progress(clock.path).step == 1


def test_counted_gives_every_item_and_reports_each(clock, monkeypatch):
    said = []
    monkeypatch.setattr(progress, "report", lambda *arguments: said.append(arguments))
    assert list(counted(iter("abc"), "letters", 3, bar=False)) == ["a", "b", "c"]
    assert said == [("letters", done, 3) for done in range(4)]


@pytest.mark.parametrize(
    "seconds, text", [(-1, "0 s"), (0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3599, "59 min 59 s"), (7500, "2 h 5 min")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text
