"""The four claims of the study's abstract and introduction, held against the tables.

Every claim says of the study's choice that it is better than another setting, or not much worse. Its evidence is a handful of
comparisons: the two settings, seed by seed, in LE and in PxAP. The gain of a comparison is positive where the study's choice is
the better one, whatever the metric's direction. One rule decides, and its only number is the study's own:

    holds            the whole 95 % interval of the gain lies above -margin
    does not hold    the whole interval lies below -margin
    undecided        it holds -margin

The margin is 0 where the study says "better". Where it says "enough" it is 0.007: the abstract calls a rise of 0.7 points of
localisation error "only" that. Source: Phang et al. (2020), abstract and section 1.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from maskerlib.experiments.tables import Results, read_results
from maskerlib.metrics.intervals import t_interval
from maskerlib.metrics.registry import better
from maskerlib.notebooks.runner import project_root
from maskerlib.running.files import atomic_path, read_json, write_json

__all__ = ["CLAIMS", "VERDICTS", "Claim", "gain", "judge", "make_claims", "overall", "read_claims", "tables_needed"]

VERDICTS = ("holds", "does not hold", "undecided")

_METRICS = ("LE", "PxAP")  # those that count

_ENOUGH = 0.007  # what the study calls "only a 0.7-point increase"

Setting = tuple[str, str]
"""The name of a row of a table, and the mode."""


@dataclass(frozen=True)
class Claim:
    """One claim: `name` in our words, `paper` what the study says, the table, and (ours, other) settings to compare."""

    name: str
    paper: str
    table: str
    pairs: Sequence[tuple[Setting, Setting]]
    margin: float = 0.0


def _in_both_modes(ours: str, *others: str) -> list[tuple[Setting, Setting]]:
    return [((ours, mode), (other, mode)) for mode in ("FIX", "CA") for other in others]


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
)


def tables_needed() -> list[str]:
    """The tables that the claims are held against."""
    return list(dict.fromkeys(claim.table for claim in CLAIMS))


def gain(results: Results, ours: Setting, other: Setting, metric: str) -> tuple[float, float, float, int]:
    """By how much `ours` is better than `other` in a metric: mean over shared seeds, ends of its 95 % t interval, seeds.

    Raises KeyError for a setting that the table does not hold, ValueError where no seed is shared or the metric judges nothing.
    """
    if not better(metric):
        known = " or ".join(_METRICS)
        raise ValueError(f"{metric} has no direction, so no value of it is better; choose one such as {known}")
    rows = results.seeds[results.seeds["metric"] == metric].set_index(["setting", "mode", "seed"])["value"].sort_index()
    for setting in (ours, other):
        if setting not in rows.index.droplevel("seed"):
            raise KeyError(f"{results.record['table']}: no {metric} of {setting[0]!r}, {setting[1]}")
    sign = -1 if better(metric) == "lower" else 1
    differences = (sign * (rows[ours] - rows[other])).dropna()
    return (*t_interval(differences.tolist()), len(differences))


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
    for claim in CLAIMS:
        results = read_results(claim.table, folder)
        for metric in _METRICS:
            for ours, other in claim.pairs:
                mean, low, high, seeds = gain(results, ours, other, metric)
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
                    "seeds": seeds,
                    "verdict": judge(low, high, claim.margin),
                }


def make_claims(folder: Path) -> list[Path]:
    """Write claims.csv and claims.json beside the tables in `folder`; the paths. Raises FileNotFoundError for a missing table."""
    evidence = pd.DataFrame(_evidence(folder))
    path = folder / "claims.csv"
    with atomic_path(path) as partial:
        evidence.to_csv(partial, index=False, float_format="%.6g", lineterminator="\n")
    record = {
        "notebook": "14_paper_figures",
        "command": "make experiments TABLE=claims",
        "rule": "holds: low > -margin; does not hold: high < -margin; undecided: otherwise",
        "tables": {name: read_json(folder / f"{name}.json")["version"] for name in tables_needed()},
    }
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
