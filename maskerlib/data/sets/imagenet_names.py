"""What the classes of ImageNet are called: as torchvision's weights call them, so that labels are matched by name.

Files name a class by its number in WordNet, "n01440764". Its place among all 1,000, in the order of these numbers, is its
label, and what torchvision's networks call that label is its name. The 1,000 are known from the folders of a split that has all
of them, or from a list in the root, LOC_synset_mapping.txt or words.txt, with a line "n01440764 tench, Tinca tinca" a class.
"""

from collections.abc import Sequence
from pathlib import Path

from torchvision.models import ResNet50_Weights

from maskerlib.data.sets.text import lines

__all__ = ["LISTS", "imagenet_names", "listed_classes", "numbered_names"]

LISTS = ("LOC_synset_mapping.txt", "words.txt")
"""Files of a root that may name the classes."""


def listed_classes(root: Path) -> dict[str, str]:
    """{number in WordNet: the first word for it} as the lists of the root have them, in the order of the numbers."""
    found: dict[str, str] = {}
    for name in LISTS:
        if (root / name).is_file():
            for _, (wnid, words) in lines(root / name, 2):
                found.setdefault(wnid, words.split(",")[0].strip())
    return dict(sorted(found.items()))


def imagenet_names(root: Path, wnids: Sequence[str]) -> list[str]:
    """A name for each class: a list's first word for it where the 1,000 are not known, and its number where nothing is."""
    words = listed_classes(root)
    usual = numbered_names(0)
    every = sorted(wnids) if len(wnids) == len(usual) else list(words)
    if len(every) == len(usual) and set(wnids) <= set(every):
        return [usual[every.index(wnid)] for wnid in wnids]
    return [words.get(wnid, wnid) for wnid in wnids]


def numbered_names(count: int) -> list[str]:
    """Names of the labels 0 to below `count`, or of all 1,000 where that is no more; beyond them a label goes by its number."""
    usual: list[str] = list(ResNet50_Weights.IMAGENET1K_V2.meta["categories"])
    return [*usual, *map(str, range(len(usual), count))]
