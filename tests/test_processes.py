"""Which processes live, and folders that one of them has to itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from maskerlib.running import processes
from maskerlib.running.processes import alive, host_mark, sole_use

HOLDS = """
import sys
from maskerlib.running.processes import sole_use
with sole_use(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(folder: Path) -> subprocess.Popen:
    """A process that has `folder` to itself until it is killed or its input ends."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", HOLDS, str(folder)], **pipes)
    assert process.stdout.readline() == "held\n"
    return process


def test_alive():
    assert alive(os.getpid()) and alive(os.getppid())
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert alive(process.pid) and process.poll() is None  # asking does not end it
    process.communicate()
    assert not alive(process.pid)
    assert not alive(2**40)


@pytest.mark.skipif(os.name == "nt", reason="it is asked in another way there")
def test_that_of_somebody_else_lives(monkeypatch):
    def deny(pid: int, number: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "kill", deny)
    assert alive(1)


def test_the_host_mark_is_short_and_follows_the_name(monkeypatch):
    mark = host_mark()
    assert len(mark) == 8 and int(mark, 16) >= 0 and host_mark() == mark
    monkeypatch.setattr(processes.platform, "node", lambda: "another machine")
    assert host_mark() != mark


class TestSoleUse:
    def test_a_second_process_is_refused_with_the_first_named(self, tmp_path):
        process = holder(tmp_path)
        for _ in range(2):
            message = rf"is in use by process {process.pid} on .*; wait until it ends, or give another folder"
            with pytest.raises(ValueError, match=message), sole_use(tmp_path):
                raise AssertionError("two at once")
        process.communicate()
        assert list(tmp_path.iterdir()) == []
        with sole_use(tmp_path):
            assert len(list(tmp_path.iterdir())) == 1
        assert list(tmp_path.iterdir()) == []

    def test_that_of_a_killed_process_is_taken_over(self, tmp_path):
        process = holder(tmp_path)
        process.kill()
        process.communicate()
        with sole_use(tmp_path):
            pass
        assert list(tmp_path.iterdir()) == []

    def test_an_error_frees_it(self, tmp_path):
        with pytest.raises(KeyError), sole_use(tmp_path):
            raise KeyError
        holder(tmp_path).communicate()

    def test_a_disk_that_knows_no_locks_keeps_nobody_out(self, tmp_path, monkeypatch):
        def unknown(handle) -> None:
            raise OSError(37, "No locks available")

        monkeypatch.setattr(processes, "_lock", unknown)
        with sole_use(tmp_path), sole_use(tmp_path):
            pass

    @pytest.mark.skipif(os.name == "nt", reason="an open file cannot be removed there")
    def test_a_lock_that_was_removed_meanwhile_is_made_again(self, tmp_path, monkeypatch):
        lock, calls = processes._lock, []

        def removed_first(handle) -> None:
            calls.append(handle)
            if len(calls) == 1:
                (tmp_path / "in-use.lock").unlink()
            lock(handle)

        monkeypatch.setattr(processes, "_lock", removed_first)
        with sole_use(tmp_path):
            assert len(calls) == 2 and calls[0].closed and (tmp_path / "in-use.lock").exists()
