"""Tests with random points and local classifiers on known posteriors, and measures of draws in closed form."""

import math

import numpy as np
import pytest
import torch

from pyro_gan import criticism
from pyro_gan.criticism.draws import (
    accuracy,
    copies,
    different_share,
    marginal_distances,
    relative_coverage,
    separation,
    spread_ratios,
    strangeness,
)
from pyro_gan.criticism.findings import finding, players_against_each_other
from pyro_gan.plots import plot_checks


def posterior(scale, num_rows=2000, bias=0.0, num_draws=200, seed=0):
    """Truths, data and draws: theta ~ N(0, 1), x ~ N(theta, 1), of which N(x / 2, 1 / 2) is the posterior."""
    noise = torch.Generator().manual_seed(seed)
    truth = torch.randn(num_rows, 1, generator=noise)
    x = truth + torch.randn(num_rows, 1, generator=noise)
    draws = torch.randn(num_rows, num_draws, 1, generator=noise)
    return truth, x[:, None] / 2 + bias + scale * 0.5**0.5 * draws, x


@pytest.mark.parametrize("scale", [0.25, 0.5, 0.8, 1.0, 1.5, 3.0])
def test_tarps_area_is_what_it_is_for_a_normal_posterior(scale):
    truth, draws, _ = posterior(scale)
    slope = (1 - scale**2) / math.sqrt((1 + scale**2) * (1 + 5 * scale**2))
    result = criticism.tarp(truth, draws)
    assert result.area == pytest.approx(-math.asin(slope) / math.pi, abs=3 / math.sqrt(12 * len(truth)))
    assert (result.pvalue < 1e-3) == (scale != 1.0)
    if scale != 1.0:
        assert (result.area > 0) == (scale > 1)


def test_tarp_takes_references_of_ones_own():
    truth, draws, x = posterior(1.0)
    assert criticism.tarp(truth, draws, references=x).pvalue > 0.01
    with pytest.raises(ValueError, match="references have shape"):
        criticism.tarp(truth, draws, references=x[:5])


@pytest.mark.parametrize(
    ("scale", "bias", "is_right"), [(1.0, 0.0, True), (0.5, 0.0, False), (2.0, 0.0, False), (1, 0.5, False)]
)
def test_the_local_test_sees_a_posterior_that_is_not_right(scale, bias, is_right):
    result = criticism.local_c2st(*posterior(scale, 400, bias, 50))
    assert result.statistics.shape == result.pvalues.shape == (400,)
    assert (result.pvalue > 0.05) == is_right
    assert (result.distance > 0.1) == (not is_right)


def test_the_local_test_knows_where_a_posterior_is_wrong():
    """Right where x is below 0, and half as wide above: the mean p-values tell the halves apart."""
    truth, right, x = posterior(1.0, 1000, num_draws=50)
    wrong = x[:, None] / 2 + 0.3 * (right - x[:, None] / 2)
    result = criticism.local_c2st(truth, torch.where(x[:, None] > 0, wrong, right), x)
    assert result.statistics[x[:, 0] > 0.5].mean() > 3 * result.statistics[x[:, 0] < -0.5].mean()
    assert result.pvalues[x[:, 0] > 0.5].mean() < 0.15 < result.pvalues[x[:, 0] < -0.5].mean()


def test_the_local_test_refuses_the_prior_which_is_calibrated():
    truth, _, x = posterior(1.0, 400)
    prior = torch.randn(400, 50, 1)
    assert criticism.tarp(truth, prior).pvalue > 0.01
    assert criticism.local_c2st(truth, prior, x).distance > 0.15


def test_the_local_test_hangs_on_its_seed_alone():
    sets = posterior(0.7, 100, num_draws=10)
    state = torch.get_rng_state()
    first, second = (criticism.local_c2st(*sets, num_null=3) for _ in range(2))
    assert first.distance == second.distance and torch.equal(first.pvalues, second.pvalues)
    assert torch.equal(state, torch.get_rng_state())
    assert criticism.local_c2st(*sets, num_null=3, seed=1).statistics.ne(first.statistics).any()


def test_the_local_test_says_what_does_not_fit():
    truth, draws, x = posterior(1.0, 30, num_draws=4)
    with pytest.raises(ValueError, match="there are 30 prior draws and 29 observations: expected as many"):
        criticism.local_c2st(truth, draws, x[:29])
    with pytest.raises(ValueError, match=r"expected at least 20 simulations.*but there are 10\. Simulate more"):
        criticism.local_c2st(truth[:10], draws[:10], x[:10])
    with pytest.raises(ValueError, match="num_null must be a positive integer"):
        criticism.local_c2st(truth, draws, x, num_null=0)
    with pytest.raises(ValueError, match="prior draws have shape"):
        criticism.local_c2st(truth, draws[:, :, 0, None, None], x)


def test_what_is_nearly_the_same_is_no_distance():
    real = torch.cat([torch.zeros(50), torch.linspace(0.5, 1.0, 50)])[:, None]
    assert marginal_distances(real, (real + 0.001).clamp(max=1)).item() == 0
    assert marginal_distances(real, real + 2).item() == 1


@pytest.mark.parametrize("shift", [0.2, 1.0])
def test_a_shift_has_the_distance_of_two_normal_distributions(shift):
    levels = (torch.arange(4000) + 0.5) / 4000
    real = torch.special.ndtri(levels.double())[:, None]
    expected = 2 * torch.special.ndtr(torch.tensor((shift - 0.05) / 2, dtype=torch.float64)) - 1
    assert marginal_distances(real, real + shift).item() == pytest.approx(expected.item(), abs=2e-3)


def test_spreads_are_relative_and_robust():
    rows = torch.linspace(-1, 1, 101)[:, None].repeat(1, 3) * torch.tensor([1.0, 1000.0, 0.0])
    draws = rows * torch.tensor([0.25, 3.0, 1.0])
    assert spread_ratios(rows, draws).tolist() == pytest.approx([0.25, 3.0, 1.0], rel=1e-5)
    draws[0, 0] = 1e6
    assert spread_ratios(rows, draws)[0].item() == pytest.approx(0.25, rel=0.02)
    rare = torch.zeros(1000, 1)
    rare[:60] = 1.0  # all quantiles are equal: deviations are compared
    assert spread_ratios(rare, 0.5 * rare).item() == pytest.approx(0.5)
    rare[49:] = 0.0  # too few rows to say
    assert spread_ratios(rare, 0.5 * rare).item() == 1.0


def test_copies_among_rows_are_counted():
    rows = torch.tensor([[0.0], [1.0], [0.0], [1.0], [5.0], [0.0005]])
    assert different_share(rows, (torch.zeros(1), torch.ones(1))) == 0.5


@pytest.mark.parametrize("narrow", [1.0, 0.2, 0.0])
def test_draws_that_do_not_copy_lie_near_to_held_out_rows_as_often_as_there_are(narrow):
    train, held_out = torch.randn(900, 3), torch.randn(300, 3)
    honest = copies(narrow * torch.randn(500, 3), train, held_out)
    assert honest.pvalue > 1e-3
    assert narrow < 1 or honest.share < 0.3
    copied = copies(train[torch.randint(900, (500,))] + 0.01 * torch.randn(500, 3), train, held_out)
    assert copied.share > 0.9 and copied.pvalue < 1e-6
    assert copies(train[:50], train, train).share == 0  # near to both alike: nothing is known


def test_an_exact_models_coverage_is_1_in_the_mean():
    found = [relative_coverage(torch.randn(200, 2), torch.randn(150, 2)) for _ in range(20)]
    assert np.mean([each.coverage for each in found]) == pytest.approx(1, abs=0.02)
    assert np.mean([each.density for each in found]) == pytest.approx(1, abs=0.05)


def test_a_new_classifier_is_as_good_as_it_can_be():
    real, fake = torch.randn(1500, 1), torch.randn(1500, 1) + 1.5
    best = 0.5 * (1 + math.erf(1.5 / 2 / math.sqrt(2)))
    assert accuracy(real, fake) == pytest.approx(best, abs=0.04)
    assert accuracy(real, torch.randn(1500, 1)) == pytest.approx(0.5, abs=0.04)


def test_strange_rows_are_those_far_from_all_simulations():
    two = torch.randn(1000, 1) * 0.1 + 4 * torch.randint(2, (1000, 1))
    pvalues = strangeness(torch.tensor([[0.0], [4.0], [2.0], [1e6]]), two)
    assert (pvalues[:2] > 0.1).all() and (pvalues[2:] <= 0.002).all()


def test_a_separation_is_the_area_under_the_curve():
    from sklearn.metrics import roc_auc_score

    real, fake = torch.randint(10, (50,)).float() + 1, torch.randint(10, (70,)).float()
    expected = roc_auc_score([1] * 50 + [0] * 70, torch.cat([real, fake]))
    assert separation(real, fake) == pytest.approx(expected)


def test_findings_know_their_limits():
    found = finding("m", 0.25, 1.0, low=0.5, problem="collapsed")
    assert (found.passed, found.problem, found.off, found.expected) == (False, "collapsed", 1.5, "at least 0.5")
    found = finding("m", 3.0, 0.0, low=-1.0, high=1.5, problem="biased", is_chance=True)
    assert (found.passed, found.problem, found.off, found.expected) == (True, "", 2.0, "-1 to 1.5")


def test_a_handful_of_rows_tells_nothing_of_players():
    assert players_against_each_other(torch.ones(3), torch.zeros(3), is_different=False).passed
    assert not players_against_each_other(torch.ones(300), torch.zeros(300), is_different=False).passed


def test_measures_that_do_not_belong_together_are_not_drawn():
    with pytest.raises(ValueError, match=r"there are 2 names, 1 numbers in off, 1 in passed and 1 labels\. Pass as"):
        plot_checks(["a", "b"], [0.5], [True])
    ax = plot_checks(["a", "b", "c"], [0.5, 1.5, 9.0], [True, True, False], ["x", "y", "z"])
    assert [bar.get_width() for bar in ax.patches] == [0.5, 1.5, 2.0]
    assert [text.get_text() for text in ax.texts] == ["x", "y", "z"]
