"""What changes along a run: falling rates and weights, and the mean of the last values."""

from typing import Any

from pyro_gan.callbacks.base import Callback, Inference
from pyro_gan.checks import is_real_number, shown
from pyro_gan.penalties import Penalty
from pyro_gan.training.averaging import Mean


class FallingRates(Callback):
    """Lets the learning rates of default optimizers, and weights of penalties that have a final one, fall along a run.

    They follow `inference.clock`, which a run moves. Optimizers that the user chose keep their rates. A further run, or
    steps one by one, start at the full rates.
    """

    ends_runs = False

    def on_start(self, inference: Inference, num_steps: int) -> None:
        self._set(inference, inference.clock.progress)

    def on_step(self, inference: Inference) -> None:
        self._set(inference, inference.clock.progress)

    def on_end(self, inference: Inference) -> None:
        self._set(inference, 0.0)

    def _set(self, inference: Inference, progress: float) -> None:
        for optimizer in inference.optim, inference.optim_d:
            optimizer.set_progress(progress)
        for penalty in inference.penalties:
            if isinstance(penalty, Penalty):
                penalty.set_progress(progress)


class FinalMean(Callback):
    """Ends a run at the mean of the values that parameters had in its last part.

    The players circle around the solution, and falling rates alone leave them where they happen to be. A run that ends
    early keeps its last values, and buffers, such as batch statistics, keep theirs.

    Args:
        part: The part of the run, above 0 and at most 1.
        defaults_only: Whether parameters of optimizers that the user chose stay as they are.

    Raises:
        ValueError: `part` is out of range.
    """

    ends_runs = False

    def __init__(self, part: float = 0.25, *, defaults_only: bool = False) -> None:
        if not is_real_number(part) or not 0 < part <= 1:
            raise ValueError(f"part must be a number above 0 and at most 1, but is {shown(part)}.")
        self.part: float = float(part)
        self.defaults_only: bool = defaults_only

    def on_start(self, inference: Inference, num_steps: int) -> None:
        self.num_steps = num_steps
        optimizers = (inference.optim, inference.optim_d)
        self.means = {each: Mean() for each in optimizers if each.is_default or not self.defaults_only}

    def on_step(self, inference: Inference) -> None:
        num_left, num_steps = inference.clock.num_left, inference.clock.num_steps
        if num_left < self.part * num_steps:
            for optimizer, mean in self.means.items():
                mean.update(optimizer.parameters)
        if num_left == 0:
            for optimizer, mean in self.means.items():
                mean.assign(optimizer.parameters)

    def state_dict(self) -> dict[str, Any]:
        means = {optimizer.argument: mean.state_dict() for optimizer, mean in self.means.items() if mean.values}
        return {"num_steps": self.num_steps, "means": means} if means else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["num_steps"] != self.num_steps:  # a run that was made longer has another last part
            return
        for optimizer, mean in self.means.items():
            if optimizer.argument in state["means"]:
                mean.load_state_dict(state["means"][optimizer.argument])
