"""The checkers of notebook 12: they tell right from wrong, and their hints do not give the answer away."""

import math

import numpy as np
import pytest
import torch
from answers import refused

from maskerlib.course.exercises_12 import exercise_1, exercise_2, exercise_3, exercise_4
from maskerlib.data.samples import Source
from maskerlib.experiments.run import few_of_each


@pytest.mark.parametrize("checker", [exercise_1, exercise_2, exercise_3, exercise_4])
def test_a_number_is_no_function(checker):
    refused(checker, 3, "a function is asked for")


class TestSteps:
    def test_right(self):
        assert exercise_1(lambda count, classes, passes, batch: math.ceil(passes * count * classes / batch)) is None
        assert exercise_1(lambda count, classes, passes, batch: -int(-count * classes * passes // batch)) is None

    @pytest.mark.parametrize(
        "answer, part",
        [
            (lambda count, classes, passes, batch: count * classes * passes, "counts images"),
            (lambda count, classes, passes, batch: math.ceil(count * passes / batch), "in all"),
            (lambda count, classes, passes, batch: int(count * classes * passes // batch), "no part of a step"),
            (lambda count, classes, passes, batch: count * classes * passes / batch, "no part of a step"),
            (lambda count, classes, passes, batch: math.ceil(count * classes / batch), "a single pass"),
            (lambda count, classes, passes, batch: 7, "first the images"),
        ],
    )
    def test_wrong(self, answer, part):
        refused(exercise_1, answer, part)
        assert not set("0123456789") & set(exercise_1(answer).partition(":")[2])


class Labels(Source):
    def __init__(self, labels):
        self.labels, self.class_names, self.size = labels, ("a", "b", "c", "d"), (1, 1)

    def __len__(self):
        return len(self.labels)


def drawn(labels, order, count):
    return [index for label in labels.unique() for index in order[labels[order] == label][:count]]


class TestDraw:
    def test_right(self):
        assert exercise_2(drawn) is None

        def one_by_one(labels, order, count):
            left = {int(label): count for label in labels}
            found = []
            for index in order.tolist():
                if left[int(labels[index])]:
                    left[int(labels[index])] -= 1
                    found.append(index)
            return torch.tensor(found)

        assert exercise_2(one_by_one) is None

    def test_the_library_draws_like_this(self):
        labels = torch.arange(4).repeat(5)
        for seed in range(3):
            whole = few_of_each(Labels(labels), 5, seed).indices
            order = torch.tensor([whole[5 * label + place] for place in range(5) for label in range(4)])
            for count in (1, 2, 4):
                assert set(few_of_each(Labels(labels), count, seed).indices) == {
                    int(i) for i in drawn(labels, order, count)
                }

    @pytest.mark.parametrize(
        "answer, part",
        [
            (lambda labels, order, count: order[:count], "in all"),
            (lambda labels, order, count: order[: 4 * count], "by class there are"),
            (
                lambda labels, order, count: [i for c in range(4) for i in (labels == c).nonzero()[:count, 0]],
                "another draw",
            ),
            (
                lambda labels, order, count: [i for c in range(4) for i in order[labels[order] == c][-count:]],
                "who comes first",
            ),
            (
                lambda labels, order, count: [
                    i for c in range(4) for i in order[labels[order] == c].roll(-count)[:count]
                ],
                "keep those",
            ),
            (
                lambda labels, order, count: [i for c in range(4) for i in [order[labels[order] == c][0]] * count],
                "twice",
            ),
            (lambda labels, order, count: [24], "indices of the scenes"),
        ],
    )
    def test_wrong(self, answer, part):
        refused(exercise_2, answer, part)


def ridge(sums, strength):
    gram, moment, rows = (sum(parts) for parts in zip(*sums, strict=True))
    return torch.linalg.solve(gram + strength * rows * torch.eye(len(gram)).double(), moment)


def changed(each=lambda rows: rows, strength=lambda given, rows: given * rows):
    def answer(sums, given):
        gram, moment, rows = (sum(parts) for parts in zip(*sums, strict=True))
        return torch.linalg.solve(gram + strength(given, each(rows)) * torch.eye(len(gram)).double(), moment)

    return answer


class TestSums:
    def test_right(self):
        assert exercise_3(ridge) is None

        def with_numpy(sums, strength):
            gram = np.sum([a.numpy() for a, _, _ in sums], axis=0)
            moment = np.sum([b.numpy() for _, b, _ in sums], axis=0)
            return np.linalg.inv(gram + strength * sum(n for _, _, n in sums) * np.eye(len(gram))) @ moment

        assert exercise_3(with_numpy) is None

    @pytest.mark.parametrize(
        "answer, part",
        [
            (lambda sums, given: torch.stack([ridge([one], given) for one in sums]).mean(dim=0), "a mean of weights"),
            (lambda sums, given: sum(n * ridge([(a, b, n)], given) for a, b, n in sums) / 59, "a mean of weights"),
            (changed(strength=lambda given, rows: given), "as in the notebook"),
            (changed(each=lambda rows: 40), "how many are there in all"),
            (changed(strength=lambda given, rows: 0), "where is lambda"),
            (lambda sums, given: ridge(sums[:1], given), "one of the data sets"),
            (lambda sums, given: torch.zeros(3), "sums over rows"),
        ],
    )
    def test_wrong(self, answer, part):
        refused(exercise_3, answer, part)


def effective(row, passes=True):
    scenes = 16 * row["per_class"] if row.get("per_class") else row["train_images"]
    steps = math.ceil(row["passes"] * scenes / row["batch_size"]) if passes and row.get("passes") else row["steps"]
    return {"scenes": scenes, "steps": steps}


def differing(worked_out):
    def answer(first, second):
        one, other = worked_out(first), worked_out(second)
        return {name for name in one if one[name] != other[name]}

    return answer


class TestWhatDiffers:
    def test_right(self):
        assert exercise_4(differing(effective)) is None
        assert exercise_4(lambda first, second: sorted(differing(effective)(first, second))) is None

    @pytest.mark.parametrize(
        "answer, part",
        [
            (lambda first, second: "scenes", "a set is asked for"),
            (lambda first, second: set(), "work out the scenes and the steps"),
            (differing(lambda row: effective(row, passes=False)), "work out the scenes and the steps"),
            (
                differing(lambda row: {"scenes": row.get("per_class"), "steps": effective(row)["steps"]}),
                "the classes come to",
            ),
            (
                differing(lambda row: {"scenes": effective(row)["scenes"], "steps": row.get("passes") or row["steps"]}),
                "the passes come to",
            ),
            (
                differing(
                    lambda row: effective(row) | {"steps": row["passes"] * 128 if row.get("passes") else row["steps"]}
                ),
                "shorter",
            ),
        ],
    )
    def test_wrong(self, answer, part):
        refused(exercise_4, answer, part)
