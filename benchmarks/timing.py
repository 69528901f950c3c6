"""How the benchmarks measure: several callables in turn, and the memory that one of them needs at its worst moment.

Callables that are to be compared run one after the other in every round, so that whatever else slows the machine down
slows all of them; the median over the rounds leaves the odd interruption out.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

__all__ = ["arguments", "interleaved", "medians", "peak_memory"]

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def arguments(description: str, out: str) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark has: --device, --threads and --out."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where it runs")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--out", type=Path, default=Path(out), help="the JSON file to write")
    return parser


def interleaved(
    work: Mapping[str, Callable[[], object]], rounds: int, device: torch.device, *, warm: int = 1
) -> dict[str, list[float]]:
    """Seconds of each callable, by name, one number a round; `warm` rounds before them are not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for number in range(warm + rounds):
        for name, call in work.items():
            _finish(device)
            start = time.perf_counter()
            call()
            _finish(device)
            if number >= warm:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def medians(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    """The median over the rounds, by name."""
    return {name: statistics.median(values) for name, values in seconds.items()}


def peak_memory(work: Callable[[], object], device: torch.device) -> float | None:
    """MB that `work` needs at its worst moment above what was there before; None where the system cannot tell.

    On CUDA it is what torch's allocator hands out, on a CPU the resident set of the process, which keeps what was freed
    before: call it once in a process, before anything else has run there.
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


def _resident(*, peak: bool) -> float:
    """MB of resident set: now, or, with `peak`, the most since the last call without it (where that can be reset)."""
    if _STATUS.exists():
        if not peak and _CLEAR.exists():
            try:
                _CLEAR.write_text("5")  # the peak starts again from now; see proc(5)
            except OSError:
                return _peak_since_start()  # then the peak so far is the level that must be passed
        field = "VmHWM:" if peak else "VmRSS:"
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field))
        return int(line.split()[1]) / 2**10
    return _peak_since_start()


def _peak_since_start() -> float:
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _finish(device: torch.device) -> None:
    """Wait for what the device still has to do."""
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).synchronize()
