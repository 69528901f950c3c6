"""One training step of a masker, FIX and CA: maskerlib's against a plain one, on the same weights and images.

The plain step is what one writes first: float32, contiguous memory, every weight of the classifier and of the
judge gets a gradient whether it is used or not, both masked views live in one graph, and in CA the losses
of the classifier on the masked views take passes of their own. Both steps end in the same gradients; that is
checked before anything is timed.
"""

import argparse
import copy
import dataclasses
import json
import statistics
from collections.abc import Callable
from typing import Any

import torch
from timing import apart, arguments, interleaved, peak_memory
from torch import Tensor
from torch.nn import functional as F

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.torchvision_networks import from_torchvision
from maskerlib.masker.config import MaskerConfig
from maskerlib.masker.network import Masker, masker_for
from maskerlib.masker.step import compute_gradients
from maskerlib.masking.infills import INFILLS
from maskerlib.masking.masks import mask_from_logits
from maskerlib.masking.objectives import evaluate_objective
from maskerlib.running.files import write_json
from maskerlib.running.precision import PRECISIONS, resolve_precision
from maskerlib.running.provenance import provenance

TARGETS = {"FIX": 3.0, "CA": 2.5}
"""Reference time / our time that the project wants where bfloat16 is fast."""

TOLERANCE = 1e-4
"""Largest difference of two fp32 gradients in one memory layout, as a share of the norm; 1e-7 is usual."""

CHECK_SIZE = 96
"""Pixels a side at which gradients are compared: the code is the same at every size."""

JUDGES = {"FIX": ("current",), "CA": ("current", "historic")}
"""Who judges the masked views. In CA an earlier classifier judges half of the steps, so each is timed."""


def plain_gradients(
    config: MaskerConfig,
    classifier: Classifier,
    masker: Masker,
    images: Tensor,
    labels: Tensor,
    *,
    judge: Classifier | None = None,
) -> None:
    """The gradients of `maskerlib.masker.step.compute_gradients`, computed the plain way."""
    learns = config.mode == "CA"
    weights = list(classifier.parameters())
    with torch.set_grad_enabled(learns):
        logits, activations = classifier.activations(images)
    if learns:
        F.cross_entropy(logits, labels).backward()
        kept = [weight.grad for weight in weights]
        classifier.zero_grad(set_to_none=True)
    clean_correct = (logits.detach().argmax(dim=1) == labels).float()
    mask = mask_from_logits(masker(activations), images.shape[-2:])
    hidden = INFILLS[config.infill]()(images, classifier.mean)
    terms = evaluate_objective(
        config.objective, judge or classifier, images, mask, labels, clean_correct, hidden
    )
    torch.stack(list(terms.values())).sum(dim=0).mean().backward()
    if learns:
        for weight, gradient in zip(weights, kept, strict=True):
            weight.grad = gradient  # what the masker's loss left there is not the classifier's to learn from
        if judge is None:
            for side in config.objective.sides():
                F.cross_entropy(classifier(side.view(images, mask.detach(), hidden)), labels).backward()


class Stepper:
    """A masker, a classifier, a judge and their optimisers, set up for our step or for the plain one.

    The classifier and the judge are in eval mode, as in `maskerlib.masker.training.train_masker`, in CA as well.
    """

    def __init__(
        self,
        config: MaskerConfig,
        start: Classifier,
        images: Tensor,
        labels: Tensor,
        *,
        ours: bool,
        layout: torch.memory_format | None = None,
    ) -> None:
        device, learns = images.device, config.mode == "CA"
        layout = layout or (torch.channels_last if ours else torch.contiguous_format)
        self.config, self.labels, self.ours = config, labels, ours
        self.gradients = compute_gradients if ours else plain_gradients
        self.images = images.to(memory_format=layout)
        self.classifier = copy.deepcopy(start).to(device).to(memory_format=layout)
        self.judge = copy.deepcopy(self.classifier).requires_grad_(not ours)
        self.classifier.requires_grad_(learns or not ours)
        self.masker = masker_for(start, config.layers, width=config.width, seed=config.seed)
        self.masker = self.masker.to(device).to(memory_format=layout).train()
        decay = config.weight_decay
        self.optimisers: list[torch.optim.Optimizer] = [
            torch.optim.Adam(self.masker.parameters(), lr=config.masker_lr, weight_decay=decay)
        ]
        if learns:
            self.optimisers.append(
                torch.optim.SGD(
                    self.classifier.parameters(),
                    lr=config.classifier_lr,
                    momentum=config.momentum,
                    weight_decay=decay,
                )
            )

    def compute(self, judge: str) -> None:
        """The gradients of one step, fresh."""
        for module in (self.classifier, self.masker, self.judge):
            module.zero_grad(set_to_none=True)
        chosen = self.judge if judge == "historic" else None
        self.gradients(self.config, self.classifier, self.masker, self.images, self.labels, judge=chosen)

    def step(self, judge: str) -> None:
        """The gradients, then the weights."""
        self.compute(judge)
        torch.nn.utils.clip_grad_norm_(self.masker.parameters(), self.config.clip_norm)
        for optimiser in self.optimisers:
            optimiser.step()

    def gradient(self) -> dict[str, Tensor]:
        """All gradients of the masker, and of the classifier where it learns, in one vector each."""
        parts: dict[str, torch.nn.Module] = {"masker": self.masker}
        if self.config.mode == "CA":
            parts["classifier"] = self.classifier
        return {
            name: torch.cat([weight.grad.double().flatten() for weight in part.parameters()])
            for name, part in parts.items()
        }


def problem(options: argparse.Namespace, size: int) -> tuple[Classifier, Tensor, Tensor]:
    """A ResNet (random weights, settled batch norms), random images, labels of which one in four is wrong."""
    device = torch.device(options.device)
    names = tuple(f"class {number}" for number in range(options.classes))
    classifier = from_torchvision(options.network, class_names=names, seed=options.seed).to(device)
    generator = torch.Generator().manual_seed(options.seed)
    images = torch.rand(options.batch, 3, size, size, generator=generator).to(device)
    for module in classifier.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # running statistics = those of this batch: activations of an ordinary size
    with torch.no_grad():
        classifier.train()(images)
        labels = classifier.eval()(images).argmax(dim=1)
    labels[::4] = (labels[::4] + 1) % options.classes
    return classifier, images, labels


def settings(mode: str, options: argparse.Namespace, precision: str) -> MaskerConfig:
    """The study's final model."""
    return MaskerConfig.final(mode, batch_size=options.batch, seed=options.seed, precision=precision)


def gradient_difference(mode: str, options: argparse.Namespace) -> dict[str, float]:
    """|ours - plain| / |plain| of the gradients, by network, the worst over the judges. Raises if too large.

    Both are computed in fp32 and contiguous memory, where they agree to rounding. In two layouts the sums are
    taken in another order, and a ReLU that is nearly 0 may fall on the other side: with random weights that
    moves the gradient by about 1 %, as far as either is from float64, and could hide a mistake of that size.
    """
    classifier, images, labels = problem(options, min(options.size, CHECK_SIZE))
    worst: dict[str, float] = {}
    for judge in JUDGES[mode]:
        found = []
        for ours in (True, False):
            config = settings(mode, options, "fp32")
            stepper = Stepper(config, classifier, images, labels, ours=ours, layout=torch.contiguous_format)
            stepper.compute(judge)
            found.append(stepper.gradient())
        for name, plain in found[1].items():
            difference = float((found[0][name] - plain).norm() / plain.norm())
            worst[name] = max(worst.get(name, 0.0), difference)
    for name, difference in worst.items():
        if not difference <= TOLERANCE:
            raise RuntimeError(
                f"{mode}: the gradients of the {name} differ by {difference:.1e} of their norm, expected at "
                f"most {TOLERANCE}; the steps do not compute the same thing, so do not compare their times"
            )
    return worst


def step_memory(mode: str, ours: bool, options: argparse.Namespace) -> float | None:
    """MB that a first step needs, judged by the current classifier, above its networks; for a new process."""
    stepper = Stepper(settings(mode, options, options.precision), *problem(options, options.size), ours=ours)
    return peak_memory(lambda: stepper.step("current"), torch.device(options.device))


def step_memory_apart(mode: str, ours: bool, options: argparse.Namespace) -> float | None:
    """`step_memory` in a process of its own."""
    words = ["--memory-of", mode, "ours" if ours else "reference"]
    for name in ("device", "threads", "network", "classes", "size", "batch", "seed", "precision"):
        words += [f"--{name}", str(getattr(options, name))]
    found: float | None = apart(mode, __file__, *words)
    return found


def measure(mode: str, options: argparse.Namespace) -> dict[str, Any]:
    """Everything about one mode: the check, the times in turn, the memory."""
    difference = gradient_difference(mode, options)
    start = problem(options, options.size)
    steppers = {
        side: Stepper(settings(mode, options, options.precision), *start, ours=side == "ours")
        for side in ("ours", "reference")
    }
    work: dict[str, Callable[[], object]] = {
        f"{side} {judge}": (lambda stepper=stepper, judge=judge: stepper.step(judge))
        for judge in JUDGES[mode]
        for side, stepper in steppers.items()
    }
    times = interleaved(work, options.rounds, torch.device(options.device))
    seconds = {
        clock: {
            side: statistics.mean(times[f"{side} {judge}"].medians()[clock] for judge in JUDGES[mode])
            for side in steppers
        }
        for clock in ("wall", "processor")
    }
    return {
        "ratio": seconds["wall"]["reference"] / seconds["wall"]["ours"],
        "processor ratio": seconds["processor"]["reference"] / seconds["processor"]["ours"],
        "seconds": seconds,
        "rounds": {name: dataclasses.asdict(time) for name, time in times.items()},
        "peak memory MB": {side: step_memory_apart(mode, side == "ours", options) for side in steppers},
        "gradient difference": difference,
    }


def main(argv: list[str] | None = None) -> None:
    """Measure, print, write."""
    parser = arguments(__doc__.splitlines()[0], "runs/bench/train_step.json")
    parser.add_argument("--network", default="resnet50", help="a torchvision ResNet")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--size", type=int, default=224, help="pixels a side")
    parser.add_argument("--batch", type=int, default=8, help="images a step")
    parser.add_argument("--rounds", type=int, default=3, help="rounds that are timed, after one that is not")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--precision", default="auto", choices=PRECISIONS, help="of our step; the plain one is fp32"
    )
    parser.add_argument("--modes", nargs="+", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--memory-of", nargs=2, metavar=("MODE", "SIDE"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    if options.memory_of:
        mode, side = options.memory_of
        print(json.dumps(step_memory(mode, side == "ours", options)))
        return

    precision = resolve_precision(options.precision, options.device)
    units = resolve_precision("auto", options.device) == "bf16"
    result: dict[str, Any] = {mode: measure(mode, options) for mode in options.modes}
    result |= {
        "precision": precision,
        "bfloat16 units": units,
        "targets": TARGETS,
        "targets apply": precision == "bf16" and units,
        "settings": {key: value for key, value in vars(options).items() if key not in ("out", "memory_of")},
        "provenance": provenance(seeds=[options.seed]),
    }
    write_json(options.out, result)
    report(result, options)


def report(result: dict[str, Any], options: argparse.Namespace) -> None:
    """The numbers in words."""
    print(f"training step, {options.network} at {options.size}, batch {options.batch}, on {options.device}")
    for mode in options.modes:
        found = result[mode]
        wall = found["seconds"]["wall"]
        memory = {
            side: "?" if size is None else f"{size:.0f} MB" for side, size in found["peak memory MB"].items()
        }
        print(
            f"  {mode}: {found['ratio']:.2f} times as fast as the plain step, {wall['ours']:.2f} s against "
            f"{wall['reference']:.2f} s ({found['processor ratio']:.2f} in processor time); peak memory "
            f"{memory['ours']} against {memory['reference']}"
        )
    targets = ", ".join(f"{mode} {TARGETS[mode]}" for mode in options.modes)
    print(f"  our step ran in {result['precision']}, the plain one in fp32")
    if result["targets apply"]:
        print(f"  targets: {targets}")
    else:
        why = "they are for bf16" if result["bfloat16 units"] else "this device has no bfloat16 units"
        print(f"  the targets ({targets}) do not apply: {why}")
    print(f"  written to {options.out}")


if __name__ == "__main__":
    main()
