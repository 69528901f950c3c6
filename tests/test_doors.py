"""The doors: what is let in, under which numbering, and what is turned away by name."""

import numpy as np
import pytest
import torch
from tiny import COLOURS, SIZE, Squares, TinyNet, tiny_classifier
from torch import nn

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.doors import aligned, as_targets, check_classifier, check_images, class_number, decided
from maskerlib.classifiers.libraries import imagenet_class_names
from maskerlib.data.samples import Relabelled

IMAGES = torch.rand(2, 3, SIZE, SIZE)


class TestImages:
    @pytest.mark.parametrize("images", [IMAGES, IMAGES.double(), IMAGES.half(), IMAGES * 1.01 - 0.005])
    def test_those_in_the_range_pass_as_they_are(self, images):
        assert check_images(images, tiny_classifier()) is images

    @pytest.mark.parametrize(
        "images, message",
        [
            (IMAGES[0], r"images: torch.float32 \(3, 16, 16\), expected floats \(B, 3, H, W\)"),
            ((255 * IMAGES).byte(), r"images: torch.uint8"),
            (IMAGES.numpy(), "images: ndarray"),
            (IMAGES[:, :1], "images have 1 channels, tiny takes 3"),
            (IMAGES.permute(0, 2, 3, 1), r"expected \(B, 3, H, W\); the channels come first, images.permute\(0, 3, 1, 2\)$"),
            (IMAGES * 255, r"second has values from .* expected \[0, 1\]; divide bytes by 255"),
            ((IMAGES - 0.5) / 0.25, "second has values from -.*, expected .*; give it before its normalisation"),
            (IMAGES / 0, "second holds NaN or infinity"),
        ],
    )
    def test_others_are_named_with_the_mend(self, images, message):
        if (
            isinstance(images, torch.Tensor)
            and images.dim() == 4
            and images.shape[1] == 3
            and images.is_floating_point()
        ):
            images = torch.stack([IMAGES[0], images[1]])  # the first is innocent
        with pytest.raises(ValueError, match=message):
            check_images(images, tiny_classifier(), ("first", "second"))


class TestTargets:
    def test_every_way_to_say_a_class(self):
        classifier, logits = tiny_classifier(), torch.eye(4)[[3, 0, 1]]
        assert as_targets(None, logits, classifier).tolist() == [3, 0, 1]
        for one in (2, "blue", " BLUE", np.int64(2), torch.tensor(2)):
            assert as_targets(one, logits, classifier).tolist() == [2, 2, 2]
        for each in ([2, 0, 3], (2, "red", 3), np.array([2, 0, 3]), torch.tensor([2, 0, 3], dtype=torch.uint8)):
            assert as_targets(each, logits, classifier).tolist() == [2, 0, 3]

    @pytest.mark.parametrize(
        "targets, message",
        [
            (4, "target 4 is no class of tiny; give whole numbers from 0 to 3, or names"),
            (-1, "target -1 is no class"),
            ([0, 1], "2 targets for 3 images"),
            (torch.tensor([0.0, 1.0, 2.0]), r"target 0\.0 is no class"),
            (True, "target True is no class"),
            ("blu", "'blu' is no class of tiny; near ones: blue"),
            (torch.zeros(3, 4), "is no class"),
        ],
    )
    def test_others_are_named(self, targets, message):
        with pytest.raises(ValueError, match=message):
            as_targets(targets, torch.eye(4)[:3], tiny_classifier())


class TestNames:
    def test_of_imagenet(self):
        classifier = Classifier(TinyNet(1000), class_names=imagenet_class_names(), name="imagenet")
        assert class_number("Golden_Retriever", classifier) == imagenet_class_names().index("golden retriever")
        with pytest.raises(ValueError, match="'cat' is no class of imagenet; near ones: "):
            class_number("cat", classifier)

    def test_a_name_of_two_classes_is_none(self):
        classifier = Classifier(TinyNet(3), class_names=("crane, bird", "crane, machine", "tench"))
        with pytest.raises(ValueError, match="'crane' is no class"):
            class_number("crane", classifier)
        assert class_number("machine", classifier) == 1

    def test_synonyms(self):
        classifier = Classifier(TinyNet(2), class_names=("tabby, tabby cat", "tench, Tinca tinca"))
        assert class_number("tinca tinca", classifier) == 1 and class_number("Tabby-Cat", classifier) == 0


class TestAligned:
    def test_the_same_classes_are_left_alone(self):
        source = Squares(8)
        assert aligned(source, tiny_classifier()) is source

    def test_other_numbers_for_the_same_names_are_mapped(self):
        classifier = Classifier(
            TinyNet(6), class_names=("grey", "White", "blue", "green", "red", "black"), input_size=(SIZE, SIZE)
        )
        source = Squares(8)
        found = aligned(source, classifier)
        assert [classifier.class_names[label].lower() for label in found.labels] == [
            COLOURS[label] for label in source.labels
        ]
        assert found.class_names == classifier.class_names and found.batch([1, 0]).labels.tolist() == [3, 4]
        assert torch.equal(found.batch([1, 0]).images, source.batch([1, 0]).images)

    def test_unknown_labels_stay_unknown(self):
        labels = Squares(8).labels.clone()
        labels[2] = -1
        source = Relabelled(Squares(8), labels, COLOURS)
        assert (
            aligned(source, Classifier(TinyNet(), class_names=COLOURS[::-1], input_size=(SIZE, SIZE))).labels[2] == -1
        )
        unnamed = Squares(8, labelled=False)
        assert aligned(unnamed, tiny_classifier()) is unnamed

    def test_a_class_that_the_classifier_lacks_is_named(self):
        source = Relabelled(Squares(8), Squares(8).labels, ("cat", "rocket", "blue", "white"))
        with pytest.raises(ValueError, match="'cat' is no class of tiny; .*targets='predicted'"):
            aligned(source, tiny_classifier())

    def test_a_label_beyond_the_classes_is_named_where_there_are_no_names(self):
        source = Relabelled(Squares(8), Squares(8).labels + 1, ())
        with pytest.raises(
            ValueError, match="label 4 of image 3 is none of the 4 classes of tiny; labels go from 0 to 3"
        ):
            aligned(source, tiny_classifier())


    @pytest.mark.parametrize(
        ("labels", "found"),
        [
            (torch.zeros(8), r"torch\.float32 \(8,\)"),
            (torch.zeros(8, dtype=torch.int32), r"torch\.int32 \(8,\)"),
            (torch.zeros(7, dtype=torch.int64), r"torch\.int64 \(7,\)"),
            ([0] * 8, "list"),
        ],
    )
    def test_labels_of_another_kind_or_number_are_named(self, labels, found):
        source = Squares(8)
        source.labels = labels
        with pytest.raises(ValueError, match=rf"labels of Squares: {found}, expected torch\.int64 \(8,\), -1 where unknown"):
            aligned(source, tiny_classifier())


class TestDecided:
    def test_the_given_classifier_labels_what_has_no_label_and_is_left_as_it_was(self):
        classifier = tiny_classifier().train()
        source = Squares(10, labelled=False)
        found = decided(source, classifier, batch_size=4)
        with torch.no_grad():
            expected = tiny_classifier()(source.images).argmax(dim=1)
        assert torch.equal(found.labels, expected) and classifier.training

    def test_labels_that_are_there_stay_unless_every_image_is_to_be_decided(self):
        source, classifier = Squares(10), tiny_classifier()
        assert decided(source, classifier) is source
        with torch.no_grad():
            expected = classifier(source.images).argmax(dim=1)
        assert torch.equal(decided(source, classifier, every=True).labels, expected)
        some = Relabelled(source, torch.where(torch.arange(10) < 5, -1, source.labels), COLOURS)
        assert torch.equal(decided(some, classifier).labels, torch.where(torch.arange(10) < 5, expected, source.labels))

    def test_images_are_checked(self):
        source = Squares(10, labelled=False)
        source.images[7] *= 255
        with pytest.raises(ValueError, match="square 7 has values from"):
            decided(source, tiny_classifier())


class TestClassifiers:
    def test_logits_pass_even_where_they_look_like_probabilities(self):
        check_classifier(tiny_classifier())
        network = TinyNet(1)
        with torch.no_grad():
            network.head.weight.mul_(1e-3)
            network.head.bias.fill_(0.5)
        check_classifier(Classifier(network, input_size=(SIZE, SIZE)))
        check_classifier(Classifier(nn.Sequential(TinyNet(), nn.LogSoftmax(1)), input_size=(SIZE, SIZE)))

    @pytest.mark.parametrize(
        "network, head",
        [
            (nn.Sequential(TinyNet(), nn.Softmax(1)), "softmax"),
            (nn.Sequential(TinyNet(1), nn.Sigmoid()), "softmax"),
            (nn.Sequential(TinyNet(1), nn.Sigmoid(), nn.Flatten(0)), "softmax"),
            (nn.Sequential(TinyNet(), nn.Sigmoid()), "sigmoid"),
        ],
    )
    def test_probabilities_are_refused(self, network, head):
        with pytest.raises(ValueError, match="expected logits; leave out its last layer, or undo it with"):
            check_classifier(Classifier(network, input_size=(SIZE, SIZE), head=head))

    def test_a_weight_that_is_not_finite_is_named(self):
        classifier = tiny_classifier()
        classifier.network.stem[1].running_var[2] = float("inf")
        with pytest.raises(ValueError, match=r"weight 'network\.stem\.1\.running_var' of tiny holds NaN or infinity"):
            check_classifier(classifier)


def test_a_source_without_images_is_refused():
    class Empty(Squares):
        def __len__(self) -> int:
            return 0

    with pytest.raises(ValueError, match="Empty holds no images"):
        aligned(Empty(), tiny_classifier())
