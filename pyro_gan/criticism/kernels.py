r"""Kernels of the distances between rows, and their sums over pairs, for the two-sample tests.

The Gaussian kernel of width :math:`\sigma` is :math:`k(d) = \exp(-d^2 / (2 \sigma^2))`. Wherever all rows lie within a
width of each other, k - 1 stands for it: the tests' statistics are the same, as the ones cancel in them, but what is
left keeps its digits.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pyro_gan.criticism.distances import distances
from pyro_gan.criticism.scales import times_power

WIDEST_POWER = 30
"""From 2**30 times the rows' extent on, k - 1 is -d**2 / (2 * width**2) in double precision."""


def bandwidths_of(bandwidth: Any) -> list[float]:
    """One or several widths as a list.

    Raises:
        TypeError: `bandwidth` is no number and holds none.
        ValueError: It is not positive and finite.
    """
    try:
        bandwidths = torch.as_tensor(bandwidth, dtype=torch.float64).reshape(-1).tolist()
    except OverflowError:  # an integer of more than 308 digits
        bandwidths = [math.inf]
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"bandwidth must be a number or a sequence of numbers, but is {bandwidth!r}.") from None
    if not bandwidths or not all(0 < width < math.inf for width in bandwidths):
        raise ValueError(f"bandwidth must be a positive number, or a sequence of such, but is {bandwidth!r}.")
    return bandwidths


def extent(rows: Tensor) -> float:
    """The diagonal of the smallest box around the rows of a matrix `(num_rows, size)`: no distance is larger."""
    return float((rows.amax(0) - rows.amin(0)).norm())


def scaled_widths(bandwidths: list[float], power: int, extent: float) -> tuple[list[float], int]:
    """Widths in units of the rows, and narrowed where they are so wide that nothing else would be left of k - 1.

    Args:
        bandwidths: Widths in the data's units.
        power: Rows are in units of `2**power`.
        extent: The rows' extent, in those units.

    Returns:
        The widths, and the exponent of the power of two by which they are too small: the kernels less 1 are then too
        large by its square.
    """
    narrowest = math.frexp(min(bandwidths))[1] - power
    excess = max(0, narrowest - math.frexp(extent)[1] - WIDEST_POWER) if extent else 0
    tiny = torch.finfo(torch.float64).tiny  # a width of 0 would leave 0 / 0 of equal rows
    return [max(times_power(width, -power - excess), tiny) for width in bandwidths], excess


def gaussian(distances: Tensor, widths: list[float], extent: float) -> Tensor:
    """The mean of Gaussian kernels, up to a constant that depends on the widths and the extent alone.

    Args:
        distances: Distances of any shape, in double precision.
        widths: The kernels' widths, in the same units; infinite ones leave nothing of k - 1.
        extent: A bound on all the distances.

    Returns:
        The kernels' mean, with the same shape; less 1 for each whose width is above the extent.
    """
    values = torch.zeros_like(distances)
    for width in widths:
        exponents = (distances / width).square_().mul_(-0.5)
        values += exponents.expm1_() if width > extent else exponents.exp_()
    return values / len(widths)


def kernel_sums(
    rows: Tensor, labels: Tensor, kernel: Callable[[Tensor], Tensor], from_products: bool, at_once: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The kernel summed over pairs of two rows called x, over pairs whose first row is, and over all pairs.

    A pair of a row and itself counts nothing. Blocks of the kernel matrix, as large as fit at once, are summed by
    matrix products with the labels.

    Args:
        rows: A matrix with shape `(num_rows, size)`.
        labels: Which rows are called x: 1 or 0, with shape `(num_labellings, num_rows)`.
        kernel: From distances to similarities of the same shape.
        from_products: How distances are computed.
        at_once: How many rows a block of the matrix has.

    Returns:
        The first two sums with shape `(num_labellings,)`, the third with shape `()`.
    """
    within_x, touching_x, total = labels.new_zeros(len(labels)), labels.new_zeros(len(labels)), labels.new_zeros(())
    for start in range(0, len(rows), at_once):
        block = kernel(distances(rows[start : start + at_once], rows, from_products))
        block.diagonal(start).zero_()
        are_x, row_sums = labels[:, start : start + at_once], block.sum(1)
        within_x += (labels @ block.T).mul_(are_x).sum(1)
        touching_x += are_x @ row_sums
        total += row_sums.sum()
    return within_x, touching_x, total
