"""Shards of WebDataset, written here: which files belong together, and what is said of a shard that is wrong."""

import io
import json
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from maskerlib.data.augment import draw_crops
from maskerlib.data.files.images import Held, held_in, read_image
from maskerlib.data.registry import source_named
from maskerlib.data.samples import batches
from maskerlib.data.sets.index import Index
from maskerlib.data.sets.indexed import Changed
from maskerlib.data.sets.record import DataSet, Record
from maskerlib.data.webdataset import webdataset
from maskerlib.running.seeds import stream


def photo(value: int, kind: str = "PNG", size=(40, 32)) -> bytes:
    """An image of one grey, as a file of it holds it."""
    held = io.BytesIO()
    Image.new("RGB", size, (value,) * 3).save(held, kind)
    return held.getvalue()


def shard(path, *files):
    """A tar archive of (name, content), in this order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def names(source) -> list[str]:
    return [source.records[number].name for number in range(len(source))]


def greys(source) -> list[int]:
    return [round(float(source.whole(number).image.mean()) * 255) for number in range(len(source))]


def test_every_image_is_found_in_its_place(tmp_path):
    shard(tmp_path / "a-000000.tar", ("0.png", photo(10)), ("0.cls", b"2\n"), ("1.cls", b"0"), ("1.jpg", photo(60, "JPEG")))
    shard(tmp_path / "a-000001.tar", ("0.json", b'{"label": 1, "text": "a"}'), ("0.JPEG", photo(200, "JPEG")))
    source = webdataset(tmp_path, 32, index=None)
    assert names(source) == ["a-000000.tar/0.png", "a-000000.tar/1.jpg", "a-000001.tar/0.jpeg"]
    assert source.labels.tolist() == [2, 0, 1] and source.class_names == ("0", "1", "2")
    assert greys(source) == [10, 60, 200] and source.whole(0).label == 2 and len(source.whole(0).boxes) == 0


def test_what_is_in_a_shard_is_what_the_file_would_be(tmp_path):
    """The oracle: the same bytes as files of their own, cropped and decoded to fewer pixels in the same way."""
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    large = Image.fromarray(noise).resize((800, 600), Image.Resampling.BICUBIC)
    large.getexif()[0x0112] = 6
    large.save(tmp_path / "a.jpg", exif=large.getexif())
    content = (tmp_path / "a.jpg").read_bytes()
    held = held_in(shard(tmp_path / "s.tar", ("b.txt", b"x" * 700), ("a.jpg", content)), (512 + 1024 + 512, len(content)), "a")
    assert torch.equal(read_image(held), read_image(tmp_path / "a.jpg")) and held.content == content
    one = source_named(f"webdataset:{tmp_path / 's.tar'}", size=64, index=None)
    other = source_named("photos", names_or_paths=tmp_path / "a.jpg", size=64)
    crops = draw_crops(6, stream(0), scale=(0.08, 1))
    assert torch.equal(one.cropped([0] * 6, crops).images, other.cropped([0] * 6, crops).images)
    assert torch.equal(one[0].image, other[0].image)


@pytest.mark.parametrize(
    "name, key, kind",
    [
        ("a.jpg", "a", "jpg"),
        ("dir.v2/a.jpg", "dir.v2/a", "jpg"),
        ("./x/y/a.JPG", "x/y/a", "jpg"),
        ("a b/ä.jpg", "a b/ä", "jpg"),
    ],
)
def test_a_key_ends_at_the_first_dot_of_the_file_s_own_name(tmp_path, name, key, kind):
    shard(tmp_path / "s.tar", (name, photo(10, "JPEG")), (f"{name.rpartition('.')[0]}.cls", b"3"))
    source = webdataset(tmp_path / "s.tar", 32, index=None)
    assert names(source) == [f"s.tar/{key}.{kind}"] and source.labels.tolist() == [3]


def test_a_kind_may_hold_dots_and_is_then_another(tmp_path):
    mine = ("a.seg.png", photo(1)), ("a.png", photo(2)), ("a.cls.txt", b"7"), ("a.cls", b"1")
    shard(tmp_path / "s.tar", *mine, (".hidden.png", photo(3)), ("README", b""), ("b.v1.png", photo(4)), ("c.txt", b"none"))
    source = webdataset(tmp_path / "s.tar", 32, index=None)
    assert names(source) == ["s.tar/a.png"] and greys(source) == [2] and source.labels.tolist() == [1]


def test_of_several_images_the_first_kind_counts_whatever_their_order(tmp_path):
    for number, order in enumerate((("png", "jpg", "jpeg"), ("jpeg", "jpg", "png"), ("jpeg", "png"))):
        kinds = {"jpg": photo(10, "JPEG"), "png": photo(60), "jpeg": photo(200, "JPEG")}
        shard(tmp_path / f"{number}.tar", ("a.json", b"{}"), *((f"a.{kind}", kinds[kind]) for kind in order))
    assert greys(webdataset(tmp_path, 32, index=None)) == [10, 10, 60]


def test_a_sample_without_a_class_has_none(tmp_path):
    shard(tmp_path / "s.tar", ("a.png", photo(1)), ("b.png", photo(2)), ("b.cls", b"4"), ("c.png", photo(3)), ("c.json", b"[1]"))
    source = webdataset(tmp_path, 32, index=None)
    assert source.labels.tolist() == [-1, 4, -1] and source[0].label is None and len(source.class_names) == 5
    shard(tmp_path / "alone" / "s.tar", ("a.png", photo(1)))
    assert webdataset(tmp_path / "alone", 32, index=None).class_names == ()


def test_classes_have_the_names_of_a_file(tmp_path):
    shard(tmp_path / "s.tar", ("a.png", photo(1)), ("a.cls", b"1"))
    (tmp_path / "classes.txt").write_text("tabby cat\ndog\n", encoding="utf-8")
    (tmp_path / "one.txt").write_text("tabby cat", encoding="utf-8")
    assert webdataset(tmp_path, 32, index=None).class_names == ("tabby cat", "dog")
    with pytest.raises(ValueError, match="an image of class 1, though only 1 classes have a name"):
        webdataset(tmp_path, 32, index=None, class_names=tmp_path / "one.txt")
    with pytest.raises(FileNotFoundError, match=r"class_names='none.txt': no such file; give a text"):
        webdataset(tmp_path, 32, index=None, class_names="none.txt")


@pytest.mark.parametrize(
    "files, message",
    [
        ([("a.png", b"x"), ("a.cls", b"cat")], r"s\.tar/a\.cls: 'cat', expected a whole number of 0 or more"),
        ([("a.png", b"x"), ("a.cls", b"-1")], r"s\.tar/a\.cls: '-1', expected a whole number"),
        ([("a.png", b"x"), ("a.json", b'{"label": "cat"}')], r"s\.tar/a\.json: 'cat', expected a whole number"),
        ([("a.png", b"x"), ("a.json", b"{")], r"s\.tar/a\.json: not JSON"),
        ([("a.png", b"x"), ("b.png", b"x"), ("a.cls", b"0")], r"s\.tar/a\.cls: a class without its image; the files of a sample"),
        ([("a.png", b"x"), ("a.PNG", b"x")], r"s\.tar/a\.png: twice in this shard"),
        ([("a.txt", b"x")], "no image of this split"),
    ],
)
def test_what_is_wrong_in_a_shard_is_named(tmp_path, files, message):
    shard(tmp_path / "s.tar", *files)
    with pytest.raises(ValueError, match=message):
        webdataset(tmp_path, 32, index=None)


def test_a_shard_that_ends_too_early_is_refused_wherever_it_does(tmp_path):
    whole = shard(tmp_path / "s.tar", ("a.png", photo(1)), ("a.cls", b"0"), ("b.png", photo(2, size=(400, 320))))
    content = whole.read_bytes()
    blocks = -(-len(content.rstrip(b"\0")) // 512)
    for end in (*range(1, blocks * 512, 67), blocks * 512 - 1, blocks * 512, blocks * 512 + 511):
        whole.write_bytes(content[:end])
        with pytest.raises(ValueError, match=r"s\.tar: no whole tar archive \(.*\); replace it, or leave it out"):
            webdataset(tmp_path, 32, index=None)
    whole.write_bytes(content[: blocks * 512 + 512])
    assert len(webdataset(tmp_path, 32, index=None)) == 2


def test_what_is_no_archive_is_refused(tmp_path):
    (tmp_path / "s.tar").write_bytes(b"text" * 1000)
    with pytest.raises(ValueError, match=r"s\.tar: no whole tar archive"):
        webdataset(tmp_path, 32, index=None)


def test_shards_are_those_of_a_folder_one_or_a_range(tmp_path):
    for number in range(12):
        shard(tmp_path / f"a-{number:02d}.tar", ("x.png", photo(10 * number)))
    (tmp_path / "notes.txt").touch()
    assert greys(webdataset(tmp_path, 32, index=None)) == [10 * number for number in range(12)]
    assert greys(webdataset(tmp_path / "a-07.tar", 32, index=None)) == [70]
    assert greys(source_named(f"webdataset:{tmp_path}/a-{{08..11}}.tar", size=32, index=None)) == [80, 90, 100, 110]
    with pytest.raises(FileNotFoundError, match=r"a-12.tar: no such file; give a folder"):
        webdataset(tmp_path / "a-{10..12}.tar", 32, index=None)
    with pytest.raises(ValueError, match="from 11 to 08 there is none"):
        webdataset(tmp_path / "a-{11..08}.tar", 32, index=None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no \.tar file in this folder"):
        webdataset(tmp_path / "empty", 32, index=None)


def test_the_places_are_kept_and_found_again_until_a_shard_changes(tmp_path, monkeypatch):
    given = {"size": 32, "index": tmp_path / "indexes"}
    shard(tmp_path / "in" / "a.tar", ("x.png", photo(10)), ("x.cls", b"0"))
    first = webdataset(tmp_path / "in", **given)
    with monkeypatch.context() as patch:
        patch.setattr(tarfile, "open", None)  # no shard is looked through
        again = webdataset(tmp_path / "in", **given)
    assert again.records[0] == first.records[0] and again.records[0].part == (512, len(photo(10))) and greys(again) == [10]
    shard(tmp_path / "in" / "b.tar", ("y.png", photo(20)))
    assert greys(webdataset(tmp_path / "in", **given)) == [10, 20]
    shard(tmp_path / "in" / "a.tar", ("w.png", photo(99)), ("x.png", photo(30)), ("x.cls", b"0"))
    with pytest.raises(Changed, match=r"a\.tar: the file was changed after the list of images was made"):
        again.whole(0)
    assert greys(webdataset(tmp_path / "in", **given)) == [99, 30, 20]
    (tmp_path / "in" / "a.tar").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.tar: no such file, though .*a\.tar/x\.png should be in it"):
        again.whole(0)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_cannot_be_read_is_named_in_its_shard_or_skipped(tmp_path, workers):
    shard(tmp_path / "s.tar", *((f"{number}.png", b"none" if number == 2 else photo(number)) for number in range(4)))
    with pytest.raises(ValueError, match=r"s\.tar/2\.png: not an image, or of an unknown kind; replace or remove it$"):
        list(batches(webdataset(tmp_path, 32, index=None), 2, workers=workers))
    source = webdataset(tmp_path, 32, index=None, on_corrupt="skip")
    found = torch.cat([batch.images for batch in batches(source, 2, workers=workers)])
    assert (found.mean(dim=(1, 2, 3)) * 255).round().tolist() == [0, 1, 3, 3]
    assert source.skipped_files == (tmp_path / "s.tar" / "2.png",)


def test_bytes_with_a_name_are_an_image(tmp_path):
    assert torch.equal(read_image(Held("a", photo(51))), torch.full((3, 32, 40), 0.2))
    with pytest.raises(ValueError, match="^a: not an image"):
        read_image(Held("a", b""))
    (tmp_path / "short").write_bytes(b"1234")
    with pytest.raises(ValueError, match="^b: its archive ends within it; replace .*short"):
        held_in(tmp_path / "short", (2, 3), "b")


def test_images_are_all_parts_or_none(tmp_path):
    (tmp_path / "a").touch()
    records = [Record("a", part=(0, 1)), Record("a")]
    with pytest.raises(ValueError, match="1 of 2 images are parts of a file, expected all or none"):
        Index.of(DataSet(tmp_path, lambda: ((), records), (), ("x",)))


def test_the_form_is_webdataset_s_own(tmp_path):
    """As its TarWriter writes {"__key__": .., "jpg": .., "cls": .., "json": ..}: sorted kinds, JSON as text."""
    for number in range(3):
        sample = {"cls": str(number).encode(), "jpg": photo(50 * number, "JPEG"), "json": json.dumps({"number": number}).encode()}
        shard(tmp_path / f"{number}.tar", *((f"some/key{number}.{kind}", sample[kind]) for kind in sorted(sample)))
    source = webdataset(tmp_path, 32, index=None)
    assert source.labels.tolist() == [0, 1, 2] and greys(source) == [0, 50, 100]
