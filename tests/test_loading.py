"""Batches from loader processes: the same as without, and what goes wrong in one is said as if there were none."""

import functools
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import Squares

from maskerlib.data.augment import draw_crops
from maskerlib.data.folder import Folder
from maskerlib.data.loading import loading
from maskerlib.data.photos import Photos
from maskerlib.data.samples import Relabelled, Source, Subset, batches
from maskerlib.data.sets.imagenet import imagenet
from maskerlib.running.seeds import stream
from maskerlib.training.loop import Plan, run_steps


class Dies(Source):
    """An image each of which is loaded, save one, at which the process is killed; in this process it is an error."""

    size, labels = (4, 4), torch.zeros(6, dtype=torch.int64)

    def __init__(self, here: int, how):
        self.here, self.how = here, how

    def __len__(self):
        return 6

    def __getitem__(self, index):
        if index == self.here:
            self.how()
        return Squares(6)[index]

    def name(self, index):
        return f"pictures/{index}.jpg"


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


class Custom(Exception):
    """One that cannot be sent to another process."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def fails(error):
    raise error


@pytest.fixture
def root(tmp_path):
    """Two classes of three photographs each, full of detail, as JPEG files."""
    draws = np.random.default_rng(0)
    for number in range(6):
        folder = tmp_path / "train" / f"n0000000{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(draws.integers(0, 256, (30, 40, 3), np.uint8))
        coarse.resize((160, 120), Image.Resampling.BICUBIC).save(folder / f"{number}.JPEG")
    return tmp_path


def crops_of(step):
    return draw_crops(4, stream(0, "crops", step), scale=(0.08, 1))


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_of_a_training_are_the_same_to_the_bit_with_any_number_of_workers(root, workers):
    def images(workers):
        found = []

        def step(number, batch):
            found.append(batch)
            return {}

        source = imagenet(root, 32, split="train", index=None)
        run_steps(Plan(5, 4, seed=3, workers=workers), source, step, {}, identity="x", progress=False, crops=crops_of)
        return found

    for alone, helped in zip(images(0), images(workers), strict=True):
        assert torch.equal(alone.images, helped.images) and torch.equal(alone.labels, helped.labels)
        assert alone.names == helped.names


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_is_corrupt_is_named_as_without_workers(root, workers):
    bad = root / "train" / "n00000001" / "3.JPEG"
    bad.write_bytes(bad.read_bytes()[:200])
    source = imagenet(root, 32, split="train", index=None)
    with pytest.raises(ValueError, match=r"3\.JPEG: unreadable as an image \(.*\); replace or remove it$") as caught:
        list(batches(source, 2, workers=workers))
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"3\.JPEG: unreadable as an image"):
        run_steps(Plan(3, 4, workers=workers), source, lambda *_: {}, {}, identity="x", progress=False)


def in_a_training(source):
    run_steps(Plan(40, 2, workers=2), source, lambda *_: {}, {}, identity="x", progress=False)


KILLED = {
    "a source": lambda: list(batches(Dies(3, kill), 2, workers=1)),
    "a part of another": lambda: list(batches(Subset(Relabelled(Dies(3, kill), [1] * 6), range(6)), 2, workers=1)),
    "a training": lambda: in_a_training(Dies(3, kill)),
}
AT_BATCH_1 = r"a loader process died .*at batch 1, of pictures/2.jpg, pictures/3.jpg; take fewer workers .*workers=0 shows more"
SAID = {"a source": AT_BATCH_1, "a part of another": AT_BATCH_1, "a training": r"a loader process died .*pictures/\d.jpg.*"}


@pytest.mark.skipif(sys.platform == "win32", reason="there are no signals")
@pytest.mark.parametrize("case", KILLED)
def test_a_worker_that_is_killed_is_told_with_the_images_that_it_was_at(case):
    """In a process of its own: torch raises in whatever the parent does when it hears of the death, which may be pytest."""
    script = (
        f"import os, sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_loading\n"
        f"try: test_loading.KILLED[{case!r}]()\n"
        "except RuntimeError as error: print(error, flush=True)\n"
        "os._exit(0)"
    )
    for _ in range(3):  # it may hear of it between two batches, where only torch can say something
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
        if "a loader process died" in done.stdout:
            break
    assert re.fullmatch(SAID[case] + "\n", done.stdout), done.stdout + done.stderr


def test_another_error_keeps_its_kind_and_where_it_came_from():
    for error, kind in ((KeyError("mistake"), KeyError), (Custom("this", "that"), RuntimeError)):
        with pytest.raises(kind, match="mistake|Custom: this and that") as caught:
            list(batches(Dies(3, functools.partial(fails, error)), 2, workers=1))
        if kind is KeyError:
            assert "in fails" in caught.value.__notes__[0]
    with pytest.raises(RuntimeError, match="^mine$"):  # of the reader of the batches, not of a worker
        for _ in batches(Squares(6), 2, workers=1):
            raise RuntimeError("mine")


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="it counts the children of this process")
def test_workers_are_ended_when_the_reader_leaves():
    before = torch.multiprocessing.active_children()
    with pytest.raises(ZeroDivisionError) as caught, loading(Numbered(), range(50), workers=2) as found:
        assert next(found) == 0 and len(torch.multiprocessing.active_children()) == len(before) + 2
        raise ZeroDivisionError
    assert caught.value and torch.multiprocessing.active_children() == before


class Numbered:
    """Batch i is i."""

    def __getitem__(self, number):
        return number

    def names(self, number):
        return [str(number)]


def test_memory_is_pinned_for_cuda_alone(monkeypatch):
    asked = []

    class Loader(list):
        def __init__(self, *_, pin_memory, **__):
            asked.append(pin_memory)

    monkeypatch.setattr("maskerlib.data.loading.DataLoader", Loader)
    for device in (None, torch.device("cpu"), torch.device("cuda")):
        list(batches(Squares(4), 2, device=device))
    assert asked == [False, False, True]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="pinned memory is CUDA's")
def test_batches_for_cuda_are_pinned_and_the_same():
    for plain, pinned in zip(batches(Squares(6), 4), batches(Squares(6), 4, workers=1, device=torch.device("cuda")), strict=True):
        assert pinned.images.is_pinned() and not plain.images.is_pinned()
        assert torch.equal(pinned.to("cuda").images.cpu(), plain.images)


def test_what_samples_are_called_without_reading_them(root):
    assert Squares(3).name(1) == "image 1"
    folder = Folder(root / "train", 16)
    assert folder.name(0) == str(root / "train" / "n00000000" / "0.JPEG")
    assert imagenet(root, 16, split="train", index=None).name(1) == str(root / "train" / "n00000000" / "2.JPEG")
    assert Photos(["camera", root / "train" / "n00000000"], 16).name(1) == str(root / "train" / "n00000000" / "0.JPEG")
    assert Photos("camera", 16).name(0) == "camera"
