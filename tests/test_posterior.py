import math

import numpy as np
import pyro
import pytest
import torch
from scipy.stats import chisquare, kstest, norm

from pyro_gan.criticism.posterior import calibration_ranks, calibration_test, expected_coverage

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
RANKS = torch.arange(40).reshape(20, 2) % 4


def conjugate(width=1.0, shift=0.0, num_simulations=2000, num_draws=99, size=2):
    """theta ~ N(0, 1), x ~ N(theta, 1): the posterior is N(x / 2, 1 / 2); here `width` times as wide, and shifted."""
    theta = torch.randn(num_simulations, size)
    x = theta + torch.randn(num_simulations, size)
    draws = x[:, None] / 2 + math.sqrt(0.5) * (shift + width * torch.randn(num_simulations, num_draws, size))
    return theta, draws


def ranks_of(num_draws=99, **settings):
    return calibration_test(calibration_ranks(*conjugate(num_draws=num_draws, **settings)), num_draws)


def test_ranks_by_hand():
    prior = torch.tensor([[0.5, 2.0], [-1.0, 0.0]])
    draws = torch.tensor([[[0.1, 1.0], [0.2, 3.0], [0.9, 1.5]], [[0.0, -1.0], [0.0, -2.0], [0.0, -3.0]]])
    ranks = calibration_ranks(prior, draws)
    assert ranks.tolist() == [[2, 2], [0, 3]]
    assert ranks.dtype == torch.int64
    assert torch.equal(calibration_ranks(prior.numpy(), draws.double().numpy()), ranks)
    assert torch.equal(calibration_ranks(prior[:, None].requires_grad_(), draws[:, :, None]), ranks)
    assert torch.equal(calibration_ranks(prior[:, 0], draws[:, :, 0]), ranks[:, :1])


def test_ranks_equal_a_naive_double_loop():
    theta, draws = conjugate(num_simulations=30, num_draws=17)
    naive = [
        [sum(float(draw[j]) < float(truth[j]) for draw in rows) for j in range(2)]
        for truth, rows in zip(theta, draws, strict=True)
    ]
    assert calibration_ranks(theta, draws).tolist() == naive


def test_ranks_among_equal_draws_are_uniform_and_follow_the_seed():
    constant = calibration_ranks(torch.ones(2000, 1), torch.ones(2000, 9, 1))
    assert chisquare(constant[:, 0].bincount(minlength=10)).pvalue > 0.01
    # A discrete parameter: theta in 0 to 2, x tells nothing, so that the prior is the posterior.
    draws = torch.randint(3, (2000, 10, 1)).double()
    assert calibration_test(calibration_ranks(draws[:, 0], draws[:, 1:]), 9).pvalue > 0.01
    pyro.set_rng_seed(1)
    first = calibration_ranks(torch.ones(50, 1), torch.ones(50, 9, 1))
    pyro.set_rng_seed(1)
    assert torch.equal(calibration_ranks(torch.ones(50, 1), torch.ones(50, 9, 1)), first)


def test_calibration_by_hand():
    # 20 simulations: two bins of the ranks 0 to 1 and 2 to 3.
    ranks = torch.tensor([0] * 12 + [1] * 4 + [3] * 4)[:, None]
    result = calibration_test(ranks, 3)
    assert result.statistics.item() == pytest.approx(7.2)  # (16 - 10)^2 / 10 + (4 - 10)^2 / 10
    assert result.pvalues.item() == pytest.approx(math.erfc(math.sqrt(3.6)))
    assert result.bias.item() == pytest.approx((12 * 0.125 + 4 * 0.375 + 4 * 0.875) / 20 - 0.5)
    assert result.spread.item() == pytest.approx((16 * 0.375**2 + 4 * 0.125**2) / 20 / (1.25 / 16))
    even = calibration_test(np.arange(20)[:, None] % 4, 3)
    assert (even.statistics.item(), even.pvalue) == (0.0, 1.0)
    assert (even.bias.item(), even.spread.item()) == pytest.approx((0.0, 1.0))


def test_bins_of_unequal_size_are_expected_as_such():
    # 7 ranks in 5 bins, which hold 2, 1, 2, 1 and 1 of them.
    ranks = torch.randint(7, (100, 1))
    counts = ranks[:, 0].bincount(minlength=7)
    observed = [int(counts[part].sum()) for part in ([0, 1], [2], [3, 4], [5], [6])]
    expected = chisquare(observed, np.array([2, 1, 2, 1, 1]) * 100 / 7)
    assert calibration_test(ranks.to(torch.uint8), 6).statistics.item() == pytest.approx(expected.statistic)


@pytest.mark.parametrize(("num_simulations", "num_draws"), [(400, 99), (400, 6), (30, 999)])
def test_pvalues_of_uniform_ranks_are_uniform(num_simulations, num_draws):
    result = calibration_test(torch.randint(num_draws + 1, (num_simulations, 500)), num_draws)
    assert kstest(result.pvalues, "uniform").statistic < 0.1 + 0.1 * (num_simulations < 100)  # which are discrete
    assert 0.02 < (result.pvalues < 0.05).double().mean() < 0.08
    assert result.pvalue == pytest.approx(min(1.0, 500 * result.pvalues.min().item()))
    assert result.spread.mean() == pytest.approx(1.0, abs=4 * result.spread.std().item() / math.sqrt(500))
    assert result.bias.mean() == pytest.approx(0.0, abs=4 * result.bias.std().item() / math.sqrt(500))


def test_exact_posteriors_pass():
    result = ranks_of(width=1.0)
    assert result.pvalue > 0.01
    assert result.spread.tolist() == pytest.approx([1.0, 1.0], abs=0.1)


@pytest.mark.parametrize("width", [0.5, 0.8, 1.25, 2.0])
def test_ranks_tell_over_from_under_confident_posteriors(width):
    result = ranks_of(width=width)
    assert result.pvalues.max() < 1e-6
    # The rank's place is F(Z / width) for a normal Z, whose mean square about 1/2 is an arc sine.
    spread = 6 / math.pi * math.asin(1 / (1 + width**2))
    assert (spread > 1) == (width < 1)
    assert result.spread.tolist() == pytest.approx([spread, spread], abs=0.08)
    assert result.bias.tolist() == pytest.approx([0.0, 0.0], abs=0.03)


def test_biased_posteriors_have_low_or_high_ranks():
    low, high = ranks_of(shift=-0.5), ranks_of(shift=0.5)
    assert max(low.pvalue, high.pvalue) < 1e-6
    assert low.bias.min() > 0.1
    assert high.bias.max() < -0.1


def test_one_wrong_parameter_among_many_is_named():
    theta, draws = conjugate(size=8)
    draws[:, :, 5] = draws[:, :, 5] + 0.5
    result = calibration_test(calibration_ranks(theta, draws), 99)
    assert result.pvalues.argmin() == 5
    assert result.pvalue == pytest.approx(8 * result.pvalues[5].item())
    assert result.pvalues[torch.arange(8) != 5].min() > 0.001


@pytest.mark.parametrize("width", [0.5, 1.0, 2.0])
def test_coverage_of_central_intervals_is_the_known_one(width):
    levels = torch.tensor([0.1, 0.5, 0.68, 0.9, 0.95])
    coverage = expected_coverage(*conjugate(width, num_draws=400), levels)
    known = torch.from_numpy(2 * norm.cdf(width * norm.ppf((1 + levels.double().numpy()) / 2)) - 1).float()
    error = (known * (1 - known) / 2000).sqrt()
    assert (
        (coverage.marginal - known[:, None]).abs() < 4 * error[:, None] + 0.005
    ).all()  # 400 draws know tails so far
    assert coverage.levels.tolist() == levels.tolist()
    assert coverage.standard_error.tolist() == pytest.approx((levels * (1 - levels) / 2000).sqrt().tolist())


@pytest.mark.parametrize("size", [1, 2, 20])
def test_joint_coverage_tells_over_from_under_confident_posteriors(size):
    settings = {"size": size, "num_simulations": 1000}
    exact, narrow, wide = (expected_coverage(*conjugate(width, **settings)) for width in (1.0, 0.5, 2.0))
    assert exact.levels.tolist() == pytest.approx([0.05 * step for step in range(1, 20)])
    assert ((exact.joint - exact.levels).abs() < 4 * exact.standard_error).all()
    assert (narrow.joint < narrow.levels).all()
    assert (narrow.joint - narrow.levels)[3:].max() < -4 * exact.standard_error.max()
    assert (wide.joint - wide.levels)[6:15].min() > 4 * exact.standard_error.max()
    assert (wide.joint > wide.levels - 4 * wide.standard_error).all()
    assert (exact.marginal - exact.levels[:, None]).abs().max() < 0.08
    assert (narrow.marginal < narrow.levels[:, None]).all()
    assert (wide.marginal > wide.levels[:, None]).all()


@pytest.mark.parametrize("num_draws", [2, 5])
def test_coverage_of_exact_posteriors_is_the_level_however_few_the_draws(num_draws):
    coverage = expected_coverage(*conjugate(num_simulations=20_000, num_draws=num_draws), [0.0, 0.1, 0.5, 0.9, 1.0])
    assert ((coverage.joint - coverage.levels).abs() <= 4 * coverage.standard_error).all()
    assert ((coverage.marginal - coverage.levels[:, None]).abs() <= 4 * coverage.standard_error[:, None]).all()


def test_random_references_as_in_the_paper_are_calibrated_too():
    theta, draws = conjugate(size=3)
    references = theta.min(0).values + (theta.max(0).values - theta.min(0).values) * torch.rand(2000, 3)
    coverage = expected_coverage(theta, draws, references=references)
    assert ((coverage.joint - coverage.levels).abs() < 4 * coverage.standard_error).all()
    narrow = expected_coverage(*conjugate(0.3, size=3), references=references)
    assert (narrow.joint - narrow.levels).abs().max() > 0.1


def test_references_far_away_rank_along_a_line():
    # All distances are differences: the joint coverage is that of intervals from -infinity, P(rank / L < level).
    theta, draws = conjugate(0.5, size=1)
    coverage = expected_coverage(theta.double(), draws.double(), references=torch.full((2000, 1), -1e3).double())
    known = torch.from_numpy(norm.cdf(0.5 * norm.ppf(coverage.levels.numpy())))
    assert (coverage.joint - known).abs().max() < 4 * math.sqrt(0.25 / 2000)
    assert coverage.joint[0] > coverage.levels[0] + 0.05  # the S that the documentation warns of
    assert coverage.joint[-1] < coverage.levels[-1] - 0.05


def test_references_that_follow_the_data_show_that_the_prior_is_no_posterior():
    theta = torch.randn(2000, 1)
    x = theta + torch.randn(2000, 1)
    prior = torch.randn(2000, 99, 1)
    assert calibration_test(calibration_ranks(theta, prior), 99).pvalue > 0.01
    blind, seeing = expected_coverage(theta, prior), expected_coverage(theta, prior, references=x)
    assert ((blind.joint - blind.levels).abs() < 4 * blind.standard_error).all()
    assert (seeing.joint - seeing.levels).max() > 0.1


def test_units_of_a_parameter_and_constants_do_not_matter():
    theta, draws = conjugate(num_simulations=500)
    pyro.set_rng_seed(0)
    expected = expected_coverage(theta, draws)
    pyro.set_rng_seed(0)
    scaled = expected_coverage(theta * torch.tensor([1.0, 1024.0]), draws * torch.tensor([1.0, 1024.0]))
    assert torch.equal(scaled.joint, expected.joint)
    assert torch.equal(scaled.marginal, expected.marginal)
    constant = expected_coverage(torch.ones(2000, 1), torch.ones(2000, 9, 1))
    for values in constant.joint, constant.marginal[:, 0]:
        assert ((values - constant.levels).abs() < 4 * constant.standard_error).all()


@pytest.mark.parametrize("device", DEVICES)
def test_draws_stay_on_their_device(device):
    theta, draws = (rows.to(device) for rows in conjugate(num_simulations=100))
    assert calibration_ranks(theta, draws).device.type == device
    assert {part.device.type for part in expected_coverage(theta, draws, [0.5])} == {device}
    assert calibration_test(calibration_ranks(theta, draws), 99).pvalue > 0.001


THETA, DRAWS = torch.zeros(10, 2), torch.zeros(10, 5, 2)


@pytest.mark.parametrize("function", [calibration_ranks, expected_coverage])
@pytest.mark.parametrize(
    ("prior", "draws", "message"),
    [
        (THETA, DRAWS[:9], r"prior draws have shape \(10, 2\) and posterior draws \(9, 5, 2\): expected \(num_sim"),
        (THETA, DRAWS[:, :, :1], r"posterior draws \(10, 5, 1\): expected"),
        (THETA, THETA, r"posterior draws \(10, 2\): expected"),
        (THETA, DRAWS[:, :0], r"posterior draws \(10, 0, 2\): expected"),
        (torch.tensor(0.0), DRAWS, r"prior draws have shape \(\) and"),
        (THETA[:0], DRAWS[:0], "there are 0 prior draws and 0 posterior draws"),
        (THETA.int(), DRAWS, "prior draws are of type torch.int32"),
        (THETA, DRAWS * math.nan, "posterior draws hold NaN or infinity"),
    ],
)
def test_draws_that_do_not_belong_together_are_refused(function, prior, draws, message):
    with pytest.raises(ValueError, match=message):
        function(prior, draws)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"levels": []}, "levels must be one or more numbers from 0 to 1"),
        ({"levels": [0.5, 1.5]}, r"levels must be .* but are \[0.5, 1.5\]"),
        ({"levels": 0.5}, "levels must be .* in one dimension, but are 0.5"),
        ({"levels": [math.nan]}, r"levels must be .* but are \[nan\]"),
        ({"references": THETA[:9]}, r"references have shape \(9, 2\): expected .* with 10 simulations"),
        ({"references": torch.tensor(0.0)}, r"references have shape \(\): expected"),
        ({"references": THETA[:, :1]}, r"references have shape \(10, 1\) and prior draws \(10, 2\)"),
        ({"references": THETA / 0}, "references hold NaN or infinity"),
    ],
)
def test_bad_levels_and_references_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        expected_coverage(THETA, DRAWS, **arguments)


def test_a_single_draw_leaves_none_to_count():
    with pytest.raises(ValueError, match="expected at least 2 posterior draws a simulation, but there is 1"):
        expected_coverage(THETA, DRAWS[:, :1])
    assert expected_coverage(THETA, DRAWS[:, :1], references=THETA).joint.shape == (19,)


@pytest.mark.parametrize(
    ("ranks", "num_draws", "error", "message"),
    [
        (RANKS.float(), 3, ValueError, "ranks must be integers .* but are torch.float32"),
        (RANKS[:, 0], 3, ValueError, r"ranks must be integers .* with shape \(20,\)"),
        (RANKS[:, :0], 3, ValueError, r"ranks must be integers .* with shape \(20, 0\)"),
        (RANKS > 1, 3, ValueError, "ranks must be integers .* torch.bool"),
        (RANKS[:9], 3, ValueError, "expected at least 10 simulations, but there are 9"),
        (RANKS, 2, ValueError, "ranks must lie from 0 to num_draws = 2, but go from 0 to 3"),
        (RANKS - 1, 3, ValueError, "ranks must lie from 0 to num_draws = 3, but go from -1 to 2"),
        (RANKS, 3.0, TypeError, "num_draws must be a positive integer, but is 3.0"),
        (RANKS, 0, ValueError, "num_draws must be a positive integer, but is 0"),
    ],
)
def test_bad_ranks_are_refused(ranks, num_draws, error, message):
    with pytest.raises(error, match=message):
        calibration_test(ranks, num_draws)
