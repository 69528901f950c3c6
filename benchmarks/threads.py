"""How much a second thread helps a training, alone and beside a busy process, with threads that spin and that sleep.

A thread that waits for the others spins unless OMP_WAIT_POLICY is PASSIVE (see maskerlib/running/threads.py). The variable is
read when
torch is loaded, so each measurement is a process of its own: it trains the scene classifier on random images, without warm-up
steps, and reports its seconds. All of them take turns, round by round, first alone and then beside a process that keeps one core
busy, which is started and ended here.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from timing import arguments
from torch.nn.functional import cross_entropy

from maskerlib.classifiers.scene_resnet import scene_resnet
from maskerlib.running.files import write_json
from maskerlib.running.provenance import provenance

_CLASSES, _SIZE, _BATCH = 16, 96, 32  # of the default scenes
_WARM = 2  # steps that do not count


def work(threads: int, images: int, seed: int) -> dict[str, float]:
    """Seconds by the clock and of processor of one training pass over `images` random images, in this process."""
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(seed)
    batch = torch.rand(_BATCH, 3, _SIZE, _SIZE, generator=generator)
    labels = torch.arange(_BATCH) % _CLASSES
    network = scene_resnet([str(label) for label in range(_CLASSES)], seed=seed)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    for number in range(_WARM + max(1, images // _BATCH)):
        if number == _WARM:
            wall, processor = time.perf_counter(), time.process_time()
        loss = cross_entropy(network(batch), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}


def apart(threads: int, policy: str | None, options: argparse.Namespace) -> dict[str, float]:
    """`work` in a process of its own, whose threads wait by `policy`; None leaves it to libgomp."""
    environment = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    environment |= {} if policy is None else {"OMP_WAIT_POLICY": policy}
    command = [sys.executable, __file__, "--work", "--threads", str(threads)]
    command += ["--images", str(options.images), "--seed", str(options.seed)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"status {done.returncode}"
        raise RuntimeError(f"{threads} threads, {policy}: the process that measures failed ({reason})")
    return json.loads(done.stdout)


@contextlib.contextmanager
def busy() -> Iterator[None]:
    """A process that keeps one core busy, as long as the context lasts and this process lives."""
    process = subprocess.Popen([sys.executable, "-c", f"import os\nwhile os.getppid() == {os.getpid()}: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def measure(options: argparse.Namespace) -> dict[str, dict[str, dict[str, float]]]:
    """{"idle", "beside a busy process": {"one thread", "spinning", "sleeping": {"wall", "processor": median seconds}}}."""
    ways = {"one thread": (1, None), "spinning": (options.threads, None), "sleeping": (options.threads, "PASSIVE")}
    found = {}
    for place, beside in (("idle", contextlib.nullcontext), ("beside a busy process", busy)):
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
        with beside():
            for _ in range(options.rounds):
                for name, (threads, policy) in ways.items():
                    rounds[name].append(apart(threads, policy, options))
        found[place] = {
            name: {clock: statistics.median(one[clock] for one in times) for clock in ("wall", "processor")}
            for name, times in rounds.items()
        }
    return found


def ratios(seconds: dict[str, dict[str, float]]) -> dict[str, float]:
    """By the clock: how many times as fast as one thread; above 1 the other threads help."""
    return {name: seconds["one thread"]["wall"] / seconds[name]["wall"] for name in ("spinning", "sleeping")}


def main(argv: list[str] | None = None) -> None:
    """Measure, print, write."""
    parser = arguments(__doc__.splitlines()[0], "runs/bench/threads.json")
    parser.add_argument("--images", type=int, default=320, help="images of a pass")
    parser.add_argument("--rounds", type=int, default=5, help="processes of each kind, alone and beside a busy one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", action="store_true", help="measure once, in this process, and print it as JSON")
    options = parser.parse_args(argv)
    if options.work:
        print(json.dumps(work(options.threads, options.images, options.seed)))
        return
    if options.threads < 2:
        print("threads: one thread has nobody to wait for; not measured")
        return
    seconds = measure(options)
    result = {
        place: {"seconds": found, "ratio": ratios(found)} for place, found in seconds.items()
    } | {
        "settings": {name: value for name, value in vars(options).items() if name not in ("out", "work", "device")},
        "provenance": provenance(seeds=[options.seed]),
    }
    write_json(Path(options.out), result)
    print(f"training on {options.images} images, {options.threads} threads against one, on the processor")
    for place, found in seconds.items():
        for name, ratio in ratios(found).items():
            spent = found[name]["processor"] / found["one thread"]["processor"]
            print(f"  {place}, {name}: {ratio:.2f} times as fast, with {spent:.2f} times the processor time")
    print(f"  written to {options.out}")


if __name__ == "__main__":
    main()
