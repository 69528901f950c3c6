"""Finished runs in one file: what comes out is what went in, and nothing else comes out."""

import zipfile
from pathlib import Path

import pytest
from tiny_grid import finish, table_file

from maskerlib.experiments.committed import state
from maskerlib.experiments.grid import load_table, unique
from maskerlib.experiments.packing import pack, unpack
from maskerlib.experiments.results import make_table, missing_runs


@pytest.fixture
def table(tmp_path):
    """A table, half of whose runs are finished in `here`."""
    table = load_table(table_file(tmp_path))
    finish(table, tmp_path / "here", lambda run: run.seed / 10)
    for address in list(unique(list(table.runs())))[::2]:
        (tmp_path / "here" / address / "metrics.json").unlink()
    return table


def test_a_table_begun_here_is_ended_there(table, tmp_path):
    here, there, path = tmp_path / "here", tmp_path / "there", tmp_path / "trial_runs.zip"
    assert pack(table, here, path) == 6 and unpack(path, there) == 6
    assert missing_runs(table, there, tmp_path).keys() == missing_runs(table, here, tmp_path).keys()
    for address in unique(list(table.runs())).keys() - missing_runs(table, here, tmp_path).keys():
        for name in ("metrics.json", "maps.png"):
            assert (there / address / name).read_bytes() == (here / address / name).read_bytes()
    finish(table, tmp_path / "rest", lambda run: run.seed / 10)
    assert pack(table, tmp_path / "rest", tmp_path / "all.zip") == 12
    assert unpack(tmp_path / "all.zip", there) == 6, "what is there already is left alone"
    assert len(make_table(table, there, tmp_path)) == 5


def test_equal_runs_make_equal_files(table, tmp_path):
    for name in ("a.zip", "b.zip"):
        pack(table, tmp_path / "here", tmp_path / name)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_what_is_none_is_refused(table, tmp_path):
    with pytest.raises(ValueError, match="no run of trial is finished in .*; `make experiments TABLE=trial`"):
        pack(table, tmp_path / "nowhere", tmp_path / "a.zip")
    with pytest.raises(FileNotFoundError, match=r"no runs at .*a\.zip"):
        unpack(tmp_path / "a.zip", tmp_path / "there")
    pack(table, tmp_path / "here", tmp_path / "a.zip")
    content = (tmp_path / "a.zip").read_bytes()
    for damaged in (content[:-30], content[:60] + bytes(200) + content[260:]):
        (tmp_path / "b.zip").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"b\.zip"):
            unpack(tmp_path / "b.zip", tmp_path / "there")


@pytest.mark.parametrize("name", ["../evil.json", "0123456789abcdef/run.ipynb", "/0123456789abcdef/metrics.json"])
def test_nothing_else_is_written(name, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, "{}")
    with pytest.raises(ValueError, match=r"a\.zip holds .*, expected ADDRESS/maps\.png or metrics\.json; pack it again"):
        unpack(tmp_path / "a.zip", tmp_path / "there")
    assert not (tmp_path / "there").exists() and not (tmp_path / "evil.json").exists()


def test_the_runs_that_are_committed_are_of_their_table():
    tables = Path(__file__).resolve().parents[1] / "figures" / "tables"
    for path in tables.glob("*_runs.zip"):
        name = path.stem.removesuffix("_runs")
        table = load_table(tables.parents[1] / "experiments" / f"{name}.yaml")
        runs = unique(list(table.runs()))
        with zipfile.ZipFile(path) as archive:
            assert {member.partition("/")[0] for member in archive.namelist()} <= runs.keys(), "of another version, or of no row"
        assert state(table, tables) != "current", "the table is made; its runs need not travel"
