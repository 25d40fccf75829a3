"""Rows of the data that a run keeps apart, to see afterwards whether it worked."""

import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch.utils.data import TensorDataset

from pyro_gan.checks import is_real_number, shown
from pyro_gan.players.batch import Batch, as_batch, fixed_order, is_array, mapped, number_of_rows
from pyro_gan.training.invalid import Invalid, without_invalid

FEWEST_ROWS = 20
"""The fewest held-out rows that draws are compared with."""

SEED = 0
"""The seed of the permutation whose last rows are kept apart: the same of the same data, in whatever process."""


class Parts(NamedTuple):
    """The data of a run in two parts, before any transform."""

    train: Batch
    held_out: Batch
    transform: Callable[..., Any] | None


def kept_apart(
    data: Any,
    held_out: Any,
    device: torch.device,
    transform: Callable[..., Any] | None,
    invalid: Invalid = "raise",
) -> Parts:
    """Keep rows apart, which is all that is done to the data; no random state is used.

    Args:
        data: A tensor or array with shape `(num_rows, *)`, a tuple or a mapping of them, or a `TensorDataset`.
        held_out: The part of the rows, above 0 and below 1, or their number.
        device: Where the rows lie.
        transform: What the run applies to minibatches.
        invalid: `"exclude"` to leave out rows that hold NaN or infinity before.

    Raises:
        TypeError: `held_out` is no number.
        ValueError: It is out of range, leaves too few rows, or the data are no arrays.
    """
    if type(data) is TensorDataset:
        data = data.tensors
    if not (is_array(data) or isinstance(data, tuple | Mapping)):
        raise ValueError(
            f"held_out={shown(held_out)} keeps rows of arrays apart, but data is a {type(data).__name__}. Pass tensors "
            "or arrays, or keep rows apart yourself and pass them to check(rows) after the run."
        )
    rows = as_batch(data, device, "data", may_wait=True, may_be_invalid=invalid == "exclude")
    rows = without_invalid(rows, 1)
    total = number_of_rows(rows)
    number = _number(held_out, total)
    order = fixed_order(total, SEED).to(device)
    train, apart = order[: total - number], order[total - number :]
    return Parts(mapped(rows, lambda each: each[train]), mapped(rows, lambda each: each[apart]), transform)


def _number(held_out: Any, total: int) -> int:
    """How many rows are kept apart.

    Raises:
        TypeError: `held_out` is no number.
        ValueError: It is out of range.
    """
    expected = "held_out must be a part of the rows between 0 and 1, such as 0.1, or a number of rows"
    if not is_real_number(held_out):
        raise TypeError(f"{expected}, but is {shown(held_out)} ({type(held_out).__name__}).")
    try:
        number = operator.index(held_out)
    except TypeError:
        if not 0 < held_out < 1:
            raise ValueError(f"{expected}, but is {shown(held_out)}.") from None
        number = round(float(held_out) * total)
    if not 0 < number < total:
        raise ValueError(f"held_out={shown(held_out)} keeps {number} of {total} rows apart. Leave at least 1 of each.")
    if number < FEWEST_ROWS:
        raise ValueError(
            f"held_out={shown(held_out)} keeps {number} of {total} rows apart, but a check takes at least "
            f"{FEWEST_ROWS}. Keep more apart."
        )
    return number
