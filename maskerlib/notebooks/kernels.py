"""The kernels that notebooks run in, and how papermill drives them: this interpreter, told where to report."""

from collections.abc import Callable, Mapping
from typing import Any

import zmq
from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from papermill.engines import NBClientEngine, NotebookExecutionManager, papermill_engines

__all__ = ["ENGINE", "WatchedEngine", "own_kernel"]

ENGINE = "maskerlib"
"""The name under which papermill knows `WatchedEngine`."""


def own_kernel(environment: Mapping[str, str]) -> type[AsyncKernelManager]:
    """A kernel manager whose kernels are this interpreter's, whatever kernels are installed on the machine.

    `environment` is added to theirs. They are quiet about their own shutdown, have time for it, so that a training that is
    interrupted can write its checkpoint, and encrypt what they exchange where the installed versions can.
    """
    added = {name: value.replace("$", "$$") for name, value in environment.items()}  # "$" would name another variable

    class OwnKernelManager(AsyncKernelManager):
        transport_encryption = "auto" if zmq.has("curve") else "disabled"
        shutdown_wait_time = 60.0

        @property
        def kernel_spec(self) -> KernelSpec:
            return KernelSpec(resource_dir=RESOURCES, env=added, **get_kernel_dict(["--log-level=CRITICAL"]))

    return OwnKernelManager


class WatchedEngine(NBClientEngine):  # type: ignore[misc]  # papermill has no types
    """papermill's own engine, which says when a code cell begins."""

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: NotebookExecutionManager,
        kernel_name: str,
        *,
        on_code_cell: Callable[[list[Any], int], None],
        **settings: Any,
    ) -> None:
        """Execute; `on_code_cell(cells, index)` is called before each code cell, with the cells as they are executed."""

        def begins(cell: Any, cell_index: int) -> None:
            on_code_cell(nb_man.nb.cells, cell_index)

        super().execute_managed_notebook(nb_man, kernel_name, on_cell_execute=begins, **settings)


papermill_engines.register(ENGINE, WatchedEngine)
