"""Maps that were drawn before: every form gives the numbers of the method, and nothing passes for what it is not."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import COLOURS, SIZE, Squares, tiny_classifier
from torch import Tensor

from maskerlib.classifiers.classifier import Classifier
from maskerlib.data.samples import Relabelled, Sample
from maskerlib.methods.grad_cam import grad_cam
from maskerlib.methods.saved_maps import load_maps, map_reader, save_maps
from maskerlib.metrics.evaluation import evaluate

COUNT = 7


class Named(Squares):
    """Squares under the names of files in folders, as a folder of images has them."""

    names = [f"{'a b' if index % 2 else 'é'}/{index}.jpg" for index in range(COUNT)]

    def __init__(self) -> None:
        super().__init__(COUNT)

    def __getitem__(self, index: int) -> Sample:
        return dataclasses.replace(super().__getitem__(index), name=self.names[index])


@pytest.fixture
def source() -> Named:
    return Named()


@pytest.fixture
def maps(source) -> Tensor:
    images = source.batch(range(COUNT)).images
    return grad_cam()(images, source.labels, tiny_classifier())


def table(maps, source, **options):
    return evaluate({"mine": maps}, source, tiny_classifier(), batch_size=3, precision="fp32", **options)


def test_an_array_in_any_form_gives_the_numbers_of_the_method(source, maps, tmp_path):
    np.save(tmp_path / "maps.npy", maps.numpy())
    np.save(tmp_path / "double.npy", np.asfortranarray(maps[:, 0].double().numpy()))
    expected = table(lambda images, targets, classifier: grad_cam()(images, targets, classifier), source)
    for given in (
        maps,
        maps[:, 0],
        maps.numpy(),
        maps[:, 0].numpy(),
        tmp_path / "maps.npy",
        str(tmp_path / "double.npy"),
    ):
        found = table(given, source)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        torch.testing.assert_close(load_maps(given, source, batch_size=2), maps)
    assert found.attrs["explained"]["mine"] == expected.attrs["explained"]["mine"]


def test_a_map_belongs_to_the_image_at_its_place(source, maps):
    read = map_reader(maps, source)
    assert torch.equal(read(2, source.names[2:5]), maps[2:5])
    changed = maps.clone()
    changed[6] = 0
    first, second = (
        evaluate({"a": given}, source, tiny_classifier(), batch_size=2, per_image=True)[1] for given in (maps, changed)
    )
    assert (first["mean"] != second["mean"]).tolist() == [False] * 6 + [True]


@pytest.mark.parametrize("kind", [torch.bool, torch.float16, torch.bfloat16, torch.float64])
def test_kinds_of_numbers(kind, source, maps):
    given = (maps > 0.5).to(kind)
    assert torch.equal(load_maps(given, source), given.float())
    if kind != torch.bfloat16:
        assert torch.equal(load_maps(given.numpy(), source), given.float())


def test_a_folder_holds_one_file_an_image(source, maps, tmp_path):
    steps = (maps * 255).round() / 255
    for index, (name, own) in enumerate(zip(source.names, steps, strict=True)):
        place = tmp_path / name
        place.parent.mkdir(exist_ok=True)
        bytes_ = (own[0] * 255).round().byte().numpy()
        if index % 3 == 0:
            np.save(f"{place}.npy", own[0].numpy())
        elif index % 3 == 1:
            Image.fromarray(bytes_).save(place.with_suffix(".png"))
        else:
            Image.fromarray(bytes_.astype(np.uint16) * 257).save(f"{place}.png")
    torch.testing.assert_close(load_maps(tmp_path, source), steps, atol=1e-6, rtol=0)
    np.testing.assert_allclose(table(str(tmp_path), source), table(steps, source), atol=1e-5)


@pytest.mark.parametrize("where", ["deep/maps.npy", "a folder"])
def test_what_was_saved_is_evaluated_like_the_method(where, source, tmp_path):
    class Carrying:
        classifier = tiny_classifier(3)

        def __call__(self, images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
            return grad_cam()(images, targets, classifier)

    own = {"mine": Carrying.classifier}
    for method, explained in ((grad_cam(), {}), (Carrying(), own)):
        path = tmp_path / type(method).__name__ / where
        options = {"targets": "predicted", "precision": "fp32", "batch_size": 3}
        assert save_maps(method, source, tiny_classifier(), path, **options) == path
        live, saved = (
            evaluate({"mine": given}, source, tiny_classifier(), explained=explained, **options)
            for given in (method, path)
        )
        assert live.equals(saved) and live.attrs == saved.attrs  # to the last bit
    assert not [left for left in tmp_path.rglob("*") if "partial" in left.name]


def test_saved_maps_are_not_taken_for_maps_of_another_classifier_or_other_classes(source, tmp_path):
    for where in (tmp_path / "maps.npy", tmp_path / "maps"):
        save_maps(grad_cam(), source, tiny_classifier(3), where)
        with pytest.raises(
            ValueError, match=r"maps 'mine' explain the classifier tiny .*give that one with explained=\{'mine'"
        ):
            table(where, source)
        right = {"mine": tiny_classifier(3)}
        assert table(where, source, explained=right).loc["mine", "LE"] >= 0
        with pytest.raises(ValueError, match="drawn with targets='labels', not 'predicted'"):
            table(where, source, explained=right, targets="predicted")
        assert load_maps(where, source).shape == (COUNT, 1, SIZE, SIZE)
    record = tmp_path / "maps" / "maps.json"
    assert json.loads(record.read_text())["targets"] == "labels"
    for content in ("[]", '{"explained": 3}', "{"):
        record.write_text(content)
        with pytest.raises(ValueError, match="maps.json is"):
            table(tmp_path / "maps", source)


def test_a_writing_that_fails_leaves_no_file(source, tmp_path):
    def fails(images: Tensor, targets: Tensor, classifier: Classifier) -> Tensor:
        calls.append(len(images))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return images[:, :1]

    calls: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        save_maps(fails, source, tiny_classifier(), tmp_path / "maps.npy", batch_size=3)
    assert not list(tmp_path.iterdir()) and calls == [3, 3]
    calls.clear()
    with pytest.raises(KeyboardInterrupt):
        save_maps(fails, source, tiny_classifier(), tmp_path / "maps", batch_size=3)
    with pytest.raises(ValueError, match="holds 3 maps .* for 7 images"):
        table(tmp_path / "maps", source)
    with pytest.raises(
        ValueError, match="maps holds something already; give a new folder, or a path that ends in .npy"
    ):
        save_maps(grad_cam(), source, tiny_classifier(), tmp_path / "maps")
    with pytest.raises(ValueError, match=r"method 'method': returned \(3, 3, 16, 16\)"):
        save_maps(
            lambda images, targets, classifier: images, source, tiny_classifier(), tmp_path / "other.npy", batch_size=3
        )
    assert not (tmp_path / "other.npy").exists()


# Errors


def test_arrays_that_do_not_fit(source, maps, tmp_path):
    colours = maps.repeat(1, 3, 1, 1)
    cases = {
        r"maps 'mine' have shape \(6, 1, 16, 16\), expected \(7, 1, 16, 16\) or \(7, 16, 16\); give one": maps[:6],
        r"shape \(7, 1, 8, 8\)": maps[..., :8, :8],
        r"shape \(7, 3, 16, 16\).*maskerlib\.methods\.attributions\.magnitude_map": colours,
        r"torch\.uint8, expected floats in \[0, 1\]; divide bytes by 255": (maps * 255).byte(),
        r"int64, expected floats": (maps > 0.5).long().numpy(),
        r"^method 'mine': values from .* to 2": maps * 2,
        r"^method 'mine': values from -1 .*magnitude_map": -maps,
        r"^method 'mine': NaN": maps / 0 * 0,
        r"maps 'mine' are int, expected a method, an array, a \.npy file or a folder of maps": 3,
        r"maps 'mine' are list": maps.tolist(),
        r"maps 'mine': there is nothing at nowhere\.npy": "nowhere.npy",
    }
    for message, given in cases.items():
        with pytest.raises(ValueError, match=message):
            table(given, source)
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY")
    (tmp_path / "maps.pt").touch()
    for name, message in (
        ("objects.npy", "not a readable array"),
        ("cut.npy", "not a readable array"),
        ("maps.pt", "no .npy file"),
    ):
        with pytest.raises(ValueError, match=f"maps 'mine': .*{name} is {message}"):
            table(tmp_path / name, source)


def test_folders_that_do_not_fit(source, maps, tmp_path):
    save_maps(grad_cam(), source, tiny_classifier(), tmp_path)
    one = tmp_path / f"{source.names[4]}.npy"
    whole = one.read_bytes()

    def refused(message: str) -> None:
        with pytest.raises(ValueError, match=message):
            table(tmp_path, source)

    one.rename(tmp_path / "spare.npy")
    refused("maps 'mine': 'é/4.jpg' has no map, expected one, .*é/4.jpg.npy or .*é/4.npy")
    (tmp_path / "spare.npy").rename(one)
    np.save(one.with_name("4.npy"), maps[4, 0])
    refused("'é/4.jpg' has 2 maps")
    one.with_name("4.npy").unlink()
    np.save(one, maps[4, 0, :8])
    refused(r"4.jpg.npy has shape \(8, 16\), expected \(16, 16\)")
    np.save(one, (maps[4, 0] * 255).byte())
    refused("4.jpg.npy: uint8, expected floats")
    one.unlink()
    refused(r"holds 6 maps \(.npy or .png\) for 7 images")
    Image.fromarray(
        (maps[4].repeat(3, 1, 1).permute(1, 2, 0) * 255).byte().numpy() // np.array([1, 2, 3], np.uint8)
    ).save(one.with_suffix(".png"))
    refused("4.jpg.png is in colour, expected a grey map")
    one.with_suffix(".png").unlink()
    one.write_bytes(whole)
    assert table(tmp_path, source).attrs["images"] == COUNT


def test_names_that_no_file_or_two_images_have(source, tmp_path):
    for number, name in enumerate(("../out", "/abs/1.jpg", "")):
        source.names = [name, *Named.names[1:]]
        with pytest.raises(
            ValueError, match="no file of a folder can be called .*in one array, a path that ends in .npy"
        ):
            save_maps(grad_cam(), source, tiny_classifier(), tmp_path / str(number))
    assert not (tmp_path / "out.npy").exists()
    source.names = [Named.names[0], *Named.names[:6]]
    with pytest.raises(ValueError, match="two images are called 'é/0.jpg'"):
        save_maps(grad_cam(), source, tiny_classifier(), tmp_path / "twice")
    source.names = ["é/0.jpg", "é/0.png", *Named.names[2:]]
    folder = tmp_path / "one for two"
    (folder / "é").mkdir(parents=True)
    (folder / "a b").mkdir()
    for name in ["é/0", "spare", *Named.names[2:]]:
        np.save(folder / f"{name}.npy", np.zeros((SIZE, SIZE)))
    with pytest.raises(ValueError, match="0.npy is the map of two images"):
        table(folder, source)


def test_labels_matter_to_saving_as_they_do_to_evaluating(source, tmp_path):
    strange = Relabelled(source, source.labels, ("cat", "dog", "rocket", *COLOURS[3:]))
    with pytest.raises(ValueError, match="'cat' is no class of tiny"):
        save_maps(grad_cam(), strange, tiny_classifier(), tmp_path / "maps.npy")
    save_maps(grad_cam(), strange, tiny_classifier(), tmp_path / "maps.npy", targets="predicted")
    assert set(table(tmp_path / "maps.npy", strange, targets="predicted").attrs["missing"]) >= {"OM", "top1"}
