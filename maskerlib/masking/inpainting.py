"""A small inpainting network, trained here: it guesses what a hole in an image hides.

It sees the image with the hole painted in the mean colour, and the hole itself, and is trained to give the image back, on
holes of random place and shape. With it as infill, a masked-out image looks as if the object had not been there, and a
classifier has no grey patch to wonder at (Phang et al., section 5; the study trains one of this kind).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maskerlib.data.augment import apply_crops, draw_crops
from maskerlib.data.loading import moved
from maskerlib.data.samples import Batch, Source
from maskerlib.running.checks import LARGEST_BATCH, SEED, WIDEST, above, check_fields, check_value, whole
from maskerlib.running.distributed import share
from maskerlib.running.files import hash_tensors
from maskerlib.running.seeds import stream
from maskerlib.training.loop import Plan, source_identity
from maskerlib.training.run import TrainingRun
from maskerlib.training.whole_batch import add_up_step

__all__ = ["Inpainter", "InpainterConfig", "random_holes", "train_inpainter"]


class Inpainter(nn.Module):
    """Five resolutions down and up again, with a shortcut at each; called as an infill (`maskerlib.masking.infills.Infill`).

    The bottom sees the whole of a small image: what stands in a hole has to come from far around it.

    Args:
        width: channels at full resolution; they double with each step down.
        seed: of the weights.

    Raises ValueError for a width that no layer has.
    """

    def __init__(self, *, width: int = 8, seed: int = 0) -> None:
        super().__init__()
        check_value("width", width, whole(1, WIDEST))
        self.width = width
        widths = [width, 2 * width, 4 * width, 8 * width, 8 * width]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.down = nn.ModuleList(
                _convolution(before, after, stride=1 + (level > 0))
                for level, (before, after) in enumerate(zip([4, *widths], widths, strict=False))
            )
            self.up = nn.ModuleList(
                _convolution(deep + shallow, shallow) for deep, shallow in zip(widths[:0:-1], widths[-2::-1], strict=True)
            )
            self.colours = nn.Conv2d(width, 3, 1)

    def paint(self, images: Tensor, hole: Tensor, mean: Tensor) -> Tensor:
        """What the network believes the images to be, everywhere: (B, 3, H, W) in [0, 1].

        images (B, 3, H, W) in [0, 1]; hole (B, 1, H, W) in [0, 1], 1 where hidden; mean (1, 3, 1, 1).
        """
        seen = images + hole * (mean - images)
        features, x = [], torch.cat([seen - mean, hole], dim=1)
        for down in self.down:
            x = down(x)
            features.append(x)
        for up, shortcut in zip(self.up, features[-2::-1], strict=True):
            x = up(torch.cat([F.interpolate(x, size=shortcut.shape[-2:], mode="nearest"), shortcut], dim=1))
        colours: Tensor = self.colours(x).add(mean)
        return colours if self.training else colours.clamp(0, 1)

    def forward(self, images: Tensor, mean: Tensor) -> Callable[[Tensor], Tensor]:
        """A function of the hole: see `paint`."""
        return lambda hole: self.paint(images, hole, mean)

    def fingerprint(self) -> str:
        """Hex SHA-256 of the weights."""
        return hash_tensors(self.state_dict(), "inpainter")


def _convolution(before: int, after: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())


def random_holes(count: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Holes (count, 1, H, W) of 0 and 1 that masks could leave: blobs of random place, number, size and roughness.

    Smooth noise, cut at a random level: the share of the image that is hidden lies between 5 % (one pixel at the
    least) and 60 %.

    >>> random_holes(2, (32, 48), stream(0, "holes")).unique()
    tensor([0., 1.])
    """
    cells = torch.randn(count, 1, 6, 6, generator=generator)
    smooth = F.interpolate(cells, size=size, mode="bicubic", align_corners=False).flatten(1)
    share = 0.05 + 0.55 * torch.rand(count, generator=generator)
    level = smooth.sort(dim=1, descending=True).values.gather(1, (share * smooth.shape[1]).long().clamp(min=1)[:, None])
    return (smooth > level).float().view(count, 1, *size)


@dataclass(frozen=True)
class InpainterConfig:
    """How an inpainter is trained: Adam, `lr` falling along a cosine; absolute error, outside the hole counted a tenth as much.

    Raises ValueError for any value that no run could use, naming it and what is possible.
    """

    steps: int = 600
    batch_size: int = 16
    width: int = 8
    lr: float = 3e-3
    seed: int = 0
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        check_fields(
            self,
            steps=whole(1),
            batch_size=whole(1, LARGEST_BATCH),
            width=whole(1, WIDEST),
            lr=above(0),
            seed=SEED,
            checkpoint_every=whole(1),
        )


def train_inpainter(
    source: Source,
    mean: Tensor,
    config: InpainterConfig | None = None,
    *,
    folder: str | Path | None = None,
    workers: int = 0,
    progress: bool = True,
) -> Inpainter:
    """An inpainter trained on the images of `source`, in eval mode and without gradients; labels are not looked at.

    With a `folder`, a finished run of the same configuration is loaded instead of repeated and a killed one goes on;
    `inpainter.pt`, `history.json` and `provenance.json` are left there.

    Args:
        mean: (1, 3, 1, 1), the mean colour that a hole is painted with, such as `classifier.mean`; its device is used.

    Raises ValueError for an empty source or a folder that holds another run.
    """
    config = config or InpainterConfig()
    run = TrainingRun("inpainter", folder, config, mean.flatten().tolist(), *source_identity(source))
    inpainter = Inpainter(width=config.width, seed=config.seed).to(mean.device).to(memory_format=torch.channels_last)
    if run.load(inpainter):
        return inpainter
    mine = share()
    adam = torch.optim.Adam(inpainter.train().parameters(), lr=config.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, config.steps)

    def step(number: int, batch: Batch) -> dict[str, float]:
        images = moved(batch.images, mean.device).to(memory_format=torch.channels_last)
        draws = stream(config.seed, "inpainter", number)
        images = apply_crops(images, draw_crops(config.batch_size, draws, scale=(0.5, 1.0)).part(mine))
        holes = random_holes(config.batch_size, (images.shape[2], images.shape[3]), draws).to(mean.device)
        hole = holes[mine]
        error = (inpainter.paint(images, hole, mean) - images).abs().mean(dim=1, keepdim=True)
        inside, outside = (error * hole).sum() / holes.sum(), (error * (1 - hole)).sum() / (1 - holes).sum()
        adam.zero_grad(set_to_none=True)
        (inside + 0.1 * outside).backward()
        numbers = {"inside": inside.detach(), "outside": outside.detach()}
        add_up_step([adam], numbers)
        adam.step()
        schedule.step()
        return dict(zip(numbers, torch.stack(list(numbers.values())).tolist(), strict=True))

    plan = Plan(config.steps, config.batch_size, config.seed, config.checkpoint_every, workers)
    run.train(inpainter, plan, source, step, {"adam": adam, "schedule": schedule}, progress=progress)
    return inpainter
