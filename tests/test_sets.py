"""The data sets of the field in small trees of their own layouts, with the traps that each of them is known for."""

import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score
from tiny import tiny_classifier
from torchvision.models import ResNet50_Weights

from maskerlib.classifiers.doors import aligned
from maskerlib.data.registry import SOURCES, source_named
from maskerlib.data.samples import batches
from maskerlib.data.sets import index as indexing
from maskerlib.data.sets.cub import cub
from maskerlib.data.sets.imagenet import imagenet
from maskerlib.data.sets.imagenet_kaggle import imagenet_kaggle
from maskerlib.data.sets.imagenet_names import imagenet_names
from maskerlib.data.sets.indexed import Changed
from maskerlib.data.sets.mask_rule import MaskRule
from maskerlib.data.sets.pets import pets
from maskerlib.data.sets.text import lines
from maskerlib.data.sets.voc import CLASSES, voc
from maskerlib.data.sets.wsol import wsol
from maskerlib.data.sets.xml_boxes import xml_objects
from maskerlib.metrics.evaluation import evaluate

READERS = ("imagenet:PATH", "imagenet-kaggle:PATH", "wsol:PATH", "cub:PATH", "pets:PATH", "voc:PATH")


def picture(path, colour="grey", size=(40, 32)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def grey(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


class TestText:
    def test_the_last_line_needs_no_break_and_empty_ones_do_not_count(self, tmp_path):
        write(tmp_path / "a.txt", "1 one two\n\n2 three")
        found = list(lines(tmp_path / "a.txt", 2))
        assert [fields for _, fields in found] == [["1", "one two"], ["2", "three"]]
        assert found[1][0].endswith("a.txt, line 3")

    def test_another_number_of_fields_is_named(self, tmp_path):
        write(tmp_path / "a.txt", "a,1\nb,2,3\n")
        with pytest.raises(ValueError, match=r"a.txt, line 2: 3 fields, expected 2: 'b,2,3'"):
            list(lines(tmp_path / "a.txt", 2, ","))

    def test_a_file_that_is_not_there_or_no_text(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="check the root"):
            list(lines(tmp_path / "a.txt"))
        (tmp_path / "a.txt").write_bytes(b"\xff\xfe\xff")
        with pytest.raises(ValueError, match="not UTF-8"):
            list(lines(tmp_path / "a.txt"))


class TestXml:
    def test_boxes_include_their_last_pixel_and_count_from_first(self, tmp_path):
        corners = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>1</xmax><ymax>4</ymax></bndbox>"
        write(tmp_path / "a.xml", f"<annotation><object><name> cat </name>{corners}</object></annotation>")
        assert [each.box for each in xml_objects(tmp_path / "a.xml", first=1)] == [(0, 1, 1, 4)]
        (one,) = xml_objects(tmp_path / "a.xml", first=0)
        assert (one.name, one.box, one.difficult) == ("cat", (1, 2, 2, 5), False)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("<annotation>", "not XML"),
            ("<a><object><bndbox><xmin>3</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></object></a>", "object 1 has"),
            ("<a><object><name>cat</name></object></a>", "expected xmin <= xmax"),
        ],
    )
    def test_damaged_files_are_named(self, tmp_path, text, message):
        write(tmp_path / "a.xml", text)
        with pytest.raises(ValueError, match=message):
            xml_objects(tmp_path / "a.xml", first=1)


class TestMaskRule:
    def test_what_one_mask_shows_another_cannot_ignore(self, tmp_path):
        grey(tmp_path / "a.png", [[255, 0, 0]])
        grey(tmp_path / "b.png", [[0, 130, 0]])
        grey(tmp_path / "i.png", [[255, 0, 200]])
        paths = [tmp_path / f"{name}.png" for name in "abi"]
        shown, ignored = MaskRule().read(tuple(paths[:2]), (paths[2],), 0, (1, 3))
        assert shown.tolist() == [[True, True, False]] and ignored.tolist() == [[False, False, True]]

    def test_labels_of_the_class(self, tmp_path):
        grey(tmp_path / "a.png", [[0, 1, 2, 255]])
        rule = MaskRule(first_class=1, ignore=(255,))
        for label in (0, 1):
            shown, ignored = rule.read((tmp_path / "a.png",), (), label, (1, 4))
            assert shown[0].nonzero().tolist() == [[label + 1]] and ignored.tolist() == [[False, False, False, True]]

    def test_another_size_is_refused_unless_it_is_expected(self, tmp_path):
        grey(tmp_path / "a.png", [[255, 0]])
        with pytest.raises(ValueError, match="2x1 pixels, but its image has 4x2"):
            MaskRule().read((tmp_path / "a.png",), (), 0, (2, 4))
        shown, ignored = MaskRule(resized=True).read((tmp_path / "a.png",), (), 0, (2, 4))
        assert shown.tolist() == [[True, True, False, False]] * 2 and ignored is None

    def test_labels_in_colour_are_refused(self, tmp_path):
        picture(tmp_path / "a.png")
        with pytest.raises(ValueError, match="an image of kind RGB, expected labels"):
            MaskRule(object=(1,)).read((tmp_path / "a.png",), (), 0, (32, 40))


class TestImageNet:
    def test_boxes_of_the_image_s_own_class_alone(self, tmp_path):
        picture(tmp_path / "train" / "n02" / "n02_1.JPEG")
        picture(tmp_path / "train" / "n01" / "n01_7.JPEG")
        ends = "<xmin>0</xmin><ymin>4</ymin><xmax>9</xmax><ymax>13</ymax>"
        objects = "".join(f"<object><name>{name}</name><bndbox>{ends}</bndbox></object>" for name in ("n02", "n01"))
        write(tmp_path / "boxes" / "train" / "n02" / "n02_1.xml", f"<annotation>{objects}</annotation>")
        found = imagenet(tmp_path, 32, split="train", index=None)
        assert found.class_names == ("n01", "n02") and found.labels.tolist() == [0, 1]
        assert found.whole(0).boxes.shape == (0, 4) and found.whole(1).boxes.tolist() == [[0, 4, 10, 14]]
        assert len(imagenet(tmp_path, 32, split="train", boxed=True, index=None)) == 1

    def test_folders_that_are_numbers_are_in_the_order_of_numbers(self, tmp_path):
        for number in range(12):
            picture(tmp_path / "v2" / str(number) / "1.jpeg", (20 * number, 0, 0))
        found = imagenet(tmp_path, 32, split="v2", index=None)
        assert found.labels.tolist() == list(range(12))
        assert found.class_names == tuple(ResNet50_Weights.IMAGENET1K_V2.meta["categories"])
        assert found.whole(10).image[0].mean() == pytest.approx(200 / 255, abs=0.02)

    def test_some_of_the_numbers_keep_theirs(self, tmp_path):
        for number in (2, 11):
            picture(tmp_path / "v2" / str(number) / "1.jpeg")
        assert imagenet(tmp_path, 32, split="v2", index=None).labels.tolist() == [2, 11]

    def test_names_are_those_of_torchvision_s_networks(self, tmp_path):
        wnids = [f"n{number:08d}" for number in range(1000)]
        usual = ResNet50_Weights.IMAGENET1K_V2.meta["categories"]
        assert imagenet_names(tmp_path, wnids) == usual, "all are there"
        assert imagenet_names(tmp_path, wnids[:3]) == wnids[:3], "nobody says which they are"
        write(tmp_path / "LOC_synset_mapping.txt", "\n".join(f"{wnid} some, words" for wnid in reversed(wnids)))
        assert imagenet_names(tmp_path, wnids[5:7]) == usual[5:7]
        write(tmp_path / "LOC_synset_mapping.txt", "n00000001 goldfish, Carassius auratus")
        assert imagenet_names(tmp_path, wnids[:2]) == ["n00000000", "goldfish"]

    def test_a_part_of_the_classes_meets_the_labels_of_a_classifier(self, tmp_path):
        wnids = [f"n{number:08d}" for number in range(1000)]
        write(tmp_path / "words.txt", "\n".join(f"{wnid} word" for wnid in wnids))
        for wnid in (wnids[281], wnids[7]):
            picture(tmp_path / "val" / wnid / "a.JPEG")
        classifier = tiny_classifier()
        object.__setattr__(classifier, "class_names", tuple(ResNet50_Weights.IMAGENET1K_V2.meta["categories"]))
        assert aligned(imagenet(tmp_path, 32, index=None), classifier).labels.tolist() == [7, 281]

    def test_what_is_missing_is_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="one folder a class"):
            imagenet(tmp_path, 32)
        (tmp_path / "val").mkdir()
        with pytest.raises(ValueError, match="no folder in it"):
            imagenet(tmp_path, 32)


class TestKaggle:
    def tree(self, root, val="v1,n02 2 4 11 13 n02 0 0 39 31 \nv2,n01 0 0 9 9"):
        write(root / "LOC_synset_mapping.txt", "n01 tench, Tinca tinca\nn02 goldfish, Carassius auratus")
        write(root / "LOC_val_solution.csv", f"ImageId,PredictionString\n{val}")
        for name in ("v1", "v2"):
            picture(root / "ILSVRC" / "Data" / "CLS-LOC" / "val" / f"{name}.JPEG")

    def test_labels_and_boxes_come_from_the_table(self, tmp_path):
        self.tree(tmp_path)
        found = imagenet_kaggle(tmp_path, 32, index=None)
        assert found.labels.tolist() == [1, 0] and found.class_names == ("tench", "goldfish")
        assert found.whole(0).boxes.tolist() == [[2, 4, 12, 14], [0, 0, 40, 32]]

    def test_training_images_are_those_of_the_folders(self, tmp_path):
        self.tree(tmp_path)
        write(tmp_path / "LOC_train_solution.csv", "ImageId,PredictionString\nn02_1,n02 2 4 11 13")
        for name in ("n01/n01_5", "n02/n02_1", "n02/n02_3"):
            picture(tmp_path / "ILSVRC" / "Data" / "CLS-LOC" / "train" / f"{name}.JPEG")
        found = imagenet_kaggle(tmp_path, 32, split="train", index=None)
        assert found.labels.tolist() == [0, 1, 1] and [len(found.whole(i).boxes) for i in range(3)] == [0, 1, 0]
        assert len(imagenet_kaggle(tmp_path, 32, split="train", boxed=True, index=None)) == 1

    @pytest.mark.parametrize(
        ("val", "message"),
        [
            ("v1,n03 1 1 2 2", "line 2: the class 'n03' is not in LOC_synset_mapping.txt"),
            ("v1,n01 1 1 2", "expected a class and four numbers"),
            ("v1,n01 1 1 2 x", "no number where a box should stand"),
        ],
    )
    def test_a_bad_line_is_named(self, tmp_path, val, message):
        self.tree(tmp_path, val)
        with pytest.raises(ValueError, match=message):
            imagenet_kaggle(tmp_path, 32, index=None)


class TestWsol:
    def test_a_box_includes_its_last_pixel_and_an_image_may_have_several(self, tmp_path):
        lists = tmp_path / "metadata" / "CUB" / "test"
        write(lists / "image_ids.txt", "002.B/b.jpg\n001.A/a.jpg")
        write(lists / "class_labels.txt", "001.A/a.jpg,0\n002.B/b.jpg,1")
        write(lists / "localization.txt", "002.B/b.jpg,0,0,9,9\n001.A/a.jpg,1,2,3,4\n002.B/b.jpg,5,5,5,5")
        for name in ("001.A/a", "002.B/b", "001.A/of_cubv2"):
            picture(tmp_path / "dataset" / "CUB" / f"{name}.jpg")
        found = wsol(tmp_path, 32, index=None)
        assert found.labels.tolist() == [1, 0] and found.class_names == ("A", "B")
        assert found.whole(0).boxes.tolist() == [[0, 0, 10, 10], [5, 5, 6, 6]]

    def test_labels_come_from_the_list_and_not_from_the_order_of_folders(self, tmp_path):
        lists = tmp_path / "metadata" / "ILSVRC" / "val"
        numbers = [2, 10, 9]
        write(lists / "image_ids.txt", "\n".join(f"val2/{number}/1.jpeg" for number in numbers))
        write(lists / "class_labels.txt", "\n".join(f"val2/{number}/1.jpeg,{number}" for number in numbers))
        write(lists / "localization.txt", "")
        for number in numbers:
            picture(tmp_path / "dataset" / "ILSVRC" / "val2" / str(number) / "1.jpeg")
        assert wsol(tmp_path, 32, dataset="ILSVRC", split="val", index=None).labels.tolist() == numbers

    def test_pxap_leaves_out_what_is_to_be_ignored(self, tmp_path):
        """Against a plain computation over all pixels of all images."""
        source = SOURCES["wsol:PATH"].example(tmp_path)
        batch = source.batch(range(2))
        assert batch.ignores is not None and batch.ignores[0].any() and not batch.ignores[1].any()
        assert not (batch.ignores & batch.masks).any()
        draws = torch.randint(1000, (2, 1, 32, 32), generator=torch.Generator().manual_seed(0))
        maps = (draws + 0.5) / 1000  # each in the middle of a step of PxAP's thresholds
        table = evaluate({"random": maps}, source, tiny_classifier(), targets="predicted", normalise="none")
        counts = ~batch.ignores.flatten()
        scores, truth = maps.flatten().numpy(), batch.masks.flatten().numpy()
        found = table.loc["random", "PxAP"]
        assert found == pytest.approx(average_precision_score(truth[counts], scores[counts]), abs=1e-9)
        assert found != pytest.approx(average_precision_score(truth, scores), abs=1e-4), "it makes a difference"

    @pytest.mark.parametrize(
        ("localization", "message"),
        [("001.A/a.jpg,1,2,3", "4 fields, expected path,x0"), ("001.A/a.jpg,5,0,1,2", "expected x0 <= x1")],
    )
    def test_a_bad_line_is_named(self, tmp_path, localization, message):
        lists = tmp_path / "metadata" / "CUB" / "test"
        write(lists / "image_ids.txt", "001.A/a.jpg")
        write(lists / "class_labels.txt", "001.A/a.jpg,0")
        write(lists / "localization.txt", localization)
        picture(tmp_path / "dataset" / "CUB" / "001.A" / "a.jpg")
        with pytest.raises(ValueError, match=message):
            wsol(tmp_path, 32, index=None)

    def test_an_image_without_a_label_is_named(self, tmp_path):
        lists = tmp_path / "metadata" / "CUB" / "train"
        write(lists / "image_ids.txt", "001.A/a.jpg")
        write(lists / "class_labels.txt", "001.A/b.jpg,0")
        with pytest.raises(ValueError, match="'001.A/a.jpg' is not in class_labels.txt"):
            wsol(tmp_path, 32, split="train", index=None)


class TestCub:
    def test_left_top_width_and_height(self, tmp_path):
        SOURCES["cub:PATH"].example(tmp_path)
        found = cub(tmp_path, 32, index=None)
        assert found.whole(0).boxes.tolist() == [[8, 8, 24, 28]] and found.labels.tolist() == [0, 1]
        assert found.whole(0).mask.sum() == 16 * 20

    def test_an_image_of_cubv2_in_its_folders_does_not_count(self, tmp_path):
        SOURCES["cub:PATH"].example(tmp_path)
        picture(tmp_path / "images" / "001.Black_footed_Albatross" / "25980.jpg")
        assert len(cub(tmp_path, 32, index=None)) == 2

    def test_the_folder_around_it_will_do_and_masks_need_not_be_there(self, tmp_path):
        SOURCES["cub:PATH"].example(tmp_path / "CUB_200_2011")
        shutil.rmtree(tmp_path / "CUB_200_2011" / "segmentations")
        assert cub(tmp_path, 32, index=None).whole(0).mask is None

    def test_splits(self, tmp_path):
        SOURCES["cub:PATH"].example(tmp_path)
        write(tmp_path / "train_test_split.txt", "1 1\n2 0")
        assert cub(tmp_path, 32, split="train", index=None).labels.tolist() == [0]
        assert cub(tmp_path, 32, split="test", index=None).labels.tolist() == [1]

    def test_an_image_that_a_table_leaves_out_is_named(self, tmp_path):
        SOURCES["cub:PATH"].example(tmp_path)
        write(tmp_path / "bounding_boxes.txt", "1 8.0 8.0 16.0 20.0")
        with pytest.raises(ValueError, match="image 2 is not in bounding_boxes.txt"):
            cub(tmp_path, 32, index=None)


class TestPets:
    def test_the_border_of_a_trimap_is_ignored_and_the_box_is_the_animal_s(self, tmp_path):
        SOURCES["pets:PATH"].example(tmp_path)
        found = pets(tmp_path, 32, index=None)
        sample = found.whole(1)
        assert sample.label == 1 and found.class_names == ("Abyssinian", "american bulldog")
        assert sample.boxes.tolist() == [[9, 9, 23, 27]]
        assert sample.mask.sum() == 14 * 18 and sample.ignore.sum() == 16 * 20 - 14 * 18
        assert found.batch([0, 1]).ignores.shape == (2, 32, 32)

    def test_torchvision_reads_the_same_tree_to_the_same_labels(self, tmp_path):
        SOURCES["pets:PATH"].example(tmp_path / "oxford-iiit-pet")
        theirs = source_named("torchvision:OxfordIIITPet", size=32, root=tmp_path, split="test")
        ours = pets(tmp_path, 32, index=None)
        assert torch.equal(ours.labels, theirs.labels) and torch.equal(ours[1].image, theirs[1].image)

    def test_comments_in_the_list_are_none_of_its_images(self, tmp_path):
        SOURCES["pets:PATH"].example(tmp_path)
        table = tmp_path / "annotations" / "test.txt"
        write(table, "#Image CLASS-ID SPECIES BREED-ID\n" + table.read_text(encoding="utf-8"))
        assert len(pets(tmp_path, 32, index=None)) == 2


class TestVoc:
    def test_a_sample_a_class_of_an_image(self, tmp_path):
        SOURCES["voc:PATH"].example(tmp_path)
        found = voc(tmp_path, 32, masks=True, index=None)
        assert [found.class_names[label] for label in found.labels] == ["cat", "sofa"] == [CLASSES[7], CLASSES[17]]
        cat, sofa = found.whole(0), found.whole(1)
        assert cat.boxes.tolist() == [[8, 8, 24, 28]] and sofa.boxes.tolist() == [[26, 20, 38, 28]]
        assert cat.mask.sum() == 16 * 20 and sofa.mask.sum() == 12 * 8
        assert cat.ignore.sum() == sofa.ignore.sum() == 12
        assert found.classes(0) == found.classes(1) == (7, 17) and sofa.name == "2007_000001, sofa"
        with pytest.raises(ValueError, match="no image of this split"):
            voc(tmp_path, 32, masks=True, single=True, index=None)

    def test_difficult_objects_count_when_asked_for(self, tmp_path):
        SOURCES["voc:PATH"].example(tmp_path)
        xml = tmp_path / "VOCdevkit" / "VOC2012" / "Annotations" / "2007_000001.xml"
        text = xml.read_text(encoding="utf-8").replace("<name>sofa</name>", "<name>sofa</name><difficult>1</difficult>")
        write(xml, text)
        assert voc(tmp_path, 32, masks=True, index=None).labels.tolist() == [7]
        assert voc(tmp_path, 32, masks=True, index=None).classes(0) == (7, 17), "it is there all the same"
        assert voc(tmp_path, 32, masks=True, difficult=True, index=None).labels.tolist() == [7, 17]

    def test_where_its_folder_may_lie(self, tmp_path):
        SOURCES["voc:PATH"].example(tmp_path)
        for root in (tmp_path, tmp_path / "VOCdevkit", tmp_path / "VOCdevkit" / "VOC2012"):
            assert len(voc(root, 32, masks=True, index=None)) == 2
        with pytest.raises(FileNotFoundError, match="expected PASCAL VOC 2007"):
            voc(tmp_path, 32, year="2007", index=None)
        with pytest.raises(FileNotFoundError, match="ImageSets/Main/val.txt: no such file"):
            voc(tmp_path, 32, index=None)

    def test_a_class_that_is_none_is_named(self, tmp_path):
        SOURCES["voc:PATH"].example(tmp_path)
        xml = tmp_path / "VOCdevkit" / "VOC2012" / "Annotations" / "2007_000001.xml"
        write(xml, xml.read_text(encoding="utf-8").replace("sofa", "couch"))
        with pytest.raises(ValueError, match="the class 'couch' is none of PASCAL VOC's"):
            voc(tmp_path, 32, masks=True, index=None)


@pytest.fixture(params=READERS)
def opened(request, tmp_path):
    """A function that opens the example of each reader once more, and where its files are."""
    entry = SOURCES[request.param]
    first = entry.example(tmp_path / "data")
    asked = request.param.replace("PATH", str(tmp_path / "data"))
    options = {"wsol": {"dataset": "OpenImages", "split": "val"}, "voc": {"masks": True}}.get(request.param.split(":")[0], {})
    return first, lambda **more: source_named(asked, size=32, **{"index": tmp_path / "indexes", **options, **more})


class TestIndex:
    def test_the_second_start_reads_the_list_and_no_file(self, opened, monkeypatch):
        example, open_again = opened
        first = open_again()
        monkeypatch.setattr(indexing.Index, "of", lambda *_, **__: pytest.fail("it was read again"))
        second = open_again()
        assert torch.equal(first.labels, example.labels) and second.class_names == example.class_names
        for number in range(len(example)):
            assert example.records[number] == first.records[number] == second.records[number]
            assert torch.equal(second[number].image, example[number].image)
            assert torch.equal(second[number].boxes, example[number].boxes)

    def test_a_damaged_list_is_made_anew(self, opened, tmp_path):
        _, open_again = opened
        open_again()
        (path,) = (tmp_path / "indexes").iterdir()
        path.write_bytes(path.read_bytes()[:100])
        assert len(open_again()) == 2 and path.stat().st_size > 100

    def test_a_file_that_was_changed_is_named_with_the_mend(self, opened, tmp_path):
        _, open_again = opened
        source = open_again()
        path = source.root / source.records[0].path
        os.utime(path, (1, 1))
        with pytest.raises(Changed, match="changed after the list of images was made; remove .*indexes"):
            open_again(on_corrupt="skip").whole(0)
        shutil.rmtree(tmp_path / "indexes")
        assert open_again().whole(0).image.shape == (3, 32, 40)

    def test_a_missing_image_is_named_or_left_out(self, opened, request):
        _, open_again = opened
        listed = open_again(index=None)
        path = listed.root / listed.records[0].path
        gone = [number for number in range(len(listed)) if listed.records[number].path == listed.records[0].path]
        path.unlink()
        if request.node.callspec.params["opened"] != "imagenet:PATH":  # whose folders are its only list
            with pytest.raises(FileNotFoundError, match=f"no such file, and so it is for {len(gone)} of {len(listed)} images"):
                open_again(index=None)
        if len(gone) == len(listed):
            with pytest.raises(ValueError, match="no image of this split"):
                open_again(index=None, missing="skip")
        else:
            assert len(open_again(index=None, missing="skip")) == len(listed) - len(gone)

    def test_an_unreadable_image_is_named_or_replaced_with_a_count(self, opened):
        _, open_again = opened
        source = open_again(index=None)
        path = source.root / source.records[0].path
        path.write_bytes(b"no image")
        with pytest.raises(ValueError, match="not an image"):
            open_again(index=None).whole(0)
        skipping = open_again(index=None, on_corrupt="skip")
        if len({skipping.records[number].path for number in range(2)}) == 1:
            with pytest.raises(ValueError, match="none of the 2 images can be read"):
                skipping.whole(0)
        else:
            assert torch.equal(skipping.whole(0).image, skipping.whole(1).image)
            assert skipping.skipped == 1 and skipping.skipped_files == (path,)

    def test_loader_workers_count_as_well(self, tmp_path):
        for number in range(8):
            picture(tmp_path / "val" / "n01" / f"{number}.JPEG", (30 * number, 0, 0))
        (tmp_path / "val" / "n01" / "5.JPEG").write_bytes(b"")
        source = imagenet(tmp_path, 32, on_corrupt="skip", index=None)
        found = [batch.images[:, 0].mean(dim=(1, 2)) for batch in batches(source, 4, workers=2)]
        assert torch.cat(found)[5] == torch.cat(found)[6] and source.skipped == 1

    def test_a_new_image_is_seen_and_options_have_their_own_list(self, tmp_path):
        for name in ("n01/1", "n02/2"):
            picture(tmp_path / "val" / f"{name}.JPEG")
        given = {"index": tmp_path / "indexes"}
        assert len(imagenet(tmp_path, 32, **given)) == 2
        picture(tmp_path / "val" / "n02" / "3.JPEG")
        assert len(imagenet(tmp_path, 32, **given)) == 3
        with pytest.raises(ValueError, match="no image of this split"):
            imagenet(tmp_path, 32, boxed=True, **given)
        assert len(list((tmp_path / "indexes").iterdir())) == 1

    def test_all_missing_images_are_counted(self, tmp_path):
        SOURCES["cub:PATH"].example(tmp_path)
        shutil.rmtree(tmp_path / "images" / "001.Black_footed_Albatross")
        with pytest.raises(FileNotFoundError, match=r"a.jpg: no such file, and so it is for 1 of 2 images; get them, or leave"):
            cub(tmp_path, 32, index=None)
        assert cub(tmp_path, 32, missing="skip", index=None).labels.tolist() == [1]

    def test_a_source_opens_in_another_process(self, opened):
        """What a loader worker that is spawned is given."""
        source, _ = opened
        again = pickle.loads(pickle.dumps(source))
        assert torch.equal(again[0].image, source[0].image) and again.records[0] == source.records[0]


def test_memory_is_that_of_the_arrays(tmp_path):
    """40,000 records take less than 8 MB more than 400 do: they are not kept one by one."""
    script = """
import sys, tracemalloc
from pathlib import Path
from maskerlib.data.sets.index import Index
from maskerlib.data.sets.record import DataSet, Record
root, count = Path(sys.argv[1]), int(sys.argv[2])
(root / "a").touch()
records = (Record("a", 0, boxes=((0.0, 0.0, 1.0, 1.0),), name=f"n{number:08d}/image") for number in range(count))
tracemalloc.start()
index = Index.of(DataSet(root, lambda: (("a",), records), (), ("made up",)))
print(tracemalloc.get_traced_memory()[0], index[count - 1].name)
"""
    sizes = []
    for count in (400, 40_000):
        command = [sys.executable, "-c", script, str(tmp_path), str(count)]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        size, name = run.stdout.split()
        sizes.append(int(size))
        assert name == f"n{count - 1:08d}/image"
    assert sizes[1] - sizes[0] < 8e6
