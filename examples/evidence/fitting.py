"""What the runs have in common: fully connected networks, an implicit model around a generator, and two recipes."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from pyro_gan.recipes import edward

RECIPES: dict[str, dict[str, Any]] = {"default": {}, "edward": edward()}
"""Keyword arguments of an inference: none, and the 2014 game with two plain Adams."""


def network(sizes: Sequence[int], activation: nn.Module | None = None) -> nn.Sequential:
    """Linear layers of these sizes, with an activation between them, a leaky rectifier where none is given."""
    between = nn.LeakyReLU(0.2) if activation is None else activation
    layers = [part for pair in pairwise(sizes) for part in (nn.Linear(*pair), between)]
    return nn.Sequential(*layers[:-1])


def implicit_model(generator: nn.Module, noise: int | dist.Distribution, event_dim: int = 1) -> Callable[[int], Tensor]:
    """A Pyro model of rows: noise through a generator.

    Args:
        generator: From noise to rows.
        noise: Its distribution, or how many numbers that are uniform on [-1, 1] it has.
        event_dim: The dimensions of a row.
    """
    law = dist.Uniform(-1.0, 1.0).expand([noise]).to_event(1) if isinstance(noise, int) else noise

    def model(batch_size: int) -> Tensor:
        pyro.module("generator", generator)
        with pyro.plate("data", batch_size):
            return pyro.deterministic("x", generator(pyro.sample("eps", law)), event_dim=event_dim)

    return model
