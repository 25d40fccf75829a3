"""Ending a run on a fixed set of rows before the players know these by heart."""

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from pyro_gan.callbacks.base import Callback, Inference
from pyro_gan.processes import agreed
from pyro_gan.training.averaging import Mean

FIRST = 100
"""The steps before the first scores, and the fewest between two."""

SPACING = 1.1
"""The step of each scores, in that of those before."""

FEWEST_STEPS = 4 * FIRST
"""The steps of a run up to which nothing is scored: there would be too few scores to compare."""

CHANCE = 3.0
"""The standard errors by which scores must have risen above the best, twice in a row.

So far neither chance goes, of which rows were kept apart, nor a game that wavers. Two errors would be exceeded by the
latter: a run was ended by 2.3 and 2.0 whose scores then fell for three thousand steps more.
"""

REASON = "since rows kept apart fit ever worse"


class EndBeforeOverfitting(Callback):
    """Has a run end early where it begins to lose on rows that were kept apart.

    Each score is of the mean of the parameters since those before. Where the scores of the rows have become worse than
    they were at their best, by more than chance, what is still learned is true of the training rows alone. The run then
    goes on for as many steps as had been taken at the best, with rates that fall, and ends. Callbacks that come after
    this one see at the same step that the run is to be shorter.

    Args:
        scores: Scores of the rows, small ones for good fits, with shape `(num_rows,)` and the same random numbers at
            each call; `None` where there are none. First called after the first step.

    References:
        Prechelt (1998), "Early Stopping, But When?".
    """

    ends_runs = False

    def __init__(self, scores: Callable[[], Tensor | None]) -> None:
        self.scores = scores

    def on_start(self, inference: Inference, num_steps: int) -> None:
        self.best: Tensor | None = None
        self.best_at = 0
        self.has_risen = False
        self.mean: Mean | None = Mean() if num_steps > FEWEST_STEPS else None
        self.next = FIRST

    def on_step(self, inference: Inference) -> None:
        clock, parameters = inference.clock, inference.optim.parameters
        if self.mean is None:
            return
        if clock.done == 1 and self.scores() is None:
            self.mean = None
            return
        self.mean.update(parameters)
        if clock.done < self.next:
            return
        with self.mean.applied(parameters):
            scores = self.scores()
        self.mean, self.next = Mean(), max(clock.done + FIRST, math.ceil(SPACING * clock.done))
        if scores is not None:
            inference.note(held_out_score=float(scores.mean()))
            self._compare(inference, scores)

    def _compare(self, inference: Inference, scores: Tensor) -> None:
        """Hold scores against the best, and shorten the run where they have risen twice."""
        clock, best, had_risen = inference.clock, self.best, self.has_risen
        above = agreed(lambda: -math.inf if best is None else _errors_above(scores, best))
        self.has_risen = above > CHANCE
        if above < 0:
            self.best, self.best_at = scores, clock.done
        if had_risen and self.has_risen and clock.num_left > self.best_at:
            clock.shorten(clock.done + self.best_at, REASON)
            self.mean = None

    def state_dict(self) -> dict[str, Any]:
        if self.mean is None:
            return {"is_over": True, "best": self.best}
        best = {"best": self.best, "best_at": self.best_at, "has_risen": self.has_risen}
        return {**best, "next": self.next, "mean": self.mean.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if "is_over" in state:
            self.mean, self.best = None, state["best"]
            return
        self.best, self.best_at, self.has_risen = state["best"], int(state["best_at"]), bool(state["has_risen"])
        self.next, self.mean = int(state["next"]), Mean()
        self.mean.load_state_dict(state["mean"])


def _errors_above(scores: Tensor, best: Tensor) -> float:
    """How many standard errors the mean of scores lies above that of the best, of the same rows."""
    risen = scores - best.to(scores)
    error = float(risen.std()) / math.sqrt(len(risen)) if len(risen) > 1 else math.inf
    return float(risen.mean()) / error if error else 0.0
