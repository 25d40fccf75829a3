"""The hooks into a run, and what they may read and ask of the inference that runs."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch

from pyro_gan.penalties import PenaltyFunction
from pyro_gan.players.player import Player
from pyro_gan.training.optimizers import PlayerOptimizer


class Inference(Protocol):
    """What a callback sees of an inference: its numbers, history and players, and the questions that it answers."""

    num_steps_taken: int
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

    def note(self, **values: float) -> None:
        """Note numbers at the present step."""

    def seconds_to_compile(self) -> float:
        """How long compiling has taken so far."""


class Callback:
    """Hooks into a run; subclass it and override what is needed.

    Example:
        >>> class Rates(Callback):
        ...     def on_step(self, inference):
        ...         if inference.num_steps_taken % 1000 == 0:
        ...             print(inference.optim.optimizer.param_groups[0]["lr"])
    """

    def on_start(self, inference: Inference, num_steps: int) -> None:
        """Before the first of the `num_steps` steps of a run."""

    def on_step(self, inference: Inference) -> bool | None:
        """After each step, before its losses have been read; return `True` to end the run."""

    def on_read(self, inference: Inference) -> None:
        """After losses have been read from the device into `inference.history`, at most some ten times a second."""

    def on_end(self, inference: Inference) -> None:
        """After the last step, or when a run is cut off by an error or an interrupt."""
