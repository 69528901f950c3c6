"""The picture of the training setup shows what the image really met on its way."""

import pytest
import torch

from maskerlib.course.setup_figure import follow, setup_picture
from maskerlib.data.scenes.source import Scenes
from maskerlib.masker.pretrained import scene_masker


@pytest.fixture(scope="module")
def scene():
    return Scenes("val", count=1).batch([0])


@pytest.mark.parametrize("mode", ["FIX", "CA"])
class TestSetup:
    def test_the_numbers_are_those_of_the_views(self, scene, mode):
        trained = scene_masker(mode)
        image, label = scene.images[0], int(scene.labels[0])
        found = follow(trained, image, label)
        mask = trained(scene.images)[0]
        ground = trained.classifier.mean[0]
        assert torch.allclose(found.seen_in, mask * image + (1 - mask) * ground, atol=1e-6)
        assert torch.allclose(found.seen_out, mask * ground + (1 - mask) * image, atol=1e-6)
        p_in, p_out = (trained.classifier(view[None]).softmax(dim=1)[0] for view in (found.seen_in, found.seen_out))
        assert found.right_in == pytest.approx(float(p_in[label]), abs=1e-5)
        assert found.loss_in == pytest.approx(-float(p_in[label].log()), abs=1e-4)
        assert found.entropy_out == pytest.approx(-float((p_out * p_out.log()).sum()), abs=1e-4)
        assert found.area == pytest.approx(float(mask.mean()), abs=1e-6)

    def test_the_picture_says_what_it_shows(self, scene, mode):
        trained, image, label = scene_masker(mode), scene.images[0], int(scene.labels[0])
        (axes,) = setup_picture(trained, image, label).axes
        words = "\n".join(text.get_text() for text in axes.texts)
        assert ("keeps training" in words) == ("past one" in words) == (mode == "CA")
        assert trained.classifier.class_name(label) in words
        assert f"entropy {follow(trained, image, label).entropy_out:.2f}" in words
        assert len(axes.images) == 4


def test_a_batch_is_refused(scene):
    with pytest.raises(ValueError, match=r"expected \(3, H, W\)"):
        follow(scene_masker("FIX"), scene.images, 0)
