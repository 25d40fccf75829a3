"""How many settings succeed? The ring of eight Gaussians over learning rates, widths, minibatches and noise.

Two pairs of settings are varied, the others held in the middle: rates against widths, and minibatches against noise. A
run succeeds when it finds all eight modes, and half of its samples lie within three deviations of one. A program that
is cut off goes on where it was.

    python examples/evidence/sensitivity.py --out output/evidence

All 48 settings of a recipe take up to two hours on one core with `--compile`, half of it those of width 512; `--quick`
tries the corners for a few steps.

References:
    Lin, Khetan, Fanti and Oh (2018), "PacGAN", section 4.1 (data and measures).
"""

import argparse
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import pyro
import torch
from fitting import RECIPES, implicit_model, network
from matplotlib.axes import Axes
from records import complete
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from pyro_gan import GANInference
from pyro_gan.criticism import mode_coverage
from pyro_gan.datasets import ring
from pyro_gan.recipes import default_rate

RATES = (0.25, 0.5, 1.0, 2.0, 4.0)
WIDTHS = (32, 64, 128, 256, 512)
BATCHES = (32, 64, 128, 256, 512, 1024)
NOISES = (1, 2, 8, 64)
VALUES = {"rate": RATES, "width": WIDTHS, "batch_size": BATCHES, "noise": NOISES}
HIGH_QUALITY = 0.5


class Setting(NamedTuple):
    """What is varied."""

    rate: float = 1.0
    """The learning rate, in units of the recipe's own."""
    width: int = 128
    batch_size: int = 256
    noise: int = 2


def settings(is_quick: bool) -> list[Setting]:
    """All that are tried: the middle, then the others, quick ones first."""
    ends = (lambda values: values[:: len(values) - 1]) if is_quick else (lambda values: values)
    pairs = [Setting(rate, width) for rate, width in itertools.product(ends(RATES), ends(WIDTHS))]
    pairs += [Setting(batch_size=size, noise=noise) for size, noise in itertools.product(ends(BATCHES), ends(NOISES))]
    return sorted(dict.fromkeys(pairs), key=lambda each: (each != Setting(), each.width**2 * each.batch_size))


def options(recipe: str, rate: float, num_steps: int) -> dict[str, Any]:
    """A recipe at a multiple of its rate; the default's falls along the run as it always does."""

    def default(parameters: Iterable[Tensor]) -> LambdaLR:
        optimizer = torch.optim.AdamW(parameters, rate * default_rate(0.0), betas=(0.0, 0.99), weight_decay=0.0)
        return LambdaLR(optimizer, lambda step: default_rate(step / num_steps) / default_rate(0.0))

    def classic(parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, rate * 1e-3)

    optim: Callable[..., Any] = default if recipe == "default" else classic
    return {**RECIPES[recipe], "optim": optim, "optim_d": optim}


def run(recipe: str, seed: int, num_steps: int, *, compile: bool = False, **setting: Any) -> dict[str, Any]:
    """Train once, and count the modes."""
    rate, width, batch_size, noise = Setting(**setting)
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    data = ring(100_000)
    generator = network([noise, width, width, width, 2])
    discriminator = network([2, width, width, width, 1])
    model = implicit_model(generator, noise)
    inference = GANInference(model, discriminator, **options(recipe, rate, num_steps))
    inference.run(data.rows, num_steps=num_steps, batch_size=batch_size, progress=False, compile=compile)
    found = mode_coverage(inference.sample(2500), data.centers, data.scale)
    return {"modes": found.num_modes, "high_quality": round(found.high_quality, 4)}


def succeeds(row: Mapping[str, str], high_quality: float = HIGH_QUALITY) -> bool:
    """Whether a row of the table has all modes, and at least this share of samples of high quality."""
    return int(row["modes"]) == 8 and float(row["high_quality"]) >= high_quality


def draw(rows: Sequence[Mapping[str, str]], path: Path) -> None:
    """A heat map of the high quality for each recipe and pair of settings; a cross where it failed."""
    recipes = list(dict.fromkeys(row["recipe"] for row in rows))
    figure, axes = plt.subplots(len(recipes), 2, figsize=(11, 4 * len(recipes)), layout="constrained", squeeze=False)
    for recipe, line in zip(recipes, axes, strict=True):
        of_recipe = [row for row in rows if row["recipe"] == recipe]
        for pair, ax in zip((("rate", "width"), ("batch_size", "noise")), line, strict=True):
            draw_pair(of_recipe, pair, ax)
            ax.set_title(f"{recipe}: high quality in %, x where the fit failed")
    figure.savefig(path)
    plt.close(figure)


def draw_pair(rows: Sequence[Mapping[str, str]], pair: tuple[str, str], ax: Axes) -> None:
    """The settings that differ from the middle in a pair of values alone; white where there is none yet."""
    fixed = {name: str(value) for name, value in Setting()._asdict().items() if name not in pair}
    chosen = [row for row in rows if all(row[name] == value for name, value in fixed.items())]
    values, others = (VALUES[name] for name in pair)
    grid = torch.full((len(values), len(others)), torch.nan)
    for row in chosen:
        place, share = (
            (values.index(float(row[pair[0]])), others.index(float(row[pair[1]]))),
            float(row["high_quality"]),
        )
        grid[place] = share
        text = f"{100 * share:.0f}" if succeeds(row) else f"{100 * share:.0f}\nx {row['modes']} modes"
        ax.text(place[1], place[0], text, ha="center", va="center", color="black" if share > 0.5 else "white")
    ax.imshow(grid.numpy(), vmin=0.0, vmax=1.0, aspect="auto")
    ax.set(xlabel=pair[1].replace("_", " "), ylabel=pair[0].replace("_", " "))
    ax.set_xticks(range(len(others)), [f"{value:g}" for value in others])
    ax.set_yticks(range(len(values)), [f"{value:g}" for value in values])


def main(args: argparse.Namespace) -> None:
    """Run what the table has not yet, then draw."""
    num_steps = 5 if args.quick else args.num_steps
    runs = [
        {"recipe": recipe, "seed": args.seed, "num_steps": num_steps, **setting._asdict()}
        for setting, recipe in itertools.product(settings(args.quick), args.recipes)
    ]
    rows = complete(args.out / "sensitivity.csv", runs, partial(run, compile=args.compile))
    draw([row for row in rows if row["num_steps"] == str(num_steps)], args.out / "sensitivity.png")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--recipes", nargs="+", choices=list(RECIPES), default=list(RECIPES), help="settings to compare"
    )
    parser.add_argument("--num-steps", type=int, default=10_000, help="steps of each run")
    parser.add_argument("--seed", type=int, default=0, help="seed of each run")
    parser.add_argument("--compile", action="store_true", help="compile the steps")
    parser.add_argument("--quick", action="store_true", help="the corners alone, 5 steps each; some seconds")
    parser.add_argument("--out", type=Path, default=Path("output/evidence"), help="folder of the table and the picture")
    return parser


if __name__ == "__main__":
    main(parser().parse_args())
