r"""Are posterior draws calibrated: ranks and credible regions over many simulations.

Draw :math:`\theta^*` from the prior, simulate :math:`x` from it, and draw :math:`\theta_1, \dots, \theta_L` from the
posterior to be judged given that x. Where it is exact, :math:`\theta^*` and the draws are exchangeable given x. So the
rank of :math:`\theta^*` among them is uniform on 0 to L in every parameter (simulation-based calibration, Talts et al.
2018), and so is its rank by the distance from any reference point :math:`\theta_r` that is chosen without
:math:`\theta^*` (tests of accuracy with random points, Lemos et al. 2023):

.. math:: f = \frac{1}{L} \#\{l : \|\theta_l - \theta_r\| < \|\theta^* - \theta_r\|\}, \qquad
    \text{expected coverage at level } c = P(f < c) = c.

Draws that are too narrow (over-confident) miss :math:`\theta^*`, which then has low and high ranks and lies outside of
credible regions too often; draws that are too wide (under-confident) hold it too often.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyro_gan.checks import positive_integer
from pyro_gan.criticism.rows import as_rows, as_tensor, matching_rows
from pyro_gan.criticism.scales import LARGEST_POWER, double, exponents, largest, times_powers

FEWEST_EXPECTED = 5
"""How many simulations a bin of the chi-squared test must expect."""


class CalibrationTest(NamedTuple):
    """Whether ranks are uniform, and how they are not, parameter by parameter."""

    statistics: Tensor
    """The chi-squared statistics, as float64 with shape `(num_parameters,)`."""
    pvalues: Tensor
    """How likely statistics at least as large are under an exact posterior, with shape `(num_parameters,)`."""
    pvalue: float
    """The same for all parameters at once: the smallest p-value times their number (Bonferroni), at most 1."""
    bias: Tensor
    """The mean rank from -1/2 to 1/2, with shape `(num_parameters,)`; above 0 where draws are too small."""
    spread: Tensor
    """The ranks' mean square about the middle, over a uniform one's, with shape `(num_parameters,)`: above 1 where
    draws are over-confident or biased, below 1 where they are under-confident."""


class ExpectedCoverage(NamedTuple):
    """How often credible regions hold the true parameters: below the level over-confident, above it under-confident."""

    levels: Tensor
    """The regions' nominal probabilities, with shape `(num_levels,)`."""
    joint: Tensor
    """The coverage of regions of all parameters together (TARP), with shape `(num_levels,)`."""
    marginal: Tensor
    """The coverage of each parameter's central intervals, with shape `(num_levels, num_parameters)`."""
    standard_error: Tensor
    """The standard deviation of an exact posterior's coverage around the level, with shape `(num_levels,)`."""


def calibration_ranks(prior_draws: Any, posterior_draws: Any) -> Tensor:
    """How many posterior draws lie below the true parameter, in each simulation.

    Args:
        prior_draws: The parameters that data were simulated from, with shape `(num_simulations, *event_shape)`, a
            floating-point tensor or array.
        posterior_draws: Independent draws given each simulation's data, with shape
            `(num_simulations, num_draws, *event_shape)`. Thin those of a Markov chain.

    Returns:
        Ranks from 0 to `num_draws`, as int64 with shape `(num_simulations, num_parameters)`, the event flattened. Among
        equal draws the rank is drawn with torch's random state, so that it is uniform for discrete and for constant
        parameters too.

    Raises:
        ValueError: Devices differ, the shapes do not belong together, there are no rows, or values are not finite
            numbers of floating point.
        TypeError: Draws are no numbers.

    Example:
        >>> calibration_ranks(torch.tensor([0.5]), torch.tensor([[0.1, 0.2, 0.9]]))
        tensor([[2]])

    References:
        Talts, Betancourt, Simpson, Vehtari and Gelman (2018), "Validating Bayesian Inference Algorithms with
        Simulation-Based Calibration", algorithm 1; Modrák et al. (2023), "Simulation-Based Calibration Checking for
        Bayesian Computation", section 2, on ties.

    What the number can not tell:
        Each parameter is judged alone: their dependence may be wrong. And the prior itself, drawn whatever the data,
        is calibrated.
    """
    return _ranks(*simulations(prior_draws, posterior_draws))


def calibration_test(ranks: Any, num_draws: int) -> CalibrationTest:
    """Test whether ranks are uniform.

    Ranks are counted in bins (a twentieth of the number of simulations, but from 2 to 20), of sizes as equal as
    they can be, and compared with their expectation by Pearson's chi-squared test.

    Args:
        ranks: The ranks of :func:`calibration_ranks`, integers with shape `(num_simulations, num_parameters)`, of at
            least 10 simulations.
        num_draws: The number of posterior draws, which is the largest possible rank.

    Returns:
        Statistics and p-values of each parameter, the p-value of all, and which way the ranks deviate.

    Raises:
        ValueError: `ranks` are no integers from 0 to `num_draws` of that shape, or of too few simulations.
        TypeError: `num_draws` is no integer, or `ranks` are no numbers.

    Example:
        >>> result = calibration_test(torch.tensor([[0], [3]]).repeat(10, 1), num_draws=3)
        >>> result.statistics.item(), result.spread.item() > 1       # two bins, ten in each; but all at the ends
        (0.0, True)

    References:
        Talts et al. (2018), sections 4 and 5 (who read the histogram by eye).

    What the number can not tell:
        As in :func:`calibration_ranks`. Bins hide what happens within them, as the example shows: look at `spread`. A
        large p-value of few simulations says little.
    """
    from scipy.stats import chisquare

    highest = positive_integer("num_draws", num_draws)
    table = _rank_table(ranks, highest)
    num_bins = min(highest + 1, 20, max(2, len(table) // 20))
    counts = np.stack([np.bincount(column * num_bins // (highest + 1), minlength=num_bins) for column in table.T], 1)
    expected = np.bincount(np.arange(highest + 1) * num_bins // (highest + 1)) * (len(table) / (highest + 1))
    statistics, pvalues = chisquare(counts, np.broadcast_to(expected[:, None], counts.shape), axis=0)
    places = (table + 0.5) / (highest + 1) - 0.5
    spread = np.square(places).mean(0) * 12 / (1 - (highest + 1) ** -2)
    return CalibrationTest(
        torch.from_numpy(statistics),
        torch.from_numpy(pvalues),
        float(min(1.0, pvalues.min() * len(pvalues))),
        torch.from_numpy(places.mean(0)),
        torch.from_numpy(spread),
    )


def expected_coverage(
    prior_draws: Any, posterior_draws: Any, levels: Any = None, *, references: Any = None
) -> ExpectedCoverage:
    """How often credible regions of a posterior hold the parameters that the data came from.

    A joint region is a ball around a reference point that holds the level's share of the draws, by Euclidean distance
    with every parameter in units of its prior standard deviation, or, where it is constant in the prior, of the draws'
    root mean square deviation from that constant. A marginal one is the interval between equal tails.
    Ranks are spread evenly over their place between the draws, with torch's random state, so that an exact posterior's
    mean coverage is the level itself however few the draws.

    Args:
        prior_draws: The parameters that data were simulated from, with shape `(num_simulations, *event_shape)`, a
            floating-point tensor or array.
        posterior_draws: Independent draws given each simulation's data, with shape
            `(num_simulations, num_draws, *event_shape)`. Thin those of a Markov chain.
        levels: The regions' probabilities, from 0 to 1; by default 0.05, 0.1 and so on to 0.95.
        references: The centers of the joint regions, with shape `(num_simulations, *event_shape)`, which may be
            computed from the data but not from the prior draws. By default each simulation's first posterior draw,
            which then is no longer counted among them.

    Returns:
        The coverage at each level, jointly and of each parameter. With the default references it is below the level at
        every level where draws are over-confident, and above where they are under-confident. With references far from
        the draws the joint curve is S-shaped instead: that of over-confident draws is above low levels and below high
        ones. A parameter that is constant is covered at the level.

    Raises:
        ValueError: Devices differ, the shapes do not belong together, there are no rows (of draws: fewer than two
            where no references are given), values are not finite numbers of floating point, or `levels` do not lie
            from 0 to 1.
        TypeError: Draws, references or `levels` are no numbers.

    Example:
        >>> prior, draws = torch.zeros(100, 1), torch.ones(100, 50, 1)      # sure of a wrong answer
        >>> coverage = expected_coverage(prior, draws, levels=[0.9])
        >>> coverage.joint.tolist(), coverage.marginal.tolist()
        ([0.0], [[0.0]])

    References:
        Lemos, Coogan, Hezaveh and Perreault-Levasseur (2023), "Sampling-Based Accuracy Testing of Posterior Estimators
        for General Inference", algorithm 2 (who draw references uniformly over the prior's range).

    What the number can not tell:
        The prior itself, drawn whatever the data, has the right coverage; only references that follow the data can
        show that it is no posterior. The coverage is a mean over data: too low for some x, it may be too high for
        others. Over-confidence in one parameter can hide under-confidence in another in the joint number.
    """
    prior, draws = simulations(prior_draws, posterior_draws)
    nominal = _levels(levels).to(prior)
    credibility = credibilities(prior, draws, references, prior_draws)
    tails = (2 * _uniform_ranks(prior, draws) - 1).abs()
    return ExpectedCoverage(
        nominal,
        (credibility <= nominal[:, None]).to(prior).mean(1),
        torch.stack([(tails <= level).to(prior).mean(0) for level in nominal]),
        (nominal * (1 - nominal) / len(prior)).sqrt(),
    )


def credibilities(prior: Tensor, draws: Tensor, references: Any, prior_draws: Any) -> Tensor:
    """How much of the draws lies nearer to a reference point than the truth does, as of :func:`expected_coverage`.

    Args:
        prior: True parameters with shape `(num_simulations, size)`.
        draws: Posterior draws with shape `(num_simulations, num_draws, size)`.
        references: The reference points that the user passed, or `None`.
        prior_draws: The true parameters as the user passed them, whose event shape references have too.

    Returns:
        Numbers from 0 to 1 with shape `(num_simulations,)`, uniform where the posterior is exact.
    """
    centers, others = _references(prior, draws, references, prior_draws)
    distance, distances = _standardized_distances(prior, centers, others)
    return _uniform_ranks(distance[:, None], distances[:, :, None])[:, 0].to(prior.device)


def simulations(prior_draws: Any, posterior_draws: Any) -> tuple[Tensor, Tensor]:
    """Both with their events flattened: `(num_simulations, size)` and `(num_simulations, num_draws, size)`.

    Raises:
        TypeError, ValueError: As of :func:`expected_coverage`.
    """
    prior, draws = as_rows("prior draws", prior_draws), as_rows("posterior draws", posterior_draws)
    shape, draws_shape = tuple(prior.shape), tuple(draws.shape)
    if not shape or len(draws_shape) < 2 or draws_shape[:1] + draws_shape[2:] != shape or not draws_shape[1]:
        raise ValueError(
            f"prior draws have shape {shape} and posterior draws {draws_shape}: expected "
            "(num_simulations, *event_shape) and (num_simulations, num_draws, *event_shape)."
        )
    names = ("prior draws", "posterior draws")
    prior, flat = matching_rows(prior, draws.reshape((-1, *shape[1:])), names=names)
    return prior, flat.reshape(*draws_shape[:2], -1)


def _ranks(truth: Tensor, draws: Tensor) -> Tensor:
    below, equal = ((relation(draws, truth[:, None])).sum(1) for relation in (torch.lt, torch.eq))
    return below + (torch.rand(equal.shape, device=equal.device) * (equal + 1)).long()


def _uniform_ranks(truth: Tensor, draws: Tensor) -> Tensor:
    """Ranks as fractions, uniform on 0 to 1 where the truth is one of the draws."""
    ranks = _ranks(truth, draws)
    return (ranks + torch.rand(ranks.shape, device=ranks.device)) / (draws.shape[1] + 1)


def _references(prior: Tensor, draws: Tensor, references: Any, prior_draws: Any) -> tuple[Tensor, Tensor]:
    """The centers of the joint regions, and the draws that are counted around them."""
    if references is not None:
        centers = as_rows("references", references)
        if centers.shape[:1] != prior.shape[:1]:
            raise ValueError(
                f"references have shape {tuple(centers.shape)}: expected (num_simulations, *event_shape) with "
                f"{len(prior)} simulations."
            )
        return matching_rows(centers, prior_draws, names=("references", "prior draws"))[0], draws
    if draws.shape[1] < 2:
        raise ValueError("expected at least 2 posterior draws a simulation, but there is 1. Draw more.")
    return draws[:, 0], draws[:, 1:]


def _standardized_distances(prior: Tensor, centers: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Distances from the centers with each parameter in units of its own, over a power of two that all have in common.

    Args:
        prior: True parameters with shape `(num_simulations, size)`.
        centers: The regions' centers, with the same shape.
        others: Draws with shape `(num_simulations, num_draws, size)`.

    Returns:
        Distances in double precision, of the truth with shape `(num_simulations,)` and of the draws with shape
        `(num_simulations, num_draws)`.
    """
    sets = [double(rows) for rows in (prior, centers, others)]
    powers = exponents(_largest(sets)) - LARGEST_POWER
    truth, middle, draws = (times_powers(rows, -powers) for rows in sets)
    factors, unit_powers = _units(sets[0], truth, draws, powers)
    differences = [(truth - middle) / factors, (draws - middle[:, None]) / factors]
    sizes, ratios = _largest(differences), powers - unit_powers
    differs = sizes.cpu() > 0
    common = (exponents(sizes) + ratios)[differs].tolist()
    ratios = torch.where(differs, ratios - max(common, default=0) + LARGEST_POWER, 0)
    distance, distances = (times_powers(rows, ratios).norm(dim=-1) for rows in differences)
    return distance, distances


def _largest(sets: list[Tensor]) -> Tensor:
    """The largest absolute value of each parameter, with shape `(size,)`, in tensors of shape `(..., size)`."""
    return torch.stack([largest(rows.flatten(0, -2)) for rows in sets]).amax(0)


def _units(prior: Tensor, truth: Tensor, draws: Tensor, powers: Tensor) -> tuple[Tensor, Tensor]:
    """Each parameter's prior standard deviation, or what is taken in its place, as a factor of a power of two.

    Args:
        prior: True parameters with shape `(num_simulations, size)`.
        truth: The same over powers of two, of whose squares there are sums.
        draws: Draws over the same powers, with shape `(num_simulations, num_draws, size)`.
        powers: The powers' exponents, with shape `(size,)`.

    Returns:
        Factors, infinite where prior and draws are one and the same constant, and the powers' exponents, both with
        shape `(size,)`.
    """
    own = exponents(largest(prior))
    deviations = times_powers(prior, -own).std(0, correction=0)
    is_constant = (prior == prior[0]).all(0)  # the deviation of equal numbers may be off 0 by rounding
    deviations = torch.where(is_constant, (draws - truth[:, None]).square().mean((0, 1)).sqrt(), deviations)
    factors, unit_powers = torch.frexp(deviations)
    factors = torch.where(factors > 0, factors, torch.inf)
    return factors, unit_powers.cpu() + torch.where(is_constant.cpu(), powers, own)


def _levels(levels: Any) -> Tensor:
    try:
        usual = torch.arange(1, 20, device="cpu") / 20
        given = levels.detach().cpu() if isinstance(levels, Tensor) else levels
        values = usual if levels is None else torch.as_tensor(given, dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"levels must be numbers from 0 to 1, but are {levels!r}.") from None
    if values.dim() != 1 or not len(values) or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"levels must be one or more numbers from 0 to 1 in one dimension, but are {levels!r}.")
    return values


def _rank_table(ranks: Any, highest: int) -> np.ndarray:
    table = as_tensor("ranks", ranks)
    is_integer = not (table.is_floating_point() or table.is_complex() or table.dtype == torch.bool)
    if table.dim() != 2 or not table.shape[1] or not is_integer:
        raise ValueError(
            f"ranks must be integers with shape (num_simulations, num_parameters), but are {table.dtype} with shape "
            f"{tuple(table.shape)}. Pass those of calibration_ranks."
        )
    if len(table) < 2 * FEWEST_EXPECTED:
        raise ValueError(f"expected at least {2 * FEWEST_EXPECTED} simulations, but there are {len(table)}.")
    table = table.long()
    if table.min() < 0 or table.max() > highest:
        raise ValueError(
            f"ranks must lie from 0 to num_draws = {highest}, but go from {int(table.min())} to {int(table.max())}."
        )
    return table.cpu().numpy()
