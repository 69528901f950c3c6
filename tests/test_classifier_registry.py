"""Every classifier that can be asked for by name: each test runs for each entry of the registry, also for one that is new."""

import os
import re

import pytest
import torch

from maskerlib import __main__ as command
from maskerlib.classifiers.candidates import candidate_layers
from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.doors import check_classifier
from maskerlib.classifiers.entry import ClassifierEntry
from maskerlib.classifiers.registry import CLASSIFIERS, classifier_named
from maskerlib.masker.network import masker_for, masker_method
from maskerlib.methods.optimise import optimise_mask


def test_what_is_made_must_be_a_classifier(monkeypatch):
    monkeypatch.setattr(CLASSIFIERS, "made", lambda *given: torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="classifier 'mine': its make returned Linear, expected a Classifier"):
        classifier_named("mine")


@pytest.fixture(scope="module", params=list(CLASSIFIERS))
def entry(request: pytest.FixtureRequest) -> ClassifierEntry:
    return CLASSIFIERS[request.param]


@pytest.fixture(scope="module")
def made(entry: ClassifierEntry) -> Classifier:
    """The classifier itself; of a family its example. One for all tests: none may change it."""
    try:
        return classifier_named(entry.sample)
    except ImportError as error:
        if "pip install 'maskerlib[" not in str(error):
            raise
        pytest.skip(str(error))


@pytest.fixture
def one(made: Classifier) -> torch.Tensor:
    return torch.rand(1, made.channels, *made.input_size)


def again(entry: ClassifierEntry, **options) -> Classifier:
    return classifier_named(entry.sample, **options)


def moved(made: Classifier, path: os.PathLike[str], *, whole: bool) -> str:
    """Save other weights than `made` has, as a state dict of its network or as training leaves them; return their fingerprint."""
    other = made.copied()
    with torch.no_grad():
        next(other.parameters()).add_(1)
    torch.save({"weights": other.state_dict()} if whole else other.network.state_dict(), path)
    assert other.fingerprint() != made.fingerprint()
    return other.fingerprint()


def test_is_listed(entry, capsys):
    assert command.main(["explain", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[:1] == [entry.name] and line.endswith(f"  {entry.says}") for line in lines)


def test_a_family_has_an_example_and_no_other_has(entry):
    assert (":" in entry.name) == bool(entry.example)
    assert CLASSIFIERS.find(entry.sample) == (entry, (entry.example,) if entry.example else ())


def test_what_it_says_of_itself(made):
    assert made.name and not any(module.training for module in made.modules())
    assert made.mean.shape == made.std.shape == (1, made.channels, 1, 1)
    assert 0 <= made.mean.min() and made.mean.max() <= 1 and 0 < made.std.min()
    assert len(made.input_size) == 2 and min(made.input_size) >= 32
    assert len(made.class_names) in (0, made.class_count()) and len(set(map(str.strip, made.class_names)) - {""}) > 1


def test_its_layers_are_maps_of_rising_depth(made, one):
    logits, seen = made.activations(one)
    assert logits.shape == (1, made.class_count()) and logits.isfinite().all()
    assert list(seen) == list(made.layers) and 1 <= len(seen) <= 5
    order = [layer.name for layer in candidate_layers(made)]
    assert [order.index(name) for name in seen] == sorted(order.index(name) for name in seen)
    cells = [maps.shape[2] * maps.shape[3] for maps in seen.values()]
    assert all(maps.dim() == 4 and len(maps) == 1 for maps in seen.values())
    assert cells == sorted(cells, reverse=True) and cells[-1] > 1


def test_the_seed_decides_and_the_global_generator_is_left_alone(entry, made):
    before = torch.random.get_rng_state()
    assert again(entry, seed=0).fingerprint() == made.fingerprint()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_other_layers_of_the_same_network(entry, made, one):
    other = again(entry, layers=made.layers[-1:])
    assert other.layers == made.layers[-1:] and other.fingerprint() == made.fingerprint() and not other.training
    assert (other.name, other.input_size, other.class_names) == (made.name, made.input_size, made.class_names)
    torch.testing.assert_close(other.activations(one)[1][made.layers[-1]], made.activations(one)[1][made.layers[-1]])


def test_an_unknown_layer_is_refused(entry, made):
    with pytest.raises(ValueError, match="layer 'no_such_layer' is not in "):
        again(entry, layers=["no_such_layer"])


@pytest.mark.parametrize("whole", [False, True], ids=["a network's state dict", "what training leaves"])
def test_weights_from_a_file(entry, made, whole, tmp_path):
    expected = moved(made, tmp_path / "mine.pt", whole=whole)
    for path in (tmp_path / "mine.pt", str(tmp_path / "mine.pt")):
        assert again(entry, weights=path, seed=1).fingerprint() == expected
    assert not again(entry, weights=tmp_path / "mine.pt", layers=made.layers[-1:]).training


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ({"weight": torch.zeros(1)}, ValueError, "does not fit"),
        ({"weights": {"weight": torch.zeros(1)}}, ValueError, "does not fit"),
        ({"weights": {"mean": torch.zeros(1), "std": torch.ones(1)}}, ValueError, "does not fit"),
        (torch.zeros(1), ValueError, "holds a Tensor, expected a dict"),
        (b"nothing", ValueError, "is not a readable checkpoint"),
        (None, FileNotFoundError, ""),
    ],
    ids=["another network", "another training", "another classifier", "a tensor", "no checkpoint", "no file"],
)
def test_a_wrong_file_is_refused_in_one_line(entry, made, content, error, message, tmp_path):
    path = tmp_path / "wrong.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(error, match=rf"{re.escape(str(path))}.*{message}") as caught:
        again(entry, weights=path)
    assert len(str(caught.value).splitlines()) == 1 and len(str(caught.value)) < 500


def test_a_mask_can_be_optimised_and_a_masker_made(made, one):
    before = made.fingerprint()
    check_classifier(made, differentiable=True)
    mask = optimise_mask(made, one, steps=1).masks
    drawn = masker_method(masker_for(made, width=8).eval())(one, None, made)
    for each in (mask, drawn):
        assert each.shape == (1, 1, *made.input_size) and 0 <= each.min() and each.max() <= 1
    assert made.fingerprint() == before and not made.training


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("efficientnet-lite", "no classifier 'efficientnet-lite'; did you mean 'efficientnet-lite"),
        ("resnet50", "no classifier 'resnet50'; .*torchvision:NAME, timm:NAME"),
        ("torchvision:", "classifier 'torchvision:' names no name; give torchvision:NAME"),
        ("scenes:more", "no classifier 'scenes:more'; did you mean 'scenes'"),
    ],
)
def test_unknown_names_are_answered_with_near_ones(name, message):
    with pytest.raises(ValueError, match=message):
        classifier_named(name)
