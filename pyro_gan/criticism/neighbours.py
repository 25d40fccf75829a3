r"""Has the model learnt its training rows by heart: distances to the nearest training row.

A model that generalizes puts its samples as far from the training rows as new rows of the data lie. One that copies
puts them nearer. With :math:`d(x) = \min_i \|x - t_i\|` over the training rows :math:`t_i`, the test asks whether

.. math:: P\big(d(\text{sample}) < d(\text{held-out row})\big) > \tfrac{1}{2}

by the Mann-Whitney rank sum, which needs no assumption on the distances' distribution (Meehan, Chaudhuri and Dasgupta
2020, "A Non-Parametric Test to Detect Data-Copying in Generative Models").
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyro_gan.checks import positive_integer
from pyro_gan.criticism.distances import ROUNDING, distances_of_pairs
from pyro_gan.criticism.rows import matching_rows
from pyro_gan.criticism.scales import center, double, in_units_of_data, without_scale

CHUNK_ENTRIES = 2**23
"""How many numbers are held at once: 64 MiB in double precision."""


class NearestRows(NamedTuple):
    """The nearest training rows of each sample, the nearest first."""

    distances: Tensor
    """Euclidean distances in the data's units, as float64 with shape `(num_samples, num_neighbours)`."""
    indices: Tensor
    """Which training rows they are, as int64 with shape `(num_samples, num_neighbours)`."""


class Memorization(NamedTuple):
    """How much nearer samples lie to the training rows than held-out rows do."""

    sample_distance: float
    """The median distance of a sample to its nearest training row, in the data's units."""
    held_out_distance: float
    """The median distance of a held-out row to its nearest training row."""
    probability_nearer: float
    """The share of pairs in which the sample is nearer than the held-out row, ties as halves; 1/2 is right."""
    pvalue: float
    """How likely samples at least so near are under a model that does not copy."""


def nearest_rows(samples: Any, training: Any, *, num_neighbours: int = 1) -> NearestRows:
    """The training rows that lie nearest to each sample.

    Args:
        samples: The model's samples, with shape `(num_samples, *event_shape)`, a floating-point tensor or array.
        training: The rows the model was trained on, with shape `(num_rows, *event_shape)`.
        num_neighbours: How many to find, from 1 to the number of training rows.

    Returns:
        Euclidean distances and indices. Rows at equal distances come in any order. A row among the training rows is
        its own nearest.

    Raises:
        ValueError: Devices or event shapes differ, there are no rows, values are not finite numbers of floating point,
            there are fewer training rows than `num_neighbours`, or a distance is larger than the largest number.
        TypeError: `num_neighbours` is no integer, or rows are no numbers.

    Example:
        >>> nearest_rows(torch.tensor([[0.0, 1.0]]), torch.tensor([[3.0, 5.0], [0.0, 0.0]]), num_neighbours=2)
        NearestRows(distances=tensor([[1., 5.]], dtype=torch.float64), indices=tensor([[1, 0]]))

    What the number can not tell:
        Near in Euclidean distance is not alike to the eye: an image moved by a pixel is far from itself.
    """
    count = positive_integer("num_neighbours", num_neighbours)
    rows, others = matching_rows(samples, training, names=("samples", "training rows"))
    if count > len(others):
        raise ValueError(
            f"num_neighbours is {count}, but there are only {len(others)} training rows. Ask for at most as many."
        )
    (rows, others), power = without_scale(rows, others)
    distances, indices = nearest(rows, others, count)
    return NearestRows(in_units_of_data("a sample's distance to a training row", distances, power), indices)


def memorization(samples: Any, training: Any, held_out: Any) -> Memorization:
    """Test whether samples lie nearer to the training rows than new rows of the data do.

    Args:
        samples: The model's samples, with shape `(num_samples, *event_shape)`, a floating-point tensor or array.
        training: The rows the model was trained on, with shape `(num_rows, *event_shape)`.
        held_out: Rows of the data that the model has not seen, with shape `(num_held_out, *event_shape)`, drawn as the
            training rows were and none of them a repetition.

    Returns:
        Both median distances, the probability that a sample is nearer than a held-out row, and the one-sided
        Mann-Whitney p-value. Where all rows are one and the same the probability is 1/2.

    Raises:
        ValueError: Devices or event shapes differ, there are no rows, values are not finite numbers of floating point,
            or a distance is larger than the largest number.
        TypeError: Rows are no numbers.

    Example:
        >>> training, held_out = torch.arange(0.0, 20.0, 2.0)[:, None], torch.arange(1.0, 21.0, 2.0)[:, None]
        >>> result = memorization(training + 0.1, training, held_out)
        >>> result.held_out_distance, result.probability_nearer, result.pvalue < 1e-4
        (1.0, 1.0, True)

    References:
        Meehan, Chaudhuri and Dasgupta (2020), the test over the whole space (theirs is run in each cell of a partition
        too, and puts the probability as a z-score).

    What the number can not tell:
        It is a mean over the samples: one that copies some rows and strays from the others can pass. A model that
        only draws typical rows lies near the training rows without copying any, and fails. A large p-value is no proof
        of the absence of copies: look at the smallest distances of :func:`nearest_rows` too.
    """
    from scipy.stats import mannwhitneyu

    near, far = (
        _distances_to_nearest(name, rows, training)
        for name, rows in (("samples", samples), ("held-out rows", held_out))
    )
    statistic, pvalue = mannwhitneyu(near, far, alternative="less")
    share_nearer = 1 - float(statistic) / (len(near) * len(far))
    return Memorization(float(np.median(near)), float(np.median(far)), share_nearer, float(pvalue))


def _distances_to_nearest(name: str, rows: Any, training: Any) -> np.ndarray:
    """The distance of each row to its nearest training row in the data's units, with shape `(num_rows,)`."""
    (rows, others), power = without_scale(*matching_rows(rows, training, names=(name, "training rows")))
    distances = nearest(rows, others, 1).distances[:, 0]
    return in_units_of_data("a row's distance to its nearest training row", distances, power).cpu().numpy()


def nearest(rows: Tensor, others: Tensor, num_neighbours: int) -> NearestRows:
    """The nearest of `others` to each row, for matrices that are already checked.

    Products choose the neighbours quickly; their distances come from differences, so that near copies lose no digits.
    Where the products' rounding leaves it open whether others are nearer, differences choose among them as well.

    Args:
        rows: A matrix with shape `(num_rows, size)`, scaled where it is of double precision.
        others: A matrix with shape `(num_others, size)`.
        num_neighbours: How many to find, at most `num_others`.

    Returns:
        Distances and indices, as of :func:`nearest_rows`.
    """
    found = []
    for chunk, squared in squared_distances(rows, others, num_neighbours):
        distances, indices = _chosen(chunk, others, squared, num_neighbours)
        farthest = distances[:, -1:]
        open_pairs = (squared < farthest.square()) & (farthest > 0)
        if open_pairs.sum() > open_pairs.gather(1, indices).sum():
            open_pairs.scatter_(1, indices, True)
            exact = torch.full_like(squared, torch.inf)
            exact[open_pairs] = distances_of_pairs(chunk, others, open_pairs)
            distances, indices = _chosen(chunk, others, exact, num_neighbours)
        found.append((distances, indices))
    distances, indices = (torch.cat(parts) for parts in zip(*found, strict=True))
    return NearestRows(distances, indices)


def _chosen(rows: Tensor, others: Tensor, values: Tensor, num_neighbours: int) -> tuple[Tensor, Tensor]:
    """The distances, from differences and in their order, and the indices of those with the smallest values."""
    indices = values.topk(num_neighbours, largest=False).indices
    neighbours = double(others.to(values.device)[indices])
    distances, order = (neighbours - rows[:, None]).norm(dim=2).sort()
    return distances, indices.gather(1, order)


def squared_distances(rows: Tensor, others: Tensor, num_neighbours: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
    """Squared distances from below, some rows at a time.

    Args:
        rows: A matrix with shape `(num_rows, size)`, scaled where it is of double precision.
        others: A matrix with shape `(num_others, size)`.
        num_neighbours: How many of `others` the caller holds at once for each row.

    Yields:
        Rows in double precision with shape `(chunk, size)`, and their squared distances to `others` with shape
        `(chunk, num_others)`, less :data:`ROUNDING` of both squared norms: never above the true value, so that what
        lies on the edge of a ball is found inside.
    """
    if rows.device.type == "mps":  # which has no double precision
        rows, others = rows.cpu(), others.cpu()
    middle = center(others)  # distances from products lose the fewest digits around the origin
    centered = others.to(torch.float64, copy=True).sub_(middle)
    norms = (1 - ROUNDING) * centered.norm(dim=1).square()
    entries_a_row = max(len(others), num_neighbours * others.shape[1])
    for chunk in rows.split(max(1, CHUNK_ENTRIES // entries_a_row)):
        chunk = chunk.double()
        shifted = chunk - middle
        products = torch.addmm(norms, shifted, centered.T, alpha=-2)
        yield chunk, products.add_((1 - ROUNDING) * shifted.norm(dim=1, keepdim=True).square())
