"""The explorers and their pictures: what a control changes, and what is said when a choice makes no sense.

That they work in JupyterLab is shown by tests/browser.
"""

import base64
import io

import matplotlib.pyplot as plt
import pytest
import torch
from PIL import Image
from tiny import SIZE, Squares, tiny_classifier

from maskerlib.classifiers.classifier import frozen
from maskerlib.classifiers.scene_resnet import scene_classifier
from maskerlib.course import explorer_pictures as pictures
from maskerlib.course.explorers import Explorer, layer_explorer, mask_explorer, threshold_explorer
from maskerlib.data.scenes.source import Scenes
from maskerlib.explain import explain
from maskerlib.masker.config import MaskerConfig
from maskerlib.masker.network import masker_for
from maskerlib.masker.trained import Trained
from maskerlib.methods.registry import METHODS, method_named

SQUARES = Squares(4).batch(range(4))


@pytest.fixture
def trained():
    classifier = tiny_classifier()
    return Trained(masker_for(classifier).eval(), classifier, MaskerConfig(), {})


def titles(figure) -> list[str]:
    return [axis.get_title() for axis in figure.axes]


# --- pictures -------------------------------------------------------------------------------------


def test_the_mask_picture_tells_the_class_and_its_probability_in_each_view():
    figure = pictures.mask_picture(tiny_classifier(), SQUARES.images[0], steps=2, grid=4)
    whole, mask, seen_in, seen_out = titles(figure)
    assert whole.split()[0] in ("red", "green", "blue", "white") and "%" in mask
    assert seen_in.startswith(("masked-in 0.", "masked-in 1."))
    assert seen_out.startswith("masked-out ")


def test_a_larger_weight_on_size_gives_a_smaller_mask():
    scene = Scenes("val", count=1, cache=None)[0].image

    def covered(size: float) -> float:
        figure = pictures.mask_picture(scene_classifier(), scene, size_in=size, size_out=size, steps=20)
        return float(titles(figure)[1].split()[1])

    assert covered(20.0) < covered(0.0)


def test_a_mask_that_nothing_is_asked_of_is_refused():
    with pytest.raises(ValueError, match="weight_in and weight_out are both 0"):
        pictures.mask_picture(tiny_classifier(), SQUARES.images[0], weight_in=0, weight_out=0)


@pytest.mark.parametrize("name", ["grad-cam", "rise", "fido"])
def test_the_mask_picture_of_any_method_is_its_map_and_what_that_keeps_and_leaves(name):
    classifier, image = tiny_classifier(), SQUARES.images[1]
    options = METHODS[name].moderate | ({"grid": 7} if name == "fido" else {})
    found = explain(image, classifier, method_named(name, classifier, seed=2, **options), size=(SIZE, SIZE))
    figure = pictures.mask_picture(classifier, image, method=name, grid=7, seed=2, weight_in=0, weight_out=0)
    what = "mask" if name == "fido" else "map"
    assert titles(figure) == [
        f"{found.class_name} {found.whole:.2f}",
        f"{what}, {100 * found.saliency.mean():.0f} % of the image",
        f"masked-in {found.kept:.2f}",
        f"masked-out {found.left:.2f}",
    ]


def test_the_grid_of_a_method_is_its_own_unless_it_is_given(monkeypatch):
    given = []
    made = pictures.method_named
    monkeypatch.setattr(pictures, "method_named", lambda *args, **options: given.append(options) or made(*args, **options))
    for grid in (None, 4):
        pictures.mask_picture(tiny_classifier(), SQUARES.images[0], method="fido", grid=grid)
    assert [options["grid"] for options in given] == [METHODS["fido"].moderate["grid"], 4]
    assert all("objective" not in options for options in given)


def test_every_method_that_needs_no_training_answers_while_one_waits():
    names = pictures.affordable((224, 224))
    assert names[0] == "optimise" and names == [name for name in METHODS if ":" not in name]
    assert set(pictures.affordable((224, 224), passes=10)) == {
        *("gradient", "input-x-gradient", "guided-backprop", "deep-lift", "lrp", "grad-cam", "grad-cam-plus-plus", "layer-cam"),
        *("centre-box", "random"),
    }


def test_what_concerns_a_method_is_what_it_has():
    assert pictures.mask_controls("optimise") == {"weight_in", "weight_out", "size_in", "size_out", "tv", "grid"}
    assert pictures.mask_controls("meaningful-perturbation") == pictures.mask_controls("extremal") == {"grid"}
    assert pictures.mask_controls("lime") == set()


# Two parts above one half: four pixels in the corner, of which three are the object's, and one apart.
MAP = torch.tensor([[[0.9, 0.8, 0.0, 0.0], [0.7, 0.6, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.55]]])
TRUTH = torch.zeros(4, 4, dtype=torch.bool)
TRUTH[0, :2] = TRUTH[1, 0] = TRUTH[2, 0] = True
BOX = torch.tensor([0.0, 0.0, 2.0, 3.0])


def test_a_cut_worked_out_by_hand():
    result = pictures.cut(MAP, TRUTH, BOX, 0.5)
    assert result.above.sum() == 5 and result.component.sum() == 4
    assert result.box.tolist() == [0, 0, 2, 2]
    assert result.iou == pytest.approx(4 / 6)
    assert (result.precision, result.recall) == (pytest.approx(3 / 5), pytest.approx(3 / 4))


def test_a_cut_above_everything_is_empty():
    result = pictures.cut(MAP, TRUTH, BOX, 0.95)
    assert not result.above.any() and result.box.tolist() == [0, 0, 0, 0]
    assert (result.iou, result.precision, result.recall) == (0.0, 1.0, 0.0)


def test_the_threshold_picture_says_hit_or_miss_and_moves_its_point():
    figure = pictures.threshold_picture(torch.rand(3, 4, 4), MAP, TRUTH, BOX, 0.5)
    assert titles(figure)[2] == "IoU 0.67: a hit" and titles(figure)[3] == "precision 0.60, recall 0.75"
    assert len(figure.axes[2].patches) == 2
    curve, point = figure.axes[3].get_lines()
    assert (point.get_xdata()[0], point.get_ydata()[0]) == (pytest.approx(0.75), pytest.approx(0.6))
    assert (pytest.approx(0.75), pytest.approx(0.6)) in list(zip(curve.get_xdata(), curve.get_ydata(), strict=True))
    missed = pictures.threshold_picture(torch.rand(3, 4, 4), MAP, TRUTH, BOX, 0.85)
    assert titles(missed)[2] == "IoU 0.17: a miss"
    assert len(pictures.threshold_picture(torch.rand(3, 4, 4), MAP, TRUTH, BOX, 0.95).axes[2].patches) == 1


@pytest.mark.parametrize("layers", [("stage",), ("stem", "stage"), ("stem",)])
def test_what_the_layers_add_sums_to_the_logits_of_the_mask(layers):
    classifier = tiny_classifier()
    masker = masker_for(classifier, layers).eval()
    torch.nn.init.constant_(masker.head.bias, 0.3)
    with torch.no_grad(), frozen(classifier):
        _, activations = classifier.activations(SQUARES.images)
        parts = pictures.contributions(masker, activations)
        torch.testing.assert_close(sum(parts.values()) + 0.3, masker(activations))
    assert tuple(parts) == layers


def test_the_layer_picture_shows_one_channel_or_their_mean(trained):
    mean = pictures.layer_picture(trained, SQUARES.images[0], "stage")
    assert titles(mean)[1] == "stage: mean of 6 channels, 4 x 4" and titles(mean)[2].startswith("adds to the logit")
    one = pictures.layer_picture(trained, SQUARES.images[0], "stem", 3)
    assert titles(one)[1] == "stem: channel 3 of 4, 8 x 8"
    activation = trained.classifier.activations(SQUARES.images[:1])[1]["stem"][0, 3]
    torch.testing.assert_close(torch.as_tensor(one.axes[1].images[0].get_array()), activation)


def test_the_layer_picture_says_when_the_masker_does_not_read_the_layer():
    classifier = tiny_classifier()
    trained = Trained(masker_for(classifier, ("stage",)).eval(), classifier, MaskerConfig(), {})
    figure = pictures.layer_picture(trained, SQUARES.images[0], "stem")
    assert "does not read stem" in figure.axes[2].texts[0].get_text()


@pytest.mark.parametrize("layer, channel, text", [("head", None, "layer 'head' is not read"), ("stem", 4, "channels 0 to 3")])
def test_a_layer_or_channel_that_is_not_there_is_refused(trained, layer, channel, text):
    with pytest.raises(ValueError, match=text):
        pictures.layer_picture(trained, SQUARES.images[0], layer, channel)


# --- widgets --------------------------------------------------------------------------------------


def picture_of(explorer: Explorer) -> Image.Image:
    assert explorer.message.value == ""
    return Image.open(io.BytesIO(explorer.image.value))


def test_moving_a_control_draws_the_picture_of_its_value():
    boxes = [torch.tensor([[0.0, 0.0, 4.0, 4.0]])] * 4
    maps = {"noise": torch.rand(4, 1, SIZE, SIZE), "flat": torch.full((4, 1, SIZE, SIZE), 0.5)}
    explorer = threshold_explorer(SQUARES.images, maps, torch.ones(4, SIZE, SIZE, dtype=torch.bool), boxes)
    seen = [explorer.image.value]
    for name, value in (("threshold", 0.9), ("image", 2), ("method", "flat"), ("threshold", 0.2)):
        explorer.controls[name].value = value
        assert picture_of(explorer).format == "JPEG"
        assert explorer.image.value not in seen
        seen.append(explorer.image.value)
    assert not plt.get_fignums()


def test_the_mask_explorer_refuses_politely_and_recovers():
    explorer = mask_explorer(tiny_classifier(), SQUARES.images[:2], ["a", "b"], steps=2)
    before = explorer.image.value
    explorer.controls["weight_in"].value = 0
    assert explorer.image.value != before
    explorer.controls["weight_out"].value = 0
    assert "both 0" in explorer.message.value
    explorer.controls["weight_out"].value = 1
    picture_of(explorer)


def test_what_does_not_concern_the_method_is_disabled():
    explorer = mask_explorer(tiny_classifier(), SQUARES.images[:2], ["a", "b"], steps=1)
    method = explorer.controls["method"]

    def enabled() -> set[str]:
        return {name for name, control in explorer.controls.items() if not control.disabled} - {"photo", "method"}

    assert method.value == "optimise" and "masker:FOLDER" not in method.options
    assert enabled() == pictures.mask_controls("optimise")
    seen = [explorer.image.value]
    for name in ("grad-cam", "fido", "optimise"):
        method.value = name
        assert enabled() == pictures.mask_controls(name)
        picture_of(explorer)
        seen.append(explorer.image.value)
    assert seen[0] == seen[3] and len(set(seen)) == 3


def test_a_method_that_has_no_rule_for_the_network_says_so_and_another_goes_on():
    network = tiny_classifier()
    network.network.stem[2] = torch.nn.SiLU()  # guided backpropagation needs ReLUs
    network.network.stage[2] = torch.nn.SiLU()
    explorer = mask_explorer(network, SQUARES.images[:1], ["a"], steps=1)
    explorer.controls["method"].value = "guided-backprop"
    assert "ReLU" in explorer.message.value
    explorer.controls["method"].value = "gradient"
    picture_of(explorer)


def test_the_mask_explorer_hands_on_each_weight(monkeypatch):
    calls = []
    monkeypatch.setattr(
        "maskerlib.course.explorers.mask_picture", lambda c, image, **options: calls.append(options) or plt.figure()
    )
    explorer = mask_explorer(tiny_classifier(), SQUARES.images[:2], ["a", "b"], steps=2, seed=3)
    assert calls[-1]["method"] == "optimise"
    for name, value in (("weight_in", 0.5), ("weight_out", 1.5), ("size_in", 2.0), ("size_out", 8.0), ("tv", 0.1), ("grid", 7)):
        explorer.controls[name].value = value
        assert calls[-1][name] == value
    assert calls[-1]["steps"] == 2 and calls[-1]["seed"] == 3
    plt.close("all")


def test_a_reader_without_a_kernel_sees_the_picture():
    explorer = mask_explorer(tiny_classifier(), SQUARES.images[:1], ["a"], steps=1)
    bundle = explorer._repr_mimebundle_()
    assert base64.b64decode(bundle["image/jpeg"]) == explorer.image.value
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == explorer.model_id


def test_the_layer_explorer_offers_the_channels_of_its_layer(trained):
    explorer = layer_explorer(trained, SQUARES.images, ["a", "b", "c", "d"])
    channel = explorer.controls["channel"]
    assert explorer.controls["layer"].value == "stage" and channel.max == 6
    channel.value = 6
    picture_of(explorer)
    explorer.controls["layer"].value = "stem"
    assert (channel.max, channel.value) == (4, 4)
    picture_of(explorer)


def test_sliders_report_when_they_are_let_go():
    explorer = mask_explorer(tiny_classifier(), SQUARES.images[:1], ["a"], steps=1)
    assert not explorer.controls["tv"].continuous_update and not explorer.controls["size_in"].continuous_update
