"""The inpainter: holes to learn from, a network that cannot look into them, runs in folders, and its use as an infill."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import SIZE, Squares, tiny_classifier
from torch import Tensor

from maskerlib.masker.config import MaskerConfig
from maskerlib.masker.trained import load_trained
from maskerlib.masker.training import train_masker
from maskerlib.masking import inpainting
from maskerlib.masking.infills import fill
from maskerlib.masking.inpainting import Inpainter, InpainterConfig, random_holes, train_inpainter
from maskerlib.methods.optimise import optimise_mask
from maskerlib.running.files import load_checkpoint, read_json, save_checkpoint
from maskerlib.training import run
from maskerlib.training.run import TrainingRun

MEAN = torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1)
FAST = InpainterConfig(steps=4, batch_size=4, width=2, checkpoint_every=2)
LEFT = ["history.json", "inpainter.pt", "provenance.json"]


def train(config: InpainterConfig = FAST, source: Squares | None = None, **options) -> Inpainter:
    return train_inpainter(Squares() if source is None else source, MEAN, config, progress=False, **options)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=generator(seed))


def same(one: Inpainter, other: Inpainter) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def error(filled: Tensor, images: Tensor, hole: Tensor) -> float:
    return ((filled - images).abs().mean(dim=1, keepdim=True) * hole).sum().item() / hole.sum().item()


class TestHoles:
    @settings(max_examples=30)
    @given(st.integers(0, 10_000), st.integers(1, 5), st.integers(8, 40), st.integers(8, 40))
    def test_are_0_and_1_and_hide_a_share_within_bounds(self, seed, count, height, width):
        hole = random_holes(count, (height, width), generator(seed))
        assert hole.shape == (count, 1, height, width) and hole.dtype == torch.float32
        assert ((hole == 0) | (hole == 1)).all()
        pixels = hole.sum(dim=(1, 2, 3))
        assert (pixels >= int(0.05 * height * width)).all() and (pixels <= 0.6 * height * width).all()
        assert torch.equal(hole, random_holes(count, (height, width), generator(seed)))

    def test_hide_a_pixel_of_the_smallest_images(self):
        pixels = random_holes(200, (3, 3), generator(0)).sum(dim=(1, 2, 3))
        assert pixels.min() == 1 and pixels.max() == 5

    def test_shares_are_spread_over_the_whole_range(self):
        shares = random_holes(400, (24, 24), generator(0)).mean(dim=(1, 2, 3))
        assert shares.min() < 0.07 and shares.max() > 0.58
        assert shares.mean().item() == pytest.approx(0.325, abs=0.03)  # the middle of 0.05 and 0.6

    def test_places_differ_and_every_place_is_hidden_at_times(self):
        holes = random_holes(400, (24, 24), generator(0))
        often = holes.mean(dim=0)
        assert often.min() > 0.2 and often.max() < 0.45
        assert len({hole.numpy().tobytes() for hole in holes}) == 400

    def test_are_blobs_and_not_dust(self):
        hole = random_holes(100, (24, 24), generator(0))
        share = hole.mean()
        alike, dust = (hole[..., 1:] == hole[..., :-1]).float().mean(), 1 - 2 * share * (1 - share)
        assert alike > 0.9 and dust < 0.7  # how often neighbours are alike here, and in dust of the same share

    def test_leave_the_global_generator_alone(self):
        before = torch.random.get_rng_state()
        random_holes(2, (9, 9), generator(0))
        assert torch.equal(torch.random.get_rng_state(), before)


class TestInpainter:
    @pytest.mark.parametrize("size", [(17, 23), (16, 16), (1, 1), (3, 50), (8, 9)])
    def test_paints_pictures_of_any_size(self, size, device):
        inpainter = Inpainter(width=3).eval().to(device)
        images, hole = random(0, 2, 3, *size).to(device), random(1, 2, 1, *size).to(device)
        painted = inpainter.paint(images, hole, MEAN.to(device))
        assert painted.shape == images.shape and painted.dtype == torch.float32 and painted.device.type == device.type
        assert painted.min() >= 0 and painted.max() <= 1

    def test_stays_within_0_and_1_but_learns_without_an_edge(self):
        inpainter = Inpainter(width=2).eval()
        with torch.no_grad():
            inpainter.colours.bias.copy_(torch.tensor([5.0, -5.0, 0.0]))
        painted = inpainter.paint(random(0, 1, 3, 9, 9), torch.zeros(1, 1, 9, 9), MEAN)
        assert (painted[:, 0] == 1).all() and (painted[:, 1] == 0).all()
        images = random(0, 2, 3, 16, 16)
        painted = inpainter.train().paint(images, torch.zeros(2, 1, 16, 16), MEAN)
        assert (painted[:, 0] > 2).all() and (painted[:, 1] < -2).all()  # where a clamp would have no gradient

    @settings(max_examples=10)
    @given(st.integers(0, 1000))
    def test_nothing_in_a_hole_comes_through(self, seed):
        inpainter = Inpainter(width=3, seed=seed).eval()
        images, hole = random(seed, 2, 3, 17, 23), random_holes(2, (17, 23), generator(seed))
        other = torch.where(hole.bool(), random(seed + 1, 2, 3, 17, 23), images)
        one, same = (inpainter.paint(each, hole, MEAN) for each in (images, other))
        torch.testing.assert_close(one, same, rtol=0, atol=1e-6)  # images + (mean - images) is the mean up to rounding
        assert (one - inpainter.paint(other, torch.zeros_like(hole), MEAN)).abs().max() > 1e-3

    def test_sees_the_hole_itself(self):
        inpainter, images, hole = Inpainter(width=3).eval(), MEAN.expand(1, 3, 16, 16), torch.ones(1, 1, 16, 16)
        assert not torch.allclose(inpainter.paint(images, hole, MEAN), inpainter.paint(images, 0 * hole, MEAN))

    def test_what_it_paints_in_a_hole_follows_from_what_is_around_it(self):
        inpainter, images = Inpainter(width=3).train(), random(0, 2, 3, 16, 16).requires_grad_()
        hole = torch.zeros(2, 1, 16, 16)
        hole[..., 4:9, 5:10] = 1
        (slope,) = torch.autograd.grad(inpainter.paint(images, hole, MEAN)[..., 6, 7].square().sum(), images)
        inside = hole.bool().expand_as(images)
        assert (slope[inside] == 0).all() and (slope[~inside] != 0).float().mean() > 0.5

    def test_as_an_infill_it_is_a_function_of_the_hole(self):
        inpainter = Inpainter(width=3).eval()
        images, hole = random(0, 2, 3, 9, 12), random_holes(2, (9, 12), generator(0))
        filled = fill(inpainter(images, MEAN), hole)
        assert not filled.requires_grad
        assert torch.equal(filled, inpainter.paint(images, hole, MEAN))
        alone = torch.cat([fill(inpainter(images[[i]], MEAN), hole[[i]]) for i in range(2)])
        torch.testing.assert_close(alone, filled)

    def test_weights_and_fingerprint_follow_the_seed_and_the_global_generator_is_left_alone(self):
        before = torch.random.get_rng_state()
        one, again, other, wide = (
            Inpainter(width=width, seed=seed) for width, seed in ((4, 0), (4, 0), (4, 1), (5, 0))
        )
        assert torch.equal(torch.random.get_rng_state(), before)
        assert same(one, again) and one.fingerprint() == again.fingerprint()
        assert len({each.fingerprint() for each in (one, other, wide)}) == 3

    @pytest.mark.parametrize("width", [0, -1])
    def test_other_widths_are_refused(self, width):
        with pytest.raises(ValueError, match=f"width={width} must be a whole number of 1 or more"):
            Inpainter(width=width)


class TestTraining:
    def test_lowers_the_error_in_holes_of_images_it_never_saw(self):
        config = InpainterConfig(steps=30, batch_size=8, width=4, lr=1e-2)
        inpainter = train(config)
        assert not inpainter.training and not any(weight.requires_grad for weight in inpainter.parameters())
        images = Squares(24, seed=1).batch(range(24)).images
        hole = random_holes(24, (SIZE, SIZE), generator(0))
        errors = [error(inpainter.paint(images, hole, MEAN), images, hole), error(MEAN, images, hole)]
        with torch.no_grad():
            errors.append(error(Inpainter(width=4).eval().paint(images, hole, MEAN), images, hole))
        assert errors[0] < 0.85 * min(errors[1:])

    def test_the_history_is_the_error_in_the_hole_and_outside(self, tmp_path):
        train(dataclasses.replace(FAST, steps=30, width=4, lr=1e-2), folder=tmp_path)
        history = read_json(tmp_path / "history.json")
        assert list(history) == ["inside", "outside"] and all(len(values) == 30 for values in history.values())
        assert all(sum(values[-5:]) < 0.7 * sum(values[:5]) for values in history.values())

    def test_the_seed_decides_bit_for_bit(self):
        one, again, other = train(), train(), train(dataclasses.replace(FAST, seed=1))
        assert same(one, again) and not same(one, other)
        assert not same(one, Inpainter(width=2))

    def test_every_step_has_holes_of_its_own(self, monkeypatch):
        holes = []
        monkeypatch.setattr(inpainting, "random_holes", lambda *a: holes.append(random_holes(*a)) or holes[-1])
        train()
        assert len({hole.numpy().tobytes() for batch in holes for hole in batch}) == FAST.steps * FAST.batch_size

    def test_labels_are_not_looked_at(self):
        inpainter = train(source=Squares(labelled=False))
        assert same(inpainter, train())

    def test_trains_on_the_device(self, device):
        inpainter = train_inpainter(Squares(), MEAN.to(device), FAST, progress=False)
        assert inpainter.colours.weight.device.type == device.type

    def test_an_empty_source_is_refused(self):
        with pytest.raises(ValueError, match="Squares holds no images"):
            train(source=Squares(0))


class TestFolder:
    def test_a_finished_run_is_loaded_and_not_repeated(self, tmp_path, monkeypatch):
        folder = tmp_path / "my runs" / "one"
        trained = train(folder=str(folder))
        assert sorted(path.name for path in folder.iterdir()) == LEFT
        monkeypatch.setattr(TrainingRun, "train", None)  # calling it would be an error
        (folder / "checkpoint.pt").touch()  # as after a kill just before the end
        again = train(folder=folder)
        assert same(again, trained) and sorted(path.name for path in folder.iterdir()) == LEFT
        assert not again.training and not any(weight.requires_grad for weight in again.parameters())

    @pytest.mark.parametrize("at", [1, 2, 3])
    def test_a_killed_run_goes_on_and_ends_like_one_that_never_was(self, at, tmp_path, monkeypatch):
        expected = train(folder=tmp_path / "whole")
        calls = []

        def killed(*arguments):
            calls.append(arguments)
            if len(calls) > at:
                raise KeyboardInterrupt
            return random_holes(*arguments)

        monkeypatch.setattr(inpainting, "random_holes", killed)
        with pytest.raises(KeyboardInterrupt):
            train(folder=tmp_path / "killed")
        assert (tmp_path / "killed" / "checkpoint.pt").exists() == (at >= 2)
        calls.clear()
        monkeypatch.setattr(inpainting, "random_holes", lambda *a: calls.append(a) or random_holes(*a))
        assert same(train(folder=tmp_path / "killed"), expected)
        assert len(calls) == (2 if at >= 2 else 4)  # from the last checkpoint on
        assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == LEFT
        histories = [read_json(tmp_path / name / "history.json") for name in ("whole", "killed")]
        assert histories[0] == histories[1]

    def test_another_run_in_the_folder_is_refused(self, tmp_path):
        train(folder=tmp_path)
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        for name in ("steps", "batch_size", "width", "seed"):
            with pytest.raises(ValueError, match="holds a finished inpainter of another run.*use another folder"):
                train(dataclasses.replace(FAST, **{name: 5}), folder=tmp_path)
        for source, mean in ((Squares(seed=1), MEAN), (Squares(23), MEAN), (Squares(), MEAN + 0.1)):
            with pytest.raises(ValueError, match="holds a finished inpainter of another run"):
                train_inpainter(source, mean, FAST, folder=tmp_path, progress=False)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    def test_a_checkpoint_of_another_run_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.setattr(run, "save_finished", lambda *arguments, **more: None)
        train(folder=tmp_path)  # leaves the last checkpoint and no result, as a kill would
        assert (tmp_path / "checkpoint.pt").exists() and not (tmp_path / "inpainter.pt").exists()
        with pytest.raises(ValueError, match=r"checkpoint\.pt belongs to a run with another configuration"):
            train(dataclasses.replace(FAST, seed=1), folder=tmp_path)

    def test_other_files_are_named(self, tmp_path):
        save_checkpoint(tmp_path / "inpainter.pt", {"weights": {}})
        with pytest.raises(ValueError, match="holds a finished inpainter of another run"):
            train(folder=tmp_path)
        (tmp_path / "inpainter.pt").write_bytes(b"no checkpoint")
        with pytest.raises(ValueError, match=r"inpainter\.pt is not a readable checkpoint"):
            train(folder=tmp_path)

    def test_the_file_holds_the_weights(self, tmp_path):
        trained = train(folder=tmp_path)
        fresh = Inpainter(width=2, seed=9)
        fresh.load_state_dict(load_checkpoint(tmp_path / "inpainter.pt")["weights"])
        assert fresh.fingerprint() == trained.fingerprint()


@pytest.mark.parametrize(
    "values, message",
    [
        ({"steps": 0}, "steps=0 must be a whole number of 1 or more"),
        ({"batch_size": 0}, "batch_size=0 must be"),
        ({"width": -2}, "width=-2 must be"),
        ({"checkpoint_every": 0}, "checkpoint_every=0 must be"),
        ({"lr": 0.0}, "lr=0.0 must be a finite number above 0"),
        ({"lr": float("nan")}, "lr=nan must be"),
        ({"lr": float("inf")}, "lr=inf must be"),
    ],
)
def test_bad_values_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        InpainterConfig(**values)


class TestAsAnInfill:
    CONFIG = MaskerConfig(steps=2, batch_size=6, width=4, infill="given", precision="fp32")

    def masker(self, config: MaskerConfig = CONFIG, **options):
        return train_masker(tiny_classifier(), Squares(), config, progress=False, **options)

    def test_a_masker_trains_with_it(self, tmp_path):
        inpainter = Inpainter(width=2).eval().requires_grad_(False)
        trained = self.masker(infill=inpainter, folder=tmp_path)
        plain = self.masker(dataclasses.replace(self.CONFIG, infill="mean"))
        assert trained.history["objective"] != plain.history["objective"]
        images = torch.rand(2, 3, SIZE, SIZE)
        assert torch.equal(load_trained(tmp_path, tiny_classifier())(images), trained(images))
        assert torch.equal(self.masker(infill=inpainter, folder=tmp_path)(images), trained(images))

    def test_the_folder_knows_which_inpainter_its_run_belongs_to(self, tmp_path):
        inpainters = [Inpainter(width=2, seed=seed).eval().requires_grad_(False) for seed in (0, 1)]
        self.masker(infill=inpainters[0], folder=tmp_path)
        with pytest.raises(ValueError, match="holds a finished masker of another run"):
            self.masker(infill=inpainters[1], folder=tmp_path)

    def test_the_inpainter_does_not_learn_from_the_masker(self):
        inpainter = Inpainter(width=2).eval()  # its weights would take a gradient
        before = inpainter.fingerprint()
        self.masker(infill=inpainter)
        assert inpainter.fingerprint() == before and all(weight.grad is None for weight in inpainter.parameters())

    def test_configuration_and_argument_must_agree(self):
        with pytest.raises(ValueError, match="infill='given', and no function was given; give infill=.* exactly when"):
            self.masker()
        for name in ("mean", "blur"):
            with pytest.raises(ValueError, match=f"infill='{name}', and a function was given as well"):
                self.masker(dataclasses.replace(self.CONFIG, infill=name), infill=Inpainter(width=2).eval())

    def test_one_mask_per_image_with_it(self):
        images = Squares().batch(range(2)).images
        quick = {"steps": 3, "grid": 4, "precision": "fp32"}
        inpainter = Inpainter(width=2).eval()
        found = optimise_mask(tiny_classifier(), images, infill=inpainter, **quick)
        assert not torch.equal(found.masks, optimise_mask(tiny_classifier(), images, **quick).masks)
        assert all(weight.grad is None for weight in inpainter.parameters())
