"""Small models that several test files use."""

import os

import pyro
import pyro.distributions as dist
import torch
from torch import nn

from pyro_gan import GANInference

DEVICE = os.environ.get("PYRO_GAN_DEVICE")
"""Where inferences of the contract and of compiled steps work: `PYRO_GAN_DEVICE=cuda` has those tests run there."""


def location_model(batch_size=64):
    """N(loc, 0.1²), loc starting at 0."""
    loc = pyro.param("loc", torch.tensor(0.0))
    with pyro.plate("data", batch_size):
        eps = pyro.sample("eps", dist.Normal(0.0, 1.0))
        return pyro.deterministic("x", loc + 0.1 * eps, event_dim=0)


def location_scale_model(batch_size=64):
    """N(loc, scale²), starting at N(0, 1)."""
    loc = pyro.param("loc", torch.tensor(0.0))
    scale = pyro.param("scale", torch.tensor(1.0), constraint=dist.constraints.positive)
    with pyro.plate("data", batch_size):
        eps = pyro.sample("eps", dist.Normal(0.0, 1.0))
        return pyro.deterministic("x", loc + scale * eps, event_dim=0)


def scalar_discriminator(width=32):
    """A function over a network, on scalar rows."""
    network = nn.Sequential(nn.Linear(1, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1))
    return lambda x: network(x[:, None])


def network_model(generator, noise_size, name="generator"):
    """A Pyro model that pushes uniform noise through a network."""

    def model(batch_size=64):
        pyro.module(name, generator)
        with pyro.plate("data", batch_size):
            eps = pyro.sample("eps", dist.Uniform(-1.0, 1.0).expand([noise_size]).to_event(1))
            return pyro.deterministic("x", generator(eps), event_dim=1)

    return model


def networks(num_features=3, noise_size=2, width=8, batch_norm=False):
    """A generator and a discriminator."""
    norm = [nn.BatchNorm1d(width)] if batch_norm else []
    norm_d = [nn.BatchNorm1d(width)] if batch_norm else []
    generator = nn.Sequential(nn.Linear(noise_size, width), *norm, nn.ReLU(), nn.Linear(width, num_features))
    discriminator = nn.Sequential(nn.Linear(num_features, width), *norm_d, nn.LeakyReLU(0.2), nn.Linear(width, 1))
    return generator, discriminator


def falling_adam(num_steps, rate=0.01, beta=0.5):
    """A callable from parameters to Adam with a rate that falls to 0 along a line."""

    def make(parameters):
        adam = torch.optim.Adam(parameters, lr=rate, betas=(beta, 0.99), fused=True)
        return torch.optim.lr_scheduler.LinearLR(adam, 1.0, 0.0, total_iters=num_steps)

    return make


def run_to_its_end(callback):
    """Run a small fit for three steps, in whose schedule the callback comes last."""

    class Followed(GANInference):
        def schedule(self, batches):
            return [*super().schedule(batches), callback]

    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    generator, discriminator = networks()
    inference = Followed(network_model(generator, 2), discriminator)
    inference.run(torch.randn(100, 3), num_steps=3, batch_size=8, progress=False)
