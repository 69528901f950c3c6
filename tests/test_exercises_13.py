"""The checkers of notebook 13: they tell right from wrong, and their hints do not give the answer away."""

import math

import numpy as np
import pytest
import torch
from answers import refused
from scipy import stats

from maskerlib.course.exercises_13 import exercise_1, exercise_2, exercise_3, exercise_4
from maskerlib.experiments.run import drawn_classes
from maskerlib.running.seeds import stream


@pytest.mark.parametrize("checker", [exercise_1, exercise_2, exercise_3, exercise_4])
def test_a_number_is_no_function(checker):
    refused(checker, 3, "a function is asked for")


def drawn(order, share):
    return sorted(order[: max(1, round(share * len(order)))])


class TestDraw:
    def test_right(self):
        assert exercise_1(drawn) is None
        assert exercise_1(lambda order, share: np.sort(np.array(order)[: max(1, round(share * len(order)))])) is None

    def test_the_library_draws_like_this(self):
        for seed in range(3):
            order = torch.randperm(16, generator=stream(seed, "classes")).tolist()
            for share in (0.1, 0.25, 0.5, 1.0):
                assert drawn(order, share) == drawn_classes(16, share, seed)

    @pytest.mark.parametrize(
        "answer, part",
        [
            (lambda order, share: sorted(order[: round(share * 16)]), "no class at all"),
            (lambda order, share: sorted(order[: max(1, int(share * 16))]), "round to the nearest"),
            (lambda order, share: order[: max(1, round(share * 16))], "order of their numbers"),
            (lambda order, share: list(range(max(1, round(share * 16)))), "let the order decide"),
            (lambda order, share: sorted(order[-max(1, round(share * 16)) :]), "from its beginning"),
        ],
    )
    def test_wrong(self, answer, part):
        refused(exercise_1, answer, part)


class TestSameClasses:
    def test_right(self):
        assert exercise_2(lambda ours, base: np.mean([ours[name] - base[name] for name in ours])) is None
        assert exercise_2(lambda a, b: sum(a.values()) / len(a) - sum(b[name] for name in a) / len(a)) is None

    @pytest.mark.parametrize(
        "answer, part",
        [
            (lambda ours, base: np.mean([base[name] - ours[name] for name in ours]), "the sign"),
            (lambda ours, base: np.mean(list(ours.values())) - np.mean(list(base.values())), "may the baseline count"),
            (lambda ours, base: sum(ours[name] - base[name] for name in ours), "a mean over"),
            (lambda ours, base: 0.0, "for each class"),
        ],
    )
    def test_wrong(self, answer, part):
        refused(exercise_2, answer, part)


class TestRelatives:
    def test_right(self):
        assert exercise_3(lambda n, g, k: math.comb(n - g, k) / math.comb(n, k)) is None
        assert exercise_3(lambda n, g, k: stats.hypergeom(n, g, k).pmf(0)) is None
        assert exercise_3(lambda n, g, k: math.prod(max(n - g - i, 0) / (n - i) for i in range(k))) is None

    @pytest.mark.parametrize(
        "answer, part",
        [
            (lambda n, g, k: 1 - math.comb(n - g, k) / math.comb(n, k), "that there is one"),
            (lambda n, g, k: (1 - g / n) ** k, "not drawn again"),
            (lambda n, g, k: 1 - g / n, "how many are there"),
            (lambda n, g, k: 0.5, "count the draws"),
        ],
    )
    def test_wrong(self, answer, part):
        refused(exercise_3, answer, part)


def solve(gram, moment, added):
    return torch.linalg.solve(gram + added * torch.eye(len(gram)).double(), moment)


def without(total, held, strength, *, left=lambda all_rows, rows: rows, count=None):
    gram, moment, rows = total
    for other_gram, other_moment, other_rows in held[:count]:
        gram, moment, rows = gram - other_gram, moment - other_moment, rows - other_rows
    return solve(gram, moment, strength * left(total[2], rows))


def of_all(total, held, strength):
    return solve(total[0], total[1], strength * total[2])


def of_held(total, held, strength):
    gram, moment, rows = (sum(parts) for parts in zip(*held, strict=True))
    return solve(gram, moment, strength * rows)


class TestHeldBack:
    def test_right(self):
        assert exercise_4(without) is None

        def with_numpy(total, held, strength):
            gram = total[0].numpy() - np.sum([one[0].numpy() for one in held], axis=0)
            moment = total[1].numpy() - np.sum([one[1].numpy() for one in held], axis=0)
            rows = total[2] - sum(one[2] for one in held)
            return np.linalg.inv(gram + strength * rows * np.eye(len(gram))) @ moment

        assert exercise_4(with_numpy) is None

    @pytest.mark.parametrize(
        "answer, part",
        [
            (of_all, "nothing was held back"),
            (of_held, "what was to be held back"),
            (lambda total, held, strength: without(total, held, strength, count=1), "only the first"),
            (lambda *case: without(*case, left=lambda all_rows, rows: all_rows), "every row that is left"),
            (lambda *case: without(*case, left=lambda all_rows, rows: 1), "as in the notebook"),
            (lambda *case: without(*case, left=lambda all_rows, rows: 0), "where is lambda"),
            (lambda *case: of_all(*case) - of_held(*case), "weights do not subtract"),
            (lambda *case: torch.zeros(3), "only then solve"),
        ],
    )
    def test_wrong(self, answer, part):
        refused(exercise_4, answer, part)
