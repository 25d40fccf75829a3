"""An epidemic in a town, of which the weekly reports are known: how fast it spreads, and how much of it is reported.

Each day susceptible people are infected and infected ones recover, by chance, and some of the new cases are reported.
Reports are counts, from none to thousands; their likelihood would be a sum over all courses of the epidemic. One of the
three unknowns lives on the unit interval. BiGANInference learns their posterior for any series of reports, and guide
and discriminator build themselves.

    python examples/epidemic.py --out output/epidemic

References:
    Lueckmann et al. (2021), "Benchmarking Simulation-Based Inference" (the priors of both rates).
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

POPULATION, FIRST_CASES, NUM_WEEKS = 10_000, 10, 15
PRIORS = {
    "contact": dist.LogNormal(torch.tensor(0.4).log(), 0.5),
    "recovery": dist.LogNormal(torch.tensor(0.125).log(), 0.2),
    "reported": dist.Beta(2.0, 3.0),
}
"""Infections and recoveries a day for each infected person, and the share of infections that is reported."""


def simulate(contact: Tensor, recovery: Tensor, reported: Tensor) -> Tensor:
    """Reported cases by week, counts with shape `(num_rows, 15)`, for rows of rates and shares."""
    infected = torch.full_like(contact, float(FIRST_CASES))
    susceptible = POPULATION - infected
    weeks = torch.zeros(len(contact), NUM_WEEKS)
    for day in range(7 * NUM_WEEKS):
        risk = 1 - torch.exp(-contact * infected / POPULATION)
        cases = torch.binomial(susceptible, risk)
        recoveries = torch.binomial(infected, 1 - torch.exp(-recovery))
        susceptible, infected = susceptible - cases, infected + cases - recoveries
        weeks[:, day // 7] += torch.binomial(cases, reported)
    return weeks


def model(batch_size: int) -> Tensor:
    """Rates and a share from their priors, and the reports that they lead to."""
    with pyro.plate("data", batch_size):
        drawn = {name: pyro.sample(name, prior) for name, prior in PRIORS.items()}
        return pyro.deterministic("reports", simulate(**drawn), event_dim=1)


def draw_reports(ax: plt.Axes, observed: Tensor, predicted: Tensor) -> None:
    """Draw the reports, and the middle 90 % of what the posterior predicts."""
    weeks = torch.arange(1, NUM_WEEKS + 1)
    low, high = predicted.quantile(torch.tensor([0.05, 0.95]), 0)
    ax.fill_between(weeks, low, high, alpha=0.3, label="90 % of the predictions")
    ax.plot(weeks, observed, "ko-", label="observed", markersize=4)
    ax.set(xlabel="week", ylabel="reported cases")
    ax.legend()


def main(args: argparse.Namespace) -> None:
    """Simulate, train, infer the epidemics held out, draw one."""
    args.out.mkdir(parents=True, exist_ok=True)
    pyro.set_rng_seed(args.seed)
    pyro.clear_param_store()
    number = args.num_simulations + args.num_held_out
    drawn = {name: prior.sample((number,)) for name, prior in PRIORS.items()}
    simulations = {**drawn, "reports": simulate(**drawn)}
    held_out = {name: rows[: args.num_held_out] for name, rows in simulations.items()}

    start = time.perf_counter()
    inference = BiGANInference(model, AutoImplicitGuide(model, observed="reports"))
    inference.run(
        {name: rows[args.num_held_out :] for name, rows in simulations.items()},
        num_steps=args.num_steps,
        batch_size=256,
        progress=args.progress,
    )
    seconds = time.perf_counter() - start
    print(f"{args.num_simulations:,} simulations, {inference.num_steps_taken} steps in {seconds:.0f} s")

    draws = inference.sample_posterior(held_out["reports"], num_samples=500)
    print(f"{'':10s}{'error of the mean':>20s}{'deviation':>12s}{'the prior has':>16s}{'in 50 %':>10s}{'in 90 %':>10s}")
    for name in PRIORS:
        truth, found = held_out[name], draws[name]
        error = (found.mean(0) - truth).square().mean().sqrt()
        covered = expected_coverage(truth, found.T, levels=[0.5, 0.9]).marginal.flatten()
        numbers = f"{error:20.3f}{found.std(0).mean():12.3f}{truth.std():16.3f}"
        print(f"{name:10s}{numbers}{covered[0]:10.1%}{covered[1]:10.1%}")

    shown = int(held_out["reports"].sum(1).median(0).indices)
    posterior = inference.sample_posterior(held_out["reports"][shown], num_samples=1000)
    figure, axes = plt.subplots(1, 4, figsize=(16, 3.6), layout="constrained")
    draw_reports(axes[0], held_out["reports"][shown], simulate(**posterior))
    for ax, (name, prior) in zip(axes[1:], PRIORS.items(), strict=True):
        limits = (0.0, prior.sample((10_000,)).quantile(0.99).item())
        ax.hist(prior.sample((10_000,)), 60, range=limits, density=True, alpha=0.4, label="prior")
        ax.hist(posterior[name], 40, density=True, alpha=0.6, label="posterior")
        ax.axvline(held_out[name][shown], color="k", label="truth")
        ax.set(xlabel=name, yticks=[])
    axes[-1].legend()
    figure.savefig(args.out / "epidemic.png", dpi=100, bbox_inches="tight")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="Takes some three minutes on one core."
    )
    parser.add_argument("--num-simulations", type=int, default=10_000, help="simulations to learn from")
    parser.add_argument("--num-held-out", type=int, default=1000, help="simulations to judge the posterior by")
    parser.add_argument("--num-steps", type=int, default=5000, help="steps of training")
    parser.add_argument("--out", type=Path, default=Path("output/epidemic"), help="the folder for pictures")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the run")
    parser.add_argument("--progress", action="store_true", help="show the losses while it trains")
    return parser


if __name__ == "__main__":
    main(parser().parse_args())
