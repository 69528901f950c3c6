"""How the processor threads of torch wait for each other.

torch splits an operation among the threads of an OpenMP pool, and a thread that is done early waits for the others. libgomp,
which torch brings along on Linux, lets it spin: it asks again and again whether they are done, and keeps a core busy with that.
On an idle machine this saves a twentieth of the time. Beside other work it takes the core that the others wait for: a training
with two threads takes more than half as long again as with one, and twice the processor time. A passive thread sleeps instead;
`benchmarks/threads.py` measures both.

libgomp reads OMP_WAIT_POLICY once, when torch is loaded. So it is the commands that set it, before that: the Makefile, and
`maskerlib.notebooks.runner` for the kernels that it starts. Importing the library changes nothing.
"""

import os
import sys
from collections.abc import Mapping

__all__ = ["VARIABLE", "passive", "wait_passively"]

VARIABLE = "OMP_WAIT_POLICY"
"""The variable of OpenMP that says how threads wait."""


def passive(environment: Mapping[str, str]) -> dict[str, str]:
    """What is to be added to `environment` so that a process started with it waits passively; nothing where it says itself.

    >>> passive({}), passive({"OMP_WAIT_POLICY": "ACTIVE"})
    ({'OMP_WAIT_POLICY': 'PASSIVE'}, {})
    """
    return {} if VARIABLE in environment else {VARIABLE: "PASSIVE"}


def wait_passively() -> bool:
    """Let the threads of this process and of those that it starts wait passively, unless its environment says otherwise.

    Returns whether that came in time for this process, before torch was loaded.
    """
    os.environ.update(passive(os.environ))
    return "torch" not in sys.modules
