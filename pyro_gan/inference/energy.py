r"""The energy score of a guide on draws of its model: how far its draws lie from the latents that made an observation.

A draw :math:`(z, x)` of the model tells for one observation what its latents were. Two draws :math:`z', z''` of the
guide given :math:`x` have the score

.. math:: S = \tfrac12 \bigl( \lVert z' - z \rVert + \lVert z'' - z \rVert - \lVert z' - z'' \rVert \bigr).

Its mean over draws of the model is smallest where the guide is the posterior, and there alone. No discriminator has to
learn anything for it: it tells at once whether the guide's draws lie too far off, or too close to each other.

References:
    Gneiting and Raftery (2007), "Strictly Proper Scoring Rules, Prediction, and Estimation", equation 22.
    Pacchiardi et al. (2024), "Probabilistic Forecasting with Generative Networks via Scoring Rule Minimization",
    section 3: a network of noise, trained by it.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from pyro_gan.auto.building import floating_type
from pyro_gan.auto.coordinates import Coordinates, fixed_support, innermost
from pyro_gan.auto.networks import flat

HALF_LINES = (constraints.greater_than, constraints.greater_than_eq, constraints.less_than)
"""Supports of numbers that may differ by orders of magnitude, and are compared by their logarithms."""


def energy_score(
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    latents: Mapping[str, Tensor],
    supports: Mapping[str, Constraint],
) -> Tensor:
    """The energy score of each row, with shape `(num_rows,)`, in standard deviations of the latents.

    All sites' numbers are standardized by `latents`, those of half-lines on a logarithmic scale. The distance between
    rows is the root of their mean squared difference.

    Args:
        first: The guide's rows by site, each with shape `(num_rows, *event_shape)`.
        second: Others, given the same observations.
        latents: The model's rows, of which the observations were made.
        supports: The supports of the sites in the model.
    """
    dtype = floating_type(latents)
    coordinates = [
        Coordinates(site, _compared_on(supports[site], rows), rows, dtype, is_plain=True)
        for site, rows in latents.items()
    ]
    one, other, truth = (
        torch.cat([flat(site(rows[site.name])) for site in coordinates], 1) for rows in (first, second, latents)
    )
    return (_distance(one, truth) + _distance(other, truth) - _distance(one, other)) / 2


def _compared_on(support: Constraint, rows: Tensor) -> Constraint:
    """The support that a site's numbers are mapped from: a half-line, or the real line for all others, as they are.

    Draws of a guide may lie outside of an interval, where a map from it would not tell how far.
    """
    fixed = fixed_support(support, tuple(rows.shape[1:]))
    return fixed if fixed is not None and isinstance(innermost(fixed), HALF_LINES) else constraints.real


def _distance(one: Tensor, other: Tensor) -> Tensor:
    """The distance between rows, whose slope is 0 where they agree, as those of a guide without noise do."""
    return (one - other).square().mean(1).clamp_min(torch.finfo(one.dtype).tiny).sqrt()
