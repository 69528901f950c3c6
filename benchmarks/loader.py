"""How fast images are loaded for a training, beside torchvision's own loader, and which share of a step that is.

Both read the same JPEG files, in a folder a class, cut a random part of 8 % to all of each, scale it to one size, flip every
other one, and give batches of floats. Ours is what a training does (`maskerlib.training.loop.run_steps` on
`maskerlib.data.sets.imagenet`), with a step that does nothing; torchvision's is the reference of its own training scripts,
ImageFolder with RandomResizedCrop, RandomHorizontalFlip and ToTensor in a DataLoader. They take turns. The files are written
here: parts of the photographs of scikit-image, small ones of one photograph, large ones of many, so that they hold as much
detail as a camera's.
"""

import argparse
import functools
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from timing import arguments, interleaved
from torch.utils.data import DataLoader
from torchvision import datasets, transforms
from train_step import Stepper, settings

from maskerlib.classifiers.registry import classifier_named
from maskerlib.data.augment import Crops, draw_crops
from maskerlib.data.photos import Photos
from maskerlib.data.samples import Batch
from maskerlib.data.sets.imagenet import imagenet
from maskerlib.running.files import write_json
from maskerlib.running.provenance import provenance
from maskerlib.running.seeds import stream
from maskerlib.training.loop import Plan, run_steps

__all__ = ["SCALE", "load_ours", "load_theirs", "main", "write_photographs"]

SCALE = (0.08, 1.0)
"""Smallest and largest share of an image that is cut: the study's."""

_COLOURED = ("astronaut", "chelsea", "coffee", "motorcycle", "retina", "rocket")
_TILE = (500, 375)  # of one photograph, width and height
_CLASSES = 4


def write_photographs(split: Path, count: int, size: tuple[int, int], seed: int) -> None:
    """`count` JPEG files of `size` (width, height), in folders of `_CLASSES` classes below `split`."""
    photos = Photos(_COLOURED, 8)
    whole = [np.uint8(photos.whole(index).image.permute(1, 2, 0).numpy() * 255) for index in range(len(photos))]
    draws = np.random.default_rng(seed)
    for number in range(count):
        canvas = Image.new("RGB", size)
        for top in range(0, size[1], _TILE[1]):
            for left in range(0, size[0], _TILE[0]):
                photo = Image.fromarray(whole[draws.integers(len(whole))])
                canvas.paste(ImageOps.fit(photo, _TILE, centering=tuple(draws.random(2))), (left, top))
        folder = split / f"n{number % _CLASSES:08d}"
        folder.mkdir(parents=True, exist_ok=True)
        canvas.save(folder / f"{number:08d}.JPEG", quality=90)


def crops_of(step: int, *, batch: int, seed: int) -> Crops:
    """Those of a step: of a module, so that workers can make them."""
    return draw_crops(batch, stream(seed, "augment", step), scale=SCALE)


def load_ours(root: Path, options: argparse.Namespace) -> int:
    """Load every image once, as a training does; returns how many."""
    source = imagenet(root, options.size, split="train", index=None)
    plan = Plan(len(source) // options.batch, options.batch, options.seed, workers=options.workers)
    loaded = 0

    def step(number: int, batch: Batch) -> dict[str, float]:
        nonlocal loaded
        loaded += len(batch)
        return {"mean": float(batch.images.mean())}

    run_steps(
        plan,
        source,
        step,
        {},
        identity="bench",
        crops=functools.partial(crops_of, batch=options.batch, seed=options.seed),
        progress=False,
    )
    return loaded


def load_theirs(root: Path, options: argparse.Namespace) -> int:
    """Load every image once, as torchvision's training scripts do; returns how many."""
    cut = transforms.RandomResizedCrop(options.size, scale=SCALE)
    prepare = transforms.Compose([cut, transforms.RandomHorizontalFlip(), transforms.ToTensor()])
    dataset = datasets.ImageFolder(root / "train", prepare)
    torch.manual_seed(options.seed)
    loader = DataLoader(dataset, options.batch, shuffle=True, drop_last=True, num_workers=options.workers)
    loaded = 0
    for images, _ in loader:
        assert math.isfinite(images.mean())
        loaded += len(images)
    return loaded


def compare(size: tuple[int, int], count: int, options: argparse.Namespace) -> dict[str, Any]:
    """Images a second of both loaders, on `count` files of `size` (width, height)."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_photographs(root / "train", count, size, options.seed)
        held = sum(path.stat().st_size for path in root.rglob("*.JPEG"))
        loaders = {"ours": load_ours, "torchvision": load_theirs}
        work = {name: functools.partial(load, root, options) for name, load in loaders.items()}
        times = {name: time.medians() for name, time in interleaved(work, options.rounds, torch.device("cpu")).items()}
    loaded = count // options.batch * options.batch
    return {
        "images a second": {name: loaded / seconds["wall"] for name, seconds in times.items()},
        "processor seconds an image": {name: seconds["processor"] / loaded for name, seconds in times.items()},
        "ratio": times["torchvision"]["wall"] / times["ours"]["wall"],
        "processor ratio": times["torchvision"]["processor"] / times["ours"]["processor"],
        "KB a file": held / count / 1000,
    }


def share(rate: float, options: argparse.Namespace) -> dict[str, float]:
    """Seconds of a batch: of loading it at `rate` images a second, and of a FIX step on it; and the share of the former."""
    classifier = classifier_named(options.network, seed=options.seed).to(options.device)
    generator = torch.Generator().manual_seed(options.seed)
    images = torch.rand(options.batch, 3, options.size, options.size, generator=generator).to(options.device)
    labels = torch.arange(options.batch, device=options.device)
    stepper = Stepper(settings("FIX", options, options.precision), classifier, images, labels, ours=True)
    times = interleaved({"step": lambda: stepper.step("current")}, options.steps, torch.device(options.device))
    loading, step = options.batch / rate, times["step"].medians()["wall"]
    return {"loading": loading, "step": step, "share": loading / (loading + step)}


def main(argv: list[str] | None = None) -> None:
    """Measure, print, write."""
    parser = arguments(__doc__.splitlines()[0], "runs/bench/loader.json")
    parser.set_defaults(threads=1)
    parser.add_argument("--workers", type=int, default=0, help="processes that load; 0 loads in this one")
    parser.add_argument("--network", default="efficientnet-lite0", help="that takes the step, or such as torchvision:resnet50")
    parser.add_argument("--size", type=int, default=224, help="pixels a side that are loaded")
    parser.add_argument("--batch", type=int, default=16, help="images a batch")
    parser.add_argument("--images", type=int, default=480, help="small files; batches are full ones")
    parser.add_argument("--large", type=int, default=32, help="large files")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that are timed, after one that is not")
    parser.add_argument("--steps", type=int, default=3, help="steps that are timed, after one that is not")
    parser.add_argument("--precision", default="auto", help="of the step: auto, bf16 or fp32")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    if min(options.images, options.large) < options.batch:
        parser.error(f"--images {options.images} and --large {options.large} must be at least --batch {options.batch}")
    torch.set_num_threads(options.threads)

    sizes = {"500x375": ((500, 375), options.images), "4000x3000": ((4000, 3000), options.large)}
    found = {name: compare(size, count, options) for name, (size, count) in sizes.items()}
    spent = share(found["500x375"]["images a second"]["ours"], options)
    result = {
        **found,
        "a step": spent,
        "settings": {name: value for name, value in vars(options).items() if name != "out"},
        "provenance": provenance(seeds=[options.seed]),
    }
    write_json(options.out, result)
    where = f"{options.workers} workers" if options.workers else "one process"
    print(f"images loaded at {options.size}, batch {options.batch}, {where}, threads {options.threads}")
    for name, numbers in found.items():
        speeds = numbers["images a second"]
        print(
            f"  {name}: {speeds['ours']:.0f} a second, {numbers['ratio']:.2f} times torchvision's {speeds['torchvision']:.0f} "
            f"({numbers['processor ratio']:.2f} in processor time)"
        )
    print(
        f"  a FIX step of {options.network} on {options.device}: {spent['step']:.2f} s beside {spent['loading']:.2f} s of "
        f"loading 500x375, {spent['share']:.0%} of both one after the other"
    )
    print(f"  written to {options.out}")


if __name__ == "__main__":
    main()
