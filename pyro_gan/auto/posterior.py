"""The networks of an implicit guide: latents from noise and observations, without Pyro."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from pyro_gan.auto.building import floating_type
from pyro_gan.auto.coordinates import Coordinates
from pyro_gan.auto.jumps import MOST_NUMBERS, Jumps
from pyro_gan.auto.labels import Labels
from pyro_gan.auto.latents import Latent
from pyro_gan.auto.networks import SlowLinear, decaying, flat, fully_connected, start_as_fast
from pyro_gan.auto.pooling import embedding_of, sharpness, summary, summary_size
from pyro_gan.auto.products import is_large
from pyro_gan.auto.regression import MoreDraws, Regression, are_fixed, ends_of, num_related, numbers_of, regression_of
from pyro_gan.auto.repeated import Repeated
from pyro_gan.auto.views import Elements, View, seen_by
from pyro_gan.auto.widening import Widening

Draw = Callable[[Labels, Tensor], Tensor]
"""Draws a discrete site by its logits, with shape `(*, *shape)`, and returns its coordinates likewise."""

START = 0.1
"""What the network's last layer is scaled by at the start."""

STAGES = ("shared_labels", "shared", "own_labels", "own")
"""The networks in the order in which they draw; each knows what those before it have drawn."""

MANY = 64
"""The number of coordinates from which on the linear path takes a site's scaled down, to move no faster with more."""


class NoiseNetwork(nn.Module):
    """Several sites' standardized numbers: a linear path from coordinates, and a fully connected network of features.

    Both have noise too, and are slow: a guide that is faster than the discriminator follows the data and loses its
    noise, before the discriminator has seen how wide the posterior is. Of large observations, as images, it has so much
    to learn that it may be too late. What the network tells beside the linear path decays where the discriminator
    does not see it. Where it is slow and has few numbers, jumps (:mod:`pyro_gan.auto.jumps`) bring it to modes far
    apart.

    Of labels the numbers are logits, which are not slow: their draws have a chance of their own, whatever the noise is.
    Noise makes several labels depend on each other, and a single one has none where it can do without.

    Args:
        sites: The sites' coordinates.
        noise_dim: The noise of a row.
        num_coordinates: The coordinates of a row, for the linear path.
        num_features: The features of a row, for the network.
        width: The units of each hidden layer.
        depth: The number of hidden layers.
        is_slow: Whether sites that are no labels are.
    """

    def __init__(
        self,
        sites: Sequence[Coordinates | Labels],
        noise_dim: int,
        num_coordinates: int,
        num_features: int,
        width: int,
        depth: int,
        is_slow: bool,
    ) -> None:
        super().__init__()
        self.sites = nn.ModuleList(sites)
        self.noise_dim = noise_dim
        size = sum(site.size for site in sites)
        are_labels = isinstance(sites[0], Labels)
        is_slow = is_slow and not are_labels
        has_jumps = is_slow and size <= MOST_NUMBERS
        has_jumps = has_jumps and all(isinstance(site, Coordinates) and site.has_jumps for site in sites)
        jumps = Jumps(size) if has_jumps else None
        num_outputs = size if jumps is None else jumps.num_inputs
        network = fully_connected(noise_dim + num_features, width, depth, num_outputs, is_slow)
        self.linear = (SlowLinear if is_slow else nn.Linear)(noise_dim + num_coordinates, size)
        _start_as_noise(self.linear, 0 if are_labels else noise_dim)
        if is_slow:
            start_as_fast(self.linear)
        for parameter in network[-1].parameters():
            parameter.mul_(START)
        self.network = decaying(network if jumps is None else network.append(jumps))

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
        """Each site's values in its support, or its logits, with shape `(*, *shape)`, from the numbers of all."""
        sites = [site for site in self.sites if isinstance(site, Coordinates | Labels)]
        parts = numbers.split([site.size for site in sites], -1)
        return {
            site.name: site.to_support(part.reshape(part.shape[:-1] + site.shape))
            for site, part in zip(sites, parts, strict=True)
        }

    def draws(self, numbers: Tensor, draw: Draw) -> Tensor:
        """The coordinates of draws of all sites, which are labels, with shape `(*, size)`."""
        logits = self.values(numbers)
        drawn = [draw(site, logits[site.name]) for site in self.sites if isinstance(site, Labels)]
        return torch.cat([each.reshape(*numbers.shape[:-1], -1) for each in drawn], -1)


class Posterior(nn.Module):
    """Latents from noise and observations, without Pyro.

    Args:
        observed: The names of the observations.
        supports: Their supports; what has none counts as real-valued.
        latents: The latents.
        noise_dim: The noise of a row, and that of all latents that rows share; `None` takes twice as many numbers as
            the latents have on the real line, or logits, and at least 8.
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
        observed = observed if any(latent.has_rows for latent in latents) else ()
        self.observed = nn.ModuleList(view(name, supports.get(name, constraints.real), dtype) for name in observed)
        self.embedding = decaying(embedding_of(self.observations(), width))
        num_earlier, num_seen, num_features = 0, sum(map(summary_size, self.observations())), self.embedding.size
        num_sets = sum(isinstance(site, Elements) for site in self.observations())
        is_slow = not any(map(is_large, self.observations()))
        for stage in STAGES:
            is_own, are_labels = stage in ("own_labels", "own"), stage in ("shared_labels", "own_labels")
            sites = [
                _labels(latent, dtype) if are_labels else seen(latent.name, latent.support, latent.draws, dtype)
                for latent in latents
                if (latent.has_rows, latent.is_discrete) == (is_own, are_labels)
            ]
            sizes = (num_earlier + is_own * num_seen, num_earlier + is_own * num_features)
            if stage == "own":
                sizes = (sizes[0] + _noise_dim(sites, noise_dim) * num_sets, sizes[1])
            setattr(self, stage, _noise_network(sites, noise_dim, *sizes, width, depth, is_slow))
            num_earlier += sum(site.size for site in sites)
        of_latents = sum(site.size for site in self._related())
        related = num_related(self.observations())
        self.regression = regression_of(of_latents, related, latents[0].draws.new_zeros((), dtype=dtype))
        self.widening = Widening(latents[0].draws.new_zeros((), dtype=dtype))
        self.to(latents[0].draws.device, dtype)

    def forward(self, noise: Mapping[str, Tensor], rows: Mapping[str, Tensor], draw: Draw) -> dict[str, Tensor]:
        """The continuous latents, given discrete ones that are drawn on the way.

        Args:
            noise: The noise of each network by its name: for latents of rows with shape `(*, num_rows, noise_dim)`, for
                those that all rows share with shape `(*, noise_dim)`.
            rows: The observations and their masks by name, each with shape `(num_rows, *event_shape)`.
            draw: Draws a discrete latent by its logits, and returns its coordinates.

        Returns:
            The latents by site, in their supports: those of rows with shape `(*, num_rows, *event_shape)`, the others
            with shape `(*, *shape)`.
        """
        noise = {stage: self.widening(each) if stage == "own" else each for stage, each in noise.items()}
        values: dict[str, Tensor] = {}
        shared: list[Tensor] = []
        own: list[Tensor] = []
        coordinates = seen_by(self.observations(), rows)
        linear = [_scaled(*pair) for pair in zip(self.observations(), coordinates, strict=True)]
        features = [self.embedding(coordinates)] if coordinates else []
        for stage, network in self.networks().items():
            is_own = stage in ("own_labels", "own")
            earlier = [*(each.unsqueeze(-2) for each in shared), *own] if is_own else shared
            seen = (linear, features) if is_own else ([], [])
            if stage == "own":  # the width of a posterior given a set follows the number of its elements
                sizes = [each for each in map(sharpness, self.observations(), coordinates) if each is not None]
                seen = ([*linear, *(noise[stage] * each for each in sizes)], features)
            numbers = network(noise[stage], *([*earlier, *each] for each in seen))
            if stage == "own" and self.regression is not None:
                numbers = self.regression(numbers, numbers_of(self.observations(), coordinates))
            if stage in ("shared_labels", "own_labels"):
                numbers = network.draws(numbers, draw)
            else:
                values |= network.values(numbers)
            (own if is_own else shared).append(numbers)
        return values

    def relate(self, rows: Mapping[str, Tensor], more: MoreDraws) -> None:
        """Draw beside the latents' regression on the observations, as draws of the model tell it.

        Args:
            rows: The latents, and the observations that were made of them with their masks, by name, each with shape
                `(num_rows, *event_shape)`. Without one of them, nothing changes.
            more: Gives many such draws, by which means and deviations beside a line are told.
        """
        latents, observed = self._related(), self.observations()
        if self.regression is None or any(site.name not in rows for site in (*latents, *observed)):
            return

        def numbers(rows: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
            own = torch.cat([flat(site.on_a_line(rows[site.name])) for site in latents], 1)
            return own, numbers_of(observed, seen_by(observed, rows))

        old = self.regression  # a look puts back the buffers of the modules that it has called: this one is new
        self.regression = Regression(old.slope.shape[1], old.slope.shape[0], old.slope)
        self.regression.learn(*numbers(rows), ends_of(latents), observed)
        if are_fixed(observed):
            self.regression.learn_moments(map(numbers, more()))

    def _related(self) -> list[Coordinates]:
        """The latents of rows that are no labels."""
        own = self.networks().get("own")
        return [] if own is None else [site for site in own.sites if isinstance(site, Coordinates)]

    def networks(self) -> dict[str, NoiseNetwork]:
        """The networks by name, in the order in which they draw."""
        return {stage: network for stage in STAGES if (network := getattr(self, stage)) is not None}

    def observations(self) -> list[Coordinates | View]:
        """The observations as they are seen, in order."""
        return [site for site in self.observed if isinstance(site, Coordinates | View)]


def _labels(latent: Latent, dtype: torch.dtype) -> Labels:
    return Labels(latent.name, latent.support, latent.draws, latent.event_dim, dtype)


def _noise_network(
    sites: Sequence[Coordinates | Labels],
    noise_dim: int | None,
    num_coordinates: int,
    num_features: int,
    width: int,
    depth: int,
    is_slow: bool,
) -> NoiseNetwork | None:
    if not sites:
        return None
    is_label = isinstance(sites[0], Labels) and sum(site.size for site in sites) == sites[0].shape[-1]
    noise_dim = 0 if is_label and min(num_coordinates, num_features) else _noise_dim(sites, noise_dim)
    return NoiseNetwork(sites, noise_dim, num_coordinates, num_features, width, depth, is_slow)


def _noise_dim(sites: Sequence[Coordinates | Labels], noise_dim: int | None) -> int:
    return max(8, 2 * sum(site.size for site in sites)) if noise_dim is None else noise_dim


def _scaled(site: Coordinates | View, seen: Tensor) -> Tensor:
    """A site's coordinates for the linear path, scaled down where its numbers are many."""
    vectors = summary(site, seen)
    many = site.num_numbers if isinstance(site, Repeated) else vectors.shape[1]
    return vectors if many <= MANY else vectors * (MANY / many)


def _beside(noise: Tensor, parts: Sequence[Tensor]) -> Tensor:
    """Noise and other numbers of the rows, side by side."""
    return torch.cat([noise, *(part.expand(*noise.shape[:-1], part.shape[-1]) for part in parts)], -1)


def _start_as_noise(linear: nn.Linear, noise_dim: int) -> None:
    """Let a linear layer pass each of its outputs a noise of its own, or a mixture where there is less noise."""
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    if not noise_dim:
        return
    noise = linear.weight[:, :noise_dim]
    if len(noise) <= noise_dim:
        noise.fill_diagonal_(1.0)
    else:
        noise.normal_(0.0, noise_dim**-0.5)
