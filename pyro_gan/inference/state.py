"""The state of an inference: what it takes to go on."""

from collections.abc import Mapping
from typing import Any, Protocol

from pyro_gan.players.player import Player
from pyro_gan.training.averaging import MovingAverage
from pyro_gan.training.optimizers import PlayerOptimizer


class Stateful(Protocol):
    """What a state is made of."""

    num_steps_taken: int
    num_updates: int
    history: dict[str, list[Any]]
    average: MovingAverage | None

    def players(self) -> Mapping[str, Player]:
        """The players by name."""

    def optimizers(self) -> Mapping[str, PlayerOptimizer]:
        """Their optimizers by name."""

    def names_in_state(self) -> set[str]:
        """What a state consists of."""


def state_of(inference: Stateful) -> dict[str, Any]:
    """A copy of the state, of tensors, numbers, strings, lists and dictionaries."""
    return {
        "num_steps_taken": inference.num_steps_taken,
        "num_updates": inference.num_updates,
        "history": {name: list(values) for name, values in inference.history.items()},
        "average": None if inference.average is None else inference.average.state_dict(),
        **{name: player.state_dict() for name, player in inference.players().items()},
        **{name: optimizer.state_dict() for name, optimizer in inference.optimizers().items()},
    }


def take_over(inference: Stateful, state: dict[str, Any]) -> None:
    """Give an inference a state.

    Raises:
        ValueError: This is no state, or one of another model or discriminator: parameters differ in name or shape.
    """
    players = inference.players()
    if not isinstance(state, dict) or set(state) != inference.names_in_state():
        raise ValueError("expected a state that state_dict() returned, but this is none. Pass what it returned.")
    for name, player in players.items():
        player.check_state_dict(state[name])
    for name, player in players.items():
        player.load_state_dict(state[name])
    for name, optimizer in inference.optimizers().items():
        optimizer.load_state_dict(state[name])
    if inference.average is not None:
        inference.average.load_state_dict(state["average"] or MovingAverage(inference.average.decay).state_dict())
    inference.num_steps_taken = state["num_steps_taken"]
    inference.num_updates = state["num_updates"]
    inference.history.clear()
    inference.history.update({name: list(values) for name, values in state["history"].items()})
