"""From logits to masks: the plain sigmoid, soft samples, hard samples, and the decision at evaluation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from maskerlib.masking.distributions import MASKS, decided_mask, sampled_mask
from maskerlib.masking.masks import mask_from_logits

SAMPLED = [kind for kind in MASKS if kind != "sigmoid"]
seeds = st.integers(0, 10_000)


def logits_of(seed: int, *shape: int) -> Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_kinds():
    assert MASKS == ("sigmoid", "gumbel", "gumbel_hard")


class TestSampled:
    @settings(max_examples=20)
    @given(seeds, st.floats(0.01, 10))
    def test_sigmoid_is_the_plain_mask_and_draws_nothing(self, seed, temperature):
        logits = logits_of(seed, 2, 1, 3, 4)
        before = torch.random.get_rng_state()
        mask = sampled_mask(logits, (7, 9), temperature=temperature)
        assert torch.equal(mask, mask_from_logits(logits, (7, 9)))
        assert torch.equal(torch.random.get_rng_state(), before)

    @pytest.mark.parametrize("kind", SAMPLED)
    @pytest.mark.parametrize("temperature", [0.01, 0.1, 2.0])
    def test_a_cell_is_above_one_half_as_often_as_its_logit_says(self, kind, temperature, device):
        """The share of 20,000 coins has a standard deviation of at most 0.0036, at every temperature."""
        for logit in (-3.0, -0.5, 0.0, 1.0, 2.5):
            torch.manual_seed(1)
            mask = sampled_mask(torch.full((2, 1, 100, 100), logit, device=device), (100, 100), kind, temperature=temperature)
            share = (mask > 0.5).float().mean().item()
            assert share == pytest.approx(torch.tensor(logit).sigmoid().item(), abs=0.018), logit

    def test_soft_samples_follow_the_binary_concrete_distribution(self):
        """Its distribution function is P(m < x) = sigmoid(t logit(x) - l) (Maddison et al., 2017, appendix B)."""
        logit, temperature = 0.7, 0.5
        torch.manual_seed(0)
        mask = sampled_mask(torch.full((1, 1, 200, 200), logit), (200, 200), "gumbel", temperature=temperature)
        for level in (0.05, 0.3, 0.5, 0.8, 0.99):
            at = torch.tensor(level)
            expected = (temperature * at.logit() - logit).sigmoid().item()
            assert (mask < at).float().mean().item() == pytest.approx(expected, abs=0.012), level

    def test_the_lower_the_temperature_the_nearer_to_0_and_1(self):
        logits = logits_of(0, 4, 1, 20, 20)
        grey = []
        for temperature in (0.001, 0.1, 1.0, 10.0):
            torch.manual_seed(0)
            mask = sampled_mask(logits, (20, 20), "gumbel", temperature=temperature)
            grey.append(((mask > 0.01) & (mask < 0.99)).float().mean().item())
        assert grey == sorted(grey) and grey[0] < 0.01 and 0.02 < grey[1] < 0.3 and grey[3] > 0.99

    @settings(max_examples=20)
    @given(seeds, st.sampled_from([0.05, 0.5, 5.0]))
    def test_hard_is_0_and_1_forward_and_soft_backward(self, seed, temperature):
        gradients, masks = [], []
        weights = torch.rand(2, 1, 6, 8, generator=torch.Generator().manual_seed(seed + 1))
        for kind in SAMPLED:
            logits = logits_of(seed, 2, 1, 3, 4).requires_grad_()
            torch.manual_seed(seed)
            mask = sampled_mask(logits, (6, 8), kind, temperature=temperature)
            gradients.append(torch.autograd.grad((weights * mask).sum(), logits)[0])
            masks.append(mask.detach())
        soft, hard = masks
        assert torch.equal(hard, (soft > 0.5).float())  # 0 and 1 and nothing between
        assert torch.equal(*gradients)
        cells = weights.view(2, 1, 3, 2, 4, 2).sum(dim=(3, 5))  # each cell covers two by two pixels
        slope = (soft * (1 - soft))[:, :, ::2, ::2] / temperature
        torch.testing.assert_close(gradients[0], cells * slope)

    def test_gradients_are_not_all_zero(self):
        logits = logits_of(0, 1, 1, 10, 10).requires_grad_()
        sampled_mask(logits, (10, 10), "gumbel_hard", temperature=1.0).sum().backward()
        assert (logits.grad > 0).all()

    @pytest.mark.parametrize("kind", SAMPLED)
    def test_the_noise_belongs_to_cells_and_to_the_global_seed(self, kind):
        logits = torch.zeros(3, 1, 5, 4)
        torch.manual_seed(7)
        first, second = (sampled_mask(logits, (15, 8), kind) for _ in range(2))
        torch.manual_seed(7)
        assert torch.equal(sampled_mask(logits, (15, 8), kind), first) and not torch.equal(first, second)
        cells = first[:, :, ::3, ::2]
        assert torch.equal(cells.repeat_interleave(3, dim=2).repeat_interleave(2, dim=3), first)
        assert not torch.equal(first[0], first[1])  # each image has draws of its own

    @pytest.mark.parametrize("kind", ["sigmoid", "gumbel"])
    def test_its_gradient_holds_in_double_precision(self, kind):
        logits = logits_of(0, 2, 1, 3, 4).double().requires_grad_()

        def mask(logits: Tensor) -> Tensor:
            torch.manual_seed(0)
            return sampled_mask(logits, (6, 8), kind, temperature=0.5)

        assert mask(logits).dtype == decided_mask(logits, (6, 8), kind).dtype == torch.float64
        assert torch.autograd.gradcheck(mask, logits)

    @pytest.mark.parametrize("kind", MASKS)
    def test_extreme_logits_stay_finite(self, kind):
        logits = torch.tensor([-1e4, -50.0, 50.0, 1e4]).view(1, 1, 1, 4).requires_grad_()
        mask = sampled_mask(logits, (1, 4), kind, temperature=0.01)
        mask.sum().backward()
        assert mask.flatten().tolist() == [0, pytest.approx(0, abs=1e-6), 1, 1] and logits.grad.isfinite().all()


class TestDecided:
    @settings(max_examples=20)
    @given(seeds)
    def test_sigmoid_is_the_plain_mask(self, seed):
        logits = logits_of(seed, 2, 1, 3, 4)
        assert torch.equal(decided_mask(logits, (7, 9)), mask_from_logits(logits, (7, 9)))

    @pytest.mark.parametrize("kind", SAMPLED)
    def test_the_sampled_kinds_decide_at_a_logit_of_0(self, kind):
        logits = torch.tensor([-40.0, -0.01, 0.0, 0.01, 40.0]).view(1, 1, 1, 5)
        before = torch.random.get_rng_state()
        mask = decided_mask(logits, (2, 10), kind)
        assert mask.dtype == torch.float32 and mask.shape == (1, 1, 2, 10)
        assert mask[0, 0].tolist() == [[0, 0, 0, 0, 0, 0, 1, 1, 1, 1]] * 2
        assert torch.equal(torch.random.get_rng_state(), before)

    @pytest.mark.parametrize("kind", SAMPLED)
    def test_the_decision_is_the_likelier_sample(self, kind):
        logits = torch.tensor([-1.5, 1.5]).view(1, 1, 1, 2)
        draws = torch.stack([sampled_mask(logits, (1, 2), "gumbel_hard") for _ in range(200)]).mean(dim=0)
        assert torch.equal(draws.round(), decided_mask(logits, (1, 2), kind)) and 0.05 < draws[..., 0].item() < 0.35


@pytest.mark.parametrize("function", [sampled_mask, decided_mask])
def test_another_kind_is_named(function):
    with pytest.raises(ValueError, match="mask='gumble' is unknown; choose one of sigmoid, gumbel, gumbel_hard"):
        function(torch.zeros(1, 1, 2, 2), (4, 4), "gumble")


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_another_temperature_is_named(kind, temperature):
    with pytest.raises(ValueError, match=f"temperature={temperature} must be a finite number above 0"):
        sampled_mask(torch.zeros(1, 1, 2, 2), (4, 4), kind, temperature=temperature)


@pytest.mark.parametrize("kind", MASKS)
def test_another_shape_is_named(kind):
    for function in (sampled_mask, decided_mask):
        with pytest.raises(ValueError, match=r"mask logits have shape \(1, 2, 2\), expected \(B, 1, h, w\)"):
            function(torch.zeros(1, 2, 2), (4, 4), kind)
