"""Training a masker: what one step does to whom, and what a run leaves behind."""

import copy
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tiny import SIZE, Squares, tiny_classifier
from torch import Tensor
from torch.nn import functional as F

from maskerlib import training
from maskerlib.classifier_training import ClassifierConfig, train_classifier
from maskerlib.classifiers import Classifier
from maskerlib.config import MaskerConfig
from maskerlib.files import load_checkpoint, read_json, save_checkpoint
from maskerlib.loop import Diverged
from maskerlib.masker import Masker, masker_for
from maskerlib.masks import area, mask_from_logits, masked_in, masked_out
from maskerlib.objectives import Objective, evaluate_objective
from maskerlib.step import compute_gradients
from maskerlib.training import load_trained, train_masker

FAST = MaskerConfig(steps=4, batch_size=6, width=8, pool_every=2, precision="fp32")
FIX, CA = FAST, dataclasses.replace(FAST, mode="CA")


def train(config: MaskerConfig = FIX, classifier: Classifier | None = None, source: Squares | None = None, **options):
    source = Squares() if source is None else source
    return train_masker(classifier or tiny_classifier(), source, config, progress=False, **options)


def state(*modules: torch.nn.Module) -> list[Tensor]:
    return [value.clone() for module in modules for value in module.state_dict().values()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def gradients(module: torch.nn.Module) -> list[Tensor]:
    return [weight.grad for weight in module.parameters()]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Case:
    """A classifier, a masker, a pool member and a batch; each call makes the same one again."""

    def __init__(self, mode: str, device: torch.device, *, infill: str = "mean", **options) -> None:
        objective = Objective(size_out=15, tv=0.01)
        self.config = MaskerConfig(mode=mode, objective=objective, infill=infill, precision="fp32", **options)
        self.classifier = tiny_classifier().to(device)
        self.classifier.eval().requires_grad_(mode == "CA")
        self.masker = masker_for(self.classifier, ("stem", "stage"), width=8).to(device)
        self.member = tiny_classifier(seed=1).to(device).requires_grad_(False)
        batch = Squares().batch(range(12)).to(device)
        self.images, self.labels = batch.images, batch.labels

    def run(self, *, judge: Classifier | None = None, labels: Tensor | None = None) -> dict[str, Tensor]:
        labels = self.labels if labels is None else labels
        return compute_gradients(self.config, self.classifier, self.masker, self.images, labels, judge=judge)

    def plain(self, judge: Classifier, *, learn_masked: bool) -> tuple[list[Tensor], list[Tensor]]:
        """Gradients of masker and classifier by two separate graphs, with nothing of the library's step."""
        classifier = self.classifier
        with torch.no_grad():
            logits, activations = copy.deepcopy(classifier).activations(self.images)
        right = (logits.argmax(dim=1) == self.labels).float()
        mask = mask_from_logits(self.masker(activations), (SIZE, SIZE))
        judge = copy.deepcopy(judge).requires_grad_(False)
        terms = evaluate_objective(self.config.objective, judge, self.images, mask, self.labels, right, classifier.mean)
        loss = torch.stack(list(terms.values())).sum(dim=0).mean()
        masker = torch.autograd.grad(loss, list(self.masker.parameters()))

        views = [self.images]
        if learn_masked:
            views += [view(self.images, mask.detach(), classifier.mean) for view in (masked_in, masked_out)]
        learner = copy.deepcopy(classifier)
        loss = sum(F.cross_entropy(learner(view), self.labels) for view in views)
        return list(masker), list(torch.autograd.grad(loss, list(learner.parameters())))


def assert_close(ours: list[Tensor], expected: Sequence[Tensor]) -> None:
    assert max(gradient.abs().max().item() for gradient in expected) > 1e-3
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


class TestGradients:
    def test_fix_leaves_the_classifier_bit_for_bit_and_without_gradients(self, device):
        case = Case("FIX", device)
        before = state(case.classifier)
        numbers = case.run()
        assert same(state(case.classifier), before)
        assert all(gradient is None for gradient in gradients(case.classifier))
        assert all(gradient.abs().sum() > 0 for gradient in gradients(case.masker))
        assert list(numbers) == ["objective", "in", "size_in", "out", "size_out", "tv", "area", "right"]

    def test_fix_gives_the_masker_the_gradient_of_the_objective(self, device):
        case = Case("FIX", device)
        mask = mask_from_logits(case.masker(case.classifier.activations(case.images)[1]), (SIZE, SIZE))
        right = (case.classifier(case.images).argmax(dim=1) == case.labels).float()
        arguments = (case.images, mask, case.labels, right, case.classifier.mean)
        terms = evaluate_objective(case.config.objective, case.classifier, *arguments)
        loss = sum(term.mean() for term in terms.values())
        expected = torch.autograd.grad(loss, list(case.masker.parameters()))
        case.run()
        assert_close(gradients(case.masker), expected)

    def test_ca_gives_what_two_separate_graphs_give(self, device):
        case = Case("CA", device)
        expected = case.plain(case.classifier, learn_masked=True)
        numbers = case.run()
        assert_close(gradients(case.masker), expected[0])
        assert_close(gradients(case.classifier), expected[1])
        assert "clean" in numbers

    def test_ca_with_a_member_lets_it_judge_and_the_classifier_learn_from_clean_images_only(self, device):
        case = Case("CA", device)
        expected = case.plain(case.member, learn_masked=False)
        before = state(case.member)
        case.run(judge=case.member)
        assert_close(gradients(case.masker), expected[0])
        assert_close(gradients(case.classifier), expected[1])
        assert same(state(case.member), before) and all(gradient is None for gradient in gradients(case.member))

    def test_the_released_pool_lets_the_current_classifier_judge_all_the_same(self):
        cpu = torch.device("cpu")
        case = Case("CA", cpu, released_pool=True)
        expected = case.plain(case.classifier, learn_masked=False)
        case.run(judge=case.member)
        assert_close(gradients(case.masker), expected[0])
        assert_close(gradients(case.classifier), expected[1])
        other = Case("CA", cpu)
        other.run(judge=other.member)
        assert not torch.allclose(other.masker.draw.weight.grad, case.masker.draw.weight.grad)

    def test_no_weight_moves(self):
        for mode in ("FIX", "CA"):
            case = Case(mode, torch.device("cpu"))
            before = [weight.clone() for part in (case.masker, case.classifier) for weight in part.parameters()]
            case.run()
            assert same(before, [weight for part in (case.masker, case.classifier) for weight in part.parameters()])

    @pytest.mark.parametrize("mode", ["FIX", "CA"])
    def test_an_unknown_label_is_the_predicted_class(self, mode):
        known, unknown = Case(mode, torch.device("cpu")), Case(mode, torch.device("cpu"))
        predicted = copy.deepcopy(known.classifier)(known.images).argmax(dim=1)
        assert not torch.equal(predicted, known.labels)
        some = predicted.clone()
        some[::2] = -1
        ours, theirs = unknown.run(labels=some), known.run(labels=predicted)
        assert ours == theirs and ours["right"] == 1
        for one, other in ((unknown.masker, known.masker), (unknown.classifier, known.classifier)):
            assert all(a is b or torch.equal(a, b) for a, b in zip(gradients(one), gradients(other), strict=True))

    def test_numbers_are_those_of_the_objective(self):
        case = Case("FIX", torch.device("cpu"), infill="blur")
        numbers = case.run()
        terms = [numbers[name] for name in ("in", "size_in", "out", "size_out", "tv")]
        torch.testing.assert_close(numbers["objective"], sum(terms))
        right = (case.classifier(case.images).argmax(dim=1) == case.labels).float().mean()
        assert numbers["right"] == right and 0 < right < 1
        mask = mask_from_logits(case.masker(case.classifier.activations(case.images)[1]), (SIZE, SIZE))
        torch.testing.assert_close(numbers["area"], area(mask).mean().detach())

    def test_bf16_stays_near(self):
        exact, rough = Case("CA", torch.device("cpu")), Case("CA", torch.device("cpu"))
        rough.config = dataclasses.replace(rough.config, precision="bf16")
        ours, theirs = exact.run(), rough.run()
        assert ours["in"] != theirs["in"] and theirs["in"].item() == pytest.approx(ours["in"].item(), rel=0.05)
        assert all(gradient.dtype == torch.float32 for gradient in gradients(rough.masker))


class TestRun:
    def test_fix_leaves_the_classifier_as_it_was(self):
        classifier = tiny_classifier().train()
        before = state(classifier)
        trained = train(FIX, classifier)
        assert same(state(classifier), before) and same(state(trained.classifier), before)
        assert classifier.training and all(weight.requires_grad for weight in classifier.parameters())
        assert all(gradient is None for gradient in gradients(classifier))
        assert not same(state(trained.masker), state(masker_for(classifier, width=8)))

    def test_ca_trains_a_copy_of_the_classifier(self):
        classifier = tiny_classifier()
        before = state(classifier)
        trained = train(CA, classifier)
        assert same(state(classifier), before)
        assert not classifier.training and all(gradient is None for gradient in gradients(classifier))
        names = dict(classifier.named_parameters())
        learnt = dict(trained.classifier.named_parameters())
        assert all(not torch.equal(weight, learnt[name]) for name, weight in names.items())
        statistics = [module.network.stem[1].running_mean for module in (classifier, trained.classifier)]
        assert torch.equal(*statistics)  # masked images do not move what clean images are normalised by

    def test_the_result_is_ready_to_use(self):
        for config in (FIX, CA):
            trained = train(config)
            masks = trained(torch.rand(2, 3, 20, 28))
            assert masks.shape == (2, 1, 20, 28) and not masks.requires_grad
            assert not trained.masker.training and not trained.classifier.training
            assert not any(weight.requires_grad for weight in trained.classifier.parameters())
            assert all(len(values) == 4 for values in trained.history.values())

    def test_masks_find_the_objects(self):
        """On a classifier that knows the colours, the objective falls and the masks lie on the squares."""
        source = Squares(96)
        recipe = ClassifierConfig(passes=15, batch_size=16, lr=0.1, precision="fp32")
        classifier = train_classifier(tiny_classifier(), source, recipe, progress=False)
        config = dataclasses.replace(
            FIX, steps=80, batch_size=16, layers=("stem", "stage"), masker_lr=0.02, crop_scale=(0.7, 1.0)
        )
        trained = train(config, classifier, source)
        objective = trained.history["objective"]
        assert sum(objective[-10:]) / 10 < sum(objective[:3]) / 3 - 1
        batch = Squares(40, seed=1).batch(range(40))
        inside = torch.zeros(40, 1, SIZE, SIZE, dtype=torch.bool)
        for plane, boxes in zip(inside, batch.boxes, strict=True):
            x0, y0, x1, y1 = boxes[0].int().tolist()
            plane[:, y0:y1, x0:x1] = True
        masks = trained(batch.images)
        assert masks[inside].mean() > masks[~inside].mean() + 0.2

    @pytest.mark.parametrize("config", [FIX, CA])
    def test_the_seed_decides_bit_for_bit(self, config):
        one, again = (train(config) for _ in range(2))
        other = train(dataclasses.replace(config, seed=1))
        assert same(state(one.masker, one.classifier), state(again.masker, again.classifier))
        assert one.history == again.history
        assert not same(state(one.masker), state(other.masker))

    def test_an_unlabelled_source_trains_on_the_predicted_class(self):
        trained = train(FIX, source=Squares(labelled=False))
        assert trained.history["right"] == [1.0] * 4 and min(train(FIX).history["right"]) < 1

    def test_the_gradient_is_clipped_before_the_step(self, monkeypatch):
        norms = []
        move = torch.optim.Adam.step

        def spy(optimiser, *arguments):
            weights = [weight for group in optimiser.param_groups for weight in group["params"]]
            norms.append(torch.stack([weight.grad.norm() for weight in weights]).norm().item())
            return move(optimiser, *arguments)

        monkeypatch.setattr(torch.optim.Adam, "step", spy)
        free, clipped = (train(dataclasses.replace(FIX, steps=1, clip_norm=norm)) for norm in (1e6, 1e-3))
        assert norms[0] == pytest.approx(free.history["gradient norm"][0]) and norms[0] > 1e-2
        assert norms[1] == pytest.approx(1e-3, rel=1e-2) and clipped.history == free.history

    def test_learning_rates_follow_the_schedule(self, monkeypatch):
        rates = {"Adam": [], "SGD": []}
        for kind in (torch.optim.Adam, torch.optim.SGD):

            def spy(optimiser, *arguments, move=kind.step):
                rates[type(optimiser).__name__].append(optimiser.param_groups[0]["lr"])
                return move(optimiser, *arguments)

            monkeypatch.setattr(kind, "step", spy)
        train(dataclasses.replace(CA, steps=3, masker_lr=0.5, classifier_lr=0.2))
        assert rates["Adam"] == pytest.approx([0.5, 0.05, 0.005]) and rates["SGD"] == pytest.approx([0.2, 0.02, 0.002])

    def test_passes_give_the_steps(self):
        history = train(dataclasses.replace(FIX, steps=None, passes=0.5, batch_size=5)).history
        assert len(history["objective"]) == math.ceil(0.5 * 24 / 5)

    def test_trains_on_the_device(self, device):
        trained = train(CA, device=device)
        images = torch.rand(1, 3, SIZE, SIZE, device=device)
        assert trained(images).device.type == device.type


class TestStops:
    def test_an_image_that_is_nan_is_named(self):
        source = Squares(labelled=False)
        source.images[7, 0, 2, 2] = math.nan
        with pytest.raises(Diverged, match=r"step \d: image square 7 holds NaN or infinity; remove or mend it"):
            train(FIX, source=source)

    @pytest.mark.parametrize("config", [FIX, CA])
    def test_a_weight_that_is_nan_is_named_before_the_first_step(self, config):
        classifier = tiny_classifier()
        with torch.no_grad():
            classifier.network.stage[0].weight[0, 0, 0, 0] = math.nan
        with pytest.raises(ValueError, match=r"'network\.stage\.0\.weight' of tiny holds NaN"):
            train(config, classifier)

    @pytest.mark.parametrize("change", [{"masker_lr": 1e30}, {"mode": "CA", "classifier_lr": 1e30}])
    def test_an_exploding_run_stops_with_the_step_and_the_terms(self, change, tmp_path):
        config = dataclasses.replace(FIX, steps=30, checkpoint_every=1, **change)
        with pytest.raises(
            Diverged, match=r"^step \d+: .*(in|out|tv|clean|gradient norm) is (nan|inf).*lower the learning"
        ):
            train(config, folder=tmp_path)
        assert names(tmp_path) == ["checkpoint.pt"]  # no result
        saved = load_checkpoint(tmp_path / "checkpoint.pt")
        assert all(math.isfinite(value) for values in saved["history"].values() for value in values)

    def test_a_label_outside_the_classes_is_named(self):
        source = Squares()
        source.labels[3] = 17
        with pytest.raises(ValueError, match="label 17 of image 3 is none of the 4 classes of tiny"):
            train(FIX, source=source)

    def test_an_unknown_layer_is_named(self):
        with pytest.raises(ValueError, match="layer 'layer4' is not read from tiny; choose from stem, stage"):
            train(dataclasses.replace(FIX, layers=("layer4",)))

    def test_a_folder_that_cannot_be_written_to_is_named(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(ValueError, match="cannot be written to"):
            train(FIX, folder=tmp_path / "file" / "run")


class TestFolder:
    LEFT = ["config.json", "history.json", "masker.pt", "provenance.json"]

    @pytest.mark.parametrize("config", [FIX, CA])
    def test_a_finished_run_is_loaded_and_not_repeated(self, config, tmp_path, monkeypatch):
        folder = tmp_path / "my runs" / "one"
        trained = train(config, folder=str(folder))
        assert names(folder) == sorted(self.LEFT + (["classifier.pt"] if config.mode == "CA" else []))
        assert MaskerConfig.from_json(read_json(folder / "config.json")) == config
        monkeypatch.setattr(training, "run_steps", None)  # calling it would be an error
        for again in (train(config, folder=folder), load_trained(folder, tiny_classifier())):
            assert same(state(again.masker, again.classifier), state(trained.masker, trained.classifier))
            assert again.history == trained.history and again.config == config
            images = torch.rand(2, 3, SIZE, SIZE)
            assert torch.equal(again(images), trained(images))
        (folder / "checkpoint.pt").touch()  # as after a kill just before the end
        train(config, folder=folder)
        assert not (folder / "checkpoint.pt").exists()

    def test_another_run_in_the_folder_is_refused(self, tmp_path):
        train(FIX, folder=tmp_path)
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        others = [
            {"config": dataclasses.replace(FIX, seed=1)},
            {"config": CA},
            {"source": Squares(seed=1)},
            {"source": Squares(23)},
            {"classifier": tiny_classifier(seed=1)},
        ]
        for other in others:
            with pytest.raises(ValueError, match="holds a finished run with another configuration.*use another folder"):
                train(**{"config": FIX, **other}, folder=tmp_path)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    def test_another_classifier_is_refused(self, tmp_path):
        train(FIX, folder=tmp_path)
        with pytest.raises(ValueError, match=r"was trained on classifier tiny \(\w{12}\), not on tiny \(\w{12}\)"):
            load_trained(tmp_path, tiny_classifier(seed=1))
        renamed = tiny_classifier()
        renamed.name = "other"
        with pytest.raises(ValueError, match=r"not on other"):
            load_trained(tmp_path, renamed)
        with pytest.raises(ValueError, match="was trained on layers stem, stage of tiny, not on stage, stem"):
            load_trained(tmp_path, tiny_classifier(layers=("stage", "stem")))

    def test_damaged_files_are_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*masker\.pt; train one first"):
            load_trained(tmp_path, tiny_classifier())
        train(CA, folder=tmp_path)
        weights = (tmp_path / "classifier.pt").read_bytes()
        (tmp_path / "classifier.pt").write_bytes(weights[:1000])
        with pytest.raises(ValueError, match=r"classifier\.pt is not a readable checkpoint"):
            load_trained(tmp_path, tiny_classifier())
        (tmp_path / "classifier.pt").unlink()
        with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*classifier\.pt"):
            load_trained(tmp_path, tiny_classifier())
        save_checkpoint(tmp_path / "masker.pt", {"weights": {}})
        with pytest.raises(ValueError, match=r"masker\.pt is not a masker that train_masker saved"):
            load_trained(tmp_path, tiny_classifier())

    def test_a_checkpoint_of_another_run_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.setattr(training, "_save", lambda *arguments: None)  # leaves the last checkpoint, as a kill would
        train(FIX, folder=tmp_path)
        assert names(tmp_path) == ["checkpoint.pt"]
        with pytest.raises(ValueError, match=r"checkpoint\.pt belongs to a run with another configuration"):
            train(dataclasses.replace(FIX, seed=1), folder=tmp_path)


def test_the_masker_s_weights_fit_the_layers(tmp_path):
    trained = train(dataclasses.replace(FIX, layers=("stem", "stage")), folder=tmp_path)
    assert isinstance(trained.masker, Masker) and trained.masker.layers == ("stem", "stage")
    assert load_trained(tmp_path, tiny_classifier()).masker.layers == ("stem", "stage")
