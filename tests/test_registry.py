"""Names on a command line: what is listed, what is asked for, and what a new file of a room must have."""

import sys
from pathlib import Path

import pytest
import torch
from tiny import SIZE, tiny_classifier

from maskerlib.classifiers.registry import CLASSIFIERS
from maskerlib.methods.entry import MethodEntry
from maskerlib.methods.registry import METHODS, method_named, method_options, table
from maskerlib.running.registry import Entry, Registry, check_options

FRUIT = "from maskerlib.running.registry import Entry\n"
APPLE = f"{FRUIT}ENTRY = Entry('apple', 'a red one', lambda seed=0: ('apple', seed))\n"
PICKED = f"{FRUIT}ENTRY = Entry('picked:TREE', 'from a tree', lambda tree: tree)\n"


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes a registry of a package with these modules: {name: text}."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "orchard").mkdir()
    (tmp_path / "orchard" / "__init__.py").touch()

    def make(**modules: str) -> Registry[Entry]:
        for name, text in modules.items():
            (tmp_path / "orchard" / f"{name}.py").write_text(text)
        return Registry("fruit", Entry, "orchard", list(modules))

    yield make
    for name in [each for each in sys.modules if each.split(".")[0] == "orchard"]:
        del sys.modules[name]


def test_what_is_listed_is_a_mapping_in_the_order_of_its_lines(room):
    known = room(picked=PICKED, apple=APPLE)
    assert "orchard.apple" not in sys.modules, "nothing is imported before it is looked up"
    assert list(known) == ["picked:TREE", "apple"] and len(known) == 2 and "apple" in known and "pear" not in known
    assert known["apple"].make(seed=3) == ("apple", 3)
    assert known.lines() == ["picked:TREE           from a tree", "apple                 a red one"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        ("lambda images, targets: images", "fruit 'pear': the make of its ENTRY needs images and targets, which nobody gives"),
        ("lambda seed: None", "fruit 'pear': the make of its ENTRY returned None; let it return what it made"),
    ],
)
def test_a_make_that_makes_nothing_is_named(make, message, room):
    known = room(pear=f"{FRUIT}ENTRY = Entry('pear', 'a green one', {make})\n")
    with pytest.raises(ValueError, match=message):
        known.made("pear", {}, {"seed": 0})


@pytest.mark.parametrize("given", [("", "nameless", dict), ("pear", dict, "a green one"), ("pear", "a green one", None)])
def test_an_entry_of_another_kind_is_refused(given):
    with pytest.raises(ValueError, match="expected a name, a line that says what it is, and a function that makes it"):
        Entry(*given)


def test_what_is_made_is_given_what_it_takes_of_what_is_offered(room):
    assert room(apple=APPLE).made("apple", {}, {"seed": 3, "progress": True}) == ("apple", 3)


def test_a_name_is_found_with_what_it_is_told(room):
    known = room(apple=APPLE, picked=PICKED)
    assert known.find("apple") == (known["apple"], ())
    assert known.find("picked:a:b/c") == (known["picked:TREE"], ("a:b/c",))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("aple", "there is no fruit 'aple'; did you mean 'apple'\\? choose apple, picked:TREE"),
        ("", "there is no fruit ''; choose apple, picked:TREE"),
        ("Quitte", "there is no fruit 'Quitte'; choose apple, picked:TREE"),
        ("apple:green", "there is no fruit 'apple:green'; did you mean 'apple'"),
        ("picked", "there is no fruit 'picked'; did you mean 'picked:TREE'"),
        ("picked:", "fruit 'picked:' names no tree; give picked:TREE"),
        ("picked:  ", "fruit 'picked:  ' names no tree; give picked:TREE"),
    ],
)
def test_what_is_not_there_is_answered_with_what_is(asked, message, room):
    with pytest.raises(ValueError, match=f"^{message}"):
        room(apple=APPLE, picked=PICKED).find(asked)


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ({"pear": ""}, r"orchard\.pear has no ENTRY; define ENTRY = Entry\(name, says, make\) there"),
        ({"pear": "ENTRY = 'pear'"}, r"orchard\.pear has an ENTRY that is str; define ENTRY = Entry\("),
        ({"apple": APPLE, "pear": APPLE}, r"orchard\.apple and orchard\.pear both define the fruit 'apple'; rename one"),
    ],
)
def test_a_file_without_a_fitting_entry_is_named(modules, message, room):
    known = room(**modules)
    for look in (list, len, Registry.lines, lambda known: known.find("apple"), lambda known: known["apple"]):
        with pytest.raises(ValueError, match=message):
            look(known)


def test_an_entry_of_another_class_is_none(room):
    room(apple=APPLE)
    with pytest.raises(ValueError, match=r"orchard\.apple has an ENTRY that is Entry; define ENTRY = MethodEntry\("):
        list(Registry("method", MethodEntry, "orchard", ["apple"]))


def test_a_module_that_is_not_there_is_named(room):
    room(apple=APPLE)
    with pytest.raises(ModuleNotFoundError, match="orchard.plum"):
        list(Registry("fruit", Entry, "orchard", ["apple", "plum"]))


def test_what_is_offered_is_given_where_it_is_taken_and_options_always(room):
    anything = f"{FRUIT}ENTRY = Entry('any', 'of all kinds', lambda **options: options)\n"
    known = room(apple=APPLE, picked=PICKED, anything=anything)
    offered = {"seed": 3, "progress": True}
    assert known.made("apple", {}, offered) == ("apple", 3) and known.made("apple", {"seed": 4}) == ("apple", 4)
    assert known.made("picked:old", {}, offered) == "old"
    assert known.made("any", {"size": 2}, offered) == {"size": 2}
    for asked, option in (("apple", "seeds"), ("apple", "progress"), ("picked:old", "tree")):
        with pytest.raises(ValueError, match=f"^fruit '{asked}' has no option '{option}'; its options are "):
            known.made(asked, {option: 1})
    with pytest.raises(ValueError, match="fruit 'apple' has no option 'seed'; its options are none"):
        known.made("apple", {"seed": 4}, offered)


def test_options_are_those_that_there_are():
    check_options("a box", ["area"], ["size", "area"])
    with pytest.raises(ValueError, match="^a box has no option 'depth'; its options are area, size$"):
        check_options("a box", ["area", "depth"], ["size", "area"])
    with pytest.raises(ValueError, match="its options are none$"):
        check_options("noise", ["depth"], [])


@pytest.mark.parametrize("known", [METHODS, CLASSIFIERS], ids=["methods", "classifiers"])
def test_a_line_of_each_names_it_and_fits_on_a_screen(known):
    for name, line in zip(known, known.lines(), strict=True):
        assert line.startswith(f"{name}  ") and line.endswith(known[name].says) and len(line) <= 118


# Methods


def test_the_options_of_a_method_are_all_that_it_takes_with_their_types_and_defaults():
    rise = method_options("rise")
    assert list(rise) == ["masks", "cells", "keep", "centred", "batch_size"] and "seed" not in rise
    assert (rise["masks"].annotation, rise["masks"].default) == (int, 4000)
    optimise, meaningful, extremal = map(method_options, ("optimise", "meaningful-perturbation", "extremal"))
    assert (optimise["steps"].default, meaningful["steps"].default, extremal["steps"].default) == (100, 300, 800)
    assert {"objective", "grid", "infill"} <= optimise.keys() <= meaningful.keys() and "sigma" in extremal
    assert not {"options", "images", "classifier"} & (optimise.keys() | meaningful.keys() | extremal.keys())
    assert method_options("masker:anywhere") == {}
    with pytest.raises(ValueError, match="there is no method 'rice'; did you mean 'rise'"):
        method_options("rice")


def test_options_reach_the_factory():
    classifier = tiny_classifier()
    assert method_named("gradient", classifier, clip=0.5).clip == 0.5
    image = torch.rand(1, 3, SIZE, SIZE)
    quick = method_named("optimise", classifier, seed=3, steps=2, grid=4)
    other = method_named("optimise", classifier, seed=3, steps=3, grid=4)
    assert (quick(image, 0, classifier) != other(image, 0, classifier)).any()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gradient", {"step": 1}, "method 'gradient' has no option 'step'; its options are channels, clip, sign"),
        ("centre-box", {"steps": 1}, "method 'centre-box' has no option 'steps'; its options are area"),
        ("optimise", {"step": 1}, "method 'optimise' has no option 'step'; its options are .*steps"),
        ("optimise", {"images": 1}, "method 'optimise' has no option 'images'"),
        ("optimise", {"steps": 0}, "steps=0 must be a whole number of 1 or more"),
        ("optimise", {"grid": 0}, "grid=0 must be 1 cell or more"),
        ("optimise", {"infill": "snow"}, "infill='snow' is unknown; choose mean, blur"),
        ("meaningful-perturbation", {"lr": 0}, "lr=0 must be a finite number above 0"),
        ("extremal", {"infill": "snow"}, "infill='snow' is unknown; choose mean, blur"),
        ("masker:nowhere", {"folder": "x"}, "method 'masker:nowhere' has no option 'folder'; its options are none"),
        ("centre-box", {"area": 2}, "area=2 must lie above 0 and at most at 1"),
        ("shapley", {}, "there is no method 'shapley'; .*choose optimise, .*masker:FOLDER, .*random$"),
    ],
)
def test_a_method_that_cannot_be_made_is_refused_when_it_is_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        method_named(name, tiny_classifier(), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "magic"}, "method 'x': kind='magic' is unknown; choose one of per-image mask, "),
        ({"kind": "baseline", "forward": -1}, "method 'x': forward=-1, backward=0: expected 0 or more"),
    ],
)
def test_a_method_says_what_it_is(options, message):
    with pytest.raises(ValueError, match=message):
        MethodEntry("x", "nothing", dict, **options)


def test_the_table_has_a_row_of_each_method_that_says_what_its_entry_does():
    header, rule, *rows = table()
    assert rule.replace("-", "").replace("|", "").strip() == "" and rule.count("|") == header.count("|")
    assert max(map(len, (header, rule, *rows))) <= 140
    columns = [cell.strip() for cell in header.strip("|").split("|")]
    for entry, row in zip(METHODS.values(), rows, strict=True):
        cells = dict(zip(columns, (cell.strip() for cell in row.strip("|").split("|")), strict=True))
        assert (cells["name"], cells["kind"]) == (entry.name, entry.kind)
        assert (cells["forward"], cells["backward"]) == tuple(map(str, entry.cost()))
        assert cells["what it is"] == entry.says
        assert (cells["signed"], cells["seed"]) == tuple("yes" if mark else "" for mark in (entry.signed, entry.stochastic))
