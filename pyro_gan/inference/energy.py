r"""The energy score of a guide on draws of its model: how far its draws lie from the latents that made an observation.

A draw :math:`(z, x)` of the model tells for one observation what its latents were. Two draws :math:`z', z''` of the
guide given :math:`x` have the score

.. math:: S = \tfrac12 \bigl( \lVert z' - z \rVert + \lVert z'' - z \rVert - \lVert z' - z'' \rVert \bigr).

Its mean over draws of the model is smallest where the guide is the posterior, and there alone. No discriminator has to
learn anything for it: it tells at once whether the guide's draws lie too far off, or too close to each other.

Discrete latents have a score of the same form, of the probabilities that they are drawn with (:func:`label_score`).
That of the continuous ones is taken given the true labels, so that both together are smallest at the posterior alone.

References:
    Gneiting and Raftery (2007), "Strictly Proper Scoring Rules, Prediction, and Estimation", equation 22.
    Pacchiardi et al. (2024), "Probabilistic Forecasting with Generative Networks via Scoring Rule Minimization",
    section 3: a network of noise, trained by it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from pyro_gan.auto.building import floating_type
from pyro_gan.auto.coordinates import Coordinates
from pyro_gan.auto.networks import flat
from pyro_gan.players.discrete import log_probabilities, one_hot
from pyro_gan.players.supports import fixed_support, innermost
from pyro_gan.processes import rows_of_all

HALF_LINES = (constraints.greater_than, constraints.greater_than_eq, constraints.less_than)
"""Supports of numbers that may differ by orders of magnitude, and are compared by their logarithms."""


def numbers_of(
    draws: Sequence[Mapping[str, Tensor]], latents: Mapping[str, Tensor], supports: Mapping[str, Constraint]
) -> list[Tensor]:
    """Of each draw the numbers that are compared, in standard deviations of the latents.

    All sites' numbers are standardized by `latents`, those of half-lines on a logarithmic scale.

    Args:
        draws: Rows by site, each with shape `(num_rows, *event_shape)`.
        latents: The model's rows, of which the observations were made.
        supports: The supports of the sites in the model.

    Returns:
        Numbers with shape `(num_rows, num_numbers)`, of all sites side by side, for each draw.
    """
    dtype = floating_type(latents)
    coordinates = [
        Coordinates(site, _compared_on(supports[site], rows), rows_of_all(rows), dtype, is_plain=True)
        for site, rows in latents.items()
    ]
    return [torch.cat([flat(site(rows[site.name])) for site in coordinates], 1) for rows in draws]


def score_of(one: Tensor, other: Tensor, truth: Tensor) -> Tensor:
    """The energy score of each row by its numbers, with shape `(num_rows,)`.

    The distance between rows is the root of their mean squared difference.

    Args:
        one: The numbers of a guide's draws, with shape `(num_rows, num_numbers)`.
        other: Those of others, given the same observations.
        truth: Those of the model's draws.
    """
    return (_distance(one, truth) + _distance(other, truth) - _distance(one, other)) / 2


def label_score(first: Mapping[str, Any], second: Mapping[str, Any], labels: Mapping[str, Tensor]) -> Tensor:
    r"""The kernel score of discrete latents, with shape `(num_rows,)`: half of the Brier score where there is one.

    It is the score above with :math:`d = (1 - k) / (1 - 1/e)` for the distance, and the Gaussian kernel of one-hot rows
    :math:`k = e^{-n/J}`, where n of J labels differ. So d is 0 where all agree, and 1 where all differ. Labels are
    independent given a guide's noise: the mean over their draws is a product of probabilities, and no draw is needed.

    Args:
        first: The guide's distributions by site, given its noise.
        second: Others, given the same observations and noise of their own.
        labels: The model's rows, of which the observations were made.

    References:
        Gneiting and Raftery (2007), section 5: kernel scores.
        Brier (1950), "Verification of Forecasts Expressed in Terms of Probability".
    """
    parts = [_agreements(first[site], second[site], rows) for site, rows in labels.items()]
    with_truth, with_another, among = (torch.cat(each, 1) for each in zip(*parts, strict=True))
    step = 1 - math.exp(-1 / with_truth.shape[1])
    one, other, between = (1 - (1 - step * (1 - each)).prod(1) for each in (with_truth, with_another, among))
    return (one + other - between) / (2 * (1 - math.exp(-1)))


def _agreements(first: Any, second: Any, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How probably a label of one distribution is the true one, that of another is, and both are the same."""
    one, other = (log_probabilities(each).exp() for each in (first, second))
    truth = one_hot(rows, first.support, one.shape[-1]).to(one.dtype)
    products = (one * truth, other * truth, one * other)
    with_truth, with_another, among = (each.expand_as(truth).sum(-1).reshape(len(rows), -1) for each in products)
    return with_truth, with_another, among


def _compared_on(support: Constraint, rows: Tensor) -> Constraint:
    """The support that a site's numbers are mapped from: a half-line, or the real line for all others, as they are.

    Draws of a guide may lie outside of an interval, where a map from it would not tell how far.
    """
    fixed = fixed_support(support, tuple(rows.shape[1:]))
    return fixed if fixed is not None and isinstance(innermost(fixed), HALF_LINES) else constraints.real


def _distance(one: Tensor, other: Tensor) -> Tensor:
    """The distance between rows, whose slope is 0 where they agree, as those of a guide without noise do."""
    return (one - other).square().mean(1).clamp_min(torch.finfo(one.dtype).tiny).sqrt()
