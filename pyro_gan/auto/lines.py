r"""Lines by which observations tell of latents: by least squares, or between the ends of an interval.

Least squares alone have a line bend off before it gets to the end of an interval, since latents do not go beyond. A
line between ends is that of truncated regression, fitted to the means of what is cut there
(:mod:`pyro_gan.auto.ends`): under a flat prior it is the one that made the observations. It supposes residuals that are
nearly normal, number by number. Where they are not, as where an observation tells a difference of two latents and
neither of them, it loses what least squares had. So latents whose line goes beyond their ends are given these one after
the other, and keep them unless the draws speak against it by their density.

References:
    Amemiya (1973), "Regression Analysis when the Dependent Variable is Truncated Normal".
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from pyro_gan.auto.ends import NARROWEST, Ends

RIDGE = 1e-6
"""What is added to the observations' variances, of about 1."""

ROUNDS = 50
"""How often a line between ends is drawn anew, by what the last one left."""

WIDEST = 2.0
"""The largest deviation beside a line between ends, in that beside the line without."""

FARTHEST = 4.0
"""The deviations up to which a row counts for how latents are spread beside a line between ends."""

ODD = 0.01
"""The part of rows that may lie anywhere, whatever a line says."""

DOUBT = 2.0
"""The standard errors by which densities must be larger without ends."""


class Line(NamedTuple):
    """A line, and how latents are spread beside it: slope, middle, and the root of the residuals' covariance."""

    ends: Ends
    slope: Tensor
    middle: Tensor
    root: Tensor

    def log_densities(self, numbers: Tensor, given: Tensor, ends: Tensor) -> Tensor:
        """Of each row, where what lies beyond the ends comes back, number by number; a few rows may be odd.

        Args:
            numbers: The numbers of the latents, with shape `(num_rows, num_latents)`.
            given: Those of the observations, centered, with shape `(num_rows, num_observed)`.
            ends: The lower and the upper ends, with shape `(2, num_latents)`.
        """
        line, factors = self.ends(self.middle + given @ self.slope)
        standard = torch.linalg.solve_triangular(self.root, ((numbers - line) / factors).T, upper=False).T
        logs = -(standard**2 + math.log(2 * math.pi)) / 2 - factors.log() - self.root.diag().log()
        variances = (factors * self.root.norm(dim=1)) ** 2
        for end in ends:
            logs = logs + softplus(-2 * (end - numbers) * (end - line) / variances)
        anywhere = -(numbers.amax(0) - numbers.amin(0)).clamp(min=NARROWEST).log().sum()
        return torch.logaddexp(logs.sum(1) + math.log(1 - ODD), anywhere + math.log(ODD))


def fitted(numbers: Tensor, given: Tensor, ends: tuple[Tensor, Tensor]) -> Line:
    """The line of latents on observations, of which those have ends that the draws do not speak against.

    Args:
        numbers: The numbers of the latents, with shape `(num_rows, num_latents)`.
        given: Those of the observations, centered, with shape `(num_rows, num_observed)`.
        ends: The lower and the upper ends, infinite where there are none, with shape `(num_latents,)` each.
    """
    both = torch.stack(ends).to(numbers)
    has_ends = torch.zeros(numbers.shape[1], dtype=torch.bool, device=numbers.device)
    best = _between(numbers, given, _where(has_ends, both))
    logs, points = best.log_densities(numbers, given, both), best.middle + given @ best.slope
    for latent in ((points < both[0]) | (points > both[1])).any(0).nonzero().flatten():
        has_ends[latent] = True
        line = _between(numbers, given, _where(has_ends, both))
        others = line.log_densities(numbers, given, both)
        loss = logs - others
        if loss.mean() <= DOUBT * loss.std() / math.sqrt(len(loss)):
            best, logs = line, others
        else:
            has_ends[latent] = False
    return best


def _between(numbers: Tensor, given: Tensor, ends: Tensor) -> Line:
    """A line by least squares of what it leaves when it is cut at the ends, time and again."""
    of_ends = Ends(numbers.shape[1], numbers)
    of_ends.move(*ends)
    gram = given.T @ given / len(given) + RIDGE * identity(given.shape[1], given)
    by_rows = torch.linalg.solve(gram, given.T) / len(given)
    slope, middle = by_rows @ numbers, numbers.mean(0)
    plain = of_ends.measure(numbers - middle - given @ slope)
    for _ in range(ROUNDS if of_ends.are_finite() else 0):
        means, factors = of_ends.moments(middle + given @ slope)
        rest = numbers - means
        of_ends.measure(rest, factors, widest=WIDEST * plain)
        slope, middle = slope + by_rows @ rest, middle + rest.mean(0)
    line, factors = of_ends(middle + given @ slope)
    farthest = torch.where(ends.isfinite().any(0), FARTHEST * of_ends.deviation, torch.inf)
    rest = ((numbers - line) / factors).clamp(-farthest, farthest)
    covariance = rest.T @ rest / len(rest) + NARROWEST**2 * identity(numbers.shape[1], rest)
    return Line(of_ends, slope, middle, torch.linalg.cholesky(covariance))


def _where(has_ends: Tensor, ends: Tensor) -> Tensor:
    """The ends of those latents that have some, and infinite ones."""
    return torch.where(has_ends, ends, torch.tensor([[-torch.inf], [torch.inf]]).to(ends))


def identity(size: int, like: Tensor) -> Tensor:
    """The identity matrix, with the type and device of another tensor."""
    return torch.eye(size, dtype=like.dtype, device=like.device)
