"""How far a model's draws are from the data in terms that do not depend on units, or on the number of rows.

All take matrices with one row a sample and one column a feature. Each column is measured in the data's own spread, by
quartiles, so that one in thousands hides no other in units, and a few outliers decide nothing.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_gan.criticism.classifier import cross_fitted, flattened_tails, out_of_fold, robust_scales
from pyro_gan.criticism.coverage import density_coverage
from pyro_gan.criticism.neighbours import nearest
from pyro_gan.criticism.scales import double

NEAR = 0.05
"""The part of a column's spread that does not count as a difference."""

SAME = 1e-3
"""The part of the spread, times the root of the number of columns, up to which two rows are copies."""

MOST_COLUMNS = 64
"""The number of columns above which copies are looked for among projections on as many random directions."""

NUM_NEIGHBOURS = 5
"""How many neighbours tell how dense rows lie."""

RANGES = ((0.25, 0.75), (0.05, 0.95))
"""The levels between whose quantiles a column spreads."""


class Copies(NamedTuple):
    """Whether draws lie nearer to training rows than to held-out ones, which no honest model can."""

    share: float
    """The share of draws that are copies: 1 less the held-out rows' part of the nearest rows, over the part due."""
    pvalue: float
    """How likely so few held-out rows among the different nearest ones are, if draws do not copy."""


class Coverage(NamedTuple):
    """Density and coverage over what an exact model has in the mean."""

    density: float
    coverage: float


def marginal_distances(real: Tensor, fake: Tensor) -> Tensor:
    """Kolmogorov-Smirnov distances of the columns, where numbers that are nearly the same count as the same.

    Pixels that are 0 in the data and a thousandth in draws are not different. So a distribution function is compared
    with the other's a little to the side: :math:`max_t F(t - s) - G(t)`, and the same with F and G exchanged.

    Args:
        real: Rows with shape `(num_real, size)`.
        fake: Rows with shape `(num_fake, size)`.

    Returns:
        A distance from 0 to 1 for each column, with shape `(size,)`.
    """
    _, spread = robust_scales(real)
    found = []
    for x, y, width in zip(real.double().T, fake.double().T, NEAR * spread, strict=True):
        found.append(max(_excess(x, y, float(width)), _excess(y, x, float(width))))
    return torch.tensor(found, dtype=torch.float64, device="cpu")


def _excess(x: Tensor, y: Tensor, width: float) -> float:
    """How much the distribution function of x, moved up by a width, lies above that of y."""
    x, y = x.sort().values, y.sort().values
    places = x + width  # the first function rises there, so the greatest excess is at one of them
    above = torch.arange(1, len(x) + 1, device=x.device) / len(x)
    return max(0.0, float((above - torch.searchsorted(y, places, right=True) / len(y)).max()))


OFTEN = 0.05
"""The part of the rows from which on a number comes often."""

FEWEST_UNUSUAL = 50
"""The number of rows with another number than the most usual one below which nothing is said of a spread."""


def spread_ratios(real: Tensor, fake: Tensor) -> Tensor:
    """The spread of each column of draws over the data's.

    Args:
        real: Rows with shape `(num_real, size)`.
        fake: Rows with shape `(num_fake, size)`.

    Returns:
        The larger of the ratios of two distances between quantiles, 1/4 and 3/4, 1/20 and 19/20; of standard deviations
        where one number comes often, on which a quantile may lie or not. It is 1 where the data are constant, or too
        few rows have another number than that. With shape `(size,)`.
    """
    rows, draws = real.double(), fake.double()
    ratios = torch.zeros(rows.shape[1], dtype=torch.float64, device=rows.device)
    for levels in RANGES:
        at = torch.tensor(levels, dtype=torch.float64, device=rows.device)
        widths, others = (torch.quantile(each, at, dim=0).diff(dim=0)[0] for each in (rows, draws))
        ratios = torch.where(widths > 0, torch.maximum(ratios, others / widths), ratios)
    of_rows, of_draws = rows.std(0, correction=0), draws.std(0, correction=0)
    is_usual = rows == rows.mode(0).values
    ratios = torch.where(is_usual.double().mean(0) >= OFTEN, of_draws / of_rows, ratios)
    return torch.where((~is_usual).sum(0) >= FEWEST_UNUSUAL, ratios, torch.ones_like(ratios)).cpu()


def accuracy(real: Tensor, fake: Tensor, seed: int = 0) -> float:
    """How often a small network tells rows apart that it was not trained on, as :func:`c2st`, in a second.

    Args:
        real: Rows with shape `(num_real, size)`.
        fake: Rows with shape `(num_fake, size)`.
        seed: The seed of the folds, of the first weights, and of noise as wide as what does not count as a difference.

    Returns:
        The accuracy with equal weights of both sets: 1/2 where they can not be told apart.
    """
    generator, scales = torch.Generator().manual_seed(seed), robust_scales(real)
    sets = [flattened_tails(rows, *scales) for rows in (real, fake)]
    rows = torch.cat([each + NEAR * torch.randn(each.shape, generator=generator, device="cpu") for each in sets])
    labels = torch.cat([torch.ones_like(sets[0][:, 0]), torch.zeros_like(sets[1][:, 0])])
    folds = torch.cat([torch.randperm(len(each), generator=generator, device="cpu") % 2 for each in sets])
    logits = out_of_fold(cross_fitted(rows, labels[None], folds, generator), rows, folds)[0]
    is_right = ((logits > 0) == (labels > 0.5)).double()
    return float((is_right[labels > 0.5].mean() + is_right[labels < 0.5].mean()) / 2)


def relative_coverage(real: Tensor, fake: Tensor) -> Coverage:
    """Density and coverage, in units of the data's spread, over what an exact model has in the mean.

    Args:
        real: Rows with shape `(num_real, size)`, more than 5.
        fake: Rows with shape `(num_fake, size)`.

    Returns:
        Both, 1 for an exact model.
    """
    scales = robust_scales(real)
    found = density_coverage(*(flattened_tails(rows, *scales) for rows in (real, fake)), num_neighbours=NUM_NEIGHBOURS)
    missed = 1.0
    for number in range(NUM_NEIGHBOURS):  # of the nearest rows of either set around a row, none is a draw
        missed *= (len(real) - 1 - number) / (len(real) + len(fake) - 1 - number)
    return Coverage(found.density, found.coverage / (1 - missed))


def different_share(rows: Tensor, scales: tuple[Tensor, Tensor]) -> float:
    """The share of rows that are left when copies of earlier ones are taken out.

    Args:
        rows: Rows with shape `(num_rows, size)`.
        scales: The columns' middles and spreads, by which rows are near to each other.
    """
    flat = _projected((double(rows) - scales[0]) / scales[1]).cpu()
    radius = SAME * math.sqrt(flat.shape[1])
    is_copy = torch.zeros_like(flat[:, 0], dtype=torch.bool)
    for start in range(0, len(flat), 256):
        near = torch.cdist(flat[start : start + 256], flat, compute_mode="donot_use_mm_for_euclid_dist") <= radius
        is_copy[start : start + 256] = near.tril(start - 1).any(1)
    return float((~is_copy).double().mean())


def copies(fake: Tensor, train: Tensor, real: Tensor) -> Copies:
    """Whether draws lie nearer to training rows than to held-out ones.

    Training rows and held-out ones have one distribution. So the nearest row of a draw is held out as often as rows
    are, whatever the model draws, unless it has seen the training rows and copies them.

    Args:
        fake: Draws with shape `(num_fake, size)`.
        train: The rows that the model was trained on, with shape `(num_train, size)`.
        real: Held-out rows with shape `(num_real, size)`.

    Returns:
        The share of copies, from 0 to 1, and a p-value. Draws as near to one as to the other are left out. The p-value
        counts each nearest row once: draws that have collapsed to a point tell no more than one of them.
    """
    from scipy.stats import binom

    scales = robust_scales(real)
    draws, seen, unseen = (_projected(flattened_tails(rows, *scales)) for rows in (fake, train, real))
    to_seen, to_unseen = (nearest(draws, rows, 1) for rows in (seen, unseen))
    is_open = (to_seen.distances != to_unseen.distances)[:, 0]
    is_unseen = (to_unseen.distances < to_seen.distances)[:, 0]
    due = len(unseen) / (len(seen) + len(unseen))
    if not bool(is_open.any()):
        return Copies(0.0, 1.0)
    share = float(is_unseen[is_open].double().mean())
    number = len(to_unseen.indices[is_unseen].unique())
    others = len(to_seen.indices[is_open & ~is_unseen].unique())
    return Copies(min(1.0, max(0.0, 1 - share / due)), float(binom.cdf(number, number + others, due)))


def _projected(rows: Tensor) -> Tensor:
    """Rows of many columns on random directions, which are always the same: copies are copies there too."""
    size = rows.shape[1]
    if size <= MOST_COLUMNS:
        return rows
    chance = torch.Generator().manual_seed(0)
    directions = torch.randn(size, MOST_COLUMNS, generator=chance, dtype=torch.float64, device="cpu")
    return rows @ (directions / math.sqrt(MOST_COLUMNS)).to(rows)


def strangeness(rows: Tensor, simulations: Tensor) -> Tensor:
    """How likely a simulation is to lie as far from all others as a row does.

    Args:
        rows: Observations with shape `(num_rows, size)`.
        simulations: Simulations with shape `(num_simulations, size)`, more than 5.

    Returns:
        P-values with shape `(num_rows,)`: the rank of a row's distance to its fifth neighbour among the simulations'.
    """
    scales = robust_scales(simulations)
    others = flattened_tails(simulations, *scales)
    usual = nearest(others, others, NUM_NEIGHBOURS + 1).distances[:, -1]  # a simulation is its own nearest
    found = nearest(flattened_tails(rows, *scales), others, NUM_NEIGHBOURS).distances[:, -1]
    return (1 + (usual >= found[:, None]).sum(1)).double() / (1 + len(others))


def separation(real_logits: Tensor, fake_logits: Tensor) -> float:
    """The probability that a real row's logit is above a fake one's, ties as halves: the area under the ROC curve.

    Args:
        real_logits: Logits with shape `(num_real,)`.
        fake_logits: Logits with shape `(num_fake,)`.
    """
    real, fake = real_logits.double().cpu(), fake_logits.double().cpu().sort().values
    below = torch.searchsorted(fake, real, right=False) + torch.searchsorted(fake, real, right=True)
    return float(below.double().mean() / (2 * len(fake)))
