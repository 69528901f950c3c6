"""The command line: photographs explained.

maskerlib explain my.jpg                                  the mask of a photo, and what the classifier says of both its sides
maskerlib explain holidays/ --output maps/                every photo of a folder
maskerlib explain my.jpg --classifier torchvision:resnet50 --weights DEFAULT --method grad-cam --target tabby
maskerlib explain --list                                  the names of methods and classifiers

`python -m maskerlib` is the same. Modules are imported after the arguments are read, so that --help and a mistake are answered
at once.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from maskerlib import __version__
from maskerlib.interruption import interruptible
from maskerlib.threads import wait_passively

__all__ = ["main"]

_FORMATS = (".png", ".jpg", ".jpeg", ".pdf", ".svg", ".webp")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, 1 where a photo was skipped or an explanation failed, 2 for bad arguments, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    done: list[str] = []
    skipped: list[str] = []
    try:
        wait_passively()
        if options.list:
            print(_names())
            return 0
        try:
            with interruptible() as asked:  # what Ctrl-C raises inside of an import becomes any error
                job = _Job(options)
            if asked():
                raise KeyboardInterrupt
        except (ValueError, OSError, ImportError, RuntimeError) as error:
            print(f"error: {_line(error)}", file=sys.stderr)
            return 2
        for line, fine in job.run():
            (done if fine else skipped).append(line)
            if not job.bar:
                print(line, file=sys.stdout if fine else sys.stderr, flush=True)
    except KeyboardInterrupt:
        print(f"interrupted after {len(done)} pictures{f'; {done[-1]}' if done else ''}", file=sys.stderr)
        return 130
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        print(f"error: {_line(error)} ({len(done)} pictures were finished before)", file=sys.stderr)
        return 1
    if job.bar:
        print("\n".join([*done[-1:], *skipped]))
    if skipped or job.left_out:
        print(f"{len(done)} explained, {len(skipped)} skipped, {job.left_out} left out that are no images", file=sys.stderr)
    return 1 if skipped else 0


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _names() -> str:
    from maskerlib.explain import METHODS
    from maskerlib.zoo import NAMES

    methods = {name: meaning for name, (_, meaning) in METHODS.items()}
    methods["masker:FOLDER"] = "a masker that train_masker left in a folder"
    lines = ["methods (--method):", *(f"  {name:22}{meaning}" for name, meaning in methods.items())]
    return "\n".join([*lines, "classifiers (--classifier):", *(f"  {name:22}{meaning}" for name, meaning in NAMES.items())])


class _Job:
    """Everything that can be wrong with the arguments is found when one is made; `run` does the work, photo by photo."""

    def __init__(self, options: argparse.Namespace) -> None:
        import torch  # this and what follows take seconds

        from maskerlib.asking import explained_by
        from maskerlib.doors import as_targets
        from maskerlib.explain import find_photos, method_named, output_paths
        from maskerlib.files import make_folder
        from maskerlib.zoo import classifier_named

        self.options = options
        self.photos, self.left_out = find_photos(options.photos or ["chelsea"])
        one_file = options.output.suffix.lower() in _FORMATS and not options.output.is_dir()
        if one_file and len(self.photos) > 1:
            raise ValueError(f"{options.output} is one file for {len(self.photos)} photos; give a folder as --output")
        self.outputs = [options.output] if one_file else output_paths(self.photos, options.output)
        make_folder(self.outputs[0].parent)
        device = options.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        layers = None if options.layers is None else [name.strip() for name in options.layers.split(",")]
        classifier = classifier_named(options.classifier, weights=options.weights, layers=layers, seed=options.seed)
        self.classifier = classifier.to(device)
        terminal = sys.stderr.isatty()
        self.bar = terminal and len(self.photos) > 1
        show = terminal and not self.bar
        self.method = method_named(options.method, self.classifier, seed=options.seed, progress=show)
        asked = explained_by(self.method, self.classifier)
        self.target = int(options.target) if options.target and options.target.isdecimal() else options.target
        as_targets(self.target, torch.zeros(1, asked.class_count()), asked)

    def run(self) -> Iterator[tuple[str, bool]]:
        """For each photo a line, and whether there is a picture of it; a photo that cannot be read is none."""
        import numpy as np

        from maskerlib.explain import explain, explanation_picture, read_photo
        from maskerlib.files import atomic_path
        from maskerlib.plots import save_figure
        from maskerlib.progress import counted

        pairs = list(zip(self.photos, self.outputs, strict=True))
        for item, path in counted(pairs, "photos", len(pairs), bar=self.bar):
            try:
                photo = read_photo(item, self.classifier.channels)
            except (ValueError, OSError, MemoryError) as error:
                yield f"skipped: {_line(error)}", False
                continue
            found = explain(photo, self.classifier, self.method, self.target, self.options.size)
            seen = "x".join(map(str, found.size))
            footer = f"classifier {self.classifier.name} at {seen} pixels, method {self.options.method}"
            save_figure(explanation_picture(found, footer), path)
            if self.options.npy:
                with atomic_path(path.with_suffix(".npy")) as partial:
                    np.save(partial, found.saliency[0].numpy())
            numbers = f"{found.whole:.1%} whole, {found.kept:.1%} masked-in, {found.left:.1%} masked-out"
            yield f"{path}: {found.class_name} {numbers}", True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("maskerlib", description="Masking-based saliency: what a classifier looks at.")
    parser.add_argument("--version", action="version", version=f"maskerlib {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    explain = commands.add_parser(
        "explain",
        help="draw what of a photo a classifier needs",
        description="Draws each photo, its map, and what the map keeps and leaves, with the probability of the class.",
    )
    given = "an image, a folder of images, or a photograph of scikit-image (chelsea)"
    explain.add_argument("photos", nargs="*", metavar="PHOTO", help=given)
    explain.add_argument("--classifier", default="efficientnet-lite0", help="which one; see --list (%(default)s)")
    explain.add_argument("--weights", help="path of a state dict, or the name of a weight set to download")
    explain.add_argument("--method", default="optimise", help="how the map is made; see --list (%(default)s)")
    explain.add_argument("--target", help="class to explain, by number or name (the predicted one)")
    explain.add_argument("--size", type=_positive, help="pixels per side that the classifier sees (its own)")
    explain.add_argument("--layers", help="layers to read, with commas between them (those of the classifier)")
    explain.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps; auto takes a GPU where there is one")
    explain.add_argument("--output", type=Path, default=Path("explained"), help="file or folder (%(default)s/)")
    explain.add_argument("--npy", action="store_true", help="write the map as well, (H, W) float32 in [0, 1]")
    explain.add_argument("--seed", type=int, default=0, help="of whatever is drawn at random (%(default)s)")
    explain.add_argument("--list", action="store_true", help="list methods and classifiers, and do nothing")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number of pixels, 1 or more")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
