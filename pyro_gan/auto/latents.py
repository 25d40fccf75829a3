"""A look at a Pyro model: its latent sites, their plates, and what they are like under the prior.

A latent is drawn for each row, if it lies in the plate of the rows, or once for all rows. The plate of the rows is the
outermost one around an observed, deterministic or Delta site. In a model without plates, what has as many entries as
the data is drawn for each row.
"""

import math
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from typing import Any, NamedTuple

import torch
from pyro import poutine
from torch import Tensor
from torch.distributions.constraints import Constraint

from pyro_gan.auto.coordinates import fixed_support, has_bijection, have_same_bounds
from pyro_gan.checks import listed
from pyro_gan.players.calls import Arguments
from pyro_gan.players.first_look import kept_buffers
from pyro_gan.players.handler import is_random_variable

PRIOR_ROWS = 256
"""The number of prior draws of latents that each row has, from which mean and standard deviation are taken."""

PRIOR_RUNS = 64
"""The largest number of the model's runs for them, and the number of draws of latents that all rows share."""


class Latent(NamedTuple):
    """A latent site."""

    name: str
    support: Constraint
    """With bounds that hold for each row."""
    draws: Tensor
    """Prior draws, with shape `(num_draws, *shape)`: of a row, or of the whole site where all rows share it."""
    has_rows: bool
    num_batch_dims: int
    event_dim: int
    plates: tuple[Any, ...]
    """The frames of its plates."""


class Prototype(NamedTuple):
    """What a look at a model tells."""

    latents: list[Latent]
    observed: dict[str, Any]
    """The messages of the sites that are not latent, by name."""
    row_plate: Any
    """The frame of the plate of the rows; `None` where there is none."""


def look_at(
    model: Callable[..., Any], arguments: Arguments, num_rows: int | None, data: Collection[str] = ()
) -> Prototype:
    """Run a model a few times, without gradients, and see what is latent.

    Args:
        model: The model.
        arguments: How it is called.
        num_rows: The number of rows of data; `None` where there are none.
        data: Names that are no latent sites.

    Raises:
        ValueError: There is no latent site, or one is discrete, has no bijection from the real line to its support, has
            a support that depends on others, or lies in a sequential plate or in one outside that of the rows.
    """
    runs = _runs(model, arguments)
    first = next(runs)
    observed = {name: site for name, site in first.items() if name in data or _is_data(site)}
    latent = {name: site for name, site in first.items() if name not in observed}
    if not latent:
        raise ValueError(
            f"the model has no latent sites: {listed(observed) or 'none'} are observed, deterministic or "
            "Delta. A guide draws what the data do not show; to fit the model alone use GANInference."
        )
    for name, site in latent.items():
        _check(name, site)
    row_plate = _row_plate(list(latent.values()), list(observed.values()), num_rows)
    sizes = _sizes(list(observed.values()), num_rows)
    has_rows = {name: _has_rows(name, site, row_plate, sizes) for name, site in latent.items()}
    enough = _number_of_runs([site["value"] if has_rows[name] else None for name, site in latent.items()])
    drawn = [latent] + [{name: run[name] for name in latent} for run in islice(runs, enough - 1)]
    latents = [_latent(name, [run[name] for run in drawn], has_rows[name]) for name in latent]
    return Prototype(latents, observed, row_plate)


def _runs(model: Callable[..., Any], arguments: Arguments) -> Iterator[dict[str, Any]]:
    """The random variables of one run after another, which outer effect handlers do not see."""
    while True:
        with poutine.block(), kept_buffers(), torch.no_grad():
            trace = poutine.trace(model).get_trace(*arguments.args, **arguments.kwargs)
        nodes = trace.nodes.items()
        yield {name: site for name, site in nodes if site["type"] == "sample" and is_random_variable(site)}


def _is_data(site: Any) -> bool:
    """Whether a site is observed, deterministic or Delta."""
    distribution = site["fn"]
    while hasattr(distribution, "base_dist"):
        distribution = distribution.base_dist
    return bool(site["is_observed"] or type(distribution).__name__ == "Delta")


def _check(name: str, site: Any) -> None:
    support = site["fn"].support
    if support.is_discrete:
        raise ValueError(
            f"the latent site {name!r} is discrete ({support}), but draws of noise through a network are continuous. "
            f"Sum it out of the model, or hide it from the guide: AutoImplicitGuide(poutine.block(model, "
            f"hide=[{name!r}]))."
        )
    if not has_bijection(support):
        raise ValueError(
            f"the latent site {name!r} has the support {support}, to which torch has no bijection from the real line. "
            "Draw another site, such as a normal one, and compute this one from it with pyro.deterministic."
        )
    if not all(frame.vectorized for frame in site["cond_indep_stack"]):
        raise ValueError(
            f"the latent site {name!r} lies in a sequential pyro.plate. Use it as a context, with pyro.plate(...)."
        )


def _sizes(observed: list[Any], num_rows: int | None) -> set[int | None]:
    """The numbers that can be that of rows."""
    return {num_rows, *(len(site["value"]) for site in observed if site["value"].dim())} - {None}


def _row_plate(latent: list[Any], observed: list[Any], num_rows: int | None) -> Any:
    """The frame of the plate of the rows: the outermost around data, preferably one with as many rows."""
    around_data, around_latents = (
        [frame for site in sites for frame in site["cond_indep_stack"] if frame.vectorized]
        for sites in (observed, latent)
    )
    sizes = _sizes(observed, num_rows)
    candidates = (
        [frame for frame in around_data if num_rows in (frame.size, frame.full_size)],
        around_data,
        [frame for frame in around_latents if {frame.size, frame.full_size} & sizes],
    )
    frames = next(filter(None, candidates), [])
    return min(frames, key=lambda frame: frame.dim, default=None)


def _has_rows(name: str, site: Any, row_plate: Any, sizes: set[int | None]) -> bool:
    """Whether each row has a value of its own."""
    value, frames = site["value"], site["cond_indep_stack"]
    if row_plate is None:
        return not frames and value.dim() > 0 and len(value) in sizes
    if row_plate.name not in {frame.name for frame in frames}:
        return False
    if value.dim() - site["fn"].event_dim != -row_plate.dim:
        raise ValueError(
            f"the latent site {name!r} has dimensions left of those of the rows' plate {row_plate.name!r}. "
            "Make the rows' plate the outermost, the one with the smallest dim."
        )
    return True


def _number_of_runs(of_rows: list[Tensor | None]) -> int:
    """The number of runs, given the values of the latents that each row has, and `None` for the others."""
    if any(value is None for value in of_rows):
        return PRIOR_RUNS
    return min(PRIOR_RUNS, math.ceil(PRIOR_ROWS / min(len(value) for value in of_rows if value is not None)))


def _latent(name: str, sites: list[Any], has_rows: bool) -> Latent:
    first = sites[0]
    values = [site["value"] for site in sites]
    draws = torch.cat(values) if has_rows else torch.stack(values)
    supports = [fixed_support(site["fn"].support, tuple(draws.shape[1:])) for site in sites]
    support = supports[0]
    if support is None or not all(other is not None and have_same_bounds(support, other) for other in supports):
        raise ValueError(
            f"the support of the latent site {name!r} depends on other sites, or differs between rows. "
            "Draw it on a fixed interval, and compute what depends on others with pyro.deterministic."
        )
    num_batch_dims = first["value"].dim() - first["fn"].event_dim
    return Latent(name, support, draws, has_rows, num_batch_dims, first["fn"].event_dim, first["cond_indep_stack"])
