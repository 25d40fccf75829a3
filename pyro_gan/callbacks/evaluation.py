"""Asking how good the model is along a run: criticism, pictures, stopping, and keeping the best."""

import math
import weakref
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

from pyro_gan.callbacks.base import Callback, Inference
from pyro_gan.checks import positive_integer, shown
from pyro_gan.players.first_look import kept_random_state
from pyro_gan.players.player import Player
from pyro_gan.plots import plot_images
from pyro_gan.processes import agreed


class Evaluate(Callback):
    """Notes a criticism of fresh samples in the history, every so many steps: the losses do not tell how good a fit is.

    The run goes on as it would have without: random states and batch statistics are put back.

    Args:
        criticism: Called with the samples and the held-out rows; it returns a number or a named tuple of numbers, as
            those of :mod:`pyro_gan.criticism` do.
        rows: Held-out rows, with shape `(num_rows, *event_shape)`.
        every: The number of steps between evaluations.
        num_samples: The number of samples drawn for each.
        name: The history's name for it, by default the function's; a named tuple's fields are appended to it.

    Example:
        >>> import torch
        >>> Evaluate(lambda samples, rows: (samples.mean() - rows.mean()).abs(), torch.zeros(9), name="error").name
        'error'
    """

    ends_runs = False

    def __init__(
        self,
        criticism: Callable[[Any, Any], Any],
        rows: Any,
        *,
        every: int = 1000,
        num_samples: int = 1000,
        name: str | None = None,
    ) -> None:
        if not callable(criticism):
            raise TypeError(f"criticism must be a callable on samples and rows, but is {criticism!r}.")
        self.criticism = criticism
        self.rows = rows
        self.every = positive_integer("every", every)
        self.num_samples = positive_integer("num_samples", num_samples)
        self.name = name or getattr(getattr(criticism, "func", criticism), "__name__", type(criticism).__name__)

    def on_step(self, inference: Inference) -> None:
        if inference.clock.step % self.every == 0:
            inference.note(**agreed(lambda: self._found(inference)))

    def _found(self, inference: Inference) -> dict[str, float]:
        """The criticism's numbers by their names in the history."""
        with kept_random_state(inference.device):
            result = self.criticism(inference.sample(self.num_samples), self.rows)
        fields = result._asdict() if hasattr(result, "_asdict") else {"": result}
        return {"_".join(filter(None, (self.name, field))): float(value) for field, value in fields.items()}


class SaveSamples(Callback):
    """Saves a picture of fresh samples every so many steps, named after the step.

    Args:
        folder: Where to; it is made if missing.
        every: The number of steps between pictures.
        num_samples: The number of samples drawn for each.
        draw: Draws the samples on matplotlib axes, which it makes and returns; by default as images in a grid.
    """

    is_side_channel = True
    ends_runs = False

    def __init__(
        self,
        folder: str | PathLike[str],
        *,
        every: int = 1000,
        num_samples: int = 16,
        draw: Callable[[Any], Any] = plot_images,
    ) -> None:
        if not callable(draw):
            raise TypeError(f"draw must be a callable from samples to matplotlib axes, but is {shown(draw)}.")
        self.folder = Path(folder)
        self.every = positive_integer("every", every)
        self.num_samples = positive_integer("num_samples", num_samples)
        self.draw = draw

    def on_start(self, inference: Inference, num_steps: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def on_step(self, inference: Inference) -> None:
        if inference.clock.step % self.every == 0:
            with kept_random_state(inference.device):
                ax = self.draw(inference.sample(self.num_samples))
            ax.set_title(f"step {inference.clock.step}")
            ax.figure.savefig(self.folder / f"{inference.clock.step:06d}.png", dpi=120, bbox_inches="tight")
            _close(ax.figure)


class StopWhen(Callback):
    """Ends the run when a condition holds.

    Args:
        condition: Called with the inference after each step; `True` ends the run. Numbers noted at the step are in
            `inference.noted()`.

    Example:
        >>> import torch
        >>> evaluate = Evaluate(lambda samples, rows: abs(samples.mean() - rows.mean()), torch.zeros(9), name="error")
        >>> best = KeepBest("error", smaller_is_better=True)
        >>> patience = StopWhen(lambda inference: inference.clock.step - best.step >= 5000)
        >>> callbacks = [evaluate, best, patience]                       # in this order
    """

    def __init__(self, condition: Callable[[Inference], bool]) -> None:
        if not callable(condition):
            raise TypeError(f"condition must be a callable on the inference, but is {shown(condition)}.")
        self.condition = condition

    def on_step(self, inference: Inference) -> bool:
        return bool(self.condition(inference))


class KeepBest(Callback):
    """Leaves the model, and its guide, at the end of a run as they were when a noted number was best.

    Put it behind the :class:`Evaluate` that notes the number. The losses can not serve: they tell how the players stand
    to each other, not how good the model is.

    Args:
        name: The number's name in the history.
        smaller_is_better: Whether the least is the best.

    Attributes:
        value: The best number so far, or `None`.
        step: The step at which it was noted, 0 before there is one.
    """

    ends_runs = False

    def __init__(self, name: str, *, smaller_is_better: bool = False) -> None:
        if not isinstance(name, str):
            raise TypeError(f"name must be that of a noted number, but is {name!r}.")
        if name in ("generator_loss", "discriminator_loss", "penalty", "real_probability", "fake_probability"):
            raise ValueError(
                f"name={name!r} does not tell how good the model is. Name a criticism that Evaluate notes."
            )
        self.name = name
        self.sign = -1 if smaller_is_better else 1
        self.value: float | None = None
        self.step = 0
        self.states: dict[str, Any] = {}
        self._of: weakref.ref[Any] | None = None

    def on_start(self, inference: Inference, num_steps: int) -> None:
        if self._of is None or self._of() is not inference:  # the best model of one is not another's
            self.value, self.step, self.states = None, 0, {}
        self._of = weakref.ref(inference)

    def on_step(self, inference: Inference) -> None:
        value = inference.noted().get(self.name)
        if (
            value is None
            or math.isnan(value)
            or (self.value is not None and self.sign * value <= self.sign * self.value)
        ):
            return
        self.value, self.step = value, inference.clock.step
        self.states = {name: player.state_dict() for name, player in _generator_side(inference).items()}

    def on_end(self, inference: Inference) -> None:
        if self.value is not None:
            for name, player in _generator_side(inference).items():
                player.load_state_dict(self.states[name])

    def state_dict(self) -> dict[str, Any]:
        return {} if self.value is None else {"value": self.value, "step": self.step, "states": self.states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value, self.step, self.states = state["value"], state["step"], state["states"]


def _generator_side(inference: Inference) -> dict[str, Player]:
    return {name: player for name, player in inference.players().items() if name != "discriminator"}


def _close(figure: Any) -> None:
    import matplotlib.pyplot as plt

    plt.close(figure)
