"""Giving draws the spread by which rows that were kept apart fit best."""

import math
from collections.abc import Callable

from torch import Tensor

from pyro_gan.callbacks.base import Callback, Inference
from pyro_gan.callbacks.overfitting import EndBeforeOverfitting
from pyro_gan.processes import agreed

MOST = 2.0
"""The largest factor by which noise is scaled; its inverse is the smallest."""

EXACTLY = 0.01
"""How far the logarithm of the factor may lie from the best."""


class ScaleNoise(Callback):
    """Ends a run with the scale of a guide's noise by which held-out rows score best.

    A guide knows the rows that it was trained on better than others, and so it is more sure than it should be. One
    number mends the average: the scores of rows that were kept apart are smallest where draws are as wide as the errors
    of their means, as the temperature of a classifier is found. A run that ends before its time keeps the scale.

    Args:
        early: What has scored these rows along the run.
        scale: Gives the factor of the noise, a 0-dimensional tensor to write to; `None` where there is none.

    References:
        Guo et al. (2017), "On Calibration of Modern Neural Networks", section 4.2: temperatures.
    """

    ends_runs = False

    def __init__(self, early: EndBeforeOverfitting, scale: Callable[[], Tensor | None]) -> None:
        self.early = early
        self.scale = scale

    def on_step(self, inference: Inference) -> None:
        scale = None if inference.clock.num_left or self.early.best is None else self.scale()
        if scale is None:
            return
        from scipy.optimize import minimize_scalar

        before = float(scale)

        def score(log_factor: float) -> float:
            scale.fill_(before * math.exp(log_factor))
            scores = self.early.scores()
            return agreed(lambda: math.inf if scores is None else float(scores.mean()))

        bounds = (-math.log(MOST * before), math.log(MOST / before))
        found = minimize_scalar(score, bounds=bounds, method="bounded", options={"xatol": EXACTLY})
        scale.fill_(before * math.exp(found.x))
