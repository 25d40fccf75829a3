r"""Observations whose numbers may be repeated measurements: besides each number, how far they are spread.

Measurements of k features come as a row of n k numbers. What these say of a scale or of a correlation they say
together: by the deviation of each column,

.. math:: d_j^2 = \frac{1}{n} \sum_i (x_{ij} - \bar x_j)^2,

and by the correlations between columns, which a network would have to find out from products of single numbers. So, for
each number of columns up to four into which a row can be parted such that what is below each other lies alike, networks
see :math:`\log d_j` and the correlations behind the numbers themselves, of which nothing is lost.

References:
    Fearnhead and Prangle (2012), "Constructing Summary Statistics for Approximate Bayesian Computation", section 3:
    functions of the data, such as their powers, beside the data.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.distributions.constraints import Constraint

from pyro_gan.auto.coordinates import Coordinates
from pyro_gan.players.supports import innermost

MOST_NUMBERS = 64
"""The numbers of a row up to which latents are related to each of them; to more, by what columns say together."""

MOST_COLUMNS = 4
"""The most columns into which a row is parted."""

FEWEST_MEASUREMENTS = 3
"""The fewest numbers below each other."""

FEWEST_ROWS = 16
"""The rows from which on they can be seen to lie alike."""

UNLIKE = 0.25
"""How far apart quartiles may lie, in distances of the outer ones, beside what few rows leave open."""

SMALL = 0.005
"""The quantile of the first rows' deviations, a tenth of which counts as none."""


class Repeats(NamedTuple):
    """How a row is parted."""

    columns: tuple[int, ...]
    """The numbers of columns."""
    least: float
    """The deviation that counts as none, in units of the numbers on the real line."""

    @classmethod
    def of(cls, told: Sequence[Any] | None) -> Self | None:
        """As a state tells it."""
        return None if told is None else cls(tuple(told[0]), told[1])


class Repeated(Coordinates):
    """The coordinates of a site, and behind them those of its columns' deviations and correlations.

    Args:
        repeats: How a row is parted.
        name: The site's name.
        support: Its support.
        rows: The first rows, with shape `(num_rows, *event_shape)`.
        dtype: The coordinates' type.
        options: As of :class:`~pyro_gan.auto.coordinates.Coordinates`.
    """

    def __init__(
        self, repeats: Repeats, name: str, support: Constraint, rows: Tensor, dtype: torch.dtype, **options: Any
    ) -> None:
        self.repeats = repeats
        super().__init__(name, support, rows, dtype, **options)

    @property
    def num_related(self) -> int:
        """How many of its coordinates latents are related to."""
        return self.size - (self.num_numbers if self.num_numbers > MOST_NUMBERS else 0)

    @property
    def num_numbers(self) -> int:
        """The numbers of a row."""
        return torch.Size(self.event_shape).numel()

    def related(self, rows: Tensor) -> Tensor:
        """What latents are related to, along a line, with shape `(num_rows, num_related)`.

        Args:
            rows: Rows, with shape `(num_rows, *event_shape)`.
        """
        return self.on_a_line(rows)[:, self.size - self.num_related :]

    def to_real(self, rows: Tensor) -> Tensor:
        numbers = super().to_real(rows).flatten(1)
        columns, least = self.repeats
        means = [_parted(numbers, columns[-1]).mean(1)] if numbers.shape[1] > MOST_NUMBERS else []
        return torch.cat(
            [numbers, *means, *(_deviations_and_correlations(_parted(numbers, each), least) for each in columns)], 1
        )

    def crowded(self, rows: Tensor) -> list[tuple[int, float]]:
        return [(feature, part) for feature, part in super().crowded(rows) if feature < self.num_numbers]

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, with the deviations of columns by {', '.join(map(str, self.repeats.columns))}"


def repeats_of(site: Coordinates, rows: Tensor) -> Repeats | None:
    """How a site's rows are parted; `None` where nothing in them lies alike, or all of it is one number.

    Args:
        site: Its coordinates.
        rows: The first rows, with shape `(num_rows, *event_shape)`.
    """
    possible = _possible(rows.shape[1:].numel())
    has_own_look = site.is_image or site.categories or site.kinds or site.has_odds
    is_simplex = site.support is not None and innermost(site.support).event_dim > 0
    if not possible or has_own_look or is_simplex or len(rows) < FEWEST_ROWS:
        return None
    numbers = site.to_real(rows.detach()).flatten(1)
    columns = [each for each in possible if _lie_alike(_parted(numbers, each))]
    deviations = [_parted(numbers, each).double().std(1, correction=0).flatten() for each in columns]
    positive = torch.cat([numbers.new_zeros(0, dtype=torch.float64), *deviations])
    positive = positive[(positive > 0) & positive.isfinite()].sort().values
    if not len(positive):
        return None
    return Repeats(tuple(columns), float(positive[int(SMALL * len(positive))]) / 10)


def _possible(size: int) -> list[int]:
    """The numbers of columns of a row of so many numbers; fewer where a regression would have too many numbers."""
    found: list[int] = []
    for each in range(1, MOST_COLUMNS + 1):
        total = size + sum(number * (number + 1) // 2 for number in (*found, each))
        is_too_much = size <= MOST_NUMBERS < total
        if size % each == 0 and size >= each * FEWEST_MEASUREMENTS and not is_too_much:
            found.append(each)
    return found


def _parted(numbers: Tensor, num_columns: int) -> Tensor:
    """Rows in columns, with shape `(num_rows, num_measurements, num_columns)`."""
    return numbers.reshape(len(numbers), -1, num_columns)


def _lie_alike(parted: Tensor) -> bool:
    """Whether the numbers of each column have about the same quartiles."""
    ordered = parted.sort(0).values
    quartiles = torch.stack([ordered[int(part * (len(ordered) - 1))] for part in (0.25, 0.5, 0.75)])
    typical = quartiles.median(1, keepdim=True).values
    most = UNLIKE + 4 / len(parted) ** 0.5
    return bool(((quartiles - typical).abs() <= most * (typical[2] - typical[0])).all())


def _deviations_and_correlations(parted: Tensor, least: float) -> Tensor:
    """The logarithms of columns' deviations, and the correlations of each two, with a row for each row."""
    rest = parted - parted.mean(1, keepdim=True)
    unit = rest.detach().abs().amax((1, 2), keepdim=True).clamp_min(least)  # the square of a large number is infinite
    rest, unit = rest / unit, unit.squeeze(1)
    variances = rest.square().mean(1) + (least / unit).square()
    first, second = torch.triu_indices(parted.shape[2], parted.shape[2], 1, device=parted.device)
    products = (rest[..., first] * rest[..., second]).mean(1)
    correlations = products * (variances[:, first] * variances[:, second]).rsqrt()
    return torch.cat([unit.log() + variances.log() / 2, correlations], 1)
