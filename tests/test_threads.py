"""How threads wait: the user's own word counts, and it is given before torch is loaded."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from maskerlib.running.threads import passive, wait_passively

PROGRAM = """import os
from maskerlib.running.threads import wait_passively
print(wait_passively(), os.environ['OMP_WAIT_POLICY'])"""


def run(program: str, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    return subprocess.check_output([sys.executable, "-c", program], env=kept | environment, text=True)


def test_an_environment_is_completed_and_never_changed():
    assert passive({"HOME": "x"}) == {"OMP_WAIT_POLICY": "PASSIVE"}
    assert passive({"OMP_WAIT_POLICY": "ACTIVE"}) == {}


def test_it_comes_in_time_only_before_torch(monkeypatch):
    assert run(PROGRAM) == "True PASSIVE\n"
    assert run(PROGRAM, OMP_WAIT_POLICY="active") == "True active\n"
    monkeypatch.setenv("OMP_WAIT_POLICY", "")  # to be taken back after this test
    del os.environ["OMP_WAIT_POLICY"]
    assert wait_passively() is False, "torch is loaded by the other tests"
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


def test_importing_the_library_leaves_the_environment_alone():
    modules = "os, maskerlib, maskerlib.running.threads, maskerlib.masker.training"
    program = f"import {modules}; print(os.environ.get('OMP_WAIT_POLICY'))"
    assert run(program) == "None\n"


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_the_commands_of_the_makefile_wait_passively_unless_told_otherwise(monkeypatch):
    command = ["make", "--silent", "--eval", "policy: ; @echo $$OMP_WAIT_POLICY", "policy"]
    root = Path(__file__).resolve().parents[1]
    for given, expected in ((None, "PASSIVE"), ("ACTIVE", "ACTIVE")):
        monkeypatch.setenv("OMP_WAIT_POLICY", given or "")
        if given is None:
            monkeypatch.delenv("OMP_WAIT_POLICY")
        assert subprocess.check_output(command, cwd=root, text=True).strip() == expected
