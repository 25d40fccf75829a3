"""The one-dimensional picture of adversarial training: p_data, p_model and D(x) as they evolve.

The data come from one Gaussian; the model is another, whose mean and spread are free. As the model approaches the data,
D(x) goes to 1/2 and the value function V(D, G) to -log 4 (Goodfellow et al. 2014, figure 1 and theorem 1).

    python examples/gaussian_1d.py --out output/gaussian_1d
"""

import argparse
import math
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import pyro
import pyro.distributions as dist
import torch
from torch import nn

from pyro_gan import GANInference
from pyro_gan.losses import NonSaturating
from pyro_gan.plots import plot_density_1d

DATA_MEAN, DATA_DEVIATION = 4.0, 0.5


def model(batch_size: int = 512) -> torch.Tensor:
    """A Gaussian of unknown mean and spread, as an implicit model: noise, shifted and scaled."""
    loc = pyro.param("loc", torch.tensor(0.0))
    scale = pyro.param("scale", torch.tensor(1.0), constraint=dist.constraints.positive)
    with pyro.plate("data", batch_size):
        eps = pyro.sample("eps", dist.Normal(0.0, 1.0))
        return pyro.deterministic("x", loc + scale * eps, event_dim=0)


def falling_adam(parameters: list[torch.Tensor], num_steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """Adam without momentum, its rate falling to 0 along a line: the players settle instead of circling."""
    adam = torch.optim.Adam(parameters, lr=0.01, betas=(0.0, 0.99), fused=True)
    return torch.optim.lr_scheduler.LinearLR(adam, 1.0, 0.0, total_iters=num_steps)


def draw(inference: GANInference, data: torch.Tensor, ax: plt.Axes) -> None:
    """Draw both densities and D(x), and print where the game stands."""
    step, samples = inference.num_steps_taken, inference.sample(len(data))
    value = -inference.evaluate_loss(data).discriminator.item()
    plot_density_1d(data, samples, inference.log_ratio, limits=(-3, 7), ax=ax)
    ax.set_title(f"step {step}, V = {value:.3f}", pad=24)
    probability = inference.log_ratio(data).sigmoid().mean()
    print(f"{step:6d} {samples.mean():9.3f} {samples.std():9.3f} {probability:14.3f} {value:8.3f}")


def main(args: argparse.Namespace) -> None:
    """Train in stages, drawing after each."""
    args.out.mkdir(parents=True, exist_ok=True)
    pyro.set_rng_seed(args.seed)
    pyro.clear_param_store()
    data = DATA_MEAN + DATA_DEVIATION * torch.randn(20_000)
    network = nn.Sequential(nn.Linear(1, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))
    adam = partial(falling_adam, num_steps=args.num_steps)
    inference = GANInference(model, lambda x: network(x[:, None]), adam, adam, loss=NonSaturating())

    stops = [max(1, args.num_steps // part) for part in (100, 20, 6, 1)]
    figure, axes = plt.subplots(1, len(stops), figsize=(4 * len(stops), 3), sharey=True, layout="constrained")
    print("  step      mean deviation  D(x) on data        V")
    for stop, ax in zip(stops, axes, strict=True):
        if stop > inference.num_steps_taken:
            inference.run(data, num_steps=stop - inference.num_steps_taken, batch_size=512, progress=args.progress)
        draw(inference, data, ax)
    print(f"  data {data.mean():9.3f} {data.std():9.3f} {0.5:14.3f} {-math.log(4):8.3f} (-log 4)")
    figure.savefig(args.out / "gaussian_1d.png", dpi=120, bbox_inches="tight")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="Takes half a minute on one core.")
    parser.add_argument("--num-steps", type=int, default=3000, help="steps of training")
    parser.add_argument("--out", type=Path, default=Path("output/gaussian_1d"), help="the folder for pictures")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the run")
    parser.add_argument("--progress", action="store_true", help="show the losses while it trains")
    return parser


if __name__ == "__main__":
    main(parser().parse_args())
