"""The networks of an implicit guide: latents from noise and observations, without Pyro."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from pyro_gan.auto.building import floating_type
from pyro_gan.auto.coordinates import Coordinates
from pyro_gan.auto.latents import Latent
from pyro_gan.auto.networks import SlowLinear, decaying, fully_connected, start_as_fast
from pyro_gan.auto.pooling import embedding_of, sharpness, summary, summary_size
from pyro_gan.auto.views import Elements, View, seen_by

START = 0.1
"""What the network's last layer is scaled by at the start."""

MANY = 64
"""The number of coordinates from which on the linear path takes a site's scaled down, to move no faster with more."""


class NoiseNetwork(nn.Module):
    """Several sites' standardized numbers: a linear path from coordinates, and a fully connected network of features.

    Both have noise too, and are slow: a guide that is faster than the discriminator follows the data and loses its
    noise, before the discriminator has seen how wide the posterior is. What the network tells beside the linear path
    decays where the discriminator does not see it.

    Args:
        sites: The sites' coordinates.
        noise_dim: The noise of a row.
        num_coordinates: The coordinates of a row, for the linear path.
        num_features: The features of a row, for the network.
        width: The units of each hidden layer.
        depth: The number of hidden layers.
    """

    def __init__(
        self,
        sites: Sequence[Coordinates],
        noise_dim: int,
        num_coordinates: int,
        num_features: int,
        width: int,
        depth: int,
    ) -> None:
        super().__init__()
        self.sites = nn.ModuleList(sites)
        self.noise_dim = noise_dim
        size = sum(site.size for site in sites)
        self.network = decaying(fully_connected(noise_dim + num_features, width, depth, size, is_slow=True))
        self.linear = SlowLinear(noise_dim + num_coordinates, size)
        _start_as_noise(self.linear, noise_dim)
        start_as_fast(self.linear)
        for parameter in self.network[-1].parameters():
            parameter.mul_(START)

    def forward(self, noise: Tensor, coordinates: Sequence[Tensor] = (), features: Sequence[Tensor] = ()) -> Tensor:
        """The standardized numbers of all sites.

        Args:
            noise: Standard normal noise, with shape `(*, noise_dim)`.
            coordinates: Parts of the coordinates, with shapes that broadcast with that of the noise but for the last
                dimension, in which they have `num_coordinates` together.
            features: Parts of the features likewise, `num_features` together.

        Returns:
            The numbers, with shape `(*, size)`.
        """
        numbers: Tensor = self.linear(_beside(noise, coordinates)) + self.network(_beside(noise, features))
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
        observed: The names of the observations.
        supports: Their supports; what has none counts as real-valued.
        latents: The latents.
        noise_dim: The noise of a row, and that of all latents that rows share; `None` takes twice as many numbers as
            the latents have on the real line, and at least 8.
        width: The units of each hidden layer.
        depth: The number of hidden layers.
        seen: Makes a latent's coordinates of its name, support, first draws and type.
        view: Makes what is seen of an observation, of its name, support and type.
    """

    def __init__(
        self,
        observed: Sequence[str],
        supports: Mapping[str, Constraint],
        latents: Sequence[Latent],
        noise_dim: int | None,
        width: int,
        depth: int,
        seen: Callable[[str, Constraint, Tensor, torch.dtype], Coordinates],
        view: Callable[[str, Constraint, torch.dtype], Coordinates | View],
    ) -> None:
        super().__init__()
        dtype = floating_type({latent.name: latent.draws for latent in latents})
        own, shared = (
            [seen(site.name, site.support, site.draws, dtype) for site in latents if site.has_rows is has_rows]
            for has_rows in (True, False)
        )
        self.observed = nn.ModuleList(
            view(name, supports.get(name, constraints.real), dtype) for name in (observed if own else ())
        )
        self.embedding = decaying(embedding_of(self.observations(), width))
        self.shared = _noise_network(shared, noise_dim, 0, 0, width, depth)
        num_shared = sum(site.size for site in shared)
        num_coordinates = sum(map(summary_size, self.observations()))
        noise_dim = _noise_dim(own, noise_dim)
        num_coordinates += noise_dim * sum(isinstance(site, Elements) for site in self.observations())
        self.own = _noise_network(
            own, noise_dim, num_coordinates + num_shared, self.embedding.size + num_shared, width, depth
        )
        self.to(latents[0].draws.device, dtype)

    def forward(self, own: Tensor | None, shared: Tensor | None, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The latents.

        Args:
            own: The rows' noise, with shape `(*, num_rows, noise_dim)`, where rows have latents of their own.
            shared: The noise of latents that all rows share, with shape `(*, noise_dim)`, where there are some.
            rows: The observations and their masks by name, each with shape `(num_rows, *event_shape)`.

        Returns:
            The latents by site, in their supports: those of rows with shape `(*, num_rows, *event_shape)`, the others
            with shape `(*, *shape)`.
        """
        values: dict[str, Tensor] = {}
        around: list[Tensor] = []
        if shared is not None and self.shared is not None:
            numbers = self.shared(shared)
            values |= self.shared.values(numbers)
            around = [numbers.unsqueeze(-2)]
        if own is not None and self.own is not None:
            coordinates = seen_by(self.observations(), rows)
            linear = [_scaled(summary(*pair)) for pair in zip(self.observations(), coordinates, strict=True)]
            # The width of a posterior given a set follows the number of its elements.
            scaled = [own * each for each in map(sharpness, self.observations(), coordinates) if each is not None]
            numbers = self.own(own, [*around, *linear, *scaled], [*around, self.embedding(coordinates)])
            values |= self.own.values(numbers)
        return values

    def observations(self) -> list[Coordinates | View]:
        """The observations as they are seen, in order."""
        return [site for site in self.observed if isinstance(site, Coordinates | View)]


def _noise_network(
    sites: Sequence[Coordinates], noise_dim: int | None, num_coordinates: int, num_features: int, width: int, depth: int
) -> NoiseNetwork | None:
    if not sites:
        return None
    return NoiseNetwork(sites, _noise_dim(sites, noise_dim), num_coordinates, num_features, width, depth)


def _noise_dim(sites: Sequence[Coordinates], noise_dim: int | None) -> int:
    return max(8, 2 * sum(site.size for site in sites)) if noise_dim is None else noise_dim


def _scaled(vectors: Tensor) -> Tensor:
    """A site's coordinates for the linear path, scaled down where they are many."""
    size = vectors.shape[1]
    return vectors if size <= MANY else vectors * (MANY / size)


def _beside(noise: Tensor, parts: Sequence[Tensor]) -> Tensor:
    """Noise and other numbers of the rows, side by side."""
    return torch.cat([noise, *(part.expand(*noise.shape[:-1], part.shape[-1]) for part in parts)], -1)


def _start_as_noise(linear: nn.Linear, noise_dim: int) -> None:
    """Let a linear layer pass each of its outputs a noise of its own, or a mixture where there is less noise."""
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    noise = linear.weight[:, :noise_dim]
    if len(noise) <= noise_dim:
        noise.fill_diagonal_(1.0)
    else:
        noise.normal_(0.0, noise_dim**-0.5)
