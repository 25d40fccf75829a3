"""Ending a run on a fixed set of rows before the players know these by heart."""

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from pyro_gan.callbacks.base import Callback, Inference
from pyro_gan.training.averaging import Mean

FIRST = 100
"""The steps before the first scores, and the fewest between two."""

SPACING = 1.1
"""The step of each scores, in that of those before."""

FEWEST_STEPS = 4 * FIRST
"""The steps of a run up to which nothing is scored: half of them would be over before there are scores to compare."""

REASON = "since rows kept apart fit ever worse"

CHANCE = 3.0
"""The standard errors by which scores must have risen above the best: those of chance stay below."""


class EndBeforeOverfitting(Callback):
    """Has a run end early where it begins to lose on rows that were kept apart.

    Each score is of the mean of the parameters since those before. Where the scores of the rows have become worse than
    they were at their best, by more than chance, what is still learned is true of the training rows alone. The run then
    goes on for as many steps as it has taken, with rates that fall, and ends. Callbacks that come after this one see at
    the same step that the run is to be shorter.

    Args:
        scores: Scores of the rows, small ones for good fits, with shape `(num_rows,)` and the same random numbers at
            each call; `None` where there are none. First called after the first step.

    References:
        Prechelt (1998), "Early Stopping, But When?".
    """

    def __init__(self, scores: Callable[[], Tensor | None]) -> None:
        self.scores = scores

    def on_start(self, inference: Inference, num_steps: int) -> None:
        self.best: Tensor | None = None
        self.mean: Mean | None = Mean() if num_steps > FEWEST_STEPS else None
        self.next = FIRST

    def on_step(self, inference: Inference) -> None:
        clock, parameters = inference.clock, inference.optim.parameters
        if self.mean is None:
            return
        if (clock.done == 1 and self.scores() is None) or 2 * clock.done >= clock.num_steps:
            self.mean = None
            return
        self.mean.update(parameters)
        if clock.done < self.next:
            return
        with self.mean.applied(parameters):
            scores = self.scores()
        self.mean, self.next = Mean(), max(clock.done + FIRST, math.ceil(SPACING * clock.done))
        if scores is None:
            return
        inference.note(held_out_score=float(scores.mean()))
        if self.best is None or scores.mean() < self.best.mean():
            self.best = scores
        elif _errors_above(scores, self.best) > CHANCE:
            clock.shorten(2 * clock.done, REASON)
            self.mean = None

    def state_dict(self) -> dict[str, Any]:
        if self.mean is None:
            return {"is_over": True}
        return {"best": self.best, "next": self.next, "mean": self.mean.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if "is_over" in state:
            self.mean = None
            return
        self.best, self.next = state["best"], int(state["next"])
        self.mean = Mean()
        self.mean.load_state_dict(state["mean"])


def _errors_above(scores: Tensor, best: Tensor) -> float:
    """How many standard errors the mean of scores lies above that of the best, of the same rows."""
    risen = scores - best.to(scores)
    error = float(risen.std()) / math.sqrt(len(risen)) if len(risen) > 1 else math.inf
    return float(risen.mean()) / error if error else 0.0
