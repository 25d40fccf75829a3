r"""Observations whose numbers may be repeated measurements: besides each number, how far they are spread.

Measurements of k features come as a row of n k numbers. What these say of a scale or of a correlation they say
together: by the deviation of each column,

.. math:: d_j^2 = \frac{1}{n} \sum_i (x_{ij} - \bar x_j)^2,

and by the correlations between columns, which a network would have to find out from products of single numbers. So, for
each number of columns up to four into which a row can be parted, while these are no more than its numbers, networks see
:math:`\log d_j` and the correlations behind the numbers themselves, of which nothing is lost. Numbers one after another
may be a series: of 16 or more they see the correlations with the next ones, too. Where what is below each other does
not lie alike, all these are 0. Rows of 64 numbers or more are seen as they are: networks learn statistics of them by
heart sooner than they find out what the numbers say besides.

References:
    Fearnhead and Prangle (2012), "Constructing Summary Statistics for Approximate Bayesian Computation", section 3:
    functions of the data, such as their powers, beside the data.
"""

from itertools import combinations
from typing import Any

import torch
from torch import Tensor
from torch.distributions.constraints import Constraint

from pyro_gan.auto.coordinates import LARGE, Coordinates
from pyro_gan.auto.spread import spread_of
from pyro_gan.players.supports import innermost

MOST_COLUMNS = 4
"""The most columns into which a row is parted."""

FEWEST_MEASUREMENTS = 3
"""The fewest numbers below each other."""

MOST_LAGS = 4
"""How many numbers later those are at most that a number is compared with."""

NUMBERS_A_LAG = 16
"""The numbers of a row for each of these."""

FEWEST_ROWS = 16
"""The rows from which on numbers can be seen to lie alike."""

UNLIKE = 0.25
"""How far apart quartiles may lie, in distances of the outer ones, beside what few rows leave open."""

SMALL = 0.005
"""The quantile of the first rows' deviations, a tenth of which counts as none."""

NARROW = 1e-3
"""The deviation below which a logarithm or a correlation differs from row to row by rounding alone."""


class Repeated(Coordinates):
    """The coordinates of a site, and behind them those of its columns' deviations and correlations.

    Args:
        name: The site's name.
        support: Its support.
        rows: The first rows, with shape `(num_rows, *event_shape)`.
        dtype: The coordinates' type.
        options: As of :class:`~pyro_gan.auto.coordinates.Coordinates`.

    Attributes:
        alike: 1 for each of these statistics whose columns lie alike in the first rows, else 0.
        least: The deviation that counts as none, in units of the numbers on the real line.
    """

    alike: Tensor
    least: Tensor

    def __init__(self, name: str, support: Constraint, rows: Tensor, dtype: torch.dtype, **options: Any) -> None:
        super().__init__(name, support, rows, dtype, **options)
        size, real = self.num_numbers, self.to_real(rows.detach())
        found = spread_of(real[real.isfinite().all(1), size:], bends=False)
        for into, values in zip(self.spread, found._replace(scale=found.scale.clamp_min(NARROW)), strict=True):
            into[size:] = values

    @property
    def num_numbers(self) -> int:
        """The numbers of a row, before the statistics."""
        return torch.Size(self.event_shape).numel()

    @property
    def columns(self) -> list[int]:
        """The numbers of columns into which a row is parted."""
        return possible_columns(self.num_numbers)

    def meet(self, rows: Tensor) -> None:
        numbers = super().to_real(rows).flatten(1)
        parted = [_parted(numbers, each) for each in self.columns]
        lie_alike = [_lie_alike(each) for each in parted]
        found = [each for each, is_alike in zip(parted, lie_alike, strict=True) if is_alike]
        self.register_buffer("least", _least_deviation(found, numbers))
        sizes = [_num_statistics(each, self.num_numbers) for each in self.columns]
        alike = [float(is_alike) for is_alike, size in zip(lie_alike, sizes, strict=True) for _ in range(size)]
        self.register_buffer("alike", numbers.new_tensor(alike))

    def to_real(self, rows: Tensor) -> Tensor:
        numbers = super().to_real(rows).flatten(1)
        statistics = torch.cat([self._statistics(_parted(numbers, each)) for each in self.columns], 1)
        return torch.cat([numbers, torch.where(self.alike > 0, statistics, 0.0)], 1)

    def crowded(self, rows: Tensor) -> list[tuple[int, float]]:
        return [(feature, part) for feature, part in super().crowded(rows) if feature < self.num_numbers]

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {int(self.alike.sum())} statistics of columns"

    def _statistics(self, parted: Tensor) -> Tensor:
        """The logarithms of columns' deviations, and correlations, with a row for each row.

        Args:
            parted: Rows in columns, with shape `(num_rows, num_measurements, num_columns)`.
        """
        unit = parted.detach().abs().amax(1).clamp_min(self.least)  # the square of a large number is infinite
        rest = parted / unit.unsqueeze(1)
        rest = rest - rest.mean(1, keepdim=True)
        products = rest.mT @ rest / parted.shape[1]
        floor = (self.least / unit).square().clamp_min(torch.finfo(parted.dtype).eps ** 2)
        variances = products.diagonal(0, 1, 2) + floor
        found = [unit.log() + variances.log() / 2]
        if parted.shape[2] > 1:
            inverse = variances.rsqrt()
            pairs = combinations(range(parted.shape[2]), 2)
            found.append(torch.stack([products[:, i, j] * inverse[:, i] * inverse[:, j] for i, j in pairs], 1))
        elif lags := range(1, 1 + _num_lags(self.num_numbers)):
            found.append(torch.cat([(rest[:, lag:] * rest[:, :-lag]).mean(1) for lag in lags], 1) / variances)
        return torch.cat(found, 1)


def can_be_parted(site: Coordinates, support: Constraint) -> bool:
    """Whether what is seen of a site are its numbers, and so many that some may lie below each other.

    Args:
        site: Its coordinates.
        support: Its support.
    """
    has_own_look = site.categories or site.kinds or site.has_odds
    are_single = innermost(support).event_dim == 0
    return are_single and not has_own_look and bool(possible_columns(torch.Size(site.event_shape).numel()))


def possible_columns(size: int) -> list[int]:
    """The numbers of columns into which a row is parted, with no more statistics than numbers.

    Args:
        size: The numbers of a row; of many, as large sites and images have, there are none.
    """
    if size >= LARGE:
        return []
    found: list[int] = []
    total = 0
    for each in range(1, MOST_COLUMNS + 1):
        number = _num_statistics(each, size)
        if size % each == 0 and size >= each * FEWEST_MEASUREMENTS and total + number <= size:
            found.append(each)
            total += number
    return found


def _num_statistics(num_columns: int, size: int) -> int:
    """How many statistics a row of so many numbers has by so many columns."""
    return num_columns * (num_columns + 1) // 2 + (_num_lags(size) if num_columns == 1 else 0)


def _num_lags(size: int) -> int:
    """How many of the next numbers those of a row are compared with."""
    return min(MOST_LAGS, size // NUMBERS_A_LAG)


def _parted(numbers: Tensor, num_columns: int) -> Tensor:
    """Rows in columns, with shape `(num_rows, num_measurements, num_columns)`."""
    return numbers.reshape(len(numbers), numbers.shape[1] // num_columns, num_columns)


def _lie_alike(parted: Tensor) -> bool:
    """Whether the numbers of each column have about the same quartiles."""
    if len(parted) < FEWEST_ROWS:
        return False
    ordered = parted.sort(0).values
    quartiles = torch.stack([ordered[int(part * (len(ordered) - 1))] for part in (0.25, 0.5, 0.75)])
    typical = quartiles.median(1, keepdim=True).values
    most = UNLIKE + 4 / len(parted) ** 0.5
    return bool(((quartiles - typical).abs() <= most * (typical[2] - typical[0])).all())


def _least_deviation(parted: list[Tensor], like: Tensor) -> Tensor:
    """A tenth of a small deviation of columns; 1 where all are 0."""
    deviations = [each.double().std(1, correction=0).flatten() for each in parted]
    found = torch.cat([like.new_zeros(0, dtype=torch.float64), *deviations])
    found = found[(found > 0) & found.isfinite()].sort().values
    least = found[int(SMALL * len(found))] / 10 if len(found) else found.new_ones(())
    return least.to(like.dtype).clamp_min(torch.finfo(like.dtype).tiny)
