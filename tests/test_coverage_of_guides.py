"""A run on simulations tells where the guide's intervals do not hold what they say."""

import functools
import math
import re
import warnings

import pyro
import pyro.distributions as dist
import pytest
import scipy.stats
import torch
from latent_models import joint_discriminator, linear_posterior, linear_rows, linear_simulator
from models import run_to_its_end

from pyro_gan import BiGANInference
from pyro_gan.callbacks import WarnOfCoverage
from pyro_gan.inference.ranks import marginal_ranks

UNIFORM = torch.linspace(0.0, 1.0, 1000)[:, None]
MIDDLE = 0.5 + (UNIFORM - 0.5) / 2
"""Ranks of true values between the quartiles of draws alone, which are twice as wide as they should be, or wider."""
ENDS = torch.where(UNIFORM < 0.5, UNIFORM / 3, 1 - (1 - UNIFORM) / 3)
"""Ranks of which three in ten are beyond the middle 90 %."""


def told(ranks):
    """What is told at the end of a run of three steps, whose ranks these are."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        run_to_its_end(WarnOfCoverage(lambda: ranks))
    return [str(each.message) for each in found if "intervals" in str(each.message)]


def test_a_guide_that_is_too_sure_of_a_number_is_told_of_once_with_what_to_do():
    (text,) = told({"z": torch.cat([UNIFORM, ENDS], 1), "w": UNIFORM})
    assert text == (
        "the guide is too sure of 'z': its intervals of 90 % hold 70% of the true values in 1000 simulations that the "
        "run kept apart. Do not trust its draws. Make more simulations, or let the model observe fewer numbers that "
        "say as much, such as a mean and a deviation; numbers whose order tells nothing are a set, "
        "AutoImplicitGuide(model, sets=...)."
    )


def test_draws_that_lie_too_far_apart_are_told_of():
    (text,) = told({"z": MIDDLE})
    assert text.startswith("the guide's draws of 'z' lie too far apart: its intervals of 50 % hold 100% of the true")
    assert "Train for more steps, or let the model observe fewer numbers" in text


def test_nothing_is_told_of_right_intervals_of_few_rows_by_chance_or_of_none():
    no_number = torch.full_like(ENDS[:500], math.nan)
    by_chance = ENDS[::100]
    few = ENDS[:19]
    ranks = {"z": UNIFORM, "w": torch.cat([no_number, UNIFORM]), "v": by_chance, "u": no_number, "none": UNIFORM[:, :0]}
    assert told({**ranks, "t": few}) == []
    assert told({}) == []


@pytest.mark.parametrize("number", [20, 200])
def test_the_farthest_of_many_right_numbers_is_rarely_told_of(number):
    ranks = torch.rand(20, number, 1000, generator=torch.Generator().manual_seed(0))
    assert told({str(seed): each for seed, each in enumerate(ranks)}) == []


def guide_with(factor):
    """The exact posterior, but with that many times its deviation, and a parameter that does not matter."""

    def guide(x):
        mean, deviation = linear_posterior(x)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(mean + 0 * pyro.param("none", torch.tensor(0.0)), factor * deviation))

    return guide


def run(factor, **options):
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    still = functools.partial(torch.optim.SGD, lr=0.0)
    inference = BiGANInference(
        linear_simulator, guide_with(factor), joint_discriminator(width=8), still, still, **options
    )
    data = dict(zip(("z", "x"), linear_rows(4000), strict=True))
    return inference.run(data, num_steps=401, batch_size=400, progress=False)


@pytest.mark.parametrize(
    ("factor", "message", "exact"),
    [
        (0.5, "the guide is too sure of 'z': its intervals of 90 % hold", 0.589),  # of half ±1.645
        (2.0, "the guide's draws of 'z' lie too far apart: its intervals of 50 % hold", 0.823),  # of twice ±0.674
    ],
)
def test_a_run_tells_of_a_guide_of_another_width_and_how_often_it_is_right(factor, message, exact):
    with pytest.warns(RuntimeWarning, match=message) as found:
        run(factor)
    (text,) = [str(each.message) for each in found if "intervals" in str(each.message)]
    part = int(re.search(r"hold (\d+)%", text)[1]) / 100
    assert part == pytest.approx(exact, abs=0.06)  # three standard errors of 400 rows
    assert "in 400 simulations that the run kept apart" in text


def test_numbers_that_are_often_the_same_have_uniform_ranks():
    # A constant, a number of which half lie at an end, as rounding makes them, and a plain one.
    def rows(*shape):
        numbers = torch.rand(*shape, 3)
        numbers[..., 0], numbers[..., 1] = 1.0, (2 * numbers[..., 1]).clamp(max=1.0)
        return numbers + 1e-7 * torch.randn(*shape, 3)

    pyro.set_rng_seed(0)
    ranks = marginal_ranks(list(rows(39, 4000)), rows(4000))
    for column in ranks.T:
        counts = torch.bincount((39 * column).round().long(), minlength=40)
        assert scipy.stats.chisquare(counts.numpy()).pvalue > 0.001
    assert told({"z": ranks}) == []


def test_ranks_count_draws_below_and_leave_out_what_is_no_number():
    draws = [torch.tensor([[1.0], [1.0]]), torch.tensor([[3.0], [3.0]])]
    found = marginal_ranks(draws, torch.tensor([[2.0], [math.nan]]))
    assert found[0] == 0.5
    assert found[1].isnan()


def test_a_run_tells_nothing_of_the_exact_posterior_or_without_rows_kept_apart():
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*intervals")
        run(1.0)
        run(0.5, validation=0)
