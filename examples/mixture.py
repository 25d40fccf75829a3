"""Eight Gaussians on a ring and 25 on a grid: does the generator find all modes, and how sharply?

All is the default of GANInference but the networks, which have three hidden layers of 128. `--recipe edward` trains
with the classic recipe instead: the 2014 game and two plain Adams.

    python examples/mixture.py --data grid --out output/mixture

References:
    Lin, Khetan, Fanti and Oh (2018), "PacGAN", section 4.1 (data and measures).
"""

import argparse
import time
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from pyro_gan import GANInference
from pyro_gan.criticism import mode_coverage
from pyro_gan.datasets import GaussianMixture, grid, ring
from pyro_gan.plots import plot_density_2d
from pyro_gan.recipes import edward

DATA = {"ring": ring, "grid": grid}
NOISE_SIZE = 2


def network(num_inputs: int, num_outputs: int) -> nn.Module:
    """Three hidden layers of 128."""
    sizes = [num_inputs, 128, 128, 128]
    layers = [part for pair in pairwise(sizes) for part in (nn.Linear(*pair), nn.LeakyReLU(0.2))]
    return nn.Sequential(*layers, nn.Linear(128, num_outputs))


def fit(data: GaussianMixture, args: argparse.Namespace) -> GANInference:
    """Train a generator and a discriminator on a mixture."""
    pyro.clear_param_store()
    generator, discriminator = network(NOISE_SIZE, 2), network(2, 1)

    def model(batch_size: int) -> Tensor:
        pyro.module("generator", generator)
        with pyro.plate("data", batch_size):
            eps = pyro.sample("eps", dist.Uniform(-1.0, 1.0).expand([NOISE_SIZE]).to_event(1))
            return pyro.deterministic("x", generator(eps), event_dim=1)

    recipe = edward() if args.recipe == "edward" else {}
    inference = GANInference(model, discriminator, **recipe)
    return inference.run(data.rows, num_steps=args.num_steps, batch_size=256, progress=args.progress)


def main(args: argparse.Namespace) -> None:
    """Train on each mixture, count modes, draw."""
    args.out.mkdir(parents=True, exist_ok=True)
    names = list(DATA) if args.data == "both" else [args.data]
    figure, axes = plt.subplots(1, len(names), figsize=(5.5 * len(names), 5), layout="constrained", squeeze=False)
    print("data  modes  high quality  reverse KL  seconds")
    for name, ax in zip(names, axes[0], strict=True):
        pyro.set_rng_seed(args.seed)
        data = DATA[name](100_000)
        start = time.perf_counter()
        samples = fit(data, args).sample(2500)
        seconds = time.perf_counter() - start
        found = mode_coverage(samples, data.centers, data.scale)
        print(
            f"{name}  {found.num_modes:2d}/{len(data.centers):2d}  {found.high_quality:11.1%}  {found.reverse_kl:10.3f}"
            f"  {seconds:7.0f}"
        )
        plot_density_2d(data.rows[:2500], samples, ax=ax)
        title = f"{name}: {found.num_modes} of {len(data.centers)} modes, {found.high_quality:.1%} high quality"
        ax.set_title(title, pad=20)  # above the legend
    figure.savefig(args.out / "mixture.png", dpi=120, bbox_inches="tight")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="Takes two to six minutes for each of the two data sets on one core.",
    )
    parser.add_argument("--data", choices=[*DATA, "both"], default="both", help="the data to train on")
    parser.add_argument(
        "--recipe",
        choices=["default", "edward"],
        default="default",
        help="the package's defaults, or those of Edward's tutorial",
    )
    parser.add_argument("--num-steps", type=int, default=20_000, help="steps of training")
    parser.add_argument("--out", type=Path, default=Path("output/mixture"), help="the folder for pictures")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the run")
    parser.add_argument("--progress", action="store_true", help="show the losses while it trains")
    return parser


if __name__ == "__main__":
    main(parser().parse_args())
