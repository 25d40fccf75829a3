"""The only loop. It knows no algorithm: it takes steps, reads what they left, and tells the callbacks."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from pyro_gan.callbacks import Callback
from pyro_gan.data import Batch

if TYPE_CHECKING:
    from pyro_gan.inference.base import AdversarialInference

SECONDS_BETWEEN_READS = 0.1


class StepRecord(NamedTuple):
    """What a step leaves on the device: detached 0-dimensional tensors, or `None` for what there is not."""

    generator_loss: Tensor | None = None
    discriminator_loss: Tensor | None = None
    penalty: Tensor | None = None
    real_probability: Tensor | None = None
    fake_probability: Tensor | None = None


class Recorder:
    """Moves step records from the device into a history, many at once, so that no step waits for the device.

    Args:
        history: A list of numbers by name: the step, the fields of :class:`StepRecord`, and what else was noted.
        notes: What was noted beside, by step and name; steps without a note of some name get NaN.
    """

    def __init__(self, history: dict[str, list[float]], notes: dict[int, dict[str, float]]) -> None:
        self.history = history
        self.notes = notes
        self.unread: list[StepRecord] = []
        self.last_read = time.monotonic()

    def is_due(self) -> bool:
        """Whether it is time to read."""
        return time.monotonic() - self.last_read >= SECONDS_BETWEEN_READS

    def read(self, last_step: int) -> None:
        """Read what has been left up to a step.

        Raises:
            ValueError: A loss is NaN or infinite.
        """
        records = _on_host(self.unread)
        first_step = last_step - len(records) + 1
        self.unread.clear()
        self.last_read = time.monotonic()
        for step, values in enumerate(records, first_step):
            self._append({"step": step, **values, **self.notes.pop(step, {})})
        for step, values in enumerate(records, first_step):
            _check_finite(step, values)

    def _append(self, row: dict[str, float]) -> None:
        length = len(self.history["step"])
        for name in row:
            self.history.setdefault(name, [math.nan] * length)
        for name, values in self.history.items():
            values.append(row.get(name, math.nan))


def _on_host(records: list[StepRecord]) -> list[dict[str, float]]:
    """The numbers of records by name, in one transfer; all records of a run have the same fields."""
    if not records:
        return []
    names = [name for name, value in records[0]._asdict().items() if value is not None]
    rows = torch.stack([torch.stack([getattr(record, name) for name in names]) for record in records]).tolist()
    return [dict(zip(names, row, strict=True)) for row in rows]


def _check_finite(step: int, values: dict[str, float]) -> None:
    losses = {"discriminator_loss": "discriminator's loss", "generator_loss": "generator's loss", "penalty": "penalty"}
    for name, what in losses.items():
        if not math.isfinite(values.get(name, 0.0)):
            raise ValueError(
                f"the {what} is {values[name]} at step {step}. Check the data for NaN or infinity, "
                "or lower the learning rates (optim, optim_d)."
            )


def train(
    inference: "AdversarialInference", batches: Iterator[Batch], num_steps: int, callbacks: Sequence[Callback]
) -> None:
    """Take `num_steps` steps of inference on a stream of minibatches.

    Args:
        inference: Takes the steps and keeps the history.
        batches: The stream.
        num_steps: The number of steps.
        callbacks: Told of every step, and of every reading of the history.

    Raises:
        ValueError: A loss is NaN or infinite, or the stream runs out; the message names the step.
    """
    recorder = Recorder(inference.history, inference.notes)
    started: list[Callback] = []
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


def _take_step(inference: "AdversarialInference", batches: Iterator[Batch]) -> StepRecord:
    try:
        return inference.take_step(batches)
    except Exception as error:
        error.add_note(f"This was at step {inference.num_steps_taken + 1} of inference.")
        raise


def _read(recorder: Recorder, inference: "AdversarialInference", callbacks: Sequence[Callback]) -> None:
    if recorder.unread:
        recorder.read(inference.num_steps_taken)
        for callback in callbacks:
            callback.on_read(inference)
