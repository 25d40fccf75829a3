"""Giving draws the spread by which they lie as far from each other as from the truth."""

import functools
import math
from collections.abc import Callable

from torch import Tensor

from pyro_gan.callbacks.base import Callback, Inference
from pyro_gan.processes import agreed

MOST = 16.0
"""The largest factor by which noise is scaled, where there are rows enough to tell."""

LEAST = 0.5
"""The smallest factor, and the inverse of the largest for few rows: a guide is rarely much too wide."""

ROWS = 10
"""The rows of which there are as many for each whole number that the factor may come to."""

FURTHER = 1.1
"""The largest factor between the scale by the scores and that by the ranks, which many modes can mislead."""

EXACTLY = 0.01
"""How far the logarithm of the factor may lie from the one that is looked for."""


class ScaleNoise(Callback):
    """Ends a run with the scale of a guide's noise by which its draws are as wide as rows that were kept apart ask for.

    A guide knows the rows that it was trained on better than others, and so it is more sure than it should be. One
    number mends the average, as the temperature of a classifier does. It is first the one by which the rows score best.
    Scores follow the rows that are known least; so it is then changed, by a tenth at most, towards where the true
    latents of these rows lie as near to the draws as these to each other. A run that ends before its time keeps it.

    Args:
        scores: Scores of these rows, small ones for good fits, with shape `(num_rows,)`, and with the same random
            numbers at each call; `None` where there are no such rows.
        ranks: By row the part of the draws that lie nearer to the others than the true latents do, likewise
            (:func:`~pyro_gan.inference.ranks.local_ranks`).
        scale: Gives the factor of the noise, a 0-dimensional tensor to write to; `None` where there is none.

    References:
        Guo et al. (2017), "On Calibration of Modern Neural Networks", section 4.2: temperatures.
    """

    ends_runs = False

    def __init__(
        self,
        scores: Callable[[], Tensor | None],
        ranks: Callable[[], Tensor | None],
        scale: Callable[[], Tensor | None],
    ) -> None:
        self.scores = scores
        self.ranks = ranks
        self.scale = scale

    def on_step(self, inference: Inference) -> None:
        scale = None if inference.clock.num_left else self.scale()
        if scale is None:
            return
        before = math.log(float(scale))

        def mean_at(log_scale: float, of: Callable[[], Tensor | None]) -> float:
            scale.fill_(math.exp(log_scale))
            found = of()
            return agreed(lambda: math.nan if found is None else float(found.nanmean()))

        best, scores = before, self.scores()
        number = agreed(lambda: 0 if scores is None else int(scores.isfinite().sum()))
        if number:
            most = min(max(1 / LEAST, number / ROWS), MOST)
            best = _smallest(lambda at: mean_at(at, self.scores), most)
            best = _where_half(lambda at: mean_at(at, self.ranks), best)
        scale.fill_(math.exp(best))


def _smallest(score: Callable[[float], float], most: float) -> float:
    """The logarithm of the scale with the smallest score, of those that are at most as large."""
    from scipy.optimize import minimize_scalar

    bounds = (math.log(LEAST), math.log(most))
    return float(minimize_scalar(score, bounds=bounds, method="bounded", options={"xatol": EXACTLY}).x)


def _where_half(rank: Callable[[float], float], start: float) -> float:
    """The logarithm of the scale with a mean rank of a half, or as far as it may lie from the start."""
    from scipy.optimize import brentq

    excess = functools.cache(lambda at: rank(at) - 0.5)  # the search asks for the ends again
    end = start + math.copysign(math.log(FURTHER), excess(start))
    if not excess(start) * excess(end) < 0:
        return end if excess(start) * excess(end) > 0 else start
    return float(brentq(excess, start, end, xtol=EXACTLY))
