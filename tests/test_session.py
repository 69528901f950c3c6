"""One notebook's choices: the profile, the device, the folders."""

import pytest
import torch

from maskerlib.course.session import open_session
from maskerlib.notebooks.runner import project_root

SIZES = {"default": {"images": 64}, "smoke": {"images": 4}}


def test_the_profile_decides_sizes_and_folders(monkeypatch):
    monkeypatch.delenv("MASKERLIB_PROFILE", raising=False)
    session = open_session("02_masks", device="cpu", **SIZES)
    root = project_root()
    assert (session.profile, session.sizes["images"], session.device.type) == ("default", 64, "cpu")
    assert (session.results, session.figures) == (root / "runs" / "02_masks", root / "figures")
    smoke = open_session("02_masks", "smoke", "cpu", **SIZES)
    assert (smoke.sizes["images"], smoke.results) == (4, root / "runs" / "02_masks-smoke")
    assert smoke.figures == smoke.results, "a smoke run must not draw over the figures of the default profile"
    assert smoke.cache == session.cache


def test_the_variable_counts_where_the_parameter_is_silent(monkeypatch):
    monkeypatch.setenv("MASKERLIB_PROFILE", "smoke")
    assert open_session("x", device="cpu", **SIZES).profile == "smoke"
    assert open_session("x", "default", "cpu", **SIZES).profile == "default"
    monkeypatch.setenv("MASKERLIB_PROFILE", "quick")
    with pytest.raises(ValueError, match="profile 'quick' is unknown; choose one of default, smoke"):
        open_session("x", device="cpu", **SIZES)


ABSENT = "mps" if torch.cuda.is_available() else "cuda"


@pytest.mark.parametrize("device", ["gpu", ABSENT])
def test_a_device_that_is_not_there_is_refused(device):
    with pytest.raises(ValueError, match=f"device '{device}' cannot be used here"):
        open_session("x", "smoke", device, **SIZES)


def test_both_profiles_have_the_same_sizes():
    with pytest.raises(ValueError, match="sizes steps stand in one profile only"):
        open_session("x", "smoke", "cpu", default={"images": 1, "steps": 1}, smoke={"images": 1})
