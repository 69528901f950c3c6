"""Run a notebook as a program: parameters that are checked, a time limit, an output that is whole or absent.

papermill executes a notebook with other values in its `parameters` cell. On its own it only warns about a
name that the cell does not define, has no time limit, and writes its output cell by cell. `run_notebook`
refuses the name, sets the limit, and lets the output appear under its name when it is complete; a copy that
failed is kept beside it under the suffix `.failed.ipynb`. The kernel is always the Python that runs this
module.

    python -m maskerlib.notebooks notebooks/00_quickstart.ipynb runs/photo.ipynb -p image_path my.jpg
"""

import argparse
import logging
import math
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import nbformat

from maskerlib.parameters import check_parameters, parse_parameters, read_parameters

__all__ = ["NotebookError", "main", "project_root", "run_notebook"]


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
    timeout: float = 1800,
    *,
    progress: bool = False,
) -> Path:
    """Execute the notebook `path` with `parameters`, write the executed copy to `output` and return its path.

    `timeout` limits each cell, in seconds. Relative paths in the notebook are relative to the current folder.
    `output` changes only when the whole run succeeded; otherwise the cells so far are in
    `<stem>.failed.ipynb` beside it. When `output` is `path`, the outputs are stored in the notebook itself,
    without papermill's records.

    Raises ValueError and FileNotFoundError for bad arguments, before anything runs, and NotebookError when a
    cell fails or takes longer than `timeout`, or the kernel dies.
    """
    import papermill  # this and torch take seconds to import: a mistyped parameter should not have to wait

    from maskerlib.files import atomic_path

    source, final = Path(path), Path(output)
    values = check_parameters(source, parameters or {})
    if final.suffix != ".ipynb":
        raise ValueError(f"the output is {os.fspath(output)!r}, expected a name that ends in .ipynb")
    in_place = source.resolve() == final.resolve()
    if in_place and values:
        raise ValueError(f"{source} cannot keep the outputs of other parameters; give another output")
    if not 0 < timeout < math.inf:
        raise ValueError(f"timeout is {timeout!r}, expected a number of seconds above 0")
    failed = final.with_suffix(".failed.ipynb")
    with atomic_path(final) as partial:
        try:
            node = papermill.execute_notebook(
                source,
                partial,
                values,
                language="python",
                kernel_name="python3",
                kernel_manager_class=_own_kernel(),
                progress_bar=progress,
                execution_timeout=math.ceil(timeout),
            )
        except BaseException as error:
            if partial.exists():
                os.replace(partial, failed)
            _explain(source, failed, timeout, error)
        node.metadata.papermill["output_path"] = os.fspath(output)
        nbformat.write(_without_records(node) if in_place else node, partial)
    failed.unlink(missing_ok=True)
    return final


def _own_kernel() -> type:
    """A kernel manager whose kernels are this interpreter's, whatever kernels are installed on the machine.

    They are quiet about their own shutdown, and encrypt what they exchange where the installed versions can.
    """
    import zmq
    from ipykernel.kernelspec import RESOURCES, get_kernel_dict
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    class OwnKernelManager(AsyncKernelManager):
        transport_encryption = "auto" if zmq.has("curve") else "disabled"

        @property
        def kernel_spec(self) -> KernelSpec:
            return KernelSpec(resource_dir=RESOURCES, **get_kernel_dict(["--log-level=CRITICAL"]))

    return OwnKernelManager


def _explain(source: Path, failed: Path, timeout: float, error: BaseException) -> NoReturn:
    """Raise `error` again, as a NotebookError of one line where it is the notebook that failed."""
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    if isinstance(error, PapermillExecutionError):
        what = f"{error.ename}: {' '.join(error.evalue.split())}"[:300]
    elif isinstance(error, CellTimeoutError):
        what = f"took longer than {timeout:g} s; raise the timeout or give it less to do"
    elif isinstance(error, DeadKernelError):
        what = "the kernel died, most often because memory ran out; give it less to do"
    else:
        raise error
    begun = [
        number
        for number, cell in enumerate((c for c in nbformat.read(failed, 4).cells if c.cell_type == "code"), 1)
        if cell.metadata.get("papermill", {}).get("start_time")
    ]
    raise NotebookError(f"{source}, code cell {max(begun)}: {what} (the cells so far: {failed})") from None


def _without_records(node: nbformat.NotebookNode) -> nbformat.NotebookNode:
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
    """The command line. Returns 0, 1 when the notebook failed or left out a file, 2 for bad arguments."""
    parser = argparse.ArgumentParser("python -m maskerlib.notebooks", description="Run a notebook.")
    parser.add_argument("notebook", help="the .ipynb file to execute")
    parser.add_argument("output", nargs="?", help="where the executed copy goes")
    parser.add_argument("--in-place", action="store_true", help="store the outputs in the notebook itself")
    parser.add_argument("--list", action="store_true", help="list the notebook's parameters and run nothing")
    parser.add_argument("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    parser.add_argument("--timeout", type=float, default=1800, help="seconds a cell may take (%(default)s)")
    parser.add_argument("--produces", action="append", default=[], metavar="FILE", help="what it must write")
    options = parser.parse_args(arguments)
    if not options.list and bool(options.output) == options.in_place:
        parser.error("give either an output path or --in-place")
    try:
        if options.list:
            for item in read_parameters(options.notebook).values():
                print(f"{item.name} = {item.default!r}  ({' or '.join(item.types)})")
            return 0
        given = parse_parameters(options.notebook, dict(options.parameter))
        before = {name: _written(name) for name in options.produces}
        start = time.monotonic()
        logging.getLogger("papermill").setLevel(logging.CRITICAL)  # its warnings and errors are reported here
        print(f"running {options.notebook}", flush=True)
        output = options.notebook if options.in_place else options.output
        run_notebook(options.notebook, output, given, options.timeout, progress=sys.stderr.isatty())
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except NotebookError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"error: {options.notebook} was interrupted", file=sys.stderr)
        return 130
    missing = [name for name in before if _written(name) in (None, before[name])]
    print(f"finished after {time.monotonic() - start:.0f} s; it wrote")
    print("\n".join(f"  {name}" for name in (output, *before) if name not in missing))
    if missing:
        print(f"error: {options.notebook} did not write {', '.join(missing)}", file=sys.stderr)
    return 1 if missing else 0


def _written(name: str) -> int | None:
    """When the file was last written, in nanoseconds; None without a file."""
    return Path(name).stat().st_mtime_ns if Path(name).exists() else None


def _on_terminate(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _on_terminate)
    sys.exit(main())
