r"""Averages of parameters along training.

The players of a game circle around its solution; the mean of their last positions lies closer to it than any one of
them (Yazici et al. 2019, "The Unusual Effectiveness of Averaging in GAN Training").
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from pyro_gan.checks import is_real_number, shown


class Mean:
    """The mean of all values that parameters had, by name, when it was updated."""

    def __init__(self) -> None:
        self.num_updates: int = 0
        self.is_applied = False
        self.values: dict[str, Tensor] = {}

    def __getstate__(self) -> dict[str, Any]:
        """A copy is not applied."""
        return {**vars(self), "is_applied": False}

    def weight(self) -> float:
        """The weight of the parameters at the next update."""
        return 1 / (1 + self.num_updates)

    @torch.no_grad()
    def update(self, parameters: dict[str, Tensor]) -> None:
        """Take in the parameters as they stand; one that is new starts its average there."""
        weight = self.weight()
        known = [name for name in parameters if name in self.values]
        for name in known:  # a state that was read lies on the host
            self.values[name] = self.values[name].to(parameters[name])
        if known:
            torch._foreach_lerp_([self.values[name] for name in known], [parameters[name] for name in known], weight)
        for name in parameters.keys() - self.values.keys():
            self.values[name] = parameters[name].detach().clone()
        self.num_updates += 1

    def assign(self, parameters: dict[str, Tensor]) -> None:
        """Give the parameters their averages as values."""
        _copy(self.values, parameters, [name for name in parameters if name in self.values])

    @contextmanager
    def applied(self, parameters: dict[str, Tensor]) -> Iterator[None]:
        """A context in which the parameters have their averages as values."""
        names = [name for name in parameters if name in self.values]
        kept = {name: parameters[name].detach().clone() for name in names}
        try:
            self.is_applied = True
            self.assign(parameters)
            yield
        finally:
            self.is_applied = False
            _copy(kept, parameters, names)

    def forget(self, names: Iterable[str]) -> None:
        """Let go of the averages of these names, which now belong to other parameters."""
        for name in names:
            self.values.pop(name, None)

    def state_dict(self) -> dict[str, Any]:
        """Copies of the averages by name, and the number of updates."""
        return {
            "num_updates": self.num_updates,
            "values": {name: value.clone() for name, value in self.values.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state."""
        self.num_updates = int(state["num_updates"])
        self.values = {name: value.clone() for name, value in state["values"].items()}


class MovingAverage(Mean):
    r"""The average :math:`\bar\theta \leftarrow \beta_t \bar\theta + (1 - \beta_t) \theta` of parameters by name.

    In the first steps :math:`\beta_t = \min(\beta, (1 + t) / (10 + t))` is smaller, so that the starting point is
    forgotten early (the rule of TensorFlow's moving average).

    Args:
        decay: The decay :math:`\beta`, at least 0 and below 1; 0.999 averages over some thousand updates.

    Raises:
        ValueError: `decay` is out of range.
    """

    def __init__(self, decay: float) -> None:
        if not is_real_number(decay) or not 0 <= decay < 1:
            raise ValueError(
                f"ema_decay must be a number from 0 to below 1, such as 0.999, but is {shown(decay)}; None keeps no "
                "average."
            )
        super().__init__()
        self.decay: float = float(decay)

    def weight(self) -> float:
        return 1 - min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))


@torch.no_grad()
def _copy(source: dict[str, Tensor], target: dict[str, Tensor], names: list[str]) -> None:
    for name in names:
        target[name].copy_(source[name])
