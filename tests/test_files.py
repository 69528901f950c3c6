"""Files are whole or absent."""

import json
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from maskerlib.files import (
    atomic_path,
    hash_tensors,
    load_checkpoint,
    make_folder,
    read_json,
    remove_leftovers,
    save_checkpoint,
    write_json,
)

KILLED_HALF_WAY = """
import os, signal, sys
from maskerlib.files import atomic_path
with atomic_path(sys.argv[1]) as partial:
    with open(partial, "w") as file:
        file.write("half of the ne")
        file.flush()
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestAtomicPath:
    def test_success_leaves_the_new_file_alone(self, tmp_path):
        target = tmp_path / "new folder" / "a b.tar.txt"
        with atomic_path(target) as partial:
            assert partial.parent == target.parent and partial.suffix == ".txt" and partial != target
            partial.write_text("new")
            assert not target.exists()
        assert target.read_text() == "new"
        assert names(target.parent) == ["a b.tar.txt"]

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
    def test_an_error_leaves_the_old_file_alone(self, tmp_path, error):
        target = tmp_path / "result.json"
        target.write_text("old")
        with pytest.raises(error, match="why"), atomic_path(target) as partial:
            partial.write_text("half")
            raise error("why")
        assert target.read_text() == "old"
        assert names(tmp_path) == ["result.json"]

    def test_an_error_before_anything_was_written(self, tmp_path):
        with pytest.raises(ValueError, match="early"), atomic_path(tmp_path / "result.json"):
            raise ValueError("early")
        assert names(tmp_path) == []

    def test_the_old_file_goes_by_one_rename_and_nothing_else(self, tmp_path, monkeypatch):
        target = tmp_path / "result.json"
        target.write_text("old")

        def refuse(source: Path, destination: Path) -> None:
            assert Path(source).read_text() == "new" and Path(destination) == target
            raise PermissionError("another program has the file open")

        monkeypatch.setattr(os, "replace", refuse)
        with pytest.raises(PermissionError, match="open"), atomic_path(target) as partial:
            partial.write_text("new")
        assert target.read_text() == "old" and names(tmp_path) == ["result.json"]

    def test_two_at_once_do_not_share_a_name(self, tmp_path):
        with atomic_path(tmp_path / "x") as one, atomic_path(tmp_path / "x") as other:
            assert one != other
            one.write_text("one")
            other.write_text("other")
        assert (tmp_path / "x").read_text() == "one"  # the outer one ends last

    def test_a_kill_leaves_the_old_file_and_a_leftover_that_is_removed(self, tmp_path):
        target = tmp_path / "weights.pt"
        target.write_text("old")
        done = subprocess.run([sys.executable, "-c", KILLED_HALF_WAY, str(target)], capture_output=True)
        assert done.returncode != 0 and done.stderr == b""
        assert target.read_text() == "old"
        assert len(names(tmp_path)) == 2
        assert remove_leftovers(tmp_path) == 1
        assert names(tmp_path) == ["weights.pt"]


class TestFolders:
    def test_leftovers_below_or_with_other_names_stay(self, tmp_path):
        (tmp_path / "below").mkdir()
        (tmp_path / "below" / "a.partial-1-2.pt").touch()
        (tmp_path / "partial-results.pt").touch()
        (tmp_path / "a.partial-1-2").touch()
        assert remove_leftovers(tmp_path) == 1
        assert names(tmp_path) == ["below", "partial-results.pt"]
        assert names(tmp_path / "below") == ["a.partial-1-2.pt"]

    def test_make_folder_leaves_nothing_in_it(self, tmp_path):
        assert names(make_folder(str(tmp_path / "a" / "b"))) == []

    def test_a_file_in_the_way_is_named(self, tmp_path):
        (tmp_path / "file").touch()
        for folder in (tmp_path / "file", tmp_path / "file" / "run"):
            with pytest.raises(ValueError, match=r"file\S* cannot be written to"):
                make_folder(folder)

    def test_a_folder_without_permission_is_named(self, tmp_path, monkeypatch):
        def deny(path: Path) -> None:
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(Path, "touch", deny)  # the superuser, who may be running this, is denied nothing
        with pytest.raises(ValueError, match=r"locked cannot be written to \(Permission denied\); give another"):
            make_folder(tmp_path / "locked")


class TestJson:
    def test_what_is_no_json_becomes_null_or_plain(self, tmp_path):
        content = {
            "nan": math.nan,
            "infinity": [-math.inf, np.float64("inf"), torch.tensor(math.nan)],
            "numbers": (1, 2.5, np.int64(3), torch.tensor(4), np.bool_(True)),
            "path": Path("a") / "b",
            5: {"none": None, "yes": True},
        }
        write_json(tmp_path / "a.json", content)
        text = (tmp_path / "a.json").read_text()
        assert "NaN" not in text and "Infinity" not in text
        assert read_json(tmp_path / "a.json") == {
            "nan": None,
            "infinity": [None, None, None],
            "numbers": [1, 2.5, 3, 4, True],
            "path": os.path.join("a", "b"),
            "5": {"none": None, "yes": True},
        }

    def test_what_cannot_be_written_leaves_the_old_file(self, tmp_path):
        write_json(tmp_path / "a.json", 1)
        with pytest.raises((ValueError, RuntimeError)):
            write_json(tmp_path / "a.json", torch.zeros(2))
        assert read_json(tmp_path / "a.json") == 1
        assert names(tmp_path) == ["a.json"]

    @pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe\x00"])
    def test_a_damaged_file_is_named(self, tmp_path, content):
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.json is not valid JSON"):
            read_json(tmp_path / "a.json")

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"a\.json"):
            read_json(tmp_path / "a.json")


class TestCheckpoints:
    def test_round_trip(self, tmp_path):
        content = {
            "step": 3,
            "tensors": {"a": torch.randn(2, 3).bfloat16()},
            "list": [1.5, "x", None, (1, 2)],
        }
        save_checkpoint(tmp_path / "c.pt", content)
        loaded = load_checkpoint(tmp_path / "c.pt")
        assert torch.equal(loaded["tensors"].pop("a"), content["tensors"].pop("a"))
        assert loaded == content

    def test_truncation_anywhere_is_named(self, tmp_path):
        save_checkpoint(tmp_path / "c.pt", {"weights": torch.randn(300)})
        whole = (tmp_path / "c.pt").read_bytes()
        for size in (0, 1, 100, len(whole) // 2, len(whole) - 1):
            (tmp_path / "c.pt").write_bytes(whole[:size])
            with pytest.raises(ValueError, match=r"c\.pt is not a readable checkpoint .*delete it") as caught:
                load_checkpoint(tmp_path / "c.pt")
            assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("save", [torch.save, lambda bomb, path: path.write_bytes(pickle.dumps(bomb))])
    def test_code_is_refused_and_never_run(self, tmp_path, save):
        class Bomb:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "exploded"),)

        save({"weights": Bomb()}, tmp_path / "c.pt")
        with pytest.raises(ValueError, match=r"c\.pt is not a readable checkpoint"):
            load_checkpoint(tmp_path / "c.pt")
        assert names(tmp_path) == ["c.pt"]

    def test_missing_and_other_content(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*c\.pt"):
            load_checkpoint(tmp_path / "c.pt")
        torch.save([1, 2], tmp_path / "c.pt")
        with pytest.raises(ValueError, match="holds a list, expected a dict"):
            load_checkpoint(tmp_path / "c.pt")


def test_hash_follows_names_shapes_dtypes_bytes_and_nothing_else():
    base = {"a": torch.arange(4.0).view(1, 4, 1, 1), "b": torch.tensor(True)}
    same = {"b": torch.tensor(True), "a": base["a"].clone().to(memory_format=torch.channels_last)}
    assert hash_tensors(base) == hash_tensors(same)
    assert len(hash_tensors(base)) == 64 and int(hash_tensors(base), 16) >= 0
    flipped = base["a"].clone()
    flipped[0, 2, 0, 0] = torch.nextafter(flipped[0, 2, 0, 0], torch.tensor(9.0))
    others = [
        hash_tensors(base, "name"),
        hash_tensors({"a": base["a"]}),
        hash_tensors({"c": base["a"], "b": base["b"]}),
        hash_tensors({"a": base["a"].view(4), "b": base["b"]}),
        hash_tensors({"a": base["a"].view(torch.int32), "b": base["b"]}),
        hash_tensors({"a": flipped, "b": base["b"]}),
        hash_tensors({"a": base["a"], "b": torch.zeros(0)}),
    ]
    assert len({hash_tensors(base), *others}) == 8


def test_written_json_is_json(tmp_path):
    write_json(tmp_path / "a.json", {"ä": [1]})
    assert json.loads((tmp_path / "a.json").read_bytes().decode("utf-8")) == {"ä": [1]}
