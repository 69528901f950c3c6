"""Networks as they are written elsewhere: what works with them, and what is refused with the mend."""

import dataclasses
import functools
from collections.abc import Callable

import pytest
import torch
from tiny import COLOURS, SIZE, Squares, TinyNet, tiny_classifier
from torch import Tensor, nn
from torch.nn import functional as F

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.torchvision_networks import from_torchvision
from maskerlib.masker.config import MaskerConfig
from maskerlib.masker.pool import ClassifierPool
from maskerlib.masker.trained import load_trained
from maskerlib.masker.training import train_masker
from maskerlib.methods.grad_cam import grad_cam
from maskerlib.methods.optimise import optimise_mask
from maskerlib.metrics.evaluation import evaluate

FIX = MaskerConfig(steps=2, batch_size=4, width=4, precision="fp32")
CA = dataclasses.replace(FIX, mode="CA", pool_every=1)
IMAGES = torch.rand(2, 3, SIZE, SIZE)


class Plain(nn.Module):
    """Two convolutions, ReLU as a function, and `view` in front of the head: the network of most tutorials."""

    def __init__(self, classes: int = 4, end: Callable[[Tensor], object] = lambda z: z) -> None:
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)
        self.fc, self.end = nn.Linear(8 * 16, classes), end

    def forward(self, x: Tensor) -> object:
        x = F.relu(self.c2(F.relu(self.c1(x))))
        return self.end(self.fc(x.view(len(x), -1)))


def of(network: nn.Module, layers: tuple[str, ...] = ("c1", "c2"), **options) -> Classifier:
    return Classifier(network, layers, **{"input_size": (SIZE, SIZE), "name": "strange", **options}).eval()


def run_all(classifier: Classifier) -> None:
    """Everything that a network goes through; nothing is asserted but that it comes out finite."""
    assert optimise_mask(classifier, IMAGES, steps=2, grid=4).masks.isfinite().all()
    for config in (FIX, CA):
        assert train_masker(classifier, Squares(8, labelled=False), config, progress=False)(IMAGES).isfinite().all()
    assert grad_cam()(IMAGES, None, classifier).isfinite().all()


def test_a_network_that_views_what_a_convolution_returns():
    classifier = of(Plain())
    run_all(classifier)
    assert (
        classifier.memory_format == torch.contiguous_format and tiny_classifier().memory_format == torch.channels_last
    )


def test_one_logit_that_is_squeezed():
    run_all(of(Plain(1, end=lambda z: z.squeeze())))


def test_a_network_compiled_in_place_is_read():
    plain, network = of(Plain()), Plain()
    network.load_state_dict(plain.network.state_dict())
    network.compile(backend="eager")
    network.c1.compile(backend="eager")
    compiled = of(network)
    torch.testing.assert_close(compiled.activations(IMAGES)[1]["c1"], plain.activations(IMAGES)[1]["c1"])
    assert network._compiled_call_impl is not None and compiled.fingerprint() == plain.fingerprint()


def test_a_part_that_was_compiled_keeps_its_name_and_the_network_its_identity():
    plain, network = of(Plain()), Plain()
    network.load_state_dict(plain.network.state_dict())
    network.c2 = torch.compile(network.c2, backend="eager")
    compiled = of(network)
    assert compiled.fingerprint() == plain.fingerprint() and compiled.weights().keys() == plain.weights().keys()
    compiled.load_weights(of(Plain()).weights())
    assert compiled.fingerprint() != plain.fingerprint()


def test_what_a_network_keeps_does_not_stop_a_copy():
    class Keeps(Plain):
        def forward(self, x: Tensor) -> object:
            self.kept = super().forward(x)
            return self.kept

    network = Keeps()
    classifier = of(network)
    classifier(IMAGES.requires_grad_())
    assert network.kept.requires_grad
    assert classifier.copied().fingerprint() == classifier.fingerprint()
    IMAGES.requires_grad_(False)


def test_gradients_are_on_whatever_the_caller_has_switched_off():
    classifier, source = tiny_classifier(), Squares(8)
    for off in (torch.no_grad, torch.inference_mode):
        with off():
            train_masker(classifier, source, CA, progress=False)
            optimise_mask(classifier, IMAGES, steps=2, grid=4)


def test_versioned_weights_come_back_into_a_pool_member():
    classifier = from_torchvision("mnasnet0_5", class_names=("a", "b"))
    pool = ClassifierPool(classifier, every=1, historic=1.0)
    pool.remember(0, classifier)
    assert pool.draw(0).fingerprint() == classifier.fingerprint()


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_learns_in_single(kind):
    classifier = tiny_classifier().to(kind)
    trained = train_masker(classifier, Squares(8), dataclasses.replace(CA, classifier_lr=1e-4), progress=False)
    assert trained.classifier.dtype == torch.float32
    before, after = (each.network.state_dict() for each in (classifier.copied().float(), trained.classifier))
    moved = [bool((before[name] != after[name]).any()) for name in before if "weight" in name]
    assert all(moved)


def test_statistics_are_exact_in_double_precision():
    mean = (0.485, 0.456, 0.406)
    images = IMAGES.double()
    expected = (images - torch.tensor(mean, dtype=torch.float64).view(1, 3, 1, 1)).flatten(1)
    for classifier in (
        of(nn.Flatten(), (), mean=mean, std=(1.0,) * 3).double(),
        of(nn.Sequential(nn.Flatten()), (), mean=mean, std=(1.0,) * 3).double(),
    ):
        torch.testing.assert_close(classifier(images), expected, rtol=0, atol=1e-15)
    assert of(TinyNet().double(), ("stem",), mean=mean).mean.dtype == torch.float64


@pytest.mark.parametrize(
    "network, options, message",
    [
        (
            Plain(),
            {"input_size": (224, 224)},
            r"strange does not run on images of input_size=\(224, 224\) .*give the size that its network",
        ),
        (Plain(5), {"class_names": COLOURS}, "strange has 4 class names and returns 5 logits"),
        (Plain(end=lambda z: (z[:, :3], z)), {"class_names": COLOURS}, "has 4 class names and returns 3 logits"),
        (Plain(end=lambda z: z.detach()), {}, "no gradient of the logits of strange reaches the image"),
        (Plain(end=lambda z: z.softmax(1)), {"head": "sigmoid"}, "returns probabilities that add up to 1"),
        (Plain(end=lambda z: z.sigmoid().clamp(1e-6, 1 - 1e-6)), {"head": "sigmoid"}, "the result of a sigmoid"),
        (Plain(end=F.logsigmoid), {"head": "sigmoid"}, "the logarithm of probabilities of yes"),
    ],
)
def test_what_would_be_silently_wrong_is_refused(network, options, message):
    classifier = of(network, **options)
    for call in (
        lambda: optimise_mask(classifier, IMAGES, steps=1, grid=4),
        lambda: train_masker(classifier, Squares(8, labelled=False), FIX, progress=False),
    ):
        with pytest.raises(ValueError, match=message):
            call()


class TestTheSameWeightsAnotherQuestion:
    def test_another_head_output_or_order_of_classes_is_another_run(self, tmp_path):
        network = Plain(8)
        first, second = (
            of(network, class_names=COLOURS, output=take) for take in (lambda z: z[:, :4], lambda z: z[:, 4:])
        )
        train_masker(first, Squares(8), FIX, folder=tmp_path, progress=False)
        load_trained(tmp_path, of(network, class_names=COLOURS, output=lambda z: z[:, 0:4]))
        for other in (second, of(network, class_names=COLOURS[::-1], output=first.output)):
            with pytest.raises(ValueError, match="another head, other classes or another output"):
                load_trained(tmp_path, other)
            with pytest.raises(ValueError, match="holds a finished masker of another run"):
                train_masker(other, Squares(8), FIX, folder=tmp_path, progress=False)


def test_a_wrapped_masker_is_asked_about_its_own_classifier():
    trained = train_masker(tiny_classifier(seed=1), Squares(8), CA, progress=False)
    methods = {"partial": functools.partial(trained), "bound": trained.__call__}
    table = evaluate(methods, Squares(8), tiny_classifier())
    for name in methods:
        assert table.attrs["explained"][name]["fingerprint"] == trained.classifier.fingerprint()


class Tokens(nn.Module):
    """A transformer of 4 x 4 patches and two registers, before them, behind them, or with the patches dealt out anew."""

    def __init__(self, order: str) -> None:
        super().__init__()
        self.patches, self.block, self.order = (
            nn.Conv2d(3, 12, 4, 4),
            nn.Sequential(nn.LayerNorm(12), nn.Linear(12, 12)),
            order,
        )
        self.head = nn.Linear(12, 4)
        self.register_buffer("dealt", torch.randperm(16, generator=torch.Generator().manual_seed(1)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        registers = x.new_zeros(len(x), 2, 12)
        x = x[:, self.dealt] if self.order == "dealt" else x
        x = torch.cat([x, registers] if self.order == "behind" else [registers, x], dim=1)
        return self.head(self.block(x).mean(dim=1))


class TestReading:
    @pytest.mark.parametrize("order", ["before", "behind", "dealt"])
    def test_tokens_have_to_lie_row_by_row_behind_the_others(self, order):
        classifier = of(Tokens(order), ("block",))
        if order == "before":
            touched = IMAGES.clone()
            touched[:, :, 4:8, 12:16] += 0.3
            moved = (classifier.activations(touched)[1]["block"] - classifier.activations(IMAGES)[1]["block"]).norm(
                dim=1
            )
            assert int(moved[0].argmax()) == 1 * 4 + 3
        else:
            with pytest.raises(RuntimeError, match="its tokens do not lie row by row"):
                classifier.activations(IMAGES)
            stated = of(
                Tokens(order),
                ("block",),
                layouts={"block": lambda tokens: tokens[:, 2:].transpose(1, 2).unflatten(2, (4, 4))},
            )
            assert stated.activations(IMAGES)[1]["block"].shape == (2, 12, 4, 4)

    def test_windows_are_no_maps_of_the_images(self):
        class Windows(Plain):
            def __init__(self) -> None:
                super().__init__()
                self.inside = nn.Identity()

            def forward(self, x: Tensor) -> object:
                self.inside(x.unflatten(3, (2, 8)).permute(0, 3, 1, 2, 4).flatten(0, 1))
                return super().forward(x)

        with pytest.raises(
            RuntimeError, match=r"layer 'inside' of strange returns \(4, 3, 16, 8\) for 2 images, not a row for each"
        ):
            of(Windows(), ("inside",)).activations(IMAGES)

    def test_a_convolution_returns_maps_whatever_its_shape_leaves_open(self):
        network = nn.Sequential(nn.Conv2d(3, SIZE, 3, padding=1), nn.Flatten(), nn.Linear(SIZE**3, 4))
        classifier = of(network, ("0",))
        assert torch.equal(classifier.activations(IMAGES)[1]["0"], network[0]((IMAGES - 0.5) / 0.5))
