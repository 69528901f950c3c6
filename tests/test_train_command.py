"""`maskerlib train`: a classifier for classes of one's own, from a folder of images to a file that others can name."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from PIL import Image

from maskerlib.__main__ import main
from maskerlib.classifiers.registry import classifier_named


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Red and blue images, for training and to measure on."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 4)):
        for name, channel in (("red", 0), ("blue", 2)):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 90, (40, 40, 3), dtype=np.uint8)
                pixels[..., channel] += 120
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
    return folder


def command(images, folder, *more):
    sizes = ["--size", "32", "--batch-size", "8", "--passes", "25", "--precision", "fp32"]
    return ["train", "scenes", "--data", f"folder:{images}", "--folder", str(folder), *sizes, *more]


def test_it_learns_and_is_known_by_its_file(images, tmp_path, capsys):
    assert main(command(images, tmp_path / "run")) == 0
    assert "classifier.pt: 100.0% of 8 images right, 2 classes" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == {"accuracy": 1.0, "images": 8}
    assert "maskerlib" in (tmp_path / "run" / "provenance.json").read_text()
    found = classifier_named("scenes", weights=tmp_path / "run" / "classifier.pt")
    assert found.class_names == ("blue", "red")
    stamp = (tmp_path / "run" / "classifier.pt").stat().st_mtime_ns
    assert main(command(images, tmp_path / "run")) == 0, "a finished run is measured again, and not repeated"
    assert (tmp_path / "run" / "classifier.pt").stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--lr", "0"], "lr=0.0 must be a finite number above 0"),
        (["--train-option", "sizee", "3"], "has no option 'sizee'"),
        (["--data", "folder:nowhere"], "nowhere"),
        (["--device", "cuda:99"], "--device 'cuda:99' is not on this machine; choose auto, cpu"),
        (["--data", "photos"], "photos/train"),
        (["--weights", "nowhere.pt"], "nowhere.pt"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(images, tmp_path, capsys, more, message):
    assert main(command(images, tmp_path / "run", *more)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_another_run_is_not_written_over(images, tmp_path, capsys):
    assert main(command(images, tmp_path / "run", "--passes", "1")) == 0
    assert main(command(images, tmp_path / "run", "--passes", "2")) == 2
    assert "holds a finished classifier of another run" in capsys.readouterr().err


def test_scenes_are_trained_on_as_well(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    few = ["--train-option", "count", "32", "--val-option", "count", "16"]
    assert main(["train", "scenes", "--data", "scenes", "--folder", "run", "--passes", "1", *few]) == 0
    assert "of 16 images right, 16 classes" in capsys.readouterr().out


def test_a_network_of_one_size_is_told_of_before_it_is_trained(images, tmp_path, capsys):
    asked = ["train", "torchvision:vit_b_32", "--data", f"folder:{images}", "--folder", str(tmp_path / "run")]
    assert main([*asked, "--batch-size", "24", "--passes", "1"]) == 2
    assert "does not take the smaller images, 149x149" in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.skipif(os.name == "nt", reason="sends Ctrl-C")
def test_after_ctrl_c_the_same_command_goes_on(images, tmp_path, capsys, monkeypatch):
    step, calls = torch.optim.SGD.step, []

    def stopped(self, *given, **options):
        calls.append(1)
        if len(calls) == 7:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, *given, **options)

    monkeypatch.setattr(torch.optim.SGD, "step", stopped)
    assert main(command(images, tmp_path / "run")) == 130
    assert "the same command goes on from the last checkpoint" in capsys.readouterr().err
    assert main(command(images, tmp_path / "run")) == 0 and len(calls) == 75, "no step is taken twice"
    assert main(command(images, tmp_path / "whole")) == 0
    files = [tmp_path / name / "classifier.pt" for name in ("run", "whole")]
    one, other = (classifier_named("scenes", weights=path).fingerprint() for path in files)
    assert one == other
