"""The contract of every method that can be asked for by name. A new line of the registry is tested here without another edit."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny import COLOURS, SIZE, Squares, snapshot, tiny_classifier
from torch import Tensor, nn

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.doors import Method
from maskerlib.explain import explain, explanation_picture
from maskerlib.masker.config import MaskerConfig
from maskerlib.masker.training import train_masker
from maskerlib.methods.asking import explained_by
from maskerlib.methods.entry import KINDS, MethodEntry
from maskerlib.methods.registry import METHODS, method_named, method_options
from maskerlib.metrics.evaluation import evaluate

COUNT = 3


@pytest.fixture(scope="module")
def told(cache: Path) -> dict[str, str]:
    """What a name with a word in capitals is told: {word: that}. A new word needs its line here."""
    config = MaskerConfig(mode="FIX", steps=2, batch_size=4, layers=("stem", "stage"))
    train_masker(tiny_classifier(), Squares(8), config, folder=cache / "contract", progress=False)
    return {"FOLDER": str(cache / "contract")}


@pytest.fixture(params=METHODS)
def entry(request: pytest.FixtureRequest) -> MethodEntry:
    return METHODS[request.param]


@pytest.fixture
def name(entry: MethodEntry, told: dict[str, str]) -> str:
    """What the method is asked for by: "grad-cam", "masker:runs/mine"."""
    head, colon, word = entry.name.partition(":")
    return f"{head}:{told[word]}" if colon else head


@pytest.fixture
def classifier() -> Classifier:
    return tiny_classifier()


@pytest.fixture
def quick(entry: MethodEntry, name: str) -> Callable[..., Method]:
    """(classifier, seed=...) -> the method, cheap where the entry says how."""

    def made(classifier: Classifier, **offered: int) -> Method:
        return method_named(name, classifier, **offered, **entry.quick)

    return made


@pytest.fixture
def method(quick: Callable[..., Method], classifier: Classifier) -> Method:
    return quick(classifier, seed=1)


@pytest.fixture
def images() -> Tensor:
    return Squares(COUNT).images


def test_an_entry_is_said_in_a_line(entry):
    assert entry.kind in KINDS and entry.says and "\n" not in entry.says and len(entry.says) <= 60


def test_a_map_an_image_between_0_and_1(quick, images, device):
    classifier = tiny_classifier().to(device)
    maps = quick(classifier)(images.to(device), torch.arange(COUNT, device=device), classifier)
    assert maps.shape == (COUNT, 1, SIZE, SIZE) and maps.is_floating_point() and maps.device.type == device.type
    assert maps.isfinite().all() and 0 <= maps.min() and maps.max() <= 1 and not maps.requires_grad
    assert (maps.amax(dim=(1, 2, 3)) > 0).all()


@pytest.mark.parametrize("gradients", [True, False])
def test_classifier_images_targets_and_random_numbers_are_left_as_they_were(quick, gradients, images):
    method = quick(tiny_classifier())
    classifier = explained_by(method, tiny_classifier()).requires_grad_()
    classifier.train().network.stage.eval()  # in training mode one look moves the statistics of a batch norm
    classifier.network.stem[0].weight.requires_grad_(False)
    classifier(images).sum().backward()
    given, targets = images.clone(), torch.arange(COUNT)
    before, numbers = snapshot(classifier), torch.get_rng_state()
    with torch.set_grad_enabled(gradients):
        method(given, targets, classifier)
        assert torch.is_grad_enabled() == gradients
    after = snapshot(classifier)
    torch.testing.assert_close(after.pop("state"), before.pop("state"), rtol=0, atol=0)
    for now, then in zip(after.pop("grads"), before.pop("grads"), strict=True):
        assert (now is None and then is None) or torch.equal(now, then)
    assert after == before
    assert torch.equal(given, images) and not given.requires_grad and given.grad is None
    assert targets.tolist() == list(range(COUNT)) and torch.equal(torch.get_rng_state(), numbers)


def test_the_seed_decides_where_the_entry_says_so_and_nowhere_else(entry, quick, classifier, images):
    first, again, other = (quick(classifier, seed=seed)(images, 1, classifier) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert torch.equal(first, other) != entry.stochastic


def test_an_image_has_the_map_alone_that_it_has_in_a_batch(method, classifier, images):
    maps = method(images, [0, 1, 2], classifier)
    alone = torch.cat([method(image[None], target, classifier) for target, image in enumerate(images)])
    torch.testing.assert_close(alone, maps, rtol=1e-3, atol=2e-3)


def test_classes_by_number_name_or_tensor_or_those_that_are_predicted(method, classifier, images):
    with torch.no_grad():
        said = classifier(images).argmax(dim=1)
    assert torch.equal(method(images, None, classifier), method(images, said, classifier))
    blue = method(images, torch.full((COUNT,), 2), classifier)
    for targets in (2, "blue", ["Blue", 2, "blue"]):
        assert torch.equal(method(images, targets, classifier), blue)


@pytest.mark.parametrize(("target", "message"), [(9, "target 9 is no class of tiny"), ("blu", "'blu' is no class of tiny")])
def test_what_is_no_class_is_refused_by_name_or_not_looked_at(target, message, method, classifier, images):
    """A baseline, or a masker that sees no class, has one map whatever it is asked; `explain` refuses for all of them."""
    if torch.equal(method(images, 0, classifier), method(images, 3, classifier)):
        method(images, target, classifier)
    else:
        with pytest.raises(ValueError, match=message):
            method(images, target, classifier)
    with pytest.raises(ValueError, match=message):
        explain(images[0], classifier, method, target)


def test_images_out_of_range_are_refused(method, classifier, images):
    with pytest.raises(ValueError, match="divide bytes by 255"):
        method(images * 255, 0, classifier)


def test_it_is_evaluated(method, classifier):
    table = evaluate({"mine": method}, Squares(4), classifier)
    row = table.loc["mine"].drop(list(table.attrs["missing"]))
    assert {"OM", "LE", "F1", "SM"} & set(row.index) and row.astype(float).map(abs).lt(float("inf")).all()


def test_it_is_drawn(method, classifier, images):
    found = explain(images[0], classifier, method)
    figure = explanation_picture(found, "footer")
    assert found.saliency.shape == (1, SIZE, SIZE) and len(figure.axes) >= 4
    assert figure.texts[0].get_text().startswith(found.class_name) and found.class_name in COLOURS


def test_it_costs_what_it_says(entry, quick):
    """For each image of a batch; what is looked at once, such as the images that check a classifier, is no part of it."""
    assert per_image_cost(quick) == entry.cost((SIZE, SIZE), **entry.quick)


def test_its_moderate_options_are_options_and_cost_some_hundred_passes(entry):
    assert entry.moderate.keys() <= method_options(entry.name).keys()
    if ":" not in entry.name:
        method_named(entry.name, tiny_classifier(), **entry.moderate)
        forward, backward = entry.cost((224, 224), **entry.moderate)
        assert forward + 2 * backward <= 400


def per_image_cost(quick: Callable[..., Method]) -> tuple[float, float]:
    """Images that the classifier sees, and gradients that arrive at its logits, more for four images than for two, halved."""
    costs = []
    for count in (2, 4):
        cost = [0, 0]

        def look(module: nn.Module, inputs: object, logits: Tensor, cost: list[int] = cost) -> None:
            cost[0] += len(logits)
            if logits.requires_grad:
                logits.register_hook(lambda gradient: passed(cost, gradient))

        method = quick(tiny_classifier())
        classifier = explained_by(method, tiny_classifier())
        classifier.network.register_forward_hook(look)
        method(Squares(count).images, None, classifier)
        costs.append(cost)
    forward, backward = ((more - few) / 2 for few, more in zip(*costs, strict=True))
    return forward, backward


def passed(cost: list[int], gradient: Tensor) -> None:
    cost[1] += len(gradient)


def test_a_signed_method_gives_numbers_for_and_against(entry, method, classifier, images):
    attribute = getattr(method, "attribute", None)
    assert (attribute is not None) == entry.signed
    if attribute is not None:
        signed = attribute(images, 0, classifier)
        assert signed.shape == images.shape and signed.min() < 0 < signed.max()
