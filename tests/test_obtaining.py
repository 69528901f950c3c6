"""The command that looks at a data set, and the one way in which it gets one."""

from pathlib import Path

import pytest

import maskerlib.__main__ as command_line
from maskerlib.data import __main__ as data_command
from maskerlib.data import obtaining
from maskerlib.data.obtaining import OFFERS, download, look_at
from maskerlib.data.registry import SOURCES


def test_there_is_an_offer_for_each_reader_and_the_command_knows_them():
    readers = {name.partition(":")[0] for name, entry in SOURCES.items() if ".sets." in entry.make.__module__}
    assert set(OFFERS) == readers
    assert set(data_command._NAMES) == readers


def test_without_a_name_all_are_listed_with_terms_and_addresses(capsys):
    assert command_line.main(["data"]) == 0
    printed = capsys.readouterr().out
    for name, offer in OFFERS.items():
        assert f"{name}\n" in printed and offer.terms in printed and offer.address in printed
    assert "maskerlib data pets --download" in printed and "maskerlib data cub --download" not in printed


@pytest.fixture
def here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # where indexes are kept
    return tmp_path


def test_what_is_there_and_what_is_missing(here, capsys):
    SOURCES["pets:PATH"].example(here / "data")
    assert command_line.main(["data", "pets", "--root", "data"]) == 1
    said = capsys.readouterr()
    assert said.out == "test: 2 images, 2 classes, boxes and masks\n"
    assert said.err.startswith(f"trainval: {Path('data', 'annotations', 'trainval.txt')}: no such file")
    (here / "data" / "annotations" / "test.txt").unlink()
    assert command_line.main(["data", "pets", "--root", "data"]) == 1
    said = capsys.readouterr()
    assert not said.out and "it is to be had by `maskerlib data pets --root data --download`, or from https://" in said.err


def test_every_image_is_read_when_asked(here):
    SOURCES["cub:PATH"].example(here / "data")
    broken = here / "data" / "images" / "002.Laysan_Albatross" / "a.jpg"
    whole = list(look_at("cub", here / "data", every=True))
    assert whole[1] == ("test: 2 images, 2 classes, boxes and masks", True) and not whole[0][1]
    broken.write_bytes(broken.read_bytes()[:200])
    (test,) = [line for line, _ in look_at("cub", here / "data", every=True) if line.startswith("test")]
    assert test.endswith(f"1 cannot be read: {broken}")


@pytest.mark.parametrize("name", OFFERS)
def test_an_example_of_each_is_recognised(name, here):
    SOURCES[f"{name}:PATH"].example(here / "data")
    there = [line for line, fine in look_at(name, here / "data") if fine]
    assert len(there) == 1 and "2 images" in there[0]


def test_nothing_is_downloaded_but_on_demand(here, monkeypatch, capsys):
    asked = []

    def fake(root, **options):
        asked.append(options)
        if not (root / "oxford-iiit-pet").exists():
            SOURCES["pets:PATH"].example(root / "oxford-iiit-pet")

    monkeypatch.setattr(obtaining.torchvision.datasets, "OxfordIIITPet", fake)
    command_line.main(["data", "pets", "--root", "fresh"])
    assert not asked and not (here / "fresh").exists()
    command_line.main(["data", "pets", "--root", "fresh", "--download"])
    assert [each["split"] for each in asked] == ["trainval", "test"] and all(each["download"] for each in asked)
    said = capsys.readouterr().out
    assert "CC BY-SA 4.0" in said and "test: 2 images" in said


def test_a_download_that_fails_is_one_line(here, monkeypatch, capsys):
    def fails(root, **options):
        raise RuntimeError("no\nroute")

    monkeypatch.setattr(obtaining.torchvision.datasets, "VOCDetection", fails)
    assert command_line.main(["data", "voc", "--root", "fresh", "--download"]) == 2
    assert capsys.readouterr().err == "error: no route\n"


def test_what_has_to_be_taken_by_hand_is_said(here, capsys):
    with pytest.raises(ValueError, match=r"imagenet has to be taken by hand, from https://image-net.*; its terms: for"):
        download("imagenet", here)
    with pytest.raises(ValueError, match="name='pats'"):
        list(look_at("pats", here))
