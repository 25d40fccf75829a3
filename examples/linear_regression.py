"""Bayesian linear regression without a likelihood: two weights of 5, learned by telling draws from data.

ImplicitKLqp needs the prior and the guide of the weights to have densities, and of the observations samples alone. The
discriminator sees rows of x, y and the weights. One that does not see x confuses (5, 5) with (-5, 5) and the like: the
outcomes then look alike, since x is as often positive as negative.

    python examples/linear_regression.py --out output/linear_regression

References:
    Tran et al. (2017), "Hierarchical Implicit Models and Likelihood-Free Variational Inference".
"""

import argparse
import time
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from pyro_gan import AutoDiscriminator, ImplicitKLqp
from pyro_gan.callbacks import FinalMean

NUM_ROWS, WEIGHTS, NOISE, PRIOR_DEVIATION = 500, torch.tensor([5.0, 5.0]), 1.0, 5.0


def model(x: Tensor, y: Tensor) -> None:
    """The outcome is a weighted sum of two covariates and noise."""
    weights = pyro.sample("weights", dist.Normal(torch.zeros(2), PRIOR_DEVIATION).to_event(1))
    with pyro.plate("data", NUM_ROWS, subsample=x):
        pyro.deterministic("x", x, event_dim=1)
        pyro.sample("y", dist.Normal(x @ weights, NOISE), obs=y)


def guide(x: Tensor, y: Tensor) -> None:
    """Independent Gaussians, which start at 0."""
    loc = pyro.param("loc", torch.zeros(2))
    scale = pyro.param("scale", torch.full((2,), 0.1), constraint=dist.constraints.positive)
    pyro.sample("weights", dist.Normal(loc, scale).to_event(1))


def exact_posterior(x: Tensor, y: Tensor) -> MultivariateNormal:
    """The posterior in closed form."""
    precision = x.T @ x / NOISE**2 + torch.eye(2) / PRIOR_DEVIATION**2
    return MultivariateNormal(torch.linalg.solve(precision, x.T @ y / NOISE**2), precision_matrix=precision)


def falling_adam(parameters: list[Tensor], num_steps: int, rate: float) -> torch.optim.lr_scheduler.LRScheduler:
    """Adam, its rate falling to 0 along a cosine."""
    adam = torch.optim.Adam(parameters, lr=rate, betas=(0.5, 0.99), fused=True)
    return torch.optim.lr_scheduler.CosineAnnealingLR(adam, num_steps)


def main(args: argparse.Namespace) -> None:
    """Fit, compare with the closed form, draw both."""
    args.out.mkdir(parents=True, exist_ok=True)
    pyro.set_rng_seed(args.seed)
    pyro.clear_param_store()
    x = torch.randn(NUM_ROWS, 2)
    y = x @ WEIGHTS + NOISE * torch.randn(NUM_ROWS)
    start = time.perf_counter()
    inference = ImplicitKLqp(
        model,
        guide,
        AutoDiscriminator(width=64, depth=2),
        optim=partial(falling_adam, num_steps=args.num_steps, rate=1e-2),  # from 0 to 5 takes larger steps
        optim_d=partial(falling_adam, num_steps=args.num_steps, rate=3e-3),
        global_sites="weights",
        site=["weights", "x", "y"],
        spread=20.0,  # 500 rows leave the weights little room, in which the ratio hardly changes
    )
    inference.run((x, y), num_steps=args.num_steps, batch_size=128, progress=args.progress, callbacks=[FinalMean()])
    print(f"{args.num_steps} steps in {time.perf_counter() - start:.0f} s")

    draws, exact = inference.sample_posterior((x, y), num_samples=2000)["weights"], exact_posterior(x, y)
    print("weight   learned mean  deviation   exact mean  deviation")
    for number in range(2):
        print(
            f"{number:6d} {draws[:, number].mean():14.3f} {draws[:, number].std():10.3f}"
            f" {exact.mean[number]:12.3f} {exact.stddev[number]:10.3f}"
        )
    figure, ax = plt.subplots(figsize=(5, 5), layout="constrained")
    exact_draws = exact.sample((2000,))
    ax.plot(*exact_draws.T, ".", markersize=3, alpha=0.4, label="exact posterior")
    ax.plot(*draws.T, ".", markersize=3, alpha=0.4, label="ImplicitKLqp")
    ax.plot(*WEIGHTS, "k+", markersize=14, label="truth")
    ax.set(xlabel="first weight", ylabel="second weight")
    ax.legend()
    figure.savefig(args.out / "linear_regression.png", dpi=120, bbox_inches="tight")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="Takes a minute or two on one core.")
    parser.add_argument("--num-steps", type=int, default=6000, help="steps of training")
    parser.add_argument("--out", type=Path, default=Path("output/linear_regression"), help="the folder for pictures")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the run")
    parser.add_argument("--progress", action="store_true", help="show the losses while it trains")
    return parser


if __name__ == "__main__":
    main(parser().parse_args())
