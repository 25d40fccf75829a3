"""Wasserstein inference: a Gaussian's mean, with a clipped critic and with a gradient penalty.

The critic's loss is an estimate of the distance between data and model, which falls to 0 as the model finds the data:
the 2014 game has no such number. In one dimension the penalty must be one-sided or weak; a two-sided one of weight 10
keeps the critic's slope from turning round once the model has passed the data.

    python examples/wgan.py --out output/wgan

References:
    Arjovsky et al. (2017), "Wasserstein GAN".
    Gulrajani et al. (2017), "Improved Training of Wasserstein GANs".
"""

import argparse
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_gan import WGANInference
from pyro_gan.penalties import GradientPenalty

DATA_MEAN, DATA_DEVIATION = 4.0, 0.1


def model(batch_size: int) -> Tensor:
    """A Gaussian of unknown mean, as an implicit model: noise, shifted."""
    loc = pyro.param("loc", torch.tensor(0.0))
    with pyro.plate("data", batch_size):
        eps = pyro.sample("eps", dist.Normal(0.0, 1.0))
        return pyro.deterministic("x", loc + DATA_DEVIATION * eps, event_dim=0)


def falling_adam(parameters: list[Tensor], num_steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """Adam without momentum, its rate falling to 0 along a line."""
    adam = torch.optim.Adam(parameters, lr=0.01, betas=(0.0, 0.9), fused=True)
    return torch.optim.lr_scheduler.LinearLR(adam, 1.0, 0.0, total_iters=num_steps)


def main(args: argparse.Namespace) -> None:
    """Fit twice, print where the mean went, draw the distance."""
    args.out.mkdir(parents=True, exist_ok=True)
    figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    bounds = {
        "clipped to 0.01": {"clip": 0.01},
        "one-sided penalty of weight 0.1": {"penalty": GradientPenalty(0.1, one_sided=True)},
    }
    for name, bound in bounds.items():
        pyro.set_rng_seed(args.seed)
        pyro.clear_param_store()
        data = DATA_MEAN + DATA_DEVIATION * torch.randn(10_000)
        network = nn.Sequential(nn.Linear(1, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))
        adam = partial(falling_adam, num_steps=args.num_steps)
        inference = WGANInference(model, lambda x, network=network: network(x[:, None]), adam, adam, **bound)
        inference.run(data, num_steps=args.num_steps, batch_size=256, progress=args.progress)
        print(f"{name:32s} loc {pyro.param('loc').item():.3f}, data {data.mean():.3f}")
        distance = -torch.tensor(inference.history["discriminator_loss"])
        ax.plot(inference.history["step"], distance / distance.abs().max(), label=name, linewidth=1)
    ax.set(xlabel="step", ylabel="critic's distance, relative to its largest", title="N(4, 0.1²), from 0")
    ax.legend()
    figure.savefig(args.out / "wgan.png", dpi=120, bbox_inches="tight")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="Takes one minute on one core.")
    parser.add_argument("--num-steps", type=int, default=2000, help="steps of training")
    parser.add_argument("--out", type=Path, default=Path("output/wgan"), help="the folder for pictures")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the run")
    parser.add_argument("--progress", action="store_true", help="show the losses while it trains")
    return parser


if __name__ == "__main__":
    main(parser().parse_args())
