"""The only loop. It knows no algorithm: it takes steps, reads what they left, and tells the callbacks."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Protocol

from pyro_gan.losses import Loss
from pyro_gan.players.batch import Batch
from pyro_gan.training.record import Recorder, StepRecord


class Trainee(Protocol):
    """What takes the steps and keeps the history."""

    num_steps_taken: int
    history: dict[str, list[Any]]
    notes: dict[int, dict[str, float]]
    loss: Loss

    def take_step(self, batches: Iterator[Batch]) -> StepRecord:
        """Take one step on a stream of minibatches."""


class Hooks(Protocol):
    """What is told of a run: a :class:`~pyro_gan.callbacks.Callback`."""

    def on_start(self, inference: Any, num_steps: int) -> None:
        """Before the first step."""

    def on_step(self, inference: Any) -> bool | None:
        """After each step; `True` ends the run."""

    def on_read(self, inference: Any) -> None:
        """After a reading of the history."""

    def on_end(self, inference: Any) -> None:
        """After the last step."""


def train(inference: Trainee, batches: Iterator[Batch], num_steps: int, callbacks: Sequence[Hooks]) -> None:
    """Take `num_steps` steps of inference on a stream of minibatches.

    Args:
        inference: Takes the steps and keeps the history.
        batches: The stream.
        num_steps: The number of steps.
        callbacks: Told of every step, and of every reading of the history.

    Raises:
        ValueError: A loss is NaN or infinite, or the stream runs out; the message names the step.
    """
    recorder = Recorder(inference.history, inference.notes, inference.loss)
    started: list[Hooks] = []
    try:
        for callback in callbacks:
            callback.on_start(inference, num_steps)
            started.append(callback)
        for _ in range(num_steps):
            recorder.unread.append(_take_step(inference, batches))
            stops = [callback.on_step(inference) for callback in callbacks]
            if recorder.is_due():
                _read(recorder, inference, callbacks)
            if any(stops):
                break
        _read(recorder, inference, callbacks)
    except BaseException:
        with suppress(ValueError):  # a loss that is not finite is not what ended the run
            recorder.read(inference.num_steps_taken)
        raise
    finally:
        for callback in started:
            callback.on_end(inference)


def _take_step(inference: Trainee, batches: Iterator[Batch]) -> StepRecord:
    try:
        return inference.take_step(batches)
    except Exception as error:
        error.add_note(f"This was at step {inference.num_steps_taken + 1} of inference.")
        raise


def _read(recorder: Recorder, inference: Trainee, callbacks: Sequence[Hooks]) -> None:
    if recorder.unread:
        recorder.read(inference.num_steps_taken)
        for callback in callbacks:
            callback.on_read(inference)
