"""A predator-prey simulator with four unknown rates: their posterior, and what it predicts.

Prey are born and eaten, predators are born of prey eaten and die, all by chance (the chemical Langevin equation of the
Lotka-Volterra process). The simulator can be run but has no likelihood. BiGANInference learns the posterior of its
rates for any observation from simulations made beforehand; guide and discriminator build themselves.

    python examples/simulator.py --out output/simulator

References:
    Lueckmann et al. (2021), "Benchmarking Simulation-Based Inference" (the prior and the populations at the start).
"""

import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_gan import AutoImplicitGuide, BiGANInference
from pyro_gan.criticism import expected_coverage

NAMES = ["prey's births", "prey eaten", "predators' deaths", "predators' births"]
PRIOR = dist.LogNormal(torch.tensor([-0.125, -3.0, -0.125, -3.0]), 0.5).to_event(1)
NUM_TIMES, STEPS_A_TIME, TIME_STEP = 20, 25, 0.04


def simulate(rates: Tensor) -> Tensor:
    """The logarithms of 1 + both populations at 20 times, with shape `(num_rows, 40)`, for rows of four rates."""
    births, eaten, deaths, predator_births = rates.T
    prey, predators = torch.full_like(births, 30.0), torch.full_like(births, 1.0)
    record = []
    for step in range(1, NUM_TIMES * STEPS_A_TIME + 1):
        flows = torch.stack(
            [births * prey, eaten * prey * predators, deaths * predators, predator_births * prey * predators]
        )
        flows = (flows * TIME_STEP + (flows * TIME_STEP).sqrt() * torch.randn_like(flows)).clamp(min=0.0)
        prey = (prey + flows[0] - flows[1]).clamp(0.0, 1e4)
        predators = (predators + flows[3] - flows[2]).clamp(0.0, 1e4)
        if step % STEPS_A_TIME == 0:
            record += [prey, predators]
    return torch.stack(record, 1).log1p()


def model(batch_size: int) -> Tensor:
    """Rates from the prior, and the populations that they lead to."""
    with pyro.plate("data", batch_size):
        rates = pyro.sample("rates", PRIOR)
        return pyro.deterministic("x", simulate(rates), event_dim=1)


def draw_populations(ax: plt.Axes, observed: Tensor, predicted: Tensor) -> None:
    """Draw both populations, and the middle 90 % of what the posterior predicts."""
    times = torch.arange(1, NUM_TIMES + 1)
    for species, name, color in (0, "prey", "C0"), (1, "predators", "C1"):
        low, high = predicted.expm1()[:, species::2].quantile(torch.tensor([0.05, 0.95]), 0)
        ax.fill_between(times, low, high, color=color, alpha=0.3)
        ax.plot(times, observed.expm1()[species::2], f"{color}o-", label=name, markersize=4)
    ax.set(xlabel="time", ylabel="population", yscale="symlog", title="observed, and 90 % of the predictions")
    ax.legend()


def main(args: argparse.Namespace) -> None:
    """Simulate, train, infer the rates of simulations held out, draw one."""
    args.out.mkdir(parents=True, exist_ok=True)
    pyro.set_rng_seed(args.seed)
    pyro.clear_param_store()
    rates = PRIOR.sample((args.num_simulations + args.num_held_out,))
    x = simulate(rates)
    held_rates, rates = rates.tensor_split([args.num_held_out])
    held_x, x = x.tensor_split([args.num_held_out])

    start = time.perf_counter()
    inference = BiGANInference(model, AutoImplicitGuide(model))
    inference.run({"rates": rates, "x": x}, num_steps=args.num_steps, batch_size=256, progress=args.progress)
    print(f"{len(x):,} simulations, {args.num_steps} steps in {time.perf_counter() - start:.0f} s")

    draws = inference.sample_posterior(held_x, num_samples=500)["rates"].log()
    truth = held_rates.log()
    print(f"{'rate':20s} {'error of the mean':>18s} {'deviation':>10s} {'the prior has':>14s}   (logarithms)")
    for number, name in enumerate(NAMES):
        error = (draws[..., number].mean(0) - truth[:, number]).square().mean().sqrt()
        print(f"{name:20s} {error:18.3f} {draws[..., number].std(0).mean():10.3f} {truth[:, number].std():14.3f}")
    covered = expected_coverage(truth, draws.transpose(0, 1), levels=[0.5, 0.9]).marginal.mean(1)
    held = f"{covered[0]:.1%} and {covered[1]:.1%} of {args.num_held_out} held-out cases"
    print(f"intervals of 50 % and 90 % hold the rate in {held}")

    posterior = inference.sample_posterior(held_x[0], num_samples=1000)["rates"]
    figure, axes = plt.subplots(1, 5, figsize=(20, 3.6), layout="constrained")
    draw_populations(axes[0], held_x[0], simulate(posterior))
    for number, ax in enumerate(axes[1:]):
        limits = (0.0, rates[:, number].quantile(0.99).item())
        ax.hist(rates[:, number], 60, range=limits, density=True, alpha=0.4, label="prior")
        ax.hist(posterior[:, number], 40, density=True, alpha=0.6, label="posterior")
        ax.axvline(held_rates[0, number], color="k", label="truth")
        ax.set(xlabel=NAMES[number], yticks=[])
    axes[-1].legend()
    figure.savefig(args.out / "simulator.png", dpi=100, bbox_inches="tight")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="Takes some three minutes on one core."
    )
    parser.add_argument("--num-simulations", type=int, default=10_000, help="simulations to learn from")
    parser.add_argument("--num-held-out", type=int, default=1000, help="simulations to judge the posterior by")
    parser.add_argument("--num-steps", type=int, default=5000, help="steps of training")
    parser.add_argument("--out", type=Path, default=Path("output/simulator"), help="the folder for pictures")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the run")
    parser.add_argument("--progress", action="store_true", help="show the losses while it trains")
    return parser


if __name__ == "__main__":
    main(parser().parse_args())
