"""What tests/test_distributed.py has several processes do: `python -m torch.distributed.run distributed_run.py JOB FOLDER`."""

import contextlib
import dataclasses
import json
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from tiny import Squares, TinyNet, tiny_classifier
from torch import nn

from maskerlib.classifiers.classifier import Classifier
from maskerlib.data.samples import Sample
from maskerlib.masker import training
from maskerlib.masker.config import MaskerConfig
from maskerlib.masker.real_time import RealTimeConfig
from maskerlib.masker.real_time_training import train_real_time
from maskerlib.masker.trained import Trained
from maskerlib.masking.inpainting import InpainterConfig, train_inpainter
from maskerlib.masking.objectives import Objective
from maskerlib.methods.entry import Unsupported
from maskerlib.methods.gradient import gradient
from maskerlib.metrics.evaluation import evaluate
from maskerlib.running.distributed import gathered, rank, share, together, world
from maskerlib.running.files import save_checkpoint
from maskerlib.training import loop
from maskerlib.training.classifier import ClassifierConfig, train_classifier
from maskerlib.training.loop import Interrupted
from maskerlib.training.whole_batch import whole_batch

FIX = MaskerConfig(steps=50, batch_size=7, width=8, checkpoint_every=10, precision="fp32")  # 7: the shares of 2 and 4 differ
CA = dataclasses.replace(FIX, mode="CA", pool_every=5, pool_size=4, classifier_lr=0.01)
RUNS = {
    "FIX": FIX,
    "CA": CA,
    "CA, two steps a batch, hard coins": dataclasses.replace(
        CA, steps=12, classifier_steps=2, mask="gumbel_hard", temperature=1.0
    ),
    "CA, in parts": dataclasses.replace(CA, steps=12, micro_batch=1),
    "FIX, noise, asked for a size": dataclasses.replace(
        FIX, steps=12, infill="noise", condition="size", objective=Objective(budget=10, size_in=0, size_out=0)
    ),
}


def train(name: str, folder: Path | None = None, **changes) -> Trained:
    config = dataclasses.replace(RUNS[name], **changes)
    return training.train_masker(tiny_classifier(), Squares(20), config, folder=folder, progress=False)


class Thinned(TinyNet):
    """A `TinyNet` with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Dropout(0.3), self.head)


@contextlib.contextmanager
def in_double() -> Iterator[None]:
    """New networks and images are float64 in it: in float32 rounding grows, by Adam, over these steps."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def train_other(name: str, folder: Path | None = None) -> dict:
    """Every weight that another training than `train_masker` leaves; the shares of its processes differ."""
    common = {"folder": folder, "progress": False}
    if name == "classifier":
        classifier = tiny_classifier()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            classifier.network = Thinned()
        config = ClassifierConfig(passes=17.5, batch_size=7, crop_scale=(0.5, 1.0), checkpoint_every=10, precision="fp32")
        return dict(train_classifier(classifier, Squares(20), config, **common).state_dict())
    with in_double():
        classifier, source = tiny_classifier().double(), Squares(20)
        if name == "inpainter":
            config = InpainterConfig(steps=50, batch_size=7, width=2, checkpoint_every=10)
            return dict(train_inpainter(source, classifier.mean, config, **common).state_dict())
        steps = {"selector_steps": 10, "steps": 40, "checkpoint_every": 10}
        config = RealTimeConfig(batch_size=7, width=8, fakes=0.5, precision="fp32", **steps)
        trained = train_real_time(classifier, source, config, **common)
        return {"masker": dict(trained.masker.state_dict()), "history": trained.history}


OTHERS = ("real-time saliency", "inpainter", "classifier")


def outcome(trained: Trained) -> dict:
    """Every weight and the history."""
    return {
        "masker": dict(trained.masker.state_dict()),
        "classifier": dict(trained.classifier.state_dict()),
        "history": trained.history,
    }


def normed(values: torch.Tensor, weights: torch.Tensor, mine: slice) -> dict:
    """What a network of two batch norms makes of `mine`, and the gradients of a loss that asks for a sum over all."""
    generator = torch.Generator().manual_seed(3)
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Sigmoid(), nn.BatchNorm2d(3, momentum=None)).double()
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(torch.rand(weight.shape, generator=generator))
    leaf = values[mine].clone().requires_grad_()
    with whole_batch(network):
        for _ in range(2):  # the running statistics of two batches
            result = network(leaf)
    assert {type(part) for part in network} == {nn.BatchNorm2d, nn.Sigmoid}
    (result * weights[mine]).sum().backward()
    return {
        "result": result.detach(),
        "gradient": leaf.grad,
        "state": dict(network.state_dict()),
        "weights": [weight.grad for weight in network.parameters()],
    }


def whole_norm() -> dict:
    """`normed`, put together again: rows in their order, gradients of weights added up."""
    generator = torch.Generator().manual_seed(4)
    values, weights = (torch.randn(7, 3, 2, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    parts = gathered(normed(3 + 2 * values, weights, share()))
    whole = {name: torch.empty_like(values) for name in ("result", "gradient")}
    for number, part in enumerate(parts):
        for name, tensor in whole.items():
            tensor[number :: world()] = part[name]
    whole["weights"] = [sum(gradients) for gradients in zip(*(part["weights"] for part in parts), strict=True)]
    assert all(torch.equal(parts[0]["state"][name], part["state"][name]) for part in parts for name in part["state"])
    return whole | {"state": parts[0]["state"]}


class Some(Squares):
    """Squares of which some lack a label or a box."""

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        mask = sample.image[0] > 0.55
        return dataclasses.replace(sample, mask=mask, boxes=sample.boxes[: (index + 1) % 5])

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.labels[3::4] = -1


def unsuited(images: torch.Tensor, targets: torch.Tensor, classifier: Classifier) -> torch.Tensor:
    raise Unsupported("no rule for it")


def table(count: int) -> list[str]:
    """The table of `evaluate` and its rows with every digit, of a source whose batches of 4 do not divide among processes."""
    methods = {
        "channel": lambda images, targets, classifier: images[:, :1].sqrt(),
        "gradient": gradient(),
        "none": unsuited,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        options = dict(batch_size=4, truth=True, metrics=("pointing", "deletion"), per_image=True)
        found, rows = evaluate(methods, Some(count), tiny_classifier(), **options)
    return [found.to_json(double_precision=15), json.dumps(found.attrs), rows.to_csv(float_format="%.17g")]


def everything() -> dict:
    """All that must not depend on the number of processes, by name."""
    found = {name: outcome(train(name)) for name in RUNS} | {name: train_other(name) for name in OTHERS}
    return found | {"batch norm": whole_norm(), "tables": {f"{count} images": table(count) for count in (3, 13, 24)}}


def main(job: str, folder: Path) -> None:
    with together("cpu"):
        if job == "everything":
            found = everything()
            assert all(same(found, other) for other in gathered(found)), "the processes came out otherwise"
            if rank() == 0:
                save_checkpoint(folder / "found.pt", found)
        elif job == "train":
            train("CA", folder)
        elif job in ("die", "raise"):
            fail_at(17, kill=job == "die")
            train("CA", folder)
        elif job == "stop others":
            stop_at(7)
            for name in OTHERS:
                try:
                    train_other(name, folder / name)
                except Interrupted:
                    continue
                raise AssertionError(f"{name} was to stop")
        elif job == "train others":
            for name in OTHERS:
                train_other(name, folder / name)
        elif job == "too many":
            train("FIX", batch_size=world() - 1)


def same(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def stop_at(step: int) -> None:
    """Let the last process be interrupted at a step of every run, as by Ctrl-C."""
    inner = loop.anyone
    calls = {"of this run": 0}

    def asking(flag: bool) -> bool:
        calls["of this run"] += 1
        now = calls["of this run"] == step
        if now:
            calls["of this run"] = 0
        return inner(flag or (now and rank() == world() - 1))

    loop.anyone = asking


def fail_at(step: int, *, kill: bool) -> None:
    """Let the last process fail at a step, by itself or by SIGKILL."""
    inner, calls = training.compute_gradients, []

    def failing(*arguments, **options):
        calls.append(None)
        if len(calls) == step and rank() == world() - 1:
            if kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise ValueError("this process has had enough")
        return inner(*arguments, **options)

    training.compute_gradients = failing


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
