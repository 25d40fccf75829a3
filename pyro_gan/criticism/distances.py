"""Distances between rows: from products, which are much faster, where those are exact enough, else from differences."""

import math

import torch
from torch import Tensor

from pyro_gan.criticism.scales import double

CHUNK_ENTRIES = 2**22
"""How many entries of differences are held at once: 32 MiB in double precision."""

DENSE = 16
"""How many times faster the distances of all pairs are than as many of some pairs, whose rows must be gathered."""

ROUNDING = 1e-13
"""A bound on the rounding of squared distances from products in double precision, relative to the sum of both rows'
squared norms."""

FINE_ENOUGH = 1e-6
"""The largest rounding of a squared distance from products, in squared widths of what it is measured by."""


def products_are_exact_enough(*samples: Tensor, width: float = math.inf) -> bool:
    """Whether distances from products can be told from each other by the width of a kernel.

    Args:
        samples: Matrices in double precision with shapes `(num_rows, size)`, centered: the rounding grows with norms.
        width: The smallest difference that matters; infinite where only the rows' own scale does.

    Returns:
        Whether the squared distances' rounding is at most :data:`FINE_ENOUGH` squared widths.
    """
    largest_norm = max(float(rows.norm(dim=1).amax()) for rows in samples)
    return math.sqrt(2 * ROUNDING) * largest_norm <= math.sqrt(FINE_ENOUGH) * width


def distances(rows: Tensor, others: Tensor, from_products: bool) -> Tensor:
    """Euclidean distances.

    Args:
        rows: A matrix in double precision with shape `(num_rows, size)`.
        others: Another, with shape `(num_others, size)`.
        from_products: Or from differences, by which equal rows are at distance 0.

    Returns:
        A matrix with shape `(num_rows, num_others)`.
    """
    mode = "use_mm_for_euclid_dist" if from_products else "donot_use_mm_for_euclid_dist"
    return torch.cdist(rows, others, compute_mode=mode)


def distances_of_pairs(rows: Tensor, others: Tensor, pairs: Tensor) -> Tensor:
    """Euclidean distances of some pairs, from differences; those of equal rows, of which there may be many, are 0.

    Args:
        rows: A matrix with shape `(num_rows, size)`.
        others: Another, with shape `(num_others, size)`.
        pairs: Which pairs, with shape `(num_rows, num_others)`.

    Returns:
        The distances in double precision and in the mask's order, with shape `(num_pairs,)`.
    """
    rows, others = double(rows), double(others)
    groups = torch.cat([rows, others]).unique(dim=0, return_inverse=True)[1]
    different = pairs & (groups[: len(rows), None] != groups[len(rows) :])
    if DENSE * different.sum() > different.numel():
        return distances(rows, others, from_products=False).masked_fill_(~different, 0)[pairs]
    at_once = max(1, CHUNK_ENTRIES // rows.shape[1])
    chunks = zip(*(indices.split(at_once) for indices in different.nonzero(as_tuple=True)), strict=True)
    found = rows.new_zeros(pairs.shape)
    found[different] = torch.cat([(rows[first] - others[second]).norm(dim=1) for first, second in chunks])
    return found[pairs]
