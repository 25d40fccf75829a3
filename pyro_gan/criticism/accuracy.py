r"""Are posterior draws those of the posterior: tests with random points over all data, and classifiers for each datum.

Ranks and coverage see each parameter alone, or all of them averaged over the data. Two tests see more:

- Tests of accuracy with random points (Lemos et al. 2023) take the share f of the draws that lie nearer to a reference
  point than the truth does. It is uniform where the posterior is exact, and only there if the points are any.
- A classifier two-sample test that is local (Linhart et al. 2023) learns to tell pairs :math:`(\theta^*, x)` from pairs
  :math:`(\theta, x)` with a draw in place of the truth, and asks it about the draws for one x:
  :math:`t(x) = \frac{1}{L} \sum_l \big(d(\theta_l, x) - \frac{1}{2}\big)^2`, where d is the probability of the truth.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyro_gan.checks import positive_integer
from pyro_gan.criticism.classifier import cross_fitted, flattened_tails, out_of_fold, robust_scales
from pyro_gan.criticism.posterior import credibilities, simulations
from pyro_gan.criticism.rows import matching_rows

FEWEST_SIMULATIONS = 20
"""The fewest simulations that a classifier is trained on."""


class Tarp(NamedTuple):
    """Whether joint credible regions hold the truth as often as they say."""

    area: float
    """The mean over all levels of the coverage less the level: from -1/2, over-confident, to 1/2, under-confident."""
    pvalue: float
    """How likely credibilities as far from uniform are under an exact posterior (Kolmogorov-Smirnov)."""


class LocalC2ST(NamedTuple):
    """How well a classifier tells a posterior's draws from the truth, simulation by simulation."""

    statistics: Tensor
    """The mean square of the classifier's probability less 1/2 over the draws, with shape `(num_simulations,)`: 0 where
    it sees no difference, 1/4 where it is sure."""
    pvalues: Tensor
    """The rank of each among those of classifiers without anything to learn, with shape `(num_simulations,)`."""
    distance: float
    """The root of the mean statistic, less what classifiers without anything to learn have: 0 to 1/2."""
    pvalue: float
    """The rank of the mean statistic among theirs. No p-value is below 1 / (num_null + 1)."""


def tarp(prior_draws: Any, posterior_draws: Any, *, references: Any = None) -> Tarp:
    r"""Test of accuracy with random points: the joint curve of expected coverage as two numbers.

    Args:
        prior_draws: The parameters that data were simulated from, with shape `(num_simulations, *event_shape)`, a
            floating-point tensor or array.
        posterior_draws: Independent draws given each simulation's data, with shape
            `(num_simulations, num_draws, *event_shape)`.
        references: The reference points, with shape `(num_simulations, *event_shape)`, which may be computed from the
            data but not from the prior draws; by default each simulation's first posterior draw.

    Returns:
        The area between the curve of expected coverage and the diagonal, and a p-value. The area tells the direction
        with the default references only. Of a normal posterior for one parameter with s times the right standard
        deviation it is :math:`-\arcsin(\rho) / \pi` with :math:`\rho = (1 - s^2) / \sqrt{(1 + s^2) (1 + 5 s^2)}`.

    Raises:
        TypeError, ValueError: As of :func:`~pyro_gan.criticism.expected_coverage`.

    Example:
        >>> result = tarp(torch.zeros(100, 1), torch.ones(100, 50, 1))      # sure of a wrong answer
        >>> round(result.area, 1), result.pvalue < 1e-6
        (-0.5, True)

    References:
        Lemos, Coogan, Hezaveh and Perreault-Levasseur (2023), "Sampling-Based Accuracy Testing of Posterior Estimators
        for General Inference", algorithm 2.

    What the number can not tell:
        As of :func:`~pyro_gan.criticism.expected_coverage`: the default references follow the draws, so that the prior
        itself passes. :func:`local_c2st` refuses it.
    """
    from scipy.stats import kstest

    found = credibilities(*simulations(prior_draws, posterior_draws), references, prior_draws).double().cpu().numpy()
    return Tarp(float(0.5 - found.mean()), float(kstest(found, "uniform").pvalue))


def local_c2st(
    prior_draws: Any, posterior_draws: Any, observations: Any, *, num_null: int = 19, seed: int = 0
) -> LocalC2ST:
    """The local classifier two-sample test: for which data does a posterior differ from the true one.

    Half of the simulations train a small network, by which the others are judged, and the other way about. Given its
    data, the truth and a draw are exchangeable under an exact posterior. So networks that are trained with the two
    swapped by a fair coin have nothing to learn, and tell what chance alone does.

    Args:
        prior_draws: The parameters that data were simulated from, with shape `(num_simulations, *event_shape)`, a
            floating-point tensor or array, of at least 20 simulations; hundreds are better.
        posterior_draws: Independent draws given each simulation's data, with shape
            `(num_simulations, num_draws, *event_shape)`.
        observations: The simulations' data, with shape `(num_simulations, *shape)`.
        num_null: The number of networks without anything to learn.
        seed: The seed of folds, swaps and first weights; no other random state is used.

    Returns:
        A statistic and a p-value for each simulation, and for all of them.

    Raises:
        TypeError: Values are no numbers, or `num_null` or `seed` is no integer.
        ValueError: The shapes do not belong together, there are too few simulations, values are not finite numbers of
            floating point, or `num_null` is not positive.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> truth = torch.randn(200, 1)
        >>> x = truth + 0.1 * torch.randn(200, 1)
        >>> prior = torch.randn(200, 50, 1)               # calibrated, but not the posterior
        >>> result = local_c2st(truth, prior, x)
        >>> result.distance > 0.2, result.pvalue
        (True, 0.05)

    References:
        Linhart, Gramfort and Rodrigues (2023), "L-C2ST: Local Diagnostics for Posterior Approximations in
        Simulation-Based Inference", algorithms 1 and 2; here labels are permuted within each pair, and folds crossed.

    What the number can not tell:
        A difference that this network can not learn from so many simulations, and which way the draws differ.
    """
    count, start = positive_integer("num_null", num_null), torch.Generator().manual_seed(int(seed))
    truth, draws = simulations(prior_draws, posterior_draws)
    x, _ = matching_rows(observations, observations, names=("observations", "observations"))
    if len(x) != len(truth):
        raise ValueError(
            f"there are {len(truth)} prior draws and {len(x)} observations: expected as many, one a simulation."
        )
    if len(truth) < FEWEST_SIMULATIONS:
        raise ValueError(
            f"expected at least {FEWEST_SIMULATIONS} simulations, half of which train the classifier, but there are "
            f"{len(truth)}. Simulate more."
        )
    squares = _squares(truth, draws, x, count, start)
    statistics, null = squares[0], squares[1:]
    means = squares.mean(1)
    return LocalC2ST(
        statistics,
        (1 + (null >= statistics).sum(0)).double() / (1 + count),
        math.sqrt(max(0.0, float(means[0] - means[1:].mean()))),
        (1 + int((means[1:] >= means[0]).sum())) / (1 + count),
    )


def _squares(truth: Tensor, draws: Tensor, x: Tensor, num_null: int, generator: torch.Generator) -> Tensor:
    """Local statistics of the classifier, and of those without anything to learn.

    Args:
        truth: True parameters with shape `(num_simulations, size)`.
        draws: Posterior draws with shape `(num_simulations, num_draws, size)`.
        x: The data with shape `(num_simulations, data_size)`.
        num_null: The number of classifiers without anything to learn.
        generator: The source of all chance.

    Returns:
        The statistics in double precision, with shape `(1 + num_null, num_simulations)`, the classifier's first.
    """
    number, scales = len(truth), robust_scales(truth)
    data = flattened_tails(x, *robust_scales(x))
    pairs = [torch.cat([flattened_tails(rows, *scales), data], 1) for rows in (truth, draws[:, 0])]
    folds = (torch.randperm(number, generator=generator, device="cpu") % 2).long()
    swaps = torch.randint(2, (1 + num_null, number), generator=generator, device="cpu")
    swaps[0] = 1  # the truth is the truth
    networks = cross_fitted(torch.cat(pairs), torch.cat([swaps, 1 - swaps], 1), folds.repeat(2), generator)
    total = torch.zeros_like(swaps, dtype=torch.float64)
    for each in draws.unbind(1):
        logits = out_of_fold(networks, torch.cat([flattened_tails(each, *scales), data], 1), folds)
        total += (logits.double().sigmoid() - 0.5).square()
    return total / draws.shape[1]
