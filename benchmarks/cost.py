"""What a training costs before it is run: the operations of one step, counted, and the hours that they take at a given speed.

Counted are the multiplications and additions of convolutions and matrix products, forward and backward, as PyTorch
issues them. They depend on the network and the size of the images, and on no device: so this needs no GPU.
Nothing is timed. The speed is the reader's: what the device sustains in training, which is less than its data sheet says.
"""

import argparse
import statistics
from collections.abc import Callable

import torch
from timing import arguments
from torch.utils.flop_counter import FlopCounterMode
from train_step import JUDGES, Stepper, problem, settings

from maskerlib.running.files import write_json
from maskerlib.running.provenance import provenance

STUDY = round(60 * 0.2 * 1_281_167)
"""Images that a masker of the study sees: 60 epochs, each a fifth of ImageNet's training set."""


def counted(work: Callable[[], object]) -> int:
    """Floating-point operations of `work()`, a multiplication and an addition counted as two."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def operations(options: argparse.Namespace) -> dict[str, float]:
    """Operations an image: of the classifier's forward pass, and of a step in FIX and CA (the mean over who judges it)."""
    classifier, images, labels = problem(options, options.size)
    with torch.no_grad():
        found = {"forward pass": counted(lambda: classifier(images)) / options.batch}
    for mode, judges in JUDGES.items():
        stepper = Stepper(settings(mode, options, "fp32"), classifier, images, labels, ours=True)
        steps = [counted(lambda judge=judge, stepper=stepper: stepper.compute(judge)) for judge in judges]
        found[mode] = statistics.mean(steps) / options.batch
    return found


def hours(operations: float, images: int, teraflops: float) -> float:
    """Of a training that sees `images` images, at `operations` each, on a device that sustains `teraflops` 10^12 a second."""
    return operations * images / (teraflops * 1e12) / 3600


def main(argv: list[str] | None = None) -> None:
    """Count, print, write."""
    parser = arguments(__doc__.splitlines()[0], "runs/bench/cost.json")
    parser.add_argument("--network", default="resnet50", help="a torchvision ResNet")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--size", type=int, default=224, help="pixels a side")
    parser.add_argument("--batch", type=int, default=2, help="images that are counted")
    parser.add_argument("--images", type=int, default=STUDY, help="images that a training sees, each as often as it does")
    parser.add_argument("--teraflops", type=float, default=100.0, help="10^12 operations a second that the device sustains")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    if options.teraflops <= 0 or options.images < 1:
        parser.error(f"--teraflops {options.teraflops} and --images {options.images} must be above 0")
    torch.set_num_threads(options.threads)
    found = operations(options)
    result = {
        "operations an image": found,
        "hours": {mode: hours(found[mode], options.images, options.teraflops) for mode in JUDGES},
        "settings": {key: value for key, value in vars(options).items() if key != "out"},
        "provenance": provenance(seeds=[options.seed]),
    }
    write_json(options.out, result)
    forward = found["forward pass"]
    print(f"{options.network} at {options.size}: {forward / 1e9:.1f} GFLOP a forward pass")
    for mode in JUDGES:
        print(
            f"  {mode:3s}: a step is {found[mode] / forward:.1f} forward passes an image; {options.images / 1e6:.1f} million "
            f"images take {result['hours'][mode]:.1f} hours at {options.teraflops:g} TFLOP/s"
        )
    print(f"  written to {options.out}")


if __name__ == "__main__":
    main()
