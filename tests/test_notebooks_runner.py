"""Running notebooks: parameters are checked first, and no half-written copy takes a finished one's place."""

import ast
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from maskerlib.masking.objectives import Objective
from maskerlib.notebooks.parameters import Parameter, check_parameters, parse_parameters, read_as, read_parameters
from maskerlib.notebooks.runner import NotebookError, main, project_root, run_notebook
from maskerlib.running.files import CannotWrite

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


def headed(path: Path, index: int, text: str) -> None:
    """Put a Markdown cell before the cell `index` of a notebook."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(index, nbformat.v4.new_markdown_cell(text))
    nbformat.write(notebook, path)


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


def test_a_type_comment_is_read_as_papermill_reads_it(write):
    parameters = read_parameters(
        write(
            "a = None  # type: list|None\nb = 'x'  # type: str|None  # what it is\n"
            "c = 2  # type it\nd = 0  # type: |\ne: float = 1.0"
        )
    )
    types = {name: parameter.types for name, parameter in parameters.items()}
    assert types == {"a": ("list", "None"), "b": ("str", "None"), "c": ("int",), "d": ("int",), "e": ("float",)}
    assert list(read_parameters(write("# type: a remark\nseed = 0"))) == ["seed"]


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


@pytest.mark.parametrize(
    ("annotation", "value", "taken"),
    [
        (bool, "false", False),
        (bool, "False", False),
        (bool, "true", True),
        (tuple[str, ...] | None, '["stage4"]', ("stage4",)),
        (tuple[str, ...] | None, "('stage4', 'stem')", ("stage4", "stem")),
        (tuple[str, ...] | None, "null", None),
        (list | None, '["stage4"]', ["stage4"]),
        (int | None, "12", 12),
        (float, "2", 2.0),
        (float | None, "1e-3", 1e-3),
        (str, "3", "3"),
        (str | None, "None", "None"),
        (float | Sequence[float], "0.1", 0.1),
        (float | Sequence[float], "(0.1, 0.2)", [0.1, 0.2]),
        (int | tuple[int, int], "(4, 6)", (4, 6)),
        (Objective | Mapping[str, Any], '{"tv": 0.1}', {"tv": 0.1}),
        (Tensor | None, "None", None),
        (Callable[[int], int] | str, "blur", "blur"),
        (Optional[int], "3", 3),  # noqa: UP045  # as another library may annotate
        (str, '["stage4"]', '["stage4"]'),
        (bool, 1, 1),  # no text: for its owner to check
        (int, 0.5, 0.5),
        (tuple[str, ...] | None, None, None),
    ],
)
def test_text_for_what_takes_no_text_is_read_as_its_type(annotation, value, taken):
    read = read_as(annotation, value, "p")
    assert read == taken and type(read) is type(taken)


@pytest.mark.parametrize(
    ("annotation", "text", "mend"),
    [
        (bool, "no", "takes bool; give True or False"),
        (bool, "0", "takes bool; give True or False"),
        (tuple[str, ...] | None, "stage4", r"""takes tuple or None; give a list such as '\["stage3", "stage4"\]'"""),
        (tuple[str, ...] | None, '["stage4"', "takes tuple or None; give a list"),
        (int, "1.5", "takes int; give a whole number"),
        (int | None, "True", "takes int or None; give a whole number"),
        (float, "fast", "takes float; give a number"),
        (Tensor | None, "0.5", "takes Tensor or None; give it from Python"),
        (float | Sequence[float], "much", "takes float or list; give a number"),
        (Objective | Mapping[str, Any], "tv", "takes Objective or dict; give a dict"),
        (float, "[" * 5000, "takes float; give a number"),
        (dict, "{[]: 1}", "takes dict; give a dict"),
    ],
)
def test_text_that_is_no_value_of_the_type_is_refused(annotation, text, mend):
    with pytest.raises(ValueError, match=f"p=.* is a text, and p {mend}"):
        read_as(annotation, text, "p")


def test_values_for_a_run_are_not_read_from_text(write):
    path = write(PARAMETERS)
    for name, text in (("fast", "false"), ("layers", '["stage4"]')):
        with pytest.raises(ValueError, match=f"parameter '{name}' takes"):
            run_notebook(path, "copy.ipynb", {name: text})
    assert names() == ["notebook.ipynb"]


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


SLOW = """\
import time
from maskerlib.running.progress import report
for step in range(1000):
    report("masker (CA)", step, 1000)
    open("begun", "w").close()
    time.sleep(0.05)
"""


def run_and_stop(*arguments: str, number: int) -> tuple[int, str]:
    """The exit status, and what was said on stderr, of a command that is sent signal `number` while its notebook loops."""
    command = [sys.executable, "-m", "maskerlib.notebooks", *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while not Path("begun").exists() and process.poll() is None:
            time.sleep(0.1)
        process.send_signal(number)
        _, errors = process.communicate()
        return process.returncode, errors


@pytest.mark.skipif(os.name == "nt", reason="signals are others there")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_says_in_one_line_how_to_go_on_and_leaves_no_half(write, number):
    path = write("seed = 0", SLOW)
    headed(path, 1, "# Title\n\n## 2. The *masker*")
    Path("copy.ipynb").write_text("finished earlier")
    status, errors = run_and_stop("notebook.ipynb", "copy.ipynb", number=number)
    assert status == 130
    assert re.fullmatch(
        r"stopped in section '2. The masker', masker \(CA\), step \d+ of 1000; the same command goes on from there\n", errors
    )
    assert names() == ["begun", "copy.ipynb", "copy.log", "notebook.ipynb"]
    assert Path("copy.ipynb").read_text() == "finished earlier"
    assert "stopped in section '2. The masker', masker (CA), step" in Path("copy.log").read_text().splitlines()[-1]


@pytest.mark.skipif(os.name == "nt", reason="signals are others there")
def test_what_a_killed_run_left_is_removed_by_the_next_and_a_living_one_is_left_alone(write):
    write("seconds = 1000", "import time; print('begun', flush=True); time.sleep(seconds)")
    killed, living = (
        subprocess.Popen([sys.executable, "-m", "maskerlib.notebooks", "notebook.ipynb", f"runs/{name}.ipynb"])
        for name in ("killed", "living")
    )
    try:
        begun = time.monotonic()
        while len(list(Path().glob("runs/*.partial-*.ipynb"))) < 2:
            assert time.monotonic() - begun < 120
            time.sleep(0.1)
        killed.kill()
        killed.wait()
        run_notebook("notebook.ipynb", "runs/next.ipynb", {"seconds": 0}, timeout=60)
        left = [path.name.split(".partial-")[0] for path in Path().glob("runs/*.partial-*.ipynb")]
        assert left == ["living"]
    finally:
        killed.kill()
        living.kill()
        killed.wait()
        living.wait()


@pytest.mark.parametrize("name", ["{image_path}", "{", "{0}", "a}b", "{pm.run_uuid}", "-", "$HOME"])
def test_braces_and_their_like_in_a_path_are_taken_literally(write, name):
    write("image_path = 'elsewhere'", "print(image_path)", name=f"{name}in.ipynb")
    written = run_notebook(f"{name}in.ipynb", f"{name}out.ipynb", {"image_path": name}, timeout=60)
    assert names() == sorted([f"{name}in.ipynb", f"{name}out.ipynb"])
    assert outputs(written) == f"{name}\n"
    assert nbformat.read(written, 4).metadata.papermill["input_path"] == f"{name}in.ipynb"


@pytest.mark.skipif(os.name == "nt", reason="names and errors are others there")
def test_an_output_that_cannot_be_written_is_refused_before_anything_runs(write, capsys):
    write("seed = 0", "open('ran', 'w').close()")
    Path("folder.ipynb").mkdir()
    Path("file").touch()
    for output, reason in [
        ("folder.ipynb", "Is a directory"),
        ("file/copy.ipynb", "Not a directory"),
        ("x" * 300 + ".ipynb", "File name too long"),
        ("/proc/copy.ipynb", ""),
    ]:
        assert main(["notebook.ipynb", output]) == 2
        errors = capsys.readouterr().err
        assert errors.startswith("error: ") and errors.count("\n") == 1 and reason in errors
        assert output.split("/")[0][:100] in errors
    assert names() == ["file", "folder.ipynb", "notebook.ipynb"]


@pytest.mark.skipif(os.name == "nt" or getattr(os, "geteuid", lambda: 0)() == 0, reason="nothing is read-only for this user")
def test_a_read_only_folder_is_refused_before_anything_runs(write, capsys):
    write("seed = 0", "open('ran', 'w').close()")
    Path("closed").mkdir(mode=0o500)
    assert main(["notebook.ipynb", "closed/copy.ipynb"]) == 2
    assert "error: folder closed cannot be written to (Permission denied)" in capsys.readouterr().err
    assert names() == ["closed", "notebook.ipynb"]


@pytest.mark.parametrize("saves", [0, 2])
def test_a_full_disk_is_one_line_and_leaves_no_empty_notebook(write, capsys, monkeypatch, saves):
    import papermill.engines

    write("seed = 0", "print(seed)", "print(seed)")
    done = []

    def save(node, path):
        done.append(path)
        with open(path, "w") as handle:
            if len(done) > saves:
                raise OSError(errno.ENOSPC, "No space left on device")
            handle.write(nbformat.writes(node))

    monkeypatch.setattr(papermill.engines, "write_ipynb", save)
    assert main(["notebook.ipynb", "copy.ipynb"]) == 2
    errors = capsys.readouterr().err
    assert "copy.ipynb cannot be written to (No space left on device)" in errors and "bytes are free there" in errors
    assert errors.count("\n") == 1
    assert set(names()) <= {"notebook.ipynb", "copy.log"}


def test_a_full_disk_at_the_very_end_is_named_as_well(write, monkeypatch):
    def full(node, path):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = write("seed = 0")
    monkeypatch.setattr("nbformat.write", full)
    with pytest.raises(CannotWrite, match="copy.ipynb cannot be written to .No space left on device"):
        run_notebook(path, "copy.ipynb", timeout=60)
    assert names() == ["notebook.ipynb"]


def test_a_kernel_waits_passively_unless_told_otherwise(write, monkeypatch):
    path = write("seed = 0", "import os; print(os.environ['OMP_WAIT_POLICY'])")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert outputs(run_notebook(path, "copy.ipynb", timeout=60)) == "PASSIVE\n"
    assert "OMP_WAIT_POLICY" not in os.environ
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert outputs(run_notebook(path, "copy.ipynb", timeout=60)) == "ACTIVE\n"


def test_no_clock_ends_a_run_that_was_given_none(write, monkeypatch):
    import papermill

    given = {}
    monkeypatch.setattr(papermill, "execute_notebook", lambda *paths, **settings: given.update(settings) or 1 / 0)
    for timeout, expected in ((None, None), (0.5, 1), (90, 90)):
        with pytest.raises(ZeroDivisionError):
            run_notebook(write("seed = 0"), "copy.ipynb", timeout=timeout)
        assert given["execution_timeout"] == expected
        assert given["start_timeout"] >= 3600 and given["iopub_timeout"] >= 3600


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


def test_the_folders_of_what_it_must_write_are_those_that_the_notebook_names(write, capsys, monkeypatch):
    monkeypatch.delenv("MASKERLIB_PROFILE", raising=False)
    session = "from maskerlib.course.session import open_session\ns = open_session('n', profile, default={}, smoke={})"
    write("profile = ''", session, "s.figures.mkdir(parents=True, exist_ok=True)\n(s.figures / 'a').touch()")
    arguments = ["notebook.ipynb", "copy.ipynb", "--produces", "{figures}/a", "--produces", "{results}/b"]
    for more, results, figures in (([], "runs/n", "figures"), (["-p", "profile", "smoke"], "runs/n-smoke", "runs/n-smoke")):
        assert main([*arguments, *more]) == 1
        captured = capsys.readouterr()
        assert captured.out.endswith(f"it wrote\n  copy.ipynb\n  {figures}/a\n")
        assert captured.err == f"error: notebook.ipynb did not write {results}/b\n"


def test_the_command_keeps_a_log_and_shows_it_where_there_is_no_terminal(write, capsys):
    path = write("seed = 0", "1")
    headed(path, 1, "## Section A")
    assert main(["notebook.ipynb", "copy.ipynb"]) == 0
    log = Path("copy.log").read_text().splitlines()
    assert log[0].startswith("started ") and "starting the kernel" in log[1] and log[-1].endswith("finished")
    assert "starting the kernel" in capsys.readouterr().out
    assert main(["notebook.ipynb", "--in-place"]) == 0
    assert names() == ["copy.ipynb", "copy.log", "notebook.ipynb"]


def test_a_file_by_the_name_of_the_log_survives_a_run_and_a_refusal(write, capsys):
    write("seed = 0", "1")
    Path("precious.log").write_text("mine")
    assert main(["notebook.ipynb", "precious.ipynb", "-p", "sede", "1"]) == 2
    assert names() == ["notebook.ipynb", "precious.log"]
    assert main(["notebook.ipynb", "precious.ipynb"]) == 0
    assert names() == ["notebook.ipynb", "precious.ipynb", "precious.log", "precious.run.log"]
    assert Path("precious.log").read_text() == "mine"


def test_nothing_that_takes_long_is_imported_before_a_signal_can_be_answered():
    heavy = "{'nbformat', 'papermill', 'torch', 'numpy', 'tqdm', 'yaml'}"
    code = f"import sys, maskerlib.notebooks.runner; print({heavy} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


@pytest.mark.skipif(os.name == "nt", reason="signals are others there")
@pytest.mark.parametrize("module", ["tqdm", "nbformat", "jsonschema", "papermill", "torch", "nbclient"])
def test_ctrl_c_while_it_starts_is_one_line(write, module):
    """The signal comes inside of the import of `module`, which takes a while and would turn it into another error."""
    write("seed = 0", "open('ran', 'w').close()")
    code = f"""
import os, signal, sys
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
            for step in range(1000):
                pass
from maskerlib.notebooks.runner import main
sys.meta_path.insert(0, Slow())
sys.exit(main(["notebook.ipynb", "copy.ipynb"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 130 and done.stderr.count("\n") == 1 and "stopped before" in done.stderr
    assert names() == ["notebook.ipynb"]


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
