"""What measures say of a fit: each with what is expected of it, and what is wrong where it is not met.

A measure is not met where it is beyond its limit, and by more than chance: with many rows all fits are significantly
different from the data, and with few rows chance alone is beyond any limit.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_gan.criticism.accuracy import local_c2st, tarp
from pyro_gan.criticism.classifier import robust_scales
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
from pyro_gan.criticism.posterior import calibration_ranks, calibration_test, expected_coverage

NARROWEST = 0.5
"""The least spread of draws, over the data's, in each feature."""

FEWEST_DIFFERENT = 0.25
"""The least share of draws that are no copies of each other, over the data's."""

LEAST_COVERAGE = 0.75
"""The least share of held-out rows with a draw among their neighbours, over an exact model's."""

LEAST_DENSITY = 1.0
"""The density of draws, over an exact model's, from which they crowd where the data are: then a part of these lacks."""

FARTHEST = 0.15
"""The largest distance of a feature's distribution function from the data's."""

MOST_ACCURATE = 0.65
"""The largest accuracy of a new classifier that tells draws from held-out rows."""

MOST_COPIES = 0.3
"""The largest share of draws that are copies of training rows."""

MOST_JUDGED_FOR_COPIES = 500
"""The most draws of which the nearest rows are looked for."""

MISCOVERED = 0.1
"""The largest difference of expected coverage from the level, averaged over levels. A normal posterior with 0.73 to
1.37 times the right standard deviation is within."""

BIASED = 0.1
"""The largest difference of the mean rank from the middle, as of a bias of 0.36 standard deviations."""

FARTHEST_LOCALLY = 0.2
"""The largest root mean square of a classifier's probability less 1/2, for a posterior's draws."""

STRANGE = 0.002
"""The share of simulations that lie farther from all others, below which an observation is out of their reach."""

MOST_STRANGE = 0.01
"""The largest share of observations out of reach."""

UNLIKELY = 0.005
"""The probability below which so many observations out of reach are more than chance; a single one is."""

TOLD_APART = 0.95
"""The discriminator's area under the ROC curve on held-out rows, above which it has left the generator behind."""

BLIND = 0.55
"""The area below which a discriminator is blind, where a new classifier's accuracy is above its limit."""

CHANCE = 0.001
"""The probability of chance below which something is more than that."""

NUM_NULL = 9
"""The classifiers without anything to learn for the local test."""


class Finding(NamedTuple):
    """One measure of a fit."""

    name: str
    value: float
    expected: str
    """What is expected, in words."""
    passed: bool
    """Whether it is met, or missed by no more than chance."""
    where: str
    """The feature where the measure is worst, if it is of one."""
    problem: str
    """What is wrong in a word or two, where it is not met."""
    off: float
    """How far the value is from the ideal, in units of how far it may be: 1 at the limit."""


def finding(
    name: str,
    value: float,
    ideal: float,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    problem: str,
    is_chance: bool = False,
    where: str = "",
) -> Finding:
    """A finding by limits.

    Args:
        name: The measure.
        value: Its value.
        ideal: The best value.
        low: The least that is allowed.
        high: The most that is allowed.
        problem: What is wrong where it is beyond.
        is_chance: Whether chance alone may be as far off.
        where: The feature.
    """
    limits = [f"at least {low:g}"] * (low > -math.inf) + [f"at most {high:g}"] * (high < math.inf)
    words = f"{low:g} to {high:g}" if len(limits) == 2 else limits[0]
    off = (ideal - value) / (ideal - low) if value < ideal else (value - ideal) / (high - ideal)
    passed = low <= value <= high or is_chance
    return Finding(name, float(value), words, passed, where, "" if passed else problem, float(off))


def draws_against_rows(
    real: Tensor, fake: Tensor, names: Sequence[str], train: Tensor | None = None, num_given: int = 0
) -> list[Finding]:
    """Whether draws are like held-out rows.

    Args:
        real: Held-out rows with shape `(num_real, size)`, finite, more than 5.
        fake: Draws with shape `(num_fake, size)`, finite, more than 5.
        names: What the columns are called.
        train: Training rows with shape `(num_train, size)`, where they are known.
        num_given: How many of the last columns are covariates, alike in both.

    Returns:
        What was found, of spread, copies, coverage and distances.
    """
    size, drawn = real.shape[1], real.shape[1] - num_given
    found = [_spread(real[:, :drawn], fake[:, :drawn], names), _different(real, fake), _coverage(real, fake)]
    if train is not None:
        copied = copies(fake[:MOST_JUDGED_FOR_COPIES], train, real)
        is_chance = copied.pvalue >= CHANCE
        text = "draws that copy training rows"
        found.append(finding(text, copied.share, 0.0, high=MOST_COPIES, problem="memorizing", is_chance=is_chance))
    distances = marginal_distances(real, fake)[:drawn]
    worst = int(distances.argmax())
    value = float(distances[worst])
    chance = math.sqrt(math.log(2 * size / CHANCE) / 2 * (1 / len(real) + 1 / len(fake)))
    found.append(
        finding(
            "distance of a feature's distribution",
            value,
            0.0,
            high=FARTHEST,
            problem="different",
            is_chance=value <= chance,
            where=names[worst],
        )
    )
    value = accuracy(real, fake)
    chance = 0.5 + 3 * math.sqrt((1 / len(real) + 1 / len(fake)) / 16)
    text = "accuracy of a new classifier"
    found.append(finding(text, value, 0.5, high=MOST_ACCURATE, problem="different", is_chance=value <= chance))
    return found


def _spread(real: Tensor, fake: Tensor, names: Sequence[str]) -> Finding:
    ratios = spread_ratios(real, fake)
    worst = int(ratios.argmin())
    value = float(ratios[worst])
    # A distance between quartiles has the relative standard error 1.17 / sqrt(n), of normal rows.
    chance = math.exp(-3 * 1.17 * math.sqrt(1 / len(real) + 1 / len(fake)))
    text = "spread of draws over the data's"
    where, is_chance = names[worst], value >= chance
    return finding(text, value, 1.0, low=NARROWEST, problem="collapsed", is_chance=is_chance, where=where)


def _different(real: Tensor, fake: Tensor) -> Finding:
    scales = robust_scales(real)
    number = min(len(real), len(fake))
    value = different_share(fake[:number], scales) / different_share(real[:number], scales)
    return finding("different draws, over the data's", value, 1.0, low=FEWEST_DIFFERENT, problem="collapsed")


def _coverage(real: Tensor, fake: Tensor) -> Finding:
    density, value = relative_coverage(real, fake)
    chance = 3 * math.sqrt(max(0.0, value * (1 - value)) / len(real) + 1 / len(real) ** 2)
    problem = "collapsed" if density >= LEAST_DENSITY else "different"
    is_chance = value + chance >= 1
    return finding(
        "part of the data that is drawn", value, 1.0, low=LEAST_COVERAGE, problem=problem, is_chance=is_chance
    )


def posterior_against_truth(truth: Tensor, draws: Tensor, x: Tensor, names: Sequence[str]) -> list[Finding]:
    """Whether a posterior's draws are calibrated, over all simulations and for each; it uses torch's random state.

    Args:
        truth: What data were simulated from, with shape `(num_simulations, size)`.
        draws: Draws given each simulation's data, with shape `(num_simulations, num_draws, size)`.
        x: The data with shape `(num_simulations, data_size)`.
        names: What the parameters are called.

    Returns:
        What was found, of coverage, ranks and local classifiers.
    """
    number, size = truth.shape
    levels = torch.arange(1, 20, device="cpu") / 20
    areas = (expected_coverage(truth, draws, levels).marginal.cpu() - levels[:, None]).mean(0)
    worst = int(areas.abs().argmax())
    chance = _normal_quantile(CHANCE / size) / math.sqrt(12 * number)
    found = [_covered("coverage of intervals less the level", float(areas[worst]), chance, names[worst])]
    joint = tarp(truth, draws)
    text = "coverage of joint regions less the level"
    found.append(_covered(text, joint.area, math.inf if joint.pvalue >= CHANCE else 0.0, ""))
    test = calibration_test(calibration_ranks(truth, draws), num_draws=draws.shape[1])
    worst = int(test.bias.abs().argmax())
    value, is_chance = float(test.bias[worst]), abs(float(test.bias[worst])) <= chance
    limits = {"low": -BIASED, "high": BIASED}
    text = "mean rank of the truth less 1/2"
    found.append(finding(text, value, 0.0, **limits, problem="biased", is_chance=is_chance, where=names[worst]))
    local = local_c2st(truth, draws, x, num_null=NUM_NULL)
    is_chance = local.pvalue > 1 / (1 + NUM_NULL)
    text, problem = "distance from the posterior for each row", "miscalibrated"
    high = FARTHEST_LOCALLY
    return [*found, finding(text, local.distance, 0.0, high=high, problem=problem, is_chance=is_chance)]


def _covered(name: str, value: float, chance: float, where: str) -> Finding:
    problem = "over-confident" if value < 0 else "under-confident"
    is_chance, limits = abs(value) <= chance, {"low": -MISCOVERED, "high": MISCOVERED}
    return finding(name, value, 0.0, **limits, problem=problem, is_chance=is_chance, where=where)


def observations_against_simulations(rows: Tensor, simulations: Tensor) -> Finding:
    """Whether a simulator can have made observations at all.

    Args:
        rows: Observations with shape `(num_rows, size)`.
        simulations: Simulations with shape `(num_simulations, size)`, at least 500.
    """
    from scipy.stats import binom

    is_strange = strangeness(rows, simulations) <= STRANGE
    number = int(is_strange.sum())
    is_chance = float(binom.sf(number - 1, len(rows), STRANGE)) >= UNLIKELY
    text, share = "observations out of the simulations' reach", number / len(rows)
    return finding(text, share, 0.0, high=MOST_STRANGE, problem="out of reach", is_chance=is_chance)


def players_against_each_other(real_logits: Tensor, fake_logits: Tensor, is_different: bool) -> Finding:
    """Whether the discriminator has left the generator behind, or is blind to a difference that others find.

    Args:
        real_logits: The discriminator's logits of held-out rows, with shape `(num_real,)`.
        fake_logits: Its logits of draws, with shape `(num_fake,)`.
        is_different: Whether draws and held-out rows differ.
    """
    value = separation(real_logits, fake_logits)
    low, ideal = (BLIND, (BLIND + TOLD_APART) / 2) if is_different else (1 - TOLD_APART, 0.5)
    number, other = len(real_logits), len(fake_logits)
    chance = 3 * math.sqrt((number + other + 1) / (12 * number * other))
    is_chance = abs(value - 0.5) <= chance and not is_different
    text = "discriminator's area under the ROC curve"
    return finding(text, value, ideal, low=low, high=TOLD_APART, problem="out of balance", is_chance=is_chance)


def _normal_quantile(probability: float) -> float:
    """Beyond which, to either side, a standard normal number lies with a probability."""
    return -NormalDist().inv_cdf(probability / 2)
