"""Real-time saliency: the decoder, its class selector, and a run of both phases."""

import dataclasses
import json
import math

import pytest
import torch
from tiny import COLOURS, SIZE, Squares, snapshot, tiny_classifier
from torch import Tensor, nn
from torch.nn import functional as F

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.scene_resnet import scene_resnet
from maskerlib.course.explorer_pictures import layer_picture
from maskerlib.masker import real_time_training
from maskerlib.masker.config import MaskerConfig
from maskerlib.masker.decoder import Decoder, decoder_for
from maskerlib.masker.network import masker_method
from maskerlib.masker.real_time import RealTimeConfig
from maskerlib.masker.real_time_training import asked_for, train_real_time
from maskerlib.masker.run import step_crops
from maskerlib.masker.trained import Trained, load_trained
from maskerlib.masker.training import train_masker
from maskerlib.masking.margins import MarginObjective
from maskerlib.methods.registry import method_named
from maskerlib.metrics.evaluation import evaluate
from maskerlib.running.files import load_checkpoint, read_json, save_checkpoint
from maskerlib.running.seeds import stream
from maskerlib.training.classifier import ClassifierConfig, train_classifier

FAST = RealTimeConfig(
    selector_steps=3, steps=3, batch_size=6, width=4, precision="fp32", checkpoint_every=1, crop_scale=(0.5, 1.0)
)
IMAGES = Squares(6, seed=1).images


def train(
    config: RealTimeConfig = FAST, classifier: Classifier | None = None, source: Squares | None = None, **options
) -> Trained:
    return train_real_time(classifier or tiny_classifier(), source or Squares(), config, progress=False, **options)


def state(*modules: nn.Module) -> list[Tensor]:
    return [value.clone() for module in modules for value in module.state_dict().values()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


class TestDecoder:
    def test_of_a_layer_that_is_finer_than_a_quarter_it_reads_nothing(self):
        """48, 24, 24, 12 and 6 cells of 96 pixels: the deeper of the two that share a grid, and those below."""
        decoder = decoder_for(scene_resnet("abcd"), width=16)
        assert decoder.layers == ("stage2", "stage3", "stage4") and decoder.zoom == 4
        assert [up.finer[0].out_channels for up in decoder.up] == [32 * 4, 16 * 4]
        assert decoder.embed.weight.shape == (4, 192) and decoder.head.weight.shape == (2, 16, 1, 1)

    def test_with_less_than_two_such_layers_it_reads_all(self):
        decoder = decoder_for(tiny_classifier())
        assert decoder.layers == ("stem", "stage") and decoder.zoom == 2

    @pytest.mark.parametrize("size", [(16, 16), (20, 28), (23, 17)])
    def test_masks_of_any_size(self, size, device):
        classifier = tiny_classifier().to(device)
        draw = masker_method(decoder_for(classifier, width=4).to(device).eval())
        masks = draw(torch.rand(2, 3, *size, device=device), [0, 3], classifier)
        assert masks.shape == (2, 1, *size) and masks.device.type == device.type
        assert masks.dtype == torch.float32 and 0 <= masks.min() and masks.max() <= 1 and masks.std() > 0

    def test_a_network_of_tokens_has_steps_that_do_not_climb(self):
        class Tokens(nn.Module):
            def __init__(self):
                super().__init__()
                self.patch = nn.Conv2d(3, 8, 4, 4)
                self.one, self.two = (nn.Conv2d(8, 8, 3, 1, 1) for _ in range(2))
                self.head = nn.Linear(8, 3)

            def forward(self, x):
                return self.head(self.two(self.one(self.patch(x)).relu()).relu().mean(dim=(2, 3)))

        classifier = Classifier(Tokens().eval(), ("one", "two"), input_size=(16, 16))
        decoder = decoder_for(classifier, width=4)
        assert decoder.layers == ("one", "two") and decoder.zoom == 4
        assert masker_method(decoder.eval())(torch.rand(2, 3, 16, 16), 1, classifier).shape == (2, 1, 16, 16)

    def test_forward_by_hand(self):
        """One layer: features times the sigmoid of their product with the embedding, a 1 x 1 convolution, |a| / (|a| + |b|)."""
        torch.manual_seed(0)
        decoder = Decoder({"deep": 3}, (), classes=2, zoom=2, confidence=1.5).eval()
        features, classes = torch.randn(2, 3, 2, 2), torch.tensor([1, 0])
        product = torch.einsum("bchw,bc->bhw", features, decoder.embed.weight[classes])[:, None]
        torch.testing.assert_close(decoder.similarity({"deep": features}, classes), product)
        torch.testing.assert_close(decoder.presence({"deep": features}, classes), product.mean(dim=(1, 2, 3)))
        for mode, confidence in ((False, 1.5), (True, 0.0)):
            filtered = features * (product - confidence).sigmoid()
            a, b = F.conv2d(filtered, decoder.head.weight, decoder.head.bias).abs().split(1, dim=1)
            expected = F.interpolate(a / (a + b), scale_factor=2, mode="bilinear", align_corners=False)
            torch.testing.assert_close(decoder.train(mode)({"deep": features}, classes).sigmoid(), expected)

    def test_a_step_up_by_hand(self):
        torch.manual_seed(0)
        decoder = Decoder({"shallow": 2, "deep": 3}, (2,), classes=2, width=4).eval()
        (up,) = decoder.up
        deep, shallow = torch.randn(1, 3, 2, 2), torch.randn(1, 2, 4, 4)
        finer = F.pixel_shuffle(F.conv2d(deep, up.finer[0].weight, padding=1) / (1 + 1e-5) ** 0.5, 2).relu()
        both, block = torch.cat([finer, shallow], dim=1), up.beside
        expected = (block.inside(both) + F.conv2d(both, block.shortcut.weight, block.shortcut.bias)).relu()
        torch.testing.assert_close(up(deep, shallow), expected)

    def test_a_share_of_0_or_1_has_a_finite_logit_and_no_share_no_nan(self):
        decoder = Decoder({"deep": 2}, (), classes=1)
        nn.init.zeros_(decoder.head.bias)
        with torch.no_grad():
            decoder.head.weight.copy_(torch.eye(2)[:, :, None, None])
            decoder.embed.weight.zero_()
        features = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]).view(1, 2, 1, 3)
        logits = decoder({"deep": features}, torch.tensor([0]))
        assert logits.isfinite().all() and logits.sigmoid().flatten().tolist() == pytest.approx([1, 0, 0], abs=1e-5)
        logits.sum().backward()
        assert decoder.head.weight.grad.isfinite().all()

    def test_the_weights_follow_from_the_seed(self):
        one, again, other = (decoder_for(tiny_classifier(), seed=seed) for seed in (0, 0, 1))
        assert same(state(one), state(again)) and not same(state(one), state(other))
        wide = decoder_for(scene_resnet([str(number) for number in range(300)]))
        assert wide.embed.weight.std().item() == pytest.approx(192**-0.5, rel=0.02)

    def test_what_cannot_be_read_is_named(self):
        classifier = tiny_classifier()
        with pytest.raises(ValueError, match="layer 'head' is not read from tiny; choose from stem, stage"):
            decoder_for(classifier, ["stem", "head"])
        with pytest.raises(ValueError, match="tiny names no layers to read"):
            decoder_for(tiny_classifier(layers=()))
        with pytest.raises(ValueError, match="at least one layer"):
            decoder_for(classifier, [])
        decoder, (_, activations) = decoder_for(classifier), classifier.activations(IMAGES)
        with pytest.raises(ValueError, match="condition='class' needs conditioning"):
            decoder(activations)
        del activations["stem"]
        with pytest.raises(ValueError, match="layer 'stem' is not among the activations"):
            decoder(activations, torch.zeros(6, dtype=torch.int64))


class TestFakes:
    def test_as_many_as_asked_for_and_every_other_class_alike(self):
        labels = torch.full((9000,), 2)
        asked = asked_for(labels, 4, 0.3, stream(0, "fakes"))
        shares = asked.bincount(minlength=4) / 9000
        assert shares.tolist() == pytest.approx([0.1, 0.1, 0.7, 0.1], abs=0.015)
        assert torch.equal(asked_for(labels, 4, 0.0, stream(0, "fakes")), labels)
        assert not (asked_for(labels, 4, 1.0, stream(0, "fakes")) == labels).any()


class TestRun:
    def test_the_classifier_is_left_as_it_was(self):
        classifier = tiny_classifier().train()
        before = snapshot(classifier)
        trained = train(classifier=classifier)
        after = snapshot(classifier)
        assert same(list(after.pop("state").values()), list(before.pop("state").values()))
        assert {**after, "grads": None} == {**before, "grads": None} and all(grad is None for grad in after["grads"])
        assert same(state(trained.classifier.network), state(classifier.network))

    def test_the_selector_learns_first_and_then_all_else(self, tmp_path):
        start = FAST.new_masker(tiny_classifier())
        trained = train()
        whole, first = train(dataclasses.replace(FAST, steps=1)), start.state_dict()
        for name, value in trained.masker.state_dict().items():
            if name.startswith("embed."):
                assert not torch.equal(value, first[name])
                assert torch.equal(value, whole.masker.state_dict()[name])  # further steps of the decoder leave it
            elif value.is_floating_point():
                assert not torch.equal(value, first[name]), name
        history = trained.history
        assert len(history["selector"]) == len(history["selector right"]) == 3
        assert {len(history[name]) for name in ("objective", "destroy", "preserve", "size", "smooth", "area")} == {3}
        assert history["objective"][1] == pytest.approx(
            sum(history[name][1] for name in ("destroy", "preserve", "size", "smooth")), rel=1e-5
        )

    def test_without_steps_of_its_own_the_selector_stays_as_it_was_drawn(self):
        config = dataclasses.replace(FAST, selector_steps=0)
        trained = train(config)
        assert torch.equal(trained.masker.embed.weight, config.new_masker(tiny_classifier()).embed.weight)
        assert "selector" not in trained.history

    def test_one_step_of_the_second_phase_has_the_gradient_of_the_plain_objective(self, monkeypatch):
        """Without noise, with a grey infill: the sum of the terms in one graph."""
        monkeypatch.setattr(real_time_training, "blur_or_colour", lambda: lambda images, mean: mean)
        config = dataclasses.replace(
            FAST, selector_steps=0, steps=1, crop_scale=(1.0, 1.0), objective=MarginObjective(noise=0), weight_decay=0.0
        )
        seen = []

        def step(adam):
            seen.append([weight.grad.clone() for weight in adam.param_groups[0]["params"]])

        monkeypatch.setattr(torch.optim.Adam, "step", step)
        classifier, source, batches = tiny_classifier(), Squares(), []
        batch = source.batch
        monkeypatch.setattr(source, "batch", lambda indices: batches.append(batch(indices)) or batches[-1])
        train(config, classifier, source)
        labels = batches[-1].labels
        pictures = real_time_training.apply_crops(batches[-1].images, step_crops(config, 0))
        asked = asked_for(labels, 4, 0.3, stream(0, "fakes", 0))
        decoder = config.new_masker(classifier).train()
        mask = decoder(classifier.activations(pictures)[1], asked).sigmoid()
        frozen = tiny_classifier().requires_grad_(False)
        terms = config.objective.terms(
            frozen, pictures, mask, labels, asked == labels, frozen.mean, lambda images, mean: mean
        )
        sum(term.mean() for _, term in terms).backward()
        rest = [weight.grad for name, weight in decoder.named_parameters() if name != "embed.weight"]
        assert len(seen) == 1 and max(float(gradient.abs().max()) for gradient in rest) > 1e-2
        for ours, expected in zip(seen[0], rest, strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-5)

    def test_the_rate_of_the_selector_falls_and_that_of_the_decoder_stays(self, monkeypatch):
        rates = []
        monkeypatch.setattr(torch.optim.Adam, "step", lambda adam: rates.append(adam.param_groups[0]["lr"]))
        train(dataclasses.replace(FAST, selector_steps=17, steps=2, lr=1.0))
        assert rates == pytest.approx([1.0] * 8 + [0.1] * 8 + [0.01] + [1.0] * 2)

    def test_the_seed_decides_bit_for_bit(self):
        one, again, other = train(), train(), train(dataclasses.replace(FAST, seed=1))
        assert same(state(one.masker), state(again.masker)) and one.history == again.history
        assert not same(state(one.masker), state(other.masker))

    @pytest.mark.parametrize("head", ["softmax", "sigmoid"])
    def test_any_head(self, head):
        network = tiny_classifier().network
        classifier = Classifier(network, ("stem", "stage"), input_size=(SIZE, SIZE), head=head, class_names=COLOURS)
        assert math.isfinite(train(classifier=classifier).history["objective"][-1])

    def test_a_classifier_of_one_class_is_refused(self):
        network = tiny_classifier().network
        network.head = nn.Linear(6, 1)
        classifier = Classifier(network.eval(), ("stem", "stage"), input_size=(SIZE, SIZE), head="sigmoid", name="one")
        with pytest.raises(ValueError, match="one has one class; a selector needs two"):
            train(classifier=classifier, source=Squares(labelled=False))

    def test_it_trains_on_the_device(self, device):
        assert train(device=device)(IMAGES.to(device), 0).device.type == device.type


@pytest.mark.parametrize(
    ("trains", "config", "message"),
    [
        (train_masker, FAST, r"config=RealTimeConfig\(.* is of type RealTimeConfig, expected MaskerConfig; .*train_real_time$"),
        (train_real_time, MaskerConfig(), "type MaskerConfig, expected RealTimeConfig; that one is for train_masker$"),
        (train_masker, {"mode": "FIX"}, r"config=\{'mode': 'FIX'\} .* type dict, expected .* or read it, MaskerConfig.from_json"),
        (train_masker, ClassifierConfig(), "type ClassifierConfig, expected MaskerConfig; make one"),
        (train_masker, None, "config=None is of type NoneType, expected MaskerConfig"),
        (train_real_time, {}, "type dict, expected RealTimeConfig"),
    ],
)
def test_a_configuration_of_another_training_is_refused_before_anything_is_written(trains, config, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        trains(tiny_classifier(), Squares(6), config, folder=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


class TestFolder:
    def test_a_killed_run_goes_on_in_either_phase_and_ends_like_one_that_was_not(self, tmp_path, monkeypatch):
        expected, calls = train(), []

        def counted(plain):
            def step(*arguments):
                calls.append(plain)
                if len(calls) in (2, 6):
                    raise KeyboardInterrupt
                return plain(*arguments)

            return step

        for name in ("_select", "_judge"):
            monkeypatch.setattr(real_time_training, name, counted(getattr(real_time_training, name)))
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                train(folder=tmp_path)
            assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
        trained = train(folder=tmp_path)
        assert len(calls) == 6 + 2 and trained.history == expected.history
        assert same(state(trained.masker), state(expected.masker))

    def test_it_is_loaded_and_not_repeated(self, tmp_path, monkeypatch):
        trained = train(folder=tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "config.json",
            "history.json",
            "masker.pt",
            "provenance.json",
        ]
        assert RealTimeConfig.from_json(read_json(tmp_path / "config.json")) == FAST
        monkeypatch.setattr(real_time_training, "run_steps", None)  # calling it would be an error
        for again in (
            train(folder=tmp_path),
            load_trained(tmp_path, tiny_classifier()),
            method_named(f"masker:{tmp_path}", tiny_classifier()),
        ):
            assert isinstance(again, Trained) and isinstance(again.masker, Decoder) and again.config == FAST
            assert again.history == trained.history
            for targets in (None, 2, "red", [0, 1, 2, 3, 0, 1]):
                assert torch.equal(again(IMAGES, targets), trained(IMAGES, targets))

    def test_another_run_or_classifier_is_refused(self, tmp_path):
        train(folder=tmp_path)
        with pytest.raises(ValueError, match="holds a finished masker of another run"):
            train(dataclasses.replace(FAST, seed=1), folder=tmp_path)
        with pytest.raises(ValueError, match="holds a finished masker of another run"):
            train_masker(tiny_classifier(), Squares(), MaskerConfig(), folder=tmp_path, progress=False)
        with pytest.raises(ValueError, match="was trained on classifier tiny"):
            load_trained(tmp_path, tiny_classifier(seed=1))

    def test_a_kind_of_a_later_version_is_named(self, tmp_path):
        train(folder=tmp_path)
        content = load_checkpoint(tmp_path / "masker.pt")
        content["config"]["kind"] = "diffusion"
        save_checkpoint(tmp_path / "masker.pt", content)
        with pytest.raises(ValueError, match=r"masker\.pt holds a masker of kind 'diffusion', which this version does"):
            load_trained(tmp_path, tiny_classifier())

    def test_it_is_evaluated(self):
        table = evaluate({"real-time": train()}, Squares(4), tiny_classifier())
        assert math.isfinite(float(table.loc["real-time", "F1"]))

    def test_the_layer_explorer_says_that_it_does_not_add_up(self):
        with pytest.raises(ValueError, match="a Decoder does not add up what its layers say"):
            layer_picture(train(), IMAGES[0], "stem")


class TestConfig:
    def test_round_trip(self):
        changed = RealTimeConfig(
            layers=["stem"], width=8, objective=MarginObjective(area=3, lose=2.5), selector_steps=0, confidence=-1
        )
        for config in (RealTimeConfig(), changed):
            assert RealTimeConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
        assert changed.layers == ("stem",) and changed.to_json()["kind"] == "real-time"

    @pytest.mark.parametrize(
        "values, message",
        [
            ({"steps": 0}, "steps=0 must be a whole number of 1 or more"),
            ({"selector_steps": -1}, "selector_steps=-1 must be"),
            ({"fakes": 1.5}, "fakes=1.5 must lie between 0 and 1"),
            ({"lr": 0}, "lr=0 must be a finite number above 0"),
            ({"layers": []}, r"layers=\(\) leaves the decoder nothing to read"),
            ({"confidence": math.inf}, "confidence=inf must be"),
            ({"objective": {"areas": 2}}, "MarginObjective has no parameter 'areas'"),
            ({"kind": "masker"}, "RealTimeConfig has no parameter 'kind'"),
            ({"pool_every": 3}, "RealTimeConfig has no parameter 'pool_every'; choose from layers, width"),
        ],
    )
    def test_what_no_run_could_use_is_named(self, values, message):
        with pytest.raises(ValueError, match=message):
            RealTimeConfig.from_json(values)


def test_the_mask_of_each_class_lies_on_its_own_square():
    """Two squares an image: asked for the colour of the first, the mask shows the first; asked for the other, that."""
    recipe = ClassifierConfig(passes=15, batch_size=16, lr=0.1, precision="fp32")
    classifier = train_classifier(tiny_classifier(), Squares(96), recipe, progress=False)
    config = RealTimeConfig(
        selector_steps=100, steps=70, lr=0.03, batch_size=16, width=8, precision="fp32", crop_scale=(1.0, 1.0)
    )
    trained = train(config, classifier, Squares(96))
    assert sum(trained.history["selector right"][-10:]) / 10 > 0.9
    paint = {0: [1.0, 0.0, 0.0], 2: [0.0, 0.0, 1.0], 3: [1.0, 1.0, 1.0]}
    pairs = [(one, other) for one in paint for other in paint if one != other]
    images = 0.3 + 0.2 * torch.rand(len(pairs), 1, SIZE, SIZE, generator=stream(0, "grey")).repeat(1, 3, 1, 1)
    for image, (one, other) in zip(images, pairs, strict=True):
        image[:, 1:7, 1:7] = torch.tensor(paint[one])[:, None, None]
        image[:, 9:15, 9:15] = torch.tensor(paint[other])[:, None, None]
    for place, targets in enumerate(zip(*pairs, strict=True)):
        masks = trained(images, torch.tensor(targets))
        squares = [masks[:, :, 1:7, 1:7].mean(dim=(1, 2, 3)), masks[:, :, 9:15, 9:15].mean(dim=(1, 2, 3))]
        assert (squares[place] > squares[1 - place] + 0.3).all()
    absent = trained(images, 1)  # green, in none of them
    assert absent.mean() < 0.1
