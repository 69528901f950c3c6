"""What a running notebook is doing: its section, its step, and a line a minute at least."""

import io
import json
import os
import time
from pathlib import Path

import nbformat
import pytest

from maskerlib.notebooks.watch import Watch, log_beside, section_of


def cells(*sources: str) -> list:
    """Markdown for a source that begins with "#" or a fence, code for all others."""
    kinds = (nbformat.v4.new_markdown_cell if s[0] in "#`*" else nbformat.v4.new_code_cell for s in sources)
    return [kind(source) for kind, source in zip(kinds, sources, strict=True)]


@pytest.mark.parametrize(
    ("before", "section"),
    [
        ((), ""),
        (("**bold**",), ""),
        (("# Title",), "Title"),
        (("# Title\n\nwords\n\n## 1. Part",), "1. Part"),
        (("# Title", "**bold**", "x = 1"), "Title"),
        (("# Title", "x = 1", "## 2. Part\n\n### Deeper ##"), "Deeper"),
        (("# The *slow* `part` of $x$",), "The slow part of x"),
        (("## 3. Part\n\n```sh\n# no heading\n```",), "3. Part"),
        (("#hashtag",), ""),
    ],
)
def test_the_section_is_the_last_heading_before_the_cell(before, section):
    notebook = cells(*before, "y = 1", "## Later")
    assert section_of(notebook, len(before)) == section


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def said(path: Path, step: int, **changes: object) -> None:
    record = {"description": "masker (CA)", "step": step, "steps": 300, "seconds_left": 75.0, "numbers": {"in": 0.5}}
    record |= {"written": time.time(), "began": time.time(), "first": 0, "pid": os.getpid()}
    path.write_text(json.dumps(record | changes))


def test_the_line_names_section_cell_step_and_time_left(tmp_path):
    watch = Watch(tmp_path / "progress.json")
    assert watch.line() == "0 s | starting the kernel" and watch.where() == "its start"
    watch.enter(cells("# Title", "x = 1", "## CA", "y = 1"), 3)
    assert watch.line() == "0 s | CA | cell 2 of 2"
    said(tmp_path / "progress.json", 120)
    assert watch.line() == "0 s | CA | cell 2 of 2 | masker (CA): 120 of 300, 1 min 15 s left, in 0.500"
    assert watch.where() == "section 'CA', masker (CA), step 120 of 300"


def test_a_loop_of_an_earlier_cell_or_one_that_is_over_is_not_shown(tmp_path):
    watch, notebook = Watch(tmp_path / "progress.json"), cells("# A", "x = 1", "y = 1")
    watch.enter(notebook, 1)
    said(tmp_path / "progress.json", 120, written=time.time() - 60)
    assert watch.where() == "section 'A'"
    said(tmp_path / "progress.json", 300)
    assert watch.line() == "0 s | A | cell 1 of 2"
    (tmp_path / "progress.json").write_text("half a rec")
    assert watch.line() == "0 s | A | cell 1 of 2"


def test_a_log_gets_a_line_for_each_section_and_one_at_least_every_so_often(tmp_path):
    notebook = cells("# A", "x = 1", "## B", "y = 1")
    log, lines = tmp_path / "run.log", io.StringIO()
    with Watch(tmp_path / "progress.json", log, lines=lines, every=0.1) as watch:
        for index in (1, 3):
            watch.enter(notebook, index)
            time.sleep(0.6)
    written = log.read_text().splitlines()
    for section in ("A | cell 1 of 2", "B | cell 2 of 2"):
        assert sum(section in line for line in written) >= 3
        assert sum(section in line for line in lines.getvalue().splitlines()) >= 3
    assert written[0].startswith("started 20") and written[-1].endswith("| finished")
    assert lines.getvalue() == "".join(f"{line.split(' | ', 1)[1]}\n" for line in written[1:-1])


def test_a_log_keeps_what_an_earlier_run_wrote(tmp_path):
    log = tmp_path / "run.log"
    for error in (KeyboardInterrupt("stopped in section 'A'"), RuntimeError("broken")):
        with pytest.raises(type(error)), Watch(tmp_path / "progress.json", log):
            raise error
    marks = [line for line in log.read_text().splitlines() if "starting the kernel" not in line]
    assert [line.split(" | ")[-1] for line in marks[1::2]] == ["stopped in section 'A'", "broken"]
    assert all(time.strptime(line, "started %Y-%m-%d %H:%M:%S") for line in marks[0::2])
    assert os.listdir(tmp_path) == ["run.log"]


OTHERS = ["my measurements", "started yesterday\n", "x" * 1000, "\0\xff", "2026-01-01 00:00:00 | of a server\n"]


@pytest.mark.parametrize("text", OTHERS)
def test_a_file_that_is_no_log_of_a_run_is_left_as_it_is(tmp_path, text):
    log, beside = tmp_path / "run.log", tmp_path / "run.run.log"
    log.write_text(text)
    for runs in (1, 2):
        with Watch(tmp_path / "progress.json", log):
            pass
        assert log.read_text() == text
        assert [line[:8] for line in beside.read_text().splitlines()].count("started ") == runs


def test_where_the_lines_of_a_run_go(tmp_path):
    log, beside = tmp_path / "a.b.log", tmp_path / "a.b.run.log"
    assert log_beside(log) == log
    log.touch()
    assert log_beside(log) == log
    log.write_text("started 2026-01-31 23:59:59\nand more")
    assert log_beside(log) == log
    log.write_text("precious")
    assert log_beside(log) == beside
    beside.mkdir()
    assert log_beside(log) is None
    with Watch(tmp_path / "progress.json", log):
        pass
    assert log.read_text() == "precious"


def test_between_two_lines_there_is_silence(tmp_path):
    lines = io.StringIO()
    with Watch(tmp_path / "progress.json", lines=lines) as watch:
        watch.enter(cells("# A", "x = 1"), 1)
        time.sleep(2.5)
    assert len(lines.getvalue().splitlines()) <= 2


def test_a_terminal_has_one_line_that_is_rewritten_cut_and_cleared(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    terminal = Terminal()
    with Watch(tmp_path / "progress.json", live=terminal, every=0.1) as watch:
        watch.enter(cells("# " + "long " * 20, "x = 1"), 1)
        time.sleep(0.5)
    shown = terminal.getvalue().split("\r\x1b[K")
    assert "\n" not in terminal.getvalue() and shown[-1] == ""
    assert max(map(len, shown)) == 19


def test_how_it_ended_is_in_the_log(tmp_path):
    with pytest.raises(RuntimeError), Watch(tmp_path / "progress.json", tmp_path / "run.log"):
        raise RuntimeError("two\nlines")
    assert (tmp_path / "run.log").read_text().splitlines()[-1].endswith("| two lines")


def test_a_log_that_cannot_be_written_ends_nothing(tmp_path):
    with Watch(tmp_path / "progress.json", tmp_path / "absent" / "run.log") as watch:
        watch.enter(cells("x = 1"), 0)
    assert watch.where() == "cell 1 of 1"


@pytest.mark.parametrize(
    ("terminals", "live", "lines"),
    [(("stdout", "stderr"), "stderr", False), (("stdout",), "stdout", False), (("stderr",), "stderr", True), ((), None, True)],
)
def test_where_there_is_no_terminal_the_lines_go_to_standard_output(tmp_path, monkeypatch, terminals, live, lines):
    streams = {name: Terminal() if name in terminals else io.StringIO() for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(f"sys.{name}", stream)
    watch = Watch.for_people(tmp_path / "progress.json", None)
    assert watch.live is (streams[live] if live else None)
    assert watch.lines is (streams["stdout"] if lines else None)
