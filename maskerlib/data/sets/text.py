"""Tables of text, as data sets have them: a line an entry, fields apart by spaces or commas."""

import math
from collections.abc import Iterator
from pathlib import Path

__all__ = ["lines", "number", "whole_number"]


def lines(
    path: Path, fields: int | None = None, separator: str | None = None, *, least: bool = False
) -> Iterator[tuple[str, list[str]]]:
    """Of each line that is not empty: where it is, for messages, and its fields. The last line may end without a break.

    Args:
        path: a text in UTF-8.
        fields: how many a line has; None for any number.
        separator: between fields; None for white space, of which the last field may hold some.
        least: a line may have more than that.

    Raises FileNotFoundError for a missing file, ValueError, naming the line, for another number of fields.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; check the root, or get the missing part of the data set")
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                split = line.strip().split(separator, -1 if separator or fields is None or least else fields - 1)
                where = f"{path}, line {number}"
                if fields is not None and (len(split) < fields if least else len(split) != fields):
                    raise ValueError(f"{where}: {len(split)} fields, expected {fields}: {line.strip()[:80]!r}")
                yield where, [field.strip() for field in split]
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not UTF-8 text; replace the file") from None


def whole_number(text: str, where: str, least: int = 0) -> int:
    """The number written; ValueError for what is none, or below `least`."""
    if not text.lstrip("-").isdecimal() or int(text) < least:
        raise ValueError(f"{where}: {text!r}, expected a whole number of {least} or more")
    return int(text)


def number(text: str, where: str) -> float:
    """The finite number written; ValueError for what is none."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{where}: {text!r}, expected a number")
    return value
