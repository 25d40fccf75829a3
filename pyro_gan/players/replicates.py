"""Replicated data sets: all sites of a model as it stands, drawn several times, with their plates."""

from collections import defaultdict
from typing import Any, NamedTuple

import torch
from pyro import poutine
from torch import Tensor

from pyro_gan.export import plate_names
from pyro_gan.players.calls import Arguments
from pyro_gan.players.handler import Draw, is_random_variable
from pyro_gan.players.model import ImplicitModel


class Replicates(NamedTuple):
    """Draws of a model's sites, each with shape `(num_draws, *shape)`."""

    latent: dict[str, Tensor]
    """By name, the sites that are neither compared nor observed."""
    compared: dict[str, Tensor]
    """By name, the compared sites."""
    dims: dict[str, list[str | None]]
    """The names of each site's plates, as dimensions."""
    last: Draw
    """The last draw, with the observations that it replaced."""


def draw_replicates(model: ImplicitModel, arguments: Arguments, num_draws: int) -> Replicates:
    """Run a model several times and keep all of its random variables.

    Args:
        model: The model, which has been run before.
        arguments: How it is called.
        num_draws: The number of runs.

    Returns:
        The draws of the latent and of the compared sites, stacked, and their plates.
    """
    latent: dict[str, list[Tensor]] = defaultdict(list)
    compared: dict[str, list[Tensor]] = defaultdict(list)
    dims: dict[str, list[str | None]] = {}
    for _ in range(num_draws):
        with poutine.trace() as recorded:  # outside of the model's own handler, so that it sees what was drawn afresh
            last = model.draw(arguments)
        site: Any
        for name, site in recorded.trace.nodes.items():
            if site["type"] != "sample" or not is_random_variable(site):
                continue
            if name in last.values:
                compared[name].append(site["value"])
            elif not site["is_observed"] or site["infer"].get("_deterministic"):
                latent[name].append(site["value"])
            else:
                continue
            dims[name] = plate_names(site)
    return Replicates(_stacked(latent), _stacked(compared), dims, last)


def _stacked(draws: dict[str, list[Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack(values) for name, values in draws.items()}
