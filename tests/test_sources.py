"""What every data source promises, held against each that the registry lists; and how one is asked for by name."""

import importlib
import inspect
import pickle
import pkgutil

import numpy as np
import pytest
import torch
from tiny import COLOURS, TinyNet

import maskerlib.data
from maskerlib.classifiers.classifier import Classifier
from maskerlib.data.augment import Crops, draw_crops
from maskerlib.data.boxes import mask_box
from maskerlib.data.folder import Folder
from maskerlib.data.photos import Photos
from maskerlib.data.registry import SOURCES, source_named
from maskerlib.data.samples import Batch, Relabelled, Source, Subset, batches, collate
from maskerlib.data.scenes.source import Scenes
from maskerlib.masker.config import MaskerConfig
from maskerlib.masker.training import train_masker
from maskerlib.metrics.evaluation import evaluate
from maskerlib.running.seeds import stream


@pytest.fixture(scope="module", params=SOURCES)
def entry(request):
    return SOURCES[request.param]


@pytest.fixture(scope="module")
def folder(entry, tmp_path_factory):
    """A fresh folder for the example of each entry."""
    return tmp_path_factory.mktemp("example")


@pytest.fixture(scope="module")
def source(entry, folder) -> Source:
    return entry.example(folder)


def assert_same(first: Batch, second: Batch) -> None:
    assert torch.equal(first.images, second.images) and torch.equal(first.labels, second.labels)
    assert first.names == second.names and len(first.boxes) == len(second.boxes)
    assert all(map(torch.equal, first.boxes, second.boxes))
    assert (first.masks is None) == (second.masks is None)
    assert first.masks is None or torch.equal(first.masks, second.masks)


def everything(source: Source) -> Batch:
    return source.batch(range(len(source)))


def only_flips(*flips: bool) -> Crops:
    crops = draw_crops(len(flips), stream(0), scale=(1, 1))
    return Crops(crops.scale, crops.share, crops.aspect, crops.across, crops.down, torch.tensor(flips))


class TestContract:
    def test_what_is_known_without_looking(self, source, monkeypatch):
        monkeypatch.setattr(type(source), "__getitem__", lambda *_: pytest.fail("an image was read"))
        assert len(source) >= 2 and source.size == (32, 32)
        assert source.labels.shape == (len(source),) and source.labels.dtype == torch.int64
        assert isinstance(source.class_names, tuple) and all(isinstance(name, str) for name in source.class_names)
        assert -1 <= source.labels.min() and source.labels.max() < len(source.class_names)

    def test_each_sample(self, source):
        for index in range(len(source)):
            sample = source[index]
            assert sample.image.shape == (3, *source.size) and sample.image.dtype == torch.float32
            assert 0 <= sample.image.min() and 0.3 < sample.image.max() <= 1
            assert sample.label == (None if source.labels[index] < 0 else int(source.labels[index]))
            assert sample.boxes.shape[1:] == (4,) and sample.boxes.dtype == torch.float32
            for x0, y0, x1, y1 in sample.boxes.tolist():
                assert 0 <= x0 < x1 <= source.size[1] and 0 <= y0 < y1 <= source.size[0]
            if sample.mask is not None:
                assert sample.mask.shape == source.size and sample.mask.dtype == torch.bool
                for (x0, y0, x1, y1), tight in zip(sample.boxes.tolist(), mask_box(sample.mask).tolist(), strict=True):
                    assert x0 <= tight[0] and y0 <= tight[1] and x1 >= tight[2] and y1 >= tight[3]
            assert isinstance(sample.name, str) and sample.name
        assert len({sample.name for sample in source}) == len(source)

    def test_a_batch_is_its_samples_in_any_order_and_repeated(self, source):
        last = len(source) - 1
        for indices in ([last, 0, last, -1], range(len(source)), torch.tensor([1, 0]), np.array([1]), (0,)):
            assert_same(source.batch(indices), collate([source[int(index)] for index in indices]))

    def test_again_is_the_same(self, source):
        assert_same(everything(source), everything(source))

    def test_a_batch_may_be_written_to_without_harm(self, source):
        before = everything(source)
        for batch in (everything(source), collate(list(source))):
            for tensor in (batch.images, batch.labels, *batch.boxes, *([] if batch.masks is None else [batch.masks])):
                tensor.zero_()
        assert_same(everything(source), before)

    def test_indices_that_are_none(self, source):
        count = len(source)
        for index in (count, -count - 1):
            with pytest.raises(IndexError, match=f"index {index} of a source of {count} samples: expected -{count} to"):
                source[index]
            with pytest.raises(IndexError, match=f"index {index} of a source of {count} samples"):
                source.batch([0, index])
        for bad in (0, [0.0], [True, False], "0", None):
            with pytest.raises(TypeError, match="expected a sequence of whole numbers"):
                source.batch(bad)
        with pytest.raises(ValueError, match="a batch of 0 samples"):
            source.batch([])

    def test_a_crop_of_the_whole_image_is_the_image(self, source):
        indices, batch = [1, 0], source.batch([1, 0])
        cropped = source.cropped(indices, only_flips(False, False))
        assert torch.equal(cropped.labels, batch.labels) and cropped.names == batch.names
        if source.own_crops:
            assert_same(cropped, batch)
        else:
            torch.testing.assert_close(cropped.images, batch.images, rtol=0, atol=1e-5)
            assert cropped.masks is None and all(boxes.shape == (0, 4) for boxes in cropped.boxes)
        turned = source.cropped(indices, only_flips(True, False)).images
        torch.testing.assert_close(turned, torch.stack([batch.images[0].flip(-1), batch.images[1]]), rtol=0, atol=1e-5)

    def test_crops_are_of_the_size_and_one_for_each(self, source):
        crops = draw_crops(2, stream(0), scale=(0.1, 0.9))
        batch = source.cropped([0, 0], crops)
        assert batch.images.shape == (2, 3, *source.size) and 0 <= batch.images.min() <= batch.images.max() <= 1
        assert_same(source.cropped([0, 0], crops), batch)
        for boxes in batch.boxes:
            assert (boxes >= 0).all() and (boxes <= 32).all() and (boxes[:, 2:] > boxes[:, :2]).all()
        with pytest.raises(ValueError, match="2 crops for 1 images"):
            source.cropped([0], crops)

    def test_views_of_it(self, source):
        few = Subset(source, [1, 0, 1])
        assert_same(everything(few), source.batch([1, 0, 1]))
        other = Relabelled(few, [2, -1, 0], ("a", "b", "c"))
        assert [sample.label for sample in other] == [2, None, 0] and everything(other).labels.tolist() == [2, -1, 0]
        assert torch.equal(everything(other).images, everything(few).images)
        crops = draw_crops(2, stream(0))
        assert torch.equal(other.cropped([2, 1], crops).images, source.cropped([1, 0], crops).images)

    def test_it_goes_to_other_processes(self, source):
        assert_same(everything(pickle.loads(pickle.dumps(source))), everything(source))
        here, there = (list(batches(source, 2, workers=workers)) for workers in (0, 1))
        assert sum(len(batch) for batch in here) == len(source)
        for one, other in zip(here, there, strict=True):
            assert_same(one, other)


def test_a_masker_is_trained_on_it_and_judged(source):
    names = source.class_names or COLOURS
    network = TinyNet(len(names))
    classifier = Classifier(network, ("stem", "stage"), class_names=names, input_size=source.size, name="tiny").eval()
    config = MaskerConfig(steps=1, batch_size=2, width=4, precision="fp32")
    trained = train_masker(classifier, source, config, progress=False)
    table = evaluate({"trained": trained}, source, classifier, batch_size=3, precision="fp32")
    assert table.attrs["images"] == len(source)
    known = everything(source)
    boxes = sum(len(own) > 0 for own in known.boxes)
    assert table.attrs["images_with"] == {
        "label": int((known.labels >= 0).sum()),
        "boxes": boxes,
        "mask": 0 if known.masks is None else len(source),
    }
    assert np.isfinite(table.loc["trained", "LE"]) == (boxes > 0)


class TestRegistry:
    def test_every_module_that_has_an_entry_is_listed(self):
        modules = pkgutil.walk_packages(maskerlib.data.__path__, "maskerlib.data.")
        entries = [getattr(importlib.import_module(module.name), "ENTRY", None) for module in modules]
        assert {entry.name for entry in entries if entry} == set(SOURCES)

    def test_an_entry_says_what_it_is_and_takes_a_size(self, entry):
        assert entry.says and len(entry.says) <= 100 and not entry.says.endswith(".")
        assert "size" in inspect.signature(entry.make).parameters

    def test_an_example_is_written_where_there_is_a_layout_to_show(self, entry, source, folder):
        assert any(folder.iterdir()) == (":" in entry.name)


class TestByName:
    def test_scenes(self):
        asked = source_named("scenes", size=40, split="test", level="easy", count=3, cache=None)
        assert_same(everything(asked), everything(Scenes("test", level="easy", count=3, size=40, cache=None)))

    def test_photos(self):
        assert source_named("photos").names == Photos().names and source_named("photos").size == (224, 224)
        assert source_named("photos", size=(20, 30), names_or_paths="coffee")[0].image.shape == (3, 20, 30)

    def test_a_folder(self, tmp_path):
        SOURCES["folder:PATH"].example(tmp_path)
        asked = source_named(f"folder:{tmp_path}", size=16, channels=1)
        assert_same(everything(asked), everything(Folder(tmp_path, 16, channels=1)))
        assert asked.class_names == ("cat", "dog") and asked[0].mask is not None and len(asked[1].boxes) == 1

    def test_a_data_set_of_torchvision(self, tmp_path):
        SOURCES["torchvision:NAME"].example(tmp_path)
        asked = source_named("torchvision:ImageFolder", size=16, root=tmp_path, class_names=["Felis", "Canis"])
        assert asked.class_names == ("Felis", "Canis") and asked.labels.tolist() == [0, 1]
        made_up = source_named("torchvision:FakeData", size=8, image_size=(3, 10, 12), num_classes=3)
        assert len(made_up) == 1000 and set(made_up.labels.tolist()) == {0, 1, 2}
        assert made_up[999].image.shape == (3, 8, 8)

    @pytest.mark.parametrize(
        ("name", "options", "error", "message"),
        [
            ("scenez", {}, ValueError, "there is no source 'scenez'; did you mean 'scenes'"),
            ("folder", {}, ValueError, "there is no source 'folder'; did you mean 'folder:PATH'"),
            ("folder:", {}, ValueError, "source 'folder:' names no path"),
            ("folder:nowhere", {}, FileNotFoundError, "nowhere: no such folder"),
            ("scenes", {"spilt": "val"}, ValueError, "'scenes' has no option 'spilt'; its options are cache, count, .*level"),
            ("folder:x", {"root": "y"}, ValueError, "'folder:x' has no option 'root'; its options are channels, mask_ignore"),
            ("photos", {"size": 0}, ValueError, "size=0: expected pixels per side"),
            ("torchvision:CIFAR", {}, ValueError, "no data set 'CIFAR'; choose such as CIFAR10, CIFAR100"),
            ("torchvision:CIFAR10", {}, ValueError, "CIFAR10 cannot be made of .*root"),
            ("torchvision:MNIST", {"root": "x", "trian": False}, ValueError, "MNIST cannot be made of .*trian"),
            ("torchvision:CIFAR10", {"root": "nowhere"}, FileNotFoundError, "CIFAR10 in root='nowhere' .*download=True"),
            ("torchvision:ImageFolder", {"root": "nowhere"}, FileNotFoundError, "ImageFolder in root='nowhere'"),
        ],
    )
    def test_what_cannot_be_had_is_named(self, name, options, error, message, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(error, match=message):
            source_named(name, **options)
        assert not list(tmp_path.iterdir())
