r"""Latents beside what the observation tells of them at once: their linear regression on it.

Standardized numbers v of a row's latents, and u of its observation, are related in draws of the model by

.. math:: v = [b + B u] + s L r,

with b and B by least squares, and L the lower triangular root of the residuals' covariance. For given u, v and r are
one to one: so a discriminator that sees (r, u) judges as one that sees (v, u), and a guide that draws r draws v. But r
is of size 1 however much narrower than its prior the posterior is, and in whichever direction.

Of latents that come back at the ends of an interval, [ ] keeps the line between these: an observation that points
beyond the prior speaks for its edge, the more the farther (s; 1 in between). For others, and where the line tells more
without ends (:mod:`pyro_gan.auto.lines`), both do nothing.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pyro_gan.auto.coordinates import Coordinates
from pyro_gan.auto.embedded import Embedded
from pyro_gan.auto.ends import Ends
from pyro_gan.auto.lines import fitted, identity
from pyro_gan.auto.moments import Moments
from pyro_gan.auto.networks import flat
from pyro_gan.auto.pooling import summary, summary_size
from pyro_gan.auto.repeated import Repeated
from pyro_gan.auto.spread import on_a_line
from pyro_gan.players.player import fill_in

MOST_NUMBERS = 64
"""The numbers of a row, of latents and of the observations each, up to which they are related."""

MoreDraws = Callable[[], Iterable[Mapping[str, Tensor]]]
"""Gives draws of the model in pieces, by site, each with shape `(num_rows, *event_shape)`."""

ROWS_A_NUMBER = 4
"""The rows of which there are as many for each of these numbers, at least, where they are related."""


class Regression(nn.Module):
    """The map from numbers of latents to residuals of size 1, and back; the identity at first.

    Args:
        num_latents: The numbers of a row's latents.
        num_observed: The numbers of its observation.
        like: A tensor whose type and device the map has.
    """

    slope: Tensor
    center: Tensor
    root: Tensor
    inverse: Tensor

    fields: ClassVar[tuple[str, ...]] = ("slope", "center", "root", "inverse")
    later_format: ClassVar[int] = 2

    def __init__(self, num_latents: int, num_observed: int, like: Tensor) -> None:
        super().__init__()
        self.register_buffer("slope", like.new_zeros(num_observed, num_latents))
        self.register_buffer("center", like.new_zeros(num_latents))
        self.register_buffer("root", torch.eye(num_latents, dtype=like.dtype, device=like.device))
        self.register_buffer("inverse", self.root.clone())
        self.ends = Ends(num_latents, like)
        self.moments = Moments(num_latents, num_observed, like)

    @torch.no_grad()
    def learn(self, latents: Tensor, observed: Tensor, ends: tuple[Tensor, Tensor], sites: Sequence[Any] = ()) -> None:
        """Fit it to draws of the model; too few, or such that are not finite, leave it as it is.

        Args:
            latents: The numbers of the latents, with shape `(num_rows, num_latents)`.
            observed: Those of the observations, with shape `(num_rows, num_observed)`.
            ends: The lower and the upper ends of the latents' numbers, with shape `(num_latents,)` each.
            sites: The observations' coordinates or views: of few draws, statistics of numbers are left out.
        """
        numbers, given = latents.double(), observed.double()
        is_finite = torch.cat([numbers, given], 1).isfinite().all(1)
        numbers, given = numbers[is_finite], given[is_finite]
        varying = given.amax(0) > given.amin(0) if len(given) else given.new_zeros(given.shape[1], dtype=torch.bool)
        are_numbers = torch.tensor(_are_numbers(sites) or [True] * given.shape[1], device=given.device)
        most = len(numbers) // ROWS_A_NUMBER - numbers.shape[1] - 1
        used = next((each for each in (varying, varying & are_numbers) if 0 < each.sum() <= most), None)
        if used is None:
            return
        given = given[:, used]
        at = given.mean(0)
        line = fitted(numbers, given - at, ends)
        inverse = torch.linalg.solve_triangular(line.root, identity(len(line.root), line.root), upper=False)
        self.ends.load_state_dict(line.ends.state_dict())
        slope = torch.zeros_like(self.slope, dtype=line.slope.dtype)
        slope[used] = line.slope
        for name, value in zip(self.fields, (slope, line.middle - at @ line.slope, line.root, inverse), strict=True):
            getattr(self, name).copy_(value)

    @torch.no_grad()
    def learn_moments(self, pieces: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Fit means and deviations of what the line leaves to many draws of the model.

        Args:
            pieces: For a part of the draws each, the numbers of the latents, with shape `(num_rows, num_latents)`, and
                those of the observations, with shape `(num_rows, num_observed)`. Without any, nothing changes.
        """
        if found := list(pieces):
            numbers, given = map(torch.cat, zip(*found, strict=True))
            self.moments.learn(self._beside_line(numbers, given), given)

    def residuals(self, numbers: Tensor, given: Tensor) -> Tensor:
        """What is left of latents, with shape `(*, num_rows, num_latents)`.

        Args:
            numbers: The numbers of the latents, likewise.
            given: Those of the observations, with shape `(num_rows, num_observed)`.
        """
        return self.moments.standardized(self._beside_line(numbers, given), given)

    def forward(self, residuals: Tensor, given: Tensor) -> Tensor:
        """The numbers of latents, with shape `(*, num_rows, num_latents)`.

        Args:
            residuals: What is left of them, likewise.
            given: The numbers of the observations, with shape `(num_rows, num_observed)`.
        """
        line, factors = self._line(given)
        rest = self.moments(residuals, given) @ self.root.T
        return line + (rest if factors is None else factors * rest)

    def _beside_line(self, numbers: Tensor, given: Tensor) -> Tensor:
        """What the line leaves of latents, with shape `(*, num_rows, num_latents)`."""
        line, factors = self._line(given)
        rest = numbers - line
        return (rest if factors is None else rest / factors) @ self.inverse.T

    def _line(self, given: Tensor) -> tuple[Tensor, Tensor | None]:
        """Points of the line, and how much nearer to them draws are where there are ends."""
        line = self.center + given @ self.slope
        return self.ends(line) if self.ends.may_act() else (line, None)

    def extra_repr(self) -> str:
        return f"{self.slope.shape[1]} numbers of latents on {self.slope.shape[0]} of observations"

    @property
    def later_buffers(self) -> dict[str, Tensor]:
        """What states have not that were saved before anything was related, and the values that change nothing."""
        zero, one = self.slope.new_zeros(()), identity(len(self.center), self.center)
        return {"slope": zero, "center": zero, "root": one, "inverse": one}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        fill_in(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)


def numbers_of(sites: Sequence[Any], seen: Sequence[Tensor]) -> Tensor:
    """The numbers of observations that latents are related to, with a row for each row.

    Args:
        sites: The sites' coordinates or views.
        seen: What is seen of each site's rows, with shape `(num_rows, *shape)`.
    """
    numbers = [
        flat(on_a_line(each, site.spread)) if isinstance(site, Coordinates) else summary(site, each)
        for site, each in zip(sites, seen, strict=True)
    ]
    return torch.cat([each[:, part] for each, part in zip(numbers, _related(sites), strict=True)], 1)


def are_fixed(sites: Sequence[Any]) -> bool:
    """Whether what latents are related to stays as it is along a run, as features of an embedding do not.

    Args:
        sites: The sites' coordinates or views.
    """
    return not any(isinstance(site, Embedded) for site in sites)


def num_related(sites: Sequence[Any]) -> int:
    """How many these are.

    Args:
        sites: The sites' coordinates or views.
    """
    return _number(sites, _related(sites))


def _related(sites: Sequence[Any]) -> list[slice]:
    """The parts of sites that latents are related to: all where these are few enough, else none of the statistics."""
    everything = [slice(None)] * len(sites)
    numbers = [slice(site.num_numbers if isinstance(site, Repeated) else None) for site in sites]
    return everything if _number(sites, everything) <= MOST_NUMBERS else numbers


def _are_numbers(sites: Sequence[Any]) -> list[bool]:
    """Of what latents are related to, which is no statistic."""
    found: list[bool] = []
    for site, part in zip(sites, _related(sites), strict=True):
        size = summary_size(site)
        num_numbers = site.num_numbers if isinstance(site, Repeated) else size
        found += [at < num_numbers for at in range(size)[part]]
    return found


def _number(sites: Sequence[Any], parts: Sequence[slice]) -> int:
    return sum(len(range(summary_size(site))[part]) for site, part in zip(sites, parts, strict=True))


def ends_of(sites: Sequence[Coordinates]) -> tuple[Tensor, Tensor]:
    """The ends of latents' numbers side by side, lower and upper ones.

    Args:
        sites: The latents' coordinates.
    """
    lower, upper = zip(*(site.ends() for site in sites), strict=True)
    return torch.cat([each.flatten() for each in lower]), torch.cat([each.flatten() for each in upper])


def regression_of(num_latents: int, num_observed: int, like: Tensor) -> Regression | None:
    """A regression where the numbers are few enough; else none.

    Args:
        num_latents: The numbers of a row's latents.
        num_observed: The numbers of its observation.
        like: A tensor whose type and device it has.
    """
    is_small = 0 < num_latents <= MOST_NUMBERS and 0 < num_observed <= MOST_NUMBERS
    return Regression(num_latents, num_observed, like) if is_small else None
