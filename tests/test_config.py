"""Configurations are read back as they were written, and refuse what no run could use."""

import json
import math

import pytest

from maskerlib.masker.config import GIVEN, MaskerConfig
from maskerlib.masking.infills import INFILLS
from maskerlib.masking.objectives import Objective
from maskerlib.running.files import read_json, write_json


def test_round_trip_through_a_file(tmp_path):
    changed = MaskerConfig(
        mode="CA",
        layers=("stem", "stage4"),
        objective=Objective(masked_in=None, masked_out="min_class", size_out=3, tv=0.5),
        steps=17,
        crop_scale=(0.25, 0.5),
        released_pool=True,
        infill="blur",
        infill_sides="out",
        mask="gumbel",
        temperature=0.7,
        condition="class",
        seed=-3,
    )
    sized = MaskerConfig(
        objective=Objective(budget=10, budget_power=2, size_in=0, size_out=0),
        infill="given",
        mask="gumbel_hard",
        condition="size",
        areas=(0.1, 0.1),
    )
    for config in (MaskerConfig(), changed, sized):
        write_json(tmp_path / "config.json", config.to_json())
        assert MaskerConfig.from_json(read_json(tmp_path / "config.json")) == config
        assert MaskerConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    assert changed != MaskerConfig()


def test_what_was_given_as_lists_equals_what_is_read_again():
    config = MaskerConfig(layers=["stem", "stage4"], crop_scale=[0.25, 1], areas=[0, 1.0])
    assert config.layers == ("stem", "stage4") and config.crop_scale == (0.25, 1) and config.areas == (0, 1)
    assert MaskerConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_a_file_from_before_these_choices_is_read_as_the_study_s_masker():
    content = MaskerConfig(mode="CA", infill="blur", seed=3).to_json()
    for name in ("infill_sides", "mask", "temperature", "condition", "areas"):
        del content[name]
    for name in ("budget", "budget_power"):
        del content["objective"][name]
    assert MaskerConfig.from_json(content) == MaskerConfig(mode="CA", infill="blur", seed=3)
    config = MaskerConfig()
    assert (config.infill_sides, config.mask, config.condition, config.objective.budget) == ("both", "sigmoid", None, 0)


def test_the_areas_are_read_by_their_former_name_as_well():
    content = MaskerConfig(areas=(0.1, 0.3)).to_json()
    content["share"] = content.pop("areas")
    assert MaskerConfig.from_json(content) == MaskerConfig(areas=(0.1, 0.3))
    with pytest.raises(ValueError, match="MaskerConfig has no parameter 'share'"):
        MaskerConfig.from_json({"share": (0.1, 0.3), "areas": (0.1, 0.3)})


@pytest.mark.parametrize("name", [*INFILLS, GIVEN])
def test_every_infill_by_name_and_on_every_side(name):
    for sides in ("both", "in", "out"):
        assert MaskerConfig.from_json({"infill": name, "infill_sides": sides}).infill == name


def test_final_models():
    fix, ca = MaskerConfig.final("FIX", seed=2), MaskerConfig.final("CA", steps=5)
    assert (fix.mode, fix.objective.size_out, fix.seed) == ("FIX", 10, 2)
    assert (ca.mode, ca.objective.size_out, ca.steps) == ("CA", 15, 5)
    assert (ca.objective.masked_in, ca.objective.masked_out, ca.objective.size_in) == (
        "max_class",
        "max_ent",
        1,
    )
    assert MaskerConfig.final("CA", objective=Objective(tv=1)).objective == Objective(tv=1)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"mode": "fix"}, "mode='fix' is unknown; choose one of FIX, CA"),
        ({"infill": "grey"}, f"infill='grey' is unknown; choose one of {', '.join(INFILLS)}, given"),
        ({"infill_sides": "left"}, "infill_sides='left' is unknown; choose one of both, in, out"),
        ({"mask": "hard"}, "mask='hard' is unknown; choose one of sigmoid, gumbel, gumbel_hard"),
        ({"temperature": 0}, "temperature=0 must be a finite number above 0"),
        ({"temperature": math.inf}, "temperature=inf must be"),
        ({"temperature": "cold"}, "temperature='cold' must be"),
        ({"condition": "area"}, "condition='area' is unknown; choose one of None, size, class"),
        ({"condition": "size"}, "condition='size' with budget=0.0: .* needs an objective with a budget above 0"),
        ({"objective": {"budget": 10}}, "condition=None with budget=10: .* no other masker can use one"),
        ({"condition": "class", "objective": {"budget": 10}}, "condition='class' with budget=10"),
        ({"areas": (0.6, 0.4)}, r"areas=\(0.6, 0.4\) must satisfy 0 <= smallest <= largest <= 1"),
        ({"areas": [-0.1, 0.4]}, r"areas=\(-0.1, 0.4\) must satisfy"),
        ({"areas": [0.5, 1.1]}, r"areas=\(0.5, 1.1\) must satisfy"),
        ({"areas": [0.5, math.nan]}, r"areas=\(0.5, nan\) must satisfy"),
        ({"areas": [0.5]}, r"areas=\(0.5,\) must satisfy"),
        ({"precision": "fp16"}, "precision='fp16' is unknown; choose one of auto, bf16, fp32"),
        ({"steps": 0}, "steps=0 must be a whole number of 1 or more"),
        ({"steps": 2.5}, "steps=2.5 must be"),
        ({"batch_size": True}, "batch_size=True must be"),
        ({"batch_size": None}, "batch_size=None must be"),
        ({"width": 0}, "width=0 must be"),
        ({"pool_every": -1}, "pool_every=-1 must be"),
        ({"pool_size": 0}, "pool_size=0 must be"),
        ({"checkpoint_every": 0}, "checkpoint_every=0 must be"),
        ({"passes": 0}, "passes=0 must be a finite number above 0"),
        ({"masker_lr": math.nan}, "masker_lr=nan must be"),
        ({"classifier_lr": "0.1"}, "classifier_lr='0.1' must be"),
        ({"clip_norm": math.inf}, "clip_norm=inf must be"),
        ({"momentum": 1.5}, "momentum=1.5 must lie between 0 and 1"),
        ({"weight_decay": math.nan}, "weight_decay=nan must lie"),
        ({"prob_historic": None}, "prob_historic=None must lie"),
        ({"seed": 0.5}, "seed=0.5 must be a whole number"),
        ({"layers": ()}, r"layers=\(\) leaves the masker nothing to read"),
        ({"crop_scale": (0.5, 0.2)}, r"crop_scale=\(0.5, 0.2\) must satisfy"),
        ({"crop_scale": (0.5,)}, r"crop_scale=\(0.5,\) must satisfy"),
        ({"learning_rate": 1}, "MaskerConfig has no parameter 'learning_rate'; choose from mode, layers"),
        ({"objective": {"lambda_in": 1}}, "Objective has no parameter 'lambda_in'; choose from masked_in"),
        ({"objective": {"masked_in": "x"}}, "masked_in='x' is unknown"),
        ({"objective": [1]}, r"objective=\(1,\) must be of type Objective"),
        ({"objective": None}, "objective=None must be of type Objective"),
        ({"released_pool": "False"}, "released_pool='False' must be True or False"),
        ({"released_pool": 1}, "released_pool=1 must be True or False"),
        ({"layers": [1]}, r"layers=\(1,\) must be a list, each item of it a text, or None"),
        ({"layers": "stage4"}, "layers='stage4' must be a list"),
        ({"width": 10**12}, "width=1000000000000 must be a whole number of 1 or more, at most 65536"),
        ({"width": 8.0}, "width=8.0 must be a whole number"),
        ({"batch_size": 10**9}, "batch_size=1000000000 must be a whole number of 1 or more, at most 1048576"),
        ({"steps": 10**12}, "steps=1000000000000 must be a whole number"),
        ({"seed": 2**63}, "seed=9223372036854775808 must be a whole number of at most 63 bits"),
        ({"momentum": True}, "momentum=True must lie between 0 and 1"),
        ({"passes": 10**400}, r"passes=\S+ must be a finite number above 0"),
        ({"mode": ["FIX"]}, r"mode=\('FIX',\) is unknown"),
        ({"infill": None}, "infill=None is unknown"),
        ({"areas": None}, "areas=None must satisfy"),
        ([], r"MaskerConfig is read from names and values, not from \[\]; give a dict"),
        (None, "MaskerConfig is read from names and values, not from None"),
        ([["mode", "FIX"]], "MaskerConfig is read from names and values, not from"),
        ({1: 2}, "MaskerConfig has no parameter 1; choose from mode"),
    ],
)
def test_bad_values_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        MaskerConfig.from_json(values)
