"""Handwritten digits by one process or many: the same script, by python or by torchrun.

The networks and the recipe are those of examples/mnist.py by default. A run that was cut off goes on from its newest
checkpoint, whichever number of processes it had.

    python examples/distributed.py --data mnist --out output/distributed
    torchrun --nproc-per-node 2 examples/distributed.py --data mnist --out output/distributed

The minibatch is divided among the processes, so that any number of them takes the same steps but for the noise.
"""

import argparse
import os
import time
from pathlib import Path

import matplotlib.pyplot as plt
import pyro
import pyro.distributions as dist
import torch
from handwriting import network
from torch import Tensor, nn

from pyro_gan import GANInference
from pyro_gan.datasets import load_digits, load_mnist
from pyro_gan.plots import plot_history, plot_images

RANK, NUM_PROCESSES = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
NOISE_SIZE, WIDTH = 100, 384


def main(args: argparse.Namespace) -> None:
    """Train with whatever processes there are; the first one draws the pictures."""
    args.out.mkdir(parents=True, exist_ok=True)
    pyro.set_rng_seed(args.seed)
    images = load_mnist().train.images if args.data == "mnist" else load_digits().images
    num_pixels = images.shape[1]
    generator = nn.Sequential(network(NOISE_SIZE, WIDTH, WIDTH, WIDTH, num_pixels), nn.Sigmoid())
    discriminator = network(num_pixels, WIDTH, WIDTH, WIDTH, 1)

    def model(batch_size: int = 128) -> Tensor:
        pyro.module("generator", generator)
        with pyro.plate("data", batch_size):
            noise = pyro.sample("noise", dist.Normal(0.0, 1.0).expand([NOISE_SIZE]).to_event(1))
            return pyro.deterministic("x", generator(noise), event_dim=1)

    inference = GANInference(model, discriminator, ema_decay=0.999, device=args.device)
    start = time.perf_counter()
    inference.run(
        images,
        num_steps=args.num_steps,
        batch_size=args.batch_size // NUM_PROCESSES,
        transform=lambda x: x / 255,
        checkpoint=args.out / "checkpoints",
        progress=args.progress,
    )
    if RANK == 0:
        seconds = time.perf_counter() - start
        print(f"{args.num_steps} steps on {NUM_PROCESSES} process(es) in {seconds:.0f} s")
        figure = plot_images(inference.sample(64, averaged=True).cpu().clamp(0, 1)).figure
        figure.savefig(args.out / "digits.png", dpi=100, bbox_inches="tight")
        plot_history(inference.history)
        plt.savefig(args.out / "history.png", dpi=100, bbox_inches="tight")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="Takes some three minutes on one core."
    )
    parser.add_argument("--data", choices=["digits", "mnist"], default="digits", help="the data set")
    parser.add_argument("--num-steps", type=int, default=8000, help="steps of training")
    parser.add_argument("--batch-size", type=int, default=128, help="the rows of all processes' minibatches together")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where it trains")
    parser.add_argument("--out", type=Path, default=Path("output/distributed"), help="the folder for pictures")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the run")
    parser.add_argument("--progress", action="store_true", help="show the losses while it trains")
    return parser


if __name__ == "__main__":
    main(parser().parse_args())
