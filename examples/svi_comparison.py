"""One model of digits, trained twice: as a VAE by Pyro's SVI, and adversarially by GANInference.

The model function is the same for both, unchanged: it observes the images it is given. SVI needs its density and a
guide; GANInference draws the observed site afresh and needs a discriminator instead. Both see the same minibatches:
images with a little noise, which the model's own `scale` can account for.

    python examples/svi_comparison.py --out output/svi_comparison
"""

import argparse
import time
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor, nn

from pyro_gan import GANInference
from pyro_gan.criticism import parzen_log_likelihood, select_bandwidth
from pyro_gan.datasets import load_digits
from pyro_gan.plots import plot_images
from pyro_gan.training.minibatches import minibatches

NUM_PIXELS, LATENT_SIZE, HIDDEN_SIZE, BATCH_SIZE = 64, 32, 256, 128


def network(*sizes: int, norm: bool = False, dropout: float = 0.0) -> nn.Sequential:
    """A fully connected network."""
    layers: list[nn.Module] = []
    for size, next_size in pairwise(sizes[:-1]):
        layers += [nn.Linear(size, next_size), *([nn.BatchNorm1d(next_size)] if norm else []), nn.LeakyReLU(0.2)]
        layers += [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


class Digits:
    """The model, and a decoder of its own."""

    def __init__(self) -> None:
        self.decoder = nn.Sequential(
            network(LATENT_SIZE, HIDDEN_SIZE, HIDDEN_SIZE, NUM_PIXELS, norm=True), nn.Sigmoid()
        )

    def model(self, x: Tensor) -> None:
        """Gaussian latents through a decoder, observed with Gaussian noise of unknown scale."""
        pyro.module("decoder", self.decoder)
        scale = pyro.param("scale", torch.tensor(0.2), constraint=dist.constraints.positive)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([LATENT_SIZE]).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), scale).to_event(1), obs=x)

    def images(self, num_images: int) -> Tensor:
        """Images without the noise."""
        self.decoder.eval()
        with torch.no_grad():
            return self.decoder(torch.randn(num_images, LATENT_SIZE))


def with_noise(images: Tensor) -> Tensor:
    """Bytes to [0, 1], and a little noise."""
    return images / 255 + 0.1 * torch.randn(images.shape)


def train_by_svi(images: Tensor, num_steps: int) -> Digits:
    """Maximize the evidence lower bound."""
    digits = Digits()
    encoder = network(NUM_PIXELS, HIDDEN_SIZE, HIDDEN_SIZE, 2 * LATENT_SIZE)

    def guide(x: Tensor) -> None:
        pyro.module("encoder", encoder)
        with pyro.plate("data", len(x)):
            loc, log_scale = encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))

    svi = SVI(digits.model, guide, pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO())
    for _, (x,) in zip(
        range(num_steps), minibatches(images, BATCH_SIZE, torch.device("cpu"), with_noise), strict=False
    ):
        svi.step(x)
    return digits


def train_by_gan(images: Tensor, num_steps: int) -> Digits:
    """Learn to tell the model's images from the data."""
    digits = Digits()
    discriminator = network(NUM_PIXELS, HIDDEN_SIZE, HIDDEN_SIZE, 1, dropout=0.3)

    inference = GANInference(digits.model, discriminator)
    inference.run(images, num_steps=num_steps, batch_size=BATCH_SIZE, transform=with_noise, progress=False)
    return digits


def main(args: argparse.Namespace) -> None:
    """Train both ways, compare."""
    args.out.mkdir(parents=True, exist_ok=True)
    images = load_digits().images
    validation, test, training = (images / 255)[:200], (images / 255)[200:500], images[500:]
    results = {"data": training[:64] / 255}
    print(f"{'':10s} {'ms a step':>10s} {'scale':>8s} {'Parzen (nats)':>16s}")
    for name, train in ("SVI", train_by_svi), ("GAN", train_by_gan):
        pyro.set_rng_seed(args.seed)
        pyro.clear_param_store()
        start = time.perf_counter()
        digits = train(training, args.num_steps)
        milliseconds = (time.perf_counter() - start) / args.num_steps * 1e3
        samples = digits.images(10_000)
        estimate = parzen_log_likelihood(samples, test, select_bandwidth(samples, validation))
        parzen = f"{estimate.mean:.1f} ± {estimate.standard_error:.1f}"
        print(f"{name:10s} {milliseconds:10.2f} {pyro.param('scale').item():8.3f} {parzen:>16s}")
        results[name] = samples[:64]

    figure, axes = plt.subplots(1, 3, figsize=(12, 4))
    for ax, (name, rows) in zip(axes, results.items(), strict=True):
        plot_images(rows, ax=ax).set_title(name)
    figure.savefig(args.out / "svi_comparison.png", dpi=120, bbox_inches="tight")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="Takes some four minutes on one core.")
    parser.add_argument("--num-steps", type=int, default=8000, help="steps of training")
    parser.add_argument("--out", type=Path, default=Path("output/svi_comparison"), help="the folder for pictures")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the run")
    return parser


if __name__ == "__main__":
    main(parser().parse_args())
