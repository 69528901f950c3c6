"""Run a notebook as a program: parameters that are checked, progress that is shown, an output that is whole or absent.

papermill executes a notebook with other values in its `parameters` cell. On its own it only warns about a
name that the cell does not define, reads braces in a path as the name of a parameter, and writes its output
cell by cell. `run_notebook` refuses the name, takes the path as it is, and lets the output appear under its
name when it is complete; a copy that failed is kept beside it under the suffix `.failed.ipynb`. The kernel
is always the Python that runs this module.

    python -m maskerlib.notebooks notebooks/00_quickstart.ipynb runs/photo.ipynb -p image_path my.jpg

A person who waits sees the section, the step and the time left, and finds the same in `runs/photo.log`. No
clock ends a run unless it is given a limit, as tests do.
"""

import argparse
import json
import logging
import math
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from maskerlib.notebooks.parameters import check_parameters, parse_parameters, read_parameters
from maskerlib.running.interruption import interruptible
from maskerlib.running.threads import passive

if TYPE_CHECKING:
    import nbformat

__all__ = ["SESSION", "NotebookError", "main", "project_root", "run_notebook"]

SESSION = "MASKERLIB_SESSION"
"""The environment variable that names the file in which a notebook says where it writes, see `maskerlib.course.session`."""

_PATIENCE = 3600  # seconds for a kernel to start, or to send the rest of its output: a busy machine is no failure


class NotebookError(RuntimeError):
    """A notebook did not run to its end: one line with the notebook, the cell and its error."""


def project_root(start: str | os.PathLike[str] = ".") -> Path:
    """The folder of this repository at or above `start`, or `start` itself outside of it.

    A kernel starts in the folder of its notebook under JupyterLab and pytest, and in the caller's under
    papermill. A notebook that writes below `project_root()` writes to the same place from each.
    """
    here = Path(start).resolve()
    for folder in (here, *here.parents):
        if (folder / "pyproject.toml").is_file() and (folder / "maskerlib" / "__init__.py").is_file():
            return folder
    return here


def run_notebook(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    parameters: Mapping[str, Any] | None = None,
    timeout: float | None = None,
    *,
    progress: bool = False,
    session: Path | None = None,
) -> Path:
    """Execute the notebook `path` with `parameters`, write the executed copy to `output` and return its path.

    Relative paths in the notebook are relative to the current folder. `output` changes only when the whole run
    succeeded; otherwise the cells so far are in `<stem>.failed.ipynb` beside it. When `output` is `path`, the
    outputs are stored in the notebook itself, without papermill's records. A run that is interrupted leaves
    neither.

    Args:
        timeout: seconds that one cell may take; None sets no limit.
        progress: show on the terminal what the notebook is doing, and keep it in `<stem>.log` beside `output`
            (none where `output` is `path`), after what earlier runs said there; see `maskerlib.notebooks.watch`.
        session: where the notebook says which folders it writes to, see `maskerlib.course.session`.

    Raises ValueError and FileNotFoundError for bad arguments, before anything runs; NotebookError when a cell
    fails or takes longer than `timeout`, or the kernel dies; `maskerlib.running.files.CannotWrite` when the output cannot
    be written, before anything runs where that can be known; and KeyboardInterrupt, whose text says how to go on.
    """
    source, final = Path(path), Path(output)
    values = check_parameters(source, parameters or {})
    if final.suffix != ".ipynb":
        raise ValueError(f"the output is {os.fspath(output)!r}, expected a name that ends in .ipynb")
    in_place = source.resolve() == final.resolve()
    if in_place and values:
        raise ValueError(f"{source} cannot keep the outputs of other parameters; give another output")
    if timeout is not None and not 0 < timeout < math.inf:
        raise ValueError(f"timeout is {timeout!r}, expected a number of seconds above 0, or None for no limit")
    with interruptible() as asked:  # what Ctrl-C raises inside of an import becomes any error
        import nbformat
        import papermill  # this and torch take seconds to import: a mistyped parameter should not have to wait

        from maskerlib.notebooks.kernels import ENGINE, own_kernel
        from maskerlib.notebooks.watch import Watch
        from maskerlib.running.files import atomic_path, make_folder, remove_leftovers
        from maskerlib.running.progress import VARIABLE
    if asked():
        raise KeyboardInterrupt(f"stopped before {source} began; the same command runs it")
    failed = final.with_suffix(".failed.ipynb")
    with tempfile.TemporaryDirectory() as folder, atomic_path(final.absolute()) as partial:
        remove_leftovers(make_folder(final.parent))
        said = Path(folder) / "progress.json"
        told = {VARIABLE: str(said), SESSION: str(session or Path(folder) / "session.json")}
        log = None if in_place else final.with_suffix(".log")
        watch = Watch.for_people(said, log) if progress else Watch(said)
        with watch:
            try:
                node = papermill.execute_notebook(
                    _literally(source),
                    _literally(partial),
                    values,
                    engine_name=ENGINE,
                    language="python",
                    kernel_name="python3",
                    kernel_manager_class=own_kernel({**told, **passive(os.environ)}),
                    progress_bar=False,
                    start_timeout=_PATIENCE,
                    iopub_timeout=_PATIENCE,
                    execution_timeout=timeout and math.ceil(timeout),
                    on_code_cell=watch.enter,
                )
            except KeyboardInterrupt:
                raise KeyboardInterrupt(f"stopped in {watch.where()}; the same command goes on from there") from None
            except Exception as error:
                _explain(source, _keep(partial, failed), timeout or _PATIENCE, error)
        node.metadata.papermill |= {"input_path": os.fspath(path), "output_path": os.fspath(output)}
        nbformat.write(_without_records(node) if in_place else node, partial)
    failed.unlink(missing_ok=True)
    return final


def _literally(path: Path) -> str:
    """`path` for papermill, which would fill in braces, and which reads "-", "s3:" and their like at its beginning."""
    return os.fspath(path.absolute()).replace("{", "{{").replace("}", "}}")


def _keep(partial: Path, failed: Path) -> Path | None:
    """Keep the cells so far as `failed`, if a cell has begun and they could be written; None where there is nothing."""
    try:
        if not _begun(partial):
            return None
        os.replace(partial, failed)
    except Exception:  # a notebook that was cut off, or a full disk
        return None
    return failed


def _begun(path: Path) -> list[int]:
    """The numbers of the code cells that were begun."""
    import nbformat

    cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    return [n for n, cell in enumerate(cells, 1) if cell.metadata.get("papermill", {}).get("start_time")]


def _explain(source: Path, failed: Path | None, timeout: float, error: Exception) -> NoReturn:
    """Raise `error` again, as a NotebookError of one line where it is the notebook or its kernel that failed."""
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    if isinstance(error, PapermillExecutionError):
        what = f"{error.ename}: {' '.join(error.evalue.split())}"[:300]
    elif isinstance(error, CellTimeoutError):
        what = f"took longer than {timeout:g} s; raise the timeout or give it less to do"
    elif isinstance(error, DeadKernelError):
        what = "the kernel died, most often because memory ran out; give it less to do"
    elif isinstance(error, RuntimeError) and failed is None:  # nbclient's, for a kernel that does not come up
        raise NotebookError(f"{source}: the kernel did not start ({' '.join(str(error).split())[:200]})") from None
    else:
        raise error
    number = f", code cell {max(_begun(failed))}" if failed else ""
    kept = f" (the cells so far: {failed})" if failed else ""
    raise NotebookError(f"{source}{number}: {what}{kept}") from None


def _without_records(node: "nbformat.NotebookNode") -> "nbformat.NotebookNode":
    """Drop what changes with every run: papermill's and nbclient's times and paths, live widgets."""
    node.metadata.pop("papermill", None)
    node.metadata.pop("widgets", None)
    for cell in node.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
        if not cell.metadata.get("tags", True):
            del cell.metadata["tags"]
    return node


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line.

    Returns 0; 1 when the notebook failed or left out a file, 2 for bad arguments or an output that cannot be
    written, 130 when it was stopped.
    """
    parser = argparse.ArgumentParser("python -m maskerlib.notebooks", description="Run a notebook.")
    parser.add_argument("notebook", help="the .ipynb file to execute")
    parser.add_argument("output", nargs="?", help="where the executed copy goes")
    parser.add_argument("--in-place", action="store_true", help="store the outputs in the notebook itself")
    parser.add_argument("--list", action="store_true", help="list the notebook's parameters and run nothing")
    parser.add_argument("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    parser.add_argument("--timeout", type=float, help="seconds a cell may take (no limit unless given)")
    produces = "what it must write; {results} and {figures} stand for the folders that the notebook writes to"
    parser.add_argument("--produces", action="append", default=[], metavar="FILE", help=produces)
    options = parser.parse_args(arguments)
    if not options.list and bool(options.output) == options.in_place:
        parser.error("give either an output path or --in-place")
    try:
        with interruptible() as asked:
            from maskerlib.running.progress import duration

            known = read_parameters(options.notebook)
            given = {} if options.list else parse_parameters(options.notebook, dict(options.parameter))
        if asked():
            raise KeyboardInterrupt
        if options.list:
            for item in known.values():
                print(f"{item.name} = {item.default!r}  ({' or '.join(item.types)})")
            return 0
        begun = time.time()
        logging.getLogger("papermill").setLevel(logging.CRITICAL)  # its warnings and errors are reported here
        print(f"running {options.notebook}", flush=True)
        output = options.notebook if options.in_place else options.output
        with tempfile.TemporaryDirectory() as folder:
            session = Path(folder) / "session.json"
            run_notebook(options.notebook, output, given, options.timeout, progress=True, session=session)
            produced = _produced(options.produces, session)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except NotebookError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(str(stop) or f"{options.notebook} was stopped before it began", file=sys.stderr)
        return 130
    missing = [name for name in produced if not _written(name, since=begun)]
    print(f"finished after {duration(time.time() - begun)}; it wrote")
    print("\n".join(f"  {name}" for name in (output, *produced) if name not in missing))
    if missing:
        print(f"error: {options.notebook} did not write {', '.join(missing)}", file=sys.stderr)
    return 1 if missing else 0


def _produced(names: Sequence[str], session: Path) -> list[str]:
    """`names` with the folders that the notebook's session has opened filled in; as they are where it opened none."""
    folders = json.loads(session.read_text(encoding="utf-8")) if session.is_file() else {}
    here = f"{os.getcwd()}{os.sep}"
    for key, folder in folders.items():
        names = [name.replace(f"{{{key}}}", folder.removeprefix(here)) for name in names]
    return list(names)


def _written(name: str, *, since: float) -> bool:
    """Whether the file was written since then, seconds since 1970; file systems may round to a second."""
    return Path(name).is_file() and Path(name).stat().st_mtime > since - 1
