"""What every test shares: the device, the seeds, the number of threads, a folder for caches."""

import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import matplotlib
import numpy as np
import pytest
import torch

# A job that a shell starts in the background inherits that Ctrl-C is ignored, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples on every machine, and no deadline: the first call of an operation may be slow.
hypothesis.settings.register_profile("maskerlib", deadline=None, derandomize=True)
hypothesis.settings.load_profile("maskerlib")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `cuda` or `mps` where there is no such device, however they came by the mark."""
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    for item in items:
        for name, there in present.items():
            if item.get_closest_marker(name) and not there:
                item.add_marker(pytest.mark.skip(reason=f"no {name} device"))


@pytest.fixture(
    params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda), pytest.param("mps", marks=pytest.mark.mps)]
)
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device of this machine in turn; skipped for the kinds that it lacks."""
    return torch.device(request.param)


@pytest.fixture(scope="session", autouse=True)
def _quiet_machine() -> Iterator[None]:
    """At most two threads unless OMP_NUM_THREADS is set: tensors are small. No figure opens a window."""
    threads = torch.get_num_threads()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(2, threads))
    matplotlib.use("Agg")  # not through the environment, which the kernels of notebooks would inherit
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test starts from the same global seeds, in whatever order the tests run."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what several tests render or train once; it is never the user's own cache."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread, as the runs of the tables have."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
