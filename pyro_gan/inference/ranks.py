"""Whether a true value lies where draws for it lie: its rank among them, and that by how near its neighbours are."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

NEIGHBOURHOOD = 4
"""The draws of which there is one that counts as near."""

EQUAL = 1e-5
"""The part of a number's deviation by which draws may differ from the true value and still be as large."""


def local_ranks(draws: Sequence[Tensor], truth: Tensor) -> Tensor:
    """The rank of each true row among draws for it, by the distance from the near ones, with shape `(num_rows,)`.

    Of draws that are as the truth is, no point is special: the mean rank is a half. It is above where draws of one mode
    or a few are too close to each other, so that the truth is far from them, and below where they are too far apart, in
    whichever direction: ranks of the numbers one by one do not tell how wide draws lie across a line between them. It
    is the rank by density, as neighbours estimate it. Where modes far apart have less than a fourth of the draws each,
    near ones lie in another mode, and the mean tells nothing of their width.

    Args:
        draws: At least four draws, each with shape `(num_rows, num_numbers)`.
        truth: The true rows, likewise.

    Returns:
        Ranks between 0 and 1; not a number for rows that have none, or draws that have none.

    Example:
        >>> import torch
        >>> draws = [torch.full((2, 1), at) for at in (0.0, 1.0, 2.0, 3.0)]
        >>> local_ranks(draws, torch.tensor([[10.0], [1.5]]))  # by distances 7 from draws 1 apart, and 0.5
        tensor([0.9000, 0.3000])

    References:
        Hermans et al. (2022), "A Trust Crisis In Simulation-Based Inference?", section 2: coverage by highest density.
        Loftsgaarden and Quesenberry (1965), "A Nonparametric Estimate of a Multivariate Density Function".
    """
    points = torch.stack([truth, *draws], 1)
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")  # exact for near ones
    near = distances.sort(-1).values[..., len(draws) // NEIGHBOURHOOD]  # after itself, its own first neighbour
    own, others = near[:, :1], near[:, 1:]
    below = (others < own).sum(1) + (others == own).sum(1) / 2
    ranks = (below + 0.5) / points.shape[1]
    return ranks.where(points.isfinite().all(-1).all(-1), math.nan)


def marginal_ranks(draws: Sequence[Tensor], truth: Tensor) -> Tensor:
    """The part of draws that are smaller than the truth, number by number, with shape `(num_rows, num_numbers)`.

    A place among draws that are as large as the truth is drawn with torch's random state, so that the ranks of exact
    draws are uniform also where many are equal: constants, or what rounds to an end of its support.

    Args:
        draws: The draws, each with shape `(num_rows, *event_shape)`.
        truth: The true rows, likewise.

    Returns:
        Ranks from 0 to 1; not a number for a true value that is none.

    Example:
        >>> import torch
        >>> marginal_ranks([torch.tensor([[1.0, 5.0]]), torch.tensor([[3.0, 6.0]])], torch.tensor([[2.0, 7.0]]))
        tensor([[0.5000, 1.0000]])
    """
    rows = truth.reshape(len(truth), -1)
    points = torch.stack([each.reshape(rows.shape) for each in draws])
    spread = points.std(0).nanmean(0) * EQUAL
    below, ties = (points < rows - spread).sum(0), ((points - rows).abs() <= spread).sum(0)
    below = below + (torch.rand_like(rows) * (ties + 1)).floor().clamp(max=ties)
    return (below / len(draws)).where(rows.isfinite(), math.nan)
