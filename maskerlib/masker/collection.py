"""Trained maskers by name: what each was trained on, what it is worth, and its files, each with its SHA-256.

A collection is a JSON file, {name: card}, with the files beside it or at addresses of their own. That of the package is
`maskerlib/weights/maskers.json`; another, on a disk or at an https address, is read in the same way:

    load_masker("scenes-CA")                                                  comes with the package
    load_masker("mine", collection="runs/collection/maskers.json")            what `maskerlib.masker.publishing` left
    load_masker("theirs", collection="https://example.org/maskers.json")      is downloaded, once

Files are taken only if their bytes are those that the card names, and read with `weights_only=True`: a masker is numbers, and
never code.
"""

import dataclasses
import hashlib
import json
import os
import re
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Self

import torch

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.registry import classifier_named
from maskerlib.masker.trained import Trained, load_trained
from maskerlib.running.checks import check_value, one_of, shown
from maskerlib.running.files import is_there, make_folder, read_json

__all__ = ["FINISHED", "Card", "check_name", "digest_of", "load_masker", "masker_cards"]

_CACHE = Path("runs/cache/maskers")
_NAME, _SHA256 = re.compile(r"\w[\w.-]*"), re.compile(r"[0-9a-f]{64}")

FINISHED = ("config.json", "history.json", "classifier.pt", "masker.pt")
"""What a finished run consists of, and a collection may hold; the classifier is there where it learnt as well (CA)."""


@dataclass(frozen=True)
class Card:
    """What a collection says of one masker.

    says: what it is, in a line.
    classifier: the name of the classifier that its training started from, as `maskerlib.classifiers.registry.classifier_named`
        takes it, and `weights` of that. fingerprint: which one that is.
    data: the images that it was trained on.  command: what makes it again.
    metrics: {metric: value}, measured on the images that `measured_on` names, which it was not trained on.
    files: {name: {"at": address, "sha256": hex}}; the address is relative to the collection, or an https address.
    made: versions, seeds and machine of the training, as `maskerlib.running.provenance.provenance` writes them.
    """

    says: str
    classifier: str
    fingerprint: str
    data: str
    command: str
    metrics: Mapping[str, float]
    measured_on: str
    files: Mapping[str, Mapping[str, str]]
    weights: str | None = None
    made: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, name: str, content: Any, collection: str) -> Self:
        """A card from what JSON holds. Raises ValueError, naming card and collection, for what is none."""
        owner = f"{collection}: masker {name!r}"
        check_name(name)
        fields = {each.name: each for each in dataclasses.fields(cls)}
        needed = {key for key, each in fields.items() if each.default is each.default_factory is dataclasses.MISSING}
        if not isinstance(content, Mapping) or not needed <= content.keys() <= fields.keys():
            found = sorted(content) if isinstance(content, Mapping) else type(content).__name__
            raise ValueError(f"{owner} has {shown(found)}, expected {', '.join(fields)}; write it by publish_masker")
        card = cls(**content)
        if isinstance(card.files, Mapping) and "masker.pt" not in card.files:
            raise ValueError(f"{owner} names no masker.pt; write it by publish_masker")
        for file, place in card.files.items() if isinstance(card.files, Mapping) else [("files", None)]:
            known = isinstance(place, Mapping) and {"at", "sha256"} <= place.keys()
            if file not in FINISHED or not known or not _SHA256.fullmatch(str(place["sha256"])):
                expected = f"one of {', '.join(FINISHED)} with 'at' and a 'sha256' of 64 digits"
                raise ValueError(f"{owner} has a file {file!r}, {shown(place)}, expected {expected}; write it by publish_masker")
        return card


def check_name(name: str) -> None:
    """Raises ValueError for the name of a masker that could be no folder's: it goes by that where it is kept."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"masker {name!r}: this is no name of a folder; give letters, digits, ., - and _")


def masker_cards(collection: str | os.PathLike[str] | None = None) -> dict[str, Card]:
    """{name: card} of a collection: a JSON file, or its https address; None means that of the package.

    Raises FileNotFoundError for a file that is not there, ValueError for one that is damaged, OSError for an address that does
    not answer.
    """
    if collection is None:
        return _read(files("maskerlib").joinpath("weights/maskers.json").read_text(encoding="utf-8"), "maskerlib/weights")
    where = os.fspath(collection)
    if _is_address(where):
        with urllib.request.urlopen(where) as answer:
            return _read(answer.read().decode(), where)
    return _cards(read_json(where), where)


def _read(text: str, where: str) -> dict[str, Card]:
    try:
        return _cards(json.loads(text), where)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} is not valid JSON ({error}); give the address of a collection") from None


def _cards(content: Any, where: str) -> dict[str, Card]:
    if not isinstance(content, dict):
        raise ValueError(f"{where} holds {type(content).__name__}, expected {{name: card}}; write it by publish_masker")
    return {name: Card.read(name, card, where) for name, card in content.items()}


def load_masker(
    name: str,
    classifier: Classifier | None = None,
    *,
    collection: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] = _CACHE,
) -> Trained:
    """The trained masker called `name`: a saliency method, as `maskerlib.masker.training.train_masker` returns it.

    Args:
        classifier: the one that it was trained for, on whose device the masker is; None makes it as the card says.
        collection: as in `masker_cards`. What lies at an https address is downloaded into `cache` when it is first asked for.

    Raises ValueError for an unknown name, with those that there are, for a file whose bytes are not those of the card, and for
    another classifier; FileNotFoundError for a missing file; OSError for an address that does not answer.
    """
    cards = masker_cards(collection)
    check_value("masker", name, one_of(tuple(cards)))
    card = cards[name]
    if classifier is None:
        classifier = classifier_named(card.classifier, weights=card.weights)
    with as_file(files("maskerlib").joinpath("weights")) as packed:
        base = str(packed / "maskers.json") if collection is None else os.fspath(collection)
        return load_trained(_folder(name, card, base, Path(cache)), classifier)


def _folder(name: str, card: Card, base: str, cache: Path) -> Path:
    """Where all files of a card lie, each of them checked: beside the collection, or in the cache."""
    places = {file: _beside(base, place["at"]) for file, place in card.files.items()}
    wanted = {file: place["sha256"] for file, place in card.files.items()}
    folder = Path(places["masker.pt"]).parent
    if all(not _is_address(place) and Path(place) == folder / file for file, place in places.items()):
        for file in places:
            _check(folder / file, wanted[file])
        return folder
    key = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()
    folder = make_folder(cache / f"{name}-{key[:12]}")
    for file, place in places.items():
        if not is_there(folder / file) or digest_of(folder / file) != wanted[file]:
            _fetch(place if _is_address(place) else Path(place).resolve().as_uri(), folder / file, wanted[file])
    return folder


def _fetch(address: str, path: Path, digest: str) -> None:
    try:
        torch.hub.download_url_to_file(address, str(path), hash_prefix=digest, progress=False)
    except RuntimeError as error:  # of the hash alone
        raise ValueError(f"{address} does not hold the bytes of its card ({error}); ask whoever published it") from None


def _check(path: Path, digest: str) -> None:
    if not is_there(path):
        raise FileNotFoundError(f"no file {path}, which the collection names; copy it again")
    found = digest_of(path)
    if found != digest:
        raise ValueError(f"{path} has the SHA-256 {found[:12]}, its card says {digest[:12]}; copy it again")


def digest_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _is_address(place: str) -> bool:
    return place.startswith(("https://", "http://"))


def _beside(base: str, at: str) -> str:
    """The address `at`, relative to the collection `base`."""
    return urllib.parse.urljoin(base, at) if _is_address(base) or _is_address(at) else os.path.join(os.path.dirname(base), at)
