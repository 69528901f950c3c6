"""Running a notebook as a program: `python -m maskerlib.notebooks`. Imports `running` alone.

    parameters  the parameters of a notebook, checked
    kernels     the kernels that notebooks run in
    watch       what a running notebook is doing: section, step, time left
    runner      a notebook as a program: progress that is shown, an output that is whole or absent
    __main__    the command line
"""

__all__: list[str] = []
