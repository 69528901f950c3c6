"""The command line: photographs explained, the data sets of the field looked at, classifiers trained.

maskerlib explain my.jpg                                  the mask of a photo, and what the classifier says of both its sides
maskerlib explain holidays/ --output maps/                every photo of a folder
maskerlib explain my.jpg --classifier torchvision:resnet50 --weights DEFAULT --method grad-cam --target tabby
maskerlib explain my.jpg --method rise --option masks 500 --option centred True          options of the method
maskerlib explain --list                                  methods with what they cost, classifiers, data sources
maskerlib data                                            the data sets of the field, their terms, and where they are to be had
maskerlib data pets --root data/                          what a folder holds of one; --download gets it first
maskerlib train torchvision:resnet18 --data folder:my_images --folder runs/mine     a classifier for classes of your own

`python -m maskerlib` is the same. Modules are imported after the arguments are read, so that --help and a mistake are answered
at once.
"""

import argparse
import math
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from unicodedata import category

from maskerlib import __version__
from maskerlib.data import __main__ as data
from maskerlib.running.interruption import interruptible
from maskerlib.running.threads import wait_passively
from maskerlib.training import __main__ as training

if TYPE_CHECKING:
    from maskerlib.classifiers.classifier import Classifier

__all__ = ["main"]

_FORMATS = (".png", ".jpg", ".jpeg", ".pdf", ".svg", ".webp")
_FOLDER = "explained"
_OTHERS = {"data": data, "train": training}  # commands that a room of its own answers


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0; 1 for a skipped photo, a failed explanation or missing data; 2 for bad arguments, 130 after Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    if options.command in _OTHERS:
        return int(_OTHERS[options.command].main(given[1:]))
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
        if "random weights" in job.classifier.name:
            print(f"warning: {job.classifier.name}, which knows nothing; name weights with --weights", file=sys.stderr)
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
    return _shown(" ".join(str(error).split())) or type(error).__name__


def _shown(text: str) -> str:
    """`text` in one line that can be printed, whatever signs the name of a file holds."""
    odd = ("Cc", "Cs", "Zl", "Zp")
    return "".join(
        sign.encode("unicode_escape", "surrogatepass").decode() if category(sign) in odd else sign for sign in text
    )


def _names() -> str:
    from maskerlib.classifiers.registry import CLASSIFIERS
    from maskerlib.data.registry import SOURCES
    from maskerlib.masker.collection import masker_cards
    from maskerlib.methods.registry import table

    lines = ["methods (--method):", "", *table()]
    others = {
        "trained maskers (--method masker:NAME):": [f"{name:22}{card.says}" for name, card in masker_cards().items()],
        "classifiers (--classifier):": CLASSIFIERS.lines(),
        "data sources (source_named):": SOURCES.lines(),
    }
    for title, listed in others.items():
        lines += ["", title, "", *(f"  {line}" for line in listed)]
    return "\n".join(lines)


class _Job:
    """Everything that can be wrong with the arguments is found when one is made; `run` does the work, photo by photo."""

    def __init__(self, options: argparse.Namespace) -> None:
        import torch  # this and what follows take seconds

        from maskerlib.classifiers.doors import as_targets, check_classifier
        from maskerlib.classifiers.registry import classifier_named
        from maskerlib.explain import find_photos
        from maskerlib.methods.asking import explained_by
        from maskerlib.methods.registry import method_named, read_options
        from maskerlib.running.devices import device_named

        self.options = options
        given = read_options(options.method, options.option)
        self.photos, self.left_out = find_photos(options.photos or ["chelsea"])
        self.outputs = _outputs(options, self.photos)
        device = device_named(options.device)
        layers = None if options.layers is None else [name.strip() for name in options.layers.split(",")]
        if layers is not None and "" in layers:
            raise ValueError(f"--layers {options.layers!r} holds an empty name; give names with commas between them")
        classifier = classifier_named(options.classifier, weights=options.weights, layers=layers, seed=options.seed)
        self.classifier = classifier.to(device)
        terminal = sys.stderr.isatty()
        self.bar = terminal and len(self.photos) > 1
        show = terminal and not self.bar
        self.method = method_named(options.method, self.classifier, seed=options.seed, progress=show, **given)
        self.named = f"method {options.method}{_in_brackets(given)}"
        asked = explained_by(self.method, self.classifier)
        check_classifier(asked)
        self.target = int(options.target) if options.target and options.target.isdecimal() else options.target
        as_targets(self.target, torch.zeros(1, asked.class_count()), asked)
        _check_size(options.size, asked)

    def run(self) -> Iterator[tuple[str, bool]]:
        """For each photo a line, and whether there is a picture of it; a photo that cannot be read is none."""
        import numpy as np

        from maskerlib.explain import explain, explanation_picture, read_photo
        from maskerlib.plots import save_figure
        from maskerlib.running.files import atomic_path
        from maskerlib.running.progress import counted

        pairs = list(zip(self.photos, self.outputs, strict=True))
        for item, path in counted(pairs, "photos", len(pairs), bar=self.bar):
            try:
                photo = read_photo(item, self.classifier.channels)
            except (ValueError, OSError, MemoryError) as error:
                yield f"skipped: {_line(error)}", False
                continue
            try:
                found = explain(photo, self.classifier, self.method, self.target, self.options.size, checked=True)
            except (RuntimeError, MemoryError) as error:
                if not _is_of_memory(error):
                    raise
                raise MemoryError(f"{item}: there is too little memory to explain it; give a smaller --size") from None
            seen = "x".join(map(str, found.size))
            footer = f"classifier {self.classifier.name} at {seen} pixels, {self.named}"
            save_figure(explanation_picture(found, footer), path)
            if self.options.npy:
                with atomic_path(path.with_suffix(".npy")) as partial:
                    np.save(partial, found.saliency[0].numpy())
            numbers = f"{found.whole:.1%} whole, {found.kept:.1%} masked-in, {found.left:.1%} masked-out"
            yield _shown(f"{path}: {found.class_name} {numbers}"), True


def _in_brackets(options: Mapping[str, object]) -> str:
    from maskerlib.running.checks import shown

    return f" ({', '.join(f'{name}={shown(value)}' for name, value in options.items())})" if options else ""


def _outputs(options: argparse.Namespace, photos: Sequence[str | Path]) -> list[Path]:
    """Where the picture of each photo goes. Nothing is made, and what may not be written there is refused.

    A file that --output names is replaced, and so are those in the folder of the default; others only with --force.
    """
    from maskerlib.data.files.listing import is_image_name
    from maskerlib.explain import check_outputs, output_paths
    from maskerlib.running.files import make_folder

    if not options.output.strip():
        raise ValueError(f"--output {options.output!r} is empty; give a file or a folder, or leave it out for {_FOLDER}/")
    output = Path(options.output)
    suffix = output.suffix.lower()
    file = not _is_folder(output) and not options.output.endswith(("/", "\\"))
    one_file = file and suffix in _FORMATS
    if file and not one_file and (is_image_name(output) or suffix == ".npy"):
        raise ValueError(f"--output {output}: expected a folder, or a file with one of {', '.join(_FORMATS)}")
    if one_file and len(photos) > 1:
        raise ValueError(f"{output} is one file for {len(photos)} photos; give a folder as --output")
    paths = [output] if one_file else output_paths(photos, output)
    arrays = [path.with_suffix(".npy") for path in paths] if options.npy else []
    replace = options.force or output == Path(_FOLDER)
    check_outputs(photos, paths, replace=replace or one_file)
    check_outputs(photos, arrays, replace=replace or (one_file and output.exists()))  # beside its picture it is ours
    folder = paths[0].absolute().parent
    make_folder(next(each for each in (folder, *folder.parents) if each.exists()))  # makes none: it tries to write
    return paths


def _is_folder(path: Path) -> bool:
    from maskerlib.explain import path_status

    there = path_status(path)
    return there is not None and stat.S_ISDIR(there.st_mode)


def _check_size(size: int | None, classifier: "Classifier") -> None:
    """ValueError for a size at which the classifier gives no answer, or one of more pixels than any photo may have."""
    import torch
    from PIL import Image

    if size is None or (size, size) == classifier.input_size:
        return
    mend = f"leave --size out for its own, {'x'.join(map(str, classifier.input_size))}"
    most = Image.MAX_IMAGE_PIXELS
    if most is not None and size**2 > most:
        raise ValueError(f"--size {size} is more than {math.isqrt(most)}, the most that is read of a photo; {mend}")
    try:
        with torch.no_grad():
            classifier(torch.zeros(1, classifier.channels, size, size, device=classifier.mean.device))
    except (RuntimeError, AssertionError, ValueError, MemoryError) as error:
        small = size < min(classifier.input_size)
        reason = "is too small for" if small else "does not suit"
        if _is_of_memory(error):
            reason = "takes more memory than there is with"
        raise ValueError(f"--size {size} {reason} {classifier.name}; {mend}") from None


def _is_of_memory(error: BaseException) -> bool:
    """Whether a computer or a GPU had too little memory: PyTorch says the former by a RuntimeError."""
    import torch

    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)


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
    chosen = "an option of the method, such as `--option steps 200`; a name that it does not have is answered with all it has"
    explain.add_argument("--option", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help=chosen)
    explain.add_argument("--target", help="class to explain, by number or name (the predicted one)")
    explain.add_argument("--size", type=_positive, help="pixels per side that the classifier sees (its own)")
    explain.add_argument("--layers", help="layers to read, with commas between them (those of the classifier)")
    explain.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps; auto takes a GPU where there is one")
    explain.add_argument("--output", default=_FOLDER, help="file or folder (%(default)s/)")
    explain.add_argument("--force", action="store_true", help="replace files in a folder given as --output")
    explain.add_argument("--npy", action="store_true", help="write the map as well, (H, W) float32 in [0, 1]")
    explain.add_argument("--seed", type=int, default=0, help="of whatever is drawn at random (%(default)s)")
    explain.add_argument("--list", action="store_true", help="list methods, classifiers and data sources, and do nothing")
    commands.add_parser("data", help="look at a data set of the field, or get it", parents=[data.parser(add_help=False)])
    commands.add_parser("train", help="train a classifier for your classes", parents=[training.parser(add_help=False)])
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number of pixels, 1 or more")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
