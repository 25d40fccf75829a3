"""Two sets of rows that are to be compared: checked, and brought to one shape and precision."""

from typing import Any

import numpy as np
import torch
from torch import Tensor


def matching_rows(first: Any, second: Any, *, names: tuple[str, str], at_least: int = 1) -> tuple[Tensor, Tensor]:
    """Both as matrices with one row a sample, detached, of one floating-point precision and on one device.

    Args:
        first: A floating-point tensor or array with shape `(num_rows, *event_shape)`.
        second: Another, with shape `(other_num_rows, *event_shape)`.
        names: What messages call the two, in the plural, such as `("samples", "test rows")`.
        at_least: The fewest rows that each must have.

    Returns:
        Two matrices with shapes `(num_rows, event_size)` and `(other_num_rows, event_size)`, in single precision, or in
        double where one of the two is.

    Raises:
        TypeError: One of them is no tensor, and can not be made one.
        ValueError: Devices or event shapes differ, an event has no entries, there are too few rows, or values are not
            finite numbers of floating point.
    """
    pair = as_rows(names[0], first), as_rows(names[1], second)
    if pair[0].device != pair[1].device:
        raise ValueError(
            f"{names[0]} are on the device {pair[0].device} and {names[1]} on {pair[1].device}: expected one device. "
            "Move one with .to(device)."
        )
    _check_shapes(*pair, names)
    _check_number_of_rows(*pair, names, at_least)
    for name, rows in zip(names, pair, strict=True):
        if not rows.is_floating_point():
            raise ValueError(f"{name} are of type {rows.dtype}, but expected floating point. Scale them first.")
        if not torch.isfinite(rows).all():
            raise ValueError(f"{name} hold NaN or infinity. Remove such rows first.")
    precision = torch.promote_types(torch.promote_types(pair[0].dtype, pair[1].dtype), torch.float32)
    return pair[0].reshape(len(pair[0]), -1).to(precision), pair[1].reshape(len(pair[1]), -1).to(precision)


def as_rows(name: str, values: Any) -> Tensor:
    """As :func:`as_tensor`, but lists of Python's numbers, which are of double precision, stay so."""
    rows = as_tensor(name, values)
    is_list = not isinstance(values, Tensor) and not hasattr(values, "__array__")
    if is_list and rows.dtype == torch.float32:
        return torch.as_tensor(values, dtype=torch.float64, device="cpu")
    return rows


def as_tensor(name: str, values: Any) -> Tensor:
    """A tensor, an array, or nested lists of numbers as a detached tensor of the same shape.

    Args:
        name: What messages call the values, in the plural.
        values: What the user passed.

    Raises:
        TypeError: The values can not be made a tensor.
    """
    try:
        if isinstance(values, Tensor):
            return values.detach()
        if not hasattr(values, "__array__"):
            return torch.as_tensor(values, device="cpu")
        array = np.asarray(values)
        if array.dtype == np.longdouble:  # which torch does not know
            with np.errstate(over="ignore"):
                array = array.astype(np.float64)
        # The copy is writable, in order and of the machine's byte order, as torch wants it.
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C"))
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise TypeError(
            f"{name} must be a tensor or an array of numbers, but are of type {type(values).__name__}: {error}. "
            "Convert them first."
        ) from error


def _check_shapes(first: Tensor, second: Tensor, names: tuple[str, str]) -> None:
    shapes = f"{names[0]} have shape {tuple(first.shape)} and {names[1]} {tuple(second.shape)}"
    if first.dim() == 0 or second.dim() == 0 or first.shape[1:] != second.shape[1:]:
        raise ValueError(f"{shapes}: expected (num_rows, *event_shape) with the same event shape.")
    if not first.shape[1:].numel():
        raise ValueError(f"{shapes}: expected at least one entry a row.")


def _check_number_of_rows(first: Tensor, second: Tensor, names: tuple[str, str], at_least: int) -> None:
    if min(len(first), len(second)) < at_least:
        fewest = "rows" if at_least == 1 else f"at least {at_least} rows"
        raise ValueError(
            f"expected {fewest} in both, but there are {len(first)} {names[0]} and {len(second)} {names[1]}."
        )
