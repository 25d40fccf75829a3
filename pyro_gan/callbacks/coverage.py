"""Telling at the end of a run that a guide's intervals do not hold what they should."""

import math
import warnings
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from pyro_gan.callbacks.base import Callback, Inference

TOO_SURE = 0.8
"""The part of true values in intervals of 90 % below which a guide is too sure."""

TOO_WIDE = 0.7
"""The part of them in intervals of 50 % above which its draws lie too far apart."""

ERRORS = 3.0
"""The standard errors by which a part must be beyond its limit; of many numbers the farthest must be so by more."""

FEWEST_ROWS = 20
"""The rows below which nothing is told."""


class WarnOfCoverage(Callback):
    """Warns where a run has ended and rows that were kept apart show a guide to be far too sure, or not sure enough.

    Nothing else shows it: the losses look as they always do, and the draws answer every observation. Once for each
    site, that of its numbers which is farthest off.

    Args:
        ranks: Gives by site, of each number of a row that was kept apart, the part of the guide's draws that lie below
            the true value, with shape `(num_rows, num_numbers)`; no site where there are no such rows.

    References:
        Hermans et al. (2022), "A Trust Crisis In Simulation-Based Inference?", section 2: expected coverage.
    """

    ends_runs = False

    def __init__(self, ranks: Callable[[], Mapping[str, Tensor]]) -> None:
        self.ranks = ranks

    def on_step(self, inference: Inference) -> None:
        found = {} if inference.clock.num_left else self.ranks()
        for site, ranks in found.items():
            if text := _finding(site, ranks):
                warnings.warn(text, RuntimeWarning, stacklevel=2)


def _finding(site: str, ranks: Tensor) -> str | None:
    """What ranks of a site's numbers tell, if anything."""
    ranks = ranks[ranks.isfinite().all(1)]
    if len(ranks) < FEWEST_ROWS or not ranks.numel():
        return None
    away = (2 * ranks - 1).abs()
    wide, half = (torch.where(away < level, 1.0, 0.0).mean(0) for level in (0.9, 0.5))
    least, most = float(wide.min()), float(half.max())
    errors = math.sqrt(ERRORS**2 + 2 * math.log(ranks.shape[1]))
    by_chance = [errors * math.sqrt(part * (1 - part) / len(ranks)) for part in (TOO_SURE, TOO_WIDE)]
    kept = f"of the true values in {len(ranks)} simulations that the run kept apart"
    fewer = (
        "or let the model observe fewer numbers that say as much, such as a mean and a deviation; numbers whose order "
        "tells nothing are a set, AutoImplicitGuide(model, sets=...)."
    )
    if least < TOO_SURE - by_chance[0]:
        return (
            f"the guide is too sure of {site!r}: its intervals of 90 % hold {least:.0%} {kept}. Do not trust its "
            f"draws. Make more simulations, {fewer}"
        )
    if most > TOO_WIDE + by_chance[1]:
        return (
            f"the guide's draws of {site!r} lie too far apart: its intervals of 50 % hold {most:.0%} {kept}. Train for "
            f"more steps, {fewer}"
        )
    return None
