"""What a step leaves to be read later, and the history that it is read into."""

import math
import time
from typing import NamedTuple

import torch
from torch import Tensor

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
