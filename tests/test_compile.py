"""`train_masker(compile=...)`: the judged views run compiled, the weights are the same, and nothing stays compiled."""

import shutil

import pytest
import torch
from tiny import Squares, tiny_classifier
from torch._dynamo.utils import counters

from maskerlib.classifiers.networks import compiled
from maskerlib.masker.config import MaskerConfig
from maskerlib.masker.trained import Trained
from maskerlib.masker.training import train_masker

pytestmark = pytest.mark.filterwarnings("ignore")  # the compiler's own, which would be errors within it
CONFIG = MaskerConfig(steps=8, batch_size=6, width=8, pool_every=2, classifier_lr=0.01, precision="fp32")
CONFIGS = {"FIX": CONFIG, "CA": MaskerConfig.from_json({**CONFIG.to_json(), "mode": "CA"})}


@pytest.fixture(autouse=True)
def _forget():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def train(mode: str, **options) -> Trained:
    return train_masker(tiny_classifier(), Squares(12), CONFIGS[mode], progress=False, **options)


def furthest(one: Trained, other: Trained) -> float:
    ours = [*one.masker.state_dict().values(), *one.classifier.state_dict().values()]
    theirs = [*other.masker.state_dict().values(), *other.classifier.state_dict().values()]
    return max(float((a.double() - b).norm() / b.double().norm().clamp(min=1e-12)) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("mode", CONFIGS)
def test_the_weights_are_the_same(mode):
    trained = train(mode, compile="aot_eager")
    assert counters["stats"]["unique_graphs"] > 0  # something was compiled
    assert furthest(trained, train(mode)) < 1e-5
    assert not any(part._compiled_call_impl for part in trained.classifier.modules())


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="no compiler")
def test_inductor_compiles_a_classifier_that_learns():
    assert furthest(train("CA", compile="inductor"), train("CA")) < 1e-5


def test_the_views_go_through_the_backend_and_the_clean_pass_does_not():
    seen = []

    def backend(graph, examples):
        seen.append([tuple(each.shape) for each in examples if isinstance(each, torch.Tensor) and each.dim() == 4])
        return graph.forward

    classifier = tiny_classifier()
    classifier.network.compile(backend=backend)
    images = torch.rand(2, 3, 16, 16)
    clean = classifier.activations(images)[0]
    assert not seen
    torch.testing.assert_close(classifier(images), clean)
    assert seen
    with compiled([classifier.network], "eager"):
        inside = classifier.network._compiled_call_impl
    assert classifier.network._compiled_call_impl is not inside  # what was there before is there again


def test_an_unknown_backend_is_named():
    with pytest.raises(ValueError, match=r"^compile='indukter' is no backend of torch\.compile; choose one of .*inductor"):
        train("FIX", compile="indukter")
