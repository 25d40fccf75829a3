"""The networks of an implicit guide: latents from noise and observations, without Pyro."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from pyro_gan.auto.building import floating_type
from pyro_gan.auto.coordinates import Coordinates
from pyro_gan.auto.latents import Latent
from pyro_gan.auto.networks import Embedding, SlowLinear, fully_connected, start_as_fast

START = 0.1
"""What the network's last layer is scaled by at the start."""


class NoiseNetwork(nn.Module):
    """Several sites' standardized numbers from noise and features: a linear path and a fully connected network.

    Both are slow: a guide that is faster than the discriminator follows the data and loses its noise, before the
    discriminator has seen how wide the posterior is.

    Args:
        sites: The sites' coordinates.
        noise_dim: The noise of a row.
        num_features: The features of a row.
        width: The units of each hidden layer.
        depth: The number of hidden layers.
    """

    def __init__(self, sites: Sequence[Coordinates], noise_dim: int, num_features: int, width: int, depth: int) -> None:
        super().__init__()
        self.sites = nn.ModuleList(sites)
        self.noise_dim = noise_dim
        size = sum(site.size for site in sites)
        self.network = fully_connected(noise_dim + num_features, width, depth, size, is_slow=True)
        self.linear = SlowLinear(noise_dim + num_features, size)
        _start_as_noise(self.linear, noise_dim)
        start_as_fast(self.linear)
        for parameter in self.network[-1].parameters():
            parameter.mul_(START)

    def forward(self, noise: Tensor, features: Tensor | None) -> Tensor:
        """The standardized numbers of all sites.

        Args:
            noise: Standard normal noise, with shape `(*, noise_dim)`.
            features: Features, with shape `(*, num_features)`, where there are some.

        Returns:
            The numbers, with shape `(*, size)`.
        """
        given = noise if features is None else torch.cat([noise, features], -1)
        numbers: Tensor = self.linear(given) + self.network(given)
        return numbers

    def extra_repr(self) -> str:
        return f"noise_dim={self.noise_dim}"

    def values(self, numbers: Tensor) -> dict[str, Tensor]:
        """Each site's values in its support, with shape `(*, *event_shape)`, from the numbers of all."""
        sites = [site for site in self.sites if isinstance(site, Coordinates)]
        parts = numbers.split([site.size for site in sites], -1)
        return {
            site.name: site.to_support(part.reshape(part.shape[:-1] + site.shape))
            for site, part in zip(sites, parts, strict=True)
        }


class Posterior(nn.Module):
    """Latents from noise and observations, without Pyro.

    Args:
        rows: The first rows by name.
        supports: Their supports; what has none counts as real-valued.
        latents: The latents.
        noise_dim: The noise of a row, and that of all latents that rows share; `None` takes twice as many numbers as
            the latents have on the real line, and at least 8.
        width: The units of each hidden layer.
        depth: The number of hidden layers.
    """

    def __init__(
        self,
        rows: dict[str, Tensor],
        supports: Mapping[str, Constraint],
        latents: Sequence[Latent],
        noise_dim: int | None,
        width: int,
        depth: int,
    ) -> None:
        super().__init__()
        dtype = floating_type({latent.name: latent.draws for latent in latents})
        own, shared = (
            [Coordinates(site.name, site.support, site.draws, dtype) for site in latents if site.has_rows is has_rows]
            for has_rows in (True, False)
        )
        observed = rows if own else {}
        self.observed = nn.ModuleList(
            Coordinates(name, supports.get(name, constraints.real), values, dtype) for name, values in observed.items()
        )
        self.embedding = Embedding(self.observations(), width)
        self.shared = _noise_network(shared, noise_dim, 0, width, depth)
        num_features = self.embedding.size + sum(site.size for site in shared)
        self.own = _noise_network(own, noise_dim, num_features, width, depth)
        self.to(latents[0].draws.device, dtype)

    def forward(self, own: Tensor | None, shared: Tensor | None, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The latents.

        Args:
            own: The rows' noise, with shape `(*, num_rows, noise_dim)`, where rows have latents of their own.
            shared: The noise of latents that all rows share, with shape `(*, noise_dim)`, where there are some.
            rows: The observations by name, each with shape `(num_rows, *event_shape)`.

        Returns:
            The latents by site, in their supports: those of rows with shape `(*, num_rows, *event_shape)`, the others
            with shape `(*, *shape)`.
        """
        values: dict[str, Tensor] = {}
        features: list[Tensor] = []
        if shared is not None and self.shared is not None:
            numbers = self.shared(shared, None)
            values |= self.shared.values(numbers)
            features.append(numbers.unsqueeze(-2))
        if own is not None and self.own is not None:
            features.append(self.embedding([site(rows[site.name]) for site in self.observations()]))
            given = torch.cat([part.expand(*own.shape[:-1], part.shape[-1]) for part in features], -1)
            values |= self.own.values(self.own(own, given))
        return values

    def observations(self) -> list[Coordinates]:
        """The observations' coordinates, in order."""
        return [site for site in self.observed if isinstance(site, Coordinates)]


def _noise_network(
    sites: Sequence[Coordinates], noise_dim: int | None, num_features: int, width: int, depth: int
) -> NoiseNetwork | None:
    if not sites:
        return None
    noise_dim = max(8, 2 * sum(site.size for site in sites)) if noise_dim is None else noise_dim
    return NoiseNetwork(sites, noise_dim, num_features, width, depth)


def _start_as_noise(linear: nn.Linear, noise_dim: int) -> None:
    """Let a linear layer pass each of its outputs a noise of its own, or a mixture where there is less noise."""
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    noise = linear.weight[:, :noise_dim]
    if len(noise) <= noise_dim:
        noise.fill_diagonal_(1.0)
    else:
        noise.normal_(0.0, noise_dim**-0.5)
