"""Whether a true value lies where draws for it lie: its rank among them by how near its neighbours are."""

import torch
from torch import Tensor

NEIGHBOURHOOD = 4
"""The draws of which there is one that counts as near: few enough to be of one mode.

Two fifths suit intervals of single modes still better, but reach beyond one of four modes, and then tell the contrary.
"""


def local_ranks(draws: Tensor, truth: Tensor) -> Tensor:
    """The rank of each true row among draws for it, by the distance from the near ones, with shape `(num_rows,)`.

    Of draws that are as the truth is, no point is special: the mean rank is a half. It is above where draws are too
    close to each other, so that the truth is far from them, and below where they are too far apart, in whichever
    direction: ranks of the numbers one by one do not tell how wide draws lie across a line between them. It is the rank
    by density, as neighbours estimate it.

    Args:
        draws: The draws, with shape `(num_draws, num_rows, num_numbers)`, at least 4.
        truth: The true rows, with shape `(num_rows, num_numbers)`.

    Returns:
        Ranks between 0 and 1.

    Example:
        >>> import torch
        >>> draws = torch.tensor([0.0, 1.0, 2.0, 3.0]).reshape(4, 1, 1).expand(4, 2, 1)
        >>> local_ranks(draws, torch.tensor([[10.0], [1.5]]))  # by distances 7 from draws 1 apart, and 0.5
        tensor([0.9000, 0.3000])

    References:
        Hermans et al. (2022), "A Trust Crisis In Simulation-Based Inference?", section 2: coverage by highest density.
        Loftsgaarden and Quesenberry (1965), "A Nonparametric Estimate of a Multivariate Density Function".
    """
    points = torch.cat([truth.unsqueeze(0), draws]).transpose(0, 1)
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")  # exact for near ones
    near = distances.kthvalue(1 + len(draws) // NEIGHBOURHOOD, -1).values  # a point is its own first neighbour
    own, others = near[:, :1], near[:, 1:]
    below = (others < own).sum(1) + (others == own).sum(1) / 2
    return (below + 0.5) / points.shape[1]
