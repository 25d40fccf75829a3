"""What a step leaves to be read later, and the history that it is read into."""

import math
import time
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from pyro_gan.losses import Loss
from pyro_gan.training.clock import Clock

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
    loss: Loss | None = None
    """What the players minimized; it tells probabilities from logits, where it implies some."""
    not_finite: Tensor | None = None
    """On a device, 1.0 where an update was left out since it was not finite, else 0.0."""


class Recorded(Protocol):
    """What a recorder reads and writes of an inference."""

    clock: Clock
    history: dict[str, list[Any]]
    """A list of numbers by name: the step, :data:`COLUMNS`, and what else was noted."""
    notes: dict[int, dict[str, float]]
    """What was noted of steps that have not been read, by step and name."""

    def tell_left_out(self, step: int, is_left_out: bool) -> None:
        """Take note of whether a device left out an update at a step."""


class Recorder:
    """Moves step records from the device into a history, many at once, so that no step waits for the device.

    Args:
        inference: Whose history it is.
    """

    def __init__(self, inference: Recorded) -> None:
        self.inference = inference
        self.unread: list[StepRecord] = []
        self.is_fresh = False
        """Whether something has been read that nobody was told of."""
        self.last_read = time.monotonic()

    def is_due(self) -> bool:
        """Whether it is time to read."""
        return time.monotonic() - self.last_read >= SECONDS_BETWEEN_READS

    def read(self) -> None:
        """Read what has been left up to the present step.

        Raises:
            ValueError: An update on a device was not finite.
        """
        rows = [row for _, alike in groupby(self.unread, _kind) for row in _on_host(list(alike))]
        first_step = self.inference.clock.step - len(rows) + 1
        self.is_fresh = self.is_fresh or bool(self.unread)
        self.unread.clear()
        self.last_read = time.monotonic()
        flags = [(step, values.pop("not_finite", None)) for step, values in enumerate(rows, first_step)]
        for step, values in enumerate(rows, first_step):
            append(self.inference.history, {"step": step, **values, **self.inference.notes.pop(step, {})})
        for step, flag in flags:
            if flag is not None:
                self.inference.tell_left_out(step, flag > 0)


def append(history: dict[str, list[Any]], row: dict[str, float]) -> None:
    """Append a step's numbers by name; a name that is missing here or before has NaN there."""
    length = len(history["step"])
    for name in row:
        history.setdefault(name, [math.nan] * length)
    for name, values in history.items():
        values.append(row.get(name, math.nan))


def note(inference: Recorded, values: dict[str, float]) -> None:
    """Note numbers at the present step, whether or not it has been read into the history.

    Raises:
        ValueError: A name belongs to the history's own, or there is no step.
    """
    history, step = inference.history, inference.clock.step
    if taken := {"step", *COLUMNS} & set(values):
        raise ValueError(f"{min(taken)!r} is in the history already. Note the number under another name.")
    is_read = history["step"][-1:] == [step]
    if not step or not (is_read or inference.clock.is_running):
        raise ValueError("there is no step to note numbers at: only run writes a history. Call note in or after a run.")
    if not is_read:
        inference.notes.setdefault(step, {}).update(values)
        return
    for name, value in values.items():
        history.setdefault(name, [math.nan] * len(history["step"]))[-1] = value


def noted(inference: Recorded) -> dict[str, float]:
    """The numbers that were noted at the present step, by name."""
    history, step = inference.history, inference.clock.step
    if history["step"][-1:] != [step]:
        return dict(inference.notes.get(step, {}))
    others = {name: values[-1] for name, values in history.items() if name not in ("step", *COLUMNS)}
    return {name: value for name, value in others.items() if not math.isnan(value)}


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


def _kind(record: StepRecord) -> list[object]:
    return [tuple(value.shape) if isinstance(value, Tensor) else value for value in record]


def _on_host(records: Sequence[StepRecord]) -> list[dict[str, float]]:
    """The numbers of records of the same shapes by name, in few transfers."""
    loss = records[0].loss
    there = [name for name, value in records[0]._asdict().items() if isinstance(value, Tensor)]
    columns = {name: torch.stack([getattr(record, name) for record in records]) for name in there}
    real, fake = columns.pop("real_logits", None), columns.pop("fake_logits", None)
    if real is not None and fake is not None and loss is not None and loss.implies_log_ratio:
        # In double precision and then rounded, so that the numbers do not depend on how many are read at once.
        with torch.no_grad():
            both = mean_probabilities(real.cpu().double(), fake.cpu().double(), loss)
        columns["real_probability"], columns["fake_probability"] = (each.float() for each in both)
    if not columns:
        return [{}] * len(records)
    rows = torch.stack([column.cpu() for column in columns.values()], 1).tolist()
    return [dict(zip(columns, row, strict=True)) for row in rows]
