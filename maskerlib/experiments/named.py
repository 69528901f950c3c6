"""What a run can measure, by name: a masker or another training of `maskerlib.masker`, a method of the registry, or the truth."""

import typing
from collections.abc import Mapping
from typing import Any

from maskerlib.masker.config import MaskerConfig
from maskerlib.masker.trained import Config
from maskerlib.methods.registry import METHODS
from maskerlib.running.checks import check_value, one_of, shown

__all__ = ["TRAININGS", "TRUTH", "check_method", "cost_of", "is_random", "kind_of", "quick_options"]

TRAININGS: Mapping[str, type[Config]] = {config.kind: config for config in typing.get_args(Config)}
"""{name: its configuration} of what is trained."""

TRUTH = "truth"
"""The method that knows the pixel masks: the upper bound."""


def check_method(name: str, options: Mapping[str, Any], seed: int) -> None:
    """Raises ValueError for a method that is unknown, or has no such option; for what is trained, its configuration says that."""
    if name in (MaskerConfig.kind, TRUTH) and options:
        mend = "its choices are parameters of the run" if name != TRUTH else "leave them out"
        raise ValueError(f"options={shown(dict(options))}: {name!r} has none; {mend}")
    if name not in (*TRAININGS, TRUTH):
        known = (*TRAININGS, TRUTH, *(each for each in METHODS if ":" not in each))
        check_value("method", name, one_of(known))
        METHODS.made(name, options, {"seed": seed, "progress": False})


def kind_of(name: str) -> str:
    """One of `maskerlib.methods.entry.KINDS`.

    >>> kind_of("masker"), kind_of("truth"), kind_of("rise")
    ('trained', 'baseline', 'perturbation')
    """
    if name == TRUTH:
        return "baseline"
    return "trained" if name in TRAININGS else METHODS[name].kind


def is_random(name: str) -> bool:
    """Does what it draws, or what it is trained to, depend on the seed?"""
    return name in TRAININGS or (name != TRUTH and METHODS[name].stochastic)


def cost_of(name: str, options: Mapping[str, Any] | None, size: tuple[int, int]) -> tuple[int, int]:
    """Forward and backward passes an image of (H, W), as the method's entry declares them (`MethodEntry.cost`)."""
    if name == TRUTH:
        return 0, 0
    return METHODS["masker:FOLDER"].cost() if name in TRAININGS else METHODS[name].cost(size, **(options or {}))


def quick_options(name: str, options: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The options with those in their place that make the method cheap."""
    quick = {} if name in (*TRAININGS, TRUTH) else METHODS[name].quick
    return {**(options or {}), **quick} or None
