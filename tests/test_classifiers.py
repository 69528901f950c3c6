"""Classifiers: what they show of their layers, who they are, and the ready-made ones."""

import os

import pytest
import torch
from tiny import SIZE, TinyNet, tiny_classifier
from torch import nn

from maskerlib.classifiers import Classifier, frozen
from maskerlib.photos import Photos
from maskerlib.zoo import efficientnet_lite0, load_weights, scene_resnet, torchvision_resnet


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
            with pytest.raises(RuntimeError, match="'head' of tiny does not return a"):
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
            ValueError, match=r"layer 'stages' is not in mine; choose from stem, stem\.0, .*stage, .*head"
        ):
            Classifier(TinyNet(), ("stem", "stages"), name="mine")

    @pytest.mark.parametrize("statistics", [{"mean": (0.5,)}, {"std": (0.5, 0.5)}, {"std": (0.5, 0, 0.5)}])
    def test_statistics_of_the_wrong_kind_are_refused(self, statistics):
        with pytest.raises(ValueError, match="need three numbers each, std above 0"):
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

    def test_fingerprint_follows_weights_buffers_normalisation_and_name(self):
        def changed(change) -> str:
            classifier = tiny_classifier()
            with torch.no_grad():
                change(classifier)
            return classifier.fingerprint()

        base = tiny_classifier().fingerprint()
        assert base == changed(lambda c: c.train().requires_grad_(False).to(memory_format=torch.channels_last))
        others = [
            changed(lambda c: c.network.head.bias[1].add_(1e-6)),
            changed(lambda c: c.network.stem[1].running_mean[0].add_(1e-6)),
            changed(lambda c: c.mean.add_(1e-6)),
            changed(lambda c: setattr(c, "name", "tiny2")),
            tiny_classifier(seed=1).fingerprint(),
        ]
        assert len({base, *others}) == 6

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
            assert classifier.to(device).class_count() == count  # whatever names there are
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


class TestWeights:
    def test_round_trip(self, tmp_path):
        torch.save(TinyNet().state_dict(), tmp_path / "w.pt")
        one, other = TinyNet(), TinyNet()
        load_weights(one, tmp_path / "w.pt")
        load_weights(other, str(tmp_path / "w.pt"))
        assert state(one) == state(other)

    def test_a_file_with_code_is_refused_and_never_run(self, tmp_path):
        class Bomb:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "exploded"),)

        torch.save({"stem.0.weight": Bomb()}, tmp_path / "w.pt")
        with pytest.raises(ValueError, match=r"w\.pt is not a readable checkpoint"):
            load_weights(TinyNet(), tmp_path / "w.pt")
        assert not (tmp_path / "exploded").exists()

    def test_a_truncated_file_is_named(self, tmp_path):
        torch.save(TinyNet().state_dict(), tmp_path / "w.pt")
        (tmp_path / "w.pt").write_bytes((tmp_path / "w.pt").read_bytes()[:-200])
        with pytest.raises(ValueError, match=r"w\.pt is not a readable checkpoint"):
            load_weights(TinyNet(), tmp_path / "w.pt")

    def test_another_architecture_is_named(self, tmp_path):
        torch.save(TinyNet(classes=7).state_dict(), tmp_path / "w.pt")
        with pytest.raises(ValueError, match=r"w\.pt does not fit TinyNet: size mismatch for head.bias"):
            load_weights(TinyNet(), tmp_path / "w.pt")
        torch.save({"weights": TinyNet().state_dict()}, tmp_path / "w.pt")
        with pytest.raises(ValueError, match=r"w\.pt does not fit TinyNet: Unexpected key.*weights"):
            load_weights(TinyNet(), tmp_path / "w.pt")


class TestZoo:
    def test_scene_resnet(self):
        classifier = scene_resnet("abcdef", size=96, seed=3)
        logits, seen = classifier.activations(torch.rand(2, 3, 96, 96))
        assert logits.shape == (2, 6) and classifier.class_names == tuple("abcdef")
        assert [tuple(value.shape[1:]) for value in seen.values()] == [
            (16, 48, 48),
            (32, 24, 24),
            (48, 24, 24),
            (96, 12, 12),
            (192, 6, 6),
        ]

    def test_weights_follow_from_the_seed_and_the_global_generator_is_left_alone(self):
        before = torch.random.get_rng_state()
        prints = [scene_resnet("ab", seed=seed).fingerprint() for seed in (0, 0, 1)]
        assert prints[0] == prints[1] != prints[2]
        assert torch.equal(torch.random.get_rng_state(), before)

    def test_torchvision_resnet(self, tmp_path):
        classifier = torchvision_resnet("resnet18", class_names="abc", seed=1).eval()
        logits, seen = classifier.activations(torch.rand(1, 3, 64, 96))
        assert logits.shape == (1, 3)
        assert [tuple(value.shape[1:]) for value in seen.values()] == [
            (64, 16, 24),
            (64, 16, 24),
            (128, 8, 12),
            (256, 4, 6),
            (512, 2, 3),
        ]
        torch.save(classifier.network.state_dict(), tmp_path / "mine.pth")
        again = torchvision_resnet("resnet18", class_names="abc", weights=str(tmp_path / "mine.pth"))
        assert again.name == "resnet18 (mine.pth)" and state(again.network)[0] == state(classifier.network)[0]
        with pytest.raises(ValueError, match=r"mine\.pth does not fit ResNet: size mismatch"):
            torchvision_resnet("resnet18", class_names="abcd", weights=str(tmp_path / "mine.pth"))

    def test_torchvision_names(self):
        with pytest.raises(ValueError, match="torchvision has no 'vgg11'; choose one of .*resnet50"):
            torchvision_resnet("vgg11")
        with pytest.raises(FileNotFoundError, match="no weights at IMAGENET1K_V7; .* or IMAGENET1K_V1"):
            torchvision_resnet("resnet18", weights="IMAGENET1K_V7")

    def test_efficientnet_lite0_recognises_a_cat(self):
        classifier = efficientnet_lite0()
        assert not classifier.training and len(classifier.class_names) == 1000
        with torch.inference_mode():
            logits, seen = classifier.activations(Photos("chelsea").batch([0]).images)
        best = [classifier.class_name(int(index)) for index in logits[0].topk(3).indices]
        assert "cat" in best[0] or "tabby" in best[0], best
        assert "tabby" in best or "tiger cat" in best, best
        assert len(seen) == 5 and [value.shape[-1] for value in seen.values()] == [112, 56, 28, 14, 7]
