"""Draws from finitely many values, as of a Categorical or a Bernoulli: their probabilities, and how they are learned.

No gradient passes through such a draw. That of an expected cost is the mean of each draw's cost times the slope of its
log-probability, whatever the cost is made of.

References:
    Williams (1992), "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning": the
    score function, and a baseline that lowers its variance.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, OneHotCategorical, constraints
from torch.distributions.constraints import Constraint

from pyro_gan.players.supports import innermost
from pyro_gan.processes import rows_of_all

FINITE = (type(constraints.boolean), type(constraints.one_hot), constraints.integer_interval)
"""The supports of finitely many values."""


def is_finite(support: Constraint) -> bool:
    """Whether a support has finitely many values."""
    return isinstance(innermost(support), FINITE)


def has_probabilities(distribution: Any) -> bool:
    """Whether a distribution is a Bernoulli, Categorical or OneHotCategorical, whatever is wrapped around it."""
    return isinstance(_base(distribution), Bernoulli | Categorical | OneHotCategorical)


def log_probabilities(distribution: Any) -> Tensor:
    """The log-probability of each value that a distribution can draw, with shape `(*, num_values)`.

    Args:
        distribution: One of which :func:`has_probabilities` holds.
    """
    distribution = _base(distribution)
    logits: Tensor = distribution.logits
    if isinstance(distribution, Bernoulli):
        return torch.nn.functional.logsigmoid(torch.stack([-logits, logits], -1))
    return logits - logits.logsumexp(-1, keepdim=True)


def one_hot(values: Tensor, support: Constraint, num_values: int) -> Tensor:
    """Which of the values each one is, with shape `(*, num_values)`, of torch's default floating-point type.

    Args:
        values: Values, with shape `(*)`, or `(*, num_values)` where they are one-hot already.
        support: Their support.
        num_values: The number of values that there are.
    """
    if isinstance(innermost(support), type(constraints.one_hot)):
        return values.to(torch.get_default_dtype())
    return (values.unsqueeze(-1) == torch.arange(num_values, device=values.device)).to(torch.get_default_dtype())


def by_row(log_density: Tensor) -> Tensor:
    """The log-density of each row, with shape `(num_rows,)`, from those of its parts, with shape `(num_rows, *)`."""
    return log_density.reshape(len(log_density), -1).sum(1)


def score_function(costs: Sequence[Tensor], log_densities: Sequence[Tensor]) -> Tensor:
    r"""A number that is 0, and whose gradient is that of the mean costs through draws without a gradient.

    It is the mean of :math:`(c_i - b_i) \nabla \log q(z_i)`, where the baseline :math:`b_i` is the mean cost of the
    other rows: independent of row i, so that it changes no mean.

    Args:
        costs: Per-row costs; those whose shape is another than that of a log-density hang on other draws.
        log_densities: The log-densities of draws, each with shape `(num_rows,)`.
    """
    terms = []
    for log_density in log_densities:
        cost = sum((rows.detach() for rows in costs if rows.shape == log_density.shape), torch.zeros_like(log_density))
        every = rows_of_all(cost)
        num_others = max(1, len(every) - 1)
        excess = len(every) / num_others * (cost - every.mean()) if len(every) > 1 else cost
        terms.append((excess * (log_density - log_density.detach())).mean())
    return torch.stack(terms).sum()


def _base(distribution: Any) -> Any:
    """A distribution without the masks, expansions and independence wrapped around it."""
    while hasattr(distribution, "base_dist"):
        distribution = distribution.base_dist
    return distribution
