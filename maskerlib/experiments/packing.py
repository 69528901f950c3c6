"""Finished runs in one file, so that a table can be begun on one machine and ended on another.

    python -m maskerlib.experiments pack methods      what is finished of it goes to figures/tables/methods_runs.zip
    python -m maskerlib.experiments unpack methods    and from there to runs/experiments, where `make experiments` finds it

Of each run the file holds `ADDRESS/metrics.json` and `ADDRESS/maps.png`, which is what a table is made of.
"""

import re
import zipfile
from pathlib import Path

from maskerlib.experiments.grid import Table, unique
from maskerlib.running.files import atomic_path, is_there

__all__ = ["pack", "unpack"]

_FILES = ("maps.png", "metrics.json")  # the last one marks a run as finished
_MEMBER = re.compile(rf"[0-9a-f]{{16}}/({'|'.join(map(re.escape, _FILES))})")
_MOST = 2**24  # bytes of a member


def pack(table: Table, runs: Path, path: Path) -> int:
    """Write what is finished of a table's runs to `path`, and return how many they are.

    Raises ValueError where none is.
    """
    finished = [address for address in unique(list(table.runs())) if all(is_there(runs / address / name) for name in _FILES)]
    if not finished:
        raise ValueError(f"no run of {table.name} is finished in {runs}; `make experiments TABLE={table.name}` makes them")
    with atomic_path(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for address in sorted(finished):
            for name in _FILES:
                member = zipfile.ZipInfo(f"{address}/{name}")  # of no time, so that equal runs make equal files
                member.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(member, (runs / address / name).read_bytes())
    return len(finished)


def unpack(path: Path, runs: Path) -> int:
    """Put the runs in `path` where `runs` has them not yet, and return how many that were.

    Raises FileNotFoundError for a file that is not there, ValueError for one that is damaged or holds anything else.
    """
    if not is_there(path):
        raise FileNotFoundError(f"no runs at {path}; `python -m maskerlib.experiments pack` writes them")
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            for member in archive.infolist():
                if not _MEMBER.fullmatch(member.filename) or member.file_size > _MOST:
                    raise ValueError(f"{path} holds {member.filename!r}, expected ADDRESS/{' or '.join(_FILES)}; pack it again")
            addresses = sorted({name.partition("/")[0] for name in names})
            new = [address for address in addresses if not is_there(runs / address / _FILES[-1])]
            for address in new:
                for name in _FILES:
                    content = archive.read(f"{address}/{name}")
                    with atomic_path(runs / address / name) as partial:
                        partial.write_bytes(content)
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise ValueError(f"{path} is damaged ({error}); copy it again") from None
    return len(new)
