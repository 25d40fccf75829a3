"""What plots are given, as arrays that can be drawn, or an error that names the argument."""

import math
from typing import Any

import numpy as np
from torch import Tensor

from pyro_gan.checks import positive_integer, shown


def as_array(name: str, values: Any) -> np.ndarray:
    """Numbers as an array of floating point on the host.

    Raises:
        ValueError: There are none, or they are not real and finite.
    """
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = values.double() if values.is_floating_point() else values
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold real numbers, but the type is {array.dtype}.")
    if not array.size:
        raise ValueError(f"{name} must hold at least one number, but the shape is {array.shape}.")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must hold finite numbers, but NaN or infinity is among them. Remove such rows first.")
    return array.astype(float)


def as_vector(name: str, values: Any, size: int | None = None) -> np.ndarray:
    """One number a row, and as many rows as asked for.

    Args:
        name: What messages call it.
        values: The numbers, with shape `(num_rows,)` or `(num_rows, 1)`.
        size: How many they must be, if that is known.
    """
    array = as_array(name, values)
    if array.shape not in ((len(array.ravel()),), (len(array.ravel()), 1)):
        raise ValueError(f"{name} must have shape (num_rows,) or (num_rows, 1), but the shape is {array.shape}.")
    if size is not None and array.size != size:
        raise ValueError(f"{name} must hold {size} numbers, but holds {array.size}.")
    return array.ravel()


def as_points(name: str, values: Any) -> np.ndarray:
    """Points in the plane, with shape `(num_rows, 2)`."""
    array = as_array(name, values)
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(f"{name} must have shape (num_rows, 2), but the shape is {array.shape}.")
    return array


def as_fractions(name: str, values: Any, size: int | None = None) -> np.ndarray:
    """A vector of numbers from 0 to 1.

    Args:
        name: What messages call it.
        values: The numbers.
        size: How many they must be, if that is known.
    """
    vector = as_vector(name, values, size)
    if vector.min() < 0 or vector.max() > 1:
        raise ValueError(f"{name} must lie between 0 and 1, but reach from {vector.min():g} to {vector.max():g}.")
    return vector


def as_probability(name: str, value: float) -> float:
    """A number between 0 and 1, both left out."""
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie between 0 and 1, but is {shown(value)}.")
    return value


def at_least(name: str, value: int, least: int) -> int:
    """An integer that is at least `least`.

    Args:
        name: What messages call it.
        value: The number.
        least: The smallest that will do.
    """
    if positive_integer(name, value) < least:
        raise ValueError(f"{name} must be at least {least}, but is {shown(value)}.")
    return value


def common_limits(limits: tuple[float, float] | None, *values: np.ndarray) -> tuple[float, float]:
    """The limits, or the values' range and a twentieth beyond."""
    if limits is None:
        low, high = float(min(part.min() for part in values)), float(max(part.max() for part in values))
        margin = (high - low) / 20 or max(0.5, abs(low) / 20)
        return low - margin, high + margin
    if np.shape(limits) != (2,) or not -math.inf < limits[0] < limits[1] < math.inf:
        raise ValueError(f"limits must be two finite numbers, the smaller first, but are {shown(limits)}.")
    return float(limits[0]), float(limits[1])


def common_box(limits: Any, *points: np.ndarray) -> np.ndarray:
    """The limits along each axis, with shape `(2, 2)`."""
    if limits is not None and np.shape(limits) != (2, 2):
        raise ValueError(f"limits must be ((left, right), (bottom, top)), but are {shown(limits)}.")
    rows = np.concatenate(points)
    return np.array([common_limits(None if limits is None else tuple(limits[side]), rows[:, side]) for side in (0, 1)])


def rows_inside(rows: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The rows within the limits."""
    return rows[((rows >= box[:, 0]) & (rows <= box[:, 1])).all(1)]
