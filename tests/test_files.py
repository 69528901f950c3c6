"""Files are whole or absent."""

import errno
import json
import math
import os
import pickle
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from maskerlib.running.files import (
    CannotWrite,
    atomic_path,
    hash_tensors,
    load_checkpoint,
    make_folder,
    read_json,
    remove_leftovers,
    save_checkpoint,
    write_json,
)
from maskerlib.running.processes import host_mark

KILLED_HALF_WAY = """
import os, signal, sys
from maskerlib.running.files import atomic_path
with atomic_path(sys.argv[1]) as partial:
    with open(partial, "w") as file:
        file.write("half of the ne")
        file.flush()
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
"""

DISK_OF_64_KB = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))  # a write beyond fails, as on a full disk
import torch
from maskerlib.running.files import CannotWrite, save_checkpoint, write_json
for name, call in (
    ("a.pt", lambda path: save_checkpoint(path, {"weights": torch.zeros(100_000)})),
    ("a.json", lambda path: write_json(path, "x" * 100_000)),
):
    try:
        call(sys.argv[1] + "/" + name)
    except CannotWrite as error:
        print(error)
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

    def test_files_of_writers_that_live_are_left_alone(self, tmp_path):
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        mine, dead, far = (
            tmp_path / f"a.partial-{host}-{pid}-0123abcd.pt"
            for host, pid in ((host_mark(), os.getpid()), (host_mark(), ended.pid), ("0123abcd", ended.pid))
        )
        for path in (mine, dead, far):
            path.touch()
        with atomic_path(tmp_path / "x") as partial:
            partial.write_text("whole")
            assert remove_leftovers(tmp_path) == 1 and not dead.exists() and mine.exists() and far.exists()
        assert (tmp_path / "x").read_text() == "whole"
        os.utime(far, (time.time() - 90_000,) * 2)  # of another machine, and a day old
        assert remove_leftovers(tmp_path) == 1 and names(tmp_path) == [mine.name, "x"]

    def test_one_process_does_not_take_the_file_of_another(self, tmp_path):
        tidy = "import sys; from maskerlib.running.files import remove_leftovers; print(remove_leftovers(sys.argv[1]))"
        with atomic_path(tmp_path / "x") as partial:
            partial.write_text("whole")
            done = subprocess.run([sys.executable, "-c", tidy, str(tmp_path)], capture_output=True, text=True)
            assert (done.stdout, done.stderr) == ("0\n", "")
        assert (tmp_path / "x").read_text() == "whole"

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


class TestCannotWrite:
    """One line with the path, the reason, the bytes that are free and the mend; it is an OSError and a ValueError."""

    @pytest.mark.parametrize(
        "write",
        [
            lambda path: write_json(path, 1),
            lambda path: save_checkpoint(path, {"a": torch.zeros(1)}),
            lambda path: atomic_path(path).__enter__(),  # before the block, which may take hours
        ],
    )
    @pytest.mark.parametrize(
        "where, message",
        [
            ("folder", r"folder cannot be written to \(.*\); give the name of a file"),
            ("file/x.json", r"x\.json cannot be written to \(.*\); a part of the path is a file; give another path"),
            ("file/below/x.json", r"x\.json cannot be written to \(.*\); a part of the path is a file; give another path"),
            ("a\0b", r"a\0b cannot be written to \(embedded null byte\); give a path that can be written to"),
            ("x" * 300, r"xxx cannot be written to \(.*\); give a shorter name"),
        ],
    )
    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has other words for these")
    def test_a_path_that_is_none(self, tmp_path, where, message, write):
        (tmp_path / "folder").mkdir()
        (tmp_path / "file").write_text("old")
        with pytest.raises(CannotWrite, match=message + r" \([\d,]+ bytes are free there\)$") as caught:
            write(tmp_path / where)
        assert isinstance(caught.value, OSError) and isinstance(caught.value, ValueError) and "\n" not in str(caught.value)
        assert names(tmp_path) == ["file", "folder"] and (tmp_path / "file").read_text() == "old"

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with a name")
    def test_a_pipe_is_not_replaced(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(CannotWrite, match=r"pipe cannot be written to \(Is a device or a pipe\); give the name of a file"):
            write_json(tmp_path / "pipe", 1)
        assert (tmp_path / "pipe").is_fifo()

    def test_a_name_that_just_fits_is_written(self, tmp_path):
        write_json(tmp_path / ("ä" * 120 + ".json"), 1)
        assert names(tmp_path) == ["ä" * 120 + ".json"]

    @pytest.mark.skipif(sys.platform == "win32", reason="no such limits")
    def test_a_disk_that_takes_no_more(self, tmp_path):
        (tmp_path / "a.json").write_text("old")
        done = subprocess.run([sys.executable, "-c", DISK_OF_64_KB, str(tmp_path)], capture_output=True, text=True)
        assert done.stderr == ""
        for line, name in zip(done.stdout.splitlines(), ("a.pt", "a.json"), strict=True):
            assert line.startswith(f"{tmp_path / name} cannot be written to (File too large)") and "bytes are free" in line
        assert names(tmp_path) == ["a.json"] and (tmp_path / "a.json").read_text() == "old"

    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
    def test_a_full_disk_says_how_much_is_free(self, tmp_path, monkeypatch, code):
        def full(descriptor: int) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr("maskerlib.running.files.shutil.disk_usage", lambda path: type("Usage", (), {"free": 4096}))
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(CannotWrite, match=r"a\.json cannot be written to .*\(4,096 bytes are free there\)") as caught:
            write_json(tmp_path / "a.json", 1)
        assert caught.value.errno == code and names(tmp_path) == []

    def test_errors_about_other_files_are_left_as_they_are(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="photo"), atomic_path(tmp_path / "x"):
            open(tmp_path / "photo")
        with pytest.raises(OSError, match="of its own") as caught, atomic_path(tmp_path / "x"):
            raise OSError("of its own")
        assert type(caught.value) is OSError

    def test_a_folder_on_a_full_disk(self, tmp_path, monkeypatch):
        def full(path: Path, content: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(CannotWrite, match=r"run cannot be written to \(No space .*\); give another one \([\d,]+ b"):
            make_folder(tmp_path / "run")
        assert names(tmp_path / "run") == []


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

    @pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe\x00", b"[" * 100_000, b"1" * 10_000])
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

    @pytest.mark.filterwarnings("ignore:Detected pickle protocol")
    def test_a_bit_that_flips_anywhere_never_loads_as_something_else(self, tmp_path):
        content = {"step": 3, "rates": [0.1], "weights": {"a": torch.randn(30), "b": torch.tensor(3)}}
        save_checkpoint(tmp_path / "c.pt", content)
        whole = (tmp_path / "c.pt").read_bytes()
        damaged = 0
        for place in random.Random(0).sample(range(8 * len(whole)), 600):
            flipped = bytearray(whole)
            flipped[place // 8] ^= 1 << place % 8
            (tmp_path / "c.pt").write_bytes(flipped)
            try:
                loaded = load_checkpoint(tmp_path / "c.pt")
            except ValueError as error:
                assert "c.pt is " in str(error) and "delete it" in str(error) and "\n" not in str(error)
                damaged += 1
                continue  # else the bit was one of those that mean nothing, or of the checksum's name
            weights, expected = loaded["weights"], content["weights"]
            assert weights.keys() == expected.keys() and all(torch.equal(weights[name], expected[name]) for name in weights)
            assert (loaded["step"], loaded["rates"]) == (3, [0.1])
        assert damaged > 200

    @pytest.mark.parametrize("save", [save_checkpoint, lambda path, content: torch.save(content, path)])
    def test_a_weight_that_differs_is_named_as_damage_also_where_no_checksum_was_stored(self, tmp_path, save):
        weights = torch.arange(7.0) * 1.7
        save(tmp_path / "c.pt", {"weights": weights})
        assert torch.equal(load_checkpoint(tmp_path / "c.pt")["weights"], weights)
        whole, stored = (tmp_path / "c.pt").read_bytes(), weights.numpy().tobytes()
        assert whole.count(stored) == 1
        at = whole.index(stored) + 9
        (tmp_path / "c.pt").write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
        with pytest.raises(ValueError, match=r"c\.pt is damaged: the hash of its tensors differs from the one saved.*delete it"):
            load_checkpoint(tmp_path / "c.pt")

    def test_every_kind_of_content_keeps_its_checksum(self, tmp_path):
        weight = torch.nn.Parameter(torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last))
        adam = torch.optim.Adam([weight])
        weight.sum().backward()
        adam.step()
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, 5)
        content = {
            "adam": adam.state_dict(),
            "schedule": schedule.state_dict(),
            "view": torch.arange(10)[::3],
            "tied": [weight, weight],
            "kinds": [torch.tensor(1.5, dtype=dtype) for dtype in (torch.float64, torch.bfloat16, torch.complex64, torch.bool)],
            "empty": torch.zeros(0, 3),
            "plain": {1: None, "x": (True, math.nan, -0.0, math.inf, 10**30), "size": torch.Size([2])},
        }
        save_checkpoint(tmp_path / "c.pt", content)
        assert load_checkpoint(tmp_path / "c.pt").keys() == content.keys()

    def test_one_that_is_nested_too_deep_is_named(self, tmp_path, monkeypatch):
        deep: list = []
        for _ in range(100_000):
            deep = [deep]
        save_checkpoint(tmp_path / "c.pt", {"a": 1})
        read = {**torch.load(tmp_path / "c.pt"), "a": deep}  # the pickle of such a list is read without recursion
        monkeypatch.setattr(torch, "load", lambda *given, **options: dict(read))
        with pytest.raises(ValueError, match=r"c\.pt is not a readable checkpoint \(maximum recursion depth .*delete it"):
            load_checkpoint(tmp_path / "c.pt")
        while deep:  # else the interpreter takes it apart in one recursion
            deep = deep.pop()

    def test_the_same_content_is_the_same_bytes(self, tmp_path):
        for name in ("a.pt", "b.pt"):
            save_checkpoint(tmp_path / name, {"weights": torch.arange(5.0)})
        assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()

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
