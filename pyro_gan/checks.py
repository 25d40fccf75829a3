"""Checks of what users pass, that more than one module makes."""

import math
import operator
from collections.abc import Iterable
from numbers import Real
from typing import Any

LONGEST_SHOWN = 500
"""The number of characters of a value that a message shows."""

MOST_LISTED = 20
"""The number of names that a message lists."""


def positive_integer(name: str, value: Any) -> int:
    """`value` as an `int` of at least 1, or an error that names the argument."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a positive integer, but is {shown(value)} ({type(value).__name__}).") from None
    if isinstance(value, bool) or number < 1:
        raise ValueError(f"{name} must be a positive integer, but is {shown(value)}.")
    return number


def is_real_number(value: Any) -> bool:
    """Whether `value` is an integer or a floating-point number, which a truth value is not."""
    return isinstance(value, Real) and not isinstance(value, bool)


def finite_number(name: str, value: Any, zero_allowed: bool = False) -> float:
    """`value` as a positive finite `float`, or an error that names the argument.

    Args:
        name: The argument's name.
        value: What the user passed.
        zero_allowed: Whether it may be 0.

    Raises:
        ValueError: It is out of range, or no number.
    """
    if is_real_number(value) and 0 <= value < math.inf and (value > 0 or zero_allowed):
        return float(value)
    expected = "a finite number of at least 0" if zero_allowed else "a positive number"
    raise ValueError(f"{name} must be {expected}, but is {shown(value)}.")


def shown(value: Any) -> str:
    """A value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def listed(names: Iterable[Any]) -> str:
    """Names for a message, the first ones where they are many.

    Example:
        >>> listed(["loc", "scale"])
        "'loc', 'scale'"
    """
    every = list(names)
    rest = f", ... ({len(every)} in all)" if len(every) > MOST_LISTED else ""
    return ", ".join(map(shown, every[:MOST_LISTED])) + rest
