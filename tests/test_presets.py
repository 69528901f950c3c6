"""CASM's thinning strategies by who judges, step for step, and adversarial superpixels by their masks."""

import dataclasses

import pytest
import torch
from tiny import Squares, tiny_classifier

from maskerlib.masker.config import THINNING, MaskerConfig
from maskerlib.masker.pool import ClassifierPool
from maskerlib.masker.trained import load_trained
from maskerlib.masker.training import train_masker
from maskerlib.masking.masks import total_variation
from maskerlib.masking.objectives import Objective, evaluate_objective
from maskerlib.masking.segments import segments

LAYERS = ("stem", "stage")
QUICK = {"steps": 12, "batch_size": 6, "width": 4, "precision": "fp32", "crop_scale": (1.0, 1.0)}


def train(config: MaskerConfig, **options):
    return train_masker(tiny_classifier(), Squares(), config, progress=False, **options)


@pytest.fixture
def judges(monkeypatch) -> list[int | None]:
    """For each step the step at which its judge was kept, or None for the classifier as it is."""
    found: list[int | None] = []
    plain = ClassifierPool.draw

    def draw(pool: ClassifierPool, step: int):
        judge = plain(pool, step)
        found.append(None if judge is None else pool._loaded)
        return judge

    monkeypatch.setattr(ClassifierPool, "draw", draw)
    return found


class TestThinning:
    def test_f_has_no_pool_and_a_classifier_that_stays(self, judges):
        trained = train(MaskerConfig.casm("F", LAYERS, **QUICK))
        assert not judges and trained.config.mode == "FIX"
        for before, after in zip(tiny_classifier().parameters(), trained.classifier.parameters(), strict=True):
            assert torch.equal(before, after)

    def test_l_is_judged_by_the_last_alone(self, judges):
        train(MaskerConfig.casm("L", LAYERS, **QUICK))
        assert judges == [None] * 12

    def test_fl_by_the_first_or_the_last(self, judges):
        train(MaskerConfig.casm("FL", LAYERS, **{**QUICK, "steps": 60}))
        assert set(judges) == {0, None} and 15 < judges.count(0) < 45

    def test_l100_by_the_last_or_one_of_every_hundredth_and_never_by_a_later_one(self):
        config = MaskerConfig.casm("L100", LAYERS)
        options = dict(every=config.pool_every, size=config.pool_size, historic=config.prob_historic)
        pool, classifier = ClassifierPool(tiny_classifier(), first=config.first_snapshot, **options), tiny_classifier()
        drawn = []
        for step in range(1000):
            pool.remember(step, classifier)
            judge = pool.draw(step)
            drawn.append(None if judge is None else pool._loaded)
            assert drawn[-1] is None or drawn[-1] <= step
        assert set(drawn) == {None, *range(0, 1000, 100)} and 400 < drawn.count(None) < 600

    def test_l1000_keeps_a_tenth_of_them(self):
        (few, many) = (MaskerConfig.casm(name, LAYERS) for name in ("L1000", "L100"))
        assert few == dataclasses.replace(many, pool_every=1000)

    def test_a_pool_may_be_scaled_to_a_short_run(self, judges):
        train(MaskerConfig.casm("L100", LAYERS, **QUICK, pool_every=4, prob_historic=1.0))
        assert {*judges} <= {0, 4, 8} and len({*judges}) > 1

    def test_the_weights_of_the_reward_are_those_of_the_release(self):
        rewards = {
            name: tuple(MaskerConfig.casm(name, LAYERS, adversarial=hard).objective.size_out for hard in (False, True))
            for name in THINNING
        }
        assert rewards == {"F": (2.5, 9), "L": (14, 18), "FL": (7.5, 11), "L100": (10, 17), "L1000": (10, 17)}

    def test_an_unknown_strategy_is_named(self):
        with pytest.raises(ValueError, match="thinning='L10' is unknown; choose one of F, L, FL, L100, L1000"):
            MaskerConfig.casm("L10", LAYERS)

    def test_the_objective_by_hand(self):
        """One image that is right when clean and confused when masked: -Ent - 10 (1 - a); of another, wrong when clean: 0."""
        objective = MaskerConfig.casm("L100", LAYERS).objective
        images, mask = torch.ones(2, 3, 4, 4), torch.full((2, 1, 4, 4), 0.25)
        logits = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
        given = (images, mask, torch.tensor([0, 0]), torch.tensor([1.0, 0.0]), torch.zeros(1, 3, 1, 1))
        terms = evaluate_objective(objective, lambda views: logits, *given)
        p = logits[0].softmax(dim=0)
        assert terms["out"].tolist() == pytest.approx([float((p * p.log()).sum()), 0.0], abs=1e-6)
        assert terms["size_out"].tolist() == pytest.approx([-10 * 0.75, 0.0])
        assert set(terms) == {"out", "size_out", "tv"} and terms["tv"].tolist() == [0, 0]


class TestSuperpixels:
    CONFIG = MaskerConfig.superpixels(9, **QUICK)

    def test_it_is_ca_with_one_game_and_no_pool(self, judges):
        trained = train(self.CONFIG)
        assert judges == [None] * 12 and trained.config.mode == "CA"
        assert self.CONFIG.objective == Objective(masked_in=None, masked_out="min_class", size_out=15.0, tv=0.0)
        moved = [
            not torch.equal(before, after)
            for before, after in zip(tiny_classifier().parameters(), trained.classifier.parameters(), strict=True)
        ]
        assert all(moved)

    @pytest.mark.parametrize("mode", ["FIX", "CA"])
    def test_masks_are_constant_on_regions_and_a_region_has_one_number(self, mode, tmp_path):
        config = dataclasses.replace(self.CONFIG, mode=mode, compactness=50.0, masker_lr=0.05)
        trained = train(config, folder=tmp_path)
        images = Squares(6, seed=1).images
        masks, regions = trained(images), segments(images, count=9, compactness=50.0)
        for mask, region in zip(masks[:, 0], regions, strict=True):
            values = [mask[region == number] for number in range(int(region.max()) + 1)]
            assert len(values) > 3 and all((value == value[0]).all() for value in values)
            assert len({float(value[0]) for value in values}) > len(values) // 2
        again = load_trained(tmp_path, tiny_classifier())
        assert again.config == config and torch.equal(again(images), masks)
        torch.testing.assert_close(torch.cat([trained(image[None]) for image in images]), masks)

    def test_without_regions_the_same_masker_has_the_cells_of_its_grid(self):
        trained = train(dataclasses.replace(self.CONFIG, regions=None))
        masks = trained(Squares(2, seed=1).images)
        assert torch.equal(masks[:, :, ::2, ::2], masks[:, :, 1::2, 1::2]) and (total_variation(masks) > 0).all()

    @pytest.mark.parametrize("values", [{"regions": 0}, {"regions": 2.5}, {"compactness": 0.0}])
    def test_impossible_options_are_named(self, values):
        ((name, value),) = values.items()
        with pytest.raises(ValueError, match=f"^{name}={value} must be"):
            MaskerConfig(**values)
