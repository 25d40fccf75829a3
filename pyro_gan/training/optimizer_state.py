"""What an optimizer's state may hold, and which optimizer it belongs to."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from pyro_gan.checks import shown

IMPLEMENTATION = frozenset({"params", "fused", "foreach", "capturable", "differentiable", "initial_lr", "pace"})
"""Options that change how an optimizer computes, but not what; and those that schedules add or read."""


BY_GROUP = frozenset({"base_lrs", "_last_lr"})
"""What a schedule keeps for each group, of which there are more when parameters appear late."""


def chosen(optimizer: Optimizer, schedule: LRScheduler | None, parameters: Mapping[str, Tensor]) -> dict[str, Any]:
    """What was chosen when an optimizer was made: its class, its schedule, and the options of each parameter.

    Args:
        optimizer: The optimizer, as it was made.
        schedule: Its schedule, if there is one.
        parameters: Its parameters by name.
    """
    names = {parameter: name for name, parameter in parameters.items()}
    options = {
        names[parameter]: {each: _told(value, each) for each, value in group.items() if _is_chosen(each, value)}
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    made: dict[str, Any] = {}
    if schedule is not None:
        made = {"class": type(schedule).__name__, **plain_without_functions(schedule.state_dict(), "schedule")}
        made = {name: value for name, value in made.items() if name not in BY_GROUP}
    return {"class": type(optimizer).__name__, "schedule": _as_lists(made), "options": _as_lists(options)}


def check_alike(argument: str, before: dict[str, Any], now: dict[str, Any], without: Collection[str] = ()) -> None:
    """Refuse the state of another optimizer.

    Args:
        argument: The optimizer's argument, for the message.
        before: What :func:`chosen` told of the one whose state it is.
        now: The same of the one that is to take it over; parameters that only one has met are not compared.
        without: Options that may differ.

    Raises:
        ValueError: They differ in class, schedule or options; the message has both.
    """
    both = [name for name in now["options"] if name in before["options"]]
    parts: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (before["schedule"], now["schedule"]),
        *(_compared(before["options"][name], now["options"][name], now["class"], without) for name in both),
    ]
    one, other = next((pair for pair in parts if repr(pair[0]) != repr(pair[1])), ({}, {}))
    if before["class"] == now["class"] and one == other == {}:
        return
    options = sorted(each for each in one.keys() | other.keys() if repr(one.get(each)) != repr(other.get(each)))
    was, is_now = (
        f"{choice['class']}({', '.join(f'{each}={part.get(each)!r}' for each in options)})"
        for choice, part in ((before, one), (now, other))
    )
    raise ValueError(
        f"the state of {argument} is that of {was}, but this one is {is_now}. Make the inference with the same "
        f"{argument}; its rates can be changed afterwards, in {argument}.optimizer.param_groups."
    )


def _compared(
    one: dict[str, Any], other: dict[str, Any], kind: str, without: Collection[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options that count: another version of torch may have more of them, which then have to be off."""
    both = one.keys() & other.keys()
    mine, theirs = (
        {
            name: each[name]
            for name in sorted(each)
            if name not in without and (name in both or not _is_off(kind, name, each[name]))
        }
        for each in (one, other)
    )
    return mine, theirs


def _is_off(kind: str, name: str, value: Any) -> bool:
    """Whether an option changes nothing of what a class of optimizers was before it had it."""
    return not value or (kind == "AdamW" and name == "decoupled_weight_decay")


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
    """A copy in tensors and Python's own numbers, strings, lists, tuples and dictionaries, which a file can hold.

    Args:
        value: What to copy.
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
        return {key: plain(each, f"{name}[{key!r}]") for key, each in value.items()}
    if isinstance(value, list):
        return [plain(each, name) for each in value]
    if isinstance(value, tuple):
        return tuple([plain(each, name) for each in value])
    if value is None or isinstance(value, bool | int | float | str | torch.dtype):
        return value
    raise ValueError(f"the state of {name} holds {shown(value)} ({type(value).__name__}), which no file can hold.")


def plain_without_functions(value: Any, name: str) -> Any:
    """The same without functions, such as a schedule's lambda: an inference is made with its own.

    Args:
        value: What to copy.
        name: What to call it in messages.
    """
    if isinstance(value, dict):
        kept = {key: each for key, each in value.items() if not callable(each)}
        return {key: plain_without_functions(each, f"{name}[{key!r}]") for key, each in kept.items()}
    if isinstance(value, list | tuple):
        parts = [None if callable(each) else plain_without_functions(each, name) for each in value]
        return parts if isinstance(value, list) else tuple(parts)
    return plain(value, name)


def _is_chosen(option: str, value: Any) -> bool:
    return option not in IMPLEMENTATION and not callable(value)


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
