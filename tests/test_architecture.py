"""The picture of a masker says what its modules are, for any classifier and any layers."""

import matplotlib.pyplot as plt
import pytest
import torch
from tiny import tiny_classifier
from torch import nn

from maskerlib.classifiers.classifier import Classifier
from maskerlib.classifiers.efficientnet_lite0 import efficientnet_lite0
from maskerlib.classifiers.scene_resnet import scene_resnet
from maskerlib.course.architecture import architecture_picture, read_architecture
from maskerlib.masker.network import Masker, masker_for, masker_method

CLASSES = "abcdefghijklmnop"


@pytest.fixture(autouse=True)
def nothing_stays_open():
    yield
    left = plt.get_fignums()
    plt.close("all")
    assert not left, "a figure that stays open is shown twice in a notebook"


def cases():
    scene = scene_resnet(CLASSES)
    yield "two of scene-resnet", scene, None, 64
    yield "all of scene-resnet", scene, scene.layers, 64
    yield "one of scene-resnet", scene, ("stage2",), 5
    yield "the grid layer alone", scene, ("stem",), 8
    yield "out of order", scene, ("stage4", "stem", "stage1"), 7
    yield "efficientnet", efficientnet_lite0(), None, 64
    yield "tiny", tiny_classifier(), None, 3


@pytest.fixture(params=list(cases()), ids=lambda case: case[0])
def pair(request):
    _, classifier, layers, width = request.param
    return masker_for(classifier, layers, width=width), classifier.eval()


def words(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def size(*numbers: int) -> str:
    return " × ".join(map(str, numbers))


def test_every_text_is_what_the_modules_are(pair):
    """Sizes and channels are asked of the networks in another way than the drawing does."""
    masker, classifier = pair
    rows, columns = classifier.input_size
    with torch.no_grad():
        answer, activations = classifier.activations(torch.rand(1, 3, rows, columns))
    grid = activations[classifier.layers[0]].shape[-2:]
    texts = words(architecture_picture(masker, classifier))

    expected = [f"image\n{size(3, rows, columns)}", f"{answer.shape[1]}\nclasses", f"mask\n{size(1, rows, columns)}"]
    for layer, output in activations.items():
        expected.append(f"{layer}\n{size(*output.shape[1:])}")
    joined = 0
    for layer, reduce in zip(masker.layers, masker.reduce, strict=True):
        cells = activations[layer].shape[-2:]
        upsampled = [] if cells == grid else [f"upsample to {size(*grid)}"]
        if isinstance(reduce, nn.Identity):
            channels, steps = activations[layer].shape[1], ["as it is"]
        else:
            channels = reduce[0].out_channels
            steps = [f"1×1 conv, {reduce[0].in_channels} → {channels}", "batch norm", "ReLU"]
        joined += channels
        expected += ["\n".join(steps + upsampled), size(channels, *grid)]
    assert joined == masker.head.in_channels
    expected.append(("concatenate: " if len(masker.layers) > 1 else "") + size(joined, *grid))
    to_image = [] if grid == (rows, columns) else [f"upsample to {size(rows, columns)}"]
    expected.append("\n".join([f"3×3 conv, {joined} → 1", *to_image, "sigmoid"]))
    for name, network in ((classifier.name, classifier), ("masker", masker)):
        expected.append(f"{name}, {sum(weight.numel() for weight in network.parameters()):,} weights")
    note = [text for text in texts if text.startswith("dashed")]
    assert sorted(texts) == sorted(expected + note) and len(note) == 1


def test_the_numbers_of_the_study_s_picture_for_the_scene_classifier():
    classifier = scene_resnet(CLASSES)
    whole = read_architecture(masker_for(classifier), classifier)
    assert [stage.name for stage in whole.read] == ["stage3", "stage4"]
    assert [stage.shape for stage in whole.read] == [(96, 12, 12), (192, 6, 6)]
    assert whole.grid == (48, 48) and whole.joined == (128, 48, 48)
    assert whole.input == (3, 96, 96) and whole.classes == 16
    assert whole.read[0].reduction == ("1×1 conv, 96 → 64", "batch norm", "ReLU")


def test_the_first_layer_enters_as_it_is_beside_others():
    classifier = scene_resnet(CLASSES)
    stem = read_architecture(masker_for(classifier, classifier.layers), classifier).stages[0]
    assert stem.reduction == ("as it is",) and stem.reduced == stem.shape == (16, 48, 48)
    alone = read_architecture(masker_for(classifier, ("stem",)), classifier).stages[0]
    assert alone.reduction[0] == "1×1 conv, 16 → 64"


def test_what_is_drawn_is_what_the_networks_gave(pair):
    masker, classifier = pair
    image = torch.rand(3, *classifier.input_size)
    whole = read_architecture(masker, classifier, image)
    torch.testing.assert_close(whole.mask[None, None], masker_method(masker)(image[None], None, classifier))
    with torch.no_grad():
        activations = classifier.activations(image[None])[1]
    for stage in whole.stages:
        torch.testing.assert_close(stage.picture, activations[stage.name][0].mean(dim=0))
        if stage.name in masker.layers and stage.reduction == ("as it is",):
            torch.testing.assert_close(stage.features, activations[stage.name][0].mean(dim=0))
    figure = architecture_picture(masker, classifier, image)
    images = figure.axes[0].images
    assert len(images) == 1 + len(whole.stages) + len(whole.read) + 1
    torch.testing.assert_close(torch.as_tensor(images[-1].get_array()), whole.mask)
    assert images[-1].get_clim() == (0, 1)


def test_features_belong_to_their_layer_in_any_order():
    classifier = scene_resnet(CLASSES).eval()
    masker = masker_for(classifier, ("stage4", "stage1"), width=4).eval()
    image = torch.rand(3, 96, 96)
    with torch.no_grad():
        activations = classifier.activations(image[None])[1]
        reduced = masker.reduce[1](activations["stage1"])
        expected = nn.functional.interpolate(reduced, size=(48, 48), mode="bilinear")[0].mean(dim=0)
    stage = next(stage for stage in read_architecture(masker, classifier, image).stages if stage.name == "stage1")
    torch.testing.assert_close(stage.features, expected)


def test_without_an_image_the_blocks_are_plain(pair):
    assert not architecture_picture(*pair).axes[0].images


def test_nothing_runs_over_the_edge_and_no_two_texts_overlap(pair):
    figure = architecture_picture(*pair)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    for box in boxes:
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height
    for number, box in enumerate(boxes):
        assert not any(box.overlaps(another) for another in boxes[:number])


def test_images_that_are_not_square():
    classifier = Classifier(tiny_classifier().network, ("stem", "stage"), input_size=(24, 40), name="wide").eval()
    whole = read_architecture(masker_for(classifier, width=3), classifier)
    assert whole.input == (3, 24, 40) and whole.grid == (12, 20) and whole.mask.shape == (24, 40)
    assert "mask\n1 × 24 × 40" in words(architecture_picture(masker_for(classifier, width=3), classifier))


def test_both_networks_are_left_as_they_were():
    classifier = scene_resnet(CLASSES).train()
    masker = masker_for(classifier).train()
    before = {name: value.clone() for name, value in [*classifier.state_dict().items(), *masker.state_dict().items()]}
    architecture_picture(masker, classifier)
    after = dict([*classifier.state_dict().items(), *masker.state_dict().items()])
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert classifier.training and masker.training and all(weight.requires_grad for weight in masker.parameters())
    assert not any(module._forward_hooks for module in masker.modules())


def test_a_masker_of_another_classifier_is_refused():
    with pytest.raises(ValueError, match="'elsewhere' is not among the activations"):
        read_architecture(Masker({"elsewhere": 3}, grid_layer="stem"), scene_resnet(CLASSES))
