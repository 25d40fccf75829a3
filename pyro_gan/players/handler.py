"""The effect handler under which a user's model runs, and what it sees of each site."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pyro
import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import constraints

from pyro_gan.players.discrete import has_probabilities


class Site(NamedTuple):
    """What a look at a random variable of a model tells."""

    support: constraints.Constraint
    is_observed: bool
    is_reparameterized: bool
    is_candidate: bool
    """Whether it can be compared with data without being named."""
    has_rows: bool
    """Whether it lies in a plate."""
    distribution: str
    shape: tuple[int, ...]
    """The shape in which one run draws it."""
    is_finite: bool = False
    """Whether it draws from finitely many values with a probability for each, and without a gradient."""

    def __str__(self) -> str:
        kind = "observed" if self.is_observed else "latent"
        return f"{kind} {self.distribution}{'' if self.is_reparameterized else ', not reparameterized'}"


class Draw(Messenger):
    """An effect handler that keeps what one forward run of an implicit model draws.

    Observed sites that are compared are drawn afresh; their observations are kept as the real sample.

    Args:
        sites: The sites to keep; `None` looks: it keeps every candidate, and describes all random variables.
        meet: Called with each parameter's name and unconstrained leaf; it may return a new constrained value.
        scored: Sites whose log-densities are kept, with the shape of their plates; observed ones are not drawn afresh.
        plain: Parameters that have been met and are their own constrained values, by name; further ones are added.
        looks: Whether random variables are described.
    """

    def __init__(
        self,
        sites: Sequence[str] | None,
        meet: Callable[[str, Tensor], Tensor | None],
        scored: Sequence[str] = (),
        plain: dict[str, Tensor] | None = None,
        looks: bool = False,
    ) -> None:
        super().__init__()
        self.plain = {} if plain is None else plain
        self.stored = pyro.get_param_store()._params
        self.sites = sites
        self.meet = meet
        self.scored = scored
        self.looks = looks
        self.values: dict[str, Tensor] = {}
        self.observed: dict[str, Tensor] = {}
        self.parameters: dict[str, Tensor] = {}
        self.log_densities: dict[str, Tensor] = {}
        self.without_path: dict[str, Any] = {}
        self.scales: dict[str, float | Tensor] = {}
        self.log_factor: Tensor | None = None
        self.found: dict[str, Site] = {}

    def _pyro_param(self, msg: Any) -> None:
        """Answer for a plain parameter, which takes Pyro's store longer: a model asks for all of them in each run."""
        leaf = self.plain.get(msg["name"])
        if leaf is not None and self.stored.get(msg["name"]) is leaf and msg["value"] is None:
            msg["value"] = leaf

    def _pyro_sample(self, msg: Any) -> None:
        if not self._is_compared(msg) or not msg["is_observed"] or msg["infer"].get("_deterministic"):
            return
        self.observed[msg["name"]] = msg["value"]
        if msg["name"] in self.scored:
            return
        msg["value"] = None
        msg["is_observed"] = False

    def _pyro_post_sample(self, msg: Any) -> None:
        if isinstance(msg["fn"], pyro.distributions.Unit):
            self._add_factor(msg)
        elif self._is_compared(msg) or msg["name"] in self.observed:
            self.values[msg["name"]] = msg["value"]
            self.scales[msg["name"]] = msg["scale"]
            if not getattr(msg["fn"], "has_rsample", True):
                self.without_path[msg["name"]] = msg["fn"]
        if msg["name"] in self.scored:
            self.log_densities[msg["name"]] = msg["fn"].log_prob(msg["value"])
            self.scales[msg["name"]] = msg["scale"]
        if self.looks and is_random_variable(msg):
            self.found[msg["name"]] = _look_at(msg, msg["name"] in self.observed)

    def _pyro_post_param(self, msg: Any) -> None:
        name, leaf = msg["name"], msg["value"]
        if self.plain.get(name) is not leaf:
            reference = getattr(leaf, "unconstrained", None)
            if reference is None:  # a handler such as poutine.lift has made a random variable of it
                return
            leaf = reference()
            value = self.meet(name, leaf)
            if value is not None:
                msg["value"] = value
            if msg["value"] is leaf:
                self.plain[name] = leaf
        if leaf.requires_grad:
            self.parameters[name] = leaf

    def _is_compared(self, msg: Any) -> bool:
        if self.sites is not None:
            return msg["name"] in self.sites and is_random_variable(msg)
        return is_random_variable(msg) and _is_candidate(msg)

    def _add_factor(self, msg: Any) -> None:
        """Add a `pyro.factor`: the mean over its rows, as that of losses, without the scale of plates' subsampling."""
        of_plates = math.prod((frame.full_size or frame.size) / frame.size for frame in _plates(msg))
        factor = scale_and_mask(msg["fn"].log_factor, msg["scale"] / of_plates, msg["mask"]).mean()
        self.log_factor = factor if self.log_factor is None else self.log_factor + factor


def joined(draws: Sequence[Draw]) -> Draw:
    """Runs that drew a row each, as the last of them, with the values of all, stacked."""
    last = draws[-1]
    last.values = {site: torch.stack([draw.values[site] for draw in draws]) for site in last.values}
    last.without_path = {}  # one row's distribution is not that of others
    last.parameters = {name: leaf for draw in draws for name, leaf in draw.parameters.items()}
    factors = [draw.log_factor for draw in draws if draw.log_factor is not None]
    last.log_factor = torch.stack(factors).sum() / len(draws) if factors else None
    return last


def is_random_variable(msg: Any) -> bool:
    """Whether a sample message is more than a plate's subsampling or a factor."""
    return type(msg["fn"]).__name__ != "_Subsample" and not msg["infer"].get("is_auxiliary")


def _is_candidate(msg: Any) -> bool:
    """Whether a site can be compared without being named: deterministic, Delta, or observed and reparameterized."""
    if msg["infer"].get("_deterministic") or _innermost(msg["fn"]) == "Delta":
        return True
    return bool(msg["is_observed"] and getattr(msg["fn"], "has_rsample", False))


def _innermost(fn: Any) -> str:
    """The name of a distribution's class, without the masks, expansions and independence wrapped around it."""
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return type(fn).__name__


def _plates(msg: Any) -> list[Any]:
    return [frame for frame in msg["cond_indep_stack"] if frame.vectorized]


def _look_at(msg: Any, was_observed: bool) -> Site:
    return Site(
        support=getattr(msg["fn"], "support", constraints.real),
        is_observed=was_observed or bool(msg["is_observed"] and not msg["infer"].get("_deterministic")),
        is_reparameterized=bool(getattr(msg["fn"], "has_rsample", False)),
        is_candidate=was_observed or _is_candidate(msg),
        has_rows=bool(_plates(msg)),
        distribution=_innermost(msg["fn"]),
        shape=drawn_shape(msg),
        is_finite=not getattr(msg["fn"], "has_rsample", False) and has_probabilities(msg["fn"]),
    )


def drawn_shape(msg: Any) -> tuple[int, ...]:
    """The shape in which a site is drawn, which an observation in its place may not have."""
    shape = msg["fn"].shape() if hasattr(msg["fn"], "shape") else msg["value"].shape
    return tuple(shape)


def is_one_of(rows: Tensor, shape: tuple[int, ...]) -> bool:
    """Whether a shape is that of a single row; `Predictive` fills up missing dimensions of plates with ones."""
    row = tuple(rows.shape[1:])
    missing = len(row) - len(shape)
    return missing >= 0 and row == (1,) * missing + shape
