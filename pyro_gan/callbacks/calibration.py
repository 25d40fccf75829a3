"""Giving draws the spread by which intervals of theirs hold the truth as often as they say."""

import math
from collections.abc import Callable

from torch import Tensor

from pyro_gan.callbacks.base import Callback, Inference
from pyro_gan.processes import agreed

MOST = 2.0
"""The largest factor by which noise is scaled; its inverse is the smallest."""

EXACTLY = 0.01
"""How far the logarithm of the factor may lie from the one that is looked for."""


class ScaleNoise(Callback):
    """Ends a run with the scale of a guide's noise by which it is as sure as it may be of rows that were kept apart.

    A guide knows the rows that it was trained on better than others, and so it is more sure than it should be. One
    number mends the average, as the temperature of a classifier does: the more noise there is, the less often do the
    true latents of other rows lie at the ends of the guide's draws. A run that ends before its time keeps the scale.

    Args:
        spread: By row how far the ranks of true latents among draws lie from the middle, in squares of which a uniform
            rank has 1 in the mean, with shape `(num_rows,)`, and with the same random numbers at each call; `None`
            where there are no such rows.
        scale: Gives the factor of the noise, a 0-dimensional tensor to write to; `None` where there is none.

    References:
        Guo et al. (2017), "On Calibration of Modern Neural Networks", section 4.2: temperatures.
        Talts et al. (2018), "Validating Bayesian Inference Algorithms with Simulation-Based Calibration", section 4.2:
        ranks that lie at both ends too often are those of draws that are too close to each other.
    """

    ends_runs = False

    def __init__(self, spread: Callable[[], Tensor | None], scale: Callable[[], Tensor | None]) -> None:
        self.spread = spread
        self.scale = scale

    def on_step(self, inference: Inference) -> None:
        scale = None if inference.clock.num_left else self.scale()
        if scale is None:
            return
        from scipy.optimize import brentq

        before = float(scale)

        def excess(log_factor: float) -> float:
            scale.fill_(before * math.exp(log_factor))
            spread = self.spread()
            return agreed(lambda: 0.0 if spread is None else float(spread.mean()) - 1)

        narrowest, widest = -math.log(MOST * before), math.log(MOST / before)
        if excess(0.0) == 0:
            return
        if excess(narrowest) <= 0:
            best = narrowest
        elif excess(widest) >= 0:
            best = widest
        else:
            best = brentq(excess, narrowest, widest, xtol=EXACTLY)
        scale.fill_(before * math.exp(best))
