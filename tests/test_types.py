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


USER = '''
import torch
from torch import Tensor

from maskerlib import Classifier, Folder, MaskerConfig, Scenes, classifier_named, evaluate, grad_cam, optimise_mask, train_masker


def mine(images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
    return torch.rand(len(images), 1, *images.shape[-2:])


classifier = classifier_named("scenes")
table = evaluate({"mine": mine, "Grad-CAM": grad_cam()}, Scenes("val", count=8), classifier, batch_size=4)
print(table.loc["mine", "LE"], table["SM"])
whole, rows = evaluate({"mine": mine}, Folder("photos"), classifier, per_image=True)
print(whole["LE"], rows["LE"])
masks: Tensor = optimise_mask(classifier, torch.rand(1, 3, 96, 96), "cat", steps=3).masks
trained = train_masker(classifier, Scenes("val", count=8), MaskerConfig.final("CA", steps=1)).to("cpu")
trained.save("runs/mine")
'''


@pytest.mark.slow
def test_a_user_sees_the_types_and_a_slip_of_the_finger(tmp_path):
    user = tmp_path / "user.py"
    command = [sys.executable, "-m", "mypy", "--strict", "--no-color-output", "--cache-dir", str(ROOT / ".mypy_cache")]
    command += ["--config-file", str(ROOT / "pyproject.toml"), str(user)]
    for text, said in ((USER, "Success"), (f"{USER}evaluate({{}}, 3, classifier)\ntrained.sav()\n", "Found 2 errors")):
        user.write_text(text)
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert said in done.stdout, done.stdout + done.stderr
