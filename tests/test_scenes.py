"""Scenes: the truth that comes with them is true, the splits are apart, the cache is whole or absent."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from maskerlib.data.samples import batches
from maskerlib.data.scenes import drawing
from maskerlib.data.scenes import source as scenes
from maskerlib.data.scenes.drawing import LEVELS, Level, draw_scene
from maskerlib.data.scenes.glyphs import BACKGROUNDS, CLASSES, DISTRACTORS
from maskerlib.data.scenes.source import Scenes
from maskerlib.data.scenes.sprites import Sprite, draw_glyph, sprite

ROOT = Path(__file__).parents[1]
ALL = [*CLASSES.values(), DISTRACTORS]


def drawn(count, *, split="train", level="default", size=96, seed=0):
    return [draw_scene(i, split=split, level=LEVELS[level], size=size, seed=seed) for i in range(count)]


@pytest.fixture
def placed(monkeypatch):
    """Every glyph drawn from here on: (character, length asked for)."""
    calls = []
    original = drawing._Brush.draw

    def spy(brush, character, side):
        calls.append((character, side))
        return original(brush, character, side)

    monkeypatch.setattr(drawing._Brush, "draw", spy)
    return calls


# The artwork


def test_classes_have_glyphs_to_learn_from_and_glyphs_to_hold_out():
    assert len(CLASSES) == 16
    assert all(len(glyphs.seen) >= 4 and len(glyphs.unseen) >= 1 for glyphs in CLASSES.values())
    characters = "".join(glyphs.seen + glyphs.unseen for glyphs in ALL)
    assert max(Counter(characters).values()) == 1  # no glyph serves twice
    assert not set(BACKGROUNDS["train"]) & set(BACKGROUNDS["test"])


def test_every_glyph_is_drawn_and_those_of_classes_in_colour_at_any_size():
    for glyphs in ALL:
        for character in glyphs.seen + glyphs.unseen:
            picture = np.asarray(draw_glyph(character, 64))
            opaque = picture[picture[..., 3] > 200][:, :3]
            assert len(opaque) > 200, character
            if glyphs is not DISTRACTORS:
                assert len(np.unique(opaque, axis=0)) > 1, character
                small = np.asarray(sprite(character, 136).drawn(scenes.SMALLEST, 30, True))
                assert (small[..., 3] >= 128).any(), character


def test_a_character_without_a_glyph_is_named():
    with pytest.raises(ValueError, match="draws nothing"):
        draw_glyph(" ", 64)


@pytest.mark.parametrize("side", [12, 40, 72, 130])
@pytest.mark.parametrize(("angle", "flip"), [(0, False), (25, True), (-45, False), (180, True)])
def test_a_sprite_has_the_size_asked_for_and_touches_no_edge(side, angle, flip):
    for character in "🏍🌴🎹":
        alpha = np.asarray(sprite(character, 136).drawn(side, angle, flip))[..., 3]
        rows, columns = np.nonzero((alpha >= 128).any(1))[0], np.nonzero((alpha >= 128).any(0))[0]
        extent = max(np.ptp(rows), np.ptp(columns)) + 1
        assert abs(extent - side) <= 2
        frame = np.concatenate([alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]])
        assert (frame < 128).all()


def test_a_sprite_at_its_own_size_is_the_glyph():
    glyph = Sprite("🏍", 136)
    for flip, view in ((False, np.asarray(glyph.base)), (True, np.asarray(glyph.base)[:, ::-1])):
        copy = np.asarray(glyph.drawn(max(glyph.outline.max(0) - glyph.outline.min(0)), 0, flip))
        error = np.abs(copy[1:-1, 1:-1, 3].astype(float) - view[..., 3][: len(copy) - 2, : copy.shape[1] - 2])
        assert error.mean() < 8  # of 255: only the soft edge may differ


# One scene


@pytest.mark.parametrize("level", LEVELS)
def test_boxes_are_those_of_the_masks(level):
    for scene in drawn(48, level=level):
        rows, columns = np.nonzero(scene.mask)
        assert scene.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_mask_is_where_the_picture_differs_from_its_background(split):
    """An independent way to the mask: the easy level draws one object on a background drawn here alone."""
    names, inside = BACKGROUNDS["test" if split == "test" else "train"], []
    for index, scene in enumerate(drawn(32, split=split, level="easy")):
        random = np.random.default_rng([0, drawing.SPLITS.index(split), index])
        background = np.asarray(drawing.background(random, names, 96).convert("RGB"))
        difference = np.abs(scene.image.astype(int) - background).max(2)
        inside.append((difference[scene.mask] > 5).mean())
        beyond = ~ndimage.binary_dilation(scene.mask, iterations=2)
        assert difference[beyond].max() <= 5  # of 255: the ripple of a resize, which nobody sees
    assert min(inside) > 0.6 and np.mean(inside) > 0.95  # a black outline on a black sky does not show


def test_levels_keep_to_their_numbers(placed):
    for level in LEVELS.values():
        for index in range(64):
            placed.clear()
            scene = draw_scene(index, split="val", level=level, size=96, seed=3)
            (glyph, side), *others = placed
            low, high = (share * 96 for share in level.object_side)
            assert glyph == scene.glyph and glyph in list(CLASSES.values())[scene.label].seen
            assert low <= side <= high
            if level.occlusion == 0:
                x0, y0, x1, y1 = scene.box
                assert low - 2 <= max(x1 - x0, y1 - y0) <= high + 2
            rivals = [length for character, length in others if character not in DISTRACTORS.seen]
            clutter = [length for character, length in others if character in DISTRACTORS.seen]
            assert level.rivals[0] <= len(rivals) <= level.rivals[1]
            assert level.distractors[0] <= len(clutter) <= level.distractors[1] + (level.occlusion > 0)


def test_the_labelled_object_is_the_largest_and_the_only_one_of_its_class(placed):
    level = LEVELS["hard"]
    for index in range(100):
        placed.clear()
        scene = draw_scene(index, split="train", level=level, size=96, seed=1)
        (_, side), *others = placed
        rivals = [(character, length) for character, length in others if character not in DISTRACTORS.seen]
        assert rivals and all(length <= 0.6 * side for _, length in rivals)
        assert not any(character in list(CLASSES.values())[scene.label].seen for character, _ in rivals)


def test_occlusion_takes_its_share_of_the_mask(monkeypatch):
    whole = []
    original = drawing._Brush.over

    def spy(brush, image, mask, share):
        result = original(brush, image, mask, share)
        whole.append((mask.sum(), result is not None))
        return result

    monkeypatch.setattr(drawing._Brush, "over", spy)
    hidden = []
    for index in range(200):
        whole.clear()
        scene = draw_scene(index, split="train", level=LEVELS["hard"], size=96, seed=0)
        if whole:
            (before, found), visible = whole[0], scene.mask.sum()
            assert found or visible == before
            hidden.append(1 - visible / before)
    assert 70 < len(hidden) < 130  # half of the scenes are given an occluder
    assert all(0.1 <= share <= 0.4 for share in hidden if share > 0)
    assert np.mean(np.array(hidden) > 0) > 0.8


def test_objects_fill_what_the_default_level_promises():
    areas = [scene.mask.mean() for scene in drawn(320)]
    assert 0.10 < np.mean(areas) < 0.15


def test_a_level_means_the_same_at_every_size():
    small, large = drawn(32, size=64), drawn(32, size=160)
    assert [scene.glyph for scene in small] == [scene.glyph for scene in large]
    for a, b in zip(small, large, strict=True):
        assert np.abs(np.array(a.box) / 64 - np.array(b.box) / 160).max() < 0.07


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "a/b"}, "name='a/b'"),
        ({"object_side": (0.5, 0.3)}, "object_side=.0.5, 0.3. must be lowest, highest"),
        ({"object_side": (0.3, 1.2)}, "object_side=.*0.05 to 0.9"),
        ({"distractors": (-1, 2)}, "distractors=.*0 to 50"),
        ({"rival_ratio": (0.5, 1.0)}, "rival_ratio="),
        ({"occlusion": 1.5}, "occlusion=1.5"),
        ({"rotation": float("nan")}, "rotation=nan"),
    ],
)
def test_levels_refuse_what_they_cannot_draw(change, message):
    numbers = {"name": "mine", "object_side": (0.3, 0.5), "rotation": 10, "distractors": (0, 1)}
    with pytest.raises(ValueError, match=message):
        Level(**(numbers | change))


# The splits


def test_labels_go_round_and_test_holds_out_glyphs():
    for split in ("train", "val", "test"):
        found = drawn(64, split=split)
        assert [scene.label for scene in found] == [i % 16 for i in range(64)]
        assert [scene.unseen for scene in found] == [split == "test" and i // 16 % 2 == 1 for i in range(64)]
        for scene in found:
            glyphs = list(CLASSES.values())[scene.label]
            assert scene.glyph in (glyphs.unseen if scene.unseen else glyphs.seen)


@pytest.mark.parametrize("split", ["train", "val"])
def test_nothing_reserved_for_test_is_drawn_elsewhere(split, placed, monkeypatch):
    photographs = []
    original = drawing._photograph
    monkeypatch.setattr(
        drawing, "_photograph", lambda name, side: photographs.append(name) or original(name, side)
    )
    drawn(100, split=split, level="hard")
    assert not {character for character, _ in placed} & set("".join(glyphs.unseen for glyphs in ALL))
    assert not set(photographs) & set(BACKGROUNDS["test"])
    assert set(photographs) == set(BACKGROUNDS["train"])


def test_test_scenes_have_their_own_clutter_and_photographs(placed, monkeypatch):
    photographs = []
    original = drawing._photograph
    monkeypatch.setattr(
        drawing, "_photograph", lambda name, side: photographs.append(name) or original(name, side)
    )
    drawn(60, split="test", level="hard")
    assert not {character for character, _ in placed} & set(DISTRACTORS.seen)
    assert set(photographs) == set(BACKGROUNDS["test"])


def test_splits_seeds_and_indices_give_different_scenes():
    images = [s.image.tobytes() for split in ("train", "val", "test") for s in drawn(20, split=split)]
    images += [s.image.tobytes() for s in drawn(20, seed=1)]
    assert len(set(images)) == 80


# The source


def test_the_source_gives_what_was_drawn(cache):
    source = Scenes("test", count=40, cache=cache)
    assert len(source) == 40 and source.size == (96, 96) and source.class_names == tuple(CLASSES)
    for index, scene in enumerate(drawn(40, split="test")):
        sample = source[index]
        assert torch.equal(sample.image, torch.from_numpy(scene.image.copy()).permute(2, 0, 1).float() / 255)
        assert torch.equal(sample.mask, torch.from_numpy(scene.mask))
        assert sample.label == scene.label == source.labels[index]
        assert sample.boxes.tolist() == [list(scene.box)] == [source.boxes[index].tolist()]
        assert bool(source.unseen[index]) == scene.unseen and source.glyphs[index] == scene.glyph
    assert sample.name == "default test scene 39 (motorbike)"


def test_batches_equal_the_samples_one_by_one(cache):
    source = Scenes("val", count=20, cache=cache)
    batch, slow = source.batch([7, 0, 7, -1]), super(Scenes, source).batch([7, 0, 7, -1])
    for a, b in zip(batch.boxes, slow.boxes, strict=True):
        assert torch.equal(a, b)
    assert torch.equal(batch.images, slow.images) and torch.equal(batch.masks, slow.masks)
    assert torch.equal(batch.labels, slow.labels) and batch.names == slow.names
    assert batch.images.dtype == torch.float32 and batch.images.is_contiguous()
    assert batch.images.max() <= 1 and batch.images.max() > 0.5


def test_a_batch_may_be_written_to_without_harm(cache):
    source = Scenes("val", count=20, cache=cache)
    before = source[3].image.clone()
    source.batch([3]).images.zero_()
    source[3].mask.zero_()
    source[3].boxes.zero_()
    assert torch.equal(source[3].image, before) and source[3].mask.any() and source[3].boxes.any()


def test_a_scene_does_not_depend_on_how_many_there_are(cache):
    short, long = Scenes("train", count=20, cache=cache), Scenes("train", count=50, cache=None)
    assert torch.equal(short.batch(range(20)).images, long.batch(range(20)).images)
    assert torch.equal(short.boxes, long.boxes[:20])


def test_workers_open_the_cache_themselves(cache):
    source = Scenes("val", count=20, cache=cache)
    assert len(pickle.dumps(source)) < 20_000
    copy = pickle.loads(pickle.dumps(source))
    assert torch.equal(copy[5].image, source[5].image)
    names = [name for batch in batches(source, 8, workers=2) for name in batch.names]
    assert names == [source[i].name for i in range(20)]
    memory = pickle.loads(pickle.dumps(Scenes("val", count=20, cache=None)))
    assert torch.equal(memory[5].image, source[5].image)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "training"}, "split='training' is unknown; choose one of train, val, test"),
        ({"level": "harder"}, "level='harder': expected one of easy, default, hard"),
        ({"count": 0}, "count=0 must be a whole number of 1 or more"),
        ({"count": 2.5}, "count=2.5"),
        ({"size": 16}, "size=16"),
        ({"seed": -1}, "seed=-1"),
        ({"size": 32, "level": Level("tiny", (0.1, 0.3), 0, (0, 0))}, "3.2 pixels, expected 8"),
    ],
)
def test_bad_arguments(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        Scenes(**({"split": "val", "cache": tmp_path} | arguments))
    assert not list(tmp_path.iterdir())


def test_index_outside(cache):
    with pytest.raises(IndexError, match="index 20 of a source of 20"):
        Scenes("val", count=20, cache=cache)[20]


# The cache


def pixels(source):
    return source.batch(range(len(source))).images


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def forbid_drawing(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the scenes were drawn again")

    monkeypatch.setattr(scenes, "draw_scene", refuse)


def test_the_cache_is_drawn_once(tmp_path, monkeypatch):
    first = Scenes("val", count=12, cache=tmp_path)
    assert [name.split("/")[-1] for name in files(tmp_path)] == ["note.json", "scenes.npy"]
    forbid_drawing(monkeypatch)
    again = Scenes("val", count=12, cache=tmp_path)
    assert torch.equal(pixels(first), pixels(again))


def test_everything_that_changes_a_pixel_changes_the_key(tmp_path, monkeypatch):
    variants = [{}, {"split": "val"}, {"level": "easy"}, {"count": 5}, {"size": 64}, {"seed": 1}]
    variants.append({"level": Level("default", (0.3, 0.75), 31, (0, 2))})
    keys = [Scenes(**({"split": "train", "count": 4, "cache": tmp_path} | change)).key for change in variants]
    monkeypatch.setattr(scenes, "DRAWING", scenes.DRAWING + 1)
    keys.append(Scenes("train", count=4, cache=tmp_path).key)
    monkeypatch.setattr(scenes, "version", lambda name: "0")
    keys.append(Scenes("train", count=4, cache=tmp_path).key)
    assert len(set(keys)) == len(keys) == len(list(tmp_path.iterdir()))


def flip_a_byte(folder):
    path = next(folder.rglob("scenes.npy"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_short(folder):
    path = next(folder.rglob("scenes.npy"))
    path.write_bytes(path.read_bytes()[:-100])


def spoil_the_note(folder):
    next(folder.rglob("note.json")).write_text("{")


@pytest.mark.parametrize("damage", [flip_a_byte, cut_short, spoil_the_note])
def test_a_damaged_cache_is_named_and_drawn_again(tmp_path, damage, monkeypatch):
    whole = pixels(Scenes("val", count=12, cache=tmp_path))
    damage(tmp_path)
    with pytest.warns(UserWarning, match=r"scenes\.npy: damaged .*drawing the scenes again"):
        mended = Scenes("val", count=12, cache=tmp_path)
    assert torch.equal(pixels(mended), whole)
    forbid_drawing(monkeypatch)
    Scenes("val", count=12, cache=tmp_path)


def test_a_drawing_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def fail(index, **arguments):
        if index == 7:
            raise KeyboardInterrupt
        return draw_scene(index, **arguments)

    with monkeypatch.context() as patched:
        patched.setattr(scenes, "draw_scene", fail)
        with pytest.raises(KeyboardInterrupt):
            Scenes("val", count=12, cache=tmp_path)
    assert files(tmp_path) == []
    assert len(Scenes("val", count=12, cache=tmp_path)) == 12


def test_a_killed_drawing_is_begun_again_and_cleared_away(tmp_path):
    """SIGKILL a process in the middle of drawing: its half file is neither used nor kept."""
    program = (
        f"from maskerlib.data.scenes.source import Scenes; Scenes('val', count=500, size=32, cache={str(tmp_path)!r})"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size > 100_000 for path in tmp_path.rglob("*.npy")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(files(tmp_path)) == 1 and "partial" in files(tmp_path)[0]
    source = Scenes("val", count=500, size=32, cache=tmp_path)
    assert torch.equal(source[499].mask, torch.from_numpy(drawn_one(499).mask))
    assert [name.split("/")[-1] for name in files(tmp_path)] == ["note.json", "scenes.npy"]


def drawn_one(index):
    return draw_scene(index, split="val", level=LEVELS["default"], size=32, seed=0)


def test_several_at_once_do_no_harm(tmp_path):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: pixels(Scenes("val", count=24, cache=tmp_path)), range(4)))
    assert all(torch.equal(found[0], other) for other in found)
    assert [name.split("/")[-1] for name in files(tmp_path)] == ["note.json", "scenes.npy"]


def test_the_slower_of_two_takes_the_finished_cache(tmp_path, monkeypatch):
    """A second process finishes, and clears this one's half file away, while this one still draws."""
    rival = []

    def interrupted(index, **arguments):
        if index == 7 and not rival:
            rival.append(None)
            rival[0] = Scenes("val", count=12, cache=tmp_path)
        return draw_scene(index, **arguments)

    monkeypatch.setattr(scenes, "draw_scene", interrupted)
    slower = Scenes("val", count=12, cache=tmp_path)
    assert torch.equal(pixels(slower), pixels(rival[0]))
    assert [name.split("/")[-1] for name in files(tmp_path)] == ["note.json", "scenes.npy"]


def test_the_note_vouches_for_the_bytes(tmp_path):
    source = Scenes("val", count=4, cache=tmp_path)
    note = json.loads(next(tmp_path.rglob("note.json")).read_text())
    assert note["key"] == source.key
    assert note["checksum"] == scenes._checksum(next(tmp_path.rglob("scenes.npy")))
