"""Giving draws the spread by which they lie as far from each other as from the truth."""

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
    """Ends a run with the scale of a guide's noise by which its draws are as wide as rows that were kept apart ask for.

    A guide knows the rows that it was trained on better than others, and so it is more sure than it should be. One
    number mends the average, as the temperature of a classifier does: the more noise there is, the less often do the
    true latents of other rows lie off the guide's draws. A run that ends before its time keeps the scale.

    Args:
        ranks: By row how many draws lie nearer to the others than the true latents do, from 0 to 1, with shape
            `(num_rows,)`, and with the same random numbers at each call
            (:func:`~pyro_gan.inference.ranks.local_ranks`); `None` where there are no such rows.
        scale: Gives the factor of the noise, a 0-dimensional tensor to write to; `None` where there is none.

    References:
        Guo et al. (2017), "On Calibration of Modern Neural Networks", section 4.2: temperatures.
    """

    ends_runs = False

    def __init__(self, ranks: Callable[[], Tensor | None], scale: Callable[[], Tensor | None]) -> None:
        self.ranks = ranks
        self.scale = scale

    def on_step(self, inference: Inference) -> None:
        scale = None if inference.clock.num_left else self.scale()
        if scale is None:
            return
        from scipy.optimize import brentq

        before = float(scale)

        def excess(log_factor: float) -> float:
            scale.fill_(before * math.exp(log_factor))
            ranks = self.ranks()
            return agreed(lambda: 0.0 if ranks is None else float(ranks.mean()) - 0.5)

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
