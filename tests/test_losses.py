import math
import re

import numpy as np
import pyro
import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from pyro_gan import losses
from pyro_gan.losses import (
    KL,
    CallableLoss,
    FDivergence,
    Hinge,
    JensenShannon,
    LeastSquares,
    Loss,
    Minimax,
    NonSaturating,
    PearsonChiSquared,
    Relativistic,
    ReverseKL,
    SquaredHellinger,
    Wasserstein,
    as_loss,
)

GAMES_OF_2014 = [Minimax(), NonSaturating()]
DIVERGENCES = [
    divergence(saturating=saturating)
    for divergence in (KL, ReverseKL, PearsonChiSquared, SquaredHellinger, JensenShannon)
    for saturating in (False, True)
]
PAIR = CallableLoss(lambda real, fake: ((real - 2).square(), fake.exp()), lambda real, fake: (real.mean() - fake).exp())
WITH_LOG_RATIO = [*GAMES_OF_2014, LeastSquares(), Relativistic(), *DIVERGENCES]
LOSSES = [*WITH_LOG_RATIO, Hinge(), Wasserstein(), PAIR]
STEP = 0.005
GRID = np.arange(-30.0, 30.0, STEP)

BEST_LOGITS = {
    Minimax: lambda log_ratio: log_ratio,
    NonSaturating: lambda log_ratio: log_ratio,
    LeastSquares: torch.sigmoid,
    Hinge: torch.sign,
    KL: lambda log_ratio: 1 + log_ratio,
    ReverseKL: lambda log_ratio: log_ratio,
    PearsonChiSquared: lambda log_ratio: 2 * torch.expm1(log_ratio),
    SquaredHellinger: lambda log_ratio: log_ratio / 2,
    JensenShannon: lambda log_ratio: log_ratio,
}


def name(loss: Loss) -> str:
    """A loss in the tests' names."""
    return type(loss).__name__ + ("-saturating" if getattr(loss, "saturating", False) else "")


def each(losses):
    return pytest.mark.parametrize("loss", losses, ids=name)


def doubles(*numbers: float, requires_grad: bool = False) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64, requires_grad=requires_grad)


def log_gaussian(mean: float, std: float) -> np.ndarray:
    return -0.5 * ((GRID - mean) / std) ** 2 - math.log(std * math.sqrt(2 * math.pi))


def kullback_leibler(log_p: np.ndarray, log_q: np.ndarray) -> float:
    return float(np.sum(np.exp(log_p) * (log_p - log_q)) * STEP)


def value(loss: Loss, logits: Tensor, log_p: np.ndarray, log_q: np.ndarray) -> Tensor:
    """The value function V(D, G), integrated over the grid."""
    real, fake = loss.discriminator(logits, logits)
    return -(real * torch.from_numpy(np.exp(log_p)) + fake * torch.from_numpy(np.exp(log_q))).sum() * STEP


@each(GAMES_OF_2014)
def test_undecided_discriminator_has_the_value_minus_log_4(loss):
    real, fake = loss.discriminator(torch.zeros(5), torch.zeros(3))
    assert -(real.mean() + fake.mean()).item() == pytest.approx(-math.log(4), abs=1e-6)


@each(GAMES_OF_2014)
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
@each(GAMES_OF_2014)
def test_optimal_discriminator_has_the_value_2_js_minus_log_4(loss, mean, std):
    log_p, log_q = log_gaussian(0.0, 1.0), log_gaussian(mean, std)
    log_mixture = np.logaddexp(log_p, log_q) - math.log(2)
    jensen_shannon = (kullback_leibler(log_p, log_mixture) + kullback_leibler(log_q, log_mixture)) / 2
    best = value(loss, torch.from_numpy(log_p - log_q), log_p, log_q)
    assert best.item() == pytest.approx(2 * jensen_shannon - math.log(4), abs=1e-4)


@each(GAMES_OF_2014)
def test_gaussians_far_apart_have_the_value_0(loss):
    # There JS is log 2: no row is shared, and the best discriminator is never wrong.
    log_p, log_q = log_gaussian(-12.0, 0.5), log_gaussian(12.0, 0.5)
    assert value(loss, torch.from_numpy(log_p - log_q), log_p, log_q).item() == pytest.approx(0.0, abs=1e-4)


@each(GAMES_OF_2014)
def test_value_is_stationary_and_largest_at_the_log_density_ratio(loss):
    log_p, log_q = log_gaussian(0.0, 1.0), log_gaussian(1.0, 1.0)
    logits = torch.from_numpy(0.5 - GRID).requires_grad_()  # worked by hand: log p - log q
    best = value(loss, logits, log_p, log_q)
    (gradient,) = torch.autograd.grad(best, logits)
    assert gradient.abs().max() < 1e-12
    for change in (0.1, -0.1, 0.1 * torch.from_numpy(GRID)):
        assert value(loss, logits.detach() + change, log_p, log_q) < best


@each(GAMES_OF_2014)
def test_mean_log_ratio_of_the_optimal_discriminator_is_the_kullback_leibler_divergence(loss):
    # KL(N(0, 1) || N(1, 2)) = log 2 + (1 + 1) / 8 - 1/2
    log_p, log_q = log_gaussian(0.0, 1.0), log_gaussian(1.0, 2.0)
    log_ratio = loss.log_ratio(torch.from_numpy(log_p - log_q))
    divergence = (log_ratio * torch.from_numpy(np.exp(log_p))).sum().item() * STEP
    assert divergence == pytest.approx(math.log(2) + 2 / 8 - 1 / 2, abs=1e-6)


@each(GAMES_OF_2014)
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


def test_generator_gradients_are_the_closed_forms_of_the_paper():
    logits = torch.tensor([-3.0, 0.0, 2.0], dtype=torch.float64, requires_grad=True)
    (saturating,) = torch.autograd.grad(Minimax().generator(None, logits)[0].sum(), logits)
    (non_saturating,) = torch.autograd.grad(NonSaturating().generator(None, logits)[0].sum(), logits)
    torch.testing.assert_close(saturating, -logits.sigmoid())
    torch.testing.assert_close(non_saturating, logits.sigmoid() - 1)


@each(GAMES_OF_2014)
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


@each(GAMES_OF_2014)
def test_losses_keep_double_precision(loss):
    logits = torch.linspace(-40.0, 40.0, 9, dtype=torch.float64)
    real, _ = loss.discriminator(logits, logits)
    assert real.dtype == torch.float64
    # log(1 + exp(-40)) is 4.2e-18, far below what 1 + x resolves
    assert real[-1].item() == pytest.approx(math.log1p(math.exp(-40)), rel=1e-12)


# Values worked by hand. The logits of real rows are 0, 2 and -1/2, those of fake rows 1, -1 and 1/2.

REAL, FAKE = (0.0, 2.0, -0.5), (1.0, -1.0, 0.5)
E = math.e


@pytest.mark.parametrize(
    "loss, real, fake, generator, guide",
    [
        (Hinge(), (1, 0, 1.5), (2, 0, 1.5), (-1, 1, -0.5), REAL),
        (LeastSquares(), (0.5, 0.5, 1.125), (0.5, 0.5, 0.125), (0, 2, 0.125), (0, 2, 0.125)),
        (Wasserstein(), (0, -2, 0.5), FAKE, (-1, 1, -0.5), REAL),
        (KL(), (0, -2, 0.5), (1, E**-2, E**-0.5), (-1, 1, -0.5), REAL),
        (KL(saturating=True), (0, -2, 0.5), (1, E**-2, E**-0.5), (-1, -(E**-2), -(E**-0.5)), REAL),
        (ReverseKL(), (1, E**-2, E**0.5), (0, -2, -0.5), (0, 2, 0.5), (-1, -(E**-2), -(E**0.5))),
        (
            ReverseKL(saturating=False),
            (1, E**-2, E**0.5),
            (0, -2, -0.5),
            (1 / E, E, E**-0.5),
            (-1, -(E**-2), -(E**0.5)),
        ),
        (PearsonChiSquared(), (0, -2, 0.5), (1.25, -0.75, 0.5625), (-1, 1, -0.5), REAL),
        (PearsonChiSquared(saturating=True), (0, -2, 0.5), (1.25, -0.75, 0.5625), (-1.25, 0.75, -0.5625), REAL),
        (
            SquaredHellinger(),
            (0, E**-2 - 1, E**0.5 - 1),
            (E - 1, 1 / E - 1, E**0.5 - 1),
            (1 / E - 1, E - 1, E**-0.5 - 1),
            (0, 1 - E**-2, 1 - E**0.5),
        ),
        (
            SquaredHellinger(saturating=True),
            (0, E**-2 - 1, E**0.5 - 1),
            (E - 1, 1 / E - 1, E**0.5 - 1),
            (1 - E, 1 - 1 / E, 1 - E**0.5),
            (0, 1 - E**-2, 1 - E**0.5),
        ),
    ],
    ids=lambda value: name(value) if isinstance(value, Loss) else "",
)
def test_losses_are_those_worked_by_hand(loss, real, fake, generator, guide):
    real_rows, fake_rows = loss.discriminator(doubles(*REAL), doubles(*FAKE))
    (generator_rows,) = loss.generator(None, doubles(*FAKE))
    (guide_rows,) = loss.guide(doubles(*REAL))
    for rows, expected in [(real_rows, real), (fake_rows, fake), (generator_rows, generator), (guide_rows, guide)]:
        assert rows.tolist() == pytest.approx(expected)


def test_minimax_and_non_saturating_guides_are_the_negative_and_the_positive_log_probabilities_worked_by_hand():
    # D is 3/4, 1/2 and 1/4 there; the guide minimizes log D, and -log(1 - D) in the non-saturating game.
    logits = doubles(math.log(3), 0.0, -math.log(3))
    assert Minimax().guide(logits)[0].tolist() == pytest.approx([math.log(3 / 4), math.log(1 / 2), math.log(1 / 4)])
    assert NonSaturating().guide(logits)[0].tolist() == pytest.approx([math.log(4), math.log(2), math.log(4 / 3)])


def test_relativistic_losses_are_those_worked_by_hand():
    # The pairs' differences are log 3, 0 and -log 3: the real row is taken for the real one with 3/4, 1/2 and 1/4.
    real, fake = doubles(math.log(6), 1.0, 0.0), doubles(math.log(2), 1.0, math.log(3))
    (discriminator,) = Relativistic().discriminator(real, fake)
    (generator,) = Relativistic().generator(real, fake)
    assert discriminator.tolist() == pytest.approx([math.log(4 / 3), math.log(2), math.log(4)])
    assert generator.tolist() == pytest.approx([math.log(4), math.log(2), math.log(4 / 3)])
    assert Relativistic().guide(real) == ()


@pytest.mark.parametrize("saturating, game", [(True, Minimax()), (False, NonSaturating())])
def test_jensen_shannon_is_the_2014_game_moved_by_log_2(saturating, game):
    loss, real, fake = JensenShannon(saturating=saturating), doubles(-3.0, 0.1, 20.0), doubles(4.0, -0.7, -20.0)
    for rows, expected in zip(loss.discriminator(real, fake), game.discriminator(real, fake), strict=True):
        torch.testing.assert_close(rows, expected - math.log(2))
    moved = math.log(2) if saturating else -math.log(2)
    torch.testing.assert_close(loss.generator(None, fake)[0], game.generator(None, fake)[0] + moved)
    torch.testing.assert_close(loss.guide(real)[0], Minimax().guide(real)[0] + math.log(2))


# The best discriminator of two Gaussians, on a grid: p = N(0, 1), q = N(1, 2^2).

LOG_P, LOG_Q = log_gaussian(0.0, 1.0), log_gaussian(1.0, 2.0)
P, Q = np.exp(LOG_P), np.exp(LOG_Q)
LOG_RATIO = torch.from_numpy(LOG_P - LOG_Q)
JENSEN_SHANNON = (
    kullback_leibler(LOG_P, np.log((P + Q) / 2)) + kullback_leibler(LOG_Q, np.log((P + Q) / 2))
) / 2  # no closed form
DIVERGENCE = {
    KL: math.log(2) + 2 / 8 - 1 / 2,
    ReverseKL: -math.log(2) + 5 / 2 - 1 / 2,
    PearsonChiSquared: 4 / math.sqrt(7) * math.exp(1 / 7) - 1,
    SquaredHellinger: 2 - 2 * math.sqrt(4 / 5) * math.exp(-1 / 20),
    JensenShannon: 2 * JENSEN_SHANNON,
}


@each([loss for loss in WITH_LOG_RATIO if not isinstance(loss, Relativistic)])
def test_log_ratio_of_the_best_logits_is_exact(loss):
    # Beyond 15 nats an output such as p/(p + q) is too close to its end to tell more.
    log_ratio = LOG_RATIO[LOG_RATIO.abs() < 15]
    torch.testing.assert_close(loss.log_ratio(BEST_LOGITS[type(loss)](log_ratio)), log_ratio, rtol=0, atol=1e-8)


@each(DIVERGENCES)
def test_best_discriminator_has_the_divergence_in_closed_form_as_its_value(loss):
    best = value(loss, BEST_LOGITS[type(loss)](LOG_RATIO), LOG_P, LOG_Q)
    assert best.item() == pytest.approx(DIVERGENCE[type(loss)], abs=1e-6)


def test_best_least_squares_discriminator_has_the_triangular_discrimination_as_its_value():
    triangular = float(np.sum((P - Q) ** 2 / (P + Q)) * STEP)
    best = value(LeastSquares(), LOG_RATIO.sigmoid(), LOG_P, LOG_Q)
    assert -best.item() == pytest.approx((2 - triangular) / 8, abs=1e-6)


def test_best_hinge_discriminator_has_the_total_variation_as_its_value():
    # Moved by 2, two unit Gaussians have TV = P(|Z| < 1).
    log_p, log_q = log_gaussian(-1.0, 1.0), log_gaussian(1.0, 1.0)
    best = value(Hinge(), torch.from_numpy(np.sign(log_p - log_q)), log_p, log_q)
    assert -best.item() == pytest.approx(2 * (1 - math.erf(1 / math.sqrt(2))), abs=1e-3)


@pytest.mark.parametrize("shift", [4.0, -0.5])
def test_best_critic_of_slope_1_has_the_shift_as_its_value(shift):
    log_p, log_q = log_gaussian(shift, 1.5), log_gaussian(0.0, 1.5)
    critic = torch.from_numpy(GRID)
    distance = max(value(Wasserstein(), slope * critic, log_p, log_q).item() for slope in np.linspace(-1, 1, 9))
    assert distance == pytest.approx(abs(shift), abs=1e-6)
    assert distance == value(Wasserstein(), math.copysign(1, shift) * critic, log_p, log_q).item()


@each([LeastSquares(), *DIVERGENCES])
def test_value_is_stationary_and_largest_at_the_best_logits(loss):
    logits = BEST_LOGITS[type(loss)](LOG_RATIO).requires_grad_()
    best = value(loss, logits, LOG_P, LOG_Q)
    (gradient,) = torch.autograd.grad(best, logits)
    assert gradient.abs().max() < 1e-12
    for change in (0.1, -0.1, 0.1 * torch.from_numpy(GRID).sin()):
        assert value(loss, logits.detach() + change, LOG_P, LOG_Q) < best


def test_hinge_value_is_largest_at_the_sign_of_the_log_ratio():
    logits = LOG_RATIO.sign()
    best = value(Hinge(), logits, LOG_P, LOG_Q)
    for change in (0.1, -0.1, 0.1 * torch.from_numpy(GRID).sin(), 0.1 * logits):
        assert value(Hinge(), logits + change, LOG_P, LOG_Q) < best


COARSE = slice(None, None, 20)  # a grid of pairs of rows, 0.1 apart
PAIR_AREA = (20 * STEP) ** 2


def relativistic_value(logits: Tensor) -> Tensor:
    """The pairing game's value, integrated over a grid of pairs (x, y) with weights p(x) q(y)."""
    real, fake = (grid.flatten() for grid in torch.meshgrid(logits, logits, indexing="ij"))
    (rows,) = Relativistic().discriminator(real, fake)
    return -(rows * torch.from_numpy(np.outer(P[COARSE], Q[COARSE])).flatten()).sum() * PAIR_AREA


def test_best_relativistic_discriminator_has_the_jensen_shannon_divergence_of_pairs_as_its_value():
    pairs, swapped = np.outer(P[COARSE], Q[COARSE]), np.outer(Q[COARSE], P[COARSE])
    mixture = (pairs + swapped) / 2
    divergence = np.sum(pairs * np.log(pairs / mixture) + swapped * np.log(swapped / mixture)) / 2 * PAIR_AREA
    best = relativistic_value(LOG_RATIO[COARSE] + 3)
    assert -best.item() == pytest.approx(math.log(2) - divergence, abs=1e-6)


def test_relativistic_value_is_stationary_and_largest_at_the_log_ratio_and_any_constant():
    logits = (LOG_RATIO[COARSE] - 2).requires_grad_()
    best = relativistic_value(logits)
    (gradient,) = torch.autograd.grad(best, logits)
    assert gradient.abs().max() < 1e-12
    x = torch.from_numpy(GRID[COARSE])
    for change in (0.1 * x.sin(), 0.05 * x, -0.05 * x):
        assert relativistic_value(logits.detach() + change) < best


@pytest.mark.parametrize("shift", [0.0, 7.0, -300.0])
def test_relativistic_log_ratio_is_exact_for_any_shift_once_the_constant_is_fixed(shift):
    # The constant is fixed by E_q exp(log ratio) = 1, integrated over the grid.
    ratio = Relativistic().log_ratio(LOG_RATIO + shift)
    constant = -torch.logsumexp(ratio + torch.from_numpy(LOG_Q) + math.log(STEP), 0)
    torch.testing.assert_close(ratio + constant, LOG_RATIO, rtol=0, atol=1e-6)


def test_only_the_relativistic_loss_leaves_the_constant_open():
    assert [type(loss) for loss in LOSSES if loss.leaves_constant_open] == [Relativistic]


def test_relativistic_losses_do_not_depend_on_a_shift_of_the_logits():
    real, fake = doubles(0.3, -2.0, 1.0), doubles(1.0, 0.2, -4.0)
    for function in (Relativistic().discriminator, Relativistic().generator):
        torch.testing.assert_close(function(real + 5, fake + 5), function(real, fake))


# Pairs of rows.


def test_samples_of_equal_size_are_paired_row_by_row():
    real, fake = doubles(0.3, -2.0, 1.0), doubles(1.0, 0.2, -4.0)
    (rows,) = Relativistic().discriminator(real, fake)
    assert rows.tolist() == pytest.approx(
        [math.log1p(math.exp(y - x)) for x, y in zip(real.tolist(), fake.tolist(), strict=True)]
    )


def test_samples_of_different_sizes_are_paired_all_with_all():
    real, fake = doubles(0.3, -2.0, 1.0), doubles(1.0, 0.2)
    (rows,) = Relativistic().discriminator(real, fake)
    (generator,) = Relativistic().generator(real, fake)
    assert rows.tolist() == pytest.approx([math.log1p(math.exp(y - x)) for x in real.tolist() for y in fake.tolist()])
    assert generator.tolist() == pytest.approx(
        [math.log1p(math.exp(x - y)) for x in real.tolist() for y in fake.tolist()]
    )


def test_all_pairs_have_the_mean_that_pairs_in_order_have_on_average():
    real, fake = doubles(0.3, -2.0, 1.0), doubles(1.0, 0.2, -4.0)
    in_order = [Relativistic().discriminator(real, fake.roll(turn))[0].mean() for turn in range(3)]
    # Each row twice: the same two samples, of different sizes.
    (all_pairs,) = Relativistic().discriminator(real, fake.repeat(2))
    torch.testing.assert_close(all_pairs.mean(), torch.stack(in_order).mean())


# The f-GAN family against its definitions.

CONVEX = {
    KL: lambda u: u * u.log(),
    ReverseKL: lambda u: -u.log(),
    PearsonChiSquared: lambda u: (u - 1).square(),
    SquaredHellinger: lambda u: (u.sqrt() - 1).square(),
    JensenShannon: lambda u: u * u.log() - (u + 1) * ((u + 1) / 2).log(),
}
INSIDE = torch.linspace(-1.5, 3.0, 10, dtype=torch.float64)
"""Logits at which every density ratio is positive."""


@each(DIVERGENCES)
def test_activation_is_the_derivative_of_the_convex_function_at_the_ratio(loss):
    ratio = loss.log_ratio(INSIDE).exp().requires_grad_()
    (derivative,) = torch.autograd.grad(CONVEX[type(loss)](ratio).sum(), ratio)
    torch.testing.assert_close(loss.activation(INSIDE), derivative)


@each(DIVERGENCES)
def test_conjugate_is_the_supremum_over_the_ratios(loss):
    ratios = torch.logspace(-6, 6, 200_001, dtype=torch.float64)
    t = loss.activation(INSIDE)
    supremum = torch.stack([(each_t * ratios - CONVEX[type(loss)](ratios)).max() for each_t in t])
    torch.testing.assert_close(loss.conjugate(t), supremum, rtol=1e-6, atol=1e-6)


@each(DIVERGENCES)
def test_closed_form_is_the_conjugate_of_the_activation(loss):
    logits = torch.linspace(-8.0, 8.0, 33, dtype=torch.float64)
    composed = loss.conjugate(loss.activation(logits))
    torch.testing.assert_close(loss.conjugate_of_activation(logits), composed, rtol=1e-9, atol=1e-9)


@each(DIVERGENCES)
def test_activation_rises_with_the_logit(loss):
    logits = torch.linspace(-30.0, 30.0, 61, dtype=torch.float64)
    assert (loss.activation(logits).diff() > 0).all()


@each(DIVERGENCES)
def test_activation_of_the_ratio_1_is_the_derivative_there_and_the_bound_then_0(loss):
    zero = BEST_LOGITS[type(loss)](doubles(0.0))
    real, fake = loss.discriminator(zero, zero)
    assert (real + fake).item() == pytest.approx(0.0, abs=1e-12)


@each([KL(), ReverseKL(), PearsonChiSquared(), SquaredHellinger(), JensenShannon()])
def test_default_generator_learns_from_rows_that_are_surely_fake(loss):
    logits = BEST_LOGITS[type(loss)](doubles(-20.0)).requires_grad_()
    (gradient,) = torch.autograd.grad(loss.generator(None, logits)[0].sum(), logits)
    assert gradient.item() <= -0.99


@each([KL(saturating=True), PearsonChiSquared(saturating=True), SquaredHellinger(saturating=True)])
def test_saturating_generator_does_not(loss):
    logits = BEST_LOGITS[type(loss)](doubles(-20.0)).requires_grad_()
    (gradient,) = torch.autograd.grad(loss.generator(None, logits)[0].sum(), logits)
    assert abs(gradient.item()) < 1e-4


def test_reverse_kl_saturates_neither_way_but_explodes_where_it_minimizes_minus_the_activation():
    logits = doubles(-20.0, requires_grad=True)
    (steady,) = torch.autograd.grad(ReverseKL().generator(None, logits)[0].sum(), logits)
    (exploding,) = torch.autograd.grad(ReverseKL(saturating=False).generator(None, logits)[0].sum(), logits)
    assert steady.item() == -1.0
    assert exploding.item() == pytest.approx(-math.exp(20))


def test_a_divergence_of_ones_own_takes_an_activation_and_a_conjugate():
    class TotalVariation(FDivergence):
        def activation(self, logits):
            return logits.tanh() / 2

        def conjugate(self, t):
            return t

    best = value(TotalVariation(), 100 * LOG_RATIO.sign(), LOG_P, LOG_Q)
    assert best.item() == pytest.approx(np.abs(P - Q).sum() * STEP / 2, abs=1e-6)
    with pytest.raises(ValueError, match="TotalVariation implies no log density ratio"):
        TotalVariation().log_ratio(LOG_RATIO)


# Precision, gradients and shapes, for all.


@each(LOSSES)
def test_losses_have_the_gradients_that_finite_differences_give(loss):
    real_logits = doubles(-2.0, 0.3, 5.0, requires_grad=True)
    for fake_logits in (doubles(-1.5, 4.0, requires_grad=True), doubles(-1.5, 0.2, 4.0, requires_grad=True)):
        assert torch.autograd.gradcheck(loss.discriminator, (real_logits, fake_logits))
        if loss.generator_reads_real:
            assert torch.autograd.gradcheck(loss.generator, (real_logits, fake_logits))
        else:
            assert torch.autograd.gradcheck(lambda logits: loss.generator(None, logits), (fake_logits,))
    if loss.guide(real_logits):
        assert torch.autograd.gradcheck(loss.guide, (real_logits,))


@each([loss for loss in LOSSES if loss is not PAIR])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_logits_give_finite_losses_and_gradients_in_their_own_precision(loss, dtype):
    real = torch.tensor([-50.0, 50.0, 0.0, 50.0], dtype=dtype, requires_grad=True)
    fake = torch.tensor([50.0, -50.0, 0.0, 50.0], dtype=dtype, requires_grad=True)
    rows = torch.stack([*loss.discriminator(real, fake), *loss.generator(real, fake), *loss.guide(real)])
    assert rows.dtype == dtype
    for values in (rows, *torch.autograd.grad(rows.sum(), (real, fake))):
        assert torch.isfinite(values).all()


@each(WITH_LOG_RATIO)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_ratios_of_large_logits_are_finite_and_keep_their_precision_and_order(loss, dtype):
    logits = torch.linspace(-50.0, 50.0, 21, dtype=dtype)
    log_ratio = loss.log_ratio(logits)
    assert log_ratio.dtype == dtype
    assert torch.isfinite(log_ratio).all()
    assert (log_ratio.diff() >= 0).all()


@pytest.mark.parametrize("dtype, bound", [(torch.float32, 15.95), (torch.float64, 36.05)])
def test_clamped_log_ratios_end_at_the_precision(dtype, bound):
    far = torch.tensor([-1e3, 1e3], dtype=dtype)
    assert LeastSquares().log_ratio(far).tolist() == pytest.approx([-bound, bound], abs=0.01)
    assert PearsonChiSquared().log_ratio(far)[0].item() == pytest.approx(-bound, abs=0.01)


@each(LOSSES)
def test_real_and_fake_rows_may_differ_in_number(loss):
    real, fake = torch.zeros(5), torch.zeros(2)
    shapes = [rows.shape for rows in loss.discriminator(real, fake)]
    assert shapes == ([(10,)] if isinstance(loss, Relativistic) else [(5,), (2,)])
    assert loss.generator(real, fake)[0].shape == shapes[-1]


@each(LOSSES)
def test_generators_that_do_not_read_real_rows_take_none(loss):
    if loss.generator_reads_real:
        assert type(loss) in (Relativistic, CallableLoss)
    else:
        real, fake = torch.ones(3), torch.tensor([0.5, -1.0])
        assert torch.equal(loss.generator(None, fake)[0], loss.generator(real, fake)[0])


# What a loss must define, and what it may leave out.


class Half(Loss):
    """A user's loss with nothing but what is required."""

    def discriminator(self, real_logits, fake_logits):
        return -real_logits, fake_logits

    def generator(self, real_logits, fake_logits):
        return (-fake_logits,)


def test_a_loss_with_a_missing_function_can_not_be_made():
    class Quarter(Loss):
        def generator(self, real_logits, fake_logits):
            return (fake_logits,)

    with pytest.raises(TypeError, match=r"Quarter.*discriminator"):
        Quarter()


def test_a_loss_without_a_guide_says_how_to_define_one():
    with pytest.raises(
        ValueError,
        match=r"Half does not say what a guide minimizes, .*Define guide\(real_logits\) in Half: a tuple of per-row "
        r"losses, or \(\) where generator\(\) moves the guide as well",
    ):
        Half().guide(torch.zeros(2))


@each(LOSSES)
def test_a_loss_says_whether_it_implies_a_log_ratio(loss):
    assert loss.implies_log_ratio == (loss in WITH_LOG_RATIO)


@each([Hinge(), Wasserstein(), PAIR, Half()])
def test_log_ratio_where_there_is_none_names_the_loss_and_those_that_imply_one(loss):
    assert not loss.implies_log_ratio
    with pytest.raises(
        ValueError, match=f"{type(loss).__name__} implies no log density ratio.*or a subclass of Loss that defines"
    ) as raised:
        loss.log_ratio(torch.zeros(2))
    (listed,) = re.findall(r"implies one \((.*?)\)", str(raised.value))
    public = {value for value in vars(losses).values() if isinstance(value, type) and issubclass(value, Loss)}
    assert set(listed.split(", ")) == {loss.__name__ for loss in public if loss.log_ratio is not Loss.log_ratio}


# What users pass.


def test_a_loss_is_taken_as_it_is():
    loss = Hinge()
    assert as_loss(loss) is loss


@pytest.mark.parametrize("kind", [tuple, list])
def test_a_pair_of_functions_is_a_loss(kind):
    loss = as_loss(kind([lambda real, fake: (-real, 2 * fake), lambda real, fake: fake - real.mean()]))
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([5.0])
    assert isinstance(loss, CallableLoss)
    assert loss.generator_reads_real
    assert [rows.tolist() for rows in loss.discriminator(real, fake)] == [[-1.0, -3.0], [10.0]]
    assert [rows.tolist() for rows in loss.generator(real, fake)] == [[3.0]]
    assert loss.guide(real) == ()


def test_a_pair_may_return_the_mean_itself():
    loss = as_loss((lambda real, fake: fake.mean() - real.mean(), lambda real, fake: -fake.mean()))
    assert [rows.shape for rows in loss.discriminator(torch.ones(3), torch.ones(2))] == [()]


@pytest.mark.parametrize(
    "loss, message",
    [
        ("hinge", r"such as NonSaturating\(\), but is 'hinge' \(str\)\. Pass one, or a pair \(discriminator_loss, gen"),
        (None, r"but is None \(NoneType\)"),
        (max, r"but is <built-in function max> \(builtin_function_or_method\)\. .*a pair"),
        ((max, max, max), r"but is \(<built-in.*\) \(tuple\)\. .*a pair"),
        (
            (max, "hinge"),
            r"but is \(<built-in function max>, 'hinge'\) \(tuple\)\. .*functions of \(real_logits, fake_",
        ),
        (Hinge, r"but is the class\. Call it: Hinge\(\)"),
    ],
)
def test_anything_else_is_refused(loss, message):
    with pytest.raises(TypeError, match=f"loss must be a pyro_gan.losses.Loss, .*{message}"):
        as_loss(loss)


@pytest.mark.parametrize(
    "returned, found",
    [
        (0.25, r"0\.25"),
        (None, "None"),
        ([torch.zeros(2)], r"\[tensor"),
        ((torch.zeros(2), 0.25), r"a tuple of \['Tensor', 'float'\]"),
        ((), r"a tuple of \[\]"),
    ],
)
@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_a_function_that_returns_no_tensors_is_named(player, returned, found):
    functions = {"discriminator": lambda real, fake: fake, "generator": lambda real, fake: fake}
    functions[player] = lambda real, fake: returned
    loss = as_loss(tuple(functions.values()))
    with pytest.raises(
        TypeError,
        match=f"{player}_loss must return a tensor of per-row losses or a tuple of such, but returned {found}.*"
        r"without \.item\(\) or float\(\)",
    ):
        getattr(loss, player)(torch.zeros(2), torch.zeros(2))


@pytest.mark.parametrize(
    "loss, message",
    [
        (Relativistic(), "Relativistic.generator needs real_logits, but they are None: it compares pairs of rows"),
        (PAIR, "CallableLoss.generator needs real_logits, but they are None: generator_loss takes both"),
    ],
    ids=["Relativistic", "CallableLoss"],
)
def test_generators_that_read_real_rows_ask_for_them(loss, message):
    with pytest.raises(ValueError, match=message):
        loss.generator(None, torch.zeros(2))
