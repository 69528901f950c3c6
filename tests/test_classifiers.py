"""Classifiers: what they show of their layers, and who they are."""

from dataclasses import dataclass

import pytest
import torch
from tiny import SIZE, TinyNet, tiny_classifier
from torch import nn

from maskerlib.classifiers.classifier import Classifier, frozen


def hooks(module: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


def state(module: nn.Module) -> list[object]:
    """Everything that looking at a module must not change."""
    values = {name: value.clone() for name, value in module.state_dict().items()}
    return [
        {name: value.numpy().tobytes() for name, value in values.items()},
        [part.training for part in module.modules()],
        [weight.requires_grad for weight in module.parameters()],
    ]


class TestActivations:
    def test_equal_a_manual_forward(self, device):
        classifier = tiny_classifier().to(device)
        images = torch.rand(3, 3, SIZE, SIZE, device=device)
        logits, seen = classifier.activations(images)
        network = classifier.network
        stem = network.stem((images - 0.5) / 0.5)
        stage = network.stage(stem)
        assert list(seen) == ["stem", "stage"]
        for ours, expected in ((seen["stem"], stem), (seen["stage"], stage), (logits, classifier(images))):
            torch.testing.assert_close(ours, expected, rtol=0, atol=0)
        torch.testing.assert_close(logits, network.head(stage.mean(dim=(2, 3))), rtol=0, atol=0)

    def test_are_detached_while_the_logits_are_not(self):
        logits, seen = tiny_classifier().activations(torch.rand(1, 3, SIZE, SIZE))
        assert logits.requires_grad and not any(value.requires_grad for value in seen.values())

    def test_work_without_gradients_and_in_inference_mode(self):
        classifier, images = tiny_classifier(), torch.rand(2, 3, SIZE, SIZE)
        expected = classifier.activations(images)
        for context in (torch.no_grad, torch.inference_mode):
            with context():
                logits, seen = classifier.activations(images.clone())
            assert not logits.requires_grad
            torch.testing.assert_close((logits, seen), (expected[0].detach(), expected[1]), rtol=0, atol=0)

    @pytest.mark.parametrize("context", [torch.enable_grad, torch.no_grad, torch.inference_mode])
    def test_an_output_that_is_overwritten_in_place_is_refused(self, context):
        classifier = Classifier(TinyNet(inplace=True), ("stem", "stage.1"), input_size=(SIZE, SIZE))
        with (
            context(),
            pytest.raises(RuntimeError, match=r"'stage\.1' of classifier is overwritten in place .*inplace=False"),
        ):
            classifier.activations(torch.rand(2, 3, SIZE, SIZE))
        classifier = Classifier(TinyNet(inplace=True), ("stem", "stage"), input_size=(SIZE, SIZE))
        with context():
            classifier.activations(torch.rand(2, 3, SIZE, SIZE))  # the ReLU itself may be in place

    @pytest.mark.parametrize("fails", [False, True])
    def test_leave_no_hook(self, fails):
        classifier = tiny_classifier(layers=("stem", "stage", "head") if fails else ("stem", "stage"))
        if fails:
            with pytest.raises(RuntimeError, match="'head' of tiny does not return maps: its output has no grid"):
                classifier.activations(torch.rand(1, 3, SIZE, SIZE))
        else:
            classifier.activations(torch.rand(1, 3, SIZE, SIZE))
        assert hooks(classifier) == 0

    def test_a_layer_that_does_not_run_is_named(self):
        network = TinyNet()
        network.spare = nn.Conv2d(3, 3, 1)
        with pytest.raises(RuntimeError, match="'spare' of classifier did not run"):
            Classifier(network, ("stem", "spare")).activations(torch.rand(1, 3, SIZE, SIZE))


class TestClassifier:
    def test_an_unknown_layer_is_named_with_those_that_exist(self):
        with pytest.raises(
            ValueError,
            match=r"layer 'stages' is not in mine; did you mean 'stage'.*\? choose from stem, stem\.0, .*stage, .*head",
        ):
            Classifier(TinyNet(), ("stem", "stages"), name="mine")

    @pytest.mark.parametrize(
        "statistics", [{"mean": (0.5,)}, {"std": (0.5, 0.5)}, {"std": (0.5, 0, 0.5)}, {"mean": (), "std": ()}]
    )
    def test_statistics_of_the_wrong_kind_are_refused(self, statistics):
        with pytest.raises(ValueError, match="need one number a channel each, std above 0"):
            Classifier(TinyNet(), (), **statistics)

    @pytest.mark.parametrize(
        "images",
        [
            torch.rand(3, 8, 8),
            torch.rand(1, 1, 8, 8),
            torch.rand(1, 4, 8, 8),
            torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
        ],
    )
    def test_other_images_are_refused(self, images):
        with pytest.raises(ValueError, match=r"images have shape .* and dtype .*, expected \(B, 3, H, W\) of floats"):
            tiny_classifier()(images)

    def test_normalises_per_channel_and_returns_float32(self):
        mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 0.125)
        classifier = Classifier(nn.Flatten(), (), mean=mean, std=std)
        image = torch.tensor([0.6, 0.6, 0.6], dtype=torch.float64).view(1, 3, 1, 1)
        torch.testing.assert_close(classifier(image), torch.tensor([[1.0, 1.6, 2.4]]))

    def test_fingerprint_follows_weights_buffers_and_normalisation_alone(self):
        def changed(change) -> str:
            classifier = tiny_classifier()
            with torch.no_grad():
                change(classifier)
            return classifier.fingerprint()

        base = tiny_classifier().fingerprint()
        assert base == changed(lambda c: c.train().requires_grad_(False).to(memory_format=torch.channels_last))
        assert base == changed(lambda c: setattr(c, "name", "tiny2"))
        others = [
            changed(lambda c: c.network.head.bias[1].add_(1e-6)),
            changed(lambda c: c.network.stem[1].running_mean[0].add_(1e-6)),
            changed(lambda c: c.mean.add_(1e-6)),
            tiny_classifier(seed=1).fingerprint(),
        ]
        assert len({base, *others}) == 5

    def test_layer_channels_leaves_everything_as_it_was(self):
        classifier = tiny_classifier().train()
        classifier.network.stem.eval()
        classifier.network.head.bias.requires_grad_(False)
        before = state(classifier)
        assert classifier.layer_channels() == {"stem": 4, "stage": 6}
        assert state(classifier) == before and hooks(classifier) == 0

    def test_class_count_is_that_of_the_logits_and_leaves_everything_as_it_was(self, device):
        for count in (1, 4, 7):
            classifier = Classifier(TinyNet(count), (), class_names="ab", input_size=(12, 20)).train().to(device)
            classifier.network.stem.eval()
            classifier.network.head.bias.requires_grad_(False)
            before = state(classifier.cpu())
            assert classifier.to(device).class_count() == max(
                count, 2
            )  # whatever names there are; one logit is yes or no
            assert state(classifier.cpu()) == before and hooks(classifier) == 0

    def test_class_names(self):
        classifier = tiny_classifier()
        assert [classifier.class_name(i) for i in (0, 3, 4)] == ["red", "white", "class 4"]

    def test_frozen_restores_after_an_exception(self):
        classifier = tiny_classifier().train()
        classifier.network.stage.eval().requires_grad_(False)
        before = state(classifier)
        with pytest.raises(KeyError), frozen(classifier):
            assert not any(part.training for part in classifier.modules())
            assert not any(weight.requires_grad for weight in classifier.parameters())
            raise KeyError
        assert state(classifier) == before


class Returns(nn.Module):
    """A network that wraps its logits in something."""

    def __init__(self, wrap) -> None:
        super().__init__()
        self.inside, self.wrap = TinyNet(), wrap

    def forward(self, x: torch.Tensor):
        return self.wrap(self.inside(x))


@dataclass
class ModelOutput:
    loss: None
    logits: torch.Tensor


IMAGES = torch.rand(2, 3, SIZE, SIZE)


class TestOutputs:
    @pytest.mark.parametrize(
        "wrap, output",
        [
            (lambda z: (z, 2 * z), None),
            (lambda z: [None, z], None),
            (lambda z: {"features": 2 * z, "logits": z}, None),
            (lambda z: ModelOutput(None, z), None),
            (lambda z: {"scores": z}, lambda returned: returned["scores"]),
            (lambda z: z[..., None, None], lambda returned: returned.flatten(1)),
        ],
    )
    def test_logits_are_found_where_they_are(self, wrap, output):
        network = Returns(wrap).eval()
        found = Classifier(network, ("inside.stem",), input_size=(SIZE, SIZE), output=output)
        assert torch.equal(found(IMAGES), network.inside((IMAGES - 0.5) / 0.5))
        assert torch.equal(found.activations(IMAGES)[0], found(IMAGES))

    @pytest.mark.parametrize(
        "wrap, message",
        [
            (lambda z: {"scores": z}, "returns no logits but dict with scores; say where they are with output="),
            (lambda z: None, "returns no logits but NoneType"),
            (lambda z: z[..., None], r"returns \(2, 4, 1\) for 2 images, expected logits \(B, classes\)"),
            (lambda z: z[:1], r"returns \(1, 4\) for 2 images"),
        ],
    )
    def test_what_are_no_logits_is_named(self, wrap, message):
        with pytest.raises(ValueError, match=message):
            Classifier(Returns(wrap))(IMAGES)

    @pytest.mark.parametrize("wrap", [lambda z: z[:, :1], lambda z: z[:, 0]])
    def test_one_logit_is_a_yes_or_no(self, wrap):
        network = Returns(wrap).eval()
        classifier = Classifier(network, class_names=("no", "yes"), input_size=(SIZE, SIZE))
        z = network.inside((IMAGES - 0.5) / 0.5)[:, 0]
        torch.testing.assert_close(classifier(IMAGES).softmax(dim=1)[:, 1], z.sigmoid())
        assert classifier.predicted(classifier(IMAGES)).tolist() == (z > 0).long().tolist()
        assert classifier.class_count() == 2

    def test_a_sigmoid_head_asks_of_each_class_for_itself(self):
        classifier = Classifier(TinyNet(), head="sigmoid")
        logits, targets = torch.tensor([[3.0, -1.0, 2.0, 0.0], [1.0, 5.0, -2.0, 4.0]]), torch.tensor([2, 2])
        assert classifier.right(logits, targets).tolist() == [True, False]
        torch.testing.assert_close(
            classifier.log_probability(logits, targets), torch.tensor([2.0, -2.0]).sigmoid().log()
        )
        softmax = Classifier(TinyNet())
        assert softmax.right(logits, torch.tensor([0, 1])).tolist() == [True, True]
        torch.testing.assert_close(softmax.log_probability(logits, targets), logits.log_softmax(dim=1)[:, 2])
        with pytest.raises(ValueError, match="head='tanh' is unknown; choose one of softmax, sigmoid"):
            Classifier(TinyNet(), head="tanh")


class TestInputs:
    @pytest.mark.parametrize("channels", [1, 4])
    def test_networks_of_other_channels(self, channels):
        network = nn.Sequential(nn.Conv2d(channels, 4, 3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        classifier = Classifier(network, ("0",), mean=(0.4,) * channels, std=(0.2,) * channels, input_size=(SIZE, SIZE))
        assert classifier.channels == channels and classifier.layer_channels() == {"0": 4}
        with pytest.raises(ValueError, match=rf"expected \(B, {channels}, H, W\)"):
            classifier(IMAGES)

    @pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16, torch.float16])
    def test_the_network_says_which_kind_of_number_it_takes(self, kind):
        expected = tiny_classifier()(IMAGES)
        classifier = tiny_classifier().to(kind)
        for images in (IMAGES, IMAGES.double()):
            found = classifier(images)
            assert found.dtype == (torch.float64 if kind == torch.float64 else torch.float32)
            torch.testing.assert_close(found.float(), expected, atol=0.15 if kind != torch.float64 else 1e-5, rtol=0.05)

    def test_float64_images_are_computed_in_float64_to_the_last_digit(self):
        images, classifier = IMAGES.double() + 1e-12, tiny_classifier().double()
        assert not torch.equal(classifier(images), classifier(images - 1e-12))


class TestWrappers:
    @staticmethod
    def wrapped() -> dict[str, nn.Module]:
        network = tiny_classifier().network
        compiled = torch.compile(network, backend="eager")
        return {"compiled": compiled, "parallel": nn.DataParallel(network), "both": nn.DataParallel(compiled)}

    @pytest.mark.parametrize("kind", ["compiled", "parallel", "both"])
    def test_layers_keep_their_names_and_the_classifier_its_identity(self, kind):
        plain = tiny_classifier()
        classifier = Classifier(
            self.wrapped()[kind], ("stem", "stage"), class_names=plain.class_names, input_size=(SIZE, SIZE)
        ).eval()
        assert classifier.fingerprint() == plain.fingerprint()
        for found, expected in zip(classifier.activations(IMAGES), plain.activations(IMAGES), strict=True):
            torch.testing.assert_close(found, expected)
        torch.testing.assert_close(classifier(IMAGES), plain(IMAGES))
        assert classifier.weights().keys() == plain.state_dict().keys()

    @pytest.mark.parametrize("kind", ["compiled", "parallel"])
    def test_a_copy_is_the_network_alone_and_shares_nothing(self, kind):
        classifier = Classifier(self.wrapped()[kind], ("stem", "stage"), input_size=(SIZE, SIZE)).eval()
        copy = classifier.copied()
        assert type(copy.network) is TinyNet and copy.fingerprint() == classifier.fingerprint()
        with torch.no_grad():
            copy.network.head.weight.add_(1)
        assert copy.fingerprint() != classifier.fingerprint()
        classifier.load_weights(copy.weights())
        assert copy.fingerprint() == classifier.fingerprint()
