"""A masker of one's own for others: a finished run put into a collection (`maskerlib.masker.collection`)."""

import dataclasses
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from maskerlib.classifiers.classifier import Classifier
from maskerlib.masker.collection import FINISHED, Card, check_name, digest_of, masker_cards
from maskerlib.masker.trained import load_trained
from maskerlib.running.files import atomic_path, is_there, read_json, write_json

__all__ = ["publish_masker"]


def publish_masker(
    folder: str | os.PathLike[str],
    collection: str | os.PathLike[str],
    name: str,
    classifier: Classifier,
    *,
    known_as: str,
    says: str,
    data: str,
    command: str,
    metrics: Mapping[str, float],
    measured_on: str,
    weights: str | None = None,
) -> Card:
    """Copy a finished run into a collection, beside its JSON file, and write its card there; one of that name is replaced.

    Args:
        folder: what a training of `maskerlib.masker` left.  collection: the JSON file; made where there is none.
        classifier: the one that the run started from, and `known_as` its name, as `classifier_named` takes it, with `weights`.
        says, data, command, metrics, measured_on: as in `Card`.

    Raises ValueError for a name that could be no folder's, and as `maskerlib.masker.trained.load_trained` does for the run.
    """
    check_name(name)
    collection, source = Path(collection), Path(folder)
    load_trained(source, classifier)
    made = read_json(source / "provenance.json")
    cards = masker_cards(collection) if is_there(collection) else {}
    found: dict[str, dict[str, str]] = {}
    for file in FINISHED:
        if is_there(source / file):
            target = collection.parent / name / file
            with atomic_path(target) as partial:
                shutil.copyfile(source / file, partial)
            found[file] = {"at": f"{name}/{file}", "sha256": digest_of(target)}
    cards[name] = Card(
        says,
        known_as,
        classifier.fingerprint(),
        data,
        command,
        {key: round(float(value), 4) for key, value in metrics.items()},
        measured_on,
        found,
        weights,
        made | {"command": command},
    )
    write_json(collection, {key: dataclasses.asdict(card) for key, card in cards.items()})
    return cards[name]
