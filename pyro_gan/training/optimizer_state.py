"""What an optimizer's state may hold, and which optimizer it belongs to."""

from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from pyro_gan.checks import shown

IMPLEMENTATION = frozenset({"params", "fused", "foreach", "capturable", "differentiable", "initial_lr"})
"""Options that change how an optimizer computes, but not what; and one that schedules add."""


def chosen(optimizer: Optimizer, schedule: LRScheduler | None) -> dict[str, Any]:
    """What was chosen when an optimizer was made: its class, its schedule's, and each group's options.

    Args:
        optimizer: The optimizer, as it was made.
        schedule: Its schedule, if there is one.
    """
    groups = [
        {name: _told(value, name) for name, value in group.items() if name not in IMPLEMENTATION}
        for group in optimizer.param_groups
    ]
    made: dict[str, Any] = {}
    if schedule is not None:
        made = {"class": type(schedule).__name__, **plain(schedule.state_dict(), "schedule")}
    return _as_lists({"class": type(optimizer).__name__, "schedule": made, "groups": groups})


def check_alike(argument: str, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse the state of another optimizer.

    Args:
        argument: The optimizer's argument, for the message.
        before: What :func:`chosen` told of the one whose state it is.
        now: The same of the one that is to take it over.

    Raises:
        ValueError: They differ in class, schedule or options; the message has both.
    """
    if before == now:
        return
    parts: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (before["schedule"], now["schedule"]),
        *zip_longest(before["groups"], now["groups"], fillvalue={}),
    ]
    one, other = next((pair for pair in parts if pair[0] != pair[1]), ({}, {}))
    options = sorted(each for each in one.keys() | other.keys() if one.get(each) != other.get(each))
    was, is_now = (
        f"{choice['class']}({', '.join(f'{each}={part.get(each)!r}' for each in options)})"
        for choice, part in ((before, one), (now, other))
    )
    raise ValueError(
        f"the state of {argument} is that of {was}, but this one is {is_now}. Make the inference with the same "
        f"{argument}; its rates can be changed afterwards, in {argument}.optimizer.param_groups."
    )


def check_moments(argument: str, state: dict[str, Any], parameters: Mapping[str, Tensor]) -> None:
    """Refuse moments of another shape than their parameter's, to which an optimizer would write out of bounds.

    Args:
        argument: The optimizer's argument, for the message.
        state: The state.
        parameters: The parameters that it is to move, by name.

    Raises:
        ValueError: There are some.
    """
    for name, values in state["state"].items():
        for what, value in values.items():
            if name not in parameters or not isinstance(value, Tensor) or not value.dim():
                continue
            if value.shape != parameters[name].shape:
                raise ValueError(
                    f"the state of {argument} has {what!r} of shape {tuple(value.shape)} for the parameter {name!r}, "
                    f"whose shape is {tuple(parameters[name].shape)}. Load the state that was saved with it."
                )


def plain(value: Any, name: str) -> Any:
    """A copy of a state in tensors and Python's own numbers, strings, lists and dictionaries, which a file can hold.

    Functions, such as a schedule's lambda, are left out: an inference is made with its own.

    Args:
        value: The state.
        name: What to call it in messages.

    Raises:
        ValueError: It holds something else.
    """
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(each, f"{name}[{key!r}]") for key, each in value.items() if not callable(each)}
    if isinstance(value, list | tuple):
        return type(value)([None if callable(each) else plain(each, name) for each in value])
    if value is None or isinstance(value, bool | int | float | str | torch.dtype):
        return value
    raise ValueError(f"the state of {name} holds {shown(value)} ({type(value).__name__}), which no file can hold.")


def _told(value: Any, name: str) -> Any:
    """An option as :func:`plain` has it, or in words."""
    try:
        return plain(value, name)
    except ValueError:
        return shown(value)


def _as_lists(value: Any) -> Any:
    """The same with tuples as lists, which a file may make of them."""
    if isinstance(value, dict):
        return {name: _as_lists(each) for name, each in value.items()}
    return [_as_lists(each) for each in value] if isinstance(value, list | tuple) else value
