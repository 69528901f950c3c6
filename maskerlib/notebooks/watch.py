"""What a running notebook is doing, for a terminal and for a log: the section, the cell, the step, and the time left.

A terminal shows one line that is rewritten every second. A log, and standard output where it is no terminal, get a line for
each section and at least one a minute, so that a long run can be told from one that hangs. A log begins each run with a line of
its own and keeps what earlier runs wrote; a file that is no such log is never touched. The section is the last Markdown heading
before the running cell; the step comes from the file in which long loops report, see `maskerlib.running.progress`.
"""

import contextlib
import re
import shutil
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from maskerlib.running.progress import Progress, duration, read_progress

__all__ = ["Watch", "log_beside", "section_of"]

_STARTED = re.compile(rb"started \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\r?\n")


def section_of(cells: Sequence[Mapping[str, Any]], index: int) -> str:
    r"""The last heading in the Markdown cells before `cells[index]`, without its marks; "" where there is none.

    >>> section_of([{"cell_type": "markdown", "source": "# Masks\n## 1. `M(x)`"}, {"cell_type": "code", "source": "m"}], 1)
    '1. M(x)'
    """
    found = ""
    for cell in cells[:index]:
        if cell["cell_type"] == "markdown":
            text = re.sub(r"^(```|~~~).*?^\1", "", cell["source"], flags=re.M | re.S)
            headings = re.findall(r"^#{1,6}[ \t]+(.*?)[ \t]*#*[ \t]*$", text, flags=re.M)
            found = headings[-1] if headings else found
    return re.sub(r"[*`$]", "", found)


def log_beside(log: Path) -> Path | None:
    """The log that a run may add to: `log`, or else `<stem>.run.log` beside it; None where both are other people's.

    It may add to one that is absent, empty, or begins as the logs of runs do, with "started" and the time.
    """
    return next((path for path in (log, log.with_suffix(".run.log")) if _may_add_to(path)), None)


def _may_add_to(path: Path) -> bool:
    try:
        if not path.is_file():
            return not path.exists()
        with open(path, "rb") as handle:
            line = handle.readline(100)
    except OSError:
        return False
    return not line or _STARTED.fullmatch(line) is not None


class Watch:
    """Follows one run of a notebook; a context manager, within which `enter` is called before each code cell.

    Args:
        progress: the file in which the notebook's loops report.
        log: the file that gets the lines, after those of earlier runs, or its neighbour, see `log_beside`; None keeps none. A
            disk without room for it never ends a run.
        live: the terminal whose last line is rewritten; None for none.
        lines: where the lines go as well; None for nowhere.
        every: seconds between two lines of the log, at most.
    """

    def __init__(
        self,
        progress: Path,
        log: Path | None = None,
        *,
        live: TextIO | None = None,
        lines: TextIO | None = None,
        every: float = 55.0,
    ) -> None:
        self.progress, self.log, self.live, self.lines, self.every = progress, log, live, lines, every
        self._began = self._entered = time.time()
        self._section, self._cell = "", ""
        self._said, self._said_at = "", 0.0
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    @classmethod
    def for_people(cls, progress: Path, log: Path | None) -> Self:
        """A watch on this process's own terminal; on its standard output, line by line, where that is none."""
        live = next((stream for stream in (sys.stderr, sys.stdout) if stream.isatty()), None)
        return cls(progress, log, live=live, lines=None if sys.stdout.isatty() else sys.stdout)

    def enter(self, cells: Sequence[Mapping[str, Any]], index: int) -> None:
        """The cell `cells[index]` begins."""
        code = [number for number, cell in enumerate(cells) if cell["cell_type"] == "code"]
        with self._lock:
            self._section, self._entered = section_of(cells, index), time.time()
            self._cell = f"cell {code.index(index) + 1} of {len(code)}"

    def where(self) -> str:
        """Where the run is: "section '2. FIX and CA', masker (CA), step 120 of 300"; "its start" before the first cell."""
        place = f"section {self._section!r}" if self._section else self._cell or "its start"
        loop = self._loop()
        return f"{place}, {loop.description}, step {loop.step} of {loop.steps}" if loop else place

    def line(self) -> str:
        """What is shown: time passed, section, cell, and how far the loop in it is."""
        parts = [duration(time.time() - self._began), self._section, self._cell or "starting the kernel"]
        loop = self._loop()
        return " | ".join(part for part in (*parts, loop.line() if loop else "") if part)

    def _loop(self) -> Progress | None:
        """The loop that the running cell is in."""
        loop = read_progress(self.progress)
        return loop if loop and loop.written >= self._entered and loop.step < loop.steps else None

    def __enter__(self) -> Self:
        if self.log is not None:
            self.log = log_beside(self.log)
            self._add(f"started {_now()}")
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        self._rewrite("")
        how = "finished" if error is None else " ".join(str(error).split()) or type(error).__name__
        self._write(f"{duration(time.time() - self._began)} | {how}", lines=False)

    def _follow(self) -> None:
        while True:
            with self._lock:
                line, section = self.line(), self._section
            self._rewrite(line)
            if section != self._said or time.time() - self._said_at >= self.every:
                self._write(line)
                self._said, self._said_at = section, time.time()
            if self._over.wait(min(1.0, self.every)):
                return

    def _rewrite(self, line: str) -> None:
        if self.live is not None:
            width = shutil.get_terminal_size().columns - 1
            with contextlib.suppress(OSError, ValueError):
                self.live.write(f"\r\x1b[K{line[:width]}")
                self.live.flush()

    def _write(self, line: str, *, lines: bool = True) -> None:
        self._add(f"{_now()} | {line}")
        if lines and self.lines is not None:
            with contextlib.suppress(OSError, ValueError):
                self.lines.write(f"{line}\n")
                self.lines.flush()

    def _add(self, line: str) -> None:
        if self.log is not None:
            with contextlib.suppress(OSError), open(self.log, "a", encoding="utf-8") as handle:
                handle.write(f"{line}\n")


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")
