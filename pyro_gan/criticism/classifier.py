"""A small network that learns to tell two sets of rows apart, and judges rows that it was not trained on.

It is torch's own, so that it needs no further library, and draws from a generator of its own. Several sets of labels of
the same rows are learned at once, which is how null distributions by relabelling cost little.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor

from pyro_gan.criticism.scales import double

WIDTH = 32
"""The width of both hidden layers."""

NUM_STEPS = 150
"""The updates by all training rows at once."""

RATE, DECAY = 0.01, 0.01
"""Adam's rate, and its weight decay."""

IQR_OF_NORMAL = 1.349
"""The distance between the quartiles of a normal distribution, in standard deviations."""


def robust_scales(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Each column's middle and spread, which a few outliers do not move.

    Args:
        rows: A matrix with shape `(num_rows, size)`.

    Returns:
        Medians, and distances between quartiles in units of a normal distribution's; where the quartiles are equal, the
        standard deviation, and 1 where the column is constant. Both in double precision with shape `(size,)`.
    """
    rows = double(rows)
    quartiles = torch.quantile(rows, torch.tensor([0.25, 0.5, 0.75], dtype=rows.dtype, device=rows.device), dim=0)
    spread = (quartiles[2] - quartiles[0]) / IQR_OF_NORMAL
    spread = torch.where(spread > 0, spread, rows.std(0, correction=0))
    return quartiles[1], torch.where(spread > 0, spread, torch.ones_like(spread))


def flattened_tails(rows: Tensor, middle: Tensor, spread: Tensor) -> Tensor:
    """Rows in units of the spread about the middle, with tails that a network can follow.

    Args:
        rows: A matrix with shape `(num_rows, size)`.
        middle: Each column's middle, with shape `(size,)`.
        spread: Each column's spread, with shape `(size,)`.

    Returns:
        The inverse hyperbolic sines, in single precision on the host: one to one, straight near 0, a logarithm far out.
    """
    return torch.asinh((double(rows) - middle) / spread).float().cpu()


def cross_fitted(rows: Tensor, labels: Tensor, folds: Tensor, generator: torch.Generator) -> list["Networks"]:
    """For each of two folds, networks that were trained on the other one.

    Args:
        rows: Standardized rows, in single precision with shape `(num_rows, size)`.
        labels: 0 or 1, with shape `(num_labellings, num_rows)`.
        folds: Which fold each row is in, 0 or 1, with shape `(num_rows,)`.
        generator: From which the first weights are drawn.

    Returns:
        The networks that may judge the rows of fold 0, and those that may judge those of fold 1.
    """
    return [Networks(rows[folds != fold], labels[:, folds != fold], generator) for fold in (0, 1)]


def out_of_fold(networks: list["Networks"], rows: Tensor, folds: Tensor) -> Tensor:
    """The logits of rows by the networks that have not been trained on their folds.

    Args:
        networks: Those of :func:`cross_fitted`.
        rows: Standardized rows with shape `(num_rows, size)`.
        folds: The rows' folds, with shape `(num_rows,)`.

    Returns:
        Logits of label 1, with shape `(num_labellings, num_rows)`.
    """
    first, second = (network.logits(rows) for network in networks)
    return torch.where(folds == 0, first, second)


class Networks:
    """Networks with two hidden layers, one for each set of labels, trained at once.

    Args:
        rows: Standardized rows with shape `(num_rows, size)`.
        labels: 0 or 1, with shape `(num_labellings, num_rows)`.
        generator: From which the first weights are drawn; all networks begin alike.
    """

    def __init__(self, rows: Tensor, labels: Tensor, generator: torch.Generator) -> None:
        sizes = (rows.shape[1], WIDTH, WIDTH, 1)
        self.layers = []
        for inputs, outputs in pairwise(sizes):
            weight = torch.randn(1, inputs, outputs, generator=generator, device="cpu") / math.sqrt(inputs)
            weights = (weight.repeat(len(labels), 1, 1), weight.new_zeros(len(labels), 1, outputs))
            self.layers.append([each.requires_grad_() for each in weights])
        parameters = [each for layer in self.layers for each in layer]
        optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=DECAY)
        loss = torch.nn.BCEWithLogitsLoss(reduction="sum")
        scale, targets = 1 / rows.shape[0], labels.to(rows.dtype)
        with torch.enable_grad():
            for _ in range(NUM_STEPS):
                optimizer.zero_grad()
                (scale * loss(self._forward(rows), targets)).backward()
                optimizer.step()

    @torch.no_grad()
    def logits(self, rows: Tensor) -> Tensor:
        """The logits of label 1, with shape `(num_labellings, num_rows)`, of rows with shape `(num_rows, size)`."""
        return self._forward(rows)

    def _forward(self, rows: Tensor) -> Tensor:
        hidden = rows.expand(len(self.layers[0][0]), *rows.shape)
        for number, (weight, bias) in enumerate(self.layers):
            hidden = torch.baddbmm(bias, hidden, weight)
            hidden = hidden if number == len(self.layers) - 1 else torch.tanh(hidden)
        return hidden[..., 0]
