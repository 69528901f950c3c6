"""The exercises of notebook 00: what is right passes, what is wrong gets a hint that does not give it away."""

import math

import numpy as np
import pytest
import torch

from maskerlib.course.grading import grade
from maskerlib.masking.masks import masked_in, masked_out
from maskerlib.masking.objectives import Objective

IN, OUT, BOTH = Objective(masked_out=None), Objective(masked_in=None), Objective()
RIGHT = {
    "0.1": [(2 / 3, 2 / 3), [0.667, torch.tensor(0.6667)]],
    "0.2": [masked_out, lambda x, m, z: x * (1 - m) + z * m],
    "0.3": [lambda n: -math.log(n), lambda n: np.log(1 / n)],
    "0.4": [(IN, OUT), [Objective(masked_in="min_ent", masked_out=None), Objective(masked_in=None, masked_out="min_class")]],
}
WRONG = {
    "0.1": [(0.5, 0.8), (2 / 3, 0.8), (2 / 3, 1.0), 0.667],
    "0.2": [masked_in, lambda x, m, z: x * (1 - m), lambda x, m, z: x - m],
    "0.3": [lambda n: math.log(n), lambda n: -math.log2(n), lambda n: -math.log(16), lambda n: 0.0],
    "0.4": [(OUT, IN), (BOTH, OUT), (IN, BOTH), IN, ("in", "out")],
}


@pytest.mark.parametrize("number, answer", [(n, a) for n, answers in RIGHT.items() for a in answers])
def test_right_answers_pass(number, answer):
    assert grade(number, answer)


@pytest.mark.parametrize("number, answer", [(n, a) for n, answers in WRONG.items() for a in answers])
def test_wrong_answers_get_a_hint(number, answer):
    verdict = grade(number, answer)
    assert not verdict and len(verdict.text) > 20
    assert "raised" not in verdict.text and "0.667" not in verdict.text and "-log" not in verdict.text
