"""Fields are held against their annotations and rules, and weights must be finite."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from maskerlib.running import checks
from maskerlib.running.checks import (
    Rule,
    above,
    between,
    check_fields,
    check_finite,
    check_names,
    check_value,
    one_of,
    rising,
    shown,
    whole,
)


@dataclass(frozen=True)
class Inner:
    a: int = 0


@dataclass(frozen=True)
class Everything:
    flag: bool = False
    count: int = 1
    rate: float = 0.5
    name: str = "x"
    names: tuple[str, ...] | None = None
    pair: tuple[float, float] = (0.25, 1.0)
    limit: float | None = None
    inner: Inner = Inner()
    anything: Any = None

    def __post_init__(self) -> None:
        check_fields(self, limit=above(0))


class TestFields:
    @pytest.mark.parametrize(
        "values",
        [
            {"flag": True},
            {"count": -(10**30)},
            {"rate": 1, "limit": 3, "pair": (0, 1)},
            {"names": ()},
            {"names": ("a", "b"), "inner": Inner(3), "anything": [object()]},
        ],
    )
    def test_what_fits_stays_as_it_is(self, values):
        made = Everything(**values)
        assert all(getattr(made, name) is value for name, value in values.items())

    def test_a_list_becomes_a_tuple_and_numpy_s_numbers_become_python_s(self):
        assert Everything(names=["a"], pair=[0, 1.0]) == Everything(names=("a",), pair=(0, 1.0))
        made = Everything(count=np.int64(3), rate=np.float32(0.5), limit=np.int32(2), pair=(np.float64(0.5), 1))
        kinds = [type(value) for value in (made.count, made.rate, made.limit, *made.pair)]
        assert kinds == [int, float, int, float, int] and (made.count, made.rate, made.limit) == (3, 0.5, 2)

    @pytest.mark.parametrize(
        "values, message",
        [
            ({"flag": "False"}, "flag='False' must be True or False"),
            ({"flag": 1}, "flag=1 must be True or False"),
            ({"flag": None}, "flag=None must be True or False"),
            ({"count": True}, "count=True must be a whole number"),
            ({"count": 1.0}, "count=1.0 must be a whole number"),
            ({"count": "1"}, "count='1' must be a whole number"),
            ({"rate": False}, "rate=False must be a finite number"),
            ({"rate": math.nan}, "rate=nan must be a finite number"),
            ({"rate": 10**400}, r"rate=1000000\S* must be a finite number"),
            ({"rate": 10**5000}, "rate=<int> must be a finite number"),
            ({"rate": np.bool_(True)}, "rate=.*True.* must be a finite number"),
            ({"rate": 1j}, "rate=1j must be a finite number"),
            ({"name": 3}, "name=3 must be a text"),
            ({"names": "stage4"}, "names='stage4' must be a list, each item of it a text, or None"),
            ({"names": [1]}, r"names=\(1,\) must be a list, each item of it a text, or None"),
            ({"names": [["a"]]}, r"names=\(\['a'\],\) must be a list"),
            ({"names": {"a": 1}}, "names={'a': 1} must be a list"),
            ({"pair": (1, 2, 3)}, r"pair=\(1, 2, 3\) must be a list of 2: a finite number, a finite number"),
            ({"pair": (0, math.inf)}, r"pair=\(0, inf\) must be"),
            ({"pair": 0.5}, "pair=0.5 must be"),
            ({"limit": "1"}, "limit='1' must be a finite number above 0, or None"),
            ({"limit": 0}, "limit=0 must be a finite number above 0, or None"),
            ({"inner": [1]}, r"inner=\(1,\) must be of type Inner"),
            ({"inner": {"a": 1}}, "inner={'a': 1} must be of type Inner"),
        ],
    )
    def test_what_does_not_fit_is_named_in_one_line(self, values, message):
        with pytest.raises(ValueError, match=message) as caught:
            Everything(**values)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 250

    @pytest.mark.parametrize("field", [entry.name for entry in dataclasses.fields(Everything) if entry.name != "anything"])
    def test_a_deep_or_long_value_is_cut(self, field):
        deep: list = []
        for _ in range(100_000):
            deep = [deep]
        for value in (deep, ["a" * 10_000] * 10_000 + [1]):
            with pytest.raises(ValueError, match=rf"^{field}=.* must be") as caught:
                Everything(**{field: value})
            assert len(str(caught.value)) < 1500
        while deep:  # else the interpreter takes it apart in one recursion
            deep = deep.pop()


@pytest.mark.parametrize(
    "rule, good, bad, says",
    [
        (one_of(("a", None)), ["a", None], ["b", 1], "is unknown; choose one of a, None"),
        (whole(1, 8), [1, 8], [0, 9], "must be a whole number of 1 or more, at most 8"),
        (whole(0), [0, 10**9], [-1, 10**9 + 1], "must be a whole number of 0 or more, at most 1000000000"),
        (checks.SEED, [-(2**63), 2**63 - 1], [2**63, -(2**63) - 1], "must be a whole number of at most 63 bits"),
        (above(0), [1e-9, 5], [0, -1], "must be a finite number above 0"),
        (above(0, included=True), [0, 5], [-1e-9], "must be a finite number of 0 or more"),
        (between(0, 1), [0, 1, 0.5], [-0.1, 1.1], "must lie between 0 and 1"),
        (between(0, 1, open_below=True), [0.1, 1], [0, 1.1], "must lie above 0 and at most at 1"),
        (between(0, 1, open_above=True), [0, 0.9], [-0.1, 1], "must lie at least at 0 and below 1"),
        (between(0, 1, open_below=True, open_above=True), [0.1, 0.9], [0, 1], "must lie above 0 and below 1"),
        (rising(), [(0.1, 1), (1, 1)], [(0, 1), (0.5, 0.2), (0.5, 1.1)], "must satisfy 0 < smallest <= largest <= 1"),
        (rising(zero=True), [(0, 0), (0, 1)], [(-0.1, 1), (0.5, 0.2)], "must satisfy 0 <= smallest <= largest <= 1"),
    ],
)
def test_rules_by_hand(rule: Rule, good, bad, says):
    assert [rule.holds(value) for value in good] == [True] * len(good)
    assert [rule.holds(value) for value in bad] == [False] * len(bad)
    assert rule.says == says


class TestValue:
    @pytest.mark.parametrize(
        "value, rule",
        [
            (1, whole(1)),
            (np.int64(8), whole(1, 8)),
            (1, above(0)),
            (np.float32(0.5), between(0, 1)),
            ("a", one_of(("a", "b"))),
            (None, one_of(("a", None))),
            ([0.25, 1], rising()),
            (-(2**63), checks.SEED),
        ],
    )
    def test_what_fits_passes(self, value, rule):
        check_value("value", value, rule)

    @pytest.mark.parametrize(
        "value, rule, message",
        [
            (0, whole(1), "steps=0 must be a whole number of 1 or more, at most 1000000000"),
            (1.5, whole(1), "steps=1.5 must be a whole number of 1 or more"),
            (True, whole(1), "steps=True must be a whole number of 1 or more"),
            ("3", whole(1), "steps='3' must be a whole number of 1 or more"),
            (None, whole(1), "steps=None must be a whole number of 1 or more"),
            (math.nan, above(0), "steps=nan must be a finite number above 0"),
            (math.inf, above(0), "steps=inf must be a finite number above 0"),
            (1j, between(0, 1), "steps=1j must lie between 0 and 1"),
            (None, one_of(("a", "b")), "steps=None is unknown; choose one of a, b"),
            ((0.25, "1"), rising(), r"steps=\(0.25, '1'\) must satisfy 0 < smallest <= largest <= 1"),
            (2.0, checks.SEED, "steps=2.0 must be a whole number of at most 63 bits"),
        ],
    )
    def test_what_does_not_fit_is_named_in_one_line(self, value, rule, message):
        with pytest.raises(ValueError, match=f"^{message}") as caught:
            check_value("steps", value, rule)
        assert "\n" not in str(caught.value)


class TestNames:
    def test_a_mapping_of_fields_is_a_dict_of_its_own(self):
        given = {"a": 3}
        assert check_names(Inner, given) == given and check_names(Inner, given) is not given

    @pytest.mark.parametrize("values", [[], [["a", 1]], None, 3, "a", {"a"}])
    def test_what_is_no_mapping_is_refused(self, values):
        with pytest.raises(ValueError, match="Inner is read from names and values, not from .*; give a dict, or a file"):
            check_names(Inner, values)

    @pytest.mark.parametrize("name", ["b", 1, None, ("a",)])
    def test_an_unknown_name_is_refused_with_those_there_are(self, name):
        with pytest.raises(ValueError, match=r"Inner has no parameter .*; choose from a$"):
            check_names(Inner, {"a": 1, name: 2})


@pytest.mark.parametrize("value", [math.nan, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.complex64])
def test_weights_that_are_not_finite_are_named(value, dtype):
    tensors = {"fine": torch.ones(2), "steps": torch.tensor(3), "empty": torch.zeros(0), "bad": torch.ones(2, 3).to(dtype)}
    check_finite(tensors, "net")
    tensors["bad"][1, 2] = value
    with pytest.raises(ValueError, match="weight 'bad' of net holds NaN or infinity; load its weights again"):
        check_finite(tensors, "net")


def test_shown_is_the_repr_where_it_is_short():
    for value in (1, 0.25, "text", None, (0.25, 1.0), ["a", "b"], {"a": 1}):
        assert shown(value) == repr(value)
