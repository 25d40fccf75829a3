import math

import numpy as np
import pyro
import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from pyro_gan.losses import Loss, Minimax, NonSaturating

LOSSES = [Minimax(), NonSaturating()]
STEP = 0.005
GRID = np.arange(-30.0, 30.0, STEP)


def log_gaussian(mean: float, std: float) -> np.ndarray:
    return -0.5 * ((GRID - mean) / std) ** 2 - math.log(std * math.sqrt(2 * math.pi))


def kullback_leibler(log_p: np.ndarray, log_q: np.ndarray) -> float:
    return float(np.sum(np.exp(log_p) * (log_p - log_q)) * STEP)


def value(loss: Loss, logits: Tensor, log_p: np.ndarray, log_q: np.ndarray) -> Tensor:
    """The value function V(D, G), integrated over the grid."""
    real, fake = loss.discriminator(logits, logits)
    return -(real * torch.from_numpy(np.exp(log_p)) + fake * torch.from_numpy(np.exp(log_q))).sum() * STEP


@pytest.mark.parametrize("loss", LOSSES)
def test_undecided_discriminator_has_the_value_minus_log_4(loss):
    real, fake = loss.discriminator(torch.zeros(5), torch.zeros(3))
    assert -(real.mean() + fake.mean()).item() == pytest.approx(-math.log(4), abs=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_discriminator_losses_are_the_negative_log_probabilities_worked_by_hand(loss):
    # The logits log 3, 0 and -log 3 are the probabilities 3/4, 1/2 and 1/4.
    logits = torch.tensor([math.log(3), 0.0, -math.log(3)], dtype=torch.float64)
    real, fake = loss.discriminator(logits, logits)
    assert real.tolist() == pytest.approx([math.log(4 / 3), math.log(2), math.log(4)])
    assert fake.tolist() == pytest.approx([math.log(4), math.log(2), math.log(4 / 3)])


def test_minimax_generator_minimizes_log_of_1_minus_d():
    (rows,) = Minimax().generator(None, torch.tensor([math.log(3), 0.0, -math.log(3)], dtype=torch.float64))
    assert rows.tolist() == pytest.approx([-math.log(4), -math.log(2), -math.log(4 / 3)])


def test_non_saturating_generator_minimizes_minus_log_d():
    (rows,) = NonSaturating().generator(None, torch.tensor([math.log(3), 0.0, -math.log(3)], dtype=torch.float64))
    assert rows.tolist() == pytest.approx([math.log(4 / 3), math.log(2), math.log(4)])


@pytest.mark.parametrize("mean, std", [(0.0, 1.0), (1.0, 1.0), (0.5, 2.0), (-3.0, 0.75)])
@pytest.mark.parametrize("loss", LOSSES)
def test_optimal_discriminator_has_the_value_2_js_minus_log_4(loss, mean, std):
    log_p, log_q = log_gaussian(0.0, 1.0), log_gaussian(mean, std)
    log_mixture = np.logaddexp(log_p, log_q) - math.log(2)
    jensen_shannon = (kullback_leibler(log_p, log_mixture) + kullback_leibler(log_q, log_mixture)) / 2
    best = value(loss, torch.from_numpy(log_p - log_q), log_p, log_q)
    assert best.item() == pytest.approx(2 * jensen_shannon - math.log(4), abs=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
def test_gaussians_far_apart_have_the_value_0(loss):
    # There JS is log 2: no row is shared, and the best discriminator is never wrong.
    log_p, log_q = log_gaussian(-12.0, 0.5), log_gaussian(12.0, 0.5)
    assert value(loss, torch.from_numpy(log_p - log_q), log_p, log_q).item() == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
def test_value_is_stationary_and_largest_at_the_log_density_ratio(loss):
    log_p, log_q = log_gaussian(0.0, 1.0), log_gaussian(1.0, 1.0)
    logits = torch.from_numpy(0.5 - GRID).requires_grad_()  # worked by hand: log p - log q
    best = value(loss, logits, log_p, log_q)
    (gradient,) = torch.autograd.grad(best, logits)
    assert gradient.abs().max() < 1e-12
    for change in (0.1, -0.1, 0.1 * torch.from_numpy(GRID)):
        assert value(loss, logits.detach() + change, log_p, log_q) < best


@pytest.mark.parametrize("loss", LOSSES)
def test_mean_log_ratio_of_the_optimal_discriminator_is_the_kullback_leibler_divergence(loss):
    # KL(N(0, 1) || N(1, 2)) = log 2 + (1 + 1) / 8 - 1/2
    log_p, log_q = log_gaussian(0.0, 1.0), log_gaussian(1.0, 2.0)
    log_ratio = loss.log_ratio(torch.from_numpy(log_p - log_q))
    divergence = (log_ratio * torch.from_numpy(np.exp(log_p))).sum().item() * STEP
    assert divergence == pytest.approx(math.log(2) + 2 / 8 - 1 / 2, abs=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_are_torchs_binary_cross_entropy(loss):
    pyro.set_rng_seed(3)
    real_logits, fake_logits = 4 * torch.randn(7), 4 * torch.randn(4)
    real, fake = loss.discriminator(real_logits, fake_logits)
    expected_real = binary_cross_entropy_with_logits(real_logits, torch.ones(7), reduction="none")
    expected_fake = binary_cross_entropy_with_logits(fake_logits, torch.zeros(4), reduction="none")
    torch.testing.assert_close(real, expected_real)
    torch.testing.assert_close(fake, expected_fake)
    (taken_for_real,) = NonSaturating().generator(None, fake_logits)
    expected = binary_cross_entropy_with_logits(fake_logits, torch.ones(4), reduction="none")
    torch.testing.assert_close(taken_for_real, expected)
    (negated,) = Minimax().generator(None, fake_logits)
    torch.testing.assert_close(negated, -expected_fake)


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_have_the_gradients_that_finite_differences_give(loss):
    real_logits = torch.tensor([-2.0, 0.3, 5.0], dtype=torch.float64, requires_grad=True)
    fake_logits = torch.tensor([-1.0, 4.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss.discriminator, (real_logits, fake_logits))
    assert torch.autograd.gradcheck(lambda logits: loss.generator(None, logits), (fake_logits,))


def test_generator_gradients_are_the_closed_forms_of_the_paper():
    logits = torch.tensor([-3.0, 0.0, 2.0], dtype=torch.float64, requires_grad=True)
    (saturating,) = torch.autograd.grad(Minimax().generator(None, logits)[0].sum(), logits)
    (non_saturating,) = torch.autograd.grad(NonSaturating().generator(None, logits)[0].sum(), logits)
    torch.testing.assert_close(saturating, -logits.sigmoid())
    torch.testing.assert_close(non_saturating, logits.sigmoid() - 1)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("extreme", [-1e4, 1e4])
def test_extreme_logits_give_finite_losses_and_gradients(loss, extreme):
    logits = torch.full((2,), extreme, requires_grad=True)
    rows = torch.stack([*loss.discriminator(logits, logits), *loss.generator(None, logits)])
    (gradient,) = torch.autograd.grad(rows.sum(), logits)
    assert torch.isfinite(rows).all()
    assert torch.isfinite(gradient).all()
    assert rows[:2, 0].max() == 1e4  # -log(1 - D) = softplus(logit), which is the logit itself far out


def test_only_the_non_saturating_generator_learns_from_rows_that_are_surely_fake():
    logits = torch.tensor([-1e4], requires_grad=True)
    (saturating,) = torch.autograd.grad(Minimax().generator(None, logits)[0].sum(), logits)
    (non_saturating,) = torch.autograd.grad(NonSaturating().generator(None, logits)[0].sum(), logits)
    assert saturating.item() == 0.0
    assert non_saturating.item() == -1.0


@pytest.mark.parametrize("loss", LOSSES)
def test_real_and_fake_rows_may_differ_in_number(loss):
    real, fake = loss.discriminator(torch.zeros(5), torch.zeros(2))
    assert (real.shape, fake.shape) == ((5,), (2,))
    assert loss.generator(None, torch.zeros(2))[0].shape == (2,)
    assert not loss.generator_reads_real


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_keep_double_precision(loss):
    logits = torch.linspace(-40.0, 40.0, 9, dtype=torch.float64)
    real, _ = loss.discriminator(logits, logits)
    assert real.dtype == torch.float64
    # log(1 + exp(-40)) is 4.2e-18, far below what 1 + x resolves
    assert real[-1].item() == pytest.approx(math.log1p(math.exp(-40)), rel=1e-12)


def test_a_loss_with_a_missing_function_can_not_be_made():
    class Half(Loss):
        def generator(self, real_logits, fake_logits):
            return (fake_logits,)

    with pytest.raises(TypeError, match=r"discriminator.*log_ratio"):
        Half()
