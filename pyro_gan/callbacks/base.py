"""The hooks into a run, and what they may read and ask of the inference that runs."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from pyro_gan.checks import shown
from pyro_gan.penalties import PenaltyFunction
from pyro_gan.players.player import Player
from pyro_gan.training.clock import Clock
from pyro_gan.training.optimizers import PlayerOptimizer


class Inference(Protocol):
    """What a callback sees of an inference: its numbers, history and players, and the questions that it answers."""

    num_steps_taken: int
    clock: Clock
    history: dict[str, list[Any]]
    notes: dict[int, dict[str, float]]
    optim: PlayerOptimizer
    optim_d: PlayerOptimizer
    penalties: tuple[PenaltyFunction, ...]
    device: torch.device

    def players(self) -> Mapping[str, Player]:
        """The players by name."""

    def sample(self, num_samples: int) -> Any:
        """Fresh rows of the compared sites."""

    def compared_rows(self) -> dict[str, tuple[Tensor, Tensor]]:
        """By site, real rows of the last minibatch and the model's draws, where both are to become alike."""

    def note(self, **values: float) -> None:
        """Note numbers at the present step."""

    def noted(self) -> dict[str, float]:
        """The numbers that were noted at the present step, by name."""

    def seconds_to_compile(self) -> float:
        """How long compiling has taken so far."""


class Callback:
    """Hooks into a run; subclass it and override what is needed.

    `inference.clock` tells where the run is: its `step` is the number of the present step in the history, `done` of
    `num_steps` are taken, and `progress` goes from 0 to 1. Within a hook, `step` is a step of its own, which the run's
    clock and history do not count; `run` and `load` are refused.

    Example:
        >>> class Rates(Callback):
        ...     def on_step(self, inference):
        ...         if inference.clock.step % 1000 == 0:
        ...             print(inference.optim.optimizer.param_groups[0]["lr"])
    """

    is_side_channel = False
    """Whether it only tells or writes: where its stream or disk fails, the run then goes on without it."""

    ends_runs = True
    """Whether :meth:`on_step` may return `True`. Where none of several processes has such a callback, they need not ask
    each other after every step. A class with an :meth:`on_step` of its own does, unless it says that it does not."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "on_step" in vars(cls) and "ends_runs" not in vars(cls):
            cls.ends_runs = True

    def on_start(self, inference: Inference, num_steps: int) -> None:
        """Before the first of the `num_steps` steps of a run."""

    def on_step(self, inference: Inference) -> bool | None:
        """After each step, before its losses have been read; return `True` to end the run."""

    def on_read(self, inference: Inference) -> None:
        """After losses have been read from the device into `inference.history`, at most some ten times a second."""

    def on_end(self, inference: Inference) -> None:
        """After the last step, or when a run is cut off by an error or an interrupt."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps, so that a run that was cut off goes on: tensors, numbers, strings, lists, dicts."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Called after :meth:`on_start` where a run goes on, with what :meth:`state_dict` returned."""


def as_callbacks(callbacks: Any) -> list[Callback]:
    """The callbacks that a user passed, as a list.

    Args:
        callbacks: One callback, or several.

    Raises:
        TypeError: It is anything else; the message says what.
    """
    if isinstance(callbacks, Callback):
        return [callbacks]
    if not isinstance(callbacks, Iterable):
        raise TypeError(
            f"callbacks must be pyro_gan.callbacks.Callback objects in a list, but is {shown(callbacks)}. Pass [] for "
            "none."
        )
    given = list(callbacks)
    for callback in given:
        if isinstance(callback, type) and issubclass(callback, Callback):
            raise TypeError(
                f"callbacks must be pyro_gan.callbacks.Callback objects, but one is the class {callback.__name__}. "
                f"Write {callback.__name__}(...)."
            )
        if not isinstance(callback, Callback):
            raise TypeError(f"callbacks must be pyro_gan.callbacks.Callback objects, but one is {shown(callback)}.")
    return given
