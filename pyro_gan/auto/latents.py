"""A look at a Pyro model: its latent sites, their plates, and what they are like under the prior.

A latent is drawn for each row, if it lies in the plate of the rows, or once for all rows. The plate of the rows is the
outermost one around an observed, deterministic or Delta site. In a model without plates, what has as many entries as
the data is drawn for each row. Where a run of the model makes a single row, as the data tell, every latent is a row's.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

import torch
from pyro import poutine
from torch import Tensor
from torch.distributions.constraints import Constraint

from pyro_gan.auto.labels import MOST_VALUES, number_of_values
from pyro_gan.checks import listed
from pyro_gan.players.calls import Arguments
from pyro_gan.players.dependence import Kind, data_sites, dependence
from pyro_gan.players.discrete import is_finite
from pyro_gan.players.first_look import kept_buffers
from pyro_gan.players.handler import drawn_shape, is_one_of, is_random_variable
from pyro_gan.players.supports import fixed_support, has_bijection, have_same_bounds, innermost

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

    @property
    def is_discrete(self) -> bool:
        """Whether it has finitely many values."""
        return bool(self.support.is_discrete)


class Prototype(NamedTuple):
    """What a look at a model tells."""

    latents: list[Latent]
    observed: dict[str, Any]
    """The messages of the sites that are not latent, by name."""
    row_plate: Any
    """The frame of the plate of the rows; `None` where there is none."""


def look_at(
    model: Callable[..., Any],
    arguments: Arguments,
    rows: Mapping[str, Tensor],
    declared: Collection[str] = (),
    given: Collection[str] = (),
) -> Prototype:
    """Run a model a few times, without gradients, and see what is latent.

    Args:
        model: The model.
        arguments: How it is called.
        rows: The data by name, each with shape `(num_rows, *event_shape)`.
        declared: Sites that the user says are data.
        given: Names by which the guide is called, which are no latent sites either.

    Raises:
        ValueError: There is no latent site, or one is discrete with too many values, has no bijection from the real
            line to its support, has a support that depends on others, or lies in a sequential plate or in one outside
            that of the rows.
    """
    num_rows = next((len(values) for values in rows.values()), None)
    runs = _runs(model, arguments)
    first = next(runs)
    kinds = {name: _kind(site) for name, site in first.items()}
    data = {*given, *data_sites(kinds, lambda: dependence(model, arguments), {*declared, *given} & set(first))}
    observed = {name: site for name, site in first.items() if name in data}
    latent = {name: site for name, site in first.items() if name not in data and kinds[name] is not Kind.COMPUTED}
    latent = {name: site for name, site in latent.items() if not site["infer"].get("enumerate")}
    _check_any(latent, first, kinds)
    for name, site in latent.items():
        _check(name, site)
    if are_single(observed, rows):
        drawn = [latent] + [{name: run[name] for name in latent} for run in islice(runs, PRIOR_RUNS - 1)]
        return Prototype([_latent_of_a_row(name, [run[name] for run in drawn]) for name in latent], observed, None)
    row_plate = _row_plate(list(latent.values()), list(observed.values()), num_rows)
    sizes = _sizes(list(observed.values()), num_rows)
    has_rows = {name: _has_rows(name, site, row_plate, sizes) for name, site in latent.items()}
    enough = _number_of_runs([site["value"] if has_rows[name] else None for name, site in latent.items()])
    drawn = [latent] + [{name: run[name] for name in latent} for run in islice(runs, enough - 1)]
    latents = [_latent(name, [run[name] for run in drawn], has_rows[name]) for name in latent]
    return Prototype(latents, observed, row_plate)


def are_single(observed: Mapping[str, Any], rows: Mapping[str, Tensor]) -> bool:
    """Whether a run of the model makes a single row of the data.

    Args:
        observed: The messages of the sites that are data, by name.
        rows: The data by name; one that has no site's name is the only site's.
    """
    only = next(iter(rows.values()), None) if len(rows) == len(observed) == 1 else None
    pairs = [(rows.get(name, only), drawn_shape(site)) for name, site in observed.items()]
    known = [is_one_of(values, shape) for values, shape in pairs if values is not None]
    return bool(known) and all(known)


def _check_any(latent: Mapping[str, Any], found: Mapping[str, Any], kinds: Mapping[str, Kind]) -> None:
    if latent:
        return
    if any(kind is Kind.RANDOM for kind in kinds.values()) and Kind.OBSERVED not in kinds.values():
        last = [name for name, kind in kinds.items() if kind is Kind.RANDOM][-1]
        raise ValueError(
            f"the data hold all of the model's sites, {listed(found)}, and the model observes none, so that nothing "
            f"tells which is the observation. Name it: AutoImplicitGuide(model, observed={last!r})."
        )
    raise ValueError(
        f"the model has no latent sites: {listed(found) or 'none'} are observed, deterministic or "
        "Delta. A guide draws what the data do not show; to fit the model alone use GANInference."
    )


def _runs(model: Callable[..., Any], arguments: Arguments) -> Iterator[dict[str, Any]]:
    """The random variables of one run after another, which outer effect handlers do not see."""
    while True:
        with poutine.block(), kept_buffers(), torch.no_grad():
            trace = poutine.trace(model).get_trace(*arguments.args, **arguments.kwargs)
        nodes = trace.nodes.items()
        yield {name: site for name, site in nodes if site["type"] == "sample" and is_random_variable(site)}


def _kind(site: Any) -> Kind:
    """Whether a site is observed, deterministic or Delta, or random."""
    distribution = site["fn"]
    while hasattr(distribution, "base_dist"):
        distribution = distribution.base_dist
    if site["infer"].get("_deterministic") or type(distribution).__name__ == "Delta":
        return Kind.COMPUTED
    return Kind.OBSERVED if site["is_observed"] else Kind.RANDOM


def _check(name: str, site: Any) -> None:
    support = site["fn"].support
    if support.is_discrete and not _has_few_values(support, site["value"]):
        raise ValueError(
            f"the latent site {name!r} is discrete ({support}), and a guide learns a probability for each value of at "
            f"most {MOST_VALUES:,}, from 0 on. Draw it from a Categorical over the values that matter, sum it out of "
            f"the model, or hide it from the guide: AutoImplicitGuide(poutine.block(model, hide=[{name!r}]))."
        )
    if not support.is_discrete and not has_bijection(support):
        raise ValueError(
            f"the latent site {name!r} has the support {support}, to which torch has no bijection from the real line. "
            "Draw another site, such as a normal one, and compute this one from it with pyro.deterministic."
        )
    if not all(frame.vectorized for frame in site["cond_indep_stack"]):
        raise ValueError(
            f"the latent site {name!r} lies in a sequential pyro.plate. Use it as a context, with pyro.plate(...)."
        )


def _has_few_values(support: Constraint, value: Tensor) -> bool:
    is_known = is_finite(support) and getattr(innermost(support), "lower_bound", 0) == 0
    return is_known and number_of_values(support, value) <= MOST_VALUES


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


def _latent_of_a_row(name: str, sites: list[Any]) -> Latent:
    """A latent of a model of which a run draws one row: with the plates within that, all are dimensions of an event."""
    draws = torch.stack([site["value"] for site in sites])
    return Latent(name, _support(name, sites, draws), draws, True, 0, draws.dim() - 1, ())


def _latent(name: str, sites: list[Any], has_rows: bool) -> Latent:
    first = sites[0]
    values = [site["value"] for site in sites]
    draws = torch.cat(values) if has_rows else torch.stack(values)
    num_batch_dims = first["value"].dim() - first["fn"].event_dim
    support = _support(name, sites, draws)
    return Latent(name, support, draws, has_rows, num_batch_dims, first["fn"].event_dim, first["cond_indep_stack"])


def _support(name: str, sites: list[Any], draws: Tensor) -> Constraint:
    supports = [fixed_support(site["fn"].support, tuple(draws.shape[1:])) for site in sites]
    support = supports[0]
    if support is None or not all(other is not None and have_same_bounds(support, other) for other in supports):
        raise ValueError(
            f"the support of the latent site {name!r} depends on other sites, or differs between rows. "
            "Draw it on a fixed interval, and compute what depends on others with pyro.deterministic."
        )
    return support
