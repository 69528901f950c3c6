"""Running notebooks: parameters are checked first, and no half-written copy takes a finished one's place."""

import ast
import json
import os
import sys
from pathlib import Path

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskerlib.notebooks import NotebookError, main, project_root, run_notebook
from maskerlib.parameters import Parameter, check_parameters, parse_parameters, read_parameters

PARAMETERS = """\
# the reader's choices
seed = 0
rate = 1e-3
image_path: str | None = None
layers = ["stage3", "stage4"]
fast = False
anything = None
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a notebook of code cells into an otherwise empty current folder and return its relative path."""
    monkeypatch.chdir(tmp_path)

    def write(*cells: str, name: str = "notebook.ipynb", tagged: tuple[int, ...] = (0,)) -> Path:
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        for index in tagged:
            notebook.cells[index].metadata["tags"] = ["parameters"]
        nbformat.write(notebook, name)
        return Path(name)

    return write


def outputs(path: Path | str) -> str:
    """All that the cells of a notebook printed."""
    cells = nbformat.read(path, as_version=4).cells
    return "".join(out.get("text", "") for cell in cells for out in cell.get("outputs", []))


def names() -> list[str]:
    return sorted(os.listdir())


# --- parameters -----------------------------------------------------------------------------------


def test_parameters_are_read_with_defaults_and_types(write):
    parameters = read_parameters(write(PARAMETERS))
    assert list(parameters) == ["seed", "rate", "image_path", "layers", "fast", "anything"]
    assert parameters["seed"] == Parameter("seed", 0, ("int",))
    assert parameters["image_path"] == Parameter("image_path", None, ("str", "None"))
    assert parameters["layers"].default == ["stage3", "stage4"]
    assert {"int", "str", "None"} < set(parameters["anything"].types)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("seed", "-3", -3),
        ("rate", "2", 2.0),
        ("rate", "1e-4", 1e-4),
        ("image_path", "my photo.jpg", "my photo.jpg"),
        ("image_path", "3", "3"),
        ("image_path", "None", None),
        ("layers", "['stem']", ["stem"]),
        ("layers", "('stem',)", ["stem"]),
        ("fast", "true", True),
        ("fast", "False", False),
        ("anything", "cat", "cat"),
        ("anything", "1.5", 1.5),
    ],
)
def test_text_becomes_a_value_of_the_parameters_type(write, name, text, value):
    parsed = parse_parameters(write(PARAMETERS), {name: text})[name]
    assert parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize(
    ("name", "text"),
    [("seed", "1.5"), ("seed", "x"), ("seed", "True"), ("rate", "None"), ("fast", "1"), ("layers", "stem")],
)
def test_text_of_another_type_is_refused(write, name, text):
    with pytest.raises(ValueError, match=f"parameter '{name}' takes .*, got .*its default is"):
        parse_parameters(write(PARAMETERS), {name: text})


def test_values_of_another_type_are_refused_and_paths_taken(write):
    path = write(PARAMETERS)
    taken = check_parameters(path, {"image_path": Path("my.jpg"), "rate": 1})
    assert taken == {"image_path": "my.jpg", "rate": 1.0}
    for wrong in ({"seed": True}, {"seed": "1"}, {"rate": "fast"}, {"image_path": 3}, {"anything": object()}):
        with pytest.raises(ValueError, match="takes"):
            check_parameters(path, wrong)


@given(
    st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.none() | st.text()
)
def test_every_literal_survives_the_command_line(value):
    parameter = Parameter("p", value, ("None" if value is None else type(value).__name__,))
    text = value if isinstance(value, str) else repr(value)
    assert parameter.parse(text) == value


def test_an_unknown_name_is_refused_with_the_nearest_and_all(write):
    near = "no parameter 'image'; did you mean 'image_path'. it has: seed, rate, image_path, layers"
    with pytest.raises(ValueError, match=near):
        check_parameters(write(PARAMETERS), {"image": "my.jpg"})
    with pytest.raises(ValueError, match="no parameter 'zzz'; it has: seed"):
        check_parameters(write(PARAMETERS), {"zzz": 1})
    with pytest.raises(ValueError, match="no parameter 'seed'; it has: none"):
        check_parameters(write("x = 1", tagged=()), {"seed": 1})


@pytest.mark.parametrize(
    "line", ["steps = 2 * 300", "import os", "a.b = 1", "a = b = 1", "print('x')", "a: int"]
)
def test_a_parameters_cell_holds_only_literals(write, line):
    with pytest.raises(ValueError, match="does not assign a literal to a name; move it to the next cell"):
        read_parameters(write("seed = 0\n" + line))


def test_what_is_not_a_notebook_with_one_parameters_cell_is_refused(write):
    with pytest.raises(ValueError, match="2 cells tagged 'parameters', expected one"):
        read_parameters(write("a = 1", "b = 2", tagged=(0, 1)))
    with pytest.raises(ValueError, match="parameters cell, line 1: .* mend it"):
        read_parameters(write("a = = 1"))
    Path("notes.txt").write_text("hello")
    with pytest.raises(ValueError, match="notes.txt is not a notebook"):
        read_parameters("notes.txt")
    with pytest.raises(FileNotFoundError, match="no notebook at absent.ipynb; give the path"):
        read_parameters("absent.ipynb")


# --- running --------------------------------------------------------------------------------------


def test_a_run_uses_this_python_and_the_given_values_and_writes_the_copy(write, monkeypatch):
    other = Path("elsewhere/kernels/python3")
    path = write("seed = 0\nname = 'a'", "import sys, os; print(sys.executable, seed, name, os.getcwd())")
    other.mkdir(parents=True)
    spec = {"argv": [sys.executable, "-c", "raise SystemExit('the wrong kernel')"], "language": "python"}
    (other / "kernel.json").write_text(json.dumps({**spec, "display_name": "another python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(Path("elsewhere").resolve()))
    Path("runs").mkdir()
    Path("runs/copy.failed.ipynb").write_text("what an earlier run left")

    written = run_notebook(path, "runs/copy.ipynb", {"seed": 7}, timeout=60)

    assert outputs(written) == f"{sys.executable} 7 a {os.getcwd()}\n"
    assert os.listdir("runs") == ["copy.ipynb"]
    assert outputs(path) == ""
    assert nbformat.read(written, as_version=4).metadata.papermill["output_path"] == "runs/copy.ipynb"


def test_a_failing_cell_leaves_the_finished_copy_alone_and_is_named(write):
    path = write("seed = 0", "print('before')", "raise KeyError('two\\nlines')", "print('after')")
    Path("copy.ipynb").write_text("finished earlier")
    with pytest.raises(NotebookError) as caught:
        run_notebook(path, "copy.ipynb", timeout=60)
    message = str(caught.value)
    assert message.startswith("notebook.ipynb, code cell 3: KeyError: ") and "\n" not in message
    assert message.endswith("(the cells so far: copy.failed.ipynb)")
    assert Path("copy.ipynb").read_text() == "finished earlier"
    assert names() == ["copy.failed.ipynb", "copy.ipynb", "notebook.ipynb"]
    assert outputs("copy.failed.ipynb") == "before\n"


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("import time; time.sleep(60)", "took longer than 1 s; raise the timeout"),
        ("import os; os._exit(1)", "the kernel died"),
    ],
)
def test_an_endless_cell_and_a_dead_kernel_are_named(write, cell, reason):
    path = write("seed = 0", "x = 1", cell)
    with pytest.raises(NotebookError, match=f"notebook.ipynb, code cell 3: {reason}"):
        run_notebook(path, "copy.ipynb", timeout=1)
    assert names() == ["copy.failed.ipynb", "notebook.ipynb"]


def test_bad_arguments_are_refused_before_anything_runs(write):
    path = write("seed = 0", "open('ran', 'w').close()")
    for arguments, reason in [
        ((path, "copy.ipynb", {"sed": 1}), "did you mean 'seed'"),
        ((path, "copy.html"), "expected a name that ends in .ipynb"),
        ((path, "copy.ipynb", {}, 0), "timeout is 0, expected"),
        ((path, "copy.ipynb", {}, float("nan")), "timeout is nan, expected"),
        ((path, path, {"seed": 1}), "give another output"),
    ]:
        with pytest.raises(ValueError, match=reason):
            run_notebook(*arguments)
    assert names() == ["notebook.ipynb"]


def test_outputs_stored_in_place_are_the_same_each_time(write):
    path = write("seed = 0", "print(seed)")
    run_notebook(path, path, timeout=60)
    first = path.read_bytes()
    assert outputs(path) == "0\n" and b"papermill" not in first
    run_notebook(path, path, timeout=60)
    assert path.read_bytes() == first
    assert names() == ["notebook.ipynb"]


def test_a_live_widget_is_not_stored(write):
    path = write("seed = 0", "import ipywidgets\nipywidgets.IntSlider()")
    run_notebook(path, path, timeout=60)
    assert b"widget-view" not in path.read_bytes() and b"widgets" not in path.read_bytes().replace(b"ipywidgets", b"")
    assert b"IntSlider(value=0)" in path.read_bytes()


# --- the command line -----------------------------------------------------------------------------


def test_the_command_reports_what_was_written(write, capsys):
    write("out = 'metrics.json'", "open(out, 'w').write('{}')")
    assert main(["notebook.ipynb", "copy.ipynb", "--produces", "metrics.json"]) == 0
    assert capsys.readouterr().out.endswith("it wrote\n  copy.ipynb\n  metrics.json\n")
    os.utime("metrics.json", ns=(0, 0))
    assert main(["notebook.ipynb", "copy.ipynb", "-p", "out", "other", "--produces", "metrics.json"]) == 1
    captured = capsys.readouterr()
    assert captured.out.endswith("it wrote\n  copy.ipynb\n")
    assert captured.err == "error: notebook.ipynb did not write metrics.json\n"


def test_the_command_reports_a_failure_in_one_line(write, capsys):
    write("seed = 0", "1 / 0")
    assert main(["notebook.ipynb", "copy.ipynb"]) == 1
    assert capsys.readouterr().err == (
        "error: notebook.ipynb, code cell 2: ZeroDivisionError: division by zero"
        " (the cells so far: copy.failed.ipynb)\n"
    )
    assert main(["notebook.ipynb", "copy.ipynb", "-p", "sede", "1"]) == 2
    assert capsys.readouterr().err == (
        "error: notebook.ipynb has no parameter 'sede'; did you mean 'seed'? it has: seed\n"
    )


def test_the_command_lists_parameters(write, capsys):
    write(PARAMETERS)
    assert main(["notebook.ipynb", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "seed = 0  (int)" and lines[2] == "image_path = None  (str or None)"
    for line in lines:
        ast.parse(line.split("  (")[0])


def test_the_command_wants_one_place_for_the_output(write):
    write("seed = 0")
    for arguments in (["notebook.ipynb"], ["notebook.ipynb", "copy.ipynb", "--in-place"]):
        with pytest.raises(SystemExit):
            main(arguments)


def test_project_root_is_found_from_below_and_only_there(tmp_path):
    repository = Path(__file__).resolve().parents[1]
    assert project_root(repository / "notebooks") == project_root(repository) == repository
    assert project_root(tmp_path) == tmp_path.resolve()
