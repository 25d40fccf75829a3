"""The callbacks of a run, and what happens where one of them fails."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from pyro_gan.processes import Processes, quiet


class Hooks(Protocol):
    """What is told of a run: a :class:`~pyro_gan.callbacks.Callback`."""

    is_side_channel: bool
    """Whether it only tells or writes, so that a run goes on where it can not."""
    ends_runs: bool
    """Whether its `on_step` may return `True`."""

    def on_start(self, inference: Any, num_steps: int) -> None:
        """Before the first step."""

    def on_step(self, inference: Any) -> bool | None:
        """After each step; `True` ends the run."""

    def on_read(self, inference: Any) -> None:
        """After a reading of the history."""

    def on_end(self, inference: Any) -> None:
        """After the last step."""

    def state_dict(self) -> dict[str, Any]:
        """What it takes to go on."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""


_in_runs: set[int] = set()
"""The identities of the objects that a run is using, in this process."""


@contextmanager
def in_one_run(objects: Sequence[object]) -> Iterator[None]:
    """A context for objects that keep a state along a run, such as callbacks and penalties: one run at a time.

    Raises:
        ValueError: One of them is in a run already, or twice among them.
    """
    taken: list[int] = []
    try:
        for one in objects:
            if id(one) in _in_runs:
                raise ValueError(
                    f"{type(one).__name__} is in use: one object was given twice, or to two runs at a time, which "
                    "would mix up what it keeps. Make one for each."
                )
            _in_runs.add(id(one))
            taken.append(id(one))
        yield
    finally:
        _in_runs.difference_update(taken)


class Callbacks:
    """The callbacks of a run. A side channel that fails is told of once and left out from then on.

    Args:
        inference: What they are told of.
        callbacks: The callbacks, in order.
        processes: Those that train together, where there are several; only the first one tells and writes.
    """

    def __init__(self, inference: Any, callbacks: Sequence[Hooks], processes: Processes | None = None) -> None:
        self.inference = inference
        self.processes = processes
        speaks = processes is None or processes.is_first
        self.callbacks = tuple(callback for callback in callbacks if speaks or not callback.is_side_channel)
        self.may_end = any(callback.ends_runs for callback in self.callbacks)
        """Whether one of them may end the run."""
        self._started: list[Hooks] = []
        self._failed: set[int] = set()

    def start(self, num_steps: int) -> None:
        """Tell all that a run of so many steps starts, or goes on."""
        for callback in self.callbacks:
            self._tell(callback, "on_start", num_steps)
            self._started.append(callback)

    def step(self) -> bool:
        """Tell all of a step, and whether one of them ends the run."""
        ends = [self._tell(callback, "on_step") for callback in self.callbacks]  # all of them, whatever one says
        return any(ends)

    def read(self) -> None:
        """Tell all of a reading."""
        for callback in self.callbacks:
            self._tell(callback, "on_read")

    def end(self, error: BaseException | None = None) -> None:
        """Tell all that were told of the start that the run has ended, whatever one of them raises.

        Args:
            error: What ended the run; what is raised here is then noted with it, else the first of them is raised.
        """
        for callback in self._started:
            try:
                self._tell(callback, "on_end")
            except BaseException as further:
                if error is None:
                    error = further
                else:
                    error.add_note(f"Then {type(callback).__name__}.on_end raised {type(further).__name__}: {further}")
        if error is not None:
            raise error

    def _tell(self, callback: Hooks, hook: str, *arguments: Any) -> bool | None:
        if id(callback) in self._failed:
            return None
        try:
            with quiet(self.processes):
                return getattr(callback, hook)(self.inference, *arguments)
        except (OSError, ValueError) as error:
            if not callback.is_side_channel or not _is_of_a_stream(error):
                raise
            self._failed.add(id(callback))
            _warn(f"{type(callback).__name__} is left out from here on, the run goes on: {error!r}.")
            return None


def _is_of_a_stream(error: Exception) -> bool:
    """Whether a stream or a disk failed, by which no number of a run is touched."""
    return isinstance(error, OSError) or "closed file" in str(error)


def _warn(text: str) -> None:
    with suppress(ValueError):  # the closed stream may be the one that warnings are written to
        warnings.warn(text, RuntimeWarning, stacklevel=4)
