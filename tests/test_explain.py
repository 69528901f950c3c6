"""Photographs explained, from Python and from the command line."""

import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import COLOURS, SIZE, Squares, tiny_classifier
from torch import nn

from maskerlib import __main__ as command
from maskerlib.classifiers import doors
from maskerlib.classifiers import registry as zoo
from maskerlib.classifiers.classifier import Classifier
from maskerlib.explain import explain, explanation_picture, find_photos, output_paths, read_photo
from maskerlib.masker.config import MaskerConfig
from maskerlib.masker.training import train_masker
from maskerlib.methods import registry as methods
from maskerlib.methods.centre_box import centre_box
from maskerlib.methods.registry import method_named


def half(images, targets, classifier):
    """The left half of each image."""
    maps = torch.zeros(len(images), 1, *images.shape[-2:])
    maps[..., : maps.shape[-1] // 2] = 1
    return maps


@pytest.fixture
def photos(tmp_path) -> Path:
    """A folder with three photos, one of them broken, and a text."""
    folder = tmp_path / "my_photos"
    folder.mkdir()
    for index, name in enumerate(("a.png", "b.jpg")):
        pixels = (Squares(4).images[index].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        Image.fromarray(pixels).resize((40, 30)).save(folder / name)
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "readme.txt").write_text("words")
    return folder


@pytest.fixture
def answered_by(monkeypatch):
    """Makes the command line ask this method, whatever its name."""
    return lambda method: monkeypatch.setattr(methods, "method_named", lambda name, classifier, **options: method)


@pytest.fixture
def tiny(monkeypatch):
    """The command line explains the tiny classifier, whatever its name."""
    monkeypatch.setattr(zoo, "classifier_named", lambda name, **options: tiny_classifier())


class TestExplain:
    def test_the_numbers_are_those_of_the_views(self):
        classifier, photo = tiny_classifier(), Squares(4).images[1]
        found = explain(photo, classifier, half)
        mask = half(photo[None], None, None)
        hidden = classifier.mean
        with torch.no_grad():
            logits = classifier(photo[None])
            target = int(logits.argmax())
            answers = [
                float(classifier(view).softmax(dim=1)[0, target])
                for view in (photo[None], mask * photo + (1 - mask) * hidden, (1 - mask) * photo + mask * hidden)
            ]
        assert (found.target, found.class_name) == (target, classifier.class_names[target])
        assert [found.whole, found.kept, found.left] == pytest.approx(answers, abs=1e-6)
        assert torch.equal(found.saliency, mask[0]) and found.size == (SIZE, SIZE)

    def test_a_class_by_name_or_number_and_another_size(self):
        classifier, photo = tiny_classifier(), torch.rand(3, 50, 80)
        named, numbered = (explain(photo, classifier, half, target=target, size=24) for target in ("Blue", 2))
        assert named.target == numbered.target == 2 and named.whole == numbered.whole
        assert named.saliency.shape == (1, 24, 24)
        with pytest.raises(ValueError, match="'blu' is no class of tiny; near ones: blue"):
            explain(photo, classifier, half, target="blu")

    def test_a_masker_is_asked_about_its_own_classifier(self, tmp_path):
        classifier = tiny_classifier()
        config = MaskerConfig(mode="CA", steps=2, batch_size=4, layers=("stem", "stage"), classifier_lr=1.0)
        trained = train_masker(classifier, Squares(8), config, folder=tmp_path / "run", progress=False)
        method = method_named(f"masker:{tmp_path / 'run'}", classifier)
        photo = Squares(4).images[0]
        found = explain(photo, classifier, method, target=0)
        with torch.no_grad():
            assert found.whole == pytest.approx(float(trained.classifier(photo[None]).softmax(dim=1)[0, 0]), abs=1e-6)
            assert found.whole != pytest.approx(float(classifier(photo[None]).softmax(dim=1)[0, 0]), abs=1e-6)

    def test_the_picture_says_what_was_found_and_is_drawn_from_the_photo_itself(self):
        photo = torch.rand(3, 60, 80)
        found = explain(photo, tiny_classifier(), centre_box(), target=0)
        figure = explanation_picture(found, "who made it")
        texts = [text.get_text() for text in figure.texts]
        assert texts[0] == f"red: {found.whole:.0%}".replace("%", " %") and texts[-1] == "who made it"
        assert texts[1] == f"covers {found.saliency.mean():.0%} of the photo".replace("%", " %")
        assert figure.axes[0].images[0].get_array().shape == (60, 60, 3)


@pytest.mark.parametrize(
    ("photo", "message"),
    [
        (torch.rand(40, 30, 3), r"^photo: image of shape \(40, 30, 3\), expected \(C, H, W\); .*image.permute\(2, 0, 1\)$"),
        (np.zeros((40, 30, 3)), "^photo: its image is a ndarray, expected a float tensor"),
        (torch.rand(1, 3, 40, 30), r"^photo: its image is a tensor \(1, 3, 40, 30\), expected"),
    ],
)
def test_a_photo_of_another_layout_is_named_with_the_mend(photo, message):
    with pytest.raises(ValueError, match=message):
        explain(photo, tiny_classifier(), half)


def surely(classifier):
    """The same network with a softmax behind it, as many are saved."""
    network = nn.Sequential(classifier.network, nn.Softmax(dim=1))
    return Classifier(network, class_names=COLOURS, input_size=classifier.input_size, name="sure").eval()


def test_probabilities_in_place_of_logits_are_refused_unless_the_classifier_was_looked_at():
    photo, classifier = Squares(4).images[0], surely(tiny_classifier())
    with pytest.raises(ValueError, match="sure returns probabilities"):
        explain(photo, classifier, centre_box())
    assert explain(photo, classifier, centre_box(), checked=True).whole > 0


class TestPhotos:
    def test_files_folders_and_names_in_order(self, photos):
        found, left_out = find_photos([str(photos / "b.jpg"), str(photos), "chelsea"])
        assert [Path(each).name for each in found] == ["b.jpg", "a.png", "b.jpg", "broken.png", "chelsea"] and left_out == 1
        assert read_photo("chelsea").shape == (3, 300, 451) and read_photo(found[0]).shape == (3, 30, 40)

    def test_what_is_not_there_is_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="chelsee: no such image or folder; give a path, or one of astronaut"):
            find_photos(["chelsee"])
        with pytest.raises(ValueError, match="0 photographs"):
            find_photos([tmp_path])

    def test_pictures_of_equal_names_do_not_replace_each_other(self):
        paths = output_paths(["x/cat.png", "y/cat.jpg", "cat-2.png", "Cat.png", "chelsea"], "out")
        assert [path.name for path in paths] == ["cat.png", "cat-2.png", "cat-2-2.png", "Cat-3.png", "chelsea.png"]


@pytest.mark.usefixtures("tiny")
class TestCommand:
    def test_one_photo_to_one_file(self, photos, tmp_path, capsys):
        to = tmp_path / "new" / "map.png"
        arguments = ["explain", str(photos / "a.png"), "--method", "centre-box", "--target", "red", "--output", str(to), "--npy"]
        assert command.main(arguments) == 0
        assert sorted(path.name for path in to.parent.iterdir()) == ["map.npy", "map.png"]
        with Image.open(to) as picture:
            assert picture.width > 1000 and picture.format == "PNG"
        saliency = np.load(to.with_suffix(".npy"))
        assert saliency.shape == (SIZE, SIZE) and saliency.dtype == np.float32 and set(np.unique(saliency)) == {0, 1}
        out = capsys.readouterr().out
        assert out.startswith(f"{to}: red ") and "masked-in" in out and out.count("\n") == 1
        first = to.read_bytes()
        assert command.main(arguments) == 0 and to.read_bytes() == first

    def test_a_broken_photo_is_named_and_the_others_are_explained(self, photos, tmp_path, capsys):
        assert command.main(["explain", str(photos), "--method", "random", "--output", str(tmp_path / "out")]) == 1
        said = capsys.readouterr()
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]
        assert "broken.png: not an image" in said.err
        assert said.err.splitlines()[-1] == "2 explained, 1 skipped, 1 left out that are no images"

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["nowhere.png"], "nowhere.png: no such image or folder"),
            (["PHOTO", "--method", "lemon"], "no method 'lemon'"),
            (["PHOTO", "--method", "masker:nowhere"], "nowhere"),
            (["PHOTO", "--method", "rise", "--option", "mask", "9"], "no option 'mask'; its options are batch_size, cells"),
            (["PHOTO", "--method", "rise", "--option", "seed", "9"], "method 'rise' has no option 'seed'; its options are "),
            (["PHOTO", "--method", "lemon", "--option", "masks", "9"], "no method 'lemon'"),
            (["PHOTO", "--method", "rise", "--option", "masks", "many"], "masks takes int; give a whole number such as 3"),
            (["PHOTO", "--method", "rise", "--option", "centred", "yes"], "centred takes bool; give True or False"),
            (["PHOTO", "--method", "rise", "--option", "masks", "0"], "masks=0 must be a whole number of 1 or more"),
            (["PHOTO", "--method", "rise", "--option", "masks", "9", "--option", "masks", "8"], "given twice, as 9 and '8'"),
            (["PHOTO", "--method", "deep-lift", "--option", "baseline", "0.5"], "takes Tensor or None; give it from Python"),
            (["PHOTO", "--method", "grad-cam", "--option", "infill", "blur"], "no option 'infill'; its options are layer"),
            (["PHOTO", "--option", "infill", "snow"], "infill='snow' is unknown; choose mean, blur"),
            (["PHOTO", "--option", "steps", "0"], "steps=0 must be a whole number of 1 or more"),
            (["PHOTO", "--target", "purple"], "'purple' is no class of tiny"),
            (["PHOTO", "--target", "9"], "target 9 is no class of tiny"),
            (["PHOTO", "--device", "abacus"], "abacus"),
            (["PHOTO", "PHOTO", "--output", "one.png"], "one.png is one file for 2 photos"),
            (["PHOTO", "--output", "PHOTO/below/it"], "cannot be written to"),
            (["PHOTO", "--output", f"{'x' * 300}.png"], "xxx.png cannot be looked up"),
            (["PHOTO", "--output", f"{'x' * 300}/map.png"], "xxx/map.png cannot be looked up"),
            (["PHOTO", "--output", "maps\0"], "maps\\x00 cannot be looked up"),
            (["x" * 300], "xxx cannot be looked up"),
            (["PHOTO\0"], "a.png\\x00 cannot be looked up"),
            (["PHOTO", "--size", "100000"], "--size 100000 is more than 9459, the most that is read of a photo; leave"),
            (["PHOTO", "--device", "nonsense"], "--device 'nonsense' is not on this machine; choose auto, cpu"),
            (["PHOTO", "--device", "meta"], "--device 'meta' is not on this machine; choose auto, cpu"),
            (["PHOTO", "--device", "cuda:99"], "--device 'cuda:99' is not on this machine; choose auto, cpu"),
            (["PHOTO", "--method", "masker:"], "'masker:' names no folder; give masker:FOLDER"),
            ([""], "'' names no photograph; give the path of an image or a folder"),
            (["PHOTO", "--layers", ""], "--layers '' holds an empty name"),
            (["PHOTO", "--layers", "stem,,stage"], "--layers 'stem,,stage' holds an empty name"),
            (["PHOTO", "--output", ""], "--output '' is empty; give a file or a folder"),
            (["PHOTO", "--output", "map.tiff"], "map.tiff: expected a folder, or a file with one of .png, .jpg"),
            (["PHOTO", "--output", "map.GIF"], "map.GIF: expected a folder, or a file"),
            (["PHOTO", "--output", "map.npy"], "map.npy: expected a folder, or a file"),
        ],
    )
    def test_mistakes_are_one_line_and_nothing_is_written(self, arguments, message, photos, capsys, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        photo = str(photos / "a.png")
        before = set(tmp_path.rglob("*"))
        assert command.main(["explain", *(text.replace("PHOTO", photo) for text in arguments)]) == 2
        assert set(tmp_path.rglob("*")) == before
        said = capsys.readouterr()
        assert said.err.startswith("error: ") and message in said.err and said.err.count("\n") == 1 and not said.out
        assert sorted(path.name for path in tmp_path.rglob("*.png")) == ["a.png", "broken.png"]

    @pytest.mark.parametrize("force", [[], ["--force"]])
    @pytest.mark.parametrize(
        "arguments",
        [
            ["FOLDER/a.png", "--output", "FOLDER"],
            ["FOLDER/b.jpg", "--output", "FOLDER/b.jpg"],
            ["FOLDER/b.jpg", "--output", "FOLDER/../my_photos/b.jpg"],
            ["FOLDER", "--output", "FOLDER"],
            ["LINK", "--output", "FOLDER/a.png"],
            ["FOLDER/explained"],
        ],
    )
    def test_a_photo_is_never_replaced_by_its_explanation(self, arguments, force, photos, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(zoo, "classifier_named", lambda *given, **options: pytest.fail("a classifier was loaded"))
        monkeypatch.chdir(photos)
        (tmp_path / "link.png").symlink_to(photos / "a.png")
        (photos / "explained").mkdir()
        (photos / "explained" / "a.png").write_bytes((photos / "a.png").read_bytes())
        before = {path: path.read_bytes() for path in photos.rglob("*.*")}
        words = [text.replace("FOLDER", str(photos)).replace("LINK", str(tmp_path / "link.png")) for text in arguments]
        assert command.main(["explain", *words, *force]) == 2
        said = capsys.readouterr().err
        assert "is a photograph to be explained, and would be replaced; give another --output" in said and said.count("\n") == 1
        assert {path: path.read_bytes() for path in photos.rglob("*.*")} == before

    @pytest.mark.parametrize("name", ["b.png", "b.npy"])
    def test_other_files_of_a_folder_are_replaced_by_force_alone(self, name, photos, capsys):
        (photos / name).write_bytes(b"mine")
        arguments = ["explain", str(photos / "b.jpg"), "--method", "random", "--npy", "--output", str(photos)]
        assert command.main(arguments) == 2
        said = capsys.readouterr().err
        assert said == f"error: {photos / name} exists; give another --output, or --force to replace it\n"
        assert (photos / name).read_bytes() == b"mine"
        assert command.main([*arguments, "--force"]) == 0 and (photos / name).read_bytes() != b"mine"

    def test_an_array_beside_a_named_file_is_replaced_only_with_its_picture(self, photos, tmp_path, capsys):
        to = tmp_path / "map.png"
        to.with_suffix(".npy").write_bytes(b"mine")
        arguments = ["explain", str(photos / "b.jpg"), "--method", "random", "--npy", "--output", str(to)]
        assert command.main(arguments) == 2 and "map.npy exists" in capsys.readouterr().err and not to.exists()
        to.write_bytes(b"a picture")
        assert command.main(arguments) == 0 and np.load(to.with_suffix(".npy")).shape == (SIZE, SIZE)

    def test_the_folder_of_the_default_is_written_again(self, photos, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        arguments = ["explain", str(photos / "a.png"), "--method", "random"]
        assert command.main(arguments) == 0
        first = (tmp_path / "explained" / "a.png").read_bytes()
        assert command.main([*arguments, "--seed", "1"]) == 0
        assert (tmp_path / "explained" / "a.png").read_bytes() != first

    @pytest.mark.skipif(os.name == "nt", reason="no such names there")
    def test_a_photo_of_an_odd_name_does_not_stop_its_folder(self, photos, tmp_path, capsys):
        (photos / "broken.png").unlink()
        (photos / "a.png").rename(photos / "a\nline.png")
        (photos / "b.jpg").rename(photos / "b\\slash.jpg")
        (photos / "away").symlink_to("nowhere")
        assert command.main(["explain", str(photos), "--method", "random", "--output", str(tmp_path / "out")]) == 0
        said = capsys.readouterr()
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a\nline.png", "b\\slash.png"]
        assert said.out.count("\n") == 2 and "a\\nline.png: " in said.out
        assert said.err == "2 explained, 0 skipped, 2 left out that are no images\n"

    @pytest.mark.parametrize("text", ["DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes", "other"])
    def test_too_little_memory_is_said_in_words(self, text, photos, tmp_path, capsys, answered_by):
        def greedy(images, targets, classifier):
            raise RuntimeError(text)

        answered_by(greedy)
        assert command.main(["explain", str(photos / "a.png"), "--method", "random", "--output", str(tmp_path / "out")]) == 1
        said = capsys.readouterr().err
        assert ("a.png: there is too little memory to explain it; give a smaller --size" in said) == (text != "other")
        assert said.count("\n") == 1 and "Allocator" not in said

    @pytest.mark.parametrize("arguments", [[], ["explain", "x", "--size", "0"], ["explain", "x", "--size", "big"], ["show"]])
    def test_arguments_that_do_not_parse(self, arguments, capsys):
        with pytest.raises(SystemExit) as left:
            command.main(arguments)
        assert left.value.code == 2 and "usage: maskerlib" in capsys.readouterr().err

    def test_a_method_that_does_not_suit_ends_with_one_line(self, photos, tmp_path, capsys, answered_by):
        answered_by(lambda images, targets, classifier: images)
        assert command.main(["explain", str(photos / "a.png"), "--method", "random", "--output", str(tmp_path / "out")]) == 1
        said = capsys.readouterr().err
        assert said.startswith("error: ") and "expected a tensor" in said and said.count("\n") == 1
        assert not (tmp_path / "out").exists()

    def test_a_classifier_is_looked_at_once_before_the_first_photo(self, photos, tmp_path, capsys, monkeypatch):
        arguments = ["explain", str(photos), "--method", "centre-box", "--output", str(tmp_path / "out")]
        looks = []
        monkeypatch.setattr(doors, "check_classifier", lambda classifier, **options: looks.append(classifier))
        assert command.main(arguments) == 1 and len(looks) == 1, "two photos and a broken one"
        monkeypatch.undo()
        monkeypatch.setattr(zoo, "classifier_named", lambda name, **options: surely(tiny_classifier()))
        assert command.main([*arguments, "--force"]) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith("error: sure returns probabilities")

    @pytest.mark.parametrize(
        ("method", "texts", "options"),
        [
            ("rise", ["masks", "20", "centred", "true", "keep", "0.25"], {"masks": 20, "centred": True, "keep": 0.25}),
            ("optimise", ["steps", "2", "infill", "blur", "grid", "(4, 6)"], {"steps": 2, "infill": "blur", "grid": (4, 6)}),
            ("optimise", ["steps", "2", "objective", '{"tv": 0.1}'], {"steps": 2, "objective": {"tv": 0.1}}),
            ("extremal", ["area", "[0.1, 0.3]", "steps", "2"], {"area": [0.1, 0.3], "steps": 2}),
            ("meaningful-perturbation", ["steps", "2", "start", "-1.5"], {"steps": 2, "start": -1.5}),
            ("fido-sdr", ["steps", "2", "samples", "2"], {"steps": 2, "samples": 2}),
            ("grad-cam", ["layer", "stem"], {"layer": "stem"}),
            ("centre-box", ["area", "1"], {"area": 1.0}),
        ],
    )
    def test_options_of_the_method_are_read_as_their_types_and_said_in_the_picture(
        self, method, texts, options, photos, tmp_path, monkeypatch
    ):
        drawn = []
        draw = explanation_picture
        monkeypatch.setattr("maskerlib.explain.explanation_picture", lambda *given: drawn.append(given[1]) or draw(*given))
        to = tmp_path / "map.png"
        given = [word for pair in zip(texts[::2], texts[1::2], strict=True) for word in ("--option", *pair)]
        assert command.main(["explain", str(photos / "a.png"), "--method", method, *given, "--output", str(to), "--npy"]) == 0
        photo = read_photo(photos / "a.png")
        found = explain(photo, tiny_classifier(), method_named(method, tiny_classifier(), **options))
        assert np.array_equal(np.load(to.with_suffix(".npy")), found.saliency[0].numpy())
        said = ", ".join(f"{name}={value!r}" for name, value in options.items())
        assert drawn == [f"classifier tiny at {SIZE}x{SIZE} pixels, method {method} ({said})"]

    def test_random_weights_are_said_to_know_nothing(self, photos, tmp_path, capsys, monkeypatch):
        for name, warns in (("resnet50 (random weights)", True), ("resnet50 (mine.pth)", False)):
            classifier = tiny_classifier()
            classifier.name = name
            monkeypatch.setattr(zoo, "classifier_named", lambda given, classifier=classifier, **options: classifier)
            arguments = ["explain", str(photos / "a.png"), "--method", "centre-box", "--output", str(tmp_path / "a.png")]
            assert command.main(arguments) == 0
            assert (f"warning: {name}, which knows nothing; name weights with --weights" in capsys.readouterr().err) == warns

    def test_ctrl_c_is_one_line(self, photos, tmp_path, capsys, answered_by):
        def stopped(images, targets, classifier):
            raise KeyboardInterrupt

        answered_by(stopped)
        assert command.main(["explain", str(photos / "a.png"), "--method", "random", "--output", str(tmp_path / "out")]) == 130
        assert capsys.readouterr().err == "interrupted after 0 pictures\n"

    def test_the_list_names_everything(self, capsys):
        assert command.main(["explain", "--list"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert set(methods.table()) <= set(lines) and max(map(len, lines)) <= 140
        assert all(any(line.startswith(f"  {name}  ") for line in lines) for name in zoo.CLASSIFIERS)


@pytest.mark.parametrize("size", ["1", "8"])
def test_a_size_too_small_is_one_line(size, photos, tmp_path, capsys):
    arguments = ["explain", str(photos / "a.png"), "--method", "random", "--size", size, "--output", str(tmp_path / "out")]
    assert command.main(arguments) == 2
    said = capsys.readouterr().err
    assert said == f"error: --size {size} is too small for efficientnet-lite0; leave --size out for its own, 224x224\n"
    assert not (tmp_path / "out").exists()


def test_help_is_there_at_once_and_importing_the_package_loads_nothing():
    script = (
        "import sys, maskerlib, maskerlib.__main__ as c\n"
        "try: c.main(['explain', '--help'])\n"
        "except SystemExit: print([name for name in ('torch', 'numpy', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]" and "usage: maskerlib explain" in done.stdout


def test_the_console_script_is_this_command():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"maskerlib": f"{command.__name__}:{command.main.__name__}"}


@pytest.mark.skipif(os.name == "nt", reason="signals differ")
def test_ctrl_c_while_modules_are_loaded_is_one_line(tmp_path):
    script = (
        "import sys, maskerlib.__main__ as c; print('ready', flush=True);"
        f"sys.exit(c.main(['explain', 'chelsea', '--output', {str(tmp_path)!r}]))"
    )
    started = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert started.stdout.readline() == "ready\n"
    time.sleep(0.3)
    started.send_signal(signal.SIGINT)
    out, err = started.communicate(timeout=120)
    assert started.returncode == 130 and err == "interrupted after 0 pictures\n" and not out
