"""Checks of what users pass, that more than one module makes."""

import operator
from typing import Any


def positive_integer(name: str, value: Any) -> int:
    """`value` as an `int` of at least 1, or an error that names the argument."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a positive integer, but is {value!r} ({type(value).__name__}).") from None
    if isinstance(value, bool) or number < 1:
        raise ValueError(f"{name} must be a positive integer, but is {value!r}.")
    return number
