"""A discriminator of convolutions that builds itself, and fully connected ones, for the same processor time.

The generator is the same for all, fully connected, and so are the defaults, the images and the seed. An
`AutoDiscriminator` makes convolutions of rows with the shape of images; of the same rows as flat ones, or by
`images=False`, it makes linear layers. Beside it is a discriminator of linear layers that reads pixels as they are.
Steps differ, as many as take the same processor time. The fit is measured on 2,000 draws: their energy distance from
held-out images, and which part of these lies within reach of a draw (density_coverage). A run takes some five minutes
on one core; a program that is cut off goes on with the next.

    python examples/evidence/convolutions.py --out output/evidence
"""

import argparse
import functools
import itertools
import sys
import time
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from fitting import implicit_model
from records import complete
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parent.parent))

from handwriting import load, network, spread_out

from pyro_gan import AutoDiscriminator, GANInference
from pyro_gan.criticism import density_coverage, energy_test

NOISE_SIZE, WIDTH, BATCH_SIZE = 64, 384, 128
WAYS = {
    "connected": "linear layers",
    "automatic-connected": "an AutoDiscriminator(images=False), which has linear layers of standardized pixels",
    "automatic": "an AutoDiscriminator(), which has convolutions of 32 and 64 channels before three layers of 128",
}


def discriminator_of(way: str, num_pixels: int) -> nn.Module:
    """The discriminator of a way."""
    if way == "connected":
        return nn.Sequential(nn.Flatten(), network(num_pixels, WIDTH, WIDTH, WIDTH, 1))
    if way == "automatic-connected":
        return AutoDiscriminator(width=WIDTH, images=False)
    return AutoDiscriminator()


def fitted(way: str, images: Tensor, num_steps: int, seed: int) -> tuple[GANInference, float]:
    """A trained model, and the processor's seconds that it took."""
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    shape = images.shape[1:]
    generator = network(NOISE_SIZE, WIDTH, WIDTH, WIDTH, shape.numel()).append(nn.Sigmoid())
    generator.append(nn.Unflatten(1, shape))
    model = implicit_model(generator, dist.Normal(torch.zeros(NOISE_SIZE), 1.0).to_event(1), event_dim=3)
    inference, start = GANInference(model, discriminator_of(way, shape.numel())), time.process_time()
    inference.run(images, num_steps=num_steps, batch_size=BATCH_SIZE, progress=False)
    return inference, time.process_time() - start


def run(way: str, data: str, seed: int, processor_seconds: float, *, num_samples: int) -> dict[str, Any]:
    """Train for so long, and measure."""
    train, test = load(data)
    num_steps = max(1, round(processor_seconds / fitted(way, train.images, 60, seed)[1] * 60))
    inference, seconds = fitted(way, train.images, num_steps, seed)
    drawn, held_out = inference.sample(num_samples).flatten(1), spread_out(test.images).flatten(1)
    return {
        "num_steps": num_steps,
        "of_processor": round(seconds, 1),
        "energy": round(energy_test(drawn, held_out, num_permutations=1).statistic, 4),
        "coverage": round(density_coverage(held_out, drawn).coverage, 3),
    }


def main(args: argparse.Namespace) -> None:
    """Run what the table has not yet."""
    data, seconds, num_samples = ("digits", 0.5, 100) if args.quick else ("mnist", args.seconds, 2000)
    settings = [
        {"way": way, "data": data, "seed": seed, "processor_seconds": seconds}
        for way, seed in itertools.product(args.ways, args.seeds)
    ]
    complete(args.out / "convolutions.csv", settings, functools.partial(run, num_samples=num_samples))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    ways = "; ".join(f"{name}: {meaning}" for name, meaning in WAYS.items())
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS), help=f"discriminators, {ways}")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="a run for each")
    parser.add_argument("--seconds", type=float, default=240.0, help="the processor's seconds of each")
    parser.add_argument("--quick", action="store_true", help="small digits, half a second, 100 samples; some seconds")
    parser.add_argument("--out", type=Path, default=Path("output/evidence"), help="folder of the table")
    return parser


if __name__ == "__main__":
    main(parser().parse_args())
