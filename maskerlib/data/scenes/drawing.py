"""Draw one scene: a photograph, some clutter, and an object whose every pixel is known.

The order of drawing is background, distractors (glyphs of no class), rivals (smaller objects of other
classes), the labelled object, and sometimes an occluder over part of it. The object's alpha channel, less
what the occluder hides, is its exact mask.

All sizes are shares of the scene's side, so a level means the same at 96 and at 224 pixels.
"""

import math
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files

import numpy as np
import torch
from PIL import Image

from maskerlib.data.boxes import mask_box
from maskerlib.data.scenes.glyphs import BACKGROUNDS, CLASSES, DISTRACTORS
from maskerlib.data.scenes.sprites import sprite
from maskerlib.running.checks import Rule, between, check_fields

__all__ = ["LEVELS", "SPLITS", "Level", "Scene", "background", "draw_scene"]

SPLITS = ("train", "val", "test")


_FOLDER_NAME = Rule(
    lambda name: bool(re.fullmatch(r"[\w-]+", name)), "must be of letters, digits, - and _; it names a folder"
)


def _span(least: float, most: float) -> Rule:
    """The lowest and the highest value of a draw, both in `least` to `most`."""
    return Rule(lambda pair: least <= pair[0] <= pair[1] <= most, f"must be lowest, highest in {least:g} to {most:g}")


@dataclass(frozen=True)
class Level:
    """How hard the scenes are. Every pair is the lowest and the highest value of a uniform draw.

    object_side: the longer side of the labelled object's box, as a share of the scene's side.
    rotation: degrees either way, of every glyph.
    distractors, distractor_side: how many glyphs of no class; their longer side as a share of the scene's.
    rivals, rival_ratio: how many objects of other classes, and their longer side as a share of the labelled
        object's. The labelled one is always the longest, which is what makes its label the right answer.
    occlusion: the chance that a distractor glyph is laid over the object.
    occluded: the share of the object's pixels that it hides; where no place fits, the object stays whole.

    ValueError for a number out of range.
    """

    name: str
    object_side: tuple[float, float]
    rotation: float
    distractors: tuple[int, int]
    distractor_side: tuple[float, float] = (0.10, 0.25)
    rivals: tuple[int, int] = (0, 0)
    rival_ratio: tuple[float, float] = (0.40, 0.60)
    occlusion: float = 0.0
    occluded: tuple[float, float] = (0.10, 0.40)

    def __post_init__(self) -> None:
        check_fields(
            self,
            name=_FOLDER_NAME,
            rotation=between(0, 180),
            occlusion=between(0, 1),
            **dict.fromkeys(("object_side", "distractor_side", "rival_ratio", "occluded"), _span(0.05, 0.9)),
            **dict.fromkeys(("distractors", "rivals"), _span(0, 50)),
        )


# These numbers were fixed before any saliency method was compared on the scenes, and are not tuned towards
# any result.
LEVELS = {
    level.name: level
    for level in (
        Level("easy", (0.45, 0.80), rotation=15, distractors=(0, 0)),
        Level("default", (0.30, 0.75), rotation=30, distractors=(0, 2)),
        Level("hard", (0.25, 0.55), rotation=45, distractors=(2, 5), rivals=(1, 2), occlusion=0.5),
    )
}


@dataclass(frozen=True)
class Scene:
    """One finished scene.

    image: (H, W, 3) uint8.
    mask: (H, W) bool, the visible part of the object.
    box: x0, y0, x1, y1 of that mask, half-open.
    label: index into CLASSES.
    glyph: the character drawn.
    unseen: whether that glyph is kept out of train and val.
    """

    image: np.ndarray
    mask: np.ndarray
    box: tuple[int, int, int, int]
    label: int
    glyph: str
    unseen: bool


@cache
def _photograph(name: str, short_side: int) -> Image.Image:
    """A scikit-image photograph in RGB, its shorter side at most `short_side`."""
    with as_file(files("skimage") / "data" / name) as path, Image.open(path) as image:
        photograph = image.convert("RGB")
    scale = min(1.0, short_side / min(photograph.size))
    width, height = (round(side * scale) for side in photograph.size)
    return photograph.resize((width, height), Image.Resampling.BICUBIC)


def background(random: np.random.Generator, names: tuple[str, ...], size: int) -> Image.Image:
    """(size, size) RGBA: a random square of one of the photographs `names`, perhaps mirrored, every colour channel recoloured.

    It is the first thing that `draw_scene` draws from its random stream, so the same stream gives a scene's own background.
    """
    photograph = _photograph(names[random.integers(len(names))], 4 * size)
    longest = min(photograph.size)
    side = random.uniform(min(size, longest), longest)
    x, y = (random.uniform(0, length - side) for length in photograph.size)
    crop = photograph.resize((size, size), Image.Resampling.BILINEAR, box=(x, y, x + side, y + side))
    if random.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    gain, shift = (random.uniform(low, high, 3).astype(np.float32) for low, high in ((0.6, 1.4), (-40.0, 40.0)))
    recoloured = np.clip((np.asarray(crop) - np.float32(128)) * gain + (shift + 128), 0, 255).astype(np.uint8)
    return Image.fromarray(recoloured).convert("RGBA")


@dataclass(frozen=True)
class _Placed:
    """A drawn glyph and where its upper left corner lies."""

    image: Image.Image
    x: int
    y: int

    def mask(self, size: int) -> np.ndarray:
        """(size, size) bool: where it is at least half opaque."""
        mask = np.zeros((size, size), bool)
        opaque = np.asarray(self.image.getchannel("A")) >= 128
        mask[self.y : self.y + len(opaque), self.x : self.x + opaque.shape[1]] = opaque
        return mask


class _Brush:
    """Draws and places glyphs for one scene, all from its own random stream."""

    def __init__(self, random: np.random.Generator, size: int, rotation: float):
        self.random, self.size, self.rotation = random, size, rotation

    def choose(self, characters: str) -> str:
        return characters[self.random.integers(len(characters))]

    def draw(self, character: str, side: float) -> Image.Image:
        """The glyph, `side` pixels long, at a random angle and mirrored or not."""
        angle, flip = self.random.uniform(-self.rotation, self.rotation), self.random.random() < 0.5
        return sprite(character, max(136, math.ceil(1.4 * self.size))).drawn(side, angle, flip)

    def anywhere(self, image: Image.Image) -> _Placed:
        return _Placed(image, *(int(self.random.integers(self.size - length + 1)) for length in image.size))

    def beside(self, image: Image.Image, mask: np.ndarray) -> _Placed:
        """Of eight random places, the one where `mask` hides the least."""
        places = [self.anywhere(image) for _ in range(8)]
        return min(places, key=lambda placed: (placed.mask(self.size) & mask).sum())

    def over(self, image: Image.Image, mask: np.ndarray, share: tuple[float, float]) -> _Placed | None:
        """Of sixteen places on `mask`, the first that hides between two shares of it; None if none does."""
        ys, xs = np.nonzero(mask)
        for pick in self.random.integers(len(ys), size=16):
            x, y = (
                int(np.clip(centre - length // 2, 0, self.size - length))
                for centre, length in zip((xs[pick], ys[pick]), image.size, strict=True)
            )
            placed = _Placed(image, x, y)
            if share[0] <= (placed.mask(self.size) & mask).sum() / len(ys) <= share[1]:
                return placed
        return None


def draw_scene(index: int, *, split: str, level: Level, size: int, seed: int, erased: bool = False) -> Scene:
    """Scene `index` of a split: a function of its arguments alone, however many were drawn before it.

    `erased` leaves the object out of the image, and nothing else: background, distractors, rivals and occluder lie where they
    lay, and the pixels that the object does not touch are the same bytes. All else that is said of the scene (mask, box, label)
    is what it would be with the object.

    Labels go round the classes, so the first 16 n scenes hold n of each. In the test split every second round
    is drawn with the unseen glyphs (`Scene.unseen`), and no background or distractor is one of train or val.
    The levels share one random stream: scene 7 has the same background and the same glyph at all of them.
    """
    random = np.random.default_rng([seed, SPLITS.index(split), index])
    brush = _Brush(random, size, level.rotation)
    classes = list(CLASSES.values())
    label, unseen = index % len(classes), split == "test" and index // len(classes) % 2 == 1
    clutter = DISTRACTORS.unseen if split == "test" else DISTRACTORS.seen

    canvas = background(random, BACKGROUNDS["test" if split == "test" else "train"], size)
    glyph = brush.choose(classes[label].unseen if unseen else classes[label].seen)
    side = random.uniform(*level.object_side) * size
    target = brush.anywhere(brush.draw(glyph, side))
    mask = target.mask(size)

    layers = []
    for _ in range(random.integers(level.distractors[0], level.distractors[1] + 1)):
        distractor = brush.draw(brush.choose(clutter), random.uniform(*level.distractor_side) * size)
        layers.append(brush.anywhere(distractor))
    for _ in range(random.integers(level.rivals[0], level.rivals[1] + 1)):
        other = classes[(label + random.integers(1, len(classes))) % len(classes)]
        rival = brush.draw(brush.choose(other.seen), random.uniform(*level.rival_ratio) * side)
        layers.append(brush.beside(rival, mask))
    layers.append(target)
    if random.random() < level.occlusion:
        glyph_over = brush.draw(brush.choose(clutter), random.uniform(0.3, 0.7) * side)
        if (occluder := brush.over(glyph_over, mask, level.occluded)) is not None:
            layers.append(occluder)
            mask &= ~occluder.mask(size)

    for placed in layers:
        if not (erased and placed is target):
            canvas.alpha_composite(placed.image, (placed.x, placed.y))
    x0, y0, x1, y1 = mask_box(torch.from_numpy(mask))[0].int().tolist()
    return Scene(np.asarray(canvas.convert("RGB")), mask, (x0, y0, x1, y1), label, glyph, unseen)
