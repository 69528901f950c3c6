"""`micro_batch`: the classifier sees a batch in parts, and the weights are those of the whole batch up to rounding."""

import dataclasses

import pytest
import torch
from tiny import Squares, TinyNet, tiny_classifier

from maskerlib.classifiers.classifier import Classifier
from maskerlib.masker.config import GIVEN, MaskerConfig
from maskerlib.masker.trained import Trained
from maskerlib.masker.training import train_masker
from maskerlib.masking.objectives import Objective

FIX = MaskerConfig(steps=20, batch_size=7, width=8, pool_every=3, classifier_lr=0.01, precision="fp32")
CA = dataclasses.replace(FIX, mode="CA")
CASES = {
    "FIX": FIX,
    "CA": CA,
    "CA, no pool": dataclasses.replace(CA, prob_historic=0.0),
    "CA, two steps a batch": dataclasses.replace(CA, classifier_steps=2, first_snapshot=1),
    "CA, soft coins, MinClass": dataclasses.replace(CA, mask="gumbel", objective=Objective(masked_out="min_class")),
    "noise": dataclasses.replace(FIX, infill="noise", infill_sides="out"),
    "asked of the hole": dataclasses.replace(FIX, infill="local_mean", infill_sides="in"),
    "regions": dataclasses.replace(FIX, regions=6),
    "asked for a size": dataclasses.replace(FIX, condition="size", objective=Objective(budget=10, size_in=0, size_out=0)),
    "told the class, all layers": dataclasses.replace(FIX, condition="class", layers=("stem", "stage")),
}


def train(config: MaskerConfig, classifier: Classifier | None = None, **options) -> Trained:
    return train_masker(classifier or tiny_classifier(), Squares(20), config, progress=False, **options)


def furthest(one: Trained, other: Trained) -> float:
    """The largest relative distance of a weight, a statistic or a row of the history."""
    pairs = [
        (part.state_dict()[name].double(), value.double())
        for part, whole in ((one.masker, other.masker), (one.classifier, other.classifier))
        for name, value in whole.state_dict().items()
    ]
    assert one.history.keys() == other.history.keys()
    pairs += [(torch.tensor(one.history[name]), torch.tensor(values)) for name, values in other.history.items()]
    return max(float((ours - theirs).norm() / theirs.norm().clamp(min=1e-12)) for ours, theirs in pairs)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("size", [1, 3, 6])
def test_the_weights_are_those_of_the_whole_batch(case, size):
    """Batch norm of the masker included: it would have other statistics in each part."""
    config = CASES[case]
    whole = train(config)
    assert furthest(train(dataclasses.replace(config, micro_batch=size)), whole) < 1e-5
    assert torch.equal(*(each.masker.head.weight for each in (train(dataclasses.replace(config, micro_batch=7)), whole)))


def test_another_batch_would_be_seen():
    assert furthest(train(dataclasses.replace(FIX, seed=1)), train(FIX)) > 1e-2


@pytest.mark.parametrize("config", [FIX, CA])
def test_the_classifier_never_sees_more_at_once(config):
    """Of the four kinds of pass, each is in parts: clean, and the two views; the pool's members judge in parts as well."""
    seen = []

    class Watched(TinyNet):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if torch.is_grad_enabled() or config.mode == "FIX":
                seen.append(len(x))
            return super().forward(x)

    def watched() -> Classifier:
        plain = tiny_classifier()
        network = Watched()
        network.load_state_dict(plain.network.state_dict())
        return Classifier(network, plain.layers, class_names=plain.class_names, input_size=plain.input_size).eval()

    train(dataclasses.replace(config, micro_batch=3), watched())
    parts = list(seen)
    seen.clear()
    train(config, watched())
    assert max(parts[-9:]) == 3 and sorted(set(parts[-9:])) == [1, 3] and max(seen[-3:]) == 7


def test_a_sigmoid_head_and_an_infill_of_one_s_own():
    def darker(images: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
        return images / 2

    for mode in ("FIX", "CA"):
        config = dataclasses.replace(FIX, mode=mode, infill=GIVEN)
        several = tiny_classifier()
        several.head = "sigmoid"
        whole = train(config, several, infill=darker)
        parts = train(dataclasses.replace(config, micro_batch=2), several, infill=darker)
        assert furthest(parts, whole) < 1e-5


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (0, "micro_batch=0 must be"),
        (2.5, "micro_batch=2.5"),
        (8, "micro_batch=8 with batch_size=7: a part of a batch is no larger than it; give 7 or fewer, or None"),
    ],
)
def test_a_size_that_makes_no_sense_is_named(size, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(FIX, micro_batch=size)


def test_a_configuration_without_it_is_what_it_was():
    content = FIX.to_json()
    assert content.pop("micro_batch") is None and MaskerConfig.from_json(content) == FIX
