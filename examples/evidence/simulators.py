"""Four simulators of the benchmark of simulation-based inference, with draws of their posteriors to compare with.

Each has a prior as a Pyro distribution over rows, a simulator from rows of parameters to rows of observations, and a
reference sampler: exact, but for SLCP, whose draws come from a sequential Monte Carlo sampler.

References:
    Lueckmann, Boelts, Greenberg, Gonçalves and Macke (2021), "Benchmarking Simulation-Based Inference", appendix T.
    Del Moral, Doucet and Jasra (2006), "Sequential Monte Carlo Samplers"; ter Braak (2006), "A Markov Chain Monte Carlo
    Version of the Genetic Algorithm Differential Evolution": the moves.
"""

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pyro.distributions as dist
import torch
from torch import Tensor

sys.path.append(str(Path(__file__).parent.parent))

import two_moons

VARIANCE = 0.1
"""Of prior and noise in the linear task."""


class Task(NamedTuple):
    """A simulator and what is known of it."""

    prior: dist.Distribution
    simulate: Callable[[Tensor], Tensor]
    reference: Callable[[Tensor, int], Tensor]
    """From one observation and a number of draws to draws of the posterior."""


def _box(bound: float, size: int) -> dist.Distribution:
    return dist.Uniform(-bound * torch.ones(size), bound * torch.ones(size)).to_event(1)


def _linear(theta: Tensor) -> Tensor:
    return theta + math.sqrt(VARIANCE) * torch.randn_like(theta)


def _linear_reference(x: Tensor, num_draws: int) -> Tensor:
    return x / 2 + math.sqrt(VARIANCE / 2) * torch.randn(num_draws, len(x))


def _mixed(theta: Tensor) -> Tensor:
    return theta + torch.randn_like(theta) * torch.where(torch.rand(len(theta), 1) < 0.5, 1.0, 0.1)


def _mixed_reference(x: Tensor, num_draws: int) -> Tensor:
    """The likelihood is symmetric in parameters and observation, and the prior cuts it off."""
    parts: list[Tensor] = []
    while sum(map(len, parts)) < num_draws:
        theta = _mixed(x.expand(num_draws, 2))
        parts.append(theta[(theta.abs() <= 10).all(1)])
    return torch.cat(parts)[:num_draws]


def _scales(theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Both deviations and the correlation of SLCP's points."""
    return theta[:, 2].square(), theta[:, 3].square(), theta[:, 4].tanh()


def _slcp(theta: Tensor) -> Tensor:
    """Four points of a normal distribution of two dimensions."""
    (first, second, correlation), noise = _scales(theta), torch.randn(len(theta), 4, 2)
    other = (1 - correlation.square()).clamp_min(1e-9).sqrt()[:, None] * noise[..., 1]
    points = [first[:, None] * noise[..., 0], second[:, None] * (correlation[:, None] * noise[..., 0] + other)]
    return (theta[:, None, :2] + torch.stack(points, 2)).reshape(len(theta), 8)


def _slcp_log_likelihood(theta: Tensor, x: Tensor) -> Tensor:
    theta = theta.double()
    first, second, correlation = _scales(theta)
    rest = 1 - correlation.square().clamp(max=1 - 1e-12)
    points = (x.double().reshape(4, 2) - theta[:, None, :2]) / torch.stack([first, second], 1)[:, None]
    squares = points.square().sum((1, 2)) - 2 * correlation * points.prod(2).sum(1)
    found = -squares / (2 * rest) - 4 * (first.log() + second.log() + rest.log() / 2)
    return torch.where((theta.abs() <= 3).all(1), found, -math.inf)


def _slcp_reference(x: Tensor, num_draws: int) -> Tensor:
    """Tempered from the prior to the posterior, with moves by differences of particles, and changes of sign."""
    num = 4 * num_draws
    theta, power = 6 * torch.rand(num, 5) - 3, 0.0
    logs = _slcp_log_likelihood(theta, x)
    while power < 1:
        power, weights = _next_power(logs, power)
        chosen = torch.multinomial(weights, num, replacement=True)
        theta, logs = theta[chosen], logs[chosen]
        for number in range(20 if power < 1 else 600):
            theta, logs = _moved(theta, logs, power, x, 0.1 + 0.6 * float(torch.rand(())), number % 4 == 0)
    return theta[torch.randperm(num)[:num_draws]]


def _next_power(logs: Tensor, power: float) -> tuple[float, Tensor]:
    """The largest power of the likelihood at which half of the particles count, and their weights for it."""
    low, high = power, 1.0
    while True:
        weights = ((high - power) * (logs - logs.max())).exp()
        is_enough = weights.sum().square() / weights.square().sum() > len(logs) / 2
        if (is_enough and high == 1.0) or high - low < 1e-6:
            return high, weights
        low, high = (high, (high + 1) / 2) if is_enough else (low, (low + high) / 2)
        if is_enough:
            return low, weights


def _moved(
    theta: Tensor, logs: Tensor, power: float, x: Tensor, step: float, changes_sign: bool
) -> tuple[Tensor, Tensor]:
    if changes_sign:  # of the third and the fourth parameter, whose squares alone count
        signs = torch.randint(0, 2, (len(theta), 2)) * 2 - 1.0
        proposed = torch.cat([theta[:, :2], theta[:, 2:4] * signs, theta[:, 4:]], 1)
    else:
        one, other = theta[torch.randperm(len(theta))], theta[torch.randperm(len(theta))]
        proposed = theta + step * (one - other) + 1e-4 * torch.randn_like(theta)
    found = _slcp_log_likelihood(proposed, x)
    is_taken = torch.rand(len(theta)).log() < power * (found - logs)
    return torch.where(is_taken[:, None], proposed, theta), torch.where(is_taken, found, logs)


TASKS = {
    "two moons": Task(two_moons.PRIOR, two_moons.simulate, two_moons.exact_posterior),
    "Gaussian linear": Task(dist.Normal(torch.zeros(10), math.sqrt(VARIANCE)).to_event(1), _linear, _linear_reference),
    "Gaussian mixture": Task(_box(10.0, 2), _mixed, _mixed_reference),
    "SLCP": Task(_box(3.0, 5), _slcp, _slcp_reference),
}
