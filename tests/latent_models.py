"""Models with latent variables whose posterior is known, with guides and discriminators for them."""

import pyro
import pyro.distributions as dist
import torch
from torch import nn

NOISE = 0.5
"""The standard deviation of x given z in the linear models; z ~ N(0, 1)."""


def linear_model(x):
    """z ~ N(0, 1), x ~ N(z, 0.5²), written for SVI; given x, z ~ N(0.8 x, 0.2)."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, NOISE), obs=x)


def linear_simulator(batch_size):
    """The same as a simulator: x has no density."""
    with pyro.plate("data", batch_size):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        noise = pyro.sample("noise", dist.Normal(0.0, NOISE), infer={"is_auxiliary": True})
        pyro.deterministic("x", z + noise, event_dim=0)


def linear_rows(num_rows, seed=0):
    """Draws of z and x."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(num_rows, generator=generator)
    return z, z + NOISE * torch.randn(num_rows, generator=generator)


def linear_posterior(x):
    """The exact posterior mean and standard deviation."""
    return x / (1 + NOISE**2), torch.tensor(NOISE / (1 + NOISE**2) ** 0.5).expand_as(x)


def hidden_layers(inputs, outputs, width=32):
    """A small network with two hidden layers."""
    layers = [nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(width, outputs))


def normal_guide(network=None):
    """A guide with a density: a network gives the mean and the log of the standard deviation."""
    network = nn.Linear(1, 2) if network is None else network

    def guide(x):
        pyro.module("encoder", network)
        loc, log_scale = network(x[:, None]).unbind(1)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, log_scale.exp()))

    return guide


def slope_guide(x):
    """A guide of one number."""
    slope = pyro.param("slope", torch.tensor(0.1))
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(slope * x, 1.0))


def noise_guide(network=None):
    """A guide without a density: the observation and noise through a network."""
    network = nn.Linear(2, 1) if network is None else network

    def guide(x):
        pyro.module("encoder", network)
        with pyro.plate("data", len(x)):
            noise = pyro.sample("noise_of_guide", dist.Normal(0.0, 1.0), infer={"is_auxiliary": True})
            pyro.deterministic("z", network(torch.stack([x, noise], 1))[:, 0], event_dim=0)

    return guide


def joint_discriminator(num_features=2, width=64):
    """A function of any sites' rows by name, over a network with that many inputs in all."""
    network = nn.Sequential(
        *(nn.Linear(num_features, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2)),
        nn.Linear(width, 1),
    )
    return lambda **rows: network(
        torch.cat([values.flatten(1) if values.dim() > 1 else values[:, None] for values in rows.values()], 1)
    )
