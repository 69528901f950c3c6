"""The same tables on other data: how a configuration is read, what it makes of them, and where their files go."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image
from tiny_grid import table_file

from maskerlib.experiments import __main__ as command_line
from maskerlib.experiments.configs import load_config, tables_of
from maskerlib.experiments.tables import read_results

ROOT = Path(__file__).parents[1]
REAL = {"data": "imagenet", "root": "data", "classifier": "torchvision:resnet18"}


@pytest.fixture
def folder(tmp_path):
    """A function that writes a configuration beside one table, "trial", and returns its folder."""
    (tmp_path / "experiments" / "mine").mkdir(parents=True)

    def write(**content) -> Path:
        table_file(tmp_path / "experiments", shared={"steps": 7, "width": 32})
        path = tmp_path / "experiments" / "mine" / "config.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return path.parent

    return write


def test_its_parameters_come_before_those_of_the_table_and_after_those_of_a_row(folder):
    (table,) = load_config(folder(shared={**REAL, "steps": 9, "tv": 0.5}, seeds=[4])).values()
    first, *_ = table.runs()
    assert (first.setting.steps, first.setting.width, first.setting.tv, first.seed) == (9, 32, 0.5, 4)
    assert first.setting.data == "imagenet" and len(list(table.runs())) == 4
    assert {run.setting.tv for run in table.runs() if run.row == "other"} == {0.1}


def test_tables_of_its_own_and_where_their_files_go(folder, tmp_path):
    place = folder(tables=[], shared=REAL)
    assert load_config(place) == {}
    own = table_file(place, table="more")
    own.rename(place / "more.yaml")
    tables, made = tables_of(tmp_path, place)
    assert list(tables) == ["more"] and made == tmp_path / "figures" / "tables" / "mine"
    tables, made = tables_of(tmp_path)
    assert list(tables) == ["trial"] and made == tmp_path / "figures" / "tables"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"shard": {}}, "expected the keys seeds, shared, tables"),
        ({"tables": ["trail"]}, r"tables is \['trail'\], expected some of trial"),
        ({"seeds": [0, 0]}, "seeds is"),
        ({"shared": {"seed": 3}}, "'seed' is no parameter of a table"),
        ({"shared": {"data": "pets"}}, "row 'plain': root='' for data='pets'"),
        ({"shared": {"tw": 3}}, "a run has no parameter 'tw'"),
    ],
)
def test_mistakes_are_named_with_the_file(folder, content, message):
    with pytest.raises(ValueError, match=message) as refused:
        load_config(folder(**content))
    assert "config.yaml" in str(refused.value)


def test_a_folder_without_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="no config.yaml in"):
        load_config(tmp_path)


@pytest.mark.parametrize("name", ["imagenet", "pets"])
def test_those_of_the_repository_can_run(name):
    tables, made = tables_of(ROOT, ROOT / "experiments" / name)
    settings = [run.setting for table in tables.values() for run in table.runs()]
    assert len(tables) >= 4 and {setting.data for setting in settings} == {name} and made.name == name
    ordinary, _ = tables_of(ROOT)
    addresses = {run.setting.address() for table in ordinary.values() for run in table.runs()}
    assert not addresses & {setting.address() for setting in settings}


def test_the_plan_says_that_nobody_knows_how_long_it_takes(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command_line.main(["plan", "--config", str(folder(shared=REAL))]) == 0
    assert "unknown" in capsys.readouterr().out
    assert command_line.main(["plan", "--config", "nowhere"]) == 2
    assert "no config.yaml in nowhere" in capsys.readouterr().err


def test_a_table_is_made_through_snakemake(folder, tmp_path):
    """From images in folders to the files of a table: one row, one seed, two steps."""
    pytest.importorskip("snakemake")
    for split, count in (("train", 4), ("val", 2)):
        for label, colour in enumerate(("red", "green")):
            for number in range(count):
                path = tmp_path / "data" / split / str(label) / f"{number}.JPEG"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (48, 40), colour).save(path)
    tiny = {"image_size": 64, "train_images": None, "val_images": None, "steps": 2, "batch_size": 4, "precision": "fp32"}
    place = folder(shared={**REAL, **tiny, "method": "grad-cam"}, seeds=[0])
    rows = [{"name": "plain", "modes": ["FIX"]}]
    table_file(tmp_path / "experiments", rows=rows, modes=["FIX"])
    (tmp_path / "notebooks").mkdir()
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "experiments" / "Snakefile", "--directory", tmp_path]
    options = ["--cores", "1", "--nolock", "--config", f"config={place}"]
    environment = {**os.environ, "MASKERLIB_PROFILE": "default"}
    done = subprocess.run([*map(str, command), *options], capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    results = read_results("trial", tmp_path / "figures" / "tables" / "mine")
    assert results.settings == ["plain"] and results.value("plain", "FIX", "accuracy before")[0] in (0, 0.25, 0.5, 0.75, 1)
