"""Posteriors of plain simulators by the three lines and by sbi's NPE: how far their distribution functions are off.

Each simulator has one or two parameters and a density, so that its posterior is known: as draws of the prior, four
million of them, weighted by the likelihood. Observations are draws of the simulator, the same for both; no setting was
chosen by these simulators. Of each observation counts the largest distance between the distribution functions of
draws and of the exact posterior (Kolmogorov-Smirnov, 0 to 1), of its parameters the one that is farther off.

    python examples/evidence/exact.py --methods compiled npe --out output/evidence

References:
    Greenberg, Nonnenmacher and Macke (2019), "Automatic Posterior Transformation for Likelihood-Free Inference" (NPE).
"""

import argparse
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from posteriors import Sampler, command_line, neural_posterior, processor_seconds, settings
from records import complete
from scipy import stats
from torch import Tensor

from pyro_gan import AutoImplicitGuide, BiGANInference

NUM_DRAWS = 4000
NUM_WEIGHTED = 2**22
FEWEST_EFFECTIVE = 1000
"""The weighted draws, as equal ones, below which a posterior does not count as known."""


class Simulator(NamedTuple):
    """A prior of independent numbers, and what is observed given rows of them."""

    prior: dict[str, dist.Distribution]
    likelihood: Callable[..., dist.Distribution]

    def model(self, batch_size: int) -> Tensor:
        """The simulator as a Pyro model."""
        with pyro.plate("data", batch_size):
            parameters = {name: pyro.sample(name, prior) for name, prior in self.prior.items()}
            return pyro.sample("x", self.likelihood(**parameters))

    def simulate(self, num_rows: int) -> dict[str, Tensor]:
        """Rows of parameters and observations."""
        trace = pyro.poutine.trace(self.model).get_trace(num_rows)
        return {name: trace.nodes[name]["value"] for name in (*self.prior, "x")}


def waiting_times(rate: Tensor) -> dist.Distribution:
    """Five times between events."""
    return dist.Exponential(rate.unsqueeze(-1).expand(*rate.shape, 5)).to_event(1)


def doses(baseline: Tensor, slope: Tensor) -> dist.Distribution:
    """Successes of ten trials at each of five doses."""
    logits = baseline.unsqueeze(-1) + slope.unsqueeze(-1) * torch.linspace(-2.0, 2.0, 5)
    return dist.Binomial(10, logits=logits).to_event(1)


def with_outliers(place: Tensor) -> dist.Distribution:
    """Two numbers with long tails."""
    return dist.Cauchy(place.unsqueeze(-1).expand(*place.shape, 2), 0.5).to_event(1)


def ten_numbers(mean: Tensor, deviation: Tensor) -> dist.Distribution:
    """Ten normal numbers."""
    return dist.Normal(mean.unsqueeze(-1).expand(*mean.shape, 10), deviation.unsqueeze(-1)).to_event(1)


def along_a_curve(first: Tensor, second: Tensor) -> dist.Distribution:
    """Two numbers, of which the narrow one tells of a parabola."""
    means = torch.stack([first + second, second + first.square() / 2], -1)
    return dist.Normal(means, torch.tensor([1.0, 0.2])).to_event(1)


def on_a_circle(angle: Tensor) -> dist.Distribution:
    """A place next to a circle."""
    return dist.Normal(torch.stack([angle.cos(), angle.sin()], -1), 0.3).to_event(1)


SIMULATORS = {
    "waiting times": Simulator({"rate": dist.LogNormal(0.0, 1.0)}, waiting_times),
    "successes": Simulator({"chance": dist.Beta(0.5, 0.5)}, lambda chance: dist.Binomial(30, chance)),
    "doses": Simulator({"baseline": dist.Normal(0.0, 1.5), "slope": dist.Normal(0.0, 1.5)}, doses),
    "outliers": Simulator({"place": dist.Normal(0.0, 2.0)}, with_outliers),
    "ten numbers": Simulator({"mean": dist.Normal(0.0, 3.0), "deviation": dist.LogNormal(0.0, 1.0)}, ten_numbers),
    "curve": Simulator({name: dist.Uniform(-3.0, 3.0) for name in ("first", "second")}, along_a_curve),
    "amount": Simulator({"amount": dist.LogNormal(0.0, 3.0)}, lambda amount: dist.Gamma(4.0, 4.0 / amount)),
    "angle": Simulator({"angle": dist.Uniform(0.0, 2 * math.pi)}, on_a_circle),
}


def ours(simulator: Simulator, simulations: dict[str, Tensor], num_steps: int, compile: bool = False) -> Sampler:
    """The three lines."""
    inference = BiGANInference(simulator.model, AutoImplicitGuide(simulator.model))
    inference.run(simulations, num_steps=num_steps, batch_size=256, progress=False, compile=compile)

    def draws(x: Tensor) -> Tensor:
        found = inference.sample_posterior(x, NUM_DRAWS)
        return torch.stack([found[name] for name in simulator.prior], 1)

    return draws


def npe(simulator: Simulator, simulations: dict[str, Tensor], num_steps: int) -> Sampler:
    """sbi's neural posterior estimation by defaults, but for one parameter; it finds its number of steps itself."""
    from sbi.utils import MultipleIndependent

    priors = [prior.expand([1]) for prior in simulator.prior.values()]
    prior = MultipleIndependent(priors) if len(priors) > 1 else priors[0].to_event(1)
    theta = torch.stack([simulations[name] for name in simulator.prior], 1)
    return neural_posterior(prior, theta, simulations["x"].reshape(len(theta), -1), NUM_DRAWS)


METHODS = {"ours": ours, "compiled": partial(ours, compile=True), "npe": npe}


def distances(draws: Tensor, parameters: Tensor, weights: Tensor) -> list[float]:
    """Of each parameter, how far the distribution function of draws is from that of weighted rows.

    Args:
        draws: Draws of a posterior, with shape `(num_draws, num_parameters)`.
        parameters: Rows, with shape `(num_rows, num_parameters)`.
        weights: Their weights, which sum to 1, with shape `(num_rows,)`.
    """
    is_heavy = weights > weights.max() * 1e-9
    found = []
    for column, exact in zip(draws.T, parameters[is_heavy].T, strict=True):
        places, order = exact.double().sort()
        below = weights[is_heavy][order].cumsum(0).numpy()
        cdf = partial(np.interp, xp=places.numpy(), fp=below, left=0.0, right=1.0)
        found.append(float(stats.kstest(column.double().numpy(), cdf).statistic))
    return found


def run(
    method: str, task: str, seed: int, num_simulations: int, num_steps: int, num_observations: int
) -> dict[str, Any]:
    """Train once, and compare draws for some observations with exact posteriors.

    Raises:
        ValueError: Too few draws of the prior count under an observation.
    """
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    simulator = SIMULATORS[task]
    simulations, start = simulator.simulate(num_simulations), processor_seconds()
    sample = METHODS[method](simulator, simulations, num_steps)
    processor = processor_seconds() - start

    pyro.set_rng_seed(1000)  # the same observations, whatever the seed of the run
    observations = simulator.simulate(num_observations)["x"]
    prior = {name: each.sample((NUM_WEIGHTED,)) for name, each in simulator.prior.items()}
    likelihood, parameters = simulator.likelihood(**prior), torch.stack(list(prior.values()), 1)
    found = []
    for x in observations:
        weights = likelihood.log_prob(x).double().softmax(0)
        effective = 1 / float(weights.square().sum())
        if effective < FEWEST_EFFECTIVE:
            raise ValueError(f"of the prior's draws only {effective:.0f} count for {x}; draw more.")
        found.append(max(distances(sample(x), parameters, weights)))
    return {
        "distance": round(sum(found) / num_observations, 4),
        "worst": round(max(found), 4),
        "processor": round(processor, 1),
    }


def main(args: argparse.Namespace) -> None:
    """Run what the table has not yet."""
    complete(args.out / "exact.csv", settings(args, 2), run)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    return command_line(__doc__, SIMULATORS, num_steps=3000, num_observations=20)


if __name__ == "__main__":
    main(parser().parse_args())
