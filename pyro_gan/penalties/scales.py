"""In which units penalties without a unit see rows: a discriminator's own coordinates, and features' own deviations."""

from collections.abc import Callable

import torch
from torch import Tensor

from pyro_gan.penalties.base import InCoordinates, Judgement
from pyro_gan.processes import ranges_of, variances_and_ranges_of, variances_of

FEWEST_PIXELS = 64
"""The number of features from which on they may be pixels, which share one scale."""

UNLIKE_PIXELS = 10.0
"""How many times the typical range the largest one may be where features are pixels."""

MUCH_SMALLER = 1000.0
"""How many times the largest range is one that is smaller by far."""

FEW = 0.05
"""The part of the pixels that may have one."""

Critic = Callable[[dict[str, Tensor]], Tensor]
"""From rows or coordinates by site to logits."""


def mean_weights(rows: Tensor, real: Tensor) -> Callable[[], Tensor]:
    """Each feature's variance, as constants with shape `(num_features,)`; that of all together where they are pixels.

    What is returned gives them; where several processes train together it waits for the others.

    Args:
        rows: The rows whose variances they are, with shape `(num_rows, *event_shape)`.
        real: The real rows, likewise.
    """
    if rows[0].numel() < FEWEST_PIXELS:
        variances = variances_of(rows)
        return lambda: variances().flatten()
    both = variances_and_ranges_of(rows, _of_fractions(real))

    def weights() -> Tensor:
        variances, ranges = (each.flatten() for each in both())
        return torch.where(_are_of_one_size(ranges), variances.mean(), variances)

    return weights


def are_in_one_unit(real: Tensor) -> Tensor:
    """Whether features have ranges of about one size, as pixels have, a 0-dimensional tensor of a truth value.

    Measurements in several units have ranges of several sizes. A pixel that is hardly ever lit has a small one, but few
    pixels have one that is smaller by far.

    Args:
        real: Rows, with shape `(num_rows, *event_shape)`.
    """
    return _are_of_one_size(ranges_of(_of_fractions(real))().flatten())


def _of_fractions(rows: Tensor) -> Tensor:
    return rows.detach() if rows.is_floating_point() else rows.double()


def _are_of_one_size(ranges: Tensor) -> Tensor:
    varying = ranges > 0
    typical, largest = torch.where(varying, ranges, torch.nan).nanmedian(), ranges.max()
    num_small = (varying & (ranges < largest / MUCH_SMALLER)).sum()
    return ~(largest > UNLIKE_PIXELS * typical) & (num_small <= FEW * varying.sum())


def in_own_coordinates(judgement: Judgement) -> InCoordinates | None:
    """The discriminator, where it sees rows through coordinates of its own."""
    discriminator = judgement.discriminator
    return discriminator if isinstance(discriminator, InCoordinates) and discriminator.has_coordinates else None


def players(judgement: Judgement, is_relative: bool) -> tuple[Critic, dict[str, Tensor], dict[str, Tensor]]:
    """What judges, real and fake rows: in the discriminator's own coordinates where a penalty has no unit."""
    critic = in_own_coordinates(judgement) if is_relative else None
    if critic is None:
        return judgement[:3]
    return critic.judge, critic.coordinates(judgement.real), critic.coordinates(judgement.fake)
