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

from maskerlib.classifiers.classifier import Classifier
from maskerlib.data.samples import Relabelled
from maskerlib.masker import training
from maskerlib.masker.config import MaskerConfig
from maskerlib.masker.network import Masker, masker_for
from maskerlib.masker.step import compute_gradients
from maskerlib.masker.trained import Trained, load_trained
from maskerlib.masker.training import train_masker
from maskerlib.masking.distributions import MASKS, sampled_mask
from maskerlib.masking.infills import INFILLS, Infill
from maskerlib.masking.masks import area, mask_from_logits, masked_in, masked_out
from maskerlib.masking.objectives import Objective, evaluate_objective
from maskerlib.running.files import load_checkpoint, read_json, save_checkpoint
from maskerlib.training.classifier import ClassifierConfig, train_classifier
from maskerlib.training.loop import Diverged, learning_rate_factor

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

    def __init__(self, mode: str, device: torch.device, *, infill: str = "mean", budget: float = 0, **options) -> None:
        objective = Objective(size_out=15, tv=0.01, budget=budget)
        self.config = MaskerConfig(mode=mode, objective=objective, infill=infill, precision="fp32", **options)
        self.classifier = tiny_classifier().to(device)
        self.classifier.eval().requires_grad_(mode == "CA")
        condition = self.config.condition
        self.masker = masker_for(self.classifier, ("stem", "stage"), width=8, condition=condition).to(device)
        self.member = tiny_classifier(seed=1).to(device).requires_grad_(False)
        batch = Squares().batch(range(12)).to(device)
        self.images, self.labels = batch.images, batch.labels

    def run(
        self, *, judge: Classifier | None = None, labels: Tensor | None = None, infill: Infill | None = None
    ) -> dict[str, Tensor]:
        labels = self.labels if labels is None else labels
        return compute_gradients(
            self.config, self.classifier, self.masker, self.images, labels, judge=judge, infill=infill
        )

    def expect(
        self, hidden: object, *, told: Tensor | None = None, areas: Tensor | None = None, seed: int | None = None
    ) -> list[Tensor]:
        """The masker's gradients (FIX) from the plain objective, for a mask sampled under `seed` and what hides it."""
        logits, activations = self.classifier.activations(self.images)
        right = (logits.argmax(dim=1) == self.labels).float()
        drawn = self.masker(activations, told)
        if seed is not None:
            torch.manual_seed(seed)
        mask = sampled_mask(drawn, (SIZE, SIZE), self.config.mask, temperature=self.config.temperature)
        arguments = (self.classifier, self.images, mask, self.labels, right, hidden)
        terms = evaluate_objective(self.config.objective, *arguments, areas=areas)
        return list(torch.autograd.grad(sum(term.mean() for term in terms.values()), list(self.masker.parameters())))

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
        assert not torch.allclose(other.masker.head.weight.grad, case.masker.head.weight.grad)

    def test_no_weight_moves(self):
        for mode in ("FIX", "CA"):
            case = Case(mode, torch.device("cpu"))
            before = [weight.clone() for part in (case.masker, case.classifier) for weight in part.parameters()]
            case.run()
            assert same(before, [weight for part in (case.masker, case.classifier) for weight in part.parameters()])

    @pytest.mark.parametrize("mode", ["FIX", "CA"])
    def test_an_unknown_label_is_refused(self, mode):
        case = Case(mode, torch.device("cpu"))
        some = case.labels.clone()
        some[3] = -1
        with pytest.raises(
            ValueError, match=r"label -1: every image needs a class to explain; maskerlib\.classifiers\.doors\.decided"
        ):
            case.run(labels=some)

    def test_the_gradients_of_the_clean_images_can_be_put_aside(self):
        whole, apart = Case("CA", torch.device("cpu")), Case("CA", torch.device("cpu"))
        clean: list[Tensor] = []

        def aside() -> None:
            clean.extend(weight.grad.clone() for weight in apart.classifier.parameters())
            apart.classifier.zero_grad(set_to_none=True)

        compute_gradients(apart.config, apart.classifier, apart.masker, apart.images, apart.labels, after_clean=aside)
        whole.run()
        loss = F.cross_entropy(apart.classifier(apart.images), apart.labels)
        assert_close(clean, torch.autograd.grad(loss, list(apart.classifier.parameters())))
        assert_close(
            gradients(whole.classifier),
            [one + two for one, two in zip(clean, gradients(apart.classifier), strict=True)],
        )

    def test_a_sigmoid_head_is_asked_about_the_label_alone_and_learns_every_answer(self):
        case = Case("CA", torch.device("cpu"))
        case.classifier.head = "sigmoid"
        answers = torch.zeros(12, 4).scatter_(1, case.labels[:, None], 1.0)
        answers[:, 3] = 1.0
        numbers = compute_gradients(
            case.config, case.classifier, case.masker, case.images, case.labels, answers=answers
        )
        z = case.classifier(case.images).detach()
        torch.testing.assert_close(numbers["clean"], F.binary_cross_entropy_with_logits(z, answers))
        mask = mask_from_logits(case.masker(case.classifier.activations(case.images)[1]), (SIZE, SIZE)).detach()
        shown = (
            case.classifier(masked_in(case.images, mask, case.classifier.mean)).detach().gather(1, case.labels[:, None])
        )
        torch.testing.assert_close(numbers["in"], F.softplus(-shown).mean())
        assert numbers["right"] == (z.gather(1, case.labels[:, None]) > 0).float().mean()

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


class TestChoices:
    """One step with what the study only mentions: another infill, sampled masks, maskers that are told something."""

    CPU = torch.device("cpu")

    @pytest.mark.parametrize(
        "sides, shown", [("both", ("blur", "blur")), ("in", ("blur", "mean")), ("out", ("mean", "blur"))]
    )
    def test_an_infill_on_one_side_leaves_the_mean_colour_on_the_other(self, sides, shown, device):
        case = Case("FIX", device, infill="blur", infill_sides=sides)
        fillings = [INFILLS[name]()(case.images, case.classifier.mean) for name in shown]
        expected = case.expect(dict(zip(("in", "out"), fillings, strict=True)))
        case.run()
        assert_close(gradients(case.masker), expected)

    def test_the_sides_differ(self):
        numbers = [Case("FIX", self.CPU, infill="blur", infill_sides=sides).run() for sides in ("both", "in", "out")]
        plain = Case("FIX", self.CPU).run()
        for number, names in zip(numbers, (("in", "out"), ("in",), ("out",)), strict=True):
            assert [name for name in ("in", "out") if number[name] != plain[name]] == list(names)

    def test_an_infill_that_looks_at_the_hole(self, device):
        case = Case("FIX", device, infill="opencv")
        expected = case.expect(INFILLS["opencv"]()(case.images, case.classifier.mean))
        case.run()
        assert_close(gradients(case.masker), expected)

    @pytest.mark.parametrize("mode", ["FIX", "CA"])
    def test_a_function_that_is_given(self, mode):
        asked = []

        def dark(images: Tensor, mean: Tensor):
            asked.append((images, mean))
            return lambda hole: 0.2 * hole.expand_as(images)

        case = Case(mode, self.CPU, infill="given")
        numbers = case.run(infill=dark)
        assert len(asked) == 1 and asked[0][0] is case.images and torch.equal(asked[0][1], case.classifier.mean)
        assert numbers["in"] != Case(mode, self.CPU).run()["in"]
        if mode == "FIX":
            other = Case(mode, self.CPU, infill="given")
            assert_close(gradients(case.masker), other.expect(lambda hole: 0.2 * hole.expand_as(other.images)))

    def test_configuration_and_function_must_agree(self):
        with pytest.raises(ValueError, match="infill='given', and no function was given; give infill=... exactly when"):
            Case("FIX", self.CPU, infill="given").run()
        with pytest.raises(ValueError, match="infill='mean', and a function was given as well"):
            Case("FIX", self.CPU).run(infill=INFILLS["blur"]())

    @pytest.mark.parametrize("kind", MASKS)
    def test_masks_are_sampled_with_the_kind_and_temperature(self, kind, device):
        case = Case("FIX", device, mask=kind, temperature=1.5)
        expected = case.expect(case.classifier.mean, seed=11)
        torch.manual_seed(11)
        case.run()
        assert_close(gradients(case.masker), expected)

    @pytest.mark.parametrize("kind", ["gumbel", "gumbel_hard"])
    @pytest.mark.parametrize("mode", ["FIX", "CA"])
    def test_draws_follow_the_global_seed(self, kind, mode):
        def run(seed: int, **options) -> tuple[dict[str, Tensor], list[Tensor]]:
            case = Case(mode, self.CPU, mask=kind, **options)
            torch.manual_seed(seed)
            return case.run(), gradients(case.masker)

        (one, first), (again, second), (other, third) = run(1), run(1), run(2)
        assert one == again and same(first, second)
        assert one["in"] != other["in"] and not same(first, third)
        assert not same(first, run(1, temperature=2.0)[1])

    def test_a_size_is_drawn_told_and_asked_for(self):
        case = Case("FIX", self.CPU, condition="size", budget=3.0, areas=(0.2, 0.6))
        torch.manual_seed(4)
        areas = 0.2 + 0.4 * torch.rand(12)
        expected = case.expect(case.classifier.mean, told=areas, areas=areas)
        with torch.no_grad():
            logits = case.masker(case.classifier.activations(case.images)[1], areas)
        torch.manual_seed(4)
        numbers = case.run()
        assert_close(gradients(case.masker), expected)
        off = area(mask_from_logits(logits, (SIZE, SIZE))) - areas
        torch.testing.assert_close(numbers["budget"], 3 * off.abs().mean())
        assert list(numbers) == ["objective", "in", "size_in", "out", "size_out", "tv", "budget", "area", "right"]
        terms = [numbers[name] for name in ("in", "size_in", "out", "size_out", "tv", "budget")]
        torch.testing.assert_close(numbers["objective"], sum(terms))

    def test_sizes_lie_within_their_bounds(self, monkeypatch):
        told = []
        forward = Masker.forward
        monkeypatch.setattr(
            Masker, "forward", lambda masker, seen, what=None: told.append(what) or forward(masker, seen, what)
        )
        for bounds in ((0.2, 0.6), (0.0, 1.0), (0.3, 0.3)):
            told.clear()
            case = Case("CA", self.CPU, condition="size", budget=3.0, areas=bounds)
            for _ in range(20):
                case.run()
            drawn = torch.cat(told)
            assert drawn.shape == (240,) and drawn.min() >= bounds[0] and drawn.max() <= bounds[1] + 1e-6
            spread = bounds[1] - bounds[0]
            assert drawn.max() - drawn.min() >= 0.9 * spread and len(drawn.unique()) > 200 or spread == 0

    def test_a_class_is_the_label(self):
        case = Case("FIX", self.CPU, condition="class")
        expected = case.expect(case.classifier.mean, told=case.labels)
        case.run()
        assert_close(gradients(case.masker), expected)
        assert "budget" not in case.run()

    @pytest.mark.parametrize(
        "options", [{"mask": "gumbel_hard"}, {"condition": "size", "budget": 3.0}, {"condition": "class"}]
    )
    def test_bf16_stays_near(self, options):
        numbers = []
        for precision in ("fp32", "bf16"):
            case = Case("CA", self.CPU, **options)
            case.config = dataclasses.replace(case.config, precision=precision)
            torch.manual_seed(0)
            numbers.append(case.run())
            assert all(gradient.dtype == torch.float32 for gradient in gradients(case.masker))
        assert numbers[1]["in"].item() == pytest.approx(numbers[0]["in"].item(), rel=0.1)


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

    @pytest.mark.parametrize("config", [FIX, CA])
    def test_an_unlabelled_source_trains_on_what_the_given_classifier_predicts(self, config):
        source = Squares()
        with torch.no_grad():
            predicted = Relabelled(source, tiny_classifier()(source.images).argmax(dim=1), source.class_names)
        expected = train(config, source=predicted)
        for trained in (
            train(config, source=Squares(labelled=False)),
            train(config, source=source, targets="predicted"),
        ):
            assert same(state(trained.masker, trained.classifier), state(expected.masker, expected.classifier))
            assert trained.history == expected.history
        assert not same(state(train(config).masker), state(expected.masker))
        with pytest.raises(ValueError, match="targets='label' is unknown; choose one of labels, predicted"):
            train(config, targets="label")

    def test_labels_do_not_follow_a_classifier_that_drifts(self):
        """A learning classifier whose own predictions were its labels would end in one class that is always right."""
        recipe = ClassifierConfig(passes=20, batch_size=16, small=0.0, precision="fp32")
        unsure = train_classifier(tiny_classifier(), Squares(96), recipe, progress=False)
        with torch.no_grad():
            for weight in unsure.network.head.parameters():
                weight.mul_(0.02)
        config = dataclasses.replace(
            CA, steps=60, batch_size=12, classifier_lr=0.3, schedule="cosine", crop_scale=(1.0, 1.0)
        )
        source = Squares(48, labelled=False)
        before = unsure(source.images)
        assert before.softmax(dim=1).max() < 0.4 and len(before.argmax(dim=1).unique()) == 4
        trained = train(config, unsure, source)
        assert torch.equal(trained.classifier(source.images).argmax(dim=1), before.argmax(dim=1))

    def test_classes_are_matched_by_name(self):
        turned = Classifier(
            tiny_classifier().network,
            ("stem", "stage"),
            class_names=("white", "red", "blue", "green"),
            input_size=(SIZE, SIZE),
        )
        labels = torch.tensor([1, 3, 2, 0])[Squares().labels]
        expected = train(FIX, turned, Relabelled(Squares(), labels, turned.class_names))
        assert same(state(train(FIX, turned).masker), state(expected.masker))
        with pytest.raises(ValueError, match="'pink' is no class of tiny"):
            train(FIX, source=Relabelled(Squares(), Squares().labels, ("pink", "red", "blue", "green")))

    def test_crops_of_a_source_that_has_its_own_come_from_there(self):
        class Files(Squares):
            own_crops = True
            asked: list[tuple[int, Tensor]] = []

            def cropped(self, indices, crops):
                self.asked.append((len(indices), crops.share))
                return self.batch(indices)

        config = dataclasses.replace(FIX, crop_scale=(0.2, 0.9))
        trained = train(config, source=Files())
        assert [count for count, _ in Files.asked] == [6] * 4 and all(
            0.2 <= share.min() and share.max() <= 0.9 for _, share in Files.asked
        )
        uncropped = dataclasses.replace(config, crop_scale=(1.0, 1.0))
        assert not same(state(trained.masker), state(train(uncropped).masker)), "no flip is added to crops of its own"

    def test_a_compiled_classifier_trains_as_the_plain_one_does(self):
        plain = tiny_classifier()
        compiled = Classifier(
            torch.compile(plain.network, backend="eager"),
            plain.layers,
            class_names=plain.class_names,
            input_size=(SIZE, SIZE),
        )
        for config in (FIX, CA):
            one, other = train(config, plain), train(config, compiled.eval())
            assert same(state(one.masker), state(other.masker))

    def test_two_steps_a_batch_as_in_the_code_release(self):
        """SGD without momentum: two steps on two gradients are one on their sum, weight decay counted twice."""
        config = dataclasses.replace(CA, momentum=0.0, weight_decay=0.0, prob_historic=0.0, steps=3)
        one, two = train(config), train(dataclasses.replace(config, classifier_steps=2))
        for a, b in zip(one.classifier.parameters(), two.classifier.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
        apart = dataclasses.replace(config, momentum=0.9)
        assert not same(
            state(train(apart).classifier), state(train(dataclasses.replace(apart, classifier_steps=2)).classifier)
        )

    @pytest.mark.parametrize("config", [FIX, CA])
    @pytest.mark.parametrize("classes", [1, 4])
    def test_yes_or_no_outputs_train(self, config, classes):
        network = tiny_classifier().network
        network.head = torch.nn.Linear(6, classes)
        head = "softmax" if classes == 1 else "sigmoid"
        classifier = Classifier(network.eval(), ("stem", "stage"), input_size=(SIZE, SIZE), head=head, name="yes or no")
        trained = train(config, classifier, Squares(labelled=False))
        masks = trained(Squares().batch(range(3)).images)
        assert masks.isfinite().all() and math.isfinite(trained.history["objective"][-1])

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

    def test_the_rates_rise_over_the_first_share_of_the_steps(self):
        factors = [learning_rate_factor(step, 20, "steps", warmup=0.2) for step in range(8)]
        assert factors == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 0.1])
        assert learning_rate_factor(0, 20, "cosine", warmup=0.01) == 1  # less than a step
        halves = [learning_rate_factor(step, 20, "cosine", warmup=1) for step in (0, 10)]
        assert halves == pytest.approx([1 / 20, 0.5 * 11 / 20])

    def test_both_rates_are_warmed_up(self, monkeypatch):
        rates = []
        for kind in (torch.optim.Adam, torch.optim.SGD):
            monkeypatch.setattr(kind, "step", lambda optimiser, *a: rates.append(optimiser.param_groups[0]["lr"]))
        train(dataclasses.replace(CA, steps=4, masker_lr=0.5, classifier_lr=0.2, schedule="cosine", warmup=0.5))
        factors = [0.5, 0.5 * (1 + math.cos(math.pi / 4)), 0.5, 0.5 * (1 + math.cos(3 * math.pi / 4))]
        assert sorted(rates) == pytest.approx(sorted([0.5 * f for f in factors] + [0.2 * f for f in factors]))

    def test_passes_give_the_steps(self):
        history = train(dataclasses.replace(FIX, steps=None, passes=0.5, batch_size=5)).history
        assert len(history["objective"]) == math.ceil(0.5 * 24 / 5)

    def test_trains_on_the_device(self, device):
        trained = train(CA, device=device)
        images = torch.rand(1, 3, SIZE, SIZE, device=device)
        assert trained(images).device.type == device.type


class TestStops:
    def test_an_image_that_is_nan_is_named(self):
        source = Squares()
        source.images[7, 0, 2, 2] = math.nan
        with pytest.raises(Diverged, match=r"step \d: .*square 7 holds NaN or infinity; remove or mend it"):
            train(FIX, source=source)
        source = Squares(labelled=False)
        source.images[7, 0, 2, 2] = math.nan
        with pytest.raises(ValueError, match="square 7 holds NaN or infinity; remove or mend it"):
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
        assert names(tmp_path) == [*(["checkpoint-pool-0.pt"] if config.mode == "CA" else []), "checkpoint.pt"]  # no result
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
            with pytest.raises(ValueError, match="holds a finished masker of another run.*use another folder"):
                train(**{"config": FIX, **other}, folder=tmp_path)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    def test_another_classifier_is_refused(self, tmp_path):
        train(FIX, folder=tmp_path)
        with pytest.raises(ValueError, match=r"was trained on classifier tiny \(\w{12}\), not on tiny \(\w{12}\)"):
            load_trained(tmp_path, tiny_classifier(seed=1))
        renamed = tiny_classifier()
        renamed.name = "other"
        load_trained(tmp_path, renamed)  # the same weights are the same classifier
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
        for content in ("[]", "{}", "null"):
            (tmp_path / "history.json").write_text(content)
            save_checkpoint(tmp_path / "classifier.pt", {"weights": tiny_classifier().weights()})
            with pytest.raises(ValueError, match=r"history\.json is no history of a training"):
                load_trained(tmp_path, tiny_classifier())
        for name in ("x" * 300, "null\0byte"):
            for call in (
                lambda name=name: load_trained(tmp_path / name, tiny_classifier()),
                lambda name=name: train(FIX, folder=tmp_path / name),
            ):
                with pytest.raises(ValueError, match="cannot be looked up|cannot be written to"):
                    call()
        save_checkpoint(tmp_path / "masker.pt", {"weights": {}})
        with pytest.raises(ValueError, match=r"masker\.pt is not a masker that train_masker saved"):
            load_trained(tmp_path, tiny_classifier())

    def test_a_checkpoint_of_another_run_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.setattr(Trained, "save", lambda *arguments: None)  # leaves the last checkpoint, as a kill would
        train(FIX, folder=tmp_path)
        assert names(tmp_path) == ["checkpoint.pt"]
        with pytest.raises(ValueError, match=r"checkpoint\.pt belongs to a run with another configuration"):
            train(dataclasses.replace(FIX, seed=1), folder=tmp_path)


class TestKeeping:
    """What `save` leaves is what `train_masker` leaves."""

    IMAGES = Squares(6, seed=1).batch(range(6)).images

    @pytest.mark.parametrize("config", [FIX, CA])
    def test_a_masker_trained_without_a_folder_is_read_back_equal(self, config, tmp_path):
        trained = train(config)
        trained.save(tmp_path / "kept")
        train(config, folder=tmp_path / "trained")
        assert names(tmp_path / "kept") == names(tmp_path / "trained")
        for name in names(tmp_path / "kept"):
            one, other = ((tmp_path / folder / name).read_bytes() for folder in ("kept", "trained"))
            assert one == other, name
        again = load_trained(tmp_path / "kept", tiny_classifier())
        assert same(state(again.masker, again.classifier), state(trained.masker, trained.classifier))
        assert dataclasses.astuple(dataclasses.replace(again, masker=None, classifier=None)) == dataclasses.astuple(
            dataclasses.replace(trained, masker=None, classifier=None)
        )
        assert torch.equal(again(self.IMAGES), trained(self.IMAGES))

    def test_another_area_is_kept(self, tmp_path):
        trained = dataclasses.replace(train(SIZED, folder=tmp_path), area=0.2)
        trained.save(tmp_path)
        for again in (load_trained(tmp_path, tiny_classifier()), train(SIZED, folder=tmp_path)):
            assert again.area == 0.2 and torch.equal(again(self.IMAGES), trained(self.IMAGES))

    def test_one_that_was_read_back_can_be_kept_elsewhere(self, tmp_path):
        train(CA, folder=tmp_path / "one")
        one = load_trained(tmp_path / "one", tiny_classifier())
        one.save(tmp_path / "two")
        assert load_trained(tmp_path / "two", tiny_classifier()).origin == one.origin is not None
        with pytest.raises(ValueError, match="was trained on classifier tiny"):
            load_trained(tmp_path / "two", tiny_classifier(seed=1))

    def test_the_folder_of_another_run_is_refused_and_left_alone(self, tmp_path):
        train(FIX, folder=tmp_path)
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        with pytest.raises(ValueError, match="holds a finished masker of another run"):
            train(CA).save(tmp_path)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    def test_one_that_no_training_returned_is_refused(self, tmp_path):
        trained = Trained(masker_for(tiny_classifier()), tiny_classifier(), FIX, {})
        with pytest.raises(ValueError, match="origin=None: .*save one that train_masker or load_trained returned"):
            trained.save(tmp_path / "folder")
        assert not (tmp_path / "folder").exists()

    def test_a_file_with_the_names_of_before_is_read(self, tmp_path):
        trained = train(FIX, folder=tmp_path)
        content = load_checkpoint(tmp_path / "masker.pt")
        content["weights"] = {name.replace("head.", "draw."): value for name, value in content["weights"].items()}
        content["config"]["share"] = content["config"].pop("areas")
        del content["area"]
        save_checkpoint(tmp_path / "masker.pt", content)
        again = load_trained(tmp_path, tiny_classifier())
        assert again.config == FIX and again.area == 0.5 and same(state(again.masker), state(trained.masker))

    def test_it_moves_as_a_whole(self, device):
        trained = train(FIX)
        expected = trained(self.IMAGES)
        assert trained.to(device) is trained
        everything = [*trained.masker.state_dict().values(), *trained.classifier.state_dict().values()]
        assert {value.device.type for value in everything} == {trained.classifier.mean.device.type} == {device.type}
        masks = trained(self.IMAGES)
        assert masks.device == self.IMAGES.device
        torch.testing.assert_close(masks, expected, rtol=1e-3, atol=1e-3)
        assert trained.to("cpu").classifier.mean.device.type == "cpu"


def test_the_masker_s_weights_fit_the_layers(tmp_path):
    trained = train(dataclasses.replace(FIX, layers=("stem", "stage")), folder=tmp_path)
    assert isinstance(trained.masker, Masker) and trained.masker.layers == ("stem", "stage")
    assert load_trained(tmp_path, tiny_classifier()).masker.layers == ("stem", "stage")


HARD = dataclasses.replace(FIX, mask="gumbel_hard")
SIZED = dataclasses.replace(FIX, condition="size", objective=Objective(budget=10, size_in=0, size_out=0))
CLASSED = dataclasses.replace(FIX, condition="class")


@pytest.mark.parametrize("mode", ["FIX", "CA"])
@pytest.mark.parametrize("config", [HARD, SIZED, CLASSED], ids=["hard", "size", "class"])
class TestChoicesOfARun:
    def test_come_back_from_the_folder(self, config, mode, tmp_path):
        config = dataclasses.replace(config, mode=mode)
        trained = train(config, folder=tmp_path)
        images, targets = Squares(8, seed=1).batch(range(8)).images, torch.arange(8) % 4
        for again in (load_trained(tmp_path, tiny_classifier()), train(config, folder=tmp_path)):
            assert again.config == config and again.history == trained.history and again.area == trained.area
            for asked in (None, targets):
                assert torch.equal(again(images, asked), trained(images, asked))

    def test_the_seed_decides_bit_for_bit(self, config, mode):
        config = dataclasses.replace(config, mode=mode)
        one, again = train(config), train(config)
        assert same(state(one.masker, one.classifier), state(again.masker, again.classifier))
        assert one.history == again.history

    def test_a_run_that_was_killed_goes_on_with_the_same_draws(self, config, mode, tmp_path, monkeypatch):
        config = dataclasses.replace(config, mode=mode, checkpoint_every=1)
        expected, calls = train(config), []

        def killed(*arguments, **options):
            calls.append(arguments)
            if len(calls) > 2:
                raise KeyboardInterrupt
            return compute_gradients(*arguments, **options)

        monkeypatch.setattr(training, "compute_gradients", killed)
        with pytest.raises(KeyboardInterrupt):
            train(config, folder=tmp_path)
        monkeypatch.undo()
        torch.rand(17)
        resumed = train(config, folder=tmp_path)
        assert same(state(resumed.masker, resumed.classifier), state(expected.masker, expected.classifier))
        assert resumed.history == expected.history


class TestWhatTheyLearn:
    IMAGES = Squares(8, seed=1).batch(range(8)).images

    def test_hard_masks_are_0_and_1_without_noise(self):
        trained = train(HARD)
        masks = trained(self.IMAGES)
        assert masks.unique().tolist() == [0, 1] and torch.equal(masks, trained(self.IMAGES))
        soft = dataclasses.replace(trained, config=FIX)(self.IMAGES)
        assert torch.equal(masks, (soft > 0.5).float()) and len(soft.unique()) > 2

    def test_another_share_is_another_mask(self):
        """Sixty steps suffice to learn how much was asked for, roughly."""
        config = dataclasses.replace(
            SIZED, steps=60, batch_size=12, masker_lr=0.05, areas=(0.0, 1.0), schedule="cosine"
        )
        trained = train(config)
        assert trained.area == 0.5 and "budget" in trained.history
        small, half, large = (dataclasses.replace(trained, area=each)(self.IMAGES) for each in (0.1, 0.5, 0.9))
        assert torch.equal(half, trained(self.IMAGES))
        areas = [area(masks).mean().item() for masks in (small, half, large)]
        assert areas[0] + 0.15 < areas[1] < areas[2] - 0.15
        budget = trained.history["budget"]
        assert sum(budget[-10:]) < 0.6 * sum(budget[:10])

    def test_another_class_is_another_mask(self):
        trained = train(CLASSED)
        predicted = trained.classifier(self.IMAGES).argmax(dim=1)
        other = (predicted + 1) % 4
        assert torch.equal(trained(self.IMAGES), trained(self.IMAGES, predicted))
        assert not torch.equal(trained(self.IMAGES), trained(self.IMAGES, other))

    @pytest.mark.parametrize("infill", ["noise", "opencv"])
    def test_infills_give_runs_of_their_own(self, infill):
        config = dataclasses.replace(FIX, infill=infill)
        one, again = train(config), train(config)
        assert same(state(one.masker), state(again.masker)) and one.history == again.history
        assert one.history["in"] != train(FIX).history["in"]
