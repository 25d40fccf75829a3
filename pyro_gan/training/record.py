"""What a step leaves to be read later, and the history that it is read into."""

import math
import time
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_gan.losses import Loss

SECONDS_BETWEEN_READS = 0.1

COLUMNS = ("generator_loss", "discriminator_loss", "penalty", "real_probability", "fake_probability")
"""What the history has of each step, beside its number and what was noted."""


class StepRecord(NamedTuple):
    """What a step leaves on the device: detached tensors, or `None` for what there is not."""

    generator_loss: Tensor | None = None
    discriminator_loss: Tensor | None = None
    penalty: Tensor | None = None
    real_logits: Tensor | None = None
    """The logits of the real rows of the discriminator's last update, with shape `(N,)`."""
    fake_logits: Tensor | None = None
    """Those of the fake rows, with shape `(M,)`."""


class Recorder:
    """Moves step records from the device into a history, many at once, so that no step waits for the device.

    Args:
        history: A list of numbers by name: the step, :data:`COLUMNS`, and what else was noted.
        notes: What was noted beside, by step and name; steps without a note of some name get NaN.
        loss: Tells probabilities from logits, where it implies some.
    """

    def __init__(self, history: dict[str, list[float]], notes: dict[int, dict[str, float]], loss: Loss) -> None:
        self.history = history
        self.notes = notes
        self.loss = loss
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
        rows = [row for _, alike in groupby(self.unread, _shapes) for row in _on_host(list(alike), self.loss)]
        first_step = last_step - len(rows) + 1
        self.unread.clear()
        self.last_read = time.monotonic()
        for step, values in enumerate(rows, first_step):
            self._append({"step": step, **values, **self.notes.pop(step, {})})
        for step, values in enumerate(rows, first_step):
            _check_finite(step, values)

    def _append(self, row: dict[str, float]) -> None:
        length = len(self.history["step"])
        for name in row:
            self.history.setdefault(name, [math.nan] * length)
        for name, values in self.history.items():
            values.append(row.get(name, math.nan))


def mean_probabilities(real_logits: Tensor, fake_logits: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    r"""The mean probability of being real, of the real and of the fake rows of several minibatches.

    Where the loss leaves a constant of the log ratio open, it is such that the ratio's mean over the fake rows of a
    minibatch is 1.

    Args:
        real_logits: The logits of real rows, with shape `(num_minibatches, N)`.
        fake_logits: The logits of fake rows, with shape `(num_minibatches, M)`.
        loss: Implies a log ratio.

    Returns:
        The means, each with shape `(num_minibatches,)`.
    """
    real, fake = (loss.log_ratio(logits.flatten()).view_as(logits) for logits in (real_logits, fake_logits))
    constant = log_mean_exp(fake)[:, None] if loss.leaves_constant_open else 0.0
    return (real - constant).sigmoid().mean(1), (fake - constant).sigmoid().mean(1)


def log_mean_exp(values: Tensor) -> Tensor:
    """The logarithm of the mean of exponentials over the last dimension."""
    return values.logsumexp(-1) - math.log(values.shape[-1])


def _shapes(record: StepRecord) -> list[tuple[int, ...] | None]:
    return [None if value is None else tuple(value.shape) for value in record]


def _on_host(records: Sequence[StepRecord], loss: Loss) -> list[dict[str, float]]:
    """The numbers of records of the same shapes by name, in few transfers."""
    there = [name for name, value in records[0]._asdict().items() if value is not None]
    columns = {name: torch.stack([getattr(record, name) for record in records]) for name in there}
    real, fake = columns.pop("real_logits", None), columns.pop("fake_logits", None)
    if real is not None and fake is not None and loss.implies_log_ratio:
        # In double precision and then rounded, so that the numbers do not depend on how many are read at once.
        with torch.no_grad():
            both = mean_probabilities(real.cpu().double(), fake.cpu().double(), loss)
        columns["real_probability"], columns["fake_probability"] = (each.float() for each in both)
    rows = torch.stack([column.cpu() for column in columns.values()], 1).tolist()
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _check_finite(step: int, values: dict[str, float]) -> None:
    losses = {"discriminator_loss": "discriminator's loss", "generator_loss": "generator's loss", "penalty": "penalty"}
    for name, what in losses.items():
        if not math.isfinite(values.get(name, 0.0)):
            raise ValueError(
                f"the {what} is {values[name]} at step {step}. Check the data for NaN or infinity, "
                "or lower the learning rates (optim, optim_d)."
            )
