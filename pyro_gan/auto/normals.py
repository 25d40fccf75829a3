r"""A network of the densities of latents given an observation: of each latent a normal one, and two in a mixture.

.. math:: p(r \mid u) \approx N(m, s^2), \qquad p(r \mid u) \approx w N(m_1, s_1^2) + (1 - w) N(m_2, s_2^2),

with all of these outputs of one network of the observation's numbers u, fitted by the sum of both negative
log-likelihoods. The first tells where latents lie and how wide; the second, whether they lie in two heaps.

References:
    Nix and Weigend (1994), "Estimating the Mean and Variance of the Target Probability Distribution".
    Bishop (1994), "Mixture Density Networks".
    Polyak and Juditsky (1992), "Acceleration of Stochastic Approximation by Averaging": the weights are averages.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, linear, logsigmoid

from pyro_gan.auto.networks import SLOPE

WIDTH = 128
"""The units of each of two hidden layers."""

SMALLEST, LARGEST = -7.0, 1.5
"""The logarithms between which deviations are kept."""

OUTPUTS = 7
"""Those for a latent: m, log s, the log-odds of w, m₁, m₂, log s₁ and log s₂."""

NUM_STEPS, BATCH_SIZE = 3000, 256
"""Those of the fit, at most."""

RATE, STEPS_TO_RATE = 1e-2, 100
"""Adam's largest rate, and the steps to it; then it falls to 0."""

AVERAGING = 0.995
"""The part of the weights' average that a step keeps."""

LARGEST_GRADIENT = 5.0
"""The norm to which gradients are cut."""

EVERY, PATIENCE = 50, 500
"""The steps between two looks at the rows kept apart, and those without a better one after which the fit ends."""

RARE, APART = 0.05, 2.0
"""The weight from which on a heap counts, and how far apart two are, in the sum of their deviations."""


class Normals(NamedTuple):
    """What the network tells of rows, each with shape `(num_rows, num_latents)`."""

    mean: Tensor
    log_deviation: Tensor
    odds: Tensor
    """The log-odds of the first heap."""
    means: tuple[Tensor, Tensor]
    log_deviations: tuple[Tensor, Tensor]

    def losses(self, rows: Tensor) -> Tensor:
        """The negative log-likelihoods of latents by one normal density, but for a constant.

        Args:
            rows: The latents, with shape `(num_rows, num_latents)`.
        """
        return _loss(rows, self.mean, self.log_deviation)

    def losses_of_two(self, rows: Tensor) -> Tensor:
        """Those by the mixture.

        Args:
            rows: The latents, with shape `(num_rows, num_latents)`.
        """
        one, other = (_loss(rows, *each) for each in zip(self.means, self.log_deviations, strict=True))
        return -torch.logaddexp(logsigmoid(self.odds) - one, logsigmoid(-self.odds) - other)

    def have_two_heaps(self) -> Tensor:
        """Whether the mixture has two heaps that hardly overlap."""
        (one, other), (log_one, log_other) = self.means, self.log_deviations
        are_apart = (one - other).abs() > APART * (log_one.exp() + log_other.exp())
        return are_apart & (-self.odds.abs() > math.log(RARE / (1 - RARE)))


def shapes(num_latents: int, num_observed: int, num_outputs: int = OUTPUTS) -> list[tuple[int, ...]]:
    """The shapes of the layers' weights and biases, in order.

    Args:
        num_latents: The numbers of a row's latents.
        num_observed: The numbers of its observation.
        num_outputs: The outputs for each latent; the first two tell the normal density.
    """
    sizes = pairwise((num_observed, WIDTH, WIDTH, num_outputs * num_latents))
    return [shape for num_in, num_out in sizes for shape in ((num_out, num_in), (num_out,))]


def outputs(weights: Sequence[Tensor], given: Tensor) -> Tensor:
    """What the last layer has for rows, one kind of output after the other.

    Args:
        weights: The layers' weights and biases, in order.
        given: The numbers of the observations, with shape `(num_rows, num_observed)`.
    """
    *hidden, last, last_bias = weights
    for weight, bias in zip(hidden[::2], hidden[1::2], strict=True):
        given = leaky_relu(linear(given, weight, bias), SLOPE)
    return linear(given, last, last_bias)


def told(weights: Sequence[Tensor], given: Tensor) -> Normals:
    """The densities of rows.

    Args:
        weights: The layers' weights and biases, in order.
        given: The numbers of the observations, with shape `(num_rows, num_observed)`.
    """
    mean, log, odds, one, other, log_one, log_other = outputs(weights, given).chunk(OUTPUTS, 1)
    return Normals(mean, kept(log), odds, (one, other), (kept(log_one), kept(log_other)))


def kept(log_deviations: Tensor) -> Tensor:
    """Logarithms of deviations between the limits."""
    return log_deviations.clamp(SMALLEST, LARGEST)


def fitted(rows: Tensor, given: Tensor, num_apart: int, generator: torch.Generator) -> list[Tensor]:
    """Averaged weights at the step at which the first rows, which are kept apart, were most likely.

    Args:
        rows: The latents, with shape `(num_rows, num_latents)`.
        given: The numbers of their observations, with shape `(num_rows, num_observed)`.
        num_apart: How many rows are kept apart.
        generator: Draws the first weights and the minibatches, on the host.
    """
    num_latents = rows.shape[1]
    weights = [_first(shape, rows, generator) for shape in shapes(num_latents, given.shape[1])]
    weights[-2].zero_()
    for output, start in (3, -0.5), (4, 0.5):  # two heaps that were alike would stay so
        weights[-1][output * num_latents : (output + 1) * num_latents] = start
    average = [each.clone() for each in weights]
    best, best_loss, best_step = [each.clone() for each in average], math.inf, 0
    optimizer = torch.optim.Adam([each.requires_grad_() for each in weights])
    for step in range(1, NUM_STEPS + 1):
        optimizer.param_groups[0]["lr"] = RATE * min(1.0, step / STEPS_TO_RATE) * (1 - step / (NUM_STEPS + 1))
        chosen = torch.randint(num_apart, len(given), (BATCH_SIZE,), generator=generator, device="cpu")
        _move(optimizer, weights, rows[chosen.to(rows.device)], given[chosen.to(given.device)])
        kept_part = min(AVERAGING, step / (10 + step))  # the first steps are soon forgotten
        for mean, weight in zip(average, weights, strict=True):
            mean.lerp_(weight.detach(), 1 - kept_part)
        if step % EVERY == 0:
            loss = float(_objective(average, rows[:num_apart], given[:num_apart]))
            if loss < best_loss:
                best, best_loss, best_step = [each.clone() for each in average], loss, step
            if step - best_step >= PATIENCE or not math.isfinite(loss):
                break
    return best


def _move(optimizer: torch.optim.Adam, weights: list[Tensor], rows: Tensor, given: Tensor) -> None:
    """One step on a minibatch."""
    with torch.enable_grad():
        gradients = torch.autograd.grad(_objective(weights, rows, given), weights)
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient
    nn.utils.clip_grad_norm_(weights, LARGEST_GRADIENT)
    optimizer.step()


def _objective(weights: Sequence[Tensor], rows: Tensor, given: Tensor) -> Tensor:
    normals = told(weights, given)
    return (normals.losses(rows) + normals.losses_of_two(rows)).sum(1).mean()


def _loss(rows: Tensor, mean: Tensor, log_deviation: Tensor) -> Tensor:
    return ((rows - mean) * (-log_deviation).exp()).square() / 2 + log_deviation


def _first(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    """A hidden layer's first weights, which keep the variance (He et al. 2015), or its biases: 0."""
    if len(shape) == 1:
        return like.new_zeros(shape)
    deviation = math.sqrt(2 / (1 + SLOPE**2) / shape[1])
    return (
        torch.empty(shape, dtype=like.dtype, device="cpu").normal_(0.0, deviation, generator=generator).to(like.device)
    )
