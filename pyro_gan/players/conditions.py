"""Conditions: what a model is told of each row beside its noise, such as labels, covariates and captions.

A model's argument is a condition where it is an element of the minibatch, but no compared site's real rows. Both
samples are given the same ones, row by row, so that the discriminator compares joint rows of data and conditions.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyro_gan.checks import listed, shown

MOST_CATEGORIES = 1000
"""The number of kinds up to which integers are categories, of which an unseen one is refused."""

Rows = Mapping[str, Tensor]


class Condition(NamedTuple):
    """What the data tell of a condition."""

    event_shape: tuple[int, ...]
    dtype: torch.dtype
    categories: tuple[int, ...] | None = None
    """The integers that it has had, where they are few; empty where they are many, `None` before any are noted."""

    @classmethod
    def of(cls, rows: Tensor, categories: tuple[int, ...] | None = None) -> "Condition":
        """That of rows, with shape `(num_rows, *event_shape)`."""
        return cls(tuple(rows.shape[1:]), rows.dtype, categories)


def asked(name: str, value: Any, condition: Condition, num_rows: int, device: torch.device) -> Tensor:
    """A condition as a user gives it for new rows.

    Args:
        name: Its name.
        value: A value for each row, with shape `(num_rows, *event_shape)`, or one for all, with shape `event_shape`.
        condition: What is known of it.
        num_rows: The number of rows.
        device: Where they are drawn.

    Returns:
        The condition, with shape `(num_rows, *event_shape)`, in the type that the data have.

    Raises:
        TypeError: It holds no numbers, or fractions where the data have integers.
        ValueError: It has another shape or length, or a category that training has not met.
    """
    try:
        rows = value.detach() if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))
    except TypeError:
        raise TypeError(f"the condition {name!r} must hold numbers, but is {shown(value)}.") from None
    if rows.is_floating_point() and not condition.dtype.is_floating_point:
        raise TypeError(
            f"the condition {name!r} is of type {condition.dtype} in the data, but {rows.dtype} was passed. Pass "
            "integers."
        )
    rows = rows.to(device, condition.dtype)
    if tuple(rows.shape) == condition.event_shape:
        rows = rows.expand(num_rows, *condition.event_shape)
    if rows.dim() == 0 or tuple(rows.shape[1:]) != condition.event_shape:
        shape = ", ".join(map(str, (num_rows, *condition.event_shape)))
        raise ValueError(
            f"the condition {name!r} has shape {tuple(rows.shape)}, but ({shape}) is expected, as in the data, or "
            f"{condition.event_shape} for one that all rows share."
        )
    if len(rows) != num_rows:
        raise ValueError(
            f"the condition {name!r} has {len(rows)} rows, but {num_rows} samples are asked for. Pass one for each, or "
            "ask for as many."
        )
    if condition.categories:
        unseen = sorted(set(rows.unique().tolist()) - set(condition.categories))
        if unseen:
            raise ValueError(
                f"the condition {name!r} holds {listed(unseen)}, but in training it had the categories "
                f"{listed(condition.categories)} only. Ask for one of these."
            )
    return rows


def categories(values: Tensor) -> tuple[int, ...]:
    """The kinds of integers, where they are few.

    Args:
        values: All of the data's, with shape `(num_rows, *event_shape)`.
    """
    if values.is_floating_point() or values.dtype == torch.bool:
        return ()
    found = values.unique()
    return tuple(found.tolist()) if len(found) <= MOST_CATEGORIES else ()


def ignored(response: Callable[[Rows], list[Tensor]], conditions: Rows) -> list[str]:
    """The names of conditions on which nothing depends.

    Args:
        response: From some conditions by name to what is drawn with them, from one random state.
        conditions: Conditions by name, each with shape `(num_rows, *event_shape)`.
    """
    varying = {name: rows for name, rows in conditions.items() if len(rows) and bool((rows != rows[:1]).any())}
    if not varying:
        return []
    before = response({})
    return [name for name, rows in varying.items() if all(map(torch.equal, before, response({name: rows.roll(1, 0)})))]


def other_rows(conditions: Rows) -> Tensor:
    """For each row the next one that has other conditions, in the order of the minibatch, with shape `(num_rows,)`.

    Where all rows have the same ones, it is any row. No random number is used: the minibatch's order is random.

    Args:
        conditions: Conditions by name, each with shape `(num_rows, *event_shape)`.
    """
    first = next(iter(conditions.values()))
    number, device = len(first), first.device
    following = (torch.arange(number, device=device)[:, None] + torch.arange(1, number + 1, device=device)) % number
    differs = torch.zeros(number, number, dtype=torch.bool, device=device)
    for rows in conditions.values():
        mark = _marks(rows)
        differs = differs | (mark[following] != mark[:, None])
    nearest = (differs * torch.arange(number, 0, -1, device=device)).argmax(1, keepdim=True)
    return following.gather(1, nearest).squeeze(1)


def _marks(rows: Tensor) -> Tensor:
    """A number for each row, the same for rows that are the same, with shape `(num_rows,)`."""
    flat = rows.detach().reshape(len(rows), -1).double()
    return (flat * torch.linspace(1.0, 2.0, flat.shape[1], dtype=torch.float64, device=rows.device).sqrt()).sum(1)


def between(rows: Tensor, others: Tensor) -> Tensor:
    """The conditions in the middle between rows and other ones of them.

    Args:
        rows: Conditions of floating point, with shape `(num_rows, *event_shape)`.
        others: The numbers of the other rows, with shape `(num_rows,)`.
    """
    return torch.lerp(rows, rows[others], 0.5)
