"""Trained maskers by name: what a card says is checked, what bytes it names are checked, and nothing else is read."""

import functools
import http.server
import json
import pickle
import shutil
import threading
from pathlib import Path

import pytest
import torch

import maskerlib
from maskerlib.classifiers.registry import classifier_named
from maskerlib.classifiers.scene_resnet import scene_classifier
from maskerlib.masker.collection import digest_of, load_masker, masker_cards
from maskerlib.masker.publishing import publish_masker
from maskerlib.methods.registry import method_named

SHIPPED = Path(maskerlib.__file__).with_name("weights")
SAID = {
    "known_as": "scenes",
    "says": "one of a test",
    "data": "none",
    "command": "pytest",
    "metrics": {"LE": 0.123456},
    "measured_on": "nothing",
}


@pytest.fixture
def run(tmp_path):
    """The folder of a finished run."""
    shutil.copytree(SHIPPED / "scenes-CA", tmp_path / "run")
    made = masker_cards()["scenes-CA"].made
    (tmp_path / "run" / "provenance.json").write_text(json.dumps(made), encoding="utf-8")
    return tmp_path / "run"


@pytest.fixture
def collection(tmp_path, run):
    """A collection with that run in it."""
    publish_masker(run, tmp_path / "maskers" / "maskers.json", "mine", scene_classifier(), **SAID)
    return tmp_path / "maskers" / "maskers.json"


@pytest.fixture
def server(collection):
    """The address of that collection, and the paths that were asked for."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=collection.parent)) as there:
        thread = threading.Thread(target=there.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{there.server_port}/maskers.json", asked
        there.shutdown()
        thread.join()


def same(one, other):
    weights = zip(one.masker.state_dict().values(), other.masker.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in weights) and one.classifier.fingerprint() == other.classifier.fingerprint()


@pytest.mark.parametrize("name", list(masker_cards()))
class TestPackage:
    def test_each_is_loaded_by_its_name_alone(self, name):
        trained = load_masker(name)
        card = masker_cards()[name]
        assert trained.origin.fingerprint() == card.fingerprint
        assert card.metrics and card.measured_on and card.made["seeds"] == [trained.config.seed]

    def test_each_is_a_method_by_its_name(self, name):
        classifier = classifier_named(masker_cards()[name].classifier)
        images = torch.rand(2, 3, *classifier.input_size, generator=torch.Generator().manual_seed(0))
        masks = method_named(f"masker:{name}", classifier)(images, None, classifier)
        assert masks.shape == (2, 1, *classifier.input_size) and 0 <= masks.min() < masks.max() <= 1

    def test_the_readme_tells_what_its_card_says(self, name):
        card = masker_cards()[name]
        lines = Path("README.md").read_text(encoding="utf-8").splitlines()
        row = next(line for line in lines if line.startswith(f"| `{name}` |"))
        assert card.says in row and row.endswith(f"| {card.metrics['LE']:.3f} | {card.metrics['PxAP']:.3f} |")


def test_a_folder_comes_before_a_name(run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run, "scenes-FIX")
    assert method_named("masker:scenes-FIX", scene_classifier()).config.mode == "CA"
    with pytest.raises(FileNotFoundError, match=r"no folder elsewhere; train a masker there first, or name one.*scenes-FIX"):
        method_named("masker:elsewhere", scene_classifier())


def test_what_was_published_comes_back(collection, run):
    card = masker_cards(collection)["mine"]
    assert card.metrics == {"LE": 0.1235} and card.made["command"] == "pytest" and card.says == "one of a test"
    assert same(load_masker("mine", collection=collection), load_masker("scenes-CA"))
    assert card.files["masker.pt"] == {"at": "mine/masker.pt", "sha256": digest_of(run / "masker.pt")}
    publish_masker(run, collection, "second", scene_classifier(), **SAID)
    publish_masker(run, collection, "mine", scene_classifier(), **SAID | {"says": "again"})
    assert {name: card.says for name, card in masker_cards(collection).items()} == {"mine": "again", "second": "one of a test"}


def test_an_address_is_downloaded_once(server, tmp_path):
    address, asked = server
    first = load_masker("mine", collection=address, cache=tmp_path / "cache")
    assert same(first, load_masker("scenes-CA")) and len(asked) == 5  # the collection and four files
    load_masker("mine", collection=address, cache=tmp_path / "cache")
    assert len(asked) == 6
    (kept,) = (tmp_path / "cache").glob("mine-*/masker.pt")
    kept.write_bytes(kept.read_bytes()[:-1])
    load_masker("mine", collection=address, cache=tmp_path / "cache")
    assert len(asked) == 8, "a damaged file of the cache is downloaded again, and no other"


def test_files_may_lie_elsewhere_than_the_collection(server, collection, tmp_path):
    address, _ = server
    cards = json.loads(collection.read_text(encoding="utf-8"))
    cards["mine"]["files"]["masker.pt"]["at"] = address.replace("maskers.json", "mine/masker.pt")
    collection.write_text(json.dumps(cards), encoding="utf-8")
    assert same(load_masker("mine", collection=collection, cache=tmp_path / "cache"), load_masker("scenes-CA"))


def test_other_bytes_are_refused(server, collection, tmp_path):
    path = collection.parent / "mine" / "masker.pt"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ValueError, match=r"masker\.pt has the SHA-256 .*, its card says .*; copy it again"):
        load_masker("mine", collection=collection)
    with pytest.raises(ValueError, match=r"http.*masker\.pt does not hold the bytes of its card"):
        load_masker("mine", collection=server[0], cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*/masker.pt"))
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"no file .*masker\.pt, which the collection names"):
        load_masker("mine", collection=collection)


def test_code_in_a_checkpoint_is_never_run(collection):
    class Trap:
        def __reduce__(self):
            return Path.touch, (collection.parent / "touched",)

    path = collection.parent / "mine" / "masker.pt"
    path.write_bytes(pickle.dumps(Trap()))
    cards = json.loads(collection.read_text(encoding="utf-8"))
    cards["mine"]["files"]["masker.pt"]["sha256"] = digest_of(path)
    collection.write_text(json.dumps(cards), encoding="utf-8")
    with pytest.raises(ValueError, match=r"masker\.pt"):
        load_masker("mine", collection=collection)
    assert not (collection.parent / "touched").exists()


def test_what_cannot_be_is_named(collection, run, server):
    with pytest.raises(ValueError, match="masker='resnet' is unknown; choose one of scenes-FIX"):
        load_masker("resnet")
    with pytest.raises(ValueError, match="was trained on classifier scene-resnet"):
        load_masker("mine", classifier_named("torchvision:resnet18"), collection=collection)
    for name in ("a/b", "..", "", ".hidden"):
        with pytest.raises(ValueError, match="this is no name of a folder"):
            publish_masker(run, collection, name, scene_classifier(), **SAID)
    with pytest.raises(FileNotFoundError, match=r"no file .*nowhere\.json"):
        masker_cards(collection.with_name("nowhere.json"))
    with pytest.raises(OSError, match="404"):
        masker_cards(server[0].replace("maskers", "nowhere"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "holds list, expected {name: card}"),
        ('{"a": 3}', "masker 'a' has 'int', expected says"),
        ('{"a": {"says": "b"}}', r"masker 'a' has \['says'\], expected says"),
        ("{", "is not valid JSON"),
    ],
)
def test_what_is_no_collection_is_refused(content, message, tmp_path, server, collection):
    collection.write_text(content, encoding="utf-8")
    for where in (collection, server[0]):
        with pytest.raises(ValueError, match=message):
            masker_cards(where)


def test_a_name_cannot_lead_out_of_the_cache(collection, server, tmp_path):
    cards = json.loads(collection.read_text(encoding="utf-8"))
    collection.write_text(json.dumps({"../../mine": cards["mine"]}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"'\.\./\.\./mine': this is no name of a folder"):
        load_masker("../../mine", collection=server[0], cache=tmp_path / "a" / "b" / "cache")
    assert not (tmp_path / "a").exists()


def test_a_card_names_its_masker(collection):
    cards = json.loads(collection.read_text(encoding="utf-8"))
    del cards["mine"]["files"]["masker.pt"]
    collection.write_text(json.dumps(cards), encoding="utf-8")
    with pytest.raises(ValueError, match=r"masker 'mine' names no masker\.pt"):
        masker_cards(collection)


def test_a_file_that_is_none_of_a_run_is_refused(collection):
    cards = json.loads(collection.read_text(encoding="utf-8"))
    cards["mine"]["files"]["../../evil.pt"] = cards["mine"]["files"]["masker.pt"]
    collection.write_text(json.dumps(cards), encoding="utf-8")
    with pytest.raises(ValueError, match=r"masker 'mine' has a file '\.\./\.\./evil\.pt'.*expected one of config\.json"):
        masker_cards(collection)
