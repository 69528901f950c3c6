"""The command line of the data sets of the field: what a folder holds of one, and where it is to be had.

maskerlib data                              which there are, their terms, and where they are to be had
maskerlib data pets --root data/            what a folder holds of one
maskerlib data pets --root data/ --every    the same, after each of its images was read
maskerlib data pets --root data/ --download     it is got first, by torchvision
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["main", "parser"]

_NAMES = ("pets", "voc", "cub", "imagenet", "imagenet-kaggle", "wsol")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0; 1 where parts of the data are missing or damaged, 2 where they cannot be got, 130 after Ctrl-C."""
    options = parser().parse_args(arguments)
    from maskerlib.data.obtaining import OFFERS, download, look_at  # which takes seconds

    if options.name is None:
        for name, offer in OFFERS.items():
            how = f"maskerlib data {name} --download, or " if offer.download else ""
            print(f"{name}\n    {offer.says}\n    terms: {offer.terms}\n    from:  {how}{offer.address}")
        return 0
    offer = OFFERS[options.name]
    try:
        if options.download:
            print(f"{offer.says}; terms: {offer.terms}", flush=True)
            download(options.name, options.root)
        parts = []
        for line, there in look_at(options.name, options.root, every=options.every):
            parts.append(there)
            print(" ".join(line.split()), file=sys.stdout if there else sys.stderr, flush=True)
    except (OSError, RuntimeError, ValueError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    if not any(parts):
        how = f" by `maskerlib data {options.name} --root {options.root} --download`, or" if offer.download else ""
        print(f"it is to be had{how} from {offer.address}; terms: {offer.terms}", file=sys.stderr)
    return 0 if all(parts) else 1


def parser(**options: Any) -> argparse.ArgumentParser:
    """What reads the arguments of `main`; options as for `argparse.ArgumentParser`."""
    says = "Says what a folder holds of a data set; without a name, which there are, and where they are to be had."
    parser = argparse.ArgumentParser("maskerlib data", description=says, **options)
    parser.add_argument("name", nargs="?", choices=_NAMES, help="which one")
    parser.add_argument("--root", type=Path, default=Path("data"), help="the folder of its files (%(default)s)")
    parser.add_argument("--every", action="store_true", help="read each image, and say which are damaged")
    parser.add_argument("--download", action="store_true", help="get it first, under the terms that are printed; pets and voc")
    return parser


if __name__ == "__main__":
    sys.exit(main())
