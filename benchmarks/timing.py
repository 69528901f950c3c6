"""How the benchmarks measure: the times of several callables in turn, and the memory that one needs at most.

Callables that are to be compared run one after the other in every round, so that whatever else slows the
machine down slows all of them; the median over the rounds leaves the odd interruption out.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

__all__ = ["RETURN_MEMORY", "Times", "apart", "arguments", "interleaved", "peak_memory", "resident"]

RETURN_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "1048576"}
"""Environment in which glibc hands every tensor above 1 MB back to the system as soon as it is freed."""

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def arguments(description: str, out: str) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark has: --device, --threads and --out."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where it runs"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--out", type=Path, default=Path(out), help="the JSON file to write")
    return parser


@dataclass(frozen=True)
class Times:
    """Seconds of one callable, a number a round: by the clock on the wall, and of processor in all threads.

    Processes that it started and that have ended count, save on Windows.

    On a machine that is busy with other work the first includes waiting for it, the second hardly; on a GPU
    the second means nothing.
    """

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def medians(self) -> dict[str, float]:
        """The median over the rounds, in seconds: {"wall": .., "processor": ..}."""
        return {name: statistics.median(getattr(self, name)) for name in ("wall", "processor")}


def interleaved(
    work: Mapping[str, Callable[[], object]], rounds: int, device: torch.device, *, warm: int = 1
) -> dict[str, Times]:
    """The times of each callable, by name; `warm` rounds before the `rounds` that count are not recorded."""
    times = {name: Times() for name in work}
    for number in range(warm + rounds):
        for name, call in work.items():
            _finish(device)
            wall, processor = time.perf_counter(), _processor()
            call()
            _finish(device)
            if number >= warm:
                times[name].processor.append(_processor() - processor)
                times[name].wall.append(time.perf_counter() - wall)
    return times


def _processor() -> float:
    """Seconds of processor so far: of this process, and of those that it started and waited for."""
    if sys.platform == "win32":
        return time.process_time()
    import resource

    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def apart(what: str, script: str, *words: str) -> Any:
    """What `script`, asked with these words, prints as JSON in its last line, from a process of its own under `RETURN_MEMORY`.

    Raises RuntimeError, beginning with `what`, with the last line of its errors where it fails.
    """
    done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True, env=os.environ | RETURN_MEMORY)
    if done.returncode:
        reason = (done.stderr.strip() or "no message").splitlines()[-1]
        raise RuntimeError(f"{what}: the process that measures failed ({reason})")
    return json.loads(done.stdout.splitlines()[-1])


def peak_memory(work: Callable[[], object], device: torch.device) -> float | None:
    """MB that `work` needs at its worst moment above what was there before; None where nothing can tell.

    On CUDA it is what torch's allocator hands out. On a CPU it is the resident set of the process, which may
    keep memory that was freed before: measure in a process of its own, started with `RETURN_MEMORY`.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        _finish(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    if device.type != "cpu" or sys.platform == "win32":
        return None
    before = _resident(peak=False)
    work()
    return max(_resident(peak=True) - before, 0.0)


def resident(device: torch.device) -> float:
    """MB in use now: of torch's allocator on CUDA, else the resident set of the process (where none is told, the most so far)."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device) / 2**20
    if _STATUS.exists():
        return _status("VmRSS:")
    return _peak_since_start()


def _status(field: str) -> float:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 2**10


def _resident(*, peak: bool) -> float:
    """MB of resident set: now, or, with `peak`, the most since the last call without it."""
    if _STATUS.exists():
        if not peak and _CLEAR.exists():
            try:
                _CLEAR.write_text("5")  # the peak starts again from now; see proc(5)
            except OSError:
                return _peak_since_start()  # then the peak so far is the level that must be passed
        return _status("VmHWM:" if peak else "VmRSS:")
    return _peak_since_start()


def _peak_since_start() -> float:
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _finish(device: torch.device) -> None:
    """Wait for what the device still has to do."""
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).synchronize()
