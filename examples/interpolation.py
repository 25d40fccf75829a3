"""From one digit to another: a walk between two noise vectors, and samples beside their nearest training images.

The 2014 paper asks by these two pictures whether a generator has learned more than its training images. Its noise is
uniform, so that a straight line keeps to where noise is likely. A walk in pixels would fade one image out and the other
in. The numbers are distances from the nearest training image: of samples, and of test images, which are no copies.

    python examples/interpolation.py --data mnist --out output/interpolation

References:
    Goodfellow et al. (2014), "Generative Adversarial Nets", figures 2 and 3.
"""

import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import pyro
import pyro.distributions as dist
import torch
from handwriting import load, network
from torch import Tensor, nn

from pyro_gan import GANInference
from pyro_gan.criticism import nearest_rows
from pyro_gan.plots import interpolate, plot_images, plot_neighbours

NOISE_SIZE, WIDTH = 64, 384


def main(args: argparse.Namespace) -> None:
    """Train, walk, look for copies, draw."""
    args.out.mkdir(parents=True, exist_ok=True)
    pyro.set_rng_seed(args.seed)
    pyro.clear_param_store()
    train, test = load(args.data)
    shape = train.images.shape[1:]
    generator = nn.Sequential(
        network(NOISE_SIZE, WIDTH, WIDTH, WIDTH, shape.numel()), nn.Sigmoid(), nn.Unflatten(1, shape)
    )
    discriminator = nn.Sequential(nn.Flatten(), network(shape.numel(), WIDTH, WIDTH, WIDTH, 1))

    def model(batch_size: int) -> Tensor:
        pyro.module("generator", generator)
        with pyro.plate("data", batch_size):
            eps = pyro.sample("eps", dist.Uniform(-1.0, 1.0).expand([NOISE_SIZE]).to_event(1))
            return pyro.deterministic("x", generator(eps), event_dim=3)

    inference = GANInference(model, discriminator)
    start = time.perf_counter()
    inference.run(train.images, num_steps=args.num_steps, progress=args.progress)
    print(f"{args.num_steps} steps in {time.perf_counter() - start:.0f} s")

    ends = 2 * torch.rand(2, 8, NOISE_SIZE) - 1
    with torch.no_grad():
        walk = generator(interpolate(ends[0], ends[1], num_points=10).flatten(0, 1))
    figure, axes = plt.subplots(1, 2, figsize=(14, 5.5), layout="constrained")
    plot_images(walk, num_columns=10, ax=axes[0]).set_title("from one noise vector to another, in a line")

    samples, training = inference.sample(200), train.images[:10_000]
    found, others = nearest_rows(samples, training), nearest_rows(test.images[:200], training)
    distances = found.distances.mean(), others.distances.mean()
    print("distance from the nearest training image: {:.2f} (samples), {:.2f} (test images)".format(*distances))
    nearest = training[found.indices[:8].ravel()].reshape(8, 1, *shape)
    plot_neighbours(samples[:8], nearest, found.distances[:8], ax=axes[1])
    figure.savefig(args.out / "interpolation.png", dpi=120, bbox_inches="tight")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="Takes some two minutes on one core.")
    parser.add_argument("--data", choices=["digits", "mnist"], default="digits", help="the data set")
    parser.add_argument("--num-steps", type=int, default=4000, help="steps of training")
    parser.add_argument("--out", type=Path, default=Path("output/interpolation"), help="the folder for pictures")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the run")
    parser.add_argument("--progress", action="store_true", help="show the losses while it trains")
    return parser


if __name__ == "__main__":
    main(parser().parse_args())
