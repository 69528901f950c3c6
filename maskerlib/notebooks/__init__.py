"""Running a notebook as a program: `python -m maskerlib.notebooks`. Needs the extra `notebooks`. Imports `running` alone.

    parameters  the parameters of a notebook, checked
    kernels     the kernels that notebooks run in
    watch       what a running notebook is doing: section, step, time left
    runner      a notebook as a program: progress that is shown, an output that is whole or absent
    __main__    the command line
"""

from maskerlib.running.extras import require_extra

require_extra("notebooks", "ipykernel", "jupyter_client", "nbclient", "nbformat", "papermill", "zmq")

__all__: list[str] = []
