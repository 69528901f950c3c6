"""Maps that were drawn before, one for each image of a source: in memory, in one file, or in a folder of files.

`maskerlib.metrics.evaluation.evaluate` takes them in place of a method. They come in two forms:

- one array (N, 1, H, W) or (N, H, W), in the order of the source: a tensor, a numpy array, or the path of a .npy file;
- a folder with one file an image, which has the sample's name: `<name>.npy`, (H, W) or (1, H, W), or `<name>.png`, grey, where
  black is 0 and white is 1. A name such as cat/7.jpg stands for a file in a folder; its .jpg may be left out.

Values are those of every map: in [0, 1], high = salient. `save_maps` writes either form, with a record of the classifier and
the classes that the maps explain, so that they are not measured as if they explained others.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from maskerlib.classifiers.classifier import Classifier, frozen
from maskerlib.classifiers.doors import Method, check_classifier, check_images
from maskerlib.data.files.images import read_image
from maskerlib.data.files.listing import is_image_name
from maskerlib.data.indices import as_size
from maskerlib.data.samples import Source, batches
from maskerlib.methods.asking import ask, clean_logits, explained_by, known_labels, to_explain
from maskerlib.running.files import atomic_path, make_folder, read_json, write_json

__all__ = ["Maps", "Reader", "load_maps", "map_reader", "save_maps"]

Maps = Tensor | np.ndarray | str | Path
"""An array of maps, or the path of a .npy file or of a folder."""

Reader = Callable[[int, Sequence[str]], Tensor]
"""(position of the first image, names of B images that follow each other) -> their maps (B, 1, H, W) float32."""

_RECORD = "maps.json"


def save_maps(
    method: Method,
    source: Source,
    classifier: Classifier,
    where: str | Path,
    *,
    targets: str = "labels",
    batch_size: int = 64,
    precision: str = "auto",
    progress: bool = False,
    workers: int = 0,
) -> Path:
    """Draw the map of every image of `source` and write them to `where`: a path that ends in .npy, or a new folder.

    The method is asked as `maskerlib.metrics.evaluation.evaluate` asks it, about the classifier that it carries or else
    `classifier`, so that evaluating what was saved equals evaluating the method (with the same `targets`, `batch_size` and
    `precision`). A file is whole or absent; a .npy file is replaced, a folder must be empty, since maps of two methods in one
    would pass for one.

    Returns the path. Raises ValueError for a folder that holds something or a name that no file can have, and as `evaluate` does.
    """
    where = Path(where)
    classifier = explained_by(method, classifier)
    labels, _ = known_labels(source, classifier, targets)
    check_classifier(classifier)
    bar = tqdm(total=len(source), desc="maps", unit="image", disable=not progress)
    with frozen(classifier), bar, _writer(where, len(source), as_size(source.size)) as write:
        done = 0
        for batch in batches(source, batch_size, workers=workers, device=classifier.mean.device):
            batch = batch.to(classifier.mean.device)
            check_images(batch.images, classifier, batch.names)
            own = labels[done : done + len(batch)].to(batch.images.device)
            classes = to_explain(own, clean_logits(classifier, batch.images, precision), classifier, targets)
            maps = ask("method", method, batch.images, classes, classifier, precision)
            write(batch.names, maps.cpu().numpy())
            done += len(batch)
            bar.update(len(batch))
    about = {"name": classifier.name, "fingerprint": classifier.fingerprint()}
    write_json(_record(where), {"explained": about, "targets": targets})
    return where


def load_maps(maps: Maps, source: Source, *, batch_size: int = 64) -> Tensor:
    """The maps of every image of `source`, (N, 1, H, W) float32, in its order. Raises ValueError as `map_reader` does."""
    reader = map_reader(maps, source)
    found, done = [], 0
    for batch in batches(source, batch_size):
        found.append(reader(done, batch.names))
        done += len(batch)
    return torch.cat(found)


def map_reader(
    maps: Maps,
    source: Source,
    *,
    name: str = "maps",
    classifier: Classifier | None = None,
    targets: str | None = None,
) -> Reader:
    """What reads the maps of a batch of `source`, wherever they are kept.

    Args:
        name: how the maps are called in errors.
        classifier, targets: what the maps are taken to explain; held against the record that `save_maps` leaves.

    Raises ValueError, beginning with the name: for maps that are not one for each image, of its size and floating-point; for a
    path that is neither a .npy file nor a folder; for maps that explain another classifier or other classes; and, when a batch
    is read, for an image without a map, with two, or whose map is another's, too.
    """
    called = f"maps {name!r}"
    if not isinstance(maps, Maps):
        raise ValueError(
            f"{called} are {type(maps).__name__}, expected a method, an array, a .npy file or a folder of maps"
        )
    size = as_size(source.size)
    if isinstance(maps, str | Path):
        path = Path(maps)
        if not path.exists():
            raise ValueError(f"{called}: there is nothing at {path}; check the path")
        _check_record(path, called, name, classifier, targets)
        if path.is_dir():
            return _folder_reader(path, called, len(source), size)
        maps = _load(path, called)
    return _array_reader(maps, called, len(source), size)


def _array_reader(maps: Tensor | np.ndarray, called: str, count: int, size: tuple[int, int]) -> Reader:
    if tuple(maps.shape) not in ((count, 1, *size), (count, *size)):
        several = maps.ndim == 4 and maps.shape[1] > 1
        mend = (
            "reduce colour channels and signs with maskerlib.methods.attributions.magnitude_map"
            if several
            else "give one map an image"
        )
        raise ValueError(
            f"{called} have shape {tuple(maps.shape)}, expected {(count, 1, *size)} or {(count, *size)}; {mend}"
        )
    _check_kind(maps, called)

    def read(start: int, names: Sequence[str]) -> Tensor:
        part = maps[start : start + len(names)]
        if not isinstance(part, Tensor):
            part = torch.from_numpy(np.array(part, dtype=np.float32))
        return part.detach().float().reshape(len(names), 1, *size)

    return read


def _check_kind(maps: Tensor | np.ndarray, called: str) -> None:
    """ValueError unless the values are floats, or True and False."""
    kind = maps.dtype
    fits = kind.is_floating_point or kind == torch.bool if isinstance(kind, torch.dtype) else kind.kind in "fb"
    if not fits:
        raise ValueError(f"{called}: {maps.dtype}, expected floats in [0, 1]; divide bytes by 255")


def _folder_reader(folder: Path, called: str, count: int, size: tuple[int, int]) -> Reader:
    held = sum(1 for path in folder.rglob("*") if path.suffix.lower() in (".npy", ".png") and path.name[0] != ".")
    if held < count:
        raise ValueError(f"{called}: {folder} holds {held} maps (.npy or .png) for {count} images; give one an image")
    owners: dict[Path, int] = {}

    def read(start: int, names: Sequence[str]) -> Tensor:
        found = []
        for index, name in enumerate(names, start=start):
            stems = [name] + ([name[: -len(Path(name).suffix)]] if is_image_name(Path(name)) else [])
            places = [
                path for stem in stems for end in (".npy", ".png") if (path := _place(folder, stem, end)).is_file()
            ]
            if len(places) != 1:
                expected = " or ".join(str(_place(folder, stem, ".npy")) for stem in stems)
                there = f"has {len(places)} maps" if places else "has no map"
                raise ValueError(f"{called}: {name!r} {there}, expected one, {expected} (or .png)")
            if owners.setdefault(places[0], index) != index:
                raise ValueError(
                    f"{called}: {places[0]} is the map of two images called {name!r}; give one array of maps (.npy)"
                )
            found.append(_one(places[0], called, size))
        return torch.stack(found)

    return read


def _one(path: Path, called: str, size: tuple[int, int]) -> Tensor:
    """One map, (1, H, W) float32, of a .npy or .png file."""
    if path.suffix == ".npy":
        values = _load(path, called)
        _check_kind(values, f"{called}: {path}")
        one = torch.from_numpy(np.array(values, dtype=np.float32))
    else:
        colours = read_image(path)
        if not (colours == colours[0]).all():
            raise ValueError(
                f"{called}: {path} is in colour, expected a grey map; save the values, not a picture of them"
            )
        one = colours[0]
    if tuple(one.shape) not in ((1, *size), size):
        raise ValueError(f"{called}: {path} has shape {tuple(one.shape)}, expected {size}, the images' size")
    return one.reshape(1, *size)


def _load(path: Path, called: str) -> np.ndarray:
    if path.suffix.lower() != ".npy":
        raise ValueError(f"{called}: {path} is no .npy file; save an array with numpy.save, or give a folder of maps")
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{called}: {path} is not a readable array ({error}); save it again with numpy.save") from None
    return array


def _place(folder: Path, name: str, end: str) -> Path:
    """The file of the sample called `name`. Raises ValueError for a name that points out of the folder."""
    parts = PurePosixPath(name).parts
    if not parts or parts[0] == "/" or ".." in parts or "\0" in name:
        raise ValueError(
            f"no file of a folder can be called {name!r}; keep these maps in one array, a path that ends in .npy"
        )
    return folder.joinpath(*parts[:-1], f"{parts[-1]}{end}")


def _record(where: Path) -> Path:
    return where.with_suffix(f".{_RECORD}") if where.suffix.lower() == ".npy" else where / _RECORD


def _check_record(path: Path, called: str, name: str, classifier: Classifier | None, targets: str | None) -> None:
    """Are these maps what they are taken for, as far as their record tells?"""
    if not _record(path).is_file():
        return
    record = read_json(_record(path))
    about = record.get("explained") if isinstance(record, dict) else None
    if not isinstance(about, dict) or not isinstance(about.get("fingerprint"), str):
        raise ValueError(f"{called}: {_record(path)} is no record of maps; delete it, or save the maps again")
    if classifier is not None and about["fingerprint"] != classifier.fingerprint():
        raise ValueError(
            f"{called} explain the classifier {about.get('name')} ({about['fingerprint'][:12]}), not {classifier.name} "
            f"({classifier.fingerprint()[:12]}); give that one with explained={{{name!r}: ...}}"
        )
    if targets is not None and record.get("targets") != targets:
        raise ValueError(f"{called} were drawn with targets={record.get('targets')!r}, not {targets!r}; give that")


@contextlib.contextmanager
def _writer(where: Path, count: int, size: tuple[int, int]) -> Iterator[Callable[[Sequence[str], np.ndarray], None]]:
    """What writes the maps of a batch, given names and (B, 1, H, W) float32, to one file or to a folder of files."""
    if where.suffix.lower() == ".npy":
        _record(where).unlink(missing_ok=True)
        with atomic_path(where) as partial, open(partial, "wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (count, 1, *size)}
            np.lib.format.write_array_header_1_0(file, header)

            def append(names: Sequence[str], maps: np.ndarray) -> None:
                file.write(np.ascontiguousarray(maps, "<f4").tobytes())

            yield append
        return
    if where.exists() and (not where.is_dir() or any(where.iterdir())):
        raise ValueError(f"{where} holds something already; give a new folder, or a path that ends in .npy")
    make_folder(where)

    def write(names: Sequence[str], maps: np.ndarray) -> None:
        for name, own in zip(names, maps, strict=True):
            place = _place(where, name, ".npy")
            if place.exists():
                raise ValueError(
                    f"two images are called {name!r}; save their maps in one array, a path that ends in .npy"
                )
            with atomic_path(place) as partial:
                np.save(partial, own[0])

    yield write
