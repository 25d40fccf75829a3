"""The course of an inference's runs: which step of which run it is.

The public counter of steps counts every step, those too that a callback takes within a run. What follows the course of
a run (rates, weights, averages, the numbers in the history) reads this clock instead.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Clock:
    """Counts the steps of runs.

    Attributes:
        step: The number of the last step, by which the history numbers a run's steps. Those that a callback takes
            within a run are not counted.
        runs: The number of runs that have come to their end; one that was cut off is not counted.
        done: The steps that the present run, or the last one, has taken.
        num_steps: The steps that it is to take.
        asked: The steps that were asked for, which are more where it is to end early.
        reason: Why it is to.
        is_running: Whether a run is under way.
    """

    def __init__(self) -> None:
        self.step = 0
        self.runs = 0
        self.done = 0
        self.num_steps = 0
        self.asked = 0
        self.reason = ""
        self.is_running = False
        self.folders: set[str] = set()
        """The folders that its runs write checkpoints to, or went on from."""

    @property
    def num_left(self) -> int:
        """The steps that the run has still to take."""
        return max(0, self.num_steps - self.done)

    @property
    def progress(self) -> float:
        """The part of the run that is done, from 0 to 1; 0 where none is under way."""
        return min(1.0, self.done / self.num_steps) if self.is_running else 0.0

    @contextmanager
    def running(self, num_steps: int, done: int = 0, asked: int | None = None) -> Iterator[None]:
        """A context for a run.

        Args:
            num_steps: The steps that it is to take.
            done: The steps of it that were taken before, by a process that was cut off.
            asked: The steps that were asked for, where it is known already to end early.

        Raises:
            ValueError: A run is under way.
        """
        self.check_idle("run")
        self.num_steps, self.done, self.is_running = num_steps, done, True
        self.asked = num_steps if asked is None else asked
        self.reason = ""
        try:
            yield
        finally:
            self.is_running = False

    def tick(self) -> None:
        """Count a step of the run."""
        self.step += 1
        self.done += 1

    def shorten(self, num_steps: int, reason: str) -> None:
        """Have the run end earlier; whatever follows its course, such as rates, is further along from now on.

        Args:
            num_steps: The steps that it is to take instead, where these are fewer; at least those that are done.
            reason: Why, in a few words, for whoever watches.
        """
        self.num_steps, self.reason = max(self.done, min(num_steps, self.num_steps)), reason

    def complete(self) -> None:
        """The run has come to its end."""
        self.runs += 1

    def check_idle(self, method: str) -> None:
        """Refuse what can not be done within a run.

        Args:
            method: What was called.

        Raises:
            ValueError: A run is under way.
        """
        if self.is_running:
            raise ValueError(
                f"{method} was called while a run of the same inference is under way, as by a callback or another "
                "thread. End that run first: return True from on_step."
            )

    def __getstate__(self) -> dict[str, Any]:
        """A copy is in no run, and writes to no folder."""
        return {**vars(self), "is_running": False, "folders": set()}

    def state_dict(self) -> dict[str, Any]:
        """The counts."""
        return {"step": self.step, "runs": self.runs, "done": self.done, "num_steps": self.num_steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over counts."""
        self.step, self.runs = int(state["step"]), int(state["runs"])
        self.done, self.num_steps = int(state["done"]), int(state["num_steps"])
