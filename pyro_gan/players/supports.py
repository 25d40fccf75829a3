"""Supports of sites: what is known of them, and how numbers are kept inside."""

import copy
from typing import Any

import torch
from torch import Tensor
from torch.distributions import biject_to, constraints
from torch.distributions.constraints import Constraint

BOUNDS = ("lower_bound", "upper_bound")
INTERVALS = (constraints.interval, constraints.half_open_interval)


def innermost(support: Constraint) -> Any:
    """A support without the independence declared around it."""
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support


def has_bijection(support: Constraint) -> bool:
    """Whether torch has a bijection from the real line to this support."""
    try:
        biject_to(support)
    except NotImplementedError:
        return False
    return True


def fixed_support(support: Constraint, event_shape: tuple[int, ...]) -> Constraint | None:
    """A support with the bounds of a single row, or `None` where rows differ in their bounds.

    A distribution's support has the bounds that its parameters were expanded to, such as one for each row.

    Args:
        support: The support of rows with shape `(num_rows, *event_shape)`.
        event_shape: The shape of a row.
    """
    num_dims = len(event_shape) - innermost(support).event_dim  # a bound holds for all numbers of a multinomial row
    bounds = {name: _of_a_row(bound, num_dims) for name, bound in tensor_bounds(support).items()}
    return None if any(bound is None for bound in bounds.values()) else with_bounds(support, bounds)


def totals_of(support: Constraint) -> tuple[Any, Any] | None:
    """The fewest and the most that counts out of a known number can be; `None` for other supports.

    Args:
        support: A support, such as that of the number of successes in some trials.
    """
    base = innermost(support)
    if isinstance(base, constraints.integer_interval):
        return base.lower_bound, base.upper_bound
    if isinstance(base, constraints.multinomial):
        total = base.upper_bound  # of all counts of a row together
        return 0, total.unsqueeze(-1) if isinstance(total, Tensor) else total
    return None


def have_same_bounds(support: Constraint, other: Constraint) -> bool:
    """Whether two supports of one kind have the same bounds."""
    pairs = (
        [torch.as_tensor(getattr(innermost(one), name, 0.0), device="cpu") for one in (support, other)]
        for name in BOUNDS
    )
    return all(torch.equal(first, second) for first, second in pairs)


def interior(rows: Tensor, support: Constraint) -> Tensor:
    """Rows moved off the boundary of their support, so that their images on the real line, and slopes, are finite.

    Args:
        rows: Rows of floating point, with shape `(num_rows, *event_shape)`.
        support: Their support.
    """
    base, precision = innermost(support), torch.finfo(rows.dtype)
    if isinstance(base, type(constraints.simplex)):
        margin = 8 * precision.eps
        return (1 - rows.shape[-1] * margin) * rows + margin
    lower, upper = (getattr(base, name, None) for name in BOUNDS)
    span = 0.0 if lower is None or upper is None else upper - lower
    if lower is not None:
        rows = rows.clamp(min=lower + precision.eps * (abs(lower) + span) + precision.tiny**0.5)
    if upper is not None:
        rows = rows.clamp(max=upper - precision.eps * (abs(upper) + span) - precision.tiny**0.5)
    return rows


def reflected(numbers: Tensor, interval: Any) -> Tensor:
    """Numbers in an interval: those outside are reflected at its ends, as often as it takes.

    Args:
        numbers: Numbers on the real line.
        interval: A constraint with bounds.
    """
    lower, span = interval.lower_bound, interval.upper_bound - interval.lower_bound
    place = (numbers - lower).remainder(2 * span)
    return lower + torch.minimum(place, 2 * span - place)


def tensor_bounds(support: Constraint | None) -> dict[str, Tensor]:
    """The bounds of a support that are tensors, by name."""
    base = None if support is None else innermost(support)
    bounds = {name: getattr(base, name, None) for name in BOUNDS}
    return {name: bound.detach() for name, bound in bounds.items() if isinstance(bound, Tensor)}


def with_bounds(support: Constraint, bounds: dict[str, Any]) -> Constraint:
    """A copy of a support with other bounds."""
    if not bounds:
        return support
    if isinstance(support, constraints.independent):
        base = with_bounds(support.base_constraint, bounds)
        return constraints.independent(base, support.reinterpreted_batch_ndims)
    support = copy.copy(support)
    for name, bound in bounds.items():
        setattr(support, name, bound)
    return support


def _of_a_row(bound: Tensor, num_event_dims: int) -> Tensor | float | None:
    """One row's bound, as a number where it is one; `None` where rows differ."""
    first = bound.flatten()[0]
    if (bound == first).all():
        return first.item()
    if bound.dim() <= num_event_dims:
        return bound
    rows = bound.flatten(0, bound.dim() - num_event_dims - 1)
    return rows[0].clone() if (rows == rows[:1]).all() else None
