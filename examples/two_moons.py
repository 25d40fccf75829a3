"""The posterior of a simulator that has no likelihood: two moons, judged against exact posterior draws.

The simulator places a crescent of noise at (-|t1 + t2|, t2 - t1) / sqrt 2: each observation has two crescents of
parameters that could have made it. From 10,000 simulations made beforehand, BiGANInference learns a network that turns
noise and any observation into parameters. How far the draws are from exact ones is said by the classifier two-sample
test: the accuracy with which a classifier tells them apart, 0.5 where it can not.

    python examples/two_moons.py --out output/two_moons

References:
    Greenberg et al. (2019), "Automatic Posterior Transformation for Likelihood-Free Inference", appendix A.5.1.
    Lueckmann et al. (2021), "Benchmarking Simulation-Based Inference", task 8 and section 3 (the test).
"""

import argparse
import math
import time
from pathlib import Path

import matplotlib.pyplot as plt
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_gan import AutoImplicitGuide, BiGANInference
from pyro_gan.criticism import c2st

PRIOR = dist.Uniform(-torch.ones(2), torch.ones(2)).to_event(1)


def crescent(num_rows: int) -> Tensor:
    """The simulator's noise, half a ring of radius 0.1, with shape `(num_rows, 2)`."""
    angle = math.pi * (torch.rand(num_rows) - 0.5)
    radius = 0.1 + 0.01 * torch.randn(num_rows)
    return torch.stack([radius * angle.cos() + 0.25, radius * angle.sin()], 1)


def simulate(theta: Tensor) -> Tensor:
    """Observations with shape `(num_rows, 2)`, for rows of two parameters."""
    first, second = theta.T
    return crescent(len(theta)) + torch.stack([-(first + second).abs(), second - first], 1) / math.sqrt(2)


def exact_posterior(x: Tensor, num_samples: int) -> Tensor:
    """Independent draws from the posterior of one observation, with shape `(num_samples, 2)`.

    Given the noise, x tells |t1 + t2| and t2 - t1. Either sign of t1 + t2 is as likely as the other, and the prior is
    flat: so the noise has the law that it has in the simulator, but for values that no parameters in the prior's square
    lead to.
    """
    parts: list[Tensor] = []
    while sum(map(len, parts)) < num_samples:
        rest = x - crescent(num_samples)
        total = -rest[:, 0] * torch.randint(0, 2, (num_samples,)).mul(2).sub(1)
        theta = torch.stack([total - rest[:, 1], total + rest[:, 1]], 1) / math.sqrt(2)
        parts.append(theta[(rest[:, 0] <= 0) & (theta.abs() <= 1).all(1)])
    return torch.cat(parts)[:num_samples]


def model(batch_size: int) -> Tensor:
    """Parameters from the prior, and what the simulator makes of them."""
    with pyro.plate("data", batch_size):
        theta = pyro.sample("theta", PRIOR)
        return pyro.deterministic("x", simulate(theta), event_dim=1)


def draw(figure: plt.Figure, observations: Tensor, exact: list[Tensor], learned: list[Tensor]) -> None:
    """Draw exact draws above learned ones, a column for each observation."""
    axes = figure.subplots(2, len(observations), squeeze=False, sharex=True, sharey=True)
    for row, (name, draws) in enumerate({"exact": exact, "learned": learned}.items()):
        axes[row, 0].set_ylabel(f"{name}\n$\\theta_2$")
        for ax, theta in zip(axes[row], draws, strict=True):
            ax.plot(*theta[:2000].T, ".", markersize=1, color=f"C{row}")
            ax.set(xlim=(-1, 1), ylim=(-1, 1), aspect="equal")
    for top, bottom, x in zip(*axes, observations, strict=True):
        top.set_title(f"x = ({x[0]:.2f}, {x[1]:.2f})")
        bottom.set_xlabel(r"$\theta_1$")


def main(args: argparse.Namespace) -> None:
    """Simulate, train, compare with exact draws for some observations, draw four of them."""
    args.out.mkdir(parents=True, exist_ok=True)
    pyro.set_rng_seed(args.seed)
    pyro.clear_param_store()
    theta = PRIOR.sample((args.num_simulations,))
    simulations = {"theta": theta, "x": simulate(theta)}

    start = time.perf_counter()
    inference = BiGANInference(model, AutoImplicitGuide(model, observed="x"))
    inference.run(simulations, num_steps=args.num_steps, batch_size=256, progress=args.progress)
    print(f"{args.num_simulations:,} simulations, {args.num_steps} steps in {time.perf_counter() - start:.0f} s")

    pyro.set_rng_seed(1)  # the same observations, whatever the seed of the run
    observations = simulate(PRIOR.sample((args.num_observations,)))
    learned = [inference.sample_posterior(x, args.num_draws)["theta"] for x in observations]
    exact = [exact_posterior(x, args.num_draws) for x in observations]
    figure = plt.figure(figsize=(12, 6), layout="constrained")
    draw(figure, observations[:4], exact[:4], learned[:4])
    figure.savefig(args.out / "two_moons.png", dpi=120, bbox_inches="tight")

    print("observation        C2ST (0.5: can not be told apart)")
    accuracies = []
    for x, reference, theta in zip(observations, exact, learned, strict=True):
        accuracies.append(c2st(reference, theta))
        print(f"({x[0]:5.2f}, {x[1]:5.2f})    {accuracies[-1]:.3f}", flush=True)
    print(f"mean              {sum(accuracies) / len(accuracies):.3f}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="Takes some three minutes on one core."
    )
    parser.add_argument("--num-simulations", type=int, default=10_000, help="simulations to learn from")
    parser.add_argument("--num-steps", type=int, default=6000, help="steps of training")
    parser.add_argument("--num-observations", type=int, default=10, help="observations to compare posteriors for")
    parser.add_argument("--num-draws", type=int, default=10_000, help="draws of each posterior")
    parser.add_argument("--out", type=Path, default=Path("output/two_moons"), help="the folder for pictures")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the run")
    parser.add_argument("--progress", action="store_true", help="show the losses while it trains")
    return parser


if __name__ == "__main__":
    main(parser().parse_args())
