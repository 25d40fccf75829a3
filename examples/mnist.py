"""Handwritten digits from uniform noise, by the defaults of GANInference or by Edward's classic recipe.

The default has three hidden layers of 384 in each network and grey pixels. `--recipe edward` is the tutorial's: one
hidden layer of 128, binarized pixels, the 2014 game with two plain Adams. Each leaves its picture, a figure of 16
samples every so often, and the Parzen-window log-likelihood of the held-out images.

    python examples/mnist.py --data mnist --out output/mnist
    python examples/mnist.py --data mnist --recipe edward --out output/mnist

References:
    Goodfellow et al. (2014), "Generative Adversarial Nets".
    Tran et al. (2016), "Edward: A library for probabilistic modeling, inference, and criticism" (the classic settings).
"""

import argparse
import time
from itertools import pairwise
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_gan import GANInference
from pyro_gan.callbacks import SaveSamples
from pyro_gan.criticism import parzen_log_likelihood, select_bandwidth
from pyro_gan.datasets import load_digits, load_mnist
from pyro_gan.plots import plot_history, plot_images
from pyro_gan.recipes import edward

NOISE_SIZE = 100


def network(sizes: list[int], activation: nn.Module) -> nn.Sequential:
    """Linear layers of these sizes, with an activation between them."""
    layers = [part for pair in pairwise(sizes) for part in (nn.Linear(*pair), activation)]
    return nn.Sequential(*layers[:-1])


def networks(recipe: str, num_pixels: int) -> tuple[nn.Module, nn.Module]:
    """The generator, from noise to pixels, and the discriminator, from pixels to one logit."""
    hidden, activation = ([128], nn.ReLU()) if recipe == "edward" else ([384, 384, 384], nn.LeakyReLU(0.2))
    generator = network([NOISE_SIZE, *hidden, num_pixels], activation).append(nn.Sigmoid())
    return generator, network([num_pixels, *hidden, 1], activation)


def grey(images: Tensor) -> Tensor:
    """Bytes to numbers from 0 to 1."""
    return images / 255


def binarize(images: Tensor) -> Tensor:
    """Bytes to black or white, each pixel black with its darkness as probability."""
    return torch.bernoulli(images / 255)


def load(name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Training, validation and test images, as bytes."""
    if name == "digits":
        images = load_digits().images
        return images[300:], images[:100], images[100:300]
    mnist = load_mnist()
    return mnist.train.images[:50_000], mnist.train.images[50_000:51_000], mnist.test.images


def main(args: argparse.Namespace) -> None:
    """Train, save the figures and the curves, print how likely held-out images are."""
    args.out.mkdir(parents=True, exist_ok=True)
    pyro.set_rng_seed(args.seed)
    pyro.clear_param_store()
    training, validation, test = load(args.data)
    generator, discriminator = networks(args.recipe, training.shape[1])

    def model(batch_size: int) -> Tensor:
        pyro.module("generator", generator)
        with pyro.plate("data", batch_size):
            eps = pyro.sample("eps", dist.Uniform(-1.0, 1.0).expand([NOISE_SIZE]).to_event(1))
            return pyro.deterministic("x", generator(eps), event_dim=1)

    recipe, transform = (edward(), binarize) if args.recipe == "edward" else ({}, grey)
    inference = GANInference(model, discriminator, device=args.device, **recipe)
    start = time.perf_counter()
    inference.run(
        training,
        num_steps=args.num_steps,
        batch_size=128,
        transform=transform,
        callbacks=[SaveSamples(args.out / args.recipe, every=max(1, args.num_steps // 15), num_samples=16)],
    )
    print(f"{args.num_steps} steps in {time.perf_counter() - start:.0f} s")

    samples = inference.sample(args.num_samples).cpu()
    estimate = parzen_log_likelihood(samples, grey(test), select_bandwidth(samples, grey(validation)))
    print(f"Parzen log-likelihood {estimate.mean:.1f} ± {estimate.standard_error:.1f} nats")
    plot_images(samples[:100], ax=None).figure.savefig(args.out / f"{args.recipe}.png", dpi=120, bbox_inches="tight")
    history = plot_history(inference.history)
    history.figure.savefig(args.out / f"history_{args.recipe}.png", dpi=120, bbox_inches="tight")
    print(f"pictures: {args.out / args.recipe}.png, {args.out / args.recipe}/")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="Takes some eight minutes, by Edward's recipe about one on one core.",
    )
    parser.add_argument("--data", choices=["digits", "mnist"], default="digits", help="the data to train on")
    parser.add_argument(
        "--recipe",
        choices=["default", "edward"],
        default="default",
        help="the package's defaults, or those of Edward's tutorial",
    )
    parser.add_argument("--num-steps", type=int, default=15_000, help="steps of training")
    parser.add_argument("--num-samples", type=int, default=10_000, help="samples that the measures see")
    parser.add_argument("--device", default=None, help="such as cpu, cuda or mps")
    parser.add_argument("--out", type=Path, default=Path("output/mnist"), help="the folder for pictures")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the run")
    return parser


if __name__ == "__main__":
    main(parser().parse_args())
