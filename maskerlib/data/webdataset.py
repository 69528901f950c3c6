"""Images in tar archives, as WebDataset writes them: a shard holds the files of some samples, those of each in a row.

    photos-000000.tar: cat/0001.jpg  cat/0001.cls  cat/0002.png  cat/0002.json
    photos-000001.tar: ...

A file's key is its path up to the first dot of its name, and what follows is its kind, so that a.seg.png is the "seg.png" of a.
A sample's image is its jpg, or else its png, or else its jpeg; its class is the number in its cls, or else under "label" in its
json. All shards are looked through once; then any image is read by itself, from its place in its shard.
"""

import io
import json
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from maskerlib.data.entry import SourceEntry
from maskerlib.data.sets.indexed import Indexed
from maskerlib.data.sets.record import DataSet, Record
from maskerlib.data.sets.text import lines, whole_number
from maskerlib.running.registry import with_options_of

__all__ = ["ENTRY", "IMAGES", "webdataset"]

IMAGES = ("jpg", "png", "jpeg")
"""The kinds of file that are the image of a sample; the first that it has counts."""

_KEY = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)")
_BLOCK = 512  # bytes of a header; at least one of zeros ends an archive


@with_options_of(Indexed)
def webdataset(
    shards: str | os.PathLike[str],
    size: int | tuple[int, int] = 224,
    *,
    class_names: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Indexed:
    """The images of tar archives, as a source; a sample without a class has none, and no sample has boxes or masks.

    Args:
        shards: a folder, whose .tar files are the shards, by name; one such file; or several of a folder, by a range of
            numbers, such as "photos-{000000..000009}.tar".
        size: pixels per side, or (height, width).
        class_names: a text file with the name of a class in each line; None means classes.txt beside the shards, where it is
            there, else the numbers are the names.
        options: of `maskerlib.data.sets.indexed.Indexed`.

    Raises FileNotFoundError for missing files, ValueError, naming the file in its shard, for a shard that is no tar archive or
    ends too early, a class that is no number, or one without its image, beside what `Indexed` raises.
    """
    paths = _shards(str(shards))
    root = paths[0].parent
    named = root / "classes.txt" if class_names is None else Path(class_names)
    if class_names is not None and not named.is_file():
        raise FileNotFoundError(f"class_names={str(named)!r}: no such file; give a text with the name of a class in each line")
    names = [named] if named.is_file() else []

    def read() -> tuple[list[str], Iterator[Record]]:
        found = [fields[0] for _, fields in lines(named, 1)] if names else []
        return found, _records(paths, found)

    folder = [root] if Path(shards).is_dir() else []
    identity = ("webdataset", *(path.name for path in paths), str(named) if names else "")
    return Indexed(DataSet(root, read, (*paths, *folder, *names), identity), size, **options)


def _shards(given: str) -> tuple[Path, ...]:
    """The shards that are meant, in their order."""
    if Path(given).is_dir():
        found = tuple(sorted(path for path in Path(given).iterdir() if path.suffix == ".tar" and path.name[0] != "."))
        if not found:
            raise FileNotFoundError(f"{given}: no .tar file in this folder; give one that holds the shards")
        return found
    span = re.fullmatch(r"([^{}]*)\{(\d+)\.\.(\d+)\}([^{}/]*)", given)
    if span is None:
        paths: tuple[Path, ...] = (Path(given),)
    else:
        before, first, last, after = span.groups()
        if int(first) > int(last):
            raise ValueError(f"shards={given!r}: from {first} to {last} there is none; the smaller number comes first")
        paths = tuple(Path(f"{before}{number:0{len(first)}d}{after}") for number in range(int(first), int(last) + 1))
    for path in paths:
        if not path.is_file():
            mend = 'give a folder of .tar files, one of them, or several such as "photos-{000000..000009}.tar"'
            raise FileNotFoundError(f"{path}: no such file; {mend}")
    return paths


def _records(shards: tuple[Path, ...], names: list[str]) -> Iterator[Record]:
    """The record of each sample; `names` then holds a name for each class."""
    named, most = bool(names), -1
    for shard in shards:
        for record in _samples(shard):
            most = max(most, record.label)
            yield record
    if not named:
        names.extend(str(label) for label in range(most + 1))


def _samples(shard: Path) -> Iterator[Record]:
    """Those of one shard."""
    try:
        with shard.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            key, parts = "", dict[str, tuple[int, int]]()
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # it would keep all
                found = _KEY.fullmatch(member.name.removeprefix("./"))
                if not member.isreg() or found is None:
                    continue
                if found[1] != key:
                    yield from _sample(file, shard, key, parts)
                    key, parts = found[1], {}
                kind = found[2].lower()
                if kind in parts:
                    raise ValueError(f"{shard / key}.{kind}: twice in this shard, one behind the other; remove one")
                parts[kind] = (member.offset_data, member.size)
            yield from _sample(file, shard, key, parts)
            file.seek(tar.offset)
            if file.read(_BLOCK) != bytes(_BLOCK):
                raise tarfile.ReadError("it ends without an end")
    except tarfile.TarError as error:
        raise ValueError(f"{shard}: no whole tar archive ({error}); replace it, or leave it out") from None


def _sample(file: io.BufferedReader, shard: Path, key: str, parts: dict[str, tuple[int, int]]) -> Iterator[Record]:
    """The record of a sample, none where its files are something else."""
    kind = next((kind for kind in IMAGES if kind in parts), None)
    if kind is None:
        if "cls" in parts:
            raise ValueError(f"{shard / key}.cls: a class without its image; the files of a sample have to be in a row")
        return
    label, name = -1, f"{shard.name}/{key}"
    if "cls" in parts:
        label = whole_number(_text(file, parts["cls"]).strip(), f"{shard / key}.cls")
    elif "json" in parts:
        label = _label(_text(file, parts["json"]), f"{shard / key}.json")
    yield Record(shard.name, label, name=f"{name}.{kind}", part=parts[kind])


def _text(file: io.BufferedReader, part: tuple[int, int]) -> str:
    file.seek(part[0])
    return file.read(part[1]).decode("utf-8", "replace")


def _label(text: str, where: str) -> int:
    """Under "label" of a JSON object, -1 where it has none."""
    try:
        said = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{where}: not JSON ({error}); replace the file") from None
    label = said.get("label") if isinstance(said, dict) else None
    return -1 if label is None else whole_number(str(label), where)


def _example(folder: Path) -> Indexed:
    """Two shards: a cat and a dog, whose class stands in JSON, and a bird without a class."""
    grey = io.BytesIO()
    Image.new("RGB", (40, 32), "grey").save(grey, "PNG")
    shards = (
        {"cat/1.png": grey.getvalue(), "cat/1.cls": b"0", "dog/2.png": grey.getvalue(), "dog/2.json": b'{"label": 1}'},
        {"bird/3.png": grey.getvalue()},
    )
    for number, files in enumerate(shards):
        with tarfile.open(folder / f"photos-{number:06d}.tar", "w") as tar:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    (folder / "classes.txt").write_text("cat\ndog\n", encoding="utf-8")
    return webdataset(folder / "photos-{000000..000001}.tar", 32, index=None)


ENTRY = SourceEntry("webdataset:PATH", "images in the tar archives of WebDataset, with classes if any", webdataset, _example)
