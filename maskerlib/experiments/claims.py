"""The claims of the study's abstract and introduction, held against the tables.

Every claim says of the study's choice that it is better than another setting, or not much worse. Its evidence is a handful of
comparisons: the two settings, seed by seed, in LE and in PxAP. The gain of a comparison is positive where the study's choice is
the better one, whatever the metric's direction. One rule decides, and its only number is the study's own:

    holds            the whole 95 % interval of the gain lies above -margin
    does not hold    the whole interval lies below -margin
    undecided        it holds -margin

The margin is 0 where the study says "better". Where it says "enough" it is 0.007: the abstract calls a rise of 0.7 points of
localisation error "only" that. Source: Phang et al. (2020), abstract and section 1.

A claim against many methods at once is `corrected` for their number, or one of them would be beaten by chance: its intervals are
wider, by Holm's procedure over all of its comparisons (`maskerlib.experiments.holm`).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from maskerlib.experiments import settings
from maskerlib.experiments.holm import holm_levels
from maskerlib.experiments.named import kind_of
from maskerlib.experiments.tables import Results, read_results
from maskerlib.metrics.intervals import t_interval
from maskerlib.metrics.registry import better
from maskerlib.notebooks.runner import project_root
from maskerlib.running.files import atomic_path, read_json, write_json

__all__ = [
    "CLAIMS",
    "VERDICTS",
    "Claim",
    "against_masks",
    "gain",
    "held",
    "judge",
    "make_claims",
    "overall",
    "read_claims",
    "tables_needed",
]

VERDICTS = ("holds", "does not hold", "undecided")

_METRICS = ("LE", "PxAP")  # those that count

_ENOUGH = 0.007  # what the study calls "only a 0.7-point increase"

Setting = tuple[str, str]
"""The name of a row of a table, and the mode."""

Pair = tuple[Setting, Setting]

_MASKS = ("per-image mask", "trained", "perturbation")  # kinds of methods that hide parts of the image and ask again


@dataclass(frozen=True)
class Claim:
    """One claim.

    name, paper: in our words, and what the study says.
    table: that it is held against.
    pairs: (ours, other), the settings to compare; or a function that finds them in the table.
    margin, corrected: see the module.
    optional: leave the claim out where its table is not there.
    """

    name: str
    paper: str
    table: str
    pairs: Sequence[Pair] | Callable[[Results], Sequence[Pair]]
    margin: float = 0.0
    corrected: bool = False
    optional: bool = False

    def compared(self, results: Results) -> Sequence[Pair]:
        """Its pairs, in the table given."""
        return self.pairs(results) if callable(self.pairs) else self.pairs


def _in_both_modes(ours: str, *others: str) -> list[tuple[Setting, Setting]]:
    return [((ours, mode), (other, mode)) for mode in ("FIX", "CA") for other in others]


def against_masks(results: Results) -> list[Pair]:
    """FIX and CA, each against every other method of the table that masks the image, on scenes of the default level."""
    pairs = []
    for name, row in results.record["rows"].items():
        setting = settings.Setting.read(row["parameters"] | {"mode": row["modes"][0]})
        if kind_of(setting.method) in _MASKS and setting.level == settings.Setting.level and name not in ("FIX", "CA"):
            pairs += [((ours, ours), (name, mode)) for ours in ("FIX", "CA") for mode in row["modes"]]
    return pairs


CLAIMS = (
    Claim(
        "both objectives beat either alone",
        "both objectives, masked-in and masked-out, lead to the best maps",
        "objectives",
        _in_both_modes("MaxClass (I) + MaxEnt (O)", "MaxClass (I)", "MinClass (O)", "MaxEnt (O)"),
    ),
    Claim(
        "continual training improves the maps",
        "continually training the classifier improves the quality of the maps",
        "classifier_training",
        [(("CA, pool", "CA"), ("FIX", "FIX")), (("CA, pool", "CA"), ("FIX, size reward 15", "FIX"))],
    ),
    Claim(
        "the top layers are enough",
        "the masker requires only the top layers of the classifier",
        "layers",
        _in_both_modes("top 2", "top 5"),
        _ENOUGH,
    ),
    Claim(
        "few examples nearly suffice",
        "ten examples per class cost 0.7 points of localisation error against one pass",
        "few_shot",
        _in_both_modes("10 per class", "one pass"),
        _ENOUGH,
    ),
    Claim(
        "the final model beats other masks",
        "the final model outperforms other masking-based methods",
        "methods",
        against_masks,
        corrected=True,
        optional=True,
    ),
)


def held(folder: Path) -> list[Claim]:
    """The claims that are held against the tables in `folder`: all but the optional ones whose table is not there."""
    return [claim for claim in CLAIMS if not claim.optional or (folder / f"{claim.table}.csv").is_file()]


def tables_needed(folder: Path) -> list[str]:
    """The tables that the claims are held against, of those in `folder` or to be made for it."""
    return list(dict.fromkeys(claim.table for claim in held(folder)))


def gain(results: Results, ours: Setting, other: Setting, metric: str) -> tuple[float, float, float, int]:
    """By how much `ours` is better than `other` in a metric: mean over shared seeds, ends of its 95 % t interval, seeds.

    Raises KeyError for a setting that the table does not hold, ValueError where no seed is shared or the metric judges nothing.
    """
    differences = _gains(results, ours, other, metric)
    return (*t_interval(differences), len(differences))


def _gains(results: Results, ours: Setting, other: Setting, metric: str) -> list[float]:
    """The gain of each shared seed."""
    if not better(metric):
        known = " or ".join(_METRICS)
        raise ValueError(f"{metric} has no direction, so no value of it is better; choose one such as {known}")
    rows = results.seeds[results.seeds["metric"] == metric].set_index(["setting", "mode", "seed"])["value"].sort_index()
    for setting in (ours, other):
        if setting not in rows.index.droplevel("seed"):
            raise KeyError(f"{results.record['table']}: no {metric} of {setting[0]!r}, {setting[1]}")
    sign = -1 if better(metric) == "lower" else 1
    gains: list[float] = (sign * (rows[ours] - rows[other])).dropna().tolist()
    return gains


def judge(low: float, high: float, margin: float = 0.0) -> str:
    """The verdict on an interval of a gain; see the rule above.

    >>> judge(-0.005, 0.02), judge(-0.005, 0.02, margin=0.007), judge(-0.03, -0.01, margin=0.007)
    ('undecided', 'holds', 'does not hold')
    """
    if low > -margin:
        return "holds"
    return "does not hold" if high < -margin else "undecided"


def _words(setting: Setting) -> str:
    name, mode = setting
    return name if name.split(",")[0] == mode else f"{name}, {mode}"


def _evidence(folder: Path) -> Iterator[dict[str, object]]:
    for claim in held(folder):
        results = read_results(claim.table, folder)
        compared = [(metric, *pair) for metric in _METRICS for pair in claim.compared(results)]
        gains = [_gains(results, ours, other, metric) for metric, ours, other in compared]
        levels = holm_levels(gains, -claim.margin) if claim.corrected else [0.95] * len(gains)
        for (metric, ours, other), found, level in zip(compared, gains, levels, strict=True):
            mean, low, high = t_interval(found, level=level)
            yield {
                "claim": claim.name,
                "paper": claim.paper,
                "metric": metric,
                "ours": _words(ours),
                "other": _words(other),
                "estimate": mean,
                "low": low,
                "high": high,
                "margin": claim.margin,
                "seeds": len(found),
                "verdict": judge(low, high, claim.margin),
            }


def make_claims(folder: Path) -> list[Path]:
    """Write claims.csv and claims.json beside the tables in `folder`; the paths.

    Raises FileNotFoundError for a missing table, unless its claim is optional.
    """
    evidence = pd.DataFrame(_evidence(folder))
    path = folder / "claims.csv"
    with atomic_path(path) as partial:
        evidence.to_csv(partial, index=False, float_format="%.6g", lineterminator="\n")
    record: dict[str, Any] = {
        "notebook": "14_paper_figures",
        "command": "make experiments TABLE=claims",
        "rule": "holds: low > -margin; does not hold: high < -margin; undecided: otherwise",
        "tables": {name: read_json(folder / f"{name}.json")["version"] for name in tables_needed(folder)},
    }
    if corrected := [claim.name for claim in held(folder) if claim.corrected]:
        record["corrected"] = {"claims": corrected, "how": "low and high at the levels of Holm (1979)"}
    write_json(folder / "claims.json", record)
    return [path, folder / "claims.json"]


def read_claims(folder: Path | None = None) -> pd.DataFrame:
    """claims.csv of `folder`, by default figures/tables, one row a comparison.

    Columns: claim, paper, metric, ours, other, estimate, low, high, margin, seeds, verdict. Raises FileNotFoundError, naming the
    command that makes the file.
    """
    folder = folder if folder is not None else project_root() / "figures" / "tables"
    if not (folder / "claims.csv").is_file():
        raise FileNotFoundError(f"no claims.csv in {folder}; `make experiments TABLE=claims` makes it")
    return pd.read_csv(folder / "claims.csv")


def overall(verdicts: Iterable[str]) -> str:
    """The verdict on a claim from those on its comparisons: it holds where all do, and not where one does not.

    Raises ValueError for none at all, or for a word that is no verdict.

    >>> overall(["holds", "holds"]), overall(["holds", "undecided"]), overall(["undecided", "does not hold"])
    ('holds', 'undecided', 'does not hold')
    """
    given = list(verdicts)
    if not given or set(given) - set(VERDICTS):
        raise ValueError(f"verdicts {given}: expected at least one, each of {', '.join(VERDICTS)}")
    if "does not hold" in given:
        return "does not hold"
    return "undecided" if "undecided" in given else "holds"
