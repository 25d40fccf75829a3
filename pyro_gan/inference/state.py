"""The state of an inference: what it takes to go on, with a description of what it is a state of."""

import copy
from collections.abc import Mapping
from functools import partial
from types import FunctionType, MethodType
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from pyro_gan.losses import Loss
from pyro_gan.penalties import PenaltyFunction
from pyro_gan.players.categories import Known
from pyro_gan.players.player import Player
from pyro_gan.training.averaging import MovingAverage
from pyro_gan.training.clock import Clock
from pyro_gan.training.optimizers import PlayerOptimizer


class Described(Protocol):
    """What tells one kind of inference from another."""

    loss: Loss
    penalties: tuple[PenaltyFunction, ...]
    discriminator_steps: int
    generator_steps: int


class Stateful(Protocol):
    """What a state is made of."""

    num_steps_taken: int
    num_updates: int
    clock: Clock
    description: dict[str, Any]
    """What :func:`description_of` told when it was made; later a callback may exchange a loss, or move a weight."""
    history: dict[str, list[Any]]
    average: MovingAverage | None
    known: Known
    """What training has told of the conditions."""

    def players(self) -> Mapping[str, Player]:
        """The players by name."""

    def optimizers(self) -> Mapping[str, PlayerOptimizer]:
        """Their optimizers by name."""

    def names_in_state(self) -> set[str]:
        """What a state consists of."""


NAMES = frozenset({"description", "num_steps_taken", "num_updates", "clock", "history", "average", "conditions"})
"""What every state consists of, beside players and optimizers."""

UNREADABLE = (KeyError, TypeError, AttributeError, IndexError)
"""Errors of reading what is of another form than a state."""


def state_of(inference: Stateful) -> dict[str, Any]:
    """A copy of the state, of tensors, numbers, strings, lists and dictionaries."""
    return {
        "description": dict(inference.description),
        "num_steps_taken": inference.num_steps_taken,
        "num_updates": inference.num_updates,
        "clock": inference.clock.state_dict(),
        "history": {name: list(values) for name, values in inference.history.items()},
        "average": None if inference.average is None else inference.average.state_dict(),
        "conditions": inference.known.state_dict(),
        **{name: player.state_dict() for name, player in inference.players().items()},
        **{name: optimizer.state_dict() for name, optimizer in inference.optimizers().items()},
    }


def take_over(inference: Stateful, state: dict[str, Any]) -> None:
    """Give an inference a state, all of it or, where it does not fit, nothing.

    Raises:
        ValueError: This is no state, or one of another inference: the message says what differs.
    """
    if isinstance(state, dict) and "description" in state:
        state = {"conditions": {}, **state}  # earlier states do not tell of them
        _check_description(state["description"], inference.description)
    if not isinstance(state, dict) or set(state) != inference.names_in_state():
        raise _no_state()
    try:
        _parse(inference, state)
    except (*UNREADABLE, ValueError, RuntimeError) as error:
        raise _no_state() from error
    try:
        for name, player in inference.players().items():
            player.check_state_dict(state[name])
        for name, optimizer in inference.optimizers().items():
            optimizer.check_state_dict(state[name])
    except UNREADABLE as error:
        raise _no_state() from error
    for name, player in inference.players().items():
        player.load_state_dict(state[name])
    for name, optimizer in inference.optimizers().items():
        optimizer.load_state_dict(state[name])
    if inference.average is not None:
        inference.average.load_state_dict(state["average"] or MovingAverage(inference.average.decay).state_dict())
    inference.known.load_state_dict(state["conditions"])
    inference.num_steps_taken = state["num_steps_taken"]
    inference.num_updates = state["num_updates"]
    inference.clock.load_state_dict(state["clock"])
    inference.history.clear()
    inference.history.update(history_in(state))


def copy_of(state: dict[str, Any]) -> dict[str, Any]:
    """A copy of a state, with the history's numbers in lists; `deepcopy` would look at each of them."""
    others = {name: value for name, value in state.items() if name != "history"}
    return {**copy.deepcopy(others), "history": history_in(state)}


def history_in(state: dict[str, Any]) -> dict[str, list[Any]]:
    """A copy of a state's history, which a file has in tensors."""
    columns = state["history"].items()
    return {name: values.tolist() if isinstance(values, Tensor) else list(values) for name, values in columns}


def _no_state() -> ValueError:
    return ValueError("expected a state that state_dict() returned, but this is none. Pass what it returned.")


def _parse(inference: Stateful, state: dict[str, Any]) -> None:
    """Read all of a state into objects of nobody, so that what can not be read is found before anything changes."""
    int(state["num_steps_taken"]), int(state["num_updates"])
    Clock().load_state_dict(state["clock"])
    Known().load_state_dict(state["conditions"])
    lengths = {len(values) for values in state["history"].values()}
    if len(lengths) != 1 or "step" not in state["history"]:
        raise _no_state()
    if state["average"] is not None:
        MovingAverage(0.0).load_state_dict(state["average"])
    for name, player in inference.players().items():
        player.read(state[name])
    for name in inference.optimizers():
        optimizer = state[name]
        if set(optimizer) != {"chosen", "groups", "state", "schedule"}:
            raise _no_state()
        chosen = optimizer["chosen"]
        for options in (chosen["schedule"], *chosen["options"].values()):
            dict(options)
        if not isinstance(chosen["class"], str):
            raise _no_state()
        for group in optimizer["groups"]:
            list(group["names"]), dict(group["options"])
        for values in optimizer["state"].values():
            dict(values)


def description_of(inference: Described) -> dict[str, Any]:
    """What kind of inference it is: its class, its loss, its penalties and its updates a step, in words."""
    return {
        "class": type(inference).__name__,
        "loss": _described(inference.loss),
        "penalties": [_described(given) for given in inference.penalties],
        "discriminator_steps": str(inference.discriminator_steps),
        "generator_steps": str(inference.generator_steps),
    }


def _check_description(before: Any, now: dict[str, Any]) -> None:
    for what in now:
        if not isinstance(before, dict) or not isinstance(before.get(what), str | list):
            raise _no_state()
        if before[what] != now[what]:
            raise ValueError(
                f"the state is that of an inference whose {what} is {_in_words(before[what])}, but this one's is "
                f"{_in_words(now[what])}. Load it into one that is made as that was."
            )


def _in_words(value: Any) -> str:
    return value if isinstance(value, str) else ", ".join(value) or "none"


def _described(value: object) -> str:
    """A loss or a penalty in words: a function's name, or a class with its attributes."""
    if isinstance(value, FunctionType | MethodType):
        return value.__qualname__
    if isinstance(value, partial):
        given = [*map(_shown, value.args), *(f"{name}={_shown(each)}" for name, each in value.keywords.items())]
        return f"partial({', '.join([_shown(value.func), *given])})"
    attributes = [
        f"{name}={_shown(each)}"
        for name, each in sorted(vars(value).items() if hasattr(value, "__dict__") else ())
        if not name.startswith("_")
    ]
    return f"{type(value).__name__}({', '.join(attributes)})"


def _shown(value: object) -> str:
    """An attribute in words: a number or a name as it is, anything else by its kind."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str | tuple):
        return repr(value)
    return value.__qualname__ if isinstance(value, FunctionType | MethodType) else type(value).__name__
