"""What only one thread may do at a time.

Pyro's handlers, its checks of arguments, random states and torch's hooks belong to the process. While one thread runs a
model or puts such a state back, another must not; between two steps of one, the other may take its own.
"""

import threading
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

process_wide = threading.RLock()
"""Held while a state that belongs to the process is in use."""


def one_at_a_time(function: Callable[P, R]) -> Callable[P, R]:
    """A function that waits until no other thread uses what belongs to the process."""

    @wraps(function)
    def waiting(*args: P.args, **kwargs: P.kwargs) -> R:
        with process_wide:
            return function(*args, **kwargs)

    return waiting
