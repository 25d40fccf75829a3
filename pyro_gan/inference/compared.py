"""What a check looks at: rows of the data's sites from data and model, and simulations with what they were made of."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyro_gan.players.batch import Batch, named

Rows = dict[str, Tensor]
"""Rows by site, each with shape `(num_rows, *event_shape)`."""


class Compared(NamedTuple):
    """Rows of the data's sites, from the data and from the model, and what both were given."""

    real: Rows
    fake: Rows
    given: Rows
    """Covariates by name, a row for each row of the data."""


class Pairs(NamedTuple):
    """Simulations, with what they were made of."""

    truth: Rows
    observed: Rows
    batch: Batch
    """What the guide is called with for them."""


class Told(NamedTuple):
    """The conditions in minibatches of one form."""

    places: dict[str, Any]
    """By the name of the model's argument, the number or name of the minibatch's element."""
    sites: tuple[str, ...]
    """The compared sites that are nothing but what the model is told, as a covariate that it registers."""


def covariates(arguments: Mapping[str, Any], real: Rows, batch: Batch) -> Rows:
    """The model's arguments that are no real rows, where all real rows are elements of the minibatch as they are.

    Where the model makes its observations of its arguments, nothing tells which of these are covariates, and none is.

    Args:
        arguments: The model's arguments by name.
        real: The real rows by site.
        batch: The minibatch.
    """
    if any(place_of(rows, batch) is None for rows in real.values()):
        return {}
    number = len(next(iter(real.values())))
    return {
        name: value
        for name, value in arguments.items()
        if isinstance(value, Tensor)
        and value.dim()
        and len(value) == number
        and not any(are_same(rows, value) for rows in real.values())
    }


def place_of(rows: Tensor, batch: Batch) -> Any:
    """The name or number of the minibatch's element that rows are, but for the precision, or `None`."""
    return next((place for place, element in named(batch) if are_same(rows, element)), None)


def are_same(rows: Tensor, element: Any) -> bool:
    """Whether rows are an element of a minibatch, but for the precision."""
    return isinstance(element, Tensor) and rows.shape == element.shape and torch.equal(rows, element.to(rows.dtype))
