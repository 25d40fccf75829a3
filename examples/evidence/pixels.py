"""Pixels from 0 to 1, or from -1 to 1? The same digits, networks, steps and seed, with six ways to show them.

Learning rates know no unit: where most pixels are -1 and not 0, and differ twice as much, an update of the same size
moves both networks further. Beside pixels from 0 to 1, as they are and in negative, and from -1 to 1 there are three
with which the latter may do: half the rates, a discriminator that adds 1 to what it sees, and one that standardizes it.
The fit is measured by the energy distance of 2,000 draws from held-out images, all with pixels from 0 to 1. A run takes
some three minutes on one core; a program that is cut off goes on with the next.

    python examples/evidence/pixels.py --out output/evidence
"""

import argparse
import functools
import itertools
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from fitting import implicit_model
from records import complete
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

sys.path.append(str(Path(__file__).parent.parent))

from handwriting import load, network, spread_out

from pyro_gan import AutoDiscriminator, GANInference
from pyro_gan.criticism import energy_test
from pyro_gan.recipes import default_optimizer, default_rate

NOISE_SIZE, WIDTH, BATCH_SIZE = 64, 384, 128
WAYS = {
    "sigmoid": "from 0 to 1",
    "negative": "from 0 to 1, of dark digits on light ground",
    "tanh": "from -1 to 1",
    "tanh-half-rates": "from -1 to 1, with half the learning rates",
    "tanh-moved-up": "from -1 to 1, to which the discriminator adds 1",
    "tanh-standardized": "from -1 to 1, which an AutoDiscriminator standardizes",
}


class Up(nn.Module):
    """Moves pixels from -1 to 1 to those from 0 to 2."""

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels + 1


def networks(way: str, num_pixels: int) -> tuple[nn.Module, nn.Module]:
    """A generator and a discriminator, the same for all ways but for what the way says."""
    last = nn.Tanh() if "tanh" in way else nn.Sigmoid()
    generator = network(NOISE_SIZE, WIDTH, WIDTH, WIDTH, num_pixels).append(last)
    if way == "tanh-standardized":
        return generator, AutoDiscriminator(width=WIDTH, depth=3)
    discriminator = network(num_pixels, WIDTH, WIDTH, WIDTH, 1)
    return generator, discriminator.insert(0, Up()) if way == "tanh-moved-up" else discriminator


def shown(way: str, images: Tensor) -> Tensor:
    """Images in a way."""
    return 1 - images if way == "negative" else images if way == "sigmoid" else 2 * images - 1


def original(way: str, shown: Tensor) -> Tensor:
    """Images shown in a way, with pixels from 0 to 1 again."""
    return 1 - shown if way == "negative" else shown if way == "sigmoid" else shown / 2 + 0.5


def fitted(way: str, images: Tensor, num_steps: int) -> GANInference:
    """A model that is trained on images with pixels from 0 to 1, with shape (num_rows, num_pixels), in a way."""
    generator, discriminator = networks(way, images.shape[1])
    model = implicit_model(generator, dist.Normal(torch.zeros(NOISE_SIZE), 1.0).to_event(1))

    def half(parameters: Iterable[Tensor]) -> LambdaLR:
        optimizer = default_optimizer(parameters)
        for group in optimizer.param_groups:
            group["lr"] /= 2
        return LambdaLR(optimizer, lambda step: default_rate(step / num_steps) / default_rate(0.0))

    recipe = {"optim": half, "optim_d": half} if way == "tanh-half-rates" else {}
    inference = GANInference(model, discriminator, **recipe)
    return inference.run(shown(way, images), num_steps=num_steps, batch_size=BATCH_SIZE, progress=False)


def run(way: str, data: str, seed: int, num_steps: int, *, num_samples: int) -> dict[str, Any]:
    """Train in one way, and measure."""
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    train, test = load(data)
    drawn = fitted(way, train.images.flatten(1), num_steps).sample(num_samples)
    distance = energy_test(original(way, drawn), spread_out(test.images).flatten(1), num_permutations=1).statistic
    return {"energy": round(distance, 4)}


def main(args: argparse.Namespace) -> None:
    """Run what the table has not yet."""
    data, num_steps, num_samples = ("digits", 20, 100) if args.quick else ("mnist", args.num_steps, 2000)
    settings = [
        {"way": way, "data": data, "seed": seed, "num_steps": num_steps}
        for way, seed in itertools.product(args.ways, args.seeds)
    ]
    complete(args.out / "pixels.csv", settings, functools.partial(run, num_samples=num_samples))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    ways = "; ".join(f"{name}: {meaning}" for name, meaning in WAYS.items())
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS), help=f"pixels, {ways}")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="a run for each")
    parser.add_argument("--num-steps", type=int, default=4102, help="steps of training")
    parser.add_argument("--quick", action="store_true", help="small digits, 20 steps, 100 samples; some seconds")
    parser.add_argument("--out", type=Path, default=Path("output/evidence"), help="folder of the table")
    return parser


if __name__ == "__main__":
    main(parser().parse_args())
