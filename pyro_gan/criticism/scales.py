"""Numbers of any size: powers of two are taken out of them before they are squared, and put back into the result.

Squares overflow from 1e154 on, and vanish below 1e-162. Multiplication by a power of two rounds nothing, so what is
computed of scaled numbers is, digit by digit, what it would be of numbers about 1.
"""

import math
import sys
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from pyro_gan.checks import is_real_number

Number = TypeVar("Number", float, Tensor)

LARGEST_POWER = 400
"""The binary exponent of the largest scaled number: sums of very many squares are finite, and a number must be 10**270
times smaller for its square to vanish."""

SPREAD_POWER = 4
"""The binary exponent of the largest difference from a constant: small enough for a network, and large enough for it to
find its middle."""

CENTER_ROWS = 1000
"""How many rows a center is the median of."""


def double(rows: Tensor) -> Tensor:
    """The same numbers in double precision, on the CPU where their device has none."""
    return rows.cpu().double() if rows.device.type == "mps" else rows.double()


def without_scale(*samples: Tensor) -> tuple[tuple[Tensor, ...], int]:
    """Matrices over one power of two, of which squares can be taken in double precision.

    Args:
        samples: Finite numbers of one precision, with shapes `(num_rows, size)`. Those of single precision are left as
            they are: double precision, in which callers compute, holds the square of each of them.

    Returns:
        The matrices over `2**power`, with the same shapes, and `power`.
    """
    if samples[0].dtype != torch.float64:
        return samples, 0
    power = math.frexp(max(float(largest(rows).amax()) for rows in samples))[1] - LARGEST_POWER
    return tuple(times_power(rows, -power) for rows in samples), power


def in_units_of_data(what: str, value: Number, power: int) -> Number:
    """A result in the data's units again.

    Args:
        what: What messages call the result, such as `"the energy distance"`.
        value: The result for rows over `2**power`, a number or a tensor of any shape.
        power: As :func:`without_scale` returned it.

    Returns:
        The result times `2**power`, with the same shape.

    Raises:
        ValueError: It is larger than the largest number.
    """
    result = times_power(value, power)
    is_finite = bool(result.isfinite().all()) if isinstance(result, Tensor) else math.isfinite(result)
    if not is_finite:
        raise ValueError(
            f"{what} must be at most {sys.float_info.max:.2e}, the largest number, but is more. Divide all rows by a "
            "common number first."
        )
    return result


def times_power(value: Number, power: int) -> Number:
    """A number, or a tensor in double precision, times `2**power`: in two steps, as one may be too large a number."""
    half = power // 2
    return value * 2.0**half * 2.0 ** (power - half)


def times_powers(rows: Tensor, powers: Tensor) -> Tensor:
    """Each column of numbers in double precision times its own power of two.

    Args:
        rows: Numbers with shape `(..., size)`.
        powers: The powers' exponents, integers with shape `(size,)`.

    Returns:
        The products, with the same shape.
    """
    halves = powers // 2
    for part in (halves, powers - halves):
        rows = rows * rows.new_tensor([2.0**power for power in part.tolist()])
    return rows


def largest(rows: Tensor) -> Tensor:
    """The largest absolute value of each column of a matrix `(num_rows, size)`, with shape `(size,)`."""
    return torch.maximum(rows.amax(0), -rows.amin(0))


def exponents(values: Tensor) -> Tensor:
    """The least powers of two above the absolute values, as exponents on the CPU with the same shape; 0 for zeros."""
    return torch.frexp(values.cpu()).exponent.long()


def unit_columns(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """Two matrices, their columns over powers of two, so that the largest entry of x is from 1/2 to 1 in each.

    Where a column of x is constant, and has no scale of its own, the largest difference of y from it is from 8 to 16.

    Args:
        x: Finite numbers with shape `(num_rows, size)`, on the CPU.
        y: Finite numbers with shape `(other_num_rows, size)`, of the same precision.

    Returns:
        Both in their precision, with the same shapes. Entries of y are infinite where they are larger by all that the
        precision can hold.
    """
    is_constant = (x == x[0]).all(0)
    columns = [x.double(), y.double()]
    sizes = torch.where(is_constant, torch.maximum(*map(largest, columns)), largest(columns[0]))
    columns = [times_powers(rows, -exponents(sizes)) for rows in columns]
    powers = exponents(largest(columns[1] - columns[0][0])) - SPREAD_POWER
    return tuple(times_powers(rows, torch.where(is_constant, -powers, 0)).to(x.dtype) for rows in columns)


def center(rows: Tensor) -> Tensor:
    """A point amid the rows from which to take differences: the median of some :data:`CENTER_ROWS` of them.

    Unlike the mean, it is in a constant column that column's very value, and it is not moved by outliers however far:
    the other rows' differences from it lose no digits.

    Args:
        rows: A matrix with shape `(num_rows, size)`.

    Returns:
        Each column's median, in double precision with shape `(size,)`.
    """
    return double(rows[:: -(-len(rows) // CENTER_ROWS)]).median(0).values


def as_float(value: Any) -> float:
    """A real number, also as a tensor or array of no dimension, as a float; NaN for anything else."""
    if isinstance(value, Tensor | np.ndarray) and value.ndim == 0:
        value = value.item()
    try:
        return float(value) if is_real_number(value) else math.nan
    except OverflowError:  # an integer of more than 308 digits
        return math.inf if value > 0 else -math.inf
