"""The classic GAN tutorial: handwritten digits from uniform noise through one hidden layer.

M = 128 images a step, noise of d = 100 dimensions, one hidden layer of 128 in each network, binarized pixels, two
Adams, 15,000 steps. A figure of 16 samples is saved every 1,000 steps.

    python examples/mnist.py --data mnist --out output/mnist

References:
    Goodfellow et al. (2014), "Generative Adversarial Nets".
    Tran et al. (2016), "Edward: A library for probabilistic modeling, inference, and criticism" (the settings).
"""

import argparse
from functools import partial
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch
from torch import nn

from pyro_gan import GANInference
from pyro_gan.callbacks import SaveSamples
from pyro_gan.datasets import load_digits, load_mnist
from pyro_gan.plots import plot_history

BATCH_SIZE, NOISE_SIZE, HIDDEN_SIZE = 128, 100, 128


def networks(num_pixels: int) -> tuple[nn.Module, nn.Module]:
    """The generator, from noise to pixels, and the discriminator, from pixels to one logit."""
    generator = nn.Sequential(
        nn.Linear(NOISE_SIZE, HIDDEN_SIZE), nn.ReLU(), nn.Linear(HIDDEN_SIZE, num_pixels), nn.Sigmoid()
    )
    discriminator = nn.Sequential(nn.Linear(num_pixels, HIDDEN_SIZE), nn.ReLU(), nn.Linear(HIDDEN_SIZE, 1))
    return generator, discriminator


def binarize(images: torch.Tensor) -> torch.Tensor:
    """Bytes to black or white, each pixel black with its darkness as probability."""
    return torch.bernoulli(images / 255)


def main(args: argparse.Namespace) -> None:
    """Train, save the figures and the curves."""
    args.out.mkdir(parents=True, exist_ok=True)
    pyro.set_rng_seed(args.seed)
    images = load_mnist().train.images if args.data == "mnist" else load_digits().images
    generator, discriminator = networks(images.shape[1])

    def model(batch_size: int = BATCH_SIZE) -> torch.Tensor:
        pyro.module("generator", generator)
        with pyro.plate("data", batch_size):
            eps = pyro.sample("eps", dist.Uniform(-1.0, 1.0).expand([NOISE_SIZE]).to_event(1))
            return pyro.deterministic("x", generator(eps), event_dim=1)

    adam = partial(torch.optim.Adam, lr=1e-3, fused=True)
    inference = GANInference(model, discriminator, adam, adam, device=args.device).run(
        images,
        num_steps=args.num_steps,
        batch_size=BATCH_SIZE,
        transform=binarize,
        callbacks=[SaveSamples(args.out, every=max(1, args.num_steps // 15), num_samples=16)],
    )
    ax = plot_history(inference.history)
    ax.figure.savefig(args.out / "history.png", dpi=120, bbox_inches="tight")
    print(f"figures of 16 samples and the curves are in {args.out}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=["digits", "mnist"], default="digits")
    parser.add_argument("--num-steps", type=int, default=15_000)
    parser.add_argument("--device", default=None, help="such as cpu, cuda or mps")
    parser.add_argument("--out", type=Path, default=Path("output/mnist"))
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    main(parser().parse_args())
