"""Eight Gaussians on a ring and 25 on a grid, with the default recipe and with Edward's, several seeds each.

Networks, data and minibatches are those of `examples/mixture.py`, the same for both recipes; the measures are PacGAN's,
on 2,500 samples. A run takes some minutes on one core; a run that is cut off goes on with the next.

    python examples/evidence/mixtures.py --out output/evidence

References:
    Lin, Khetan, Fanti and Oh (2018), "PacGAN", section 4.1 (data and measures).
"""

import argparse
import itertools
from functools import partial
from pathlib import Path
from typing import Any

import pyro
from fitting import RECIPES, implicit_model, network
from records import complete

from pyro_gan import GANInference
from pyro_gan.criticism import mode_coverage
from pyro_gan.datasets import grid, ring

DATA = {"ring": ring, "grid": grid}


def run(recipe: str, data: str, seed: int, num_steps: int, *, compile: bool = False) -> dict[str, Any]:
    """Train once, and count the modes."""
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    mixture = DATA[data](100_000)
    generator, discriminator = network([2, 128, 128, 128, 2]), network([2, 128, 128, 128, 1])
    inference = GANInference(implicit_model(generator, 2), discriminator, **RECIPES[recipe])
    inference.run(mixture.rows, num_steps=num_steps, batch_size=256, progress=False, compile=compile)
    found = mode_coverage(inference.sample(2500), mixture.centers, mixture.scale)
    return {
        "modes": found.num_modes,
        "of": len(mixture.centers),
        "high_quality": round(found.high_quality, 4),
        "reverse_kl": round(found.reverse_kl, 5),
    }


def main(args: argparse.Namespace) -> None:
    """Run what the table has not yet."""
    num_steps, seeds = (20, [0]) if args.quick else (args.num_steps, args.seeds)
    settings = [
        {"recipe": recipe, "data": data, "seed": seed, "num_steps": num_steps}
        for recipe, data, seed in itertools.product(args.recipes, args.data, seeds)
    ]
    complete(args.out / "mixtures.csv", settings, partial(run, compile=args.compile))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--recipes", nargs="+", choices=list(RECIPES), default=list(RECIPES), help="settings to compare"
    )
    parser.add_argument("--data", nargs="+", choices=list(DATA), default=list(DATA), help="the data to train on")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)), help="a run for each")
    parser.add_argument("--num-steps", type=int, default=20_000, help="steps of training")
    parser.add_argument("--compile", action="store_true", help="compile the steps")
    parser.add_argument("--quick", action="store_true", help="one seed, 20 steps; some seconds")
    parser.add_argument("--out", type=Path, default=Path("output/evidence"), help="folder of the table")
    return parser


if __name__ == "__main__":
    main(parser().parse_args())
