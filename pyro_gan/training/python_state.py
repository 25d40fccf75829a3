"""What users' callables keep in Python beside tensors, so that a change of it can be noticed."""

import functools
import inspect
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from types import FunctionType, ModuleType
from typing import Any

from pyro.poutine.messenger import unwrap
from torch import Tensor, nn

DEPTH = 4
"""How deep objects within objects are followed."""

MOST_ENTRIES = 100
"""The entries of a container that are looked at."""

OF_MODULES = frozenset(vars(nn.Module()))
"""The attributes of every module: hooks and the like are torch's, and modes are facts of their own."""


def python_state(functions: Iterable[Any]) -> list[str]:
    """The numbers and strings that callables can reach: in closures, globals that they name, attributes and containers.

    Tensors and arrays are left out, and so are the modules of libraries.

    Args:
        functions: The callables, and objects that have some.
    """
    seen: set[int] = set()
    return [text for function in functions for text in _state(function, DEPTH, seen)]


def _state(value: Any, depth: int, seen: set[int]) -> Iterator[str]:
    if value is None or isinstance(value, bool | int | float | complex | str | itertools.count):
        yield repr(value)
        return
    if depth == 0 or id(value) in seen or isinstance(value, Tensor | ModuleType | type):
        return
    seen.add(id(value))
    for part in _parts(value):
        yield from _state(part, depth - 1, seen)


def _parts(value: Any) -> Iterator[Any]:
    """What an object holds."""
    if isinstance(value, nn.Module):
        yield from (each for name, each in vars(value).items() if name not in OF_MODULES)
        yield from value._modules.values()
        yield type(value).forward
    elif isinstance(value, Mapping):
        yield len(value)
        yield from itertools.islice(value.values(), MOST_ENTRIES)
    elif isinstance(value, Sequence | Set) and not isinstance(value, bytes):
        yield len(value)
        yield from itertools.islice(value, MOST_ENTRIES)
    elif isinstance(value, functools.partial):
        yield from (value.func, *value.args, *value.keywords.values())
    elif inspect.ismethod(value):
        yield from (value.__self__, value.__func__)
    elif callable(value) and isinstance(function := unwrap(value), FunctionType):
        yield from _of_function(function)
    elif hasattr(value, "__dict__") and not type(value).__module__.startswith(("torch", "pyro.", "numpy")):
        yield from vars(value).values()
        yield vars(type(value)).get("__call__")


def _of_function(function: FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # it is still empty
            continue
    if not function.__module__ or not function.__module__.startswith(("torch", "pyro.", "numpy", "pyro_gan.")):
        yield from (function.__globals__[name] for name in function.__code__.co_names if name in function.__globals__)
