r"""Jumps of a network's output, by which draws reach modes far apart.

A continuous map of noise draws all in one piece, and between two modes the more the less steep it is. A rectifier
network is made steep by large weights, to which a slow one comes late. So to its output y is added

.. math:: \frac{1}{K} \sum_{k=1}^K \tanh(\beta g_k) \, v_k, \qquad K = 4, \quad \beta = 30,

where the gates g and what they add, v, are outputs too: of noise and observation, as y. A gate passes from one side to
the other within a small part of the noise, and the observation decides which; so weights of modes depend on it.

All weights move as far in a step. By the mean of the jumps these move as much together as y does; their sum moved four
times as much, and made of a normal posterior of ten numbers what it had to unlearn.

References:
    Khayatkhoei, Singh and Elgammal (2018), "Disconnected Manifold Learning for Generative Adversarial Networks": why
    a generator's draws lie between the pieces.
    Tanielian et al. (2020), "Learning disconnected manifolds: a no GANs land", theorem 2: how many, by its slope.
"""

import torch
from torch import Tensor, nn

GATES = 4
"""The jumps of a network."""

MOST_NUMBERS = 5
"""The numbers up to which a network has jumps: each gate adds to all of them, which is learned by heart of many."""

STEEPNESS = 30.0
"""The slope of a jump at its middle, by its gate."""


class Jumps(nn.Module):
    """Adds jumps to some numbers, of the outputs of a linear layer.

    Args:
        size: The numbers of a row.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    @property
    def num_inputs(self) -> int:
        """The outputs that the linear layer has: the numbers, the gates, and for each gate what it adds."""
        return self.size + GATES * (1 + self.size)

    def forward(self, outputs: Tensor) -> Tensor:
        """The numbers, with shape `(*, size)`.

        Args:
            outputs: The outputs, with shape `(*, num_inputs)`.
        """
        numbers, gates, heights = outputs.split([self.size, GATES, GATES * self.size], -1)
        sides = torch.tanh(STEEPNESS * gates).unsqueeze(-2)
        return numbers + (sides @ heights.unflatten(-1, (GATES, self.size))).squeeze(-2) / GATES

    def extra_repr(self) -> str:
        return f"{GATES} jumps of {self.size} numbers"
