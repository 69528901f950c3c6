"""The options of every method: which of those tried on training scenes are taken, by lowest LE, and whether they are used.

A row of the table of options is called "METHOD: setting"; those of one METHOD are compared with each other. What is taken has to
stand in the row METHOD of the table of methods, but for the parameters that only say what is measured.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from maskerlib.experiments.choices import MEASURED
from maskerlib.experiments.grid import Row, Table
from maskerlib.experiments.tables import Results

__all__ = ["METHODS_TABLE", "OPTIONS_TABLE", "choose", "differing_rows", "tried"]

OPTIONS_TABLE = "method_options"
"""The table of options that are tried."""

METHODS_TABLE = "methods"
"""The table that is made with those that are taken."""


def tried(options: Table) -> dict[str, list[Row]]:
    """{method: its rows}, in the order of the table. Raises ValueError for a row of another name, or of two modes."""
    found: dict[str, list[Row]] = {}
    for row in options.rows:
        method, colon, _ = row.name.partition(": ")
        if not colon or "," in method or len(row.modes) != 1:
            raise ValueError(f"{options.name}, row {row.name!r}: call it 'METHOD: setting', without a comma, with one mode")
        found.setdefault(method, []).append(row)
    return found


def choose(options: Table, results: Results) -> dict[str, Row]:
    """{method: the row with the lowest LE}, the first of those that are equal. Raises KeyError for a row without a result."""
    return {
        method: min(rows, key=lambda row: results.value(row.name, row.modes[0], "LE")[0])
        for method, rows in tried(options).items()
    }


def differing_rows(chosen: Mapping[str, Row], methods: Table) -> Iterator[str]:
    """In words, every row of `methods` that is not as it was chosen, and every choice that has no row; none where all is well."""
    rows = {row.name: row for row in methods.rows}
    for method, row in chosen.items():
        if method not in rows:
            yield f"{methods.name} has no row {method!r}; give it {_words(row)}"
        for name in (name for name in rows if name.split(", ")[0] == method):
            if _words(rows[name]) != _words(row):
                yield f"{methods.name}, row {name!r}: it has {_words(rows[name])}, chosen was {row.name!r}, {_words(row)}"


def _words(row: Row) -> str:
    """What counts of a row: its mode and the parameters that make the method."""
    kept: dict[str, Any] = {name: row.parameters[name] for name in sorted(row.parameters) if name not in MEASURED}
    return f"modes {list(row.modes)}, parameters {kept}"
