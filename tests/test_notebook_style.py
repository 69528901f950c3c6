"""The notebooks keep to one form, so that a reader who knows one finds the way in all of them."""

import base64
import json
import re
import statistics
from pathlib import Path

import nbformat
import pytest

from maskerlib.course.grading import exercises
from maskerlib.notebooks.parameters import read_parameters

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
LESSONS = sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))
SOLUTIONS = sorted((FOLDER / "solutions").glob("[0-9][0-9]_*.ipynb"))
LESSONS, SOLUTIONS = ([p for p in paths if not re.search(r"\.(failed|partial-)", p.name)] for paths in (LESSONS, SOLUTIONS))
LARGEST_IMAGE = 300_000  # bytes


def name(path: Path) -> str:
    return path.relative_to(FOLDER).as_posix()


def cells(path: Path, kind: str) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def prose(path: Path) -> str:
    return "\n\n".join(cell.source for cell in cells(path, "markdown"))


lessons = pytest.mark.parametrize("path", LESSONS, ids=name)
solutions = pytest.mark.parametrize("path", SOLUTIONS, ids=name)
both = pytest.mark.parametrize("path", LESSONS + SOLUTIONS, ids=name)


@lessons
def test_a_lesson_opens_with_its_question_a_picture_and_what_it_takes(path):
    opening = cells(path, "markdown")[0].source
    assert opening.startswith(f"# {path.name[:2]} · ") and "?" in opening
    picture = re.search(r"!\[[^\]]{15,}\]\((\.\./figures/[^)]+)\)", opening)
    assert picture, "a picture from figures/, with words for those who cannot see it"
    assert (path.parent / picture[1]).stat().st_size < LARGEST_IMAGE
    assert "**Afterwards you can**" in opening
    rows = re.findall(r"^\| (\w+) \|", opening, flags=re.M)
    assert rows == ["time", "hardware", "before", "source", "after"]


def test_each_lesson_links_to_the_one_before_and_the_one_after():
    for earlier, later in zip(LESSONS, LESSONS[1:], strict=False):
        for here, row, there in ((earlier, "after", later), (later, "before", earlier)):
            line = re.search(rf"^\| {row} \|.*$", cells(here, "markdown")[0].source, flags=re.M)[0]
            assert f"]({there.name})" in line, f"{here.name}: the row {row!r} does not link to {there.name}"


@lessons
def test_a_lesson_closes_with_takeaways_exercises_and_references(path):
    headings = re.findall(r"^## (.+)$", prose(path), flags=re.M)
    assert headings[-3:] == ["Takeaways", "Exercises", "References"]
    closing = prose(path).split("## References")[1]
    assert len(re.findall(r"\]\(https://", closing)) >= 3
    takeaways = prose(path).split("## Takeaways")[1].split("## Exercises")[0]
    assert 3 <= len(re.findall(r"^- ", takeaways, flags=re.M)) <= 7


@lessons
def test_every_exercise_is_graded_and_solved(path):
    number = str(int(path.name[:2]))
    known = list(exercises(number))
    assert len(known) >= 4
    source = "\n".join(cell.source for cell in cells(path, "code"))
    assert re.findall(r'grade\("([\d.]+)"', source) == known
    for exercise in known:
        assert f"**Exercise {exercise}**" in prose(path)
    assert f"](solutions/{path.name})" in prose(path)
    solved = "\n".join(cell.source for cell in cells(FOLDER / "solutions" / path.name, "code"))
    assert re.findall(r'verdict = grade\("([\d.]+)"', solved) == known
    assert solved.count("assert verdict") == len(known)


@lessons
def test_a_lesson_runs_with_its_exercises_unsolved(path):
    verdicts = [
        "".join(output.data["text/plain"])
        for cell in cells(path, "code")
        if "grade(" in cell.source
        for output in cell.outputs
    ]
    assert verdicts and all(text.endswith("no answer yet") for text in verdicts)


@solutions
def test_solutions_name_their_lesson(path):
    opening = cells(path, "markdown")[0].source
    assert opening.startswith(f"# Solutions · {path.name[:2]} · ") and f"](../{path.name})" in opening
    assert (FOLDER / path.name).exists()


@both
def test_every_notebook_takes_profile_seed_and_device(path):
    assert {"profile", "seed", "device"} <= read_parameters(path).keys()
    defaults = {key: item.default for key, item in read_parameters(path).items()}
    assert (defaults["profile"], defaults["device"]) == ("", "")
    assert len([cell for cell in cells(path, "code") if "open_session(" in cell.source]) == 1


@both
def test_cells_are_short(path):
    lengths = [len([line for line in cell.source.splitlines() if line.strip()]) for cell in cells(path, "code")]
    assert statistics.median(lengths) <= 8 and max(lengths) <= 30
    for cell in cells(path, "code"):
        assert max(map(len, cell.source.splitlines())) <= 130, cell.source


@lessons
def test_there_is_enough_prose_for_the_code(path):
    """Counted from the first section to the takeaways: opening, exercises and references are prose by nature."""
    words = lines = 0
    inside = False
    for cell in nbformat.read(path, as_version=4).cells:
        inside = (inside or "## 1. " in cell.source) and not cell.source.startswith("## Takeaways")
        if inside and cell.cell_type == "markdown":
            words += len(cell.source.split("## Takeaways")[0].split())
        elif inside:
            lines += len([line for line in cell.source.splitlines() if line.strip()])
    assert 5 <= words / lines <= 15, f"{words} words for {lines} lines"


@both
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose(path)):
        if target.startswith("https://arxiv.org/"):
            assert re.fullmatch(r"https://arxiv\.org/abs/(\d{4}\.\d{4,5}|[a-z-]+/\d{7})", target), target
        elif not target.startswith("https://"):
            assert (path.parent / target).exists(), f"no {target}"


@both
def test_nothing_is_installed_and_pictures_are_small(path):
    for cell in cells(path, "code"):
        assert not re.search(r"^\s*[!%]\s*(pip|conda|apt)", cell.source, flags=re.M)
        for output in cell.outputs:
            for kind, data in output.get("data", {}).items():
                if kind.startswith("image/"):
                    assert len(base64.b64decode(data)) < LARGEST_IMAGE, cell.source


@lessons
def test_some_printed_results_are_compared_with_those_committed(path):
    compared = [cell for cell in cells(path, "code") if cell.source.startswith("# NBVAL_CHECK_OUTPUT")]
    assert len(compared) >= 2 and all(cell.outputs for cell in compared)


@both
def test_outputs_are_plain(path):
    """No error, no warning, no address in memory, no widget state that only a live kernel understands."""
    text = json.dumps([cell.outputs for cell in cells(path, "code")])
    assert not re.search(r"Warning\b|Traceback| at 0x[0-9a-f]{6,}", re.sub(r'"image/\w+": "[^"]*"', "", text))
    assert "widgets" not in nbformat.read(path, as_version=4).metadata


def test_the_syllabus_lists_every_lesson():
    syllabus = (FOLDER / "README.md").read_text(encoding="utf-8")
    for path in LESSONS:
        assert f"]({path.name})" in syllabus, f"notebooks/README.md does not list {path.name}"
    assert LESSONS and [path.name for path in SOLUTIONS] == [path.name for path in LESSONS]
