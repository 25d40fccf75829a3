r"""Lines between two ends: where a normal distribution around a line's point lies that is cut at the ends.

Of a normal distribution with mean m and deviation s, cut off below a and above b, and of the hazard
:math:`\lambda(t) = \varphi(t) / \Phi(-t)` at :math:`t = (a - m) / s` and :math:`t' = (m - b) / s`, the mean and the
variance are

.. math::
    m + s \, (\lambda(t) - \lambda(t')), \qquad
    s^2 \, (1 - \lambda(t) (\lambda(t) - t)) (1 - \lambda(t') (\lambda(t') - t')),

exactly where one end alone is near, and roughly where s is a third of the interval or more. By these a line is fitted.
What is drawn beside it comes back at the ends, which is nearly so cut where the point lies between them. From a point
beyond it would be led inside; so it is drawn beside the end then, and at a distance of d deviations nearer to it by the
factor

.. math:: 2 k / (d + \sqrt{d^2 + 4 k^2}), \qquad k = 1.1,

at which half a normal distribution differs from what is cut there by at most 0.03 (d = 1) to 0.07 (d = 10, the largest)
in its distribution function.

References:
    Greene (2003), "Econometric Analysis", theorem 22.2.
"""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from pyro_gan.players.player import fill_in

NARROWEST = 1e-3
"""The smallest deviation beside a line, in those of the latents."""

FARTHEST = 10.0
"""The deviations from an end beyond which it makes no further difference, in either direction."""

NEARER = 1.1
"""What the factor of draws beside an end comes to, divided by the distance, where it is large."""


class Ends(nn.Module):
    """Keeps the points of lines between their ends; infinite ones at first, which change nothing.

    Args:
        num_latents: The numbers of a row's latents.
        like: A tensor whose type and device the ends have.
    """

    lower: Tensor
    upper: Tensor
    deviation: Tensor

    later_buffers: ClassVar[dict[str, float]] = {"lower": -torch.inf, "upper": torch.inf, "deviation": 1.0}
    """What states have not that were saved before lines had ends, and the values that change nothing."""
    later_format: ClassVar[int] = 4

    def __init__(self, num_latents: int, like: Tensor) -> None:
        super().__init__()
        for name, value in self.later_buffers.items():
            self.register_buffer(name, like.new_full((num_latents,), value))

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest points between the ends, and how much nearer to these is what is drawn beside a point.

        Args:
            points: The points, with shape `(*, num_latents)`.

        Returns:
            Points between the ends, and factors from 0 to 1, 1 for those that were there; with that shape each.
        """
        between = points.clamp(self.lower, self.upper)
        beyond = ((points - between).abs() / self.deviation).clamp(max=FARTHEST)
        return between, 2 * NEARER / (beyond + (beyond**2 + 4 * NEARER**2).sqrt())

    def moments(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Means and deviations of what is cut at the ends, the latter in those of what is not.

        Args:
            points: The points, with shape `(*, num_latents)`.

        Returns:
            The means and the deviations, with that shape each.
        """
        far = FARTHEST * self.deviation
        points = points.clamp(self.lower - far, self.upper + far)
        below = ((self.lower - points) / self.deviation).clamp(min=-FARTHEST)
        above = ((points - self.upper) / self.deviation).clamp(min=-FARTHEST)
        from_below, from_above = hazard(below), hazard(above)
        kept = (1 - from_below * (from_below - below)) * (1 - from_above * (from_above - above))
        return points + self.deviation * (from_below - from_above), kept.sqrt()

    def move(self, lower: Tensor, upper: Tensor) -> None:
        """Have other ends, with shape `(num_latents,)` each."""
        self.lower.copy_(lower)
        self.upper.copy_(upper)

    def are_finite(self) -> bool:
        """Whether there are any that change something."""
        return any(map(math.isfinite, self.lower.tolist() + self.upper.tolist()))

    def may_act(self) -> bool:
        """Whether there are any, as far as a look at their values costs nothing; else they may.

        It waits for no device, and leaves nothing of the values in a trace, which outlives them.
        """
        is_traced = torch.compiler.is_compiling() or get_proxy_mode() is not None
        return is_traced or self.lower.device.type != "cpu" or self.are_finite()

    def measure(self, rest: Tensor, factors: Tensor | float = 1.0, widest: Tensor | float = torch.inf) -> Tensor:
        """Learn the deviation around a line from what it leaves, and return it.

        Args:
            rest: What is left of latents, with shape `(num_rows, num_latents)`.
            factors: The deviations of what is cut at the ends, in those of what is not, likewise.
            widest: The largest deviation, with shape `(num_latents,)`.
        """
        squares = (rest**2).mean(0) / torch.as_tensor(factors).square().mean(0)
        self.deviation.copy_(squares.sqrt().clamp(max=torch.as_tensor(widest)).clamp(min=NARROWEST))
        return self.deviation.clone()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        fill_in(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)


def hazard(numbers: Tensor) -> Tensor:
    """The standard normal distribution's density at numbers, divided by its mass above them."""
    return math.sqrt(2 / math.pi) / torch.special.erfcx(numbers / math.sqrt(2))
