"""The types of the package hold together, as strictly as mypy can tell."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_mypy_finds_nothing_in_the_package():
    """What it learnt is kept in `.mypy_cache`, so that a second run takes seconds; pyproject.toml says how strict."""
    done = subprocess.run([sys.executable, "-m", "mypy", "--no-color-output"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
