"""How fast maps are drawn from many masks, beside a plain loop over the masks: RISE, and extremal perturbations.

A plain loop is what one would first write from the equation: one mask at a time, made, shown and added up; or one area at a
time, each cell of the max-convolution spread over its pixels, and autograd left to keep what it needs. It is run on
the same classifier, image and number of masks, in turns with maskerlib's. Before anything is timed both are asked for their
map with the same random numbers; if they differ by more than rounding, the script stops. Weights are random, which changes
no time.
"""

import argparse
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from timing import arguments, interleaved
from torch import Tensor
from torch.nn import functional as F

from maskerlib.classifiers.classifier import Classifier, frozen
from maskerlib.classifiers.scene_resnet import scene_resnet
from maskerlib.classifiers.torchvision_networks import from_torchvision
from maskerlib.data.scenes.glyphs import CLASSES
from maskerlib.masking.infills import blur, fill
from maskerlib.methods.extremal import AREAS, extremal_masks
from maskerlib.methods.rise import Rise
from maskerlib.running.files import write_json
from maskerlib.running.provenance import provenance
from maskerlib.running.seeds import stream

__all__ = ["COMPARED", "TOLERANCE", "Compared", "main"]

TOLERANCE = 1e-4
"""How far apart two maps may be, norm of the difference / norm: the order in which numbers are added."""


@dataclass(frozen=True)
class Compared:
    """Two ways to the same map: (classifier, image (1, channels, H, W), target, number of masks) -> a map of any shape.

    checked: masks, at most, after which the two maps are held against each other.
    """

    ours: Callable[[Classifier, Tensor, int, int], Tensor]
    plain: Callable[[Classifier, Tensor, int, int], Tensor]
    checked: int = 100


def rise(classifier: Classifier, image: Tensor, target: int, masks: int) -> Tensor:
    """As maskerlib has it: the masks of a pass are made, shown and added up in one operation each."""
    return Rise(masks, batch_size=32).maps(image, [target], classifier)[0]


@torch.no_grad()
def plain_rise(classifier: Classifier, image: Tensor, target: int, masks: int, cells: int = 7, keep: float = 0.5) -> Tensor:
    """As one would first write it."""
    height, width = image.shape[-2:]
    high, wide = math.ceil(height / cells), math.ceil(width / cells)
    saliency = torch.zeros(1, height, width, device=image.device)
    with frozen(classifier):
        for number in range(masks):
            draws = torch.rand(cells * cells + 2, generator=stream(0, "rise", number))
            grid = (draws[2:] < keep).float().view(1, 1, cells, cells).to(image.device)
            large = F.interpolate(grid, size=((cells + 1) * high, (cells + 1) * wide), mode="bilinear")
            top, left = int(draws[0] * high), int(draws[1] * wide)
            mask = large[0, :, top : top + height, left : left + width]
            view = mask * image + (1 - mask) * classifier.mean
            score = classifier(view).softmax(dim=1)[0, target]
            saliency += score * mask
    return saliency / (masks * keep)


def extremal(classifier: Classifier, image: Tensor, target: int, masks: int) -> Tensor:
    """As maskerlib has it: the masks of four areas in one pass, `masks` // 4 of each, one a step."""
    return extremal_masks(classifier, image, target, steps=masks // len(AREAS), flip=False).masks[0]


def plain_extremal(classifier: Classifier, image: Tensor, target: int, masks: int) -> Tensor:
    """As one would first write it; for a square image whose side is a multiple of the 32 cells."""
    side, cells, sigma, reach, steps = image.shape[-1], 32, 3.0, 4, masks // len(AREAS)
    pitch = side // cells
    at = torch.arange(side, device=image.device) + 0.5
    offsets = torch.arange(-reach, reach + 1, device=image.device)[:, None]
    away = at - ((at / pitch).floor() + offsets + 0.5) * pitch
    distance = (away[:, None, :, None] ** 2 + away[None, :, None, :] ** 2).sqrt() / (sigma * pitch)
    weights = torch.exp(-2 * (distance - 0.5).clamp(min=0) ** 2).flatten(0, 1)
    pyramid = torch.stack([*(fill(blur(20 * (1 - level / 7))(image, image), image)[0] for level in range(7)), image[0]])
    found = []
    with frozen(classifier):
        for area in AREAS:
            values = torch.ones(1, 1, cells, cells, device=image.device, requires_grad=True)
            sgd = torch.optim.SGD([values], lr=0.01, momentum=0.9, dampening=0.9)

            def convolved(values: Tensor) -> Tensor:
                near = F.unfold(F.pad(values, (reach,) * 4, mode="replicate"), 2 * reach + 1)
                products = weights * F.interpolate(near.view(1, -1, cells, cells), scale_factor=pitch)
                return (products * (20 * products).softmax(dim=1)).sum(dim=1)[0]

            for step in range(steps):
                mask = convolved(values)
                ones = round(area * side * side)
                edge = mask.detach().flatten().sort(descending=True).values[ones - 1]
                over, equal = mask > edge + 1e-5, (mask - edge).abs() <= 1e-5
                one = over + equal * ((ones - over.sum()) / equal.sum())
                miss = (one * (1 - mask) ** 2 + (1 - one) * mask**2).mean()
                level = (7 * mask.detach()).floor().clamp(max=6)
                lower, upper = (pyramid.gather(0, (level.long() + up).expand(1, 3, side, side))[0] for up in (0, 1))
                view = lower + (7 * mask - level) * (upper - lower)
                loss = 300 * 16.4 ** (step / steps) * miss - classifier(view[None])[0, target]
                sgd.zero_grad()
                loss.backward()
                sgd.step()
                values.data.clamp_(0, 1)
            found.append(convolved(values).detach())
    return torch.stack(found)


COMPARED: Mapping[str, Compared] = {
    "RISE": Compared(rise, plain_rise),
    # rounding grows tenfold with every doubling of the steps
    "extremal perturbations": Compared(extremal, plain_extremal, checked=16),
}
"""What is compared, by name."""


def compare(name: str, classifier: Classifier, image: Tensor, masks: int, rounds: int) -> dict[str, Any]:
    """Masks a second of both ways, and how far their maps are apart.

    Raises RuntimeError when that is more than `TOLERANCE`.
    """
    both = COMPARED[name]
    ours, plain = (way(classifier, image, 0, min(masks, both.checked)) for way in (both.ours, both.plain))
    apart = float((ours - plain).norm() / plain.norm())
    if not apart <= TOLERANCE:
        raise RuntimeError(f"{name}: the maps are {apart:.2g} apart, more than {TOLERANCE:g}; they cannot be compared")
    work = {
        "ours": lambda: both.ours(classifier, image, 0, masks),
        "plain loop": lambda: both.plain(classifier, image, 0, masks),
    }
    times = {way: time.medians() for way, time in interleaved(work, rounds, image.device).items()}
    return {
        "masks a second": {way: masks / seconds["wall"] for way, seconds in times.items()},
        "ratio": times["plain loop"]["wall"] / times["ours"]["wall"],
        "processor ratio": times["plain loop"]["processor"] / times["ours"]["processor"],
        "difference": apart,
    }


def main(argv: list[str] | None = None) -> None:
    """Measure, print, write."""
    parser = arguments(__doc__.splitlines()[0], "runs/bench/masks.json")
    parser.add_argument("--network", default="scene-resnet", help="scene-resnet, or a torchvision network")
    parser.add_argument("--size", type=int, default=96, help="pixels a side")
    parser.add_argument("--masks", type=int, default=500, help="masks of a map")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that are timed, after one that is not")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)

    classifier = _classifier(options).to(device)
    image = torch.rand(1, 3, options.size, options.size, generator=torch.Generator().manual_seed(options.seed))
    found = {name: compare(name, classifier, image.to(device), options.masks, options.rounds) for name in COMPARED}
    result = {
        **found,
        "settings": {name: value for name, value in vars(options).items() if name != "out"},
        "provenance": provenance(seeds=[options.seed]),
    }
    write_json(options.out, result)
    print(f"masks a second, {options.network} at {options.size}, {options.masks} masks, on {options.device}")
    for name, numbers in found.items():
        speeds = numbers["masks a second"]
        print(f"  {name}: {speeds['ours']:.0f}, {numbers['ratio']:.2f} times a plain loop's {speeds['plain loop']:.0f}")
    print(f"  written to {options.out}")


def _classifier(options: argparse.Namespace) -> Classifier:
    if options.network == "scene-resnet":
        return scene_resnet(tuple(CLASSES), seed=options.seed)
    return from_torchvision(options.network, seed=options.seed)


if __name__ == "__main__":
    main()
