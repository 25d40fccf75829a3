"""What `make demo` runs: a generator of handwritten digits, trained in minutes, and whether it is any good.

The networks have two hidden layers of 256. All else is the default of GANInference.

    python examples/demo.py --out output/demo
"""

import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import pyro
import pyro.distributions as dist
import torch
from sklearn.svm import SVC
from torch import Tensor, nn

from pyro_gan import GANInference
from pyro_gan.criticism import parzen_log_likelihood, select_bandwidth
from pyro_gan.datasets import load_digits
from pyro_gan.plots import plot_history, plot_images

NOISE_SIZE, NUM_PIXELS = 32, 64

generator = nn.Sequential(
    *(nn.Linear(NOISE_SIZE, 256), nn.LeakyReLU(0.2)),
    *(nn.Linear(256, 256), nn.LeakyReLU(0.2)),
    *(nn.Linear(256, NUM_PIXELS), nn.Sigmoid()),
)
discriminator = nn.Sequential(
    *(nn.Linear(NUM_PIXELS, 256), nn.LeakyReLU(0.2)),
    *(nn.Linear(256, 256), nn.LeakyReLU(0.2)),
    nn.Linear(256, 1),
)


def model(batch_size: int = 128) -> Tensor:
    """Uniform noise through the generator."""
    pyro.module("generator", generator)
    with pyro.plate("data", batch_size):
        eps = pyro.sample("eps", dist.Uniform(-1.0, 1.0).expand([NOISE_SIZE]).to_event(1))
        return pyro.deterministic("x", generator(eps), event_dim=1)


def report(samples: Tensor, seconds: float, training: tuple[Tensor, Tensor], held_out: Tensor) -> None:
    """Print how fast and how good the samples are."""
    images, labels = training
    validation, test = held_out[:100], held_out[100:]

    def parzen(rows: Tensor) -> str:
        estimate = parzen_log_likelihood(rows, test, select_bandwidth(rows, validation))
        return f"{estimate.mean:.1f} ± {estimate.standard_error:.1f}"

    counts = torch.from_numpy(SVC().fit(images, labels).predict(samples)).bincount(minlength=10)
    print(f"samples a second                     {len(samples) / seconds:,.0f}")
    print(f"Parzen log-likelihood (nats)         {parzen(samples)}")
    print(f"  real training images as samples    {parzen(images)}")
    print("a classifier's count of each digit   " + " ".join(f"{digit}:{n}" for digit, n in enumerate(counts.tolist())))
    print(
        "  of the training images             " + " ".join(f"{d}:{n}" for d, n in enumerate(labels.bincount().tolist()))
    )


def main(args: argparse.Namespace) -> None:
    """Train, draw, report."""
    args.out.mkdir(parents=True, exist_ok=True)
    pyro.set_rng_seed(args.seed)
    images, labels = load_digits()
    held_out, training = images[:300] / 255, images[300:]

    inference = GANInference(model, discriminator)
    start = time.perf_counter()
    inference.run(training, num_steps=args.num_steps, batch_size=128, transform=lambda x: x / 255)
    print(f"{args.num_steps} steps in {time.perf_counter() - start:.0f} s")

    start = time.perf_counter()
    samples = inference.sample(10_000)
    report(samples, time.perf_counter() - start, (training / 255, labels[300:]), held_out)

    figure, axes = plt.subplots(1, 2, figsize=(10, 5))
    plot_images(training[:64] / 255, ax=axes[0]).set_title("real")
    plot_images(samples[:64], ax=axes[1]).set_title("generated")
    figure.savefig(args.out / "digits.png", dpi=120, bbox_inches="tight")
    plot_history(inference.history).figure.savefig(args.out / "history.png", dpi=120, bbox_inches="tight")
    print(f"pictures: {args.out / 'digits.png'}, {args.out / 'history.png'}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="Takes one to three minutes on one core."
    )
    parser.add_argument("--num-steps", type=int, default=8_000, help="steps of training")
    parser.add_argument("--out", type=Path, default=Path("output/demo"), help="the folder for pictures")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the run")
    return parser


if __name__ == "__main__":
    main(parser().parse_args())
