"""What an optimizer's state may hold, and which optimizer it belongs to."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from pyro_gan.checks import shown

IMPLEMENTATION = frozenset({"params", "fused", "foreach", "capturable", "differentiable"})
"""Options that change how an optimizer computes, but not what."""

RATES = frozenset({"lr", "initial_lr"})
"""Options that callbacks move along a run."""

MOVED = frozenset({"max_lr", "min_lr", "betas", "momentum", "base_momentum", "max_momentum"})
"""Options that schedules move beside."""


def check_alike(argument: str, state: dict[str, Any], optimizer: Optimizer, schedule: LRScheduler | None) -> None:
    """Refuse the state of another optimizer.

    Args:
        argument: The optimizer's argument, for the message.
        state: The state.
        optimizer: The optimizer that is to take it over.
        schedule: Its schedule, if there is one.

    Raises:
        ValueError: The state is that of another class, or of other options than rates; the message has both.
    """
    left_out = IMPLEMENTATION | RATES | (MOVED if schedule is not None else frozenset())
    befores = [_chosen(group["options"], left_out) for group in state["groups"]]
    nows = [_chosen(group, left_out) for group in optimizer.param_groups]
    before, now = next(((one, other) for one, other in zip(befores, nows, strict=False) if one != other), ({}, {}))
    name = type(optimizer).__name__
    if state["class"] == name and before == now:
        return
    options = sorted(each for each in before.keys() | now.keys() if before.get(each) != now.get(each))
    was, is_now = (", ".join(f"{each}={chosen.get(each)!r}" for each in options) for chosen in (before, now))
    raise ValueError(
        f"the state of {argument} is that of {state['class']}({was}), but this one is {name}({is_now}). Make the "
        f"inference with the same {argument}."
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


def _chosen(options: dict[str, Any], left_out: frozenset[str]) -> dict[str, Any]:
    """The options of a group that were chosen and stay, with tuples as lists."""
    values = {name: plain(value, name) for name, value in options.items() if name not in left_out}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
