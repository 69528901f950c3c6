"""The pool of earlier classifiers."""

from collections import Counter

import pytest
import torch
from tiny import SIZE, tiny_classifier

from maskerlib.classifiers.classifier import Classifier
from maskerlib.masker.pool import ClassifierPool
from maskerlib.running.files import load_checkpoint, save_checkpoint


def at(step: int, classifier: Classifier) -> Classifier:
    """The classifier with the step written into a weight and a buffer."""
    with torch.no_grad():
        classifier.network.head.bias.fill_(step)
        classifier.network.stem[1].running_mean.fill_(step)
    return classifier


def filled(steps: int, **options) -> ClassifierPool:
    classifier = tiny_classifier()
    pool = ClassifierPool(classifier, **options)
    for step in range(steps):
        pool.remember(step, at(step, classifier))
    return pool


def test_members_are_the_weights_of_their_steps():
    pool = filled(31, every=10)
    assert sorted(pool.members) == [0, 10, 20, 30]
    for step, member in pool.members.items():
        assert (member["network.head.bias"] == step).all() and (member["network.stem.1.running_mean"] == step).all()


def test_a_full_pool_replaces_one_member_by_the_new_one():
    classifier = tiny_classifier()
    pool = ClassifierPool(classifier, every=1, size=5)
    gone = Counter()
    for step in range(300):
        before = set(pool.members)
        pool.remember(step, at(step, classifier))
        assert len(pool.members) == min(step + 1, 5) and step in pool.members
        if step >= 5:
            (victim,) = before - set(pool.members)
            gone[sorted(before).index(victim)] += 1
    assert (
        min(gone.values()) > 35 and len(gone) == 5
    )  # 59 of each place expected: neither always the oldest nor the newest


class TestDraw:
    def test_a_member_in_eval_mode_and_frozen_with_its_own_weights(self):
        pool = filled(30, every=10, historic=1)
        images, drawn = torch.rand(2, 3, SIZE, SIZE), Counter()
        for step in range(40):
            judge = pool.draw(step)
            assert not judge.training and not any(weight.requires_grad for weight in judge.parameters())
            (member,) = judge.network.head.bias.unique().tolist()
            assert (judge.network.stem[1].running_mean == member).all()
            expected = at(int(member), tiny_classifier())
            torch.testing.assert_close(judge(images), expected(images).detach(), rtol=0, atol=0)
            drawn[member] += 1
        assert sorted(drawn) == [0, 10, 20] and min(drawn.values()) > 4

    @pytest.mark.parametrize("historic", [0.0, 0.3, 1.0])
    def test_frequencies(self, historic):
        pool = filled(40, every=10, historic=historic)
        judges = [pool.draw(step) for step in range(600)]
        assert sum(judge is not None for judge in judges) / 600 == pytest.approx(historic, abs=0.06)

    def test_an_empty_pool_leaves_the_current_classifier(self):
        assert ClassifierPool(tiny_classifier(), historic=1).draw(0) is None

    def test_follows_from_seed_and_step_alone(self):
        def drawn(pool: ClassifierPool, steps: range) -> list[float | None]:
            judges = (pool.draw(step) for step in steps)
            return [None if judge is None else judge.network.head.bias[0].item() for judge in judges]

        pool = filled(30, every=10)
        forwards, again = drawn(pool, range(50)), drawn(pool, range(50))
        backwards = drawn(filled(30, every=10), range(49, -1, -1))
        assert forwards == again == backwards[::-1]
        assert forwards != drawn(filled(30, every=10, seed=1), range(50))

    def test_training_on_does_not_change_members(self):
        classifier = tiny_classifier().train()
        pool = ClassifierPool(classifier, historic=1)
        pool.remember(0, classifier)
        images = torch.rand(2, 3, SIZE, SIZE)
        before = pool.draw(0)(images)
        with torch.no_grad():
            classifier(images)
            classifier.network.head.weight.add_(1)
        torch.testing.assert_close(pool.draw(1)(images), before, rtol=0, atol=0)
        torch.testing.assert_close(pool.draw(1)(images), tiny_classifier()(images).detach(), rtol=0, atol=0)


def test_state_survives_a_checkpoint(tmp_path):
    pool = filled(35, every=5, size=4, historic=1)
    save_checkpoint(tmp_path / "pool.pt", pool.state_dict())
    other = filled(2, every=5, size=4, historic=1)
    other.draw(0)  # so that a judge is loaded that must be forgotten
    other.load_state_dict(load_checkpoint(tmp_path / "pool.pt"))
    assert sorted(other.members) == sorted(pool.members)
    classifier = tiny_classifier()
    for step in range(35, 60):
        for each in (pool, other):
            each.remember(step, at(step, classifier))
        ours, theirs = pool.draw(step).state_dict(), other.draw(step).state_dict()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_restored_pool_forgets_the_member_that_it_had_loaded():
    pool, other = ClassifierPool(tiny_classifier(), historic=1), ClassifierPool(tiny_classifier(), historic=1)
    pool.remember(0, at(3, tiny_classifier()))
    other.remember(0, at(4, tiny_classifier()))
    assert (other.draw(1).network.head.bias == 4).all()
    other.load_state_dict(pool.state_dict())
    assert (other.draw(1).network.head.bias == 3).all()


def test_the_first_snapshot_can_wait_for_the_first_update():
    pool = ClassifierPool(tiny_classifier(), every=3, size=9, first=1)
    for step in range(8):
        pool.remember(step, tiny_classifier(seed=step))
    assert sorted(pool.members) == [1, 4, 7]


@pytest.mark.parametrize("options", [{"every": 0}, {"size": 0}, {"historic": 1.5}, {"first": -1}, {"historic": float("nan")}])
def test_impossible_options_are_named(options):
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f"^{name}={value} must (be a whole number|lie between 0 and 1)"):
        ClassifierPool(tiny_classifier(), **options)
