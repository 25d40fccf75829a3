"""A discrete latent of finitely many values in an implicit guide: logits from numbers, and draws seen as one-hot rows.

The logits are the numbers that a network gives, added to those of the prior; so the guide starts at the prior. The
networks of the latents that are drawn later see the draw with a coordinate for each value, standardized.
"""

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from pyro_gan.auto.spread import plain_spread
from pyro_gan.players.discrete import one_hot
from pyro_gan.players.supports import innermost

MOST_VALUES = 1000
"""The number of values up to which a latent may have a probability for each."""


class Labels(nn.Module):
    """The map from a network's numbers to the logits of a discrete latent, and from its draws to coordinates.

    Args:
        name: The site's name.
        support: Its support, of finitely many values.
        draws: Prior draws, with shape `(num_draws, *shape)`.
        event_dim: The number of its event dimensions.
        dtype: The coordinates' type.
    """

    log_prior: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, name: str, support: Constraint, draws: Tensor, event_dim: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.name = name
        self.support = innermost(support)
        self.event_dim = event_dim
        rows = one_hot(draws, support, number_of_values(support, draws)).to(dtype)
        self.shape = tuple(rows.shape[1:])
        self.register_buffer("log_prior", ((rows.sum(0) + 1) / (len(rows) + self.shape[-1])).log())
        spread = plain_spread(rows)
        self.register_buffer("mean", spread.mean)
        self.register_buffer("scale", spread.scale)

    @property
    def size(self) -> int:
        """The number of logits of a row."""
        return torch.Size(self.shape).numel()

    def to_support(self, numbers: Tensor) -> Tensor:
        """The logits, with shape `(*, *shape)`, of numbers of that shape."""
        return self.log_prior + numbers

    def distribution(self, logits: Tensor) -> Any:
        """The distribution of the site, with the logits of its values, with shape `(*, *shape)`."""
        if isinstance(self.support, type(constraints.boolean)):
            drawn = dist.Bernoulli(logits=logits[..., 1] - logits[..., 0])
        elif isinstance(self.support, type(constraints.one_hot)):
            return dist.OneHotCategorical(logits=logits).to_event(self.event_dim - 1)
        else:
            drawn = dist.Categorical(logits=logits)
        return drawn.to_event(self.event_dim)

    def forward(self, values: Tensor) -> Tensor:
        """The standardized coordinates of draws, one for each value of the site, with shape `(*, *shape)`.

        Args:
            values: Draws of the site.
        """
        rows = one_hot(values, self.support, self.shape[-1]).to(self.mean.dtype)
        return (rows - self.mean) / self.scale

    def extra_repr(self) -> str:
        return f"{self.name!r}, {self.shape[-1]} values"


def number_of_values(support: Constraint, draws: Tensor) -> int:
    """The number of values of a support that has finitely many.

    Args:
        support: The support.
        draws: Draws in it, which tell where they are one-hot rows.
    """
    base = innermost(support)
    if isinstance(base, type(constraints.boolean)):
        return 2
    return (
        draws.shape[-1]
        if isinstance(base, type(constraints.one_hot))
        else int(torch.as_tensor(base.upper_bound).max()) + 1
    )
