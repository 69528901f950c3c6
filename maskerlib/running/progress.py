"""How far a long loop is, for whoever watches from outside: a notebook's runner, a terminal, a log.

A bar (tqdm) serves a person in front of the process. Where nobody is, the environment variable MASKERLIB_PROGRESS names
a file, and every long loop keeps one line of JSON in it, replaced as a whole and at most once a second:

    {"description": "masker (FIX)", "step": 40, "steps": 128, "seconds_left": 71.5, "numbers": {"in": 0.81},
     "written": 1764108000.2, "began": 1764107967.7, "first": 0, "pid": 4711}

`step` of `steps` are done. `seconds_left` is null until the pace is known. `written` and `began` are seconds since 1970;
`first` is the step at which this process began, which is not 0 where a run goes on from a checkpoint. A loop knows of
nothing else: without the variable it writes nothing, and a file that cannot be written to never ends a run. The runner
sets the variable and reads the file with `read_progress`, whose `line()` is fit to be shown.
"""

import contextlib
import json
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tqdm.auto import tqdm

__all__ = ["VARIABLE", "Progress", "counted", "duration", "read_progress", "report"]

VARIABLE = "MASKERLIB_PROGRESS"
"""The environment variable that names the file."""

_PAUSE = 1.0  # seconds between two writes

Item = TypeVar("Item")


@dataclass(frozen=True)
class Progress:
    """What a loop last said: `step` of `steps` done, how long the rest may take (None: not known yet), its numbers, when."""

    description: str
    step: int
    steps: int
    seconds_left: float | None
    numbers: dict[str, float]
    written: float

    def line(self) -> str:
        """One line for people.

        >>> Progress("masker (FIX)", 40, 128, seconds_left=72, numbers={"in": 0.81}, written=0).line()
        'masker (FIX): 40 of 128, 1 min 12 s left, in 0.810'
        """
        left = [] if self.seconds_left is None else [f"{duration(self.seconds_left)} left"]
        numbers = [f"{name} {value:.3f}" for name, value in self.numbers.items()]
        return ", ".join([f"{self.description}: {self.step} of {self.steps}", *left, *numbers])


def duration(seconds: float) -> str:
    """A length of time for people, in its two largest units.

    >>> [duration(seconds) for seconds in (8.2, 72, 7500)]
    ['8 s', '1 min 12 s', '2 h 5 min']
    """
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def report(description: str, done: int, total: int, numbers: Mapping[str, float] | None = None) -> None:
    """Say that `done` of `total` steps of `description` are over; to be called after each step, and before the first.

    It costs two microseconds where there is nothing to write. `numbers` are the step's own, such as its losses.
    """
    name = os.environ.get(VARIABLE)
    if not name:
        return
    with contextlib.suppress(OSError):  # a full disk must not end the run that it is watched on
        _write(Path(name), description, done, total, numbers or {})


def _write(path: Path, description: str, done: int, total: int, numbers: Mapping[str, float]) -> None:
    """The file itself is all that is remembered between two calls: when it was written, and when this loop began."""
    now = time.time()
    if path.exists() and 0 <= now - path.stat().st_mtime < _PAUSE:
        return
    last = _read(path)
    same = last.get("description") == description and last.get("steps") == total and last.get("pid") == os.getpid()
    goes_on = same and last["step"] <= done
    began, first = (last["began"], last["first"]) if goes_on else (now, done)
    record = {
        "description": description,
        "step": done,
        "steps": total,
        "seconds_left": (total - done) * (now - began) / (done - first) if done > first else None,
        "numbers": {key: float(value) if math.isfinite(value) else None for key, value in numbers.items()},
        "written": now,
        "began": began,
        "first": first,
        "pid": os.getpid(),
    }
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    try:
        partial.write_text(json.dumps(record) + "\n", encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    """The record in the file; an empty one where there is none, or something else."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        numbers = {key: math.nan if value is None else float(value) for key, value in record["numbers"].items()}
        left = record["seconds_left"]
        return {
            "description": str(record["description"]),
            "step": int(record["step"]),
            "steps": int(record["steps"]),
            "seconds_left": None if left is None else float(left),
            "numbers": numbers,
            **{name: float(record[name]) for name in ("written", "began")},
            **{name: int(record[name]) for name in ("first", "pid")},
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def read_progress(path: str | os.PathLike[str]) -> Progress | None:
    """What the file at `path` says; None as long as no loop has written to it, or where it holds something else."""
    record = _read(Path(path))
    return Progress(**{name: record[name] for name in Progress.__dataclass_fields__}) if record else None


def counted(items: Iterable[Item], description: str, total: int, *, bar: bool = True) -> Iterator[Item]:
    """The items one by one, with a bar where `bar` is True, and a report after each."""
    report(description, 0, total)
    for done, item in enumerate(tqdm(items, description, total, leave=False, disable=not bar), start=1):
        yield item
        report(description, done, total)
